//! Whether a configuration can work: sizes bounded, heads and experts that divide.
//!
//! Every product of sizes that later code forms stays far below 2^63 after these checks, and the
//! number of tensors stays listable.

use super::error::ConfigError;
use super::{Config, Family, RopeScaling, ScoringFunc, TopkMethod};

/// Largest width, vocabulary or count of heads or experts; the largest real one is 152064.
pub const MAX_SIZE: usize = 1_000_000;
/// Most layers.
pub const MAX_LAYERS: usize = 10_000;
/// Most MTP layers; the releases have one.
const MAX_MTP_LAYERS: usize = 63;
/// Most positions.
pub const MAX_POSITIONS: usize = 1 << 30;
/// Most heads times the widest of what a head holds; V3 has 139 264.
const MAX_HEADS_WIDTH: u128 = 1 << 26;
/// Largest factor, exponent or count of turns in a scaling; with more, rotations are no numbers.
const MAX_SCALING: f64 = 1e6;
/// Most expert matrices of a model; V3 has 45 312.
const MAX_EXPERT_MATRICES: u128 = 4_000_000;

impl Config {
    /// Refuses what cannot be built. Everything read by `from_json` and `from_recipe` has passed.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_sizes()?;
        self.check_heads()?;
        self.check_experts()?;
        self.check_numbers()?;
        self.check_scaling()?;
        self.check_ids()
    }

    /// Refuses a sequence that has more tokens than the model has positions.
    pub fn check_sequence_tokens(&self, n_tokens: usize) -> Result<(), ConfigError> {
        let max_position_embeddings = self.max_position_embeddings;
        if n_tokens > max_position_embeddings {
            return Err(ConfigError::SequenceTooLong { n_tokens, max_position_embeddings });
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        within("vocab_size", self.vocab_size, MAX_SIZE)?;
        within("hidden_size", self.hidden_size, MAX_SIZE)?;
        within("intermediate_size", self.intermediate_size, MAX_SIZE)?;
        within("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS)?;
        within("num_attention_heads", self.num_attention_heads, MAX_SIZE)?;
        within("num_key_value_heads", self.num_key_value_heads, MAX_SIZE)?;
        within("head_dim", self.head_dim, MAX_SIZE)?;
        within("max_position_embeddings", self.max_position_embeddings, MAX_POSITIONS)?;
        let layers = self.num_nextn_predict_layers;
        if layers > 0 && self.model_type != Family::DeepseekV3 {
            return Err(ConfigError::Unsupported {
                field: "num_nextn_predict_layers".to_owned(),
                found: layers.to_string(),
                hint: "only deepseek_v3 has multi-token prediction; set it to 0",
            });
        }
        if layers > MAX_MTP_LAYERS {
            let (value, max) = (layers as u128, MAX_MTP_LAYERS as u128);
            let field = "num_nextn_predict_layers";
            return Err(ConfigError::OutOfRange { field, value, min: 0, max });
        }
        Ok(())
    }

    fn check_heads(&self) -> Result<(), ConfigError> {
        self.check_head_sizes()?;
        // Both are at most MAX_SIZE, their product need not be.
        let latent = self.kv_lora_rank.map_or(0, |rank| 2 * rank + self.qk_rope_head_dim);
        let widest = self.qk_head_dim().max(self.v_dim()).max(latent);
        let width = self.num_attention_heads as u128 * widest as u128;
        if width > MAX_HEADS_WIDTH {
            let field = "num_attention_heads * the size of a head";
            let max = MAX_HEADS_WIDTH;
            return Err(ConfigError::OutOfRange { field, value: width, min: 1, max });
        }
        Ok(())
    }

    fn check_head_sizes(&self) -> Result<(), ConfigError> {
        if let Some(kv_lora_rank) = self.kv_lora_rank {
            within("kv_lora_rank", kv_lora_rank, MAX_SIZE)?;
            if let Some(q_lora_rank) = self.q_lora_rank {
                within("q_lora_rank", q_lora_rank, MAX_SIZE)?;
            }
            within("qk_nope_head_dim", self.qk_nope_head_dim, MAX_SIZE)?;
            within("qk_rope_head_dim", self.qk_rope_head_dim, MAX_SIZE)?;
            within("v_head_dim", self.v_head_dim, MAX_SIZE)?;
            even("qk_rope_head_dim", self.qk_rope_head_dim)?;
            if self.num_key_value_heads != self.num_attention_heads {
                return Err(ConfigError::Disagree {
                    field: "num_key_value_heads",
                    value: self.num_key_value_heads.to_string(),
                    other_field: "num_attention_heads",
                    other: self.num_attention_heads.to_string(),
                    hint: "latent attention gives every head its own key; leave the first out",
                });
            }
            return Ok(());
        }
        even("head_dim", self.head_dim)?;
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(ConfigError::NotDivisible {
                field: "num_attention_heads",
                value: self.num_attention_heads,
                divisor_field: "num_key_value_heads",
                divisor: self.num_key_value_heads,
                hint: "every key-value head must serve the same number of heads",
            });
        }
        Ok(())
    }

    fn check_experts(&self) -> Result<(), ConfigError> {
        let Some(n_experts) = self.n_routed_experts else { return Ok(()) };
        within("n_routed_experts", n_experts, MAX_SIZE)?;
        within("moe_intermediate_size", self.moe_intermediate_size, MAX_SIZE)?;
        within("num_experts_per_tok", self.num_experts_per_tok, MAX_SIZE)?;
        within("moe_layer_freq", self.moe_layer_freq, MAX_LAYERS)?;
        let shared = self.n_shared_experts.saturating_mul(self.moe_intermediate_size);
        if shared > MAX_SIZE {
            let (value, max) = (shared as u128, MAX_SIZE as u128);
            let field = "n_shared_experts * moe_intermediate_size";
            return Err(ConfigError::OutOfRange { field, value, min: 0, max });
        }
        let layers = self.num_hidden_layers + self.num_nextn_predict_layers;
        let matrices = 3 * n_experts as u128 * layers as u128;
        if matrices > MAX_EXPERT_MATRICES {
            let field = "3 * n_routed_experts * num_hidden_layers";
            let max = MAX_EXPERT_MATRICES;
            return Err(ConfigError::OutOfRange { field, value: matrices, min: 1, max });
        }
        at_most(
            ("first_k_dense_replace", self.first_k_dense_replace),
            ("num_hidden_layers", self.num_hidden_layers),
            "there are not that many layers to keep dense",
        )?;
        at_most(
            ("num_experts_per_tok", self.num_experts_per_tok),
            ("n_routed_experts", n_experts),
            "a token cannot visit more experts than there are",
        )?;
        self.check_method()?;
        if self.topk_method == TopkMethod::Greedy { Ok(()) } else { self.check_groups(n_experts) }
    }

    /// Scoring and choice come in three pairs, and V3 has only the last.
    fn check_method(&self) -> Result<(), ConfigError> {
        let sigmoid = self.scoring_func == ScoringFunc::Sigmoid;
        let noaux = self.topk_method == TopkMethod::NoauxTc;
        if sigmoid != noaux || (self.model_type == Family::DeepseekV3 && !noaux) {
            return Err(ConfigError::Disagree {
                field: "topk_method",
                value: self.topk_method.name().to_owned(),
                other_field: if sigmoid == noaux { "model_type" } else { "scoring_func" },
                other: if sigmoid == noaux {
                    self.model_type.model_type().to_owned()
                } else {
                    self.scoring_func.name().to_owned()
                },
                hint: "`noaux_tc` goes with `sigmoid` (deepseek_v3), \
                       `greedy` and `group_limited_greedy` with `softmax` (deepseek_v2)",
            });
        }
        Ok(())
    }

    fn check_groups(&self, n_experts: usize) -> Result<(), ConfigError> {
        within("n_group", self.n_group, MAX_SIZE)?;
        within("topk_group", self.topk_group, MAX_SIZE)?;
        at_most(
            ("topk_group", self.topk_group),
            ("n_group", self.n_group),
            "no more groups can be kept than there are",
        )?;
        if !n_experts.is_multiple_of(self.n_group) {
            return Err(ConfigError::NotDivisible {
                field: "n_routed_experts",
                value: n_experts,
                divisor_field: "n_group",
                divisor: self.n_group,
                hint: "groups must have equal size; `n_group` = 1 puts all experts in one",
            });
        }
        let group = n_experts / self.n_group;
        if self.topk_method == TopkMethod::NoauxTc && group < 2 {
            return Err(ConfigError::Exceeds {
                field: "n_group",
                value: self.n_group,
                limit_field: "n_routed_experts / 2",
                limit: n_experts / 2,
                hint: "a group is scored by the sum of its two best experts, so it needs two",
            });
        }
        at_most(
            ("num_experts_per_tok", self.num_experts_per_tok),
            ("topk_group * n_routed_experts / n_group", self.topk_group * group),
            "the kept groups hold too few experts; raise `topk_group` or lower `n_group`",
        )
    }

    fn check_numbers(&self) -> Result<(), ConfigError> {
        let positive = |field, value: f64| number(field, value, value > 0.0, "a number above 0");
        number("rope_theta", self.rope_theta, self.rope_theta > 1.0, "a number above 1")?;
        let eps = self.rms_norm_eps;
        number("rms_norm_eps", eps, eps > 0.0 && eps < 1.0, "a number between 0 and 1")?;
        positive("initializer_range", self.initializer_range)?;
        positive("routed_scaling_factor", self.routed_scaling_factor)?;
        let alpha = self.aux_loss_alpha;
        number("aux_loss_alpha", alpha, alpha >= 0.0, "a number from 0 on")
    }

    fn check_scaling(&self) -> Result<(), ConfigError> {
        let most =
            |field, value: f64| number(field, value, value <= MAX_SCALING, "at most 1000000");
        let stretch = |factor: f64| {
            number("rope_scaling.factor", factor, factor >= 1.0, "a number from 1 on")?;
            most("rope_scaling.factor", factor)
        };
        let original = |positions| {
            within("rope_scaling.original_max_position_embeddings", positions, MAX_POSITIONS)
        };
        match self.rope_scaling {
            None => Ok(()),
            Some(RopeScaling::Linear { factor }) => stretch(factor),
            Some(RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                mscale,
                mscale_all_dim,
            }) => {
                stretch(factor)?;
                original(original_max_position_embeddings)?;
                let slow = beta_slow >= 1.0 / MAX_SCALING;
                number("rope_scaling.beta_slow", beta_slow, slow, "a number from 0.000001 on")?;
                let fast = beta_fast >= beta_slow;
                number("rope_scaling.beta_fast", beta_fast, fast, "at least `beta_slow`")?;
                most("rope_scaling.beta_fast", beta_fast)?;
                number("rope_scaling.mscale", mscale, mscale >= 0.0, "a number from 0 on")?;
                most("rope_scaling.mscale", mscale)?;
                let all = mscale_all_dim >= 0.0;
                number("rope_scaling.mscale_all_dim", mscale_all_dim, all, "a number from 0 on")?;
                most("rope_scaling.mscale_all_dim", mscale_all_dim)
            }
            Some(RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings,
            }) => {
                stretch(factor)?;
                original(original_max_position_embeddings)?;
                number("rope_scaling.low_freq_factor", low, low > 0.0, "a number above 0")?;
                let above = "above `low_freq_factor`";
                number("rope_scaling.high_freq_factor", high, high > low, above)
            }
        }
    }

    fn check_ids(&self) -> Result<(), ConfigError> {
        let named = self
            .bos_token_id
            .iter()
            .map(|id| ("bos_token_id", *id))
            .chain(self.eos_token_id.iter().map(|id| ("eos_token_id", *id)))
            .chain(self.pad_token_id.iter().map(|id| ("pad_token_id", *id)));
        for (field, id) in named {
            if id as usize >= self.vocab_size {
                return Err(ConfigError::Exceeds {
                    field,
                    value: id as usize,
                    limit_field: "vocab_size - 1",
                    limit: self.vocab_size - 1,
                    hint: "raise `vocab_size` or give the id of a token that exists",
                });
            }
        }
        Ok(())
    }
}

