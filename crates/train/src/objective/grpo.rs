//! Group-relative policy optimisation (DeepSeekMath, arXiv:2402.03300, equations 3 and 4).
//!
//! Per token: `−min(ρ·Â, clip(ρ, 1−ε_low, 1+ε_high)·Â) + β·kl`, with `ρ = π/π_old` and the k3
//! estimate `kl = π_ref/π − ln(π_ref/π) − 1`. Tokens are averaged as [`Averaging`] says.

/// Bounds and weights of the objective.
#[derive(Clone, Copy, Debug)]
pub struct Grpo {
    /// The ratio is clipped below `1 - clip_low`.
    pub clip_low: f64,
    /// The ratio is clipped above `1 + clip_high`.
    pub clip_high: f64,
    /// β, the weight of the KL estimate; 0 ignores the reference.
    pub kl_weight: f64,
}

/// Log-probabilities of one token under the three policies, and its advantage.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// Under the policy being trained.
    pub policy: f64,
    /// Under the policy that sampled.
    pub old: f64,
    /// Under the reference.
    pub reference: f64,
    /// Advantage of its answer.
    pub advantage: f64,
}

/// Loss of a token and its derivative by the policy's log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLoss {
    /// Surrogate plus weighted KL.
    pub loss: f64,
    /// Derivative by `policy`.
    pub gradient: f64,
    /// The KL estimate alone.
    pub kl: f64,
    /// Whether the clipped branch was the smaller one.
    pub clipped: bool,
}

/// How token losses become one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Averaging {
    /// Mean over the tokens of an answer, then over answers (DeepSeekMath).
    SequenceMean,
    /// Mean over all tokens.
    TokenMean,
    /// Sum over tokens divided by answers times this length (Dr. GRPO).
    FixedLength(usize),
}

impl Grpo {
    /// Loss and derivative of one token.
    pub fn token(&self, t: Token) -> TokenLoss {
        let ratio = (t.policy - t.old).exp();
        let clipped_ratio = ratio.clamp(1.0 - self.clip_low, 1.0 + self.clip_high);
        let (plain, clipped) = (ratio * t.advantage, clipped_ratio * t.advantage);
        let is_clipped = clipped < plain;
        let surrogate = if is_clipped { clipped } else { plain };
        let dsurrogate = if is_clipped { 0.0 } else { plain };
        let (kl, dkl) = if self.kl_weight > 0.0 {
            let log_ratio = t.reference - t.policy;
            (log_ratio.exp() - log_ratio - 1.0, 1.0 - log_ratio.exp())
        } else {
            (0.0, 0.0)
        };
        TokenLoss {
            loss: -surrogate + self.kl_weight * kl,
            gradient: -dsurrogate + self.kl_weight * dkl,
            kl,
            clipped: is_clipped,
        }
    }
}

impl Averaging {
    /// Weight of each token of an answer of `n_tokens`, among answers of `n_answers` with `total` tokens.
    pub fn weight(self, n_tokens: usize, n_answers: usize, total: usize) -> f64 {
        match self {
            Averaging::SequenceMean => 1.0 / (n_tokens.max(1) * n_answers) as f64,
            Averaging::TokenMean => 1.0 / total.max(1) as f64,
            Averaging::FixedLength(length) => 1.0 / (length * n_answers) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_the_derivative() {
        let grpo = Grpo { clip_low: 0.2, clip_high: 0.28, kl_weight: 0.04 };
        for policy in [-3.0, -1.1, -1.0, -0.95, -0.2] {
            for advantage in [-1.5, 0.0, 0.7] {
                let at =
                    |policy| grpo.token(Token { policy, old: -1.0, reference: -1.3, advantage });
                let step = 1e-6;
                let numeric = (at(policy + step).loss - at(policy - step).loss) / (2.0 * step);
                assert!((at(policy).gradient - numeric).abs() < 1e-6, "{policy} {advantage}");
            }
        }
    }

    #[test]
    fn an_unchanged_policy_has_ratio_one() {
        let grpo = Grpo { clip_low: 0.2, clip_high: 0.2, kl_weight: 0.0 };
        let loss = grpo.token(Token { policy: -2.0, old: -2.0, reference: 0.0, advantage: 0.5 });
        assert_eq!((loss.loss, loss.gradient, loss.clipped), (-0.5, -0.5, false));
    }
}
