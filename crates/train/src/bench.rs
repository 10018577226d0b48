//! How fast a training step is: real steps on random tokens, beside what the machine can do at most.
//! Beside it, how fast a rollout is, and what drafts bring.
//!
//! A step is everything a training loop does with a batch: packing the changed weights, forward pass,
//! cross-entropy of every position, backward pass, clipping by the global norm, AdamW. Only the data
//! are random: the work does not depend on them.

mod drafts;
mod rollout;

pub use drafts::{DraftRates, DraftWork, draft_rates};
pub use rollout::{RolloutWork, rollout_rate};

use fathom_kernels::adamw::{AdamW, Moments, Tensor, clip_factor, global_norm};
use fathom_kernels::limits::{self, Limits};
use fathom_model::config::{Config, Family, ScoringFunc, TopkMethod};
use fathom_model::cost::{AttentionForm, forward_flops_per_token};
use fathom_model::{Error, Model, PackedRows, Rows, preset};
use fathom_tensor::op::{LogProbs, linear_log_probs};
use fathom_tensor::random::Random;
use fathom_tensor::{Gradients, Precision, Tape};
use std::time::{Duration, Instant};

/// Steps before the clock runs: buffers are allocated in the first.
const WARMUP_STEPS: usize = 2;
/// Steps that are timed at least.
const MIN_STEPS: usize = 3;

/// A model and a batch to time.
#[derive(Clone, Debug)]
pub struct BenchShape {
    /// What the command line calls it.
    pub name: &'static str,
    /// The model.
    pub config: Config,
    /// Sequences per step.
    pub n_sequences: usize,
    /// Tokens per sequence.
    pub length: usize,
}

/// Figures of one shape.
#[derive(Clone, Copy, Debug)]
pub struct BenchResult {
    /// Tokens per second: median, least and most over the timed steps.
    pub tokens_per_s: [f64; 3],
    /// Timed steps.
    pub n_steps: usize,
    /// Parameters of the model.
    pub n_parameters: usize,
    /// Operations per second of the median step: three times the forward pass; what is computed again does not count.
    pub flops: f64,
    /// `flops` over the f32 peak measured beside the steps.
    pub share_of_peak: f64,
    /// Most memory the process has held, if the system tells.
    pub peak_rss_bytes: Option<u64>,
    /// Loss of the last step: a check that something was learned, not a result.
    pub loss: f64,
}

/// All shapes, by name.
pub fn shapes() -> Vec<BenchShape> {
    vec![llama_34m(), llama_0_9m(), v3_16m()]
}

/// The shape of this name.
pub fn shape(name: &str) -> Option<BenchShape> {
    shapes().into_iter().find(|shape| shape.name == name)
}

fn llama_34m() -> BenchShape {
    let config = Config {
        vocab_size: 8192,
        hidden_size: 512,
        intermediate_size: 1408,
        num_hidden_layers: 8,
        first_k_dense_replace: 8,
        num_attention_heads: 8,
        num_key_value_heads: 8,
        head_dim: 64,
        ..fresh(preset::llm_7b())
    };
    BenchShape { name: "llama-34m", config, n_sequences: 4, length: 512 }
}

fn llama_0_9m() -> BenchShape {
    let config = Config {
        vocab_size: 256,
        hidden_size: 128,
        intermediate_size: 352,
        num_hidden_layers: 4,
        first_k_dense_replace: 4,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: 32,
        ..fresh(preset::llm_7b())
    };
    BenchShape { name: "llama-0.9m", config, n_sequences: 32, length: 128 }
}

fn v3_16m() -> BenchShape {
    let config = Config {
        model_type: Family::DeepseekV3,
        vocab_size: 4096,
        hidden_size: 256,
        intermediate_size: 704,
        num_hidden_layers: 6,
        first_k_dense_replace: 1,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: 16,
        q_lora_rank: Some(96),
        kv_lora_rank: Some(64),
        qk_nope_head_dim: 32,
        qk_rope_head_dim: 16,
        v_head_dim: 32,
        n_routed_experts: Some(16),
        n_shared_experts: 1,
        moe_intermediate_size: 192,
        num_experts_per_tok: 4,
        n_group: 1,
        topk_group: 1,
        topk_method: TopkMethod::NoauxTc,
        scoring_func: ScoringFunc::Sigmoid,
        rope_scaling: None,
        num_nextn_predict_layers: 0,
        quantization_config: None,
        ..fresh(preset::v3())
    };
    BenchShape { name: "v3-16m", config, n_sequences: 8, length: 256 }
}

/// Token ids of the released vocabularies do not exist in ours.
fn fresh(config: Config) -> Config {
    Config { bos_token_id: None, eos_token_id: Vec::new(), pad_token_id: None, ..config }
}

/// Limits of the machine, from windows short enough to fit between two other programs.
pub fn machine_limits() -> Limits {
    limits::measure(Duration::from_millis(40), 5)
}

