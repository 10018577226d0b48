//! The table of tensors: names and shapes of a checkpoint, for a given configuration.
//!
//! Names are those of the released checkpoints; a matrix is `[out, in]`. Legend: V `vocab_size`,
//! d `hidden_size`, E `n_routed_experts`, L `num_hidden_layers`.
//!
//! Order: embedding, layers, final norm, head (unless tied), MTP layers. In a layer: norm,
//! attention, norm, MLP (gate, its bias, experts, shared experts). In an MTP layer: `enorm`,
//! `hnorm`, the copy of the embedding, `eh_proj`, an ordinary layer, `shared_head` (norm, then the
//! copy of the head).

use crate::config::{Attention, Config, Gate};

/// Embedding, `[V, d]`.
pub const EMBED: &str = "model.embed_tokens.weight";
/// Norm after the last layer, `[d]`.
pub const NORM: &str = "model.norm.weight";
/// Output matrix, `[V, d]`; absent where it is tied to the embedding.
pub const LM_HEAD: &str = "lm_head.weight";
/// `X.weight` quantised to FP8 has its block multipliers in `X.weight_scale_inv`.
pub const SCALE_SUFFIX: &str = "_scale_inv";

/// One tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
    pub role: Role,
    /// `None` outside the layers.
    pub layer: Option<usize>,
    /// Index of a routed expert.
    pub expert: Option<usize>,
    /// Whether it belongs to the multi-token prediction module.
    pub mtp: bool,
}

/// What a tensor does; it decides initial value, precision and counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Embedding,
    Head,
    Norm,
    /// Any matrix of attention, MLP or expert.
    Matrix,
    Bias,
    /// `mlp.gate.weight`, `[E, d]`.
    Router,
    /// `mlp.gate.e_score_correction_bias`, `[E]`: f32 in every checkpoint, moved by load.
    RouterBias,
    /// The MTP module's `[d, 2d]`.
    EhProj,
    /// The MTP module's stored copy of the embedding.
    EmbeddingCopy,
    /// The MTP module's stored copy of the head.
    HeadCopy,
}

/// Initial values of a fresh tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// Normal with deviation `initializer_range`.
    Normal,
    Ones,
    Zeros,
}

impl Role {
    pub fn initial(self) -> Initial {
        match self {
            Self::Norm => Initial::Ones,
            Self::Bias | Self::RouterBias => Initial::Zeros,
            _ => Initial::Normal,
        }
    }

    /// Whether the tensor repeats another one of the same file.
    pub fn is_copy(self) -> bool {
        matches!(self, Self::EmbeddingCopy | Self::HeadCopy)
    }

    /// Whether FP8 checkpoints store it in blocks.
    pub fn quantised(self) -> bool {
        self == Self::Matrix
    }
}

impl TensorSpec {
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Heads of q and k of grouped attention, whose rows are rotated and may stand in either order.
    pub(crate) fn rotated_heads(&self, config: &Config) -> Option<usize> {
        if self.name.contains(".self_attn.q_proj.") {
            return Some(config.num_attention_heads);
        }
        self.name.contains(".self_attn.k_proj.").then_some(config.num_key_value_heads)
    }
}

/// `model.layers.{layer}.{rest}`
pub fn in_layer(layer: usize, rest: &str) -> String {
    format!("model.layers.{layer}.{rest}")
}

/// `model.layers.{layer}.mlp.experts.{expert}.{proj}.weight`
pub fn in_expert(layer: usize, expert: usize, proj: &str) -> String {
    format!("model.layers.{layer}.mlp.experts.{expert}.{proj}.weight")
}

/// Every tensor that a checkpoint of this configuration holds, in the order documented above.
pub fn tensors(config: &Config) -> Vec<TensorSpec> {
    let (vocab, width, depth) = (config.vocab_size, config.hidden_size, config.num_hidden_layers);
    let mut table = Table { specs: Vec::new(), layer: None, expert: None, mtp: false };
    table.put(EMBED.to_owned(), &[vocab, width], Role::Embedding);
    for layer in 0..depth {
        table.layer = Some(layer);
        put_layer(&mut table, config, layer);
    }
    table.layer = None;
    table.put(NORM.to_owned(), &[width], Role::Norm);
    if !config.tie_word_embeddings {
        table.put(LM_HEAD.to_owned(), &[vocab, width], Role::Head);
    }
    table.mtp = true;
    for layer in depth..depth + config.num_nextn_predict_layers {
        table.layer = Some(layer);
        table.put_in(layer, "enorm.weight", &[width], Role::Norm);
        table.put_in(layer, "hnorm.weight", &[width], Role::Norm);
        table.put_in(layer, "embed_tokens.weight", &[vocab, width], Role::EmbeddingCopy);
        table.put_in(layer, "eh_proj.weight", &[width, 2 * width], Role::EhProj);
        put_layer(&mut table, config, layer);
        table.put_in(layer, "shared_head.norm.weight", &[width], Role::Norm);
        table.put_in(layer, "shared_head.head.weight", &[vocab, width], Role::HeadCopy);
    }
    table.specs
}

