//! One draw from one row of logits, all steps in order.

use super::adjust::{History, adjust, adjusts};
use super::cut;
use super::settings::Sampling;
use crate::error::Error;
use fathom_kernels::cross_entropy;
use fathom_kernels::elementwise;
use fathom_tensor::random::Random;

/// A drawn token and its log-probability under the model's whole distribution at the sampling
/// temperature (at temperature 1 for greedy), before bias, penalties and cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Draw {
    /// The token.
    pub token: u32,
    /// Its log-probability; the trainer recomputes the same bits.
    pub log_prob: f32,
}

/// Draws one token. `logits` [V] is scratch afterwards; `key` names sequence and position.
///
/// Logits that nothing can be drawn from (see [`choose`]) give token 0 and a log-probability of
/// NaN.
pub fn draw(logits: &mut [f32], sampling: &Sampling, history: &History, key: &[u64]) -> Draw {
    let limit = sampling.vocab_limit.min(logits.len());
    let chosen = if adjusts(sampling) {
        // The log-probability needs the logits as they are.
        let chosen = choose(&mut logits[..limit].to_vec(), sampling, history, key);
        temper(logits, sampling);
        chosen
    } else {
        temper(logits, sampling);
        pick(&logits[..limit], sampling, key)
    };
    let Ok(token) = chosen else { return Draw { token: 0, log_prob: f32::NAN } };
    let (mut log_prob, mut lse) = ([0.0], [0.0]);
    cross_entropy::log_probs(logits, &[token], &mut log_prob, &mut lse);
    Draw { token, log_prob: log_prob[0] }
}

/// Draws one token, without its log-probability. `logits` [V] is scratch afterwards; `key` names
/// sequence and position.
///
/// Errors: a logit below `vocab_limit` that is NaN or +∞; no token with a probability.
pub fn choose(
    logits: &mut [f32],
    sampling: &Sampling,
    history: &History,
    key: &[u64],
) -> Result<u32, Error> {
    choose_masked(logits, sampling, history, key, None)
}

/// As [`choose`], among the tokens of `mask` only: bit `id % 32` of word `id / 32` allows a token, and
/// those past the mask are not allowed. It comes before all other steps, so top-k, top-p and min-p see
/// nothing but what is allowed. Without a mask the same token, bit for bit.
///
/// Errors: as [`choose`]; logits of tokens that are not allowed are not looked at.
pub fn choose_masked(
    logits: &mut [f32],
    sampling: &Sampling,
    history: &History,
    key: &[u64],
    mask: Option<&[u32]>,
) -> Result<u32, Error> {
    let limit = sampling.vocab_limit.min(logits.len());
    let logits = &mut logits[..limit];
    if let Some(mask) = mask {
        shut_out(logits, mask);
    }
    adjust(logits, sampling, history);
    temper(logits, sampling);
    pick(logits, sampling, key)
}

/// Leaves no probability to what `mask` does not allow. Neither bias nor penalties can give it back.
fn shut_out(logits: &mut [f32], mask: &[u32]) {
    let words = mask.iter().copied().chain(std::iter::repeat(0));
    for (logits, word) in logits.chunks_mut(32).zip(words) {
        match word {
            0 => logits.fill(f32::NEG_INFINITY),
            u32::MAX => {}
            _ => {
                for (bit, logit) in logits.iter_mut().enumerate() {
                    if word >> bit & 1 == 0 {
                        *logit = f32::NEG_INFINITY;
                    }
                }
            }
        }
    }
}

fn temper(logits: &mut [f32], sampling: &Sampling) {
    if !sampling.is_greedy() && sampling.temperature != 1.0 {
        elementwise::scale(logits, 1.0 / sampling.temperature);
    }
}

/// The steps after the temperature.
fn pick(logits: &[f32], sampling: &Sampling, key: &[u64]) -> Result<u32, Error> {
    check(logits)?;
    let best = cross_entropy::argmax(logits);
    let Some(&max) = logits.get(best as usize) else { return Err(Error::NothingToDraw) };
    if max == f32::NEG_INFINITY {
        return Err(Error::NothingToDraw);
    }
    if sampling.is_greedy() {
        return Ok(best);
    }
    let uniform = Random::from_key(key).uniform();
    Ok(cut::choose(logits, max, sampling, uniform))
}

/// Refuses NaN and +∞.
fn check(logits: &[f32]) -> Result<(), Error> {
    // Without a branch, so that the compiler checks many at once.
    let ok = |logit: f32| logit < f32::INFINITY;
    if logits.iter().fold(true, |all, logit| all & ok(*logit)) {
        return Ok(());
    }
    let broken = logits.iter().enumerate().find(|(_, logit)| !ok(**logit));
    let (id, value) = broken.expect("one of them is not below infinity");
    Err(Error::LogitNotFinite { id: id as u32, value: *value })
}
