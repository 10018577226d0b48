//! Where a tensor of a release stands in a GGUF file.
//!
//! Layers are `blk.{l}`, MTP layers follow the main ones. Experts of a layer are one tensor
//! `[E, out, in]`; early files have one tensor per expert. `kv_b_proj` is whole in files made before
//! April 2025 and split since: `attn_k_b` `[H, r, Dn]`, each head's keys transposed, and `attn_v_b`
//! `[H, Dv, r]`.

use std::collections::BTreeSet;

use fathom_checkpoint::gguf::{Gguf, GgufTensor};

use crate::config::Config;
use crate::error::Error;
use crate::names::{self, TensorSpec};
use crate::survey::StoredTensor;

/// The place of one tensor of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GgufPlace {
    /// A tensor of its own, of the same shape.
    Whole { name: String },
    /// Number `expert` along the first axis of a tensor `[E, out, in]`.
    Slice { name: String, expert: usize },
    /// `kv_b_proj` in two parts, to be put together.
    SplitKvB { k_b: String, v_b: String },
}

impl GgufPlace {
    /// The tensors of the file that hold it.
    pub fn names(&self) -> Vec<&str> {
        match self {
            GgufPlace::Whole { name } | GgufPlace::Slice { name, .. } => vec![name],
            GgufPlace::SplitKvB { k_b, v_b } => vec![k_b, v_b],
        }
    }
}

/// Every place where a file may have this tensor, the usual one first.
pub fn places(spec: &TensorSpec) -> Vec<GgufPlace> {
    let whole = |name: &str| GgufPlace::Whole { name: name.to_owned() };
    let Some(layer) = spec.layer else {
        return match spec.name.as_str() {
            names::EMBED => vec![whole("token_embd.weight")],
            names::NORM => vec![whole("output_norm.weight")],
            names::LM_HEAD => vec![whole("output.weight")],
            _ => Vec::new(),
        };
    };
    let block = |rest: &str| format!("blk.{layer}.{rest}");
    let prefix = format!("model.layers.{layer}.");
    let Some(rest) = spec.name.strip_prefix(&prefix) else { return Vec::new() };
    if let (Some(expert), Some(proj)) = (spec.expert, projection(rest)) {
        return vec![
            GgufPlace::Slice { name: block(&format!("ffn_{proj}_exps.weight")), expert },
            whole(&block(&format!("ffn_{proj}.{expert}.weight"))),
        ];
    }
    if let Some(part) = rest.strip_prefix("mlp.shared_experts.") {
        return projection(part)
            .map(|proj| vec![whole(&block(&format!("ffn_{proj}_shexp.weight")))])
            .unwrap_or_default();
    }
    match rest {
        "self_attn.kv_b_proj.weight" => vec![
            whole(&block("attn_kv_b.weight")),
            GgufPlace::SplitKvB { k_b: block("attn_k_b.weight"), v_b: block("attn_v_b.weight") },
        ],
        "mlp.gate.e_score_correction_bias" => {
            ["exp_probs_b.bias", "exp_probs_b", "exp_probs_b.weight"]
                .map(|rest| whole(&block(rest)))
                .to_vec()
        }
        // Copies that most files leave out.
        "embed_tokens.weight" => {
            vec![whole(&block("nextn.embed_tokens.weight")), whole("token_embd.weight")]
        }
        "shared_head.head.weight" => vec![
            whole(&block("nextn.shared_head_head.weight")),
            whole("output.weight"),
            whole("token_embd.weight"),
        ],
        _ => IN_BLOCK
            .iter()
            .find_map(|(ours, theirs)| rest.strip_prefix(ours).map(|kind| (theirs, kind)))
            .filter(|(_, kind)| matches!(*kind, ".weight" | ".bias"))
            .map(|(theirs, kind)| vec![whole(&block(&format!("{theirs}{kind}")))])
            .unwrap_or_default(),
    }
}

/// Names in a layer without `.weight` or `.bias`: ours and theirs.
const IN_BLOCK: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_a_proj", "attn_q_a"),
    ("self_attn.q_a_layernorm", "attn_q_a_norm"),
    ("self_attn.q_b_proj", "attn_q_b"),
    ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"),
    ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
    ("eh_proj", "nextn.eh_proj"),
    ("enorm", "nextn.enorm"),
    ("hnorm", "nextn.hnorm"),
    ("shared_head.norm", "nextn.shared_head_norm"),
];

