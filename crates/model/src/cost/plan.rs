//! What running or training a configuration takes on a machine: memory, reads, time, money.
//!
//! Everything is an upper bound of speed from three rates: a step takes at least as long as its
//! reads from memory, its reads from disk and its arithmetic take, each at full rate. Overheads,
//! caches of the processor and imbalance only add to it. Sums saturate: what was typed may be absurd.

use super::hardware::Machine;
use super::weights::{WeightBytes, weight_bytes};
use super::{AttentionForm, cache_bytes_per_token, forward_flops_per_token, parameters};
use crate::config::Config;
use fathom_kernels::quant::Format;

/// Bytes of a cached value here: caches are held in f16, unless `--cache-type f32` asks for more.
pub const CACHE_ELEMENT_BYTES: u64 = 2;
/// Tokens of a prompt that are computed at once.
pub const PREFILL_CHUNK_TOKENS: u64 = 512;
/// f32 weights, gradients and the two moments of AdamW, per parameter.
pub const TRAINING_BYTES_PER_PARAMETER: u64 = 4 + 4 + 8;

/// What is to be run.
#[derive(Debug, Clone, Copy)]
pub struct Serving {
    pub format: Format,
    /// Positions that each sequence holds.
    pub context_tokens: u64,
    /// Sequences at a time.
    pub batch: u64,
}

/// Where the weights are while the model runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fit {
    /// All in memory.
    InMemory,
    /// The routed experts are read from disk when chosen; this share of them stays in memory.
    ExpertsFromDisk { cached_share: f64 },
    /// What every token reads does not fit: all of it passes through memory at each step.
    AllFromDisk,
    /// Cache and scratch alone do not fit.
    No { lacking_bytes: u64 },
}

/// What bounds the speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    Memory,
    Disk,
    Compute,
}

/// The plan of running. A step generates one token for each sequence, at full context.
#[derive(Debug, Clone, Copy)]
pub struct ServingPlan {
    pub weights: WeightBytes,
    pub cache_bytes: u64,
    pub scratch_bytes: u64,
    pub fit: Fit,
    /// Weights and cache that a step reads, from wherever.
    pub read_bytes_per_step: u64,
    /// The part of them that comes from disk.
    pub disk_bytes_per_step: u64,
    pub flops_per_step: u64,
    pub bound: Bound,
    /// Generated tokens of all sequences together; 0 where it does not fit.
    pub max_tokens_per_s: f64,
    /// Prompt tokens, by arithmetic alone: a chunk shares its reads.
    pub max_prompt_tokens_per_s: f64,
}

impl ServingPlan {
    /// All that must be in memory for everything to be there.
    pub fn needed_bytes(&self) -> u64 {
        self.weights.main().saturating_add(self.cache_bytes).saturating_add(self.scratch_bytes)
    }

    /// What must be in memory even when experts come from disk.
    pub fn resident_bytes(&self) -> u64 {
        self.needed_bytes() - self.weights.routed
    }
}

