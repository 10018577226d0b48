//! How fast a model reads prompts and writes answers: passes over random tokens, with the bytes they
//! read and the operations they are worth at least.
//!
//! A step is a pass and the logits of every sequence's last row; nothing is drawn from them, as in the
//! benchmarks of other programs. The tokens come from a fixed seed: experts are chosen by real routers,
//! and those visited are counted.

use crate::blocks::{BlockPool, BlockTable};
use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_kernels::quant::Format;
use fathom_model::cache::{CacheSpec, KvCache};
use fathom_model::cost::{AttentionForm, attention_flops_per_token, linear_flops_per_token};
use fathom_model::names::Role;
use fathom_model::{CachedRows, Model, RowKind, Rows};
use fathom_tensor::random::Random;
use fathom_tensor::{Buffer, Tape, Tensor, Weight, op};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Instant;

/// Rows of a prefill pass, as when an answer is generated.
pub const PREFILL_ROWS: usize = 1024;

/// What passes did, and how long they took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Time of the passes.
    pub seconds: f64,
    /// Tokens that went in.
    pub n_tokens: usize,
    /// Bytes of weights that had to be read: each once per pass, and of experts those visited only.
    pub weight_bytes: f64,
    /// Bytes of keys and values that had to be read: each once per pass and sequence.
    pub cache_bytes: f64,
    /// Multiplications and additions, in the cheapest known order.
    pub operations: f64,
}

impl Work {
    /// All bytes read.
    pub fn bytes(&self) -> f64 {
        self.weight_bytes + self.cache_bytes
    }

    /// Both, one after the other.
    pub fn and(self, other: Work) -> Work {
        Work {
            seconds: self.seconds + other.seconds,
            n_tokens: self.n_tokens + other.n_tokens,
            weight_bytes: self.weight_bytes + other.weight_bytes,
            cache_bytes: self.cache_bytes + other.cache_bytes,
            operations: self.operations + other.operations,
        }
    }
}

/// Sequences that advance together.
pub struct Runner<'m> {
    model: &'m Model,
    cache: RefCell<KvCache>,
    pool: BlockPool,
    tables: Vec<BlockTable>,
    random: Random,
    sizes: Sizes,
}

/// What passes over a model cost.
struct Sizes {
    /// Weights that every pass reads, without the head.
    every_pass: f64,
    head: f64,
    /// One row of the embedding.
    embedding_row: f64,
    /// One expert of each layer that has some.
    experts: Vec<f64>,
    cached_token: f64,
    /// Per row, without the head and without attention.
    linear_operations: f64,
    head_operations: f64,
}

impl<'m> Runner<'m> {
    /// Empty sequences over a model packed for a cache of `spec`.
    pub fn new(model: &'m Model, spec: CacheSpec, n_sequences: usize) -> Self {
        Runner {
            model,
            cache: RefCell::new(KvCache::new(spec)),
            pool: BlockPool::new(),
            tables: (0..n_sequences).map(|_| BlockTable::default()).collect(),
            random: Random::from_key(&[7]),
            sizes: Sizes::of(model, spec),
        }
    }

    /// Cuts every sequence to its first `n_tokens`.
    pub fn rewind(&mut self, n_tokens: usize) {
        self.tables.iter_mut().for_each(|table| table.n_tokens = table.n_tokens.min(n_tokens));
    }

    /// Appends `n_tokens` to every sequence, in passes of [`PREFILL_ROWS`], sequence after sequence.
    pub fn prompt(&mut self, n_tokens: usize) -> Work {
        let mut left: Vec<usize> = vec![n_tokens; self.tables.len()];
        let mut work = Work::default();
        while left.iter().any(|left| *left > 0) {
            let mut room = PREFILL_ROWS;
            let mut parts = Vec::new();
            for (sequence, left) in left.iter_mut().enumerate() {
                let n = room.min(*left);
                if n > 0 {
                    *left -= n;
                    room -= n;
                    parts.push(Part { sequence, n_tokens: n, ends: *left == 0 });
                }
            }
            work = work.and(self.pass(&parts));
        }
        work
    }

