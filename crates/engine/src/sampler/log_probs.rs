//! Log-probabilities of tokens for people and programs that ask how sure the model was.
//!
//! They are those of the model itself: of its logits, before every step of the sampler, over the
//! ids below `vocab_limit`. So they do not depend on how an answer is drawn (as in vLLM; Hugging
//! Face `transformers` reports processed scores).

use super::ranked;
use fathom_kernels::cross_entropy;

/// The model's own distribution over the next token.
pub struct LogProbs<'a> {
    logits: &'a [f32],
    lse: f64,
}

impl<'a> LogProbs<'a> {
    /// Of one row of logits, without those of padding.
    pub fn of(logits: &'a [f32]) -> LogProbs<'a> {
        LogProbs { logits, lse: cross_entropy::log_sum_exp_f64(logits) }
    }

    /// The log-probability of `id`; −∞ for one that is not in the row.
    pub fn token(&self, id: u32) -> f32 {
        let logit = self.logits.get(id as usize).map_or(f64::NEG_INFINITY, |x| f64::from(*x));
        // −∞ − −∞ would be NaN where nothing has a probability.
        if logit == f64::NEG_INFINITY { f32::NEG_INFINITY } else { (logit - self.lse) as f32 }
    }

    /// The `n` most likely tokens and their log-probabilities, in order, the lower id first of
    /// equals. Fewer if fewer have a probability.
    pub fn top(&self, n: usize) -> Vec<(u32, f32)> {
        let ids = ranked::top_k(self.logits, n).into_iter();
        let scored = ids.map(|id| (id, self.token(id)));
        scored.filter(|(_, log_prob)| *log_prob > f32::NEG_INFINITY).collect()
    }
}
