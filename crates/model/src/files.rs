//! Models as Hugging Face directories: `config.json` and safetensors, sharded or not.

use crate::config::{Config, TorchDtype};
use crate::error::Error;
use crate::model::Model;
use crate::names::{self, Role, TensorSpec};
use fathom_checkpoint::{Dtype, TensorSource, atomic, write_directory};
use std::path::Path;

/// Largest shard written, as the Hugging Face libraries do by default.
pub(crate) const MAX_SHARD_BYTES: u64 = 5_000_000_000;

impl Model {
    /// Writes `config.json` and the weights into `dir`, which exists. `dtype` is that of the matrices;
    /// routers' correction biases stay f32.
    pub fn save(&self, dir: impl AsRef<Path>, dtype: TorchDtype) -> Result<(), Error> {
        let dir = dir.as_ref();
        let config = Config { torch_dtype: dtype, ..self.config.clone() };
        write_config(dir, &config)?;
        let tensors = names::tensors(&config).into_iter().map(|spec| {
            let dtype = match (dtype, spec.role) {
                (_, Role::RouterBias) | (TorchDtype::Float32, _) => Dtype::F32,
                _ => Dtype::BF16,
            };
            TensorSource::from_f32(&spec.name, dtype, &spec.shape, self.values_of(&spec))
        });
        write_directory(dir, tensors, MAX_SHARD_BYTES).map_err(Error::Checkpoint)
    }

    /// Values under a checkpoint name; the MTP module's copies are those of the main model.
    fn values_of(&self, spec: &TensorSpec) -> &[f32] {
        match spec.role {
            Role::EmbeddingCopy => self.weights[self.embed].values(),
            Role::HeadCopy => self.head().values(),
            _ => {
                let place = self.specs.iter().position(|s| s.name == spec.name);
                self.weights[place.expect("every tensor that is no copy is a weight")].values()
            }
        }
    }
}

/// Writes `config.json` into a directory.
pub(crate) fn write_config(dir: &Path, config: &Config) -> Result<(), Error> {
    let text = format!("{:#}\n", config.to_json());
    atomic::write_atomic(dir.join("config.json"), |out| out.write_all(text.as_bytes()))
        .map_err(Error::Checkpoint)
}

/// Reads and checks `config.json` of a directory.
pub fn read_config(dir: &Path) -> Result<Config, Error> {
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path)
        .map_err(|source| Error::Read { path: path.clone(), source })?;
    Config::from_text(&text).map_err(|error| Error::ConfigFile { path, error })
}