/// `gate`, `up` or `down` of `….gate_proj.weight` and its siblings.
fn projection(rest: &str) -> Option<&'static str> {
    let proj = rest.strip_suffix("_proj.weight")?;
    ["gate", "up", "down"].into_iter().find(|name| proj.rsplit('.').next() == Some(name))
}

/// The place where this file has the tensor. Errors: `MissingTensor`, by the usual name.
pub fn find(gguf: &Gguf, spec: &TensorSpec) -> Result<GgufPlace, Error> {
    let mut places = places(spec);
    let there = |place: &GgufPlace| place.names().iter().all(|name| gguf.contains(name));
    if let Some(at) = places.iter().position(there) {
        return Ok(places.swap_remove(at));
    }
    let name = places.first().map_or(spec.name.as_str(), |place| place.names()[0]);
    match gguf.tensor(name) {
        Err(error) => Err(error.into()),
        // A split `kv_b_proj` of which one half is there.
        Ok(_) => Ok(places.swap_remove(0)),
    }
}

/// Tensors of the file that a model of `config` has no place for, in the order of the file.
pub fn unknown(gguf: &Gguf, config: &Config) -> Vec<String> {
    let known: BTreeSet<String> = names::tensors(config)
        .iter()
        .flat_map(places)
        .flat_map(|place| place.names().into_iter().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let unknown = |tensor: &GgufTensor<'_>| !known.contains(tensor.name()) && !is_table(tensor);
    gguf.tensors().filter(unknown).map(|tensor| tensor.name().to_owned()).collect()
}

/// Tables of rotary embedding, which the configuration already covers.
fn is_table(tensor: &GgufTensor<'_>) -> bool {
    let name = tensor.name();
    name == super::config::ROPE_FREQS || name.ends_with(".attn_rot_embd") || {
        name.ends_with(".attn_rot_embd.weight") || name.ends_with(".rope_freqs.weight")
    }
}

/// What the file holds, under the names of the releases: for [`crate::survey::survey`].
///
/// A `kv_b_proj` in two parts counts the bytes of both, a tensor that stands for two releases' ones
/// counts once; what has no place keeps its own name.
pub fn stored_tensors(gguf: &Gguf, config: &Config) -> Vec<StoredTensor> {
    let mut stored = Vec::new();
    let mut counted = BTreeSet::new();
    for spec in names::tensors(config) {
        let place = places(&spec)
            .into_iter()
            .find(|place| place.names().iter().all(|name| gguf.contains(name)));
        let Some(place) = place else { continue };
        let tensors: Vec<GgufTensor<'_>> =
            place.names().into_iter().filter_map(|name| gguf.tensor(name).ok()).collect();
        let slice = matches!(place, GgufPlace::Slice { .. });
        let fresh = tensors.iter().filter(|tensor| counted.insert(tensor.name()) || slice);
        let bytes = fresh.map(bytes_of).sum::<u64>();
        let first = tensors[0];
        let (shape, bytes) = match &place {
            GgufPlace::Whole { .. } => (super::read::like(first.shape(), &spec.shape), bytes),
            GgufPlace::Slice { .. } => {
                let n = first.shape().first().copied().unwrap_or(1).max(1);
                (first.shape().get(1..).unwrap_or(&[]).to_vec(), bytes / n as u64)
            }
            GgufPlace::SplitKvB { .. } => (spec.shape.clone(), bytes),
        };
        stored.push(StoredTensor { name: spec.name, shape, dtype: dtype_of(&first), bytes });
    }
    let rest = unknown(gguf, config);
    stored.extend(rest.into_iter().filter_map(|name| {
        let tensor = gguf.tensor(&name).ok()?;
        let (shape, bytes) = (tensor.shape().to_vec(), bytes_of(&tensor));
        Some(StoredTensor { name, shape, dtype: dtype_of(&tensor), bytes })
    }));
    stored
}

fn bytes_of(tensor: &GgufTensor<'_>) -> u64 {
    tensor.byte_range().map_or(0, |range| range.len() as u64)
}

fn dtype_of(tensor: &GgufTensor<'_>) -> &'static str {
    tensor.ggml_type().map_or("unknown", |format| format.name)
}