fn within(field: &'static str, value: usize, max: usize) -> Result<(), ConfigError> {
    if value == 0 || value > max {
        let (value, max) = (value as u128, max as u128);
        return Err(ConfigError::OutOfRange { field, value, min: 1, max });
    }
    Ok(())
}

fn even(field: &'static str, value: usize) -> Result<(), ConfigError> {
    if !value.is_multiple_of(2) {
        let hint = "rotary embedding turns elements in pairs; choose an even size";
        let (divisor_field, divisor) = ("a pair", 2);
        return Err(ConfigError::NotDivisible { field, value, divisor_field, divisor, hint });
    }
    Ok(())
}

fn at_most(
    (field, value): (&'static str, usize),
    (limit_field, limit): (&'static str, usize),
    hint: &'static str,
) -> Result<(), ConfigError> {
    if value > limit {
        return Err(ConfigError::Exceeds { field, value, limit_field, limit, hint });
    }
    Ok(())
}

fn number(
    field: &'static str,
    value: f64,
    holds: bool,
    expected: &'static str,
) -> Result<(), ConfigError> {
    if holds && value.is_finite() {
        return Ok(());
    }
    Err(ConfigError::BadNumber { field, value, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    /// Both the words of the message and a hint must be there.
    fn refused(config: Config, expected: &str) {
        let error = config.check().expect_err("must be refused");
        let text = error.to_string();
        assert!(text.contains(expected), "{text:?} lacks {expected:?}");
    }

    #[test]
    fn heads_that_do_not_divide_are_refused() {
        refused(
            Config { num_key_value_heads: 5, ..preset::llm_67b() },
            "`num_attention_heads` = 64 is not a multiple of num_key_value_heads = 5\nhint: ",
        );
        refused(Config { head_dim: 7, ..preset::llm_7b() }, "`head_dim` = 7 is not a multiple");
        refused(Config { qk_rope_head_dim: 63, ..preset::v3() }, "`qk_rope_head_dim` = 63");
        refused(Config { num_key_value_heads: 8, ..preset::v3() }, "`num_key_value_heads` = 8");
    }

    #[test]
    fn experts_that_cannot_be_chosen_are_refused() {
        let v3 = preset::v3;
        refused(Config { num_experts_per_tok: 257, ..v3() }, "above what n_routed_experts = 256");
        refused(Config { topk_group: 9, ..v3() }, "`topk_group` = 9 is above what n_group = 8");
        refused(Config { n_group: 7, ..v3() }, "`n_routed_experts` = 256 is not a multiple");
        refused(Config { n_group: 256, topk_group: 8, ..v3() }, "two best");
        refused(
            Config { n_group: 64, topk_group: 1, ..v3() },
            "`num_experts_per_tok` = 8 is above what topk_group * n_routed_experts / n_group = 4",
        );
        refused(Config { first_k_dense_replace: 62, ..v3() }, "`first_k_dense_replace` = 62");
        refused(Config { topk_method: TopkMethod::Greedy, ..v3() }, "does not go with");
        refused(Config { scoring_func: ScoringFunc::Sigmoid, ..preset::v2() }, "does not go with");
    }

    #[test]
    fn zero_and_absurd_sizes_are_refused() {
        refused(Config { hidden_size: 0, ..preset::v3() }, "between 1 and 1000000, found 0");
        refused(Config { vocab_size: 1_000_001, ..preset::v3() }, "found 1000001");
        refused(Config { num_hidden_layers: 10_001, ..preset::v3() }, "`num_hidden_layers`");
        refused(Config { n_routed_experts: Some(0), ..preset::v3() }, "`n_routed_experts`");
        refused(Config { n_routed_experts: Some(500_000), ..preset::v3() }, "num_hidden_layers");
        refused(Config { n_shared_experts: usize::MAX, ..preset::v3() }, "n_shared_experts");
        refused(Config { num_nextn_predict_layers: 64, ..preset::v3() }, "found 64");
        refused(Config { num_nextn_predict_layers: 1, ..preset::v2() }, "only deepseek_v3");
    }

    #[test]
    fn numbers_without_use_are_refused() {
        refused(Config { rms_norm_eps: 0.0, ..preset::v3() }, "`rms_norm_eps`");
        refused(Config { rope_theta: f64::INFINITY, ..preset::v3() }, "`rope_theta`");
        refused(Config { routed_scaling_factor: -1.0, ..preset::v3() }, "above 0, found -1");
        let scaling = Some(RopeScaling::Linear { factor: 0.5 });
        refused(Config { rope_scaling: scaling, ..preset::llm_7b() }, "from 1 on, found 0.5");
    }

    #[test]
    fn sizes_whose_products_overflow_and_scalings_without_numbers_are_refused() {
        let wide =
            Config { num_attention_heads: 1_000_000, head_dim: 1_000_000, ..preset::llm_7b() };
        let wide = Config { num_key_value_heads: 1_000_000, ..wide };
        refused(wide, "`num_attention_heads * the size of a head` must lie between 1 and 67108864");
        refused(Config { kv_lora_rank: Some(1_000_000), ..preset::v3() }, "the size of a head`");
        let yarn = |beta: f64, mscale: f64| {
            let (factor, original_max_position_embeddings) = (40.0, 4096);
            let (beta_fast, beta_slow, mscale_all_dim) = (beta, beta, mscale);
            let scaling = RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                mscale,
                mscale_all_dim,
            };
            Config { rope_scaling: Some(scaling), ..preset::v3() }
        };
        refused(yarn(1e-308, 1.0), "`rope_scaling.beta_slow` must be a number from 0.000001 on");
        refused(yarn(1.0, 1e308), "`rope_scaling.mscale` must be at most 1000000");
        let scaling = Some(RopeScaling::Linear { factor: 1e308 });
        refused(Config { rope_scaling: scaling, ..preset::llm_7b() }, "`rope_scaling.factor`");
    }

    #[test]
    fn ids_outside_the_vocabulary_are_refused() {
        refused(
            Config { eos_token_id: vec![1, 129280], ..preset::v3() },
            "`eos_token_id` = 129280 is above what vocab_size - 1 = 129279 allows\nhint: ",
        );
    }

    #[test]
    fn sequences_longer_than_positions_are_refused() {
        let config = preset::llm_7b();
        assert_eq!(config.check_sequence_tokens(4096), Ok(()));
        let error = config.check_sequence_tokens(4097).expect_err("one too many");
        assert!(error.to_string().contains("4097 tokens"), "{error}");
    }
}