    /// Appends one token to every sequence.
    pub fn step(&mut self) -> Work {
        let parts: Vec<Part> = (0..self.tables.len())
            .map(|sequence| Part { sequence, n_tokens: 1, ends: true })
            .collect();
        self.pass(&parts)
    }

    fn pass(&mut self, parts: &[Part]) -> Work {
        let vocab = self.model.config.vocab_size as u64;
        let n_rows = parts.iter().map(|part| part.n_tokens).sum();
        let tokens: Vec<u32> =
            (0..n_rows).map(|_| (self.random.next_u64() % vocab) as u32).collect();
        let start = Instant::now();
        for part in parts {
            let table = &mut self.tables[part.sequence];
            self.pool.reserve(&self.cache, table, part.n_tokens);
        }
        let (mut rows, mut ends) = (CachedRows::default(), Vec::new());
        let mut from = 0;
        for part in parts {
            let table = &self.tables[part.sequence];
            let kind = if part.n_tokens > 1 { RowKind::Prompt } else { RowKind::Answer };
            let tokens = &tokens[from..from + part.n_tokens];
            rows.push_as(kind, &table.blocks, table.n_tokens, tokens);
            from += part.n_tokens;
            if part.ends {
                ends.push(from - 1);
            }
        }
        let loads = {
            let tape = Tape::forgetting();
            let forward = self.model.forward(&tape, Rows::Cached(&rows, &self.cache), None);
            if !ends.is_empty() {
                op::logits(&pick(&forward.hidden, &ends), self.model.head());
            }
            forward.loads
        };
        let seconds = start.elapsed().as_secs_f64();
        let mut work = self.sizes.work(self.model, &rows, ends.len(), &loads);
        work.seconds = seconds;
        for part in parts {
            self.tables[part.sequence].n_tokens += part.n_tokens;
        }
        work
    }
}

/// Rows of one sequence in a pass.
struct Part {
    sequence: usize,
    n_tokens: usize,
    /// Whether its prompt ends here, so that logits are wanted.
    ends: bool,
}

impl Sizes {
    fn of(model: &Model, spec: CacheSpec) -> Sizes {
        let tied = model.config.tie_word_embeddings;
        let mut sizes = Sizes {
            every_pass: 0.0,
            head: held_bytes(model.head()) as f64,
            embedding_row: 0.0,
            experts: Vec::new(),
            cached_token: spec.block_bytes() as f64 / BLOCK_TOKENS as f64,
            linear_operations: 0.0,
            head_operations: 2.0 * model.head().n_elements() as f64,
        };
        let mut experts: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
        for (weight, spec) in model.weights().iter().zip(model.specs()) {
            let bytes = held_bytes(weight) as f64;
            match (spec.role, spec.layer, spec.expert) {
                _ if spec.mtp => {}
                (Role::Embedding, ..) => {
                    sizes.embedding_row = if tied { 0.0 } else { bytes / weight.n_out() as f64 };
                }
                (Role::Head, ..) => {}
                (_, Some(layer), Some(expert)) => {
                    let (sum, n) = experts.entry(layer).or_default();
                    *sum += bytes;
                    *n = (*n).max(expert + 1);
                }
                _ => sizes.every_pass += bytes,
            }
        }
        sizes.experts = experts.values().map(|(bytes, n)| bytes / *n as f64).collect();
        sizes.linear_operations =
            linear_flops_per_token(&model.config) as f64 - sizes.head_operations;
        sizes
    }

    fn work(
        &self,
        model: &Model,
        rows: &CachedRows<'_>,
        n_logits: usize,
        loads: &[Vec<u64>],
    ) -> Work {
        let n_rows = rows.tokens.len();
        let visited = |load: &Vec<u64>| load.iter().filter(|n| **n > 0).count() as f64;
        let experts: f64 =
            self.experts.iter().zip(loads).map(|(bytes, load)| bytes * visited(load)).sum();
        let seen: usize = rows.segments.iter().map(|s| s.past + s.rows.len()).sum();
        let per_position = attention_flops_per_token(&model.config, 1, AttentionForm::Expanded);
        let positions: f64 = rows.positions.iter().map(|at| f64::from(at + 1)).sum();
        let head = if n_logits > 0 { self.head } else { 0.0 };
        Work {
            seconds: 0.0,
            n_tokens: n_rows,
            weight_bytes: self.every_pass + head + self.embedding_row * n_rows as f64 + experts,
            cache_bytes: self.cached_token * seen as f64,
            operations: self.linear_operations * n_rows as f64
                + self.head_operations * n_logits as f64
                + per_position as f64 * positions,
        }
    }
}