/// Whether a name outside the table may be met and skipped: rotary tables of old checkpoints, and
/// the head of a model that ties it to the embedding.
pub fn is_ignorable(config: &Config, name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (config.tie_word_embeddings && name == LM_HEAD)
}

/// The table being filled, with the place that the next tensors belong to.
struct Table {
    specs: Vec<TensorSpec>,
    layer: Option<usize>,
    expert: Option<usize>,
    mtp: bool,
}

impl Table {
    fn put(&mut self, name: String, shape: &[usize], role: Role) {
        let (layer, expert, mtp) = (self.layer, self.expert, self.mtp);
        self.specs.push(TensorSpec { name, shape: shape.to_vec(), role, layer, expert, mtp });
    }

    fn put_in(&mut self, layer: usize, rest: &str, shape: &[usize], role: Role) {
        self.put(in_layer(layer, rest), shape, role);
    }

    fn put_mlp(&mut self, layer: usize, prefix: &str, width: usize, inner: usize) {
        let mut matrix = |proj: &str, shape: [usize; 2]| {
            self.put_in(layer, &format!("{prefix}.{proj}.weight"), &shape, Role::Matrix);
        };
        matrix("gate_proj", [inner, width]);
        matrix("up_proj", [inner, width]);
        matrix("down_proj", [width, inner]);
    }
}

fn put_layer(table: &mut Table, config: &Config, layer: usize) {
    let width = config.hidden_size;
    table.put_in(layer, "input_layernorm.weight", &[width], Role::Norm);
    put_attention(table, config, layer);
    table.put_in(layer, "post_attention_layernorm.weight", &[width], Role::Norm);
    match config.n_routed_experts {
        Some(n_experts) if config.is_moe_layer(layer) => {
            put_experts(table, config, layer, n_experts);
        }
        _ => table.put_mlp(layer, "mlp", width, config.intermediate_size),
    }
}

fn put_attention(table: &mut Table, config: &Config, layer: usize) {
    let width = config.hidden_size;
    let mut put = |name: &str, shape: &[usize], role| {
        table.put_in(layer, &format!("self_attn.{name}"), shape, role);
    };
    match config.attention() {
        Attention::Gqa { num_attention_heads, num_key_value_heads, head_dim, bias } => {
            let queries = num_attention_heads * head_dim;
            let keys = num_key_value_heads * head_dim;
            for (proj, rows) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
                put(&format!("{proj}.weight"), &[rows, width], Role::Matrix);
                if bias {
                    put(&format!("{proj}.bias"), &[rows], Role::Bias);
                }
            }
            put("o_proj.weight", &[width, queries], Role::Matrix);
        }
        Attention::Mla {
            num_attention_heads: heads,
            q_lora_rank,
            kv_lora_rank,
            qk_nope_head_dim,
            qk_rope_head_dim,
            v_head_dim,
        } => {
            let queries = heads * (qk_nope_head_dim + qk_rope_head_dim);
            match q_lora_rank {
                Some(rank) => {
                    put("q_a_proj.weight", &[rank, width], Role::Matrix);
                    put("q_a_layernorm.weight", &[rank], Role::Norm);
                    put("q_b_proj.weight", &[queries, rank], Role::Matrix);
                }
                None => put("q_proj.weight", &[queries, width], Role::Matrix),
            }
            let latent = kv_lora_rank + qk_rope_head_dim;
            let expanded = heads * (qk_nope_head_dim + v_head_dim);
            put("kv_a_proj_with_mqa.weight", &[latent, width], Role::Matrix);
            put("kv_a_layernorm.weight", &[kv_lora_rank], Role::Norm);
            put("kv_b_proj.weight", &[expanded, kv_lora_rank], Role::Matrix);
            put("o_proj.weight", &[width, heads * v_head_dim], Role::Matrix);
        }
    }
}

