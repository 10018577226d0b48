//! From files to a model: what is stored is used as it is, or turned into another format on the way.
//!
//! For inference matrices keep their stored format and, where nothing asks for another one, their
//! place in the mapped file: opening takes no longer than reading the headers, and memory holds what a
//! pass touches. For training all values are widened to f32 ([`Model::open`]).

mod requantize;
mod safetensors;

use crate::config::Config;
use crate::error::Error;
use crate::files::read_config;
use crate::gguf::{self, Assumption, GgufTensorData};
use crate::model::Model;
use crate::names::{self, Role, TensorSpec};
use crate::residency::Residency;
use fathom_checkpoint::Checkpoint;
use fathom_checkpoint::gguf::Gguf;
use fathom_kernels::quant::Format;
use fathom_kernels::stored::{Matrix, SharedBytes};
use fathom_tensor::Weight;
use std::path::Path;

pub use requantize::requantized_format;
pub(crate) use requantize::{FP8_BLOCK, six_bits_at_least, with_smaller_blocks};

/// A checkpoint whose headers were read: what a model can be made of.
pub struct Source {
    config: Config,
    files: Files,
    assumptions: Vec<Assumption>,
}

enum Files {
    Safetensors(Checkpoint),
    Gguf(Gguf),
}

/// What products with quantised weights do to their input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// Nothing: weights are widened, and products run in f32.
    #[default]
    F32,
    /// It is rounded to 8 bits in groups of 32, and products run in integers: several times as fast,
    /// and what other programs do. Floating weights are not concerned.
    Int8,
}

/// How a model is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// How the input of quantised matrices is taken.
    pub activations: Activations,
    /// Turns matrices into this format; none keeps what is stored.
    pub quant: Option<Format>,
    /// Reads the MTP modules too, if the checkpoint has them.
    pub mtp: bool,
    /// Bytes of weights held in memory; routed experts past that are read again when they are chosen.
    pub memory_bytes: Option<u64>,
}

/// A model, and what was noticed while it was read.
pub struct Loaded {
    pub model: Model,
    /// Tensors of the checkpoint that this model has no place for.
    pub unknown: Vec<String>,
    /// Bytes of the weights as the model holds them, mapped ones included.
    pub weight_bytes: u64,
}

/// A tensor as it is stored.
pub(crate) enum Stored {
    Matrix(Matrix),
    /// Norms and biases, widened.
    Vector(Vec<f32>),
}

impl Source {
    /// Reads the headers of a directory (`config.json` and safetensors) or of a `.gguf`.
    ///
    /// Errors name the file and what is wrong in it.
    pub fn open(path: impl AsRef<Path>) -> Result<Source, Error> {
        let path = path.as_ref();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
            let gguf = Gguf::open(path)?;
            let (config, assumptions) = gguf::config_with_assumptions(&gguf)?;
            return Ok(Source { config, files: Files::Gguf(gguf), assumptions });
        }
        let config = read_config(path)?;
        let files = Files::Safetensors(Checkpoint::open(path)?);
        Ok(Source { config, files, assumptions: Vec::new() })
    }

    /// What the files say the model is.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the files hold the MTP module that the configuration announces; many copies leave it out.
    pub fn has_mtp(&self) -> bool {
        let announced = self.config.num_nextn_predict_layers > 0;
        let name = names::in_layer(self.config.num_hidden_layers, "eh_proj.weight");
        // A GGUF without the module was read as a model without one.
        announced && self.checkpoint().is_none_or(|checkpoint| checkpoint.contains(&name))
    }

    /// What the files leave out and was filled in, for people to know.
    pub fn assumptions(&self) -> &[Assumption] {
        &self.assumptions
    }

    /// The GGUF, which holds a tokenizer and a chat template too; none of a directory.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.files {
            Files::Gguf(gguf) => Some(gguf),
            Files::Safetensors(_) => None,
        }
    }

    /// The directory of safetensors; none of a GGUF.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        match &self.files {
            Files::Safetensors(checkpoint) => Some(checkpoint),
            Files::Gguf(_) => None,
        }
    }

    /// A tensor as it is stored. Errors: it is missing, of another shape, or of a type we do not know.
    pub(crate) fn read(&self, config: &Config, spec: &TensorSpec) -> Result<Stored, Error> {
        match &self.files {
            Files::Safetensors(checkpoint) => safetensors::read(checkpoint, config, spec),
            Files::Gguf(file) => Ok(match gguf::read(file, config, spec)? {
                GgufTensorData::Matrix(matrix) => Stored::Matrix(matrix),
                GgufTensorData::Vector(values) => Stored::Vector(values),
            }),
        }
    }

    /// Tensors of the files that a model of `config` has no place for.
    fn unknown(&self, config: &Config) -> Vec<String> {
        match &self.files {
            Files::Safetensors(checkpoint) => safetensors::unknown(checkpoint, config),
            Files::Gguf(file) => gguf::unknown(file, config),
        }
    }
}