/// Times training steps for at least `min_seconds`; with `recompute`, layers run again in the backward pass.
///
/// Errors: a configuration that cannot be built.
pub fn train_step(
    shape: &BenchShape,
    precision: Precision,
    recompute: bool,
    min_seconds: f64,
) -> Result<BenchResult, Error> {
    let mut trainer = Trainer::new(shape, precision)?;
    trainer.recompute = recompute;
    let mut loss = 0.0;
    for step in 0..WARMUP_STEPS {
        trainer.step(step as u64);
    }
    let (mut seconds, start) = (Vec::new(), Instant::now());
    // The peak is taken again and again between the steps, so that both meet the same machine.
    let mut peak = 0f64;
    while seconds.len() < MIN_STEPS || start.elapsed().as_secs_f64() < min_seconds {
        peak = peak.max(limits::f32_flops(Duration::from_millis(10), 2));
        let begin = Instant::now();
        loss = trainer.step((WARMUP_STEPS + seconds.len()) as u64);
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let n_tokens = (shape.n_sequences * shape.length) as f64;
    let rate = |seconds: f64| n_tokens / seconds;
    let median = rate(seconds[seconds.len() / 2]);
    let flops = 3.0
        * median
        * forward_flops_per_token(
            &shape.config,
            shape.length.div_ceil(2) as u64,
            AttentionForm::Expanded,
        ) as f64;
    Ok(BenchResult {
        tokens_per_s: [median, rate(seconds[seconds.len() - 1]), rate(seconds[0])],
        n_steps: seconds.len(),
        n_parameters: trainer.model.n_parameters(),
        flops,
        share_of_peak: flops / peak,
        peak_rss_bytes: peak_rss_bytes(),
        loss,
    })
}

/// A model in training, with everything a step needs.
pub(crate) struct Trainer {
    model: Model,
    gradients: Gradients,
    /// First and second moments, laid out like the gradients.
    moments: [Vec<f32>; 2],
    precision: Precision,
    /// Whether layers run again in the backward pass.
    recompute: bool,
    n_sequences: usize,
    length: usize,
}

impl Trainer {
    pub(crate) fn new(shape: &BenchShape, precision: Precision) -> Result<Self, Error> {
        let model = Model::random(shape.config.clone(), 1)?;
        let sizes: Vec<usize> = model.weights().iter().map(|w| w.n_elements()).collect();
        let total = sizes.iter().sum();
        Ok(Trainer {
            model,
            gradients: Gradients::new(&sizes),
            moments: [vec![0.0; total], vec![0.0; total]],
            precision,
            recompute: false,
            n_sequences: shape.n_sequences,
            length: shape.length,
        })
    }

    /// One optimizer step on random tokens; returns the mean loss before it.
    pub(crate) fn step(&mut self, step: u64) -> f64 {
        let vocab = self.model.config.vocab_size as u64;
        let mut random = Random::from_key(&[7, step]);
        let mut draw =
            |n: usize| -> Vec<u32> { (0..n).map(|_| (random.next_u64() % vocab) as u32).collect() };
        let mut rows = PackedRows::default();
        for _ in 0..self.n_sequences {
            rows.push_document(&draw(self.length));
        }
        let n = rows.tokens.len();
        let (targets, every): (Vec<u32>, Vec<u32>) = (draw(n), (0..n as u32).collect());

        self.model.pack(self.precision, true);
        self.gradients.clear();
        let tape = if self.recompute { Tape::recomputing() } else { Tape::recording() };
        let hidden = self.model.forward(&tape, Rows::Packed(&rows), None).hidden;
        let scored = LogProbs { rows: &every, targets: &targets, inverse_temperature: 1.0 };
        let mean = -1.0 / n as f32;
        let log_probs = linear_log_probs(&tape, &hidden, self.model.head(), &scored, |_, _| mean);
        drop(hidden);
        tape.backward(&mut self.gradients);
        self.update(step + 1);
        log_probs.iter().map(|&logp| f64::from(logp) * f64::from(mean)).sum()
    }

    fn update(&mut self, step: u64) {
        let grads = self.gradients.all();
        let norm = global_norm(&[grads]);
        let adamw = AdamW {
            lr: 3e-4,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            grad_scale: clip_factor(norm, 1.0),
        };
        let [first, second] = &mut self.moments;
        let (mut grads, mut first, mut second) = (&*grads, &mut first[..], &mut second[..]);
        let mut tensors = Vec::new();
        for weight in self.model.weights_mut() {
            let len = weight.n_elements();
            let decay = weight.shape.len() == 2;
            let (grad, m, v);
            (grad, grads) = grads.split_at(len);
            (m, first) = first.split_at_mut(len);
            (v, second) = second.split_at_mut(len);
            let moments = Moments::F32 { first: m, second: v };
            tensors.push(Tensor { param: weight.values_mut(), grad, moments, decay });
        }
        adamw.update(&mut tensors);
    }
}

/// Most memory this process has held: Linux only.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? * 1024)
}
