//! `fathom bench stand-in`: random weights in the shape of a release.

use crate::command::Machine;
use crate::command::inspect::find_preset;
use crate::failure::Failure;
use crate::output::{to_stderr, to_stdout};
use fathom_checkpoint::atomic::write_dir_atomic;
use fathom_model::{Config, write_stand_in};
use std::path::{Path, PathBuf};

/// What was typed.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// A released model, as `fathom inspect --list-presets` names it
    #[arg(value_name = "PRESET")]
    preset: String,

    /// The directory to write; it must not exist
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// Only the first N layers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    layers: Option<u16>,

    /// A `tokenizer.json` to put beside the weights, so that text can be sent to them
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,

    /// Other weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    #[command(flatten)]
    machine: Machine,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    args.machine.apply();
    let preset = find_preset(&args.preset)?;
    if args.out.exists() {
        return Err(Failure::Failed(format!("`{}` exists", args.out.display())));
    }
    let mut config: Config = (preset.config)();
    if let Some(layers) = args.layers {
        config.num_hidden_layers = config.num_hidden_layers.min(layers.into());
        config.first_k_dense_replace = config.first_k_dense_replace.min(config.num_hidden_layers);
    }
    config.num_nextn_predict_layers = 0;
    to_stderr(&format!("writing random weights into `{}` …\n", args.out.display()));
    write_dir_atomic(&args.out, |dir| -> Result<(), Failure> {
        write_stand_in(&config, dir, args.seed)?;
        match &args.tokenizer {
            Some(tokenizer) => copy(tokenizer, dir),
            None => Ok(()),
        }
    })?;
    to_stdout(&format!("{}\n", args.out.display()))
}

fn copy(tokenizer: &Path, dir: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::Failed(format!("cannot copy `{}`: {error}", tokenizer.display()));
    std::fs::copy(tokenizer, dir.join("tokenizer.json")).map_err(failed).map(|_| ())
}
