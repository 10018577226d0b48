//! Separates the code of a Rust file from its comments and its strings.
//!
//! Just enough of the language to know which of the three a character belongs to: nested block
//! comments, escapes, raw strings of any depth, and the difference between `'a'` and `'a`.

/// A Rust source split in two texts of the same lines; what belongs to the other is blank.
#[derive(Debug, PartialEq, Eq)]
pub struct Split {
    /// Code only: comments and the insides of strings and characters are spaces.
    pub code: String,
    /// Comments only, their slashes included.
    pub comments: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// Splits `source`; never fails, an unfinished literal or comment runs to the end of the text.
pub fn split(source: &str) -> Split {
    let chars: Vec<char> = source.chars().collect();
    let mut kinds = vec![Kind::Code; chars.len()];
    let mut at = 0;
    while at < chars.len() {
        let (end, kind) = piece(&chars, at);
        kinds[at..end].fill(kind);
        at = end;
    }
    let keep = |wanted: Kind| -> String {
        let pairs = chars.iter().zip(&kinds);
        pairs.map(|(&c, &kind)| if kind == wanted || c == '\n' { c } else { ' ' }).collect()
    };
    Split { code: keep(Kind::Code), comments: keep(Kind::Comment) }
}

/// End and kind of the piece that starts at `at`.
fn piece(chars: &[char], at: usize) -> (usize, Kind) {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => (find(chars, at, |c| c == '\n'), Kind::Comment),
        '/' if next == Some('*') => (block_comment_end(chars, at), Kind::Comment),
        '"' => (quoted_end(chars, at), Kind::Literal),
        '\'' => match character_end(chars, at) {
            Some(end) => (end, Kind::Literal),
            None => (at + 1, Kind::Code), // a lifetime
        },
        c if is_word(c) => {
            let end = find(chars, at, |c| !is_word(c));
            let word: String = chars[at..end].iter().collect();
            match raw_string_end(chars, &word, end) {
                Some(end) => (end, Kind::Literal),
                None => (end, Kind::Code),
            }
        }
        _ => (at + 1, Kind::Code),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn find(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&i| wanted(chars[i])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut i = at;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// End of a character literal; `None` if the quote at `at` begins a lifetime.
fn character_end(chars: &[char], at: usize) -> Option<usize> {
    match chars.get(at + 1)? {
        '\\' => Some((find(chars, at + 3, |c| c == '\'') + 1).min(chars.len())),
        _ => (chars.get(at + 2) == Some(&'\'')).then_some(at + 3),
    }
}

/// End of the raw string whose prefix `word` ends at `at`; `None` if it is an ordinary word.
fn raw_string_end(chars: &[char], word: &str, at: usize) -> Option<usize> {
    if !["r", "br", "cr"].contains(&word) {
        return None;
    }
    let quote = find(chars, at, |c| c != '#');
    if chars.get(quote) != Some(&'"') {
        return None; // a raw identifier, or just the letter
    }
    let hashes = quote - at;
    let closes = |i: usize| {
        chars[i] == '"' && chars[i + 1..].iter().take_while(|&&c| c == '#').count() >= hashes
    };
    let end = (quote + 1..chars.len()).find(|&i| closes(i));
    Some(end.map_or(chars.len(), |i| i + 1 + hashes))
}

#[cfg(test)]
mod tests {
    use super::split;

    fn code(source: &str) -> String {
        split(source).code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(code("let a = 1; // two"), "let a = 1;");
        assert_eq!(code("a /* b /* c */ d */ e"), "a e");
        assert_eq!(code(r#"f("x \" // y", 'z')"#), "f( , )");
        assert_eq!(code("g(r##\"a\"# \\\"##, b)"), "g( , b)");
        assert_eq!(code(r"h('\'', '\u{1F4A9}', '/')"), "h( , , )");
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_code() {
        assert_eq!(code("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
        assert_eq!(code("r#type + r"), "r#type + r");
    }

    #[test]
    fn lines_stay_where_they_are_and_comments_are_kept() {
        let halves = split("a\n// b\n\"c\nd\"\ne");
        assert_eq!(halves.code.lines().nth(4), Some("e"));
        assert_eq!(halves.comments.lines().nth(1), Some("// b"));
    }

    #[test]
    fn unfinished_literals_run_to_the_end() {
        for source in ["\"abc", "/* abc", "r#\"abc", "'\\", "'"] {
            assert_eq!(split(source).code.chars().count(), source.chars().count());
        }
    }
}
