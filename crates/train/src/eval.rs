//! Figures of sampled answers.

/// Probability that at least one of `k` answers drawn from `n`, of which `n_correct` are right, is
/// right: `1 − C(n−c, k) / C(n, k)` (Chen et al., arXiv:2107.03374).
///
/// ```
/// use fathom_train::eval::pass_at_k;
/// assert_eq!(pass_at_k(4, 1, 1), 0.25);
/// assert_eq!(pass_at_k(4, 1, 4), 1.0);
/// ```
pub fn pass_at_k(n: usize, n_correct: usize, k: usize) -> f64 {
    if n_correct == 0 || k == 0 {
        return 0.0;
    }
    if n - n_correct < k {
        return 1.0;
    }
    1.0 - (n - n_correct + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

/// Whether the most frequent final answer is right; the earlier one wins a tie. Answers that could
/// not be read do not vote.
pub fn majority(answers: &[Option<(String, bool)>]) -> bool {
    let mut counts: Vec<(&str, bool, usize)> = Vec::new();
    for (text, right) in answers.iter().flatten() {
        match counts.iter_mut().find(|(known, ..)| known == text) {
            Some((.., count)) => *count += 1,
            None => counts.push((text, *right, 1)),
        }
    }
    let mut best: Option<(bool, usize)> = None;
    for (_, right, count) in counts {
        if best.is_none_or(|(_, most)| count > most) {
            best = Some((right, count));
        }
    }
    best.is_some_and(|(right, _)| right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_decides_and_ties_go_to_the_first() {
        let vote = |answers: &[&str]| {
            let answers: Vec<_> = answers
                .iter()
                .map(|a| (!a.is_empty()).then(|| (a.to_string(), *a == "5")))
                .collect();
            majority(&answers)
        };
        assert!(vote(&["4", "5", "5"]));
        assert!(vote(&["5", "4"]));
        assert!(!vote(&["4", "5"]));
        assert!(!vote(&["", ""]));
    }
}