/// Plans to run `config` on `machine`. The MTP module is not loaded.
pub fn serving_plan(config: &Config, machine: &Machine, serving: &Serving) -> ServingPlan {
    let Serving { format, context_tokens, batch } = *serving;
    let weights = weight_bytes(config, format);
    let cache_bytes = cache_bytes_per_token(config, CACHE_ELEMENT_BYTES)
        .saturating_mul(context_tokens)
        .saturating_mul(batch);
    let scratch_bytes = scratch_bytes(config, batch);
    let chosen = (weights.routed as f64 * distinct_expert_share(config, batch)).round() as u64;
    let read_bytes_per_step = (weights.every_token + chosen).saturating_add(cache_bytes);
    let fit = fit(&weights, machine.memory_bytes, cache_bytes.saturating_add(scratch_bytes));
    let disk_bytes_per_step = match fit {
        Fit::InMemory => 0,
        Fit::ExpertsFromDisk { cached_share } => (chosen as f64 * (1.0 - cached_share)) as u64,
        Fit::AllFromDisk | Fit::No { .. } => weights.every_token + chosen,
    };
    let form = AttentionForm::Absorbed;
    let flops_per_step =
        forward_flops_per_token(config, context_tokens, form).saturating_mul(batch);
    let (bound, seconds) = [
        (Bound::Memory, read_bytes_per_step as f64 / machine.read_bytes_per_s),
        (Bound::Disk, disk_bytes_per_step as f64 / machine.disk_bytes_per_s),
        (Bound::Compute, flops_per_step as f64 / machine.flops_per_s),
    ]
    .into_iter()
    .fold((Bound::Memory, 0.0), |worst, next| if next.1 > worst.1 { next } else { worst });
    let runs = !matches!(fit, Fit::No { .. });
    let prompt = forward_flops_per_token(config, context_tokens / 2, AttentionForm::Expanded);
    ServingPlan {
        weights,
        cache_bytes,
        scratch_bytes,
        fit,
        read_bytes_per_step,
        disk_bytes_per_step,
        flops_per_step,
        bound,
        max_tokens_per_s: if runs { batch as f64 / seconds } else { 0.0 },
        max_prompt_tokens_per_s: if runs { machine.flops_per_s / prompt as f64 } else { 0.0 },
    }
}

/// Where the weights go in a memory that also holds `other_bytes`.
fn fit(weights: &WeightBytes, memory_bytes: u64, other_bytes: u64) -> Fit {
    let Some(room) = memory_bytes.checked_sub(other_bytes) else {
        return Fit::No { lacking_bytes: other_bytes - memory_bytes };
    };
    let resident = weights.embedding + weights.every_token;
    match room.checked_sub(resident) {
        Some(left) if left >= weights.routed => Fit::InMemory,
        Some(left) => Fit::ExpertsFromDisk { cached_share: left as f64 / weights.routed as f64 },
        None => Fit::AllFromDisk,
    }
}

/// The expected share of the routed experts that at least one of `batch` tokens is sent to, were
/// they chosen evenly and independently: `1 - (1 - k / E)^batch`.
pub fn distinct_expert_share(config: &Config, batch: u64) -> f64 {
    let Some(n_experts) = config.n_routed_experts else { return 0.0 };
    let missed = 1.0 - config.num_experts_per_tok as f64 / n_experts as f64;
    1.0 - missed.powf(batch as f64)
}

/// f32 buffers of one layer for a chunk of a prompt, and the logits of each sequence: residual
/// stream, normed input and two outputs (4 d); queries, keys, values and context per head, twice;
/// gate, up and their product of the MLP.
fn scratch_bytes(config: &Config, batch: u64) -> u64 {
    let rows = PREFILL_CHUNK_TOKENS.max(batch);
    let layer = rows.saturating_mul(values_per_token(config));
    layer.saturating_add(batch.saturating_mul(config.vocab_size as u64)).saturating_mul(4)
}

fn values_per_token(config: &Config) -> u64 {
    let experts = config.num_experts_per_tok + config.n_shared_experts;
    let inner = config.intermediate_size.max(experts * config.moe_intermediate_size);
    let heads = config.num_attention_heads * (config.qk_head_dim() + config.v_dim());
    (4 * config.hidden_size + 2 * heads + 3 * inner) as u64
}

/// What is to be trained.
#[derive(Debug, Clone, Copy)]
pub struct Training {
    pub tokens: f64,
    pub n_devices: u64,
    /// Positions of a sequence and sequences of a step on one device: they decide the activations.
    pub context_tokens: u64,
    pub batch: u64,
}

/// The plan of training.
#[derive(Debug, Clone, Copy)]
pub struct TrainingPlan {
    /// Active parameters without the embedding: the N of 6 N D.
    pub n_parameters: u64,
    /// 6 N D.
    pub flops: f64,
    /// Weights, gradients and moments, of all devices together.
    pub state_bytes: u64,
    /// Values kept for the backward pass of one step on one device, in f32.
    pub activation_bytes: u64,
    /// Hours of all devices added.
    pub device_hours: f64,
    pub days: f64,
    /// Dollars.
    pub price: f64,
}