fn put_experts(table: &mut Table, config: &Config, layer: usize, n_experts: usize) {
    let (width, inner) = (config.hidden_size, config.moe_intermediate_size);
    table.put_in(layer, "mlp.gate.weight", &[n_experts, width], Role::Router);
    if config.gate() == Gate::SigmoidNoAuxTc {
        let bias = "mlp.gate.e_score_correction_bias";
        table.put_in(layer, bias, &[n_experts], Role::RouterBias);
    }
    for expert in 0..n_experts {
        table.expert = Some(expert);
        table.put_mlp(layer, &format!("mlp.experts.{expert}"), width, inner);
    }
    table.expert = None;
    if config.n_shared_experts > 0 {
        // All shared experts are stored as one wide MLP.
        table.put_mlp(layer, "mlp.shared_experts", width, config.n_shared_experts * inner);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs::{self, File};
    use std::io::Read;
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::*;
    use crate::preset;

    /// Names and shapes in the header of a safetensors file.
    fn header(path: &Path) -> BTreeMap<String, Vec<usize>> {
        let mut file = File::open(path).expect("a shard");
        let mut length = [0u8; 8];
        file.read_exact(&mut length).expect("a length");
        let mut text = vec![0u8; u64::from_le_bytes(length) as usize];
        file.read_exact(&mut text).expect("a header");
        let value: Value = serde_json::from_slice(&text).expect("JSON");
        let entries = value.as_object().expect("an object").iter();
        let tensors = entries.filter(|(name, _)| *name != "__metadata__");
        let shape = |entry: &Value| {
            let sizes = entry["shape"].as_array().expect("a shape").iter();
            sizes.map(|n| n.as_u64().expect("a size") as usize).collect()
        };
        tensors.map(|(name, entry)| (name.clone(), shape(entry))).collect()
    }

    fn golden() -> Vec<PathBuf> {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden");
        let Ok(entries) = fs::read_dir(root) else {
            eprintln!("skipped: {root} is not here");
            return Vec::new();
        };
        let folders = entries.map(|e| e.expect("an entry").path());
        let mut with_config: Vec<_> = folders.filter(|p| p.join("config.json").exists()).collect();
        with_config.sort();
        with_config
    }

    #[test]
    fn the_table_equals_the_headers_of_the_golden_checkpoints() {
        let mut n_text = 0;
        for folder in golden() {
            let text = fs::read_to_string(folder.join("config.json")).expect("config.json");
            let config = match Config::from_text(&text) {
                Ok(config) => config,
                Err(error) => {
                    assert!(text.contains("multi_modality"), "{folder:?}: {error}");
                    assert!(error.to_string().contains("multi_modality"), "{error}");
                    continue;
                }
            };
            n_text += 1;
            let again = Config::from_json(&config.to_json());
            assert_eq!(again.as_ref(), Ok(&config), "{folder:?}");
            let mut found = BTreeMap::new();
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                if name.starts_with("model") && name.ends_with(".safetensors") {
                    found.extend(header(&path));
                }
            }
            check_scales(&config, &found);
            found.retain(|name, _| !is_ignorable(&config, name) && !name.ends_with(SCALE_SUFFIX));
            let table = tensors(&config);
            let n_specs = table.len();
            let expected: BTreeMap<String, Vec<usize>> =
                table.into_iter().map(|spec| (spec.name, spec.shape)).collect();
            assert_eq!(expected.len(), n_specs, "{folder:?} has a name twice");
            assert_eq!(found, expected, "{folder:?}");
        }
        assert!(n_text == 0 || n_text >= 16, "only {n_text} text checkpoints");
    }

    /// Exactly the tensors that a role calls quantised have scales, one per block.
    fn check_scales(config: &Config, found: &BTreeMap<String, Vec<usize>>) {
        let Some(fp8) = config.quantization_config else { return };
        let [rows, columns] = fp8.weight_block_size;
        let expected: BTreeMap<String, Vec<usize>> = tensors(config)
            .iter()
            .filter(|spec| spec.role.quantised())
            .map(|spec| {
                let blocks = vec![spec.shape[0].div_ceil(rows), spec.shape[1].div_ceil(columns)];
                (format!("{}{SCALE_SUFFIX}", spec.name), blocks)
            })
            .collect();
        let scales = found.iter().filter(|(name, _)| name.ends_with(SCALE_SUFFIX));
        assert_eq!(
            scales.map(|(n, s)| (n.clone(), s.clone())).collect::<BTreeMap<_, _>>(),
            expected
        );
    }

    #[test]
    fn the_order_is_the_documented_one() {
        let config = Config {
            num_hidden_layers: 1,
            first_k_dense_replace: 0,
            n_routed_experts: Some(2),
            ..preset::v3()
        };
        let names: Vec<String> = tensors(&config).into_iter().map(|spec| spec.name).collect();
        assert_eq!(names[0], EMBED);
        assert_eq!(names[1], "model.layers.0.input_layernorm.weight");
        assert_eq!(names[2], "model.layers.0.self_attn.q_a_proj.weight");
        assert_eq!(names[10], "model.layers.0.mlp.gate.weight");
        assert_eq!(names[12], in_expert(0, 0, "gate_proj"));
        let norm = names.iter().position(|name| name == NORM).expect("a final norm");
        assert_eq!(names[norm + 1], LM_HEAD);
        assert_eq!(names[norm + 2], "model.layers.1.enorm.weight");
        assert_eq!(
            names.last().map(String::as_str),
            Some("model.layers.1.shared_head.head.weight")
        );
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn a_tied_model_has_no_head_and_forgives_one() {
        let config = Config { tie_word_embeddings: true, ..preset::distill_qwen_1_5b() };
        assert!(tensors(&config).iter().all(|spec| spec.name != LM_HEAD));
        assert!(is_ignorable(&config, LM_HEAD));
        assert!(!is_ignorable(&preset::distill_qwen_1_5b(), LM_HEAD));
        assert!(is_ignorable(&config, "model.layers.0.self_attn.rotary_emb.inv_freq"));
    }
}
