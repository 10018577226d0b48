//! The commands: one file each, one variant each.

mod train;

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

`fathom COMMAND --help` explains a command and shows examples.";

/// What can be typed after `fathom`.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Train a model by a recipe, stage by stage
    Train(train::Args),
}

impl Command {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Command::Train(args) => train::run(args),
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
    /// Puts the settings in force; before any computation.
    pub(crate) fn apply(&self) {
        if let Some(threads) = self.threads {
            fathom_kernels::threads::set_threads(threads.into());
        }
    }
}
