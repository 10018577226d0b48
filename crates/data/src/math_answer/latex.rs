//! Brings the many spellings of an answer, LaTeX above all, to one; and takes tidied text apart.
//!
//! Tidied text has no markup for size, style or space; single spaces remain only between letters or
//! digits. Matrices, sets and unions become single characters, so brackets can be counted.

/// Opens and closes a set, for `\{` and `\}`.
pub(super) const SET_OPEN: char = '⦃';
const SET_CLOSE: char = '⦄';
/// Opens and closes a matrix.
pub(super) const MATRIX_OPEN: char = '⟦';
const MATRIX_CLOSE: char = '⟧';
/// Between rows of a matrix, for `\\`.
pub(super) const ROW: char = '⏎';
/// Between entries of a row, for `&`.
pub(super) const COLUMN: char = '&';
/// Between intervals, for `\cup`.
pub(super) const UNION: char = '∪';

/// Replaced first, in this order, wherever they stand; a command only where it ends.
const REPLACEMENTS: &[(&str, &str)] = &[
    // A comma between digits that is no separator.
    (",\\!", ""),
    ("{,}", ""),
    ("\\\\", "⏎"),
    ("\\left", ""),
    ("\\right", ""),
    ("\\bigl", ""),
    ("\\bigr", ""),
    ("\\Bigl", ""),
    ("\\Bigr", ""),
    ("\\big", ""),
    ("\\Big", ""),
    ("\\displaystyle", ""),
    ("\\!", ""),
    ("\\,", " "),
    ("\\;", " "),
    ("\\:", " "),
    ("\\ ", " "),
    ("~", " "),
    ("\\quad", " "),
    ("\\qquad", " "),
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\\cfrac", "\\frac"),
    ("\\cdot", "*"),
    ("\\times", "*"),
    ("\\div", "/"),
    ("\\%", "%"),
    ("\\{", "⦃"),
    ("\\}", "⦄"),
    ("\\lbrace", "⦃"),
    ("\\rbrace", "⦄"),
    ("\\cup", "∪"),
    ("^{\\circ}", ""),
    ("^\\circ", ""),
    ("^{\\degree}", ""),
    ("\\degree", ""),
    ("\\infty", "∞"),
    ("\\leq", "≤"),
    ("\\geq", "≥"),
    ("\\le", "≤"),
    ("\\ge", "≥"),
    ("\\(", ""),
    ("\\)", ""),
    ("\\[", ""),
    ("\\]", ""),
];

/// Commands whose argument is kept as plain words.
const STYLES: &[&str] = &[
    "\\text",
    "\\textbf",
    "\\textit",
    "\\textrm",
    "\\mathrm",
    "\\mathbf",
    "\\mathit",
    "\\mbox",
    "\\operatorname",
    "\\boxed",
    "\\fbox",
    "\\mathbb",
    "\\overline",
];

/// Tidies an answer.
pub(super) fn tidy(answer: &str) -> String {
    let answer = answer.trim();
    let bare = answer.strip_prefix("**").and_then(|rest| rest.strip_suffix("**")).unwrap_or(answer);
    let mut text: String = bare.chars().map(fold_char).collect();
    text = replace_symbols(&text);
    for &(from, to) in REPLACEMENTS {
        text = replace_command(&text, from, to);
    }
    text = unwrap_styles(&text);
    text = replace_matrices(&text);
    text = brace_arguments(&text);
    text = join_words(&text);
    text = drop_spaces(&text);
    trim_ends(&text).to_string()
}

