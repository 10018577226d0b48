//! The decoder: one list of weights, and the layers that find theirs in it.
//!
//! The model holds no state of a conversation: a pass gets its rows, and its cache if there is one,
//! from outside. Training, scoring, rollout and serving call the same [`Model::forward`].

use crate::cache::{CacheForm, CacheSpec, KvCache};
use crate::config::{Config, RopeLayout, RopeScaling, ScaleFmt};
use crate::expert_trace::ExpertTrace;
use crate::layer::{Block, FeedForward, Mtp, Pass};
use crate::names::{Role, TensorSpec};
use crate::residency::Residency;
use crate::rows::{CachedRows, PackedRows, Rows};
use fathom_kernels::quant::{Format, ScaleKind};
use fathom_kernels::rope::{Layout, Llama3, RopeSpec, RopeTable, Scaling, Yarn};
use fathom_tensor::op::{self, Balance, Rope};
use fathom_tensor::{Precision, Tape, Tensor, Weight};
use std::cell::RefCell;

/// A decoder of any family of [`crate::registry::ARCHITECTURES`].
pub struct Model {
    /// What it is.
    pub config: Config,
    pub(crate) weights: Vec<Weight>,
    pub(crate) specs: Vec<TensorSpec>,
    pub(crate) embed: usize,
    /// `lm_head`, or the embedding where they are tied.
    pub(crate) head: usize,
    pub(crate) norm: usize,
    pub(crate) layers: Vec<Block>,
    pub(crate) mtp: Vec<Mtp>,
    pub(crate) rope: Rope,
    pub(crate) precision: Option<Precision>,
    /// Of a model larger than the memory it may take.
    pub(crate) residency: Option<Residency>,
}

/// Result of a pass.
pub struct Forward {
    /// Hidden states after the final norm, [N, D].
    pub hidden: Tensor,
    /// Tokens that each expert received, one list per MoE layer (MTP modules last).
    pub loads: Vec<Vec<u64>>,
}

