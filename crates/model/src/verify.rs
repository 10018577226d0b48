//! Holding a model against reference values: logits of every position, greedy continuations, logits
//! of the MTP module. The file format is that of `golden/*/golden.json`.

use crate::cache::{CacheSpec, KvCache};
use crate::error::Error;
use crate::model::Model;
use crate::rows::{CachedRows, PackedRows, Rows};
use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_kernels::cross_entropy::argmax;
use fathom_tensor::{Tape, op};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::path::Path;

/// Reference values of a model.
#[derive(Debug, Deserialize)]
pub struct Golden {
    /// Which program computed them.
    #[serde(default)]
    pub source: String,
    pub cases: Vec<Case>,
}

/// One sequence. V is the vocabulary, T the number of ids.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The whole input; positions start at 0.
    pub ids: Vec<u32>,
    /// Row i stands after `ids[..=i]`, [T, V].
    pub logits: Vec<Vec<f32>>,
    /// Likeliest ids after the last one, each after the one before.
    #[serde(default)]
    pub greedy: Vec<u32>,
    /// Row i scores the token after the next, [T, V]; `greedy[0]` stands behind the last id.
    #[serde(default)]
    pub mtp_logits: Option<Vec<Vec<f32>>>,
}

/// How the model runs over a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In one pass, without a cache.
    Whole,
    /// Through a cache, this many tokens at a time.
    Cached { chunk: usize },
}

/// How far logits are from their reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distance {
    /// Largest absolute difference.
    pub worst_abs: f32,
    /// Where it is.
    pub position: usize,
    pub token: usize,
    pub found: f32,
    pub expected: f32,
    pub mean_abs: f32,
    /// Cosine of the angle between the two, all positions as one vector.
    pub cosine: f64,
}

/// The first greedy id that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GreedyDifference {
    pub step: usize,
    pub found: u32,
    pub expected: u32,
}

/// The comparison of one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseReport {
    pub n_ids: usize,
    pub logits: Distance,
    pub n_greedy: usize,
    pub greedy_difference: Option<GreedyDifference>,
    pub mtp_logits: Option<Distance>,
}

impl CaseReport {
    /// Whether every logit is within `tolerance` and the continuation is the same.
    pub fn passes(&self, tolerance: f32) -> bool {
        // Not `>`: a NaN must fail.
        let within = |distance: &Distance| distance.worst_abs <= tolerance;
        within(&self.logits)
            && self.mtp_logits.as_ref().is_none_or(within)
            && self.greedy_difference.is_none()
    }
}

impl Golden {
    /// Reads a file of reference values.
    ///
    /// Errors: `Read`; `Golden` if it is not of that form.
    pub fn open(path: &Path) -> Result<Golden, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Golden::from_text(path, &text)
    }

    /// Reads the content of such a file; `path` is for errors. Errors: `Golden`.
    pub fn from_text(path: &Path, text: &str) -> Result<Golden, Error> {
        let fail = |problem: String| Error::Golden { path: path.to_owned(), problem };
        let golden: Golden = serde_json::from_str(text).map_err(|error| fail(error.to_string()))?;
        if golden.cases.is_empty() {
            return Err(fail("it holds no cases".into()));
        }
        Ok(golden)
    }

    /// Checks that the cases can belong to `model`. Errors: `Golden` with the case.
    pub fn check(&self, path: &Path, model: &Model) -> Result<(), Error> {
        let (vocab, n_positions) = (model.config.vocab_size, model.config.max_position_embeddings);
        for (at, case) in self.cases.iter().enumerate() {
            let fail = |problem: String| Error::Golden {
                path: path.to_owned(),
                problem: format!("case {at}: {problem}"),
            };
            let n = case.ids.len();
            if n == 0 || n + case.greedy.len() > n_positions {
                return Err(fail(format!("{n} ids, the model has {n_positions} positions")));
            }
            if let Some(id) = case.ids.iter().chain(&case.greedy).find(|id| **id as usize >= vocab)
            {
                return Err(fail(format!("id {id} is outside the vocabulary of {vocab}")));
            }
            for rows in [Some(&case.logits), case.mtp_logits.as_ref()].into_iter().flatten() {
                if rows.len() != n || rows.iter().any(|row| row.len() != vocab) {
                    return Err(fail(format!("logits are not [{n}, {vocab}]")));
                }
            }
            if case.mtp_logits.is_some() && case.greedy.is_empty() {
                return Err(fail("`mtp_logits` need `greedy`".into()));
            }
        }
        Ok(())
    }
}