impl Loaded {
    /// Copies the weights out of their files into memory in large pages, which is read a little faster.
    ///
    /// Error: the system refuses memory.
    pub fn copy(&self) -> std::io::Result<()> {
        let mut stored = self.model.weights.iter().filter_map(Weight::as_stored);
        stored.try_for_each(|matrix| matrix.bytes().copy())
    }

    /// Makes the weights quick to read while the caller goes on, so that the first prompt need not wait for
    /// one page of the files after another. Only for models that fit in memory: all of them are read.
    pub fn prepare(&self) {
        let stored = self.model.weights.iter().filter_map(Weight::as_stored);
        let stored: Vec<SharedBytes> = stored.map(|matrix| matrix.bytes().clone()).collect();
        let work = move || stored.iter().for_each(SharedBytes::prepare);
        // Without the thread pages are entered when they are touched.
        let _ = std::thread::Builder::new().name("weights".to_owned()).spawn(work);
    }
}

impl Model {
    /// Reads a model for inference.
    ///
    /// `progress` hears after each tensor how many of how many are done.
    ///
    /// Errors name the file and the tensor; a tensor of another shape than the configuration implies
    /// is refused, one that it does not know is reported in [`Loaded::unknown`].
    pub fn load(
        source: &Source,
        options: &LoadOptions,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Loaded, Error> {
        let mut config = source.config.clone();
        if !options.mtp {
            config.num_nextn_predict_layers = 0;
        }
        let n_tensors = names::tensors(&config).len();
        let mut weight_bytes = 0;
        let mut model = Model::build_with(config, |slot, spec| {
            let weight = match source.read(source.config(), spec)? {
                Stored::Vector(values) => {
                    weight_bytes += 4 * values.len() as u64;
                    Weight::new(&spec.name, &spec.shape, slot, values)
                }
                Stored::Matrix(matrix) => {
                    let matrix = match options.quant {
                        Some(format) => requantize::requantize(matrix, spec.role, format),
                        None => matrix,
                    };
                    weight_bytes += matrix.bytes().len() as u64;
                    let mut weight = Weight::stored(&spec.name, slot, matrix);
                    if options.activations == Activations::Int8 && spec.role != Role::Router {
                        weight.round_input();
                    }
                    weight
                }
            };
            progress(slot + 1, n_tensors);
            Ok(weight)
        })?;
        if let Some(limit) = options.memory_bytes
            && limit < weight_bytes
        {
            if options.quant.is_some() {
                return Err(Error::NotOnDisk);
            }
            model.residency = Some(Residency::new(&model, limit)?);
        }
        let unknown = source.unknown(source.config());
        Ok(Loaded { model, unknown, weight_bytes })
    }

    /// Reads a directory for training: every value widened to f32.
    ///
    /// Errors name the file and the tensor; a tensor of another shape than `config.json` implies is refused.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, Error> {
        let source = Source::open(path)?;
        Model::build(source.config.clone(), |_, spec| {
            Ok(match source.read(&source.config, spec)? {
                Stored::Vector(values) => values,
                Stored::Matrix(matrix) => matrix.to_f32(),
            })
        })
    }
}
