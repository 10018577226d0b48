//! How a model is held and computed where it answers: as typed, and as meant for one model.

use super::caching::Caching;
use super::drafting::Drafts;
use crate::command::Dtype;
use crate::failure::Failure;
use crate::opened::{Holding, Opened};
use fathom_engine::Drafting;
use fathom_model::cache::{CacheForm, CacheSpec};
use fathom_model::{Model, Precision};

/// What was typed.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Computing {
    /// Precision of activations before products; weights have that of their format
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub(crate) dtype: Dtype,

    #[command(flatten)]
    pub(crate) holding: Holding,

    #[command(flatten)]
    caching: Caching,

    #[command(flatten)]
    drafts: Drafts,
}

/// What it means for one model.
pub(crate) struct How<'a> {
    holding: &'a Holding,
    precision: Precision,
    caching: Caching,
    /// Who guesses at the next tokens.
    pub(crate) drafting: Drafting,
}

impl Computing {
    /// Errors: drafts that this model cannot make.
    pub(crate) fn for_model(&self, opened: &Opened) -> Result<How<'_>, Failure> {
        Ok(How {
            holding: &self.holding,
            precision: self.dtype.into(),
            caching: self.caching,
            drafting: self.drafts.for_model(opened, &self.holding)?,
        })
    }
}

impl How<'_> {
    /// The model, packed for a cache, and the cache.
    pub(crate) fn load(&self, opened: &Opened) -> Result<(Model, CacheSpec), Failure> {
        let with_module = matches!(self.drafting, Drafting::Mtp { .. });
        let mut model = opened.load(self.holding, with_module)?.model;
        model.pack_small();
        let cache = self.caching.of(model.pack_for_cache(self.precision, CacheForm::Latent))?;
        if with_module {
            model.lighten_mtp();
        }
        Ok((model, cache))
    }
}
