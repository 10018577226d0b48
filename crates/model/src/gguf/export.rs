//! Writing a model as a GGUF that llama.cpp loads: its names, its order of rows, experts of a layer
//! in one tensor, `kv_b_proj` in two parts. Tensors stream from the source, one expert at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fathom_checkpoint::gguf::{NewTensor, Sink, write_split};
use fathom_kernels::quant::Format;
use fathom_kernels::stored::{Matrix, encode};

use super::config::{ROPE_FREQS, llama3_divisors};
use super::metadata::{Vocabulary, metadata};
use super::names::{GgufPlace, places};
use super::permute::half_split_to_interleaved;
use crate::config::{Attention, Config, ConfigError, Family, RopeScaling};
use crate::error::Error;
use crate::load::{six_bits_at_least, with_smaller_blocks};
use crate::names::{self, Role, TensorSpec};

/// A tensor of a release, as the source of an export gives it.
pub enum ExportSource {
    /// Values, row after row.
    F32(Vec<f32>),
    /// A matrix as it is stored; where its format is the wanted one, its bytes are copied.
    Stored(Matrix),
}

/// What is written, and how.
struct Export<'a> {
    config: &'a Config,
    source: &'a dyn Fn(&TensorSpec) -> Result<ExportSource, Error>,
}

/// Writes `prefix.gguf`, or `prefix-0000i-of-0000n.gguf` if the tensors take more than `max_bytes`.
/// Returns the paths.
///
/// `source` gives the values of a tensor of [`names::tensors`]; `format` is that of the matrices,
/// where a row fits ([`export_format`]). Norms, biases and routers are written as f32. The MTP
/// layers of `config` are written too: set `num_nextn_predict_layers` to 0 for programs that
/// refuse them.
/// Errors: what GGUF has no words for, those of `source`, and of writing.
pub fn export(
    config: &Config,
    name: &str,
    vocabulary: Option<&Vocabulary>,
    format: Format,
    source: &dyn Fn(&TensorSpec) -> Result<ExportSource, Error>,
    prefix: impl AsRef<Path>,
    max_bytes: u64,
) -> Result<Vec<PathBuf>, Error> {
    config.check().and_then(|()| check_expressible(config)).map_err(Error::Config)?;
    let n_tokens = vocabulary.map_or(0, |vocabulary| vocabulary.tokens.len());
    if n_tokens > config.vocab_size {
        return Err(Error::Config(ConfigError::Exceeds {
            field: "tokens of the vocabulary",
            value: n_tokens,
            limit_field: "vocab_size",
            limit: config.vocab_size,
            hint: "the tokenizer belongs to another model",
        }));
    }
    let words = metadata(config, name, vocabulary, format);
    let export = Export { config, source };
    write_split(prefix, &words, export.tensors(format), max_bytes)
}

/// Refuses what other programs would compute differently for want of a word.
fn check_expressible(config: &Config) -> Result<(), ConfigError> {
    let refuse = |field: &str, found: String, hint| {
        Err(ConfigError::Unsupported { field: field.to_owned(), found, hint })
    };
    if config.moe_layer_freq != 1 && config.n_routed_experts.is_some() {
        let hint = "gguf has no word for it; every release has 1";
        return refuse("moe_layer_freq", config.moe_layer_freq.to_string(), hint);
    }
    if let Some(RopeScaling::Yarn { mscale, mscale_all_dim, .. }) = config.rope_scaling {
        let latent = config.kv_lora_rank.is_some();
        if latent && mscale != mscale_all_dim {
            let hint = "gguf has one word for both `mscale`s, which are equal in every release";
            return refuse("rope_scaling.mscale", mscale.to_string(), hint);
        }
        if !latent && (mscale, mscale_all_dim) != (1.0, 0.0) {
            let hint = "gguf knows `mscale` in latent attention only";
            return refuse("rope_scaling.mscale", mscale.to_string(), hint);
        }
    }
    Ok(())
}

/// The format in which a tensor is written where `wanted` is asked for: f32 for what is no large
/// matrix, `wanted` where its blocks fill rows, else llama.cpp's next best with smaller blocks.
pub fn export_format(wanted: Format, role: Role, n_in: usize) -> Format {
    match role {
        Role::Norm | Role::Bias | Role::RouterBias | Role::Router => Format::F32,
        // What every token goes through gets six bits at least, as where models are quantised while
        // loading (`requantized_format`).
        Role::Embedding | Role::Head => fitting(six_bits_at_least(wanted), n_in),
        _ => fitting(wanted, n_in),
    }
}

fn fitting(wanted: Format, n_in: usize) -> Format {
    // GGUF has no eight-bit floats; they get eight bits in blocks.
    [wanted, with_smaller_blocks(wanted), Format::F16]
        .into_iter()
        .find(|f| f.ggml_type().is_some() && f.row_bytes(n_in).is_some())
        .unwrap_or(Format::F16)
}