impl Model {
    /// Runs the decoder over `rows`.
    ///
    /// Panics if the model is not packed ([`Model::pack`]) or a token is outside the vocabulary.
    pub fn forward<'w>(
        &'w self,
        tape: &Tape<'w>,
        rows: Rows<'w>,
        balance: Option<Balance<'w>>,
    ) -> Forward {
        let pass = self.pass(tape, rows, balance);
        let hidden = self.decode(&pass, None);
        Forward { hidden, loads: pass.loads.into_inner() }
    }

    /// [`Model::forward`] over whole sequences, for inference: hidden states only.
    pub fn hidden(&self, rows: &PackedRows) -> Tensor {
        let tape = Tape::forgetting();
        self.forward(&tape, Rows::Packed(rows), None).hidden
    }

    /// [`Model::forward`] over the next rows of cached sequences: hidden states only.
    pub fn hidden_cached(&self, rows: &CachedRows, cache: &RefCell<KvCache>) -> Tensor {
        let tape = Tape::forgetting();
        self.forward(&tape, Rows::Cached(rows, cache), None).hidden
    }

    /// The rows `wanted` of [`Model::hidden_cached`], in that order: the same bits. The last layer leaves
    /// all others out where it can: of prompts only the last rows are wanted.
    ///
    /// Panics if a row is outside.
    pub fn hidden_cached_at(
        &self,
        rows: &CachedRows,
        cache: &RefCell<KvCache>,
        wanted: &[usize],
    ) -> Tensor {
        let tape = Tape::forgetting();
        self.decode(&self.pass(&tape, Rows::Cached(rows, cache), None), Some(wanted))
    }

    /// [`Model::hidden_cached`]; tells `trace` which experts each row visited. Bits are the same.
    pub fn hidden_cached_traced(
        &self,
        rows: &CachedRows,
        cache: &RefCell<KvCache>,
        trace: Option<&mut ExpertTrace>,
    ) -> Tensor {
        let tape = Tape::forgetting();
        let mut pass = self.pass(&tape, Rows::Cached(rows, cache), None);
        pass.visited = trace.is_some().then(RefCell::default);
        let hidden = self.decode(&pass, None);
        if let (Some(trace), Some(visited)) = (trace, pass.visited) {
            trace.set(rows.tokens.len(), &visited.into_inner());
        }
        hidden
    }

    /// The layers with routed experts, how many each has, and how many of them a token visits; none
    /// if all layers are dense. MTP modules are not counted.
    pub fn experts_shape(&self) -> Option<(Vec<usize>, usize, usize)> {
        let moe_of = |layer: &'_ Block| match &layer.feed_forward {
            FeedForward::Moe(moe) => Some(moe.spec),
            FeedForward::Dense(_) => None,
        };
        let spec = self.layers.iter().find_map(moe_of)?;
        let layers = self.layers.iter().enumerate();
        let sparse = layers.filter(|(_, layer)| moe_of(layer).is_some());
        Some((sparse.map(|(layer_idx, _)| layer_idx).collect(), spec.n_experts, spec.top_k))
    }

    /// Hidden states of the first MTP module, ready for the head: `next_tokens[i]` follows row i.
    /// None if the model has no module.
    ///
    /// Over cached rows see [`Model::mtp_cached`].
    pub fn forward_mtp<'w>(
        &'w self,
        tape: &Tape<'w>,
        rows: Rows<'w>,
        balance: Option<Balance<'w>>,
        hidden: &Tensor,
        next_tokens: &'w [u32],
    ) -> Option<Forward> {
        let mtp = self.mtp.first()?;
        let pass = self.pass(tape, rows, balance);
        let embedded = op::embedding(tape, &self.weights[self.embed], next_tokens);
        let hidden = mtp.forward(&pass, self.layers.len(), &embedded, hidden, None);
        Some(Forward { hidden, loads: pass.loads.into_inner() })
    }

    /// [`Model::forward_mtp`] over packed rows, recorded for the module's own weights alone: neither
    /// the embedding nor `hidden` gets a gradient. Of `rows` only positions and segments count.
    pub fn forward_mtp_alone<'w>(
        &'w self,
        tape: &Tape<'w>,
        rows: &'w PackedRows,
        hidden: &Tensor,
        next_tokens: &[u32],
    ) -> Option<Tensor> {
        let mtp = self.mtp.first()?;
        let pass = self.pass(tape, Rows::Packed(rows), None);
        let aside = Tape::forgetting();
        let embedded = op::embedding(&aside, &self.weights[self.embed], next_tokens);
        Some(mtp.forward(&pass, self.layers.len(), &embedded, &hidden.detached(), None))
    }

    /// Hidden states after the final norm, [N, D]; of `wanted` rows only, if it says which.
    fn decode<'w>(&'w self, pass: &Pass<'_, 'w>, wanted: Option<&[usize]>) -> Tensor {
        let (tape, rows) = (pass.tape, pass.rows);
        let mut h = op::embedding(tape, &pass.weights[self.embed], rows.tokens());
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            let is_last = layer_idx + 1 == self.layers.len();
            h = match tape.is_recomputing() {
                true => self.recomputed_layer(pass, layer_idx, h),
                false => layer.forward(pass, layer_idx, h, wanted.filter(|_| is_last)),
            };
        }
        let eps = self.config.rms_norm_eps as f32;
        op::rms_norm(tape, &h, &pass.weights[self.norm], eps)
    }

    /// A layer of which the tape keeps the input only.
    fn recomputed_layer<'w>(&'w self, pass: &Pass<'_, 'w>, layer_idx: usize, h: Tensor) -> Tensor {
        let (rows, balance) = (pass.rows, pass.balance);
        let (h, loads) = pass.tape.layer(h, move |tape, h| {
            let pass = self.pass(tape, rows, balance);
            let h = self.layers[layer_idx].forward(&pass, layer_idx, h, None);
            (h, pass.loads.into_inner())
        });
        pass.loads.borrow_mut().extend(loads);
        h
    }

    fn pass<'t, 'w>(
        &'w self,
        tape: &'t Tape<'w>,
        rows: Rows<'w>,
        balance: Option<Balance<'w>>,
    ) -> Pass<'t, 'w> {
        assert!(self.precision.is_some(), "the model was not packed since its weights changed");
        Pass {
            tape,
            weights: &self.weights,
            config: &self.config,
            rope: &self.rope,
            rows,
            balance,
            residency: self.residency.as_ref(),
            loads: RefCell::new(Vec::new()),
            visited: None,
        }
    }

    /// The output head, [V, D].
    pub fn head(&self) -> &Weight {
        &self.weights[self.head]
    }

    /// All weights, in checkpoint order; a weight's slot is its place.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// All weights for writing. The model must be packed again before its next pass.
    pub fn weights_mut(&mut self) -> &mut [Weight] {
        self.precision = None;
        &mut self.weights
    }

    /// What each weight is, in the same order as [`Model::weights`].
    pub fn specs(&self) -> &[TensorSpec] {
        &self.specs
    }

    /// Number of values, each counted once.
    pub fn n_parameters(&self) -> usize {
        self.weights.iter().map(Weight::n_elements).sum()
    }

    /// The correction biases of all routers, in layer order, MTP modules last.
    pub fn router_biases_mut(&mut self) -> Vec<&mut Weight> {
        let is_bias: Vec<bool> = self.specs.iter().map(|s| s.role == Role::RouterBias).collect();
        self.weights.iter_mut().zip(is_bias).filter(|(_, is)| *is).map(|(w, _)| w).collect()
    }

    /// Packs all matrices that changed: for inference, or with `training` for backward passes too.
    /// Routers are always multiplied in f32.
    pub fn pack(&mut self, precision: Precision, training: bool) {
        let specs = &self.specs;
        fathom_tensor::pack_all(&mut self.weights, training, |at, weight| match specs[at].role {
            Role::Router => Some(Precision::F32),
            _ => (weight.shape.len() == 2).then_some(precision),
        });
        self.precision = Some(precision);
    }

    /// [`Model::forward_mtp`] over the next rows of cached sequences: hidden states only, after the
    /// module's norm; of `wanted` rows, if it says which. The others leave what later rows need and no more, so
    /// that catching up is cheap. None if the model has no module.
    ///
    /// The slot of position p in the module's own layer holds row p: h_p with the token at p + 1. Every earlier row
    /// must have run before.
    ///
    /// Panics if the cache has no layer for the module ([`CacheSpec::n_mtp_layers`]), or a wanted row is outside.
    pub fn mtp_cached(
        &self,
        rows: &CachedRows,
        cache: &RefCell<KvCache>,
        hidden: &Tensor,
        next_tokens: &[u32],
        wanted: Option<&[usize]>,
    ) -> Option<Tensor> {
        let mtp = self.mtp.first()?;
        assert!(cache.borrow().spec().n_mtp_layers > 0, "the cache has no layer for MTP");
        let tape = Tape::forgetting();
        let pass = self.pass(&tape, Rows::Cached(rows, cache), None);
        let embedded = op::embedding(&tape, &self.weights[self.embed], next_tokens);
        Some(mtp.forward(&pass, self.layers.len(), &embedded, hidden, wanted))
    }

    /// Whether the model was read with an MTP module.
    pub fn has_mtp(&self) -> bool {
        !self.mtp.is_empty()
    }

    /// Packs for inference with a cache of the given form, and returns what a token takes in it: in
    /// the first MTP module too, if the model has one.
    pub fn pack_for_cache(&mut self, precision: Precision, form: CacheForm) -> CacheSpec {
        self.pack(precision, false);
        let n_mtp_layers = self.mtp.len().min(1);
        let spec = CacheSpec { n_mtp_layers, ..CacheSpec::new(&self.config, form) };
        if spec.form == CacheForm::Latent {
            let of_modules = self.mtp.iter_mut().take(n_mtp_layers).map(|mtp| &mut mtp.block);
            for layer in self.layers.iter_mut().chain(of_modules) {
                layer.absorb(precision);
            }
        }
        spec
    }

    /// From now on the input of every FP8 matrix is rounded to FP8 too, in the scale format that
    /// `config.json` names: how DeepSeek serves these checkpoints. Returns the number of such matrices.
    pub fn quantize_activations(&mut self) -> usize {
        let kind = match self.config.quantization_config.map(|fp8| fp8.scale_fmt) {
            Some(ScaleFmt::Ue8m0) => ScaleKind::PowerOfTwo,
            _ => ScaleKind::F32,
        };
        let is_fp8 = |w: &&mut Weight| w.as_stored().is_some_and(|m| m.format == Format::F8E4M3);
        let fp8 = self.weights.iter_mut().filter(is_fp8);
        fp8.map(|weight| weight.quantize_input(kind)).count()
    }

    /// Precision of the packed matrices; none if weights changed since.
    pub fn precision(&self) -> Option<Precision> {
        self.precision
    }
}

/// The rotary embedding of a configuration.
pub(crate) fn rope_of(config: &Config) -> Rope {
    let spec = config.rope();
    let scaling = match spec.scaling {
        None => Scaling::None,
        Some(RopeScaling::Linear { factor }) => Scaling::Linear { factor },
        Some(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
        }) => Scaling::Yarn(Yarn {
            factor,
            original_max_position_embeddings: original_max_position_embeddings as f64,
            beta_fast,
            beta_slow,
            mscale,
            mscale_all_dim,
        }),
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        }) => Scaling::Llama3(Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: original_max_position_embeddings as f64,
        }),
    };
    let layout = match spec.layout {
        RopeLayout::HalfSplit => Layout::HalfSplit,
        RopeLayout::Interleaved => Layout::Interleaved,
    };
    Rope { table: RopeTable::new(&RopeSpec { dim: spec.dim, theta: spec.theta, scaling }), layout }
}
