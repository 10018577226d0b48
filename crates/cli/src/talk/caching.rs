//! The key/value cache as typed: what its numbers are held in, and how prompts meet it.

use crate::failure::Failure;
use fathom_model::cache::{self, CacheForm, CacheSpec};

/// Type of cached numbers: exact, or rounded when they are stored, at half the memory and reading.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CacheType {
    F32,
    #[default]
    F16,
}

impl From<CacheType> for cache::CacheType {
    fn from(typed: CacheType) -> Self {
        match typed {
            CacheType::F32 => cache::CacheType::F32,
            CacheType::F16 => cache::CacheType::F16,
        }
    }
}

/// How prompts attend over a latent cache.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Prefill {
    /// As answers do: how a text is cut into prompt and answer never changes a bit
    #[default]
    Absorbed,
    /// Over keys and values made anew from the latents: less arithmetic in long prompts; a token read as
    /// prompt differs in the last bits from the same token written as answer
    Expanded,
}

/// What was typed about it.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(crate) struct Caching {
    /// Type of the numbers in the key/value cache; sums are in f32 either way
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    cache_type: CacheType,

    /// How prompts of models with latent attention (MLA) are read
    #[arg(long, value_name = "WAY", default_value = "absorbed")]
    prefill: Prefill,
}

impl Caching {
    /// `spec` with what was typed.
    ///
    /// Errors: the way to read prompts has no effect on this cache.
    pub(crate) fn of(self, spec: CacheSpec) -> Result<CacheSpec, Failure> {
        let prefill = match self.prefill {
            Prefill::Absorbed => cache::Prefill::Absorbed,
            Prefill::Expanded if spec.form == CacheForm::Latent => cache::Prefill::Expanded,
            Prefill::Expanded => {
                return Err(Failure::Usage(
                    "`--prefill expanded` has no effect: this model has no latent attention".into(),
                ));
            }
        };
        Ok(spec.with_type(self.cache_type.into()).with_prefill(prefill))
    }
}