impl<'a> Export<'a> {
    fn tensors(&'a self, wanted: Format) -> Vec<NewTensor<'a, Error>> {
        let mut tensors = Vec::new();
        if let Some(scaling @ RopeScaling::Llama3 { .. }) = self.config.rope_scaling {
            let bytes = f32_bytes(&llama3_divisors(self.config, scaling));
            let n = bytes.len() / 4;
            tensors.push(NewTensor::new(
                ROPE_FREQS,
                &[n],
                Format::F32,
                move |sink: &mut Sink<'_>| Ok(sink.put(&bytes)?),
            ));
        }
        // Experts by the tensor they share, in the order of the first of each.
        let mut order: Vec<String> = Vec::new();
        let mut experts: BTreeMap<String, Vec<TensorSpec>> = BTreeMap::new();
        for spec in names::tensors(self.config) {
            let n_in = *spec.shape.last().expect("every tensor has a shape");
            let format = export_format(wanted, spec.role, n_in);
            match self.place(&spec) {
                GgufPlace::Whole { name } => {
                    let shape = spec.shape.clone();
                    tensors.push(NewTensor::new(
                        name,
                        &shape,
                        format,
                        move |sink: &mut Sink<'_>| self.put(&spec, format, sink),
                    ));
                }
                GgufPlace::Slice { name, .. } => {
                    let specs = experts.entry(name.clone()).or_default();
                    if specs.is_empty() {
                        order.push(name);
                    }
                    specs.push(spec);
                }
                GgufPlace::SplitKvB { k_b, v_b } => {
                    tensors.extend(self.split_kv_b(spec, wanted, [k_b, v_b]));
                }
            }
        }
        for name in order {
            let specs = experts.remove(&name).expect("listed when it was filled");
            let [n_out, n_in] = [specs[0].shape[0], specs[0].shape[1]];
            let format = export_format(wanted, specs[0].role, n_in);
            let shape = [specs.len(), n_out, n_in];
            tensors.push(NewTensor::new(name, &shape, format, move |sink: &mut Sink<'_>| {
                specs.iter().try_for_each(|spec| self.put(spec, format, sink))
            }));
        }
        tensors
    }

    /// The usual place, except that `kv_b_proj` is written in two parts.
    fn place(&self, spec: &TensorSpec) -> GgufPlace {
        let mut places = places(spec);
        let split = places.iter().position(|p| matches!(p, GgufPlace::SplitKvB { .. }));
        assert!(!places.is_empty(), "`{}` has a place in every GGUF", spec.name);
        places.swap_remove(split.unwrap_or(0))
    }

    /// Writes one tensor as `format`, rows of q and k in the order of the architecture.
    fn put(&self, spec: &TensorSpec, format: Format, sink: &mut Sink<'_>) -> Result<(), Error> {
        let heads = self.permuted_heads(spec);
        // A row of a vector is one element.
        let n_in = if spec.shape.len() == 1 { 1 } else { spec.shape[1] };
        match (self.source)(spec)? {
            ExportSource::Stored(matrix)
                if matrix.format == format && matrix.scales().is_none() =>
            {
                let bytes = matrix.bytes();
                match heads {
                    Some(n) => {
                        let row = format.row_bytes(n_in).expect("a stored row has whole blocks");
                        sink.put(&half_split_to_interleaved(bytes, n, row))?;
                    }
                    None => sink.put(bytes)?,
                }
            }
            values => {
                let mut values = values.into_f32();
                if let Some(n) = heads {
                    values = half_split_to_interleaved(&values, n, n_in);
                }
                put_values(&values, format, sink)?;
            }
        }
        Ok(())
    }

    /// Heads of a tensor whose rows must be brought from half-split to interleaved order.
    fn permuted_heads(&self, spec: &TensorSpec) -> Option<usize> {
        let config = self.config;
        let interleaved = matches!(config.model_type, Family::Llama | Family::Deepseek);
        if !interleaved || config.rope_interleave {
            return None;
        }
        spec.rotated_heads(config)
    }

    /// `attn_k_b` `[H, r, Dn]`, transposed in each head, and `attn_v_b` `[H, Dv, r]`.
    fn split_kv_b(
        &'a self,
        spec: TensorSpec,
        wanted: Format,
        [k_b, v_b]: [String; 2],
    ) -> [NewTensor<'a, Error>; 2] {
        let Attention::Mla {
            num_attention_heads: heads,
            kv_lora_rank: rank,
            qk_nope_head_dim: d_nope,
            v_head_dim: d_v,
            ..
        } = self.config.attention()
        else {
            unreachable!("only latent attention has a `kv_b_proj`")
        };
        let per_head = (d_nope + d_v) * rank;
        let values = spec.clone();
        let (k_format, v_format) = (fitting(wanted, d_nope), fitting(wanted, rank));
        let put_keys = move |sink: &mut Sink<'_>| -> Result<(), Error> {
            let kv_b = (self.source)(&spec)?.into_f32();
            for head in kv_b.chunks_exact(per_head) {
                let column = |j: usize| (0..d_nope).map(move |i| head[i * rank + j]);
                let transposed: Vec<f32> = (0..rank).flat_map(column).collect();
                put_values(&transposed, k_format, sink)?;
            }
            Ok(())
        };
        let put_values_of = move |sink: &mut Sink<'_>| -> Result<(), Error> {
            let kv_b = (self.source)(&values)?.into_f32();
            for head in kv_b.chunks_exact(per_head) {
                put_values(&head[d_nope * rank..], v_format, sink)?;
            }
            Ok(())
        };
        [
            NewTensor::new(k_b, &[heads, rank, d_nope], k_format, put_keys),
            NewTensor::new(v_b, &[heads, d_v, rank], v_format, put_values_of),
        ]
    }
}

impl ExportSource {
    fn into_f32(self) -> Vec<f32> {
        match self {
            ExportSource::F32(values) => values,
            ExportSource::Stored(matrix) => matrix.to_f32(),
        }
    }
}

/// Values turned before their bytes are written, a whole number of blocks of any format.
const CHUNK: usize = 1 << 22;

fn put_values(values: &[f32], format: Format, sink: &mut Sink<'_>) -> Result<(), Error> {
    for chunk in values.chunks(CHUNK) {
        sink.put(&encode(chunk, format))?;
    }
    Ok(())
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
