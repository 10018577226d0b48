//! What a checkpoint's headers hold against what its configuration implies, without reading weights.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::names::{self, SCALE_SUFFIX};

/// One tensor as a header describes it. Names and shapes are those of the released checkpoints,
/// whatever the file format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// Name of the element or block format, as the file calls it.
    pub dtype: &'static str,
    pub bytes: u64,
}

/// A tensor of another shape than the configuration implies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    pub name: String,
    pub expected: Vec<usize>,
    pub found: Vec<usize>,
}

/// Tensors and bytes of one format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DtypeShare {
    pub dtype: &'static str,
    pub n_tensors: u64,
    pub bytes: u64,
}

/// The comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    pub n_tensors: u64,
    pub bytes: u64,
    /// By bytes, largest first.
    pub dtypes: Vec<DtypeShare>,
    /// In the order of the table; without the MTP module.
    pub missing: Vec<String>,
    /// The MTP module's, which a model can do without.
    pub missing_mtp: Vec<String>,
    pub misshapen: Vec<Misshapen>,
    /// In the order of the file; without those that are known to be of no use.
    pub unknown: Vec<String>,
}

impl Survey {
    /// Whether a model can be built of it.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty()
    }
}

/// Compares the tensors of a checkpoint with the table of a checked configuration.
pub fn survey(config: &Config, stored: &[StoredTensor]) -> Survey {
    let mut survey = Survey {
        n_tensors: stored.len() as u64,
        bytes: stored.iter().map(|tensor| tensor.bytes).sum(),
        dtypes: dtypes(stored),
        ..Survey::default()
    };
    let mut left: BTreeMap<&str, &StoredTensor> =
        stored.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    for spec in names::tensors(config) {
        let scale = format!("{}{SCALE_SUFFIX}", spec.name);
        let Some(tensor) = left.remove(spec.name.as_str()) else {
            left.remove(scale.as_str());
            let missing = if spec.mtp { &mut survey.missing_mtp } else { &mut survey.missing };
            missing.push(spec.name);
            continue;
        };
        if tensor.dtype.starts_with("F8_") {
            let expected = scale_shape(config, &spec.shape);
            match (left.remove(scale.as_str()), expected) {
                (Some(found), Some(expected)) => survey.expect(scale, expected, &found.shape),
                (None, Some(_)) => survey.missing.push(scale),
                (_, None) => {}
            }
        }
        survey.expect(spec.name, spec.shape, &tensor.shape);
    }
    let unknown = |tensor: &&StoredTensor| {
        left.contains_key(tensor.name.as_str()) && !names::is_ignorable(config, &tensor.name)
    };
    survey.unknown = stored.iter().filter(unknown).map(|tensor| tensor.name.clone()).collect();
    survey
}

impl Survey {
    fn expect(&mut self, name: String, expected: Vec<usize>, found: &[usize]) {
        if expected != found {
            self.misshapen.push(Misshapen { name, expected, found: found.to_vec() });
        }
    }
}

/// One scale per block of an FP8 matrix; `None` where the configuration knows no blocks.
fn scale_shape(config: &Config, shape: &[usize]) -> Option<Vec<usize>> {
    let blocks = config.quantization_config?.weight_block_size;
    Some(shape.iter().zip(blocks).map(|(n, block)| n.div_ceil(block)).collect())
}

fn dtypes(stored: &[StoredTensor]) -> Vec<DtypeShare> {
    let mut shares: BTreeMap<&'static str, DtypeShare> = BTreeMap::new();
    for tensor in stored {
        let empty = DtypeShare { dtype: tensor.dtype, n_tensors: 0, bytes: 0 };
        let share = shares.entry(tensor.dtype).or_insert(empty);
        share.n_tensors += 1;
        share.bytes += tensor.bytes;
    }
    let mut shares: Vec<DtypeShare> = shares.into_values().collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.bytes));
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    fn small() -> Config {
        Config {
            vocab_size: 8,
            num_hidden_layers: 1,
            first_k_dense_replace: 1,
            n_routed_experts: Some(2),
            num_experts_per_tok: 1,
            hidden_size: 256,
            ..preset::v3()
        }
    }

    /// The checkpoint that the table describes: matrices in FP8 with their scales.
    fn whole(config: &Config) -> Vec<StoredTensor> {
        let mut stored = Vec::new();
        for spec in names::tensors(config) {
            let n = spec.n_elements() as u64;
            let fp8 = spec.role.quantised();
            let (dtype, bytes) = if fp8 { ("F8_E4M3", n) } else { ("BF16", 2 * n) };
            if fp8 {
                let shape = scale_shape(config, &spec.shape).expect("the preset has blocks");
                let bytes = 4 * shape.iter().product::<usize>() as u64;
                let name = format!("{}{SCALE_SUFFIX}", spec.name);
                stored.push(StoredTensor { name, shape, dtype: "F32", bytes });
            }
            stored.push(StoredTensor { name: spec.name, shape: spec.shape, dtype, bytes });
        }
        stored
    }

    #[test]
    fn a_whole_checkpoint_lacks_nothing() {
        let config = small();
        let stored = whole(&config);
        let survey = survey(&config, &stored);
        assert!(survey.is_complete() && survey.unknown.is_empty(), "{survey:?}");
        assert!(survey.missing_mtp.is_empty());
        assert_eq!(survey.dtypes[0].dtype, "F8_E4M3");
        assert_eq!(survey.dtypes.iter().map(|share| share.bytes).sum::<u64>(), survey.bytes);
    }

    #[test]
    fn what_is_missing_misshapen_or_unknown_is_named() {
        let config = small();
        let mut stored = whole(&config);
        let key = "model.layers.0.self_attn.kv_b_proj.weight";
        stored.retain(|tensor| {
            tensor.name != names::NORM
                && tensor.name != format!("{key}{SCALE_SUFFIX}")
                && !tensor.name.starts_with("model.layers.1.enorm")
        });
        let head = stored.iter_mut().find(|tensor| tensor.name == names::LM_HEAD).expect("a head");
        head.shape = vec![9, 256];
        for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "extra"] {
            let name = name.to_owned();
            stored.push(StoredTensor { name, shape: vec![1], dtype: "F32", bytes: 4 });
        }
        let survey = survey(&config, &stored);
        assert_eq!(survey.missing, [format!("{key}{SCALE_SUFFIX}"), names::NORM.to_owned()]);
        assert_eq!(survey.missing_mtp, ["model.layers.1.enorm.weight"]);
        assert_eq!(survey.unknown, ["extra"]);
        let expected = Misshapen {
            name: names::LM_HEAD.to_owned(),
            expected: vec![8, 256],
            found: vec![9, 256],
        };
        assert_eq!(survey.misshapen, [expected]);
        assert!(!survey.is_complete());
    }
}
