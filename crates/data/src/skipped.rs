//! What was left out while data were read, by reason: counted, with a few places, never in silence.

use std::borrow::Cow;
use std::fmt;

/// Places kept per reason; enough to look at, too few to flood a report.
const EXAMPLES_PER_REASON: usize = 3;

/// Counts of skipped things by reason.
///
/// ```
/// let mut skipped = fathom_data::skipped::Skipped::new("file");
/// skipped.add("empty", "a.rs");
/// skipped.add("binary", "b.png");
/// skipped.add("binary", "c.png");
/// assert_eq!(skipped.to_string(), "skipped 3 files: 2 binary, 1 empty");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    noun: &'static str,
    /// In the order in which the reasons were met.
    counts: Vec<(Cow<'static, str>, u64)>,
    examples: Vec<(Cow<'static, str>, String)>,
}

impl Skipped {
    /// An empty record of things called `noun` in the singular, with a regular plural.
    pub fn new(noun: &'static str) -> Self {
        Self { noun, counts: Vec::new(), examples: Vec::new() }
    }

    /// Counts one thing at `place` (a path, `line 14`) under `reason`.
    pub fn add(&mut self, reason: impl Into<Cow<'static, str>>, place: impl Into<String>) {
        let reason = reason.into();
        let seen = match self.counts.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                self.counts.push((reason.clone(), 1));
                1
            }
        };
        if seen <= EXAMPLES_PER_REASON as u64 {
            self.examples.push((reason, place.into()));
        }
    }

    /// How many things were skipped.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// How many were skipped for `reason`.
    pub fn count(&self, reason: &str) -> u64 {
        self.counts.iter().find(|(known, _)| known == reason).map_or(0, |(_, count)| *count)
    }

    /// Reasons with their counts, the most frequent first, equals in the order they were met.
    pub fn counts(&self) -> Vec<(&str, u64)> {
        let mut counts: Vec<_> = self.counts.iter().map(|(why, n)| (why.as_ref(), *n)).collect();
        counts.sort_by_key(|&(_, n)| std::cmp::Reverse(n)); // stable
        counts
    }

    /// The first few places of each reason, as `(reason, place)`, in the order they were met.
    pub fn examples(&self) -> &[(Cow<'static, str>, String)] {
        &self.examples
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        let plural = if total == 1 { "" } else { "s" };
        write!(f, "skipped {total} {}{plural}", self.noun)?;
        for (idx, (reason, count)) in self.counts().into_iter().enumerate() {
            write!(f, "{}{count} {reason}", if idx == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_print_by_count_and_keep_their_first_places() {
        let mut skipped = Skipped::new("file");
        assert_eq!(skipped.to_string(), "skipped 0 files");
        for (reason, n) in [("empty", 2), ("binary", 9), ("not UTF-8", 3)] {
            for idx in 0..n {
                skipped.add(reason, format!("{reason} {idx}"));
            }
        }
        assert_eq!(skipped.to_string(), "skipped 14 files: 9 binary, 3 not UTF-8, 2 empty");
        assert_eq!(skipped.examples().len(), 8);
        assert_eq!(skipped.count("binary"), 9);
        assert_eq!(skipped.count("huge"), 0);
    }
}