/// Bytes of a weight as the model holds it; of a dense one, its values.
pub fn held_bytes(weight: &Weight) -> usize {
    // What the file holds in two parts is read there, as long as latents are attended to as they are.
    if let Some(parts) = weight.as_stored().and_then(|matrix| matrix.parts()) {
        return parts.iter().map(|part| part.bytes().len()).sum();
    }
    match weight.as_stored() {
        Some(matrix) => matrix.bytes().len() + 4 * matrix.scales().map_or(0, |s| s.values.len()),
        None => 4 * weight.n_elements(),
    }
}

/// The format that most of the model's matrices are stored in; none if they are dense.
pub fn main_format(model: &Model) -> Option<Format> {
    let mut sums: BTreeMap<&str, (usize, Option<Format>)> = BTreeMap::new();
    for (weight, spec) in model.weights().iter().zip(model.specs()) {
        if spec.role == Role::Matrix {
            let format = weight.as_stored().map(|matrix| matrix.format);
            let sum = sums.entry(format.map_or("", |f| f.name())).or_insert((0, format));
            sum.0 += weight.n_elements();
        }
    }
    sums.into_values().max_by_key(|(n, _)| *n).and_then(|(_, format)| format)
}

/// Rows `rows` of x [N, D].
fn pick(x: &Tensor, rows: &[usize]) -> Tensor {
    let width = x.width();
    let mut out = Buffer::stale(rows.len() * width);
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
        out.copy_from_slice(&x.data()[row * width..(row + 1) * width]);
    }
    Tensor::new(out, &[rows.len(), width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use fathom_model::cache::CacheForm;
    use fathom_model::cost::{forward_flops_per_token, parameters};
    use fathom_model::{Config, Precision};

    fn model() -> (Model, CacheSpec) {
        let words = r#"{
            "model_type": "deepseek_v2", "vocab_size": 37, "hidden_size": 24,
            "intermediate_size": 36, "moe_intermediate_size": 16, "num_hidden_layers": 2,
            "first_k_dense_replace": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
            "q_lora_rank": null, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
            "v_head_dim": 8, "n_routed_experts": 4, "n_shared_experts": 1,
            "num_experts_per_tok": 2, "rope_theta": 10000.0, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 128, "initializer_range": 0.2
        }"#;
        let mut model = Model::random(Config::from_text(words).unwrap(), 3).unwrap();
        let spec = model.pack_for_cache(Precision::F32, CacheForm::Latent);
        (model, spec)
    }

    #[test]
    fn a_step_of_one_sequence_reads_the_active_weights_and_its_cache() {
        let (model, spec) = model();
        let mut runner = Runner::new(&model, spec, 1);
        let prompt = runner.prompt(9);
        assert_eq!(prompt.n_tokens, 9);
        let step = runner.step();
        // The embedding gives one row of 24 elements.
        let active = parameters(&model.config).active_without_embedding + 24;
        assert_eq!(step.weight_bytes, 4.0 * active as f64);
        assert_eq!(step.cache_bytes, (10 * 2 * 12 * 4) as f64);
        runner.rewind(9);
        assert_eq!(runner.step().cache_bytes, step.cache_bytes);
    }

    #[test]
    fn a_prompt_is_worth_the_operations_of_its_tokens_whatever_the_passes() {
        let (model, spec) = model();
        let mut runner = Runner::new(&model, spec, 2);
        let work = runner.prompt(3);
        let head = 2.0 * (37 * 24) as f64;
        let one: f64 = (1..=3)
            .map(|n| forward_flops_per_token(&model.config, n, AttentionForm::Expanded) as f64)
            .sum();
        assert_eq!(work.operations, 2.0 * (one - 2.0 * head));
        assert_eq!(main_format(&model), None);
    }
}
