//! What the terminal can show: colours, width, and text cut to fit.

use std::io::IsTerminal;
use unicode_width::UnicodeWidthChar;

/// Whether text may carry colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// No escape sequences at all.
    pub(crate) const PLAIN: Style = Style { colour: false };

    /// For stdout as it is now.
    pub(crate) fn of_stdout() -> Style {
        Style { colour: std::io::stdout().is_terminal() && colours_wanted() }
    }

    /// For stderr as it is now.
    pub(crate) fn of_stderr() -> Style {
        Style { colour: std::io::stderr().is_terminal() && colours_wanted() }
    }

    /// Whether anything is coloured at all.
    pub(crate) fn has_colour(self) -> bool {
        self.colour
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// `NO_COLOR` with any content says no (no-color.org); so does a terminal that knows nothing.
fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && !is_dumb()
}

fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Whether stderr can be drawn over.
pub(crate) fn stderr_is_live() -> bool {
    std::io::stderr().is_terminal() && !is_dumb()
}

/// Columns of the terminal behind stderr; 80 if it does not tell.
pub(crate) fn width() -> usize {
    terminal_size::terminal_size_of(std::io::stderr())
        .map_or(80, |(width, _)| usize::from(width.0))
        .max(20)
}

/// Columns that `text` takes; escape sequences take none.
pub(crate) fn columns(text: &str) -> usize {
    visible(text).map(|(_, c)| c.width().unwrap_or(0)).sum()
}

/// `text` cut to at most `width` columns, an ellipsis where something is missing; escape sequences
/// stay whole.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut used = 1; // the ellipsis
    let mut end = 0;
    for (at, c) in visible(text) {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        end = at + c.len_utf8();
    }
    let reset = if text.contains('\x1b') { "\x1b[0m" } else { "" };
    format!("{}…{reset}", &text[..end])
}

/// Characters outside escape sequences of the form `ESC [ … letter`, with their places.
fn visible(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut in_escape = false;
    text.char_indices().filter(move |(_, c)| {
        if *c == '\x1b' {
            in_escape = true;
            return false;
        }
        let hidden = in_escape;
        if in_escape && c.is_ascii_alphabetic() {
            in_escape = false;
        }
        !hidden
    })
}

/// Text from a model or a file with control characters made visible, so that it cannot steer the
/// terminal. Line breaks and tabs stay.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_counts_columns_and_keeps_escapes_whole() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut("学生学生", 5), "学生…");
        assert_eq!(cut("\x1b[2mabcdef\x1b[0m", 4), "\x1b[2mabc…\x1b[0m");
        assert_eq!(columns("\x1b[32m✓\x1b[0m 学"), 4);
    }

    #[test]
    fn model_text_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\r\n\tc"), "a�[2Jb�\n\tc");
    }

    #[test]
    fn plain_style_adds_nothing() {
        assert_eq!(Style::PLAIN.dim("x"), "x");
        assert_eq!(Style { colour: true }.dim("x"), "\x1b[2mx\x1b[0m");
    }
}
