//! A model that learns: passes add to its gradients, an update spends them.

use crate::error::Error;
use crate::mtp_follower::Follower;
use crate::optim::Optimizer;
use crate::recipe::{Optimizer as OptimizerSettings, Precision as PrecisionSetting};
use fathom_data::pack::TokenBatch;
use fathom_kernels::attention::Segment;
use fathom_kernels::balance;
use fathom_model::config::TorchDtype;
use fathom_model::{Model, PackedRows, Precision, Rows};
use fathom_tensor::op::{self, Balance, LogProbs};
use fathom_tensor::{Gradients, Tape, Tensor};
use std::ops::Range;
use std::path::Path;

/// Weights in f32, gradients, optimizer state.
pub struct Learner {
    /// The model, packed.
    pub model: Model,
    optimizer: Optimizer,
    gradients: Gradients,
    precision: Precision,
    recompute: bool,
    /// Tokens that each expert of each MoE layer received since the last update.
    loads: Vec<Vec<u64>>,
}

/// What a pass scores besides its next tokens.
#[derive(Clone, Copy, Default)]
pub struct Extras<'a> {
    /// Weight of the multi-token-prediction loss; 0 skips the module.
    pub mtp_weight: f32,
    /// Weight of the sequence-wise balance loss, and the rows of each sequence.
    pub balance: Option<(f32, &'a [Range<usize>])>,
}

/// Result of a pass.
#[derive(Clone, Debug)]
pub struct PassResult {
    /// Log-probability of every scored token.
    pub log_probs: Vec<f32>,
    /// Hidden states after the final norm, [N, D], outside the tape.
    pub hidden: Tensor,
    /// Sum of the negative log-probabilities of the tokens after next, where scored.
    pub mtp_loss_sum: f64,
    /// Tokens after next that were scored.
    pub n_mtp: usize,
}

/// The kernels' word for a recipe's precision.
pub fn precision_of(setting: PrecisionSetting) -> Precision {
    match setting {
        PrecisionSetting::Bf16 => Precision::Bf16,
        PrecisionSetting::F32 => Precision::F32,
    }
}

impl Learner {
    /// A learner of `model` with fresh optimizer state.
    pub fn new(mut model: Model, precision: Precision, settings: &OptimizerSettings) -> Self {
        model.pack(precision, true);
        let sizes: Vec<usize> = model.weights().iter().map(|w| w.n_elements()).collect();
        let optimizer = Optimizer::new(&model, settings);
        Learner {
            model,
            optimizer,
            gradients: Gradients::new(&sizes),
            precision,
            recompute: false,
            loads: Vec::new(),
        }
    }

    /// Whether layers run again in the backward pass instead of keeping what they computed; same bits.
    pub fn with_recompute(self, recompute: bool) -> Self {
        Learner { recompute, ..self }
    }

    /// Precision of the products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Forward and backward over `rows`; the gradient of the loss is added to what is there.
    ///
    /// `dloss(i, logp)` is the derivative of the loss by the i-th scored log-probability.
    pub fn pass(
        &mut self,
        rows: &PackedRows,
        scored: &LogProbs,
        extras: Extras,
        dloss: impl FnMut(usize, f32) -> f32,
    ) -> PassResult {
        let Learner { model, gradients, recompute, .. } = self;
        let (next, after_next) = mtp_targets(rows, scored);
        let tape = if *recompute { Tape::recomputing() } else { Tape::recording() };
        let (mut result, mut loads);
        {
            let balance = extras.balance.map(|(alpha, sequences)| Balance { alpha, sequences });
            let forward = model.forward(&tape, Rows::Packed(rows), balance);
            let log_probs =
                op::linear_log_probs(&tape, &forward.hidden, model.head(), scored, dloss);
            let hidden = forward.hidden.detached();
            result = PassResult { log_probs, hidden, mtp_loss_sum: 0.0, n_mtp: 0 };
            loads = forward.loads;
            if extras.mtp_weight > 0.0
                && let Some(mtp) =
                    model.forward_mtp(&tape, Rows::Packed(rows), balance, &forward.hidden, &next)
            {
                let scored_after = LogProbs {
                    rows: &after_next.rows,
                    targets: &after_next.targets,
                    inverse_temperature: 1.0,
                };
                // The divisor is the number of next tokens, not of tokens after next (V3, eq. 24).
                let gradient = -extras.mtp_weight / scored.rows.len() as f32;
                let log_probs = op::linear_log_probs(
                    &tape,
                    &mtp.hidden,
                    model.head(),
                    &scored_after,
                    |_, _| gradient,
                );
                result.mtp_loss_sum = -log_probs.iter().map(|p| f64::from(*p)).sum::<f64>();
                result.n_mtp = log_probs.len();
                loads.extend(mtp.loads);
            }
        }
        tape.backward(gradients);
        self.add_loads(loads);
        result
    }

    /// Lets the MTP module learn from the rows of a pass, what they scored and the hidden states they
    /// had. Gradients and other weights stay what they are.
    pub fn lead(
        &mut self,
        follower: &mut Follower,
        pass: (&PackedRows, &LogProbs, &Tensor),
        learning_rate: f64,
    ) {
        follower.learn(&mut self.model, self.precision, pass, learning_rate);
    }

