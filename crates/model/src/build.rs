//! From a configuration and a source of values to a model: layers take their weights by name.

use crate::config::{Attention, Config, Gate};
use crate::error::Error;
use crate::layer::{AttentionKind, Block, FeedForward, Gqa, Mla, Mlp, Moe, Mtp, Query};
use crate::model::{Model, rope_of};
use crate::names::{self, Initial, TensorSpec, in_expert, in_layer};
use fathom_kernels::gate::{GateSpec, Scoring, Selection};
use fathom_tensor::Weight;
use fathom_tensor::random::Random;
use std::collections::BTreeMap;

impl Model {
    /// A model with random weights: normal of `initializer_range`, norms one, biases zero.
    /// The same seed gives the same bits.
    pub fn random(config: Config, seed: u64) -> Result<Model, Error> {
        let std = config.initializer_range;
        Model::build(config, |place, spec| {
            let n = spec.shape.iter().product();
            Ok(match spec.role.initial() {
                Initial::Normal => Random::from_key(&[seed, place as u64]).normals(n, std),
                Initial::Ones => vec![1.0; n],
                Initial::Zeros => vec![0.0; n],
            })
        })
    }

    /// A model whose values come from `source`, asked once per tensor in checkpoint order.
    /// Copies that the MTP module shares with the main model are not asked for.
    pub fn build(
        config: Config,
        mut source: impl FnMut(usize, &TensorSpec) -> Result<Vec<f32>, Error>,
    ) -> Result<Model, Error> {
        Model::build_with(config, |slot, spec| {
            Ok(Weight::new(&spec.name, &spec.shape, slot, source(slot, spec)?))
        })
    }

    /// [`Model::build`] of weights that may be stored.
    pub(crate) fn build_with(
        config: Config,
        mut source: impl FnMut(usize, &TensorSpec) -> Result<Weight, Error>,
    ) -> Result<Model, Error> {
        config.check().map_err(Error::Config)?;
        let specs: Vec<TensorSpec> =
            names::tensors(&config).into_iter().filter(|spec| !spec.role.is_copy()).collect();
        let mut weights = Vec::with_capacity(specs.len());
        for (slot, spec) in specs.iter().enumerate() {
            weights.push(source(slot, spec)?);
        }
        let places = Places(specs.iter().enumerate().map(|(i, s)| (s.name.clone(), i)).collect());
        let n_layers = config.num_hidden_layers;
        let embed = places.of(names::EMBED);
        let layers = (0..n_layers).map(|l| places.block(&config, l)).collect();
        let mtp = (n_layers..n_layers + config.num_nextn_predict_layers)
            .map(|l| places.mtp(&config, l))
            .collect();
        Ok(Model {
            embed,
            head: if config.tie_word_embeddings { embed } else { places.of(names::LM_HEAD) },
            norm: places.of(names::NORM),
            layers,
            mtp,
            rope: rope_of(&config),
            config,
            weights,
            specs,
            precision: None,
            residency: None,
        })
    }
}

/// Where each name stands in the list of weights.
struct Places(BTreeMap<String, usize>);

impl Places {
    fn of(&self, name: &str) -> usize {
        *self.0.get(name).unwrap_or_else(|| panic!("`names::tensors` lists no `{name}`"))
    }

    fn in_layer(&self, layer: usize, rest: &str) -> usize {
        self.of(&in_layer(layer, rest))
    }

    fn block(&self, config: &Config, layer: usize) -> Block {
        Block {
            input_layernorm: self.in_layer(layer, "input_layernorm.weight"),
            attention: self.attention(config, layer),
            post_attention_layernorm: self.in_layer(layer, "post_attention_layernorm.weight"),
            feed_forward: if config.is_moe_layer(layer) {
                FeedForward::Moe(self.moe(config, layer))
            } else {
                FeedForward::Dense(self.mlp(layer, "mlp"))
            },
        }
    }

    fn attention(&self, config: &Config, layer: usize) -> AttentionKind {
        let at = |rest: &str| self.in_layer(layer, &format!("self_attn.{rest}"));
        match config.attention() {
            Attention::Gqa { bias, .. } => AttentionKind::Gqa(Gqa {
                q_proj: at("q_proj.weight"),
                k_proj: at("k_proj.weight"),
                v_proj: at("v_proj.weight"),
                o_proj: at("o_proj.weight"),
                biases: bias.then(|| [at("q_proj.bias"), at("k_proj.bias"), at("v_proj.bias")]),
            }),
            Attention::Mla { q_lora_rank, .. } => AttentionKind::Mla(Mla {
                query: match q_lora_rank {
                    None => Query::Full(at("q_proj.weight")),
                    Some(_) => Query::LowRank {
                        q_a_proj: at("q_a_proj.weight"),
                        q_a_layernorm: at("q_a_layernorm.weight"),
                        q_b_proj: at("q_b_proj.weight"),
                    },
                },
                kv_a_proj: at("kv_a_proj_with_mqa.weight"),
                kv_a_layernorm: at("kv_a_layernorm.weight"),
                kv_b_proj: at("kv_b_proj.weight"),
                o_proj: at("o_proj.weight"),
                absorbed: None,
            }),
        }
    }

    fn mlp(&self, layer: usize, prefix: &str) -> Mlp {
        let at = |proj: &str| self.in_layer(layer, &format!("{prefix}.{proj}.weight"));
        Mlp { gate_proj: at("gate_proj"), up_proj: at("up_proj"), down_proj: at("down_proj") }
    }

    fn moe(&self, config: &Config, layer: usize) -> Moe {
        let n_experts = config.n_routed_experts.expect("MoE layers have routed experts");
        let expert = |e: usize| {
            let at = |proj: &str| self.of(&in_expert(layer, e, proj));
            Mlp { gate_proj: at("gate_proj"), up_proj: at("up_proj"), down_proj: at("down_proj") }
        };
        Moe {
            gate: self.in_layer(layer, "mlp.gate.weight"),
            bias: (config.gate() == Gate::SigmoidNoAuxTc)
                .then(|| self.in_layer(layer, "mlp.gate.e_score_correction_bias")),
            experts: (0..n_experts).map(expert).collect(),
            shared: (config.n_shared_experts > 0).then(|| self.mlp(layer, "mlp.shared_experts")),
            spec: gate_spec(config, n_experts),
        }
    }

    fn mtp(&self, config: &Config, layer: usize) -> Mtp {
        Mtp {
            enorm: self.in_layer(layer, "enorm.weight"),
            hnorm: self.in_layer(layer, "hnorm.weight"),
            eh_proj: self.in_layer(layer, "eh_proj.weight"),
            block: self.block(config, layer),
            norm: self.in_layer(layer, "shared_head.norm.weight"),
        }
    }
}

fn gate_spec(config: &Config, n_experts: usize) -> GateSpec {
    let (n_group, topk_group) = (config.n_group, config.topk_group);
    let (scoring, selection) = match config.gate() {
        Gate::SoftmaxGreedy => (Scoring::Softmax, Selection::Greedy),
        Gate::SoftmaxGroupLimited => {
            (Scoring::Softmax, Selection::GroupLimitedGreedy { n_group, topk_group })
        }
        Gate::SigmoidNoAuxTc => (Scoring::Sigmoid, Selection::NoauxTc { n_group, topk_group }),
    };
    GateSpec {
        n_experts,
        top_k: config.num_experts_per_tok,
        scoring,
        selection,
        norm_topk_prob: config.norm_topk_prob,
        routed_scaling_factor: config.routed_scaling_factor as f32,
    }
}
