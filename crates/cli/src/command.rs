//! The commands: one file each, one variant each.

mod bench;
mod doctor;
mod export;
mod inspect;
mod key;
mod logits;
mod plan;
mod pull;
mod quantize;
mod run;
mod serve;
mod tokenizer;
mod train;
mod verify;

use crate::failure::Failure;
use clap::{Parser, Subcommand};

/// The DeepSeek system in one program.
#[derive(Parser, Debug)]
#[command(name = "fathom", version, about, arg_required_else_help = true)]
#[command(disable_help_subcommand = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Start here:
  fathom train r1-tiny        train a small reasoning model, from an empty disk
  fathom run runs/r1-tiny     talk to it
  fathom serve                talk to it in a browser, or from any program

`fathom COMMAND --help` explains a command and shows examples.";

/// What can be typed after `fathom`.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Talk with a model, or answer once
    Run(run::Args),
    /// Serve a model: HTTP API and chat page
    Serve(serve::Args),
    /// Fetch a model into the shared cache
    Pull(pull::Args),
    /// Train a model by a recipe, stage by stage
    Train(train::Args),
    /// Show what a model is and what it costs
    Inspect(inspect::Args),
    /// Say what running or training a model takes: memory, time, money
    Plan(plan::Args),
    /// Compute logits of given tokens
    Logits(logits::Args),
    /// Write a model in fewer bits
    Quantize(quantize::Args),
    /// Write a model as another kind of file: GGUF or a Hugging Face directory
    Export(export::Args),
    /// Compare a model with reference values
    Verify(verify::Args),
    /// Turn text into token ids and back
    Tokenizer(tokenizer::Args),
    /// Measure speed beside the machine's limits
    Bench(bench::Args),
    /// Say who may ask the server: keys, limits, prices, usage
    Key(key::Args),
    /// Show what was found on this machine and what is used
    Doctor(doctor::Args),
}

impl Command {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Command::Run(args) => run::run(args),
            Command::Serve(args) => serve::run(args),
            Command::Pull(args) => pull::run(args),
            Command::Train(args) => train::run(args),
            Command::Inspect(args) => inspect::run(args),
            Command::Plan(args) => plan::run(args),
            Command::Logits(args) => logits::run(args),
            Command::Quantize(args) => quantize::run(args),
            Command::Export(args) => export::run(args),
            Command::Verify(args) => verify::run(args),
            Command::Tokenizer(args) => tokenizer::run(args),
            Command::Bench(args) => bench::run(args),
            Command::Key(args) => key::run(args),
            Command::Doctor(args) => doctor::run(args),
        }
    }
}

/// Settings of the machine that several commands take.
#[derive(clap::Args, Debug)]
pub(crate) struct Machine {
    /// Threads to compute on [default: one per core]; results do not depend on it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Machine {
    /// Puts the settings in force; before any computation, and before threads are started.
    pub(crate) fn apply(&self) {
        fathom_kernels::cores::spread_memory();
        if let Some(threads) = self.threads {
            fathom_kernels::threads::set_threads(threads.into());
        }
    }
}

/// Arithmetic of matrix products; sums are in f32 either way.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    Bf16,
}

impl From<Dtype> for fathom_model::Precision {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => fathom_model::Precision::F32,
            Dtype::Bf16 => fathom_model::Precision::Bf16,
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
        })
    }
}