    /// Forward only: log-probabilities of the scored tokens.
    pub fn score(&self, rows: &PackedRows, scored: &LogProbs) -> Vec<f32> {
        score(&self.model, rows, scored)
    }

    /// Spends the gradients on one update and moves the routing biases against the load.
    /// Returns the global norm of the gradient before clipping.
    pub fn update(&mut self, learning_rate: f64, bias_update_speed: f64) -> f64 {
        let norm = self.optimizer.update(&mut self.model, &mut self.gradients, learning_rate);
        if bias_update_speed > 0.0 {
            let biases = self.model.router_biases_mut();
            for (bias, loads) in biases.into_iter().zip(&self.loads) {
                balance::update_bias(loads, bias_update_speed as f32, bias.values_mut());
            }
        }
        self.gradients.clear();
        self.loads.clear();
        self.model.pack(self.precision, true);
        norm
    }

    /// Load of the busiest expert over the mean load, of the worst layer, since the last update.
    pub fn worst_expert_load(&self) -> Option<f64> {
        let worst = |loads: &Vec<u64>| {
            let total: u64 = loads.iter().sum();
            let max = loads.iter().max().copied().unwrap_or(0);
            max as f64 * loads.len() as f64 / total.max(1) as f64
        };
        self.loads.iter().map(worst).reduce(f64::max)
    }

    /// Writes weights (f32) and optimizer state into `dir`, which exists.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        save_model(&self.model, dir)?;
        self.optimizer.save(&dir.join("optimizer.safetensors"))
    }

    /// Reads what [`Learner::save`] wrote.
    pub fn open(
        dir: &Path,
        precision: Precision,
        settings: &OptimizerSettings,
    ) -> Result<Self, Error> {
        let mut learner = Learner::new(open_model(dir)?, precision, settings);
        learner.optimizer.load(&dir.join("optimizer.safetensors"))?;
        Ok(learner)
    }

    fn add_loads(&mut self, loads: Vec<Vec<u64>>) {
        self.loads.resize_with(loads.len().max(self.loads.len()), Vec::new);
        for (sum, loads) in self.loads.iter_mut().zip(loads) {
            sum.resize(loads.len(), 0);
            sum.iter_mut().zip(loads).for_each(|(sum, load)| *sum += load);
        }
    }
}

/// Log-probabilities of the scored tokens under `model`, without gradients.
pub fn score(model: &Model, rows: &PackedRows, scored: &LogProbs) -> Vec<f32> {
    let hidden = model.hidden(rows);
    let tape = Tape::forgetting();
    op::linear_log_probs(&tape, &hidden, model.head(), scored, |_, _| 0.0)
}

/// Reads the model of a checkpoint directory.
pub fn open_model(dir: &Path) -> Result<Model, Error> {
    Model::open(dir).map_err(|source| Error::Model { what: dir.display().to_string(), source })
}

/// Writes the model of a checkpoint directory, in f32: the next stage goes on with these very bits.
pub fn save_model(model: &Model, dir: &Path) -> Result<(), Error> {
    let what = || dir.display().to_string();
    model.save(dir, TorchDtype::Float32).map_err(|source| Error::Model { what: what(), source })
}

/// A batch of packed documents as rows of a pass, and what it scores.
pub struct BatchRows {
    /// The rows.
    pub rows: PackedRows,
    /// Rows whose next token counts.
    pub scored_rows: Vec<u32>,
    /// Those tokens.
    pub targets: Vec<u32>,
}

impl BatchRows {
    /// Lays out a batch.
    pub fn new(batch: TokenBatch) -> Self {
        let scored: Vec<u32> =
            (0..batch.tokens.len() as u32).filter(|i| batch.loss_mask[*i as usize] > 0.0).collect();
        BatchRows {
            targets: scored.iter().map(|i| batch.targets[*i as usize]).collect(),
            scored_rows: scored,
            rows: PackedRows {
                tokens: batch.tokens,
                positions: batch.positions,
                segments: batch.segments.into_iter().map(Segment::document).collect(),
            },
        }
    }

    /// What a pass scores.
    pub fn scored(&self) -> LogProbs<'_> {
        LogProbs { rows: &self.scored_rows, targets: &self.targets, inverse_temperature: 1.0 }
    }
}

struct AfterNext {
    rows: Vec<u32>,
    targets: Vec<u32>,
}

/// For the MTP module: the token after every row, and the rows at which the token after next counts.
/// A row counts if it and its successor are scored and belong to one document.
fn mtp_targets(rows: &PackedRows, scored: &LogProbs) -> (Vec<u32>, AfterNext) {
    let mut next: Vec<u32> = rows.tokens[1..].to_vec();
    next.push(0);
    for (row, target) in scored.rows.iter().zip(scored.targets) {
        next[*row as usize] = *target;
    }
    let mut after = AfterNext { rows: Vec::new(), targets: Vec::new() };
    for i in 1..scored.rows.len() {
        let row = scored.rows[i - 1];
        let follows = scored.rows[i] == row + 1
            && rows.positions[row as usize + 1] == rows.positions[row as usize] + 1;
        if follows {
            after.rows.push(row);
            after.targets.push(scored.targets[i]);
        }
    }
    (next, after)
}