/// Compares a packed model with one case. MTP logits are compared if the model has the module and
/// `way` is [`Way::Whole`].
pub fn compare(model: &Model, cache: CacheSpec, way: Way, case: &Case) -> CaseReport {
    let mut run =
        Run { model, cache: RefCell::new(KvCache::new(cache)), blocks: Vec::new(), past: 0 };
    let logits = match way {
        Way::Whole => logits_of_one_pass(model, &case.ids),
        Way::Cached { chunk } => {
            case.ids.chunks(chunk.max(1)).flat_map(|ids| run.feed(ids)).collect()
        }
    };
    CaseReport {
        n_ids: case.ids.len(),
        greedy_difference: greedy_difference(&mut run, way, case, &logits),
        logits: distance(&logits, &case.logits),
        n_greedy: case.greedy.len(),
        mtp_logits: match (&case.mtp_logits, way) {
            (Some(want), Way::Whole) => mtp_logits(model, case).map(|got| distance(&got, want)),
            _ => None,
        },
    }
}

/// A sequence in a cache.
struct Run<'m> {
    model: &'m Model,
    cache: RefCell<KvCache>,
    blocks: Vec<u32>,
    past: usize,
}

impl Run<'_> {
    /// Logits of the next ids, [n, V].
    fn feed(&mut self, ids: &[u32]) -> Vec<f32> {
        let needed = (self.past + ids.len()).div_ceil(BLOCK_TOKENS) as u32;
        self.blocks.extend(self.blocks.len() as u32..needed);
        self.cache.borrow_mut().grow(self.blocks.len());
        let mut rows = CachedRows::default();
        rows.push(&self.blocks, self.past, ids);
        self.past += ids.len();
        let hidden = self.model.hidden_cached(&rows, &self.cache);
        op::logits(&hidden, self.model.head()).data().to_vec()
    }
}

fn logits_of_one_pass(model: &Model, ids: &[u32]) -> Vec<f32> {
    let hidden = model.hidden(&PackedRows::sequence(ids));
    op::logits(&hidden, model.head()).data().to_vec()
}

fn greedy_difference(
    run: &mut Run<'_>,
    way: Way,
    case: &Case,
    logits: &[f32],
) -> Option<GreedyDifference> {
    let vocab = run.model.config.vocab_size;
    let mut ids = case.ids.clone();
    let mut last = logits[logits.len() - vocab..].to_vec();
    for (step, &expected) in case.greedy.iter().enumerate() {
        let found = argmax(&last);
        if found != expected {
            return Some(GreedyDifference { step, found, expected });
        }
        ids.push(found);
        let next = match way {
            Way::Whole => logits_of_one_pass(run.model, &ids),
            Way::Cached { .. } => run.feed(&[found]),
        };
        last = next[next.len() - vocab..].to_vec();
    }
    None
}

fn mtp_logits(model: &Model, case: &Case) -> Option<Vec<f32>> {
    let rows = PackedRows::sequence(&case.ids);
    let mut next = case.ids[1..].to_vec();
    next.push(case.greedy[0]);
    let (tape, rows) = (Tape::forgetting(), Rows::Packed(&rows));
    let hidden = model.forward(&tape, rows, None).hidden;
    let mtp = model.forward_mtp(&tape, rows, None, &hidden, &next)?;
    Some(op::logits(&mtp.hidden, model.head()).data().to_vec())
}

/// Distance of `found` [T · V] from `expected` [T, V].
pub fn distance(found: &[f32], expected: &[Vec<f32>]) -> Distance {
    let vocab = expected.first().map_or(1, Vec::len);
    let mut worst = Distance::default();
    let (mut sum, mut dot, mut squares) = (0.0f64, 0.0f64, [0.0f64; 2]);
    for (at, (&found, &expected)) in found.iter().zip(expected.iter().flatten()).enumerate() {
        let error = (found - expected).abs();
        sum += f64::from(error);
        dot += f64::from(found) * f64::from(expected);
        squares[0] += f64::from(found).powi(2);
        squares[1] += f64::from(expected).powi(2);
        // A NaN is worse than anything, and stays.
        if error > worst.worst_abs || error.is_nan() && !worst.worst_abs.is_nan() {
            let (position, token) = (at / vocab, at % vocab);
            worst = Distance { worst_abs: error, position, token, found, expected, ..worst };
        }
    }
    worst.mean_abs = (sum / found.len().max(1) as f64) as f32;
    worst.cosine = dot / (squares[0] * squares[1]).sqrt().max(f64::MIN_POSITIVE);
    worst
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_logit_is_named_and_a_nan_is_worst() {
        let want = [vec![1.0, 2.0], vec![3.0, 4.0]];
        let d = distance(&[1.0, 2.0, 3.5, 4.25], &want);
        assert_eq!((d.worst_abs, d.position, d.token, d.mean_abs), (0.5, 1, 0, 0.1875));
        let d = distance(&[1.0, f32::NAN, 9.0, 4.0], &want);
        assert!(d.worst_abs.is_nan() && (d.position, d.token) == (0, 1));
        let report = CaseReport {
            n_ids: 2,
            logits: d,
            n_greedy: 0,
            greedy_difference: None,
            mtp_logits: None,
        };
        assert!(!report.passes(f32::INFINITY));
    }
}