/// Plans to train `config` on `n_devices` machines.
///
/// Source of 6 N D: arXiv:2001.08361, section 2.1 (two operations forward, four backward, per
/// parameter and token). Attention scores are left out, as there.
pub fn training_plan(config: &Config, machine: &Machine, training: &Training) -> TrainingPlan {
    let counts = parameters(config);
    let n_parameters = counts.active_without_embedding;
    let flops = 6.0 * n_parameters as f64 * training.tokens;
    let device_hours = flops / (machine.flops_per_s * machine.training_share) / 3600.0;
    let rows = training.context_tokens.saturating_mul(training.batch);
    let per_token = values_per_token(config) * config.num_hidden_layers as u64;
    TrainingPlan {
        n_parameters,
        flops,
        state_bytes: (counts.total + counts.mtp) * TRAINING_BYTES_PER_PARAMETER,
        activation_bytes: rows.saturating_mul(4 * (per_token + config.vocab_size as u64)),
        device_hours,
        days: device_hours / training.n_devices as f64 / 24.0,
        price: device_hours * machine.price_per_hour,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::hardware::{self, PUBLISHED_RUNS};
    use crate::preset;

    fn machine(memory_bytes: u64) -> Machine {
        Machine {
            memory_bytes,
            read_bytes_per_s: 100.0,
            disk_bytes_per_s: 10.0,
            flops_per_s: 1e6,
            training_share: 0.5,
            price_per_hour: 2.0,
        }
    }

    /// One layer of experts, small enough for paper: V 8, d 4, two heads of 2, 4 experts of 2.
    fn small() -> Config {
        Config {
            vocab_size: 8,
            hidden_size: 4,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 2,
            head_dim: 2,
            n_routed_experts: Some(4),
            n_shared_experts: 1,
            moe_intermediate_size: 2,
            num_experts_per_tok: 1,
            first_k_dense_replace: 0,
            intermediate_size: 2,
            ..preset::moe_16b()
        }
    }

    #[test]
    fn a_small_model_is_planned_as_by_hand() {
        let serving = Serving { format: Format::F32, context_tokens: 5, batch: 1 };
        let plan = serving_plan(&small(), &machine(1 << 30), &serving);
        // Embedding 32; head 32, norms 12, attention 4 x 16, router 16, shared 24; experts 4 x 24.
        let expected = WeightBytes { embedding: 128, every_token: 4 * 148, routed: 384, mtp: 0 };
        assert_eq!(plan.weights, expected);
        // Two heads of 2 for keys and values, 5 positions.
        assert_eq!(plan.cache_bytes, 2 * 8 * 5);
        assert_eq!(plan.scratch_bytes, 4 * (512 * (16 + 2 * 8 + 3 * 4) + 8));
        assert_eq!(plan.fit, Fit::InMemory);
        assert_eq!(plan.read_bytes_per_step, 592 + 96 + 80);
        assert_eq!((plan.disk_bytes_per_step, plan.bound), (0, Bound::Memory));
        assert!((plan.max_tokens_per_s - 100.0 / 768.0).abs() < 1e-12);
        // Matrices a token meets: attention 64, router 16, two MLPs of 24, head 32; scores 5 x 8.
        assert_eq!(plan.flops_per_step, 2 * (160 + 5 * 8));
    }

    #[test]
    fn experts_leave_memory_first_then_everything_then_nothing_runs() {
        let serving = Serving { format: Format::F32, context_tokens: 5, batch: 1 };
        let of = |memory| serving_plan(&small(), &machine(memory), &serving);
        let all = of(1 << 30);
        assert_eq!(of(all.needed_bytes()).fit, Fit::InMemory);
        // Three quarters of the experts fit, so a quarter of the chosen one is read from disk.
        let streamed = of(all.needed_bytes() - 96);
        assert_eq!(streamed.fit, Fit::ExpertsFromDisk { cached_share: 0.75 });
        assert_eq!(streamed.disk_bytes_per_step, 24);
        assert_eq!(of(all.resident_bytes()).fit, Fit::ExpertsFromDisk { cached_share: 0.0 });
        let passing = of(all.resident_bytes() - 1);
        assert_eq!((passing.fit, passing.disk_bytes_per_step), (Fit::AllFromDisk, 592 + 96));
        assert_eq!(passing.bound, Bound::Disk);
        let none = of(all.cache_bytes + all.scratch_bytes - 7);
        assert_eq!((none.fit, none.max_tokens_per_s), (Fit::No { lacking_bytes: 7 }, 0.0));
    }

    #[test]
    fn a_batch_meets_more_experts_but_never_more_than_all() {
        let share = |batch| distinct_expert_share(&small(), batch);
        assert_eq!((share(1), share(2)), (0.25, 0.4375));
        assert!(share(1000) <= 1.0);
        assert_eq!(distinct_expert_share(&preset::llm_7b(), 9), 0.0);
    }

    #[test]
    fn training_a_small_model_is_planned_as_by_hand() {
        let training = Training { tokens: 1e6, n_devices: 2, context_tokens: 10, batch: 3 };
        let plan = training_plan(&small(), &machine(1), &training);
        // Met without the embedding: 148 of every token and one expert of 24; held: all 276.
        assert_eq!((plan.n_parameters, plan.flops), (172, 6.0 * 172.0 * 1e6));
        assert_eq!(plan.state_bytes, 276 * 16);
        assert_eq!(plan.activation_bytes, 4 * 30 * (44 + 8));
        let hours = 6.0 * 172.0 * 1e6 / 5e5 / 3600.0;
        assert!((plan.device_hours - hours).abs() < 1e-12);
        assert!((plan.days - hours / 48.0).abs() < 1e-12 && plan.price == plan.device_hours * 2.0);
    }

    /// The training share of the H800 is that of V3's pre-training; the dense model trained before
    /// it reached nearly the same. V2 reached less: its experts wait for the network.
    #[test]
    fn published_runs_are_met() {
        let h800 = hardware::find("h800").expect("it is in the table").machine;
        let ratio = |name: &str| {
            let run = PUBLISHED_RUNS.iter().find(|run| run.preset == name).expect("a run");
            let config = (preset::find(name).expect("a preset").config)();
            let training =
                Training { tokens: run.tokens, n_devices: 2048, context_tokens: 4096, batch: 1 };
            training_plan(&config, &h800, &training).device_hours / run.gpu_hours
        };
        assert!((ratio("v3") - 1.0).abs() < 0.002, "{}", ratio("v3"));
        assert!((ratio("llm-67b") - 1.0).abs() < 0.1, "{}", ratio("llm-67b"));
        assert!((0.5..0.7).contains(&ratio("v2")), "{}", ratio("v2"));
    }

    /// V2 on 8 H800: more than 50 thousand generated and 100 thousand prompt tokens per second
    /// (arXiv:2405.04434, section 3.2.3); a bound must lie above both, by less than ten times.
    #[test]
    fn bounds_lie_above_the_published_speed_of_v2() {
        let one = hardware::find("h800").expect("it is in the table").machine;
        let node = Machine {
            memory_bytes: 8 * one.memory_bytes,
            read_bytes_per_s: 8.0 * one.read_bytes_per_s,
            flops_per_s: 8.0 * one.flops_per_s,
            ..one
        };
        let serving = Serving { format: Format::F8E4M3, context_tokens: 1000, batch: 1024 };
        let plan = serving_plan(&preset::v2(), &node, &serving);
        assert_eq!(plan.fit, Fit::InMemory);
        assert!((50e3..500e3).contains(&plan.max_tokens_per_s), "{plan:?}");
        assert!((100e3..1000e3).contains(&plan.max_prompt_tokens_per_s), "{plan:?}");
    }
}