/// Where the brace that was opened before `inside` closes, as a byte index.
pub(super) fn closing_brace(inside: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Whether every `{` of a tidied text closes and no `}` stands alone.
pub(super) fn braces_balance(text: &str) -> bool {
    let mut depth = 0_i64;
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

/// Splits at `separator` outside all brackets.
pub(super) fn split_top(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut depth = 0_i64;
    let mut start = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' | SET_OPEN | MATRIX_OPEN => depth += 1,
            ')' | ']' | '}' | SET_CLOSE | MATRIX_CLOSE => depth -= 1,
            _ if c == separator && depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// Takes off brackets that enclose the whole text: `(1,2]` gives `('(', "1,2", ']')`.
pub(super) fn split_brackets(text: &str) -> Option<(char, &str, char)> {
    let (first, last) = (text.chars().next()?, text.chars().next_back()?);
    let opens = |c| matches!(c, '(' | '[' | SET_OPEN | MATRIX_OPEN);
    let closes = |c| matches!(c, ')' | ']' | SET_CLOSE | MATRIX_CLOSE);
    if !opens(first) || !closes(last) {
        return None;
    }
    let mut depth = 0_i64;
    for (at, c) in text.char_indices() {
        depth += i64::from(opens(c)) - i64::from(closes(c));
        if depth == 0 {
            let is_whole = at + c.len_utf8() == text.len();
            return is_whole.then(|| (first, &text[first.len_utf8()..at], last));
        }
    }
    None
}

/// Splits `x=4`, `f(x)=2x` or `x∈[0,1]` into the name on the left and the rest.
pub(super) fn split_left_side(text: &str) -> (Option<&str>, &str) {
    let sign = text.find('=').map(|at| (at, 1));
    let sign = sign.or_else(|| text.find("\\in").map(|at| (at, 3)));
    let Some((at, len)) = sign else { return (None, text) };
    let (left, right) = (text[..at].trim(), text[at + len..].trim());
    let continues = len == 3 && text[at + 3..].starts_with(|c: char| c.is_ascii_alphabetic());
    let mut chars = left.chars().filter(|c| !matches!(c, '(' | ')' | '_' | '{' | '}'));
    let is_name = left.len() <= 6
        && chars.next().is_some_and(char::is_alphabetic)
        && chars.all(char::is_alphanumeric);
    if is_name && !right.is_empty() && !right.contains('=') && !continues {
        (Some(left), right)
    } else {
        (None, text)
    }
}

/// Full-width forms, dashes and typographic operators to ASCII.
fn fold_char(c: char) -> char {
    match c {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(c as u32 - 0xFEE0).unwrap_or(c),
        '−' | '–' | '‐' | '‑' => '-',
        '×' | '·' | '⋅' => '*',
        '÷' => '/',
        '、' => ',',
        '。' => '.',
        c if c.is_whitespace() => ' ',
        c => c,
    }
}

/// Characters that LaTeX spells as commands, and markup that means nothing.
fn replace_symbols(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.replace("**", "^").chars() {
        match c {
            '√' => out.push_str("\\sqrt "),
            'π' => out.push_str("\\pi "),
            '²' => out.push_str("^2"),
            '³' => out.push_str("^3"),
            '½' => out.push_str("\\frac{1}{2}"),
            '°' | '`' => {}
            c => out.push(c),
        }
    }
    out
}

/// Replaces `from`; if it is a command name, only where no letter follows.
fn replace_command(text: &str, from: &str, to: &str) -> String {
    if !text.contains(from) {
        return text.to_string();
    }
    let is_name = from.ends_with(|c: char| c.is_ascii_alphabetic());
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let after = &rest[at + from.len()..];
        out.push_str(&rest[..at]);
        let continues = is_name && after.starts_with(|c: char| c.is_ascii_alphabetic());
        out.push_str(if continues { from } else { to });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `\text{ km}` becomes ` km `, `\boxed{5}` becomes ` 5 `; an unclosed one loses its command.
fn unwrap_styles(text: &str) -> String {
    let mut out = text.to_string();
    // Each turn removes one command, so this ends.
    while let Some((at, len)) = find_style(&out) {
        let after = &out[at + len..];
        let spaces = after.len() - after.trim_start().len();
        out = match after.trim_start().strip_prefix('{') {
            Some(inside) => match closing_brace(inside) {
                Some(close) => {
                    format!("{} {} {}", &out[..at], &inside[..close], &inside[close + 1..])
                }
                None => format!("{} {}", &out[..at], &after[spaces..]),
            },
            None => format!("{} {}", &out[..at], after),
        };
    }
    out
}

fn find_style(text: &str) -> Option<(usize, usize)> {
    text.match_indices('\\').find_map(|(at, _)| {
        let len = 1 + text[at + 1..].bytes().take_while(u8::is_ascii_alphabetic).count();
        STYLES.contains(&&text[at..at + len]).then_some((at, len))
    })
}

/// `\begin{pmatrix} … \end{pmatrix}` to single brackets; all kinds of matrix are alike.
fn replace_matrices(text: &str) -> String {
    let mut out = text.to_string();
    for kind in ["pmatrix", "bmatrix", "vmatrix", "matrix", "array"] {
        out = out.replace(&format!("\\begin{{{kind}}}"), "⟦");
        out = out.replace(&format!("\\end{{{kind}}}"), "⟧");
    }
    out
}

/// Puts braces around bare arguments: `\frac65`, `\sqrt2`, `x^2` and `a_n`. LaTeX takes one
/// character; but who writes `x^10` without braces means ten, so only `\frac` splits digits.
fn brace_arguments(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let n_arguments = if is_command(rest, "\\frac") {
            2
        } else if is_command(rest, "\\sqrt") || c == '^' || c == '_' {
            1
        } else {
            0
        };
        if n_arguments == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let name_len = if c == '\\' { 5 } else { 1 };
        out.push_str(&rest[..name_len]);
        rest = &rest[name_len..];
        for _ in 0..n_arguments {
            let after = rest.trim_start();
            match after.chars().next() {
                // `\pi`, brackets and signs are left alone.
                Some(c) if c.is_alphanumeric() => {
                    let n_digits = after.bytes().take_while(u8::is_ascii_digit).count();
                    let len =
                        if n_arguments == 1 && n_digits > 1 { n_digits } else { c.len_utf8() };
                    out.push('{');
                    out.push_str(&after[..len]);
                    out.push('}');
                    rest = &after[len..];
                }
                Some('{') => {
                    let Some(close) = closing_brace(&after[1..]) else { break };
                    out.push('{');
                    out.push_str(&brace_inner(&after[1..=close]));
                    out.push('}');
                    rest = &after[close + 2..];
                }
                _ => break,
            }
        }
    }
    out
}

/// Arguments inside arguments. Each level of braces is one level of calls; the length of an answer
/// bounds them, and beyond a sane depth the text is left as it is.
fn brace_inner(text: &str) -> String {
    let depth = text.chars().filter(|&c| c == '{').count();
    if depth > 32 { text.to_string() } else { brace_arguments(text) }
}

fn is_command(text: &str, name: &str) -> bool {
    text.strip_prefix(name).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// "1, 2 and 3" becomes "1,2,3"; delimiters and "or" likewise.
fn join_words(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let mut out = words.join(" ");
    for word in [" and ", " or ", "和", "或"] {
        out = out.replace(word, ",");
    }
    while out.contains(", ,") || out.contains(",,") {
        out = out.replace(", ,", ",").replace(",,", ",");
    }
    out
}

/// Keeps one space between letters or digits, none elsewhere.
fn drop_spaces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut pending = false;
    for c in text.chars() {
        if c == ' ' {
            pending = true;
            continue;
        }
        let joins = c.is_alphanumeric()
            && out.chars().next_back().is_some_and(|last| last.is_alphanumeric() || last == '}');
        if pending && joins {
            out.push(' ');
        }
        pending = false;
        out.push(c);
    }
    out
}

/// Takes off math delimiters and sentence punctuation; a leading `$` before a number stays.
fn trim_ends(text: &str) -> &str {
    let mut text = text;
    loop {
        let before = text;
        text = text.trim_end_matches(['.', ',', ';', ':', '!', '?', ' ']);
        text = text.trim_start_matches([' ', ':', ',', ';', '=']);
        if let Some(inside) = text.strip_prefix('$').and_then(|rest| rest.strip_suffix('$')) {
            text = inside;
        }
        if text == before {
            return text;
        }
    }
}
