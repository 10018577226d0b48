//! Splitting by expressions of one character class: `[\r\n]`, `\s?\p{L}+`, `\p{N}{1,3}`, `\s+$`.
//!
//! Most stages of the DeepSeek pre-tokenizers have this shape. It is recognised in the parsed
//! expression, whatever its spelling, and one pass over the characters replaces the engine.

use regex_syntax::hir::{Hir, HirKind, Look};

use crate::char_class::{CharSet, code_at};

/// `lead? set{1,max}`, greedy; or `set+$`.
#[derive(Debug)]
pub(super) struct ClassRun {
    lead: Option<CharSet>,
    set: CharSet,
    max: usize,
    at_end: bool,
}

impl ClassRun {
    /// Reads an expression; `None` if it has another shape.
    pub(super) fn from_pattern(pattern: &str) -> Option<ClassRun> {
        let hir = regex_syntax::parse(pattern).ok()?;
        let plain = |set, max| ClassRun { lead: None, set, max, at_end: false };
        if let HirKind::Concat(parts) = hir.kind() {
            let [first, second] = parts.as_slice() else { return None };
            if matches!(second.kind(), HirKind::Look(Look::End)) {
                let (set, max) = run(first)?;
                return (max == usize::MAX).then(|| ClassRun { at_end: true, ..plain(set, max) });
            }
            let (set, max) = run(second)?;
            let lead = optional(first)?;
            return (max == usize::MAX).then(|| ClassRun { lead: Some(lead), ..plain(set, max) });
        }
        let (set, max) = run(&hir)?;
        Some(plain(set, max))
    }

    /// Calls `emit` with the byte range of every match, from left to right.
    pub(super) fn find_all(&self, text: &str, mut emit: impl FnMut(usize, usize)) {
        let bytes = text.as_bytes();
        if self.at_end {
            let is_set = |c: char| self.set.contains(c.into());
            let start = text.trim_end_matches(is_set).len();
            if start < bytes.len() {
                emit(start, bytes.len());
            }
            return;
        }
        let mut at = 0;
        while at < bytes.len() {
            let (code, next) = code_at(bytes, at);
            let led = self.lead.as_ref().is_some_and(|lead| lead.contains(code));
            let first = if led && self.in_set(bytes, next) {
                next
            } else if self.set.contains(code) {
                at
            } else {
                at = next;
                continue;
            };
            let mut end = first;
            let mut count = 0;
            while count < self.max && end < bytes.len() {
                let (code, next) = code_at(bytes, end);
                if !self.set.contains(code) {
                    break;
                }
                end = next;
                count += 1;
            }
            emit(at, end);
            at = end;
        }
    }

    fn in_set(&self, bytes: &[u8], at: usize) -> bool {
        at < bytes.len() && self.set.contains(code_at(bytes, at).0)
    }
}

/// A class that stands once or more, and how often at most.
fn run(hir: &Hir) -> Option<(CharSet, usize)> {
    match hir.kind() {
        HirKind::Repetition(repetition) if repetition.min == 1 && repetition.greedy => {
            let max = repetition.max.map_or(usize::MAX, |max| max as usize);
            Some((CharSet::from_hir(&repetition.sub)?, max))
        }
        _ => Some((CharSet::from_hir(hir)?, 1)),
    }
}

fn optional(hir: &Hir) -> Option<CharSet> {
    match hir.kind() {
        HirKind::Repetition(r) if (r.min, r.max) == (0, Some(1)) && r.greedy => {
            CharSet::from_hir(&r.sub)
        }
        _ => None,
    }
}
