//! The known word nearest to a mistyped one.

/// The word of `known` with the fewest typing slips from `found`, if few enough to be meant.
///
/// A slip is a letter left out, added, changed, or two neighbours swapped. The first of equally
/// near words wins.
/// ```
/// # use fathom_train::recipe::nearest;
/// assert_eq!(nearest("learning_rat", ["steps", "learning_rate"]), Some("learning_rate"));
/// assert_eq!(nearest("colour", ["steps", "learning_rate"]), None);
/// ```
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let n_letters = found.chars().count();
    let limit = if n_letters <= 3 { 1 } else { (n_letters / 3).max(2) };
    let mut best: Option<(usize, &str)> = None;
    for word in known {
        let n_slips = slips(found, word);
        if n_slips <= limit && best.is_none_or(|(least, _)| n_slips < least) {
            best = Some((n_slips, word));
        }
    }
    best.map(|(_, word)| word)
}

/// Edit distance with swaps of neighbours (optimal string alignment).
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if swapped {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}
