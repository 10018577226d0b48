//! `fathom export`: a model as another kind of file, in the precision it has.

use super::Machine;
use crate::converting::{Conversion, convert};
use crate::failure::Failure;
use crate::opened::{Opened, format};
use crate::talk::source::Missing;
use fathom_kernels::quant::Format;
use std::path::PathBuf;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A directory with `config.json`, a `.gguf` file, a run directory, or a repository
    #[arg(value_name = "MODEL")]
    model: String,

    /// A `.gguf` file for llama.cpp, or a directory for Hugging Face libraries
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// Format of the matrices [default: as stored; block formats become bf16 in a directory]
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<Format>,

    /// Replace what stands there
    #[arg(long)]
    force: bool,

    /// Print one JSON object: files, bytes, wall_s
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  fathom export runs/r1-tiny r1-tiny.gguf            for llama.cpp
  fathom export model-q4_k_m.gguf model              for transformers, in bf16
  fathom export deepseek-ai/DeepSeek-V3 v3-bf16 --format bf16";

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    args.machine.apply();
    let opened = Opened::find(Some(&args.model), Missing::Fetch)?;
    let conversion =
        Conversion { out: &args.out, format: args.format, force: args.force, json: args.json };
    convert(&opened, &conversion)
}
