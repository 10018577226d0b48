//! The model that is measured: typed, opened, packed; and what every measurement of one prints first.

use super::turns::Turns;
use crate::command::{Dtype, Machine};
use crate::failure::Failure;
use crate::opened::{Holding, Opened};
use crate::output::to_stderr;
use crate::talk::caching::Caching;
use crate::talk::source::Missing;
use crate::terminal::Style;
use fathom_engine::bench::main_format;
use fathom_kernels::cpu::cpu;
use fathom_kernels::quant::Format;
use fathom_kernels::threads::n_threads;
use fathom_model::cache::{CacheForm, CacheSpec, CacheType};
use fathom_model::{Loaded, Model};
use serde_json::{Value, json};

/// Which model, and how it is held.
#[derive(clap::Args, Debug)]
pub(super) struct Loading {
    /// A directory with `config.json`, a `.gguf` file, a Hugging Face repository, or a run directory [default: the newest run under `runs/`]
    #[arg(value_name = "MODEL")]
    model: Option<String>,

    #[command(flatten)]
    holding: Holding,

    /// Precision of activations before products; weights have that of their format
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: Dtype,

    #[command(flatten)]
    caching: Caching,
}

/// What every measurement of a model takes.
#[derive(clap::Args, Debug)]
pub(super) struct Typed {
    #[command(flatten)]
    loading: Loading,

    /// Measure each row N times; the median, the least and the most are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) rounds: u16,

    /// Print one JSON object; names of figures carry their unit
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) turns: Turns,

    #[command(flatten)]
    machine: Machine,
}

/// A loaded model.
pub(super) struct Subject {
    label: String,
    dtype: Dtype,
    weight_bytes: u64,
    pub(super) model: Model,
    pub(super) cache: CacheSpec,
    /// Of most of its matrices; none if they are dense.
    pub(super) format: Option<Format>,
}

impl Loading {
    pub(super) fn find(&self) -> Result<Opened, Failure> {
        Opened::find(self.model.as_deref(), Missing::Fetch)
    }

    /// The model, packed for a cache, and the cache.
    pub(super) fn load(&self, opened: &Opened) -> Result<(Loaded, CacheSpec), Failure> {
        let mut loaded = opened.load(&self.holding, false)?;
        let cache = loaded.model.pack_for_cache(self.dtype.into(), CacheForm::Latent);
        Ok((loaded, self.caching.of(cache)?))
    }
}

impl Typed {
    pub(super) fn open(&self) -> Result<Subject, Failure> {
        self.machine.apply();
        let opened = self.loading.find()?;
        let (Loaded { model, weight_bytes, .. }, cache) = self.loading.load(&opened)?;
        let format = main_format(&model);
        let (label, dtype) = (opened.label().to_owned(), self.loading.dtype);
        Ok(Subject { label, dtype, weight_bytes, model, cache, format })
    }
}

impl Subject {
    /// Refuses a sequence that the model cannot read.
    pub(super) fn check_context(&self, n_tokens: usize) -> Result<(), Failure> {
        let most = self.model.config.max_position_embeddings;
        if n_tokens <= most {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "a sequence of {n_tokens} tokens is longer than the context of `{}`, {most} tokens\n\
             hint: ask for fewer tokens, or less depth",
            self.label
        )))
    }

    /// Says what is about to be measured.
    pub(super) fn announce(&self, what: &str) {
        to_stderr(&format!("{}\n", Style::of_stderr().dim(&format!("{}: {what} …", self.label))));
    }

    /// The last line of a table: what it was measured with.
    pub(super) fn facts(&self) -> String {
        format!(
            "{}, {}, {:.2} GB of weights; dtype {}, cache {}, threads: {}\n",
            self.label,
            self.format_name(),
            self.weight_bytes as f64 / 1e9,
            self.dtype,
            self.cache_name(),
            n_threads()
        )
    }

    /// The same for programs, with the rows.
    pub(super) fn as_json(&self, rows: Vec<Value>) -> Value {
        json!({
            "model": self.label,
            "format": self.format_name(),
            "weight_bytes": self.weight_bytes,
            "dtype": self.dtype.to_string(),
            "cache": self.cache_name(),
            "threads": n_threads(),
            "cpu": cpu().brand,
            "rows": rows,
        })
    }

    fn cache_name(&self) -> &'static str {
        match self.cache.cache_type {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
        }
    }

    fn format_name(&self) -> &'static str {
        self.format.map_or("dense", |format| format.name())
    }
}

/// Numbers with commas between them, each at least `least`.
pub(super) fn counts(text: &str, least: usize) -> Result<Vec<usize>, String> {
    const MOST: usize = 1 << 24;
    let number = |word: &str| match word.trim().parse() {
        Ok(n) if (least..=MOST).contains(&n) => Ok(n),
        _ => Err(format!("`{word}` is no whole number from {least} to {MOST}")),
    };
    text.split(',').map(number).collect()
}

/// Counts as typed: at least one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts(pub(super) Vec<usize>);

/// Depths as typed: zero is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Depths(pub(super) Vec<usize>);

impl std::str::FromStr for Counts {
    type Err = String;

    fn from_str(text: &str) -> Result<Counts, String> {
        counts(text, 1).map(Counts)
    }
}

impl std::str::FromStr for Depths {
    type Err = String;

    fn from_str(text: &str) -> Result<Depths, String> {
        counts(text, 0).map(Depths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_whole_numbers_with_commas() {
        assert_eq!("512, 2048".parse(), Ok(Counts(vec![512, 2048])));
        assert_eq!("0,4096".parse(), Ok(Depths(vec![0, 4096])));
        for wrong in ["0", "", "1,,2", "-1", "x", "99999999999999999999"] {
            assert!(wrong.parse::<Counts>().is_err(), "{wrong}");
        }
    }
}
