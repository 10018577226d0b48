//! Speculative decoding as typed: who guesses at the next tokens, and whether this model can.

use crate::failure::Failure;
use crate::opened::{Holding, Opened};
use fathom_engine::Drafting;
use fathom_engine::speculate::{LOOKUP_TOKENS, MAX_DRAFT_TOKENS, MTP_TOKENS};

/// What was typed about it.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Drafts {
    /// Who guesses several tokens for the model to check at once; answers are the same in any case
    #[arg(long, value_name = "WHO", default_value = "auto")]
    draft: Who,

    /// Most tokens guessed at a time; fewer while that is faster [default: 3 with mtp, 8 with lookup]
    #[arg(long, value_name = "N", value_parser = n_tokens)]
    draft_tokens: Option<usize>,
}

/// Sources of guesses.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Who {
    /// The model's MTP module if it has one, else lookup
    #[default]
    Auto,
    /// The model's multi-token-prediction module
    Mtp,
    /// What followed the same tokens earlier in the text
    Lookup,
    /// Nobody
    Off,
}

impl Drafts {
    /// What it means for a model.
    ///
    /// Errors: the module is asked for where there is none; a number of tokens nobody guesses.
    pub(crate) fn for_model(
        &self,
        opened: &Opened,
        holding: &Holding,
    ) -> Result<Drafting, Failure> {
        let who = match self.draft {
            Who::Mtp if !opened.files.has_mtp() => {
                return Err(Failure::hinted(
                    format!(
                        "`{}` has no multi-token-prediction module to draft with",
                        opened.label()
                    ),
                    "`--draft lookup` needs none; `auto` takes what there is",
                ));
            }
            // A model larger than its memory has none to spare for one more layer.
            Who::Auto if opened.files.has_mtp() && !holding.is_limited() => Who::Mtp,
            Who::Auto => Who::Lookup,
            who => who,
        };
        self.by(who)
    }

    /// What it means where the module's presence is found out later.
    ///
    /// Errors: a number of tokens nobody guesses.
    pub(crate) fn typed(&self) -> Result<Drafting, Failure> {
        match (self.draft, self.draft_tokens) {
            (Who::Auto, None) => Ok(Drafting::Auto),
            (Who::Auto, Some(_)) => Err(Failure::Usage(
                "`--draft-tokens` needs `--draft mtp` or `--draft lookup` here".into(),
            )),
            (who, _) => self.by(who),
        }
    }

    fn by(&self, who: Who) -> Result<Drafting, Failure> {
        let n_tokens = |n: usize| self.draft_tokens.unwrap_or(n);
        match who {
            Who::Off if self.draft_tokens.is_some() => {
                Err(Failure::Usage("`--draft-tokens` has no effect with `--draft off`".into()))
            }
            Who::Off => Ok(Drafting::Off),
            Who::Mtp => Ok(Drafting::Mtp { n_tokens: n_tokens(MTP_TOKENS), adaptive: true }),
            _ => Ok(Drafting::Lookup { n_tokens: n_tokens(LOOKUP_TOKENS), adaptive: true }),
        }
    }
}

/// The word for a setting.
pub(crate) fn word(drafting: Drafting) -> &'static str {
    match drafting {
        Drafting::Off => "off",
        Drafting::Mtp { .. } => "mtp",
        Drafting::Lookup { .. } => "lookup",
        Drafting::Auto => "auto",
    }
}

fn n_tokens(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(value) if (1..=MAX_DRAFT_TOKENS).contains(&value) => Ok(value),
        _ => Err(format!("it must be a whole number from 1 to {MAX_DRAFT_TOKENS}")),
    }
}
