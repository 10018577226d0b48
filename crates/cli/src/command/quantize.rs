//! `fathom quantize`: a model in fewer bits, as a file.

use super::Machine;
use crate::converting::{Conversion, convert};
use crate::failure::Failure;
use crate::opened::{Opened, format};
use crate::talk::source::Missing;
use fathom_kernels::quant::Format;
use fathom_model::DIRECTORY_FORMATS;
use std::path::{Path, PathBuf};

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A directory with `config.json`, a `.gguf` file, a run directory, or a repository
    #[arg(value_name = "MODEL")]
    model: String,

    /// Format of the matrices: q8_0, q6_k, q5_k, q4_k, q4_0, iq4_xs, q3_k, q2_k, fp8, bf16, f16, f32 …
    #[arg(value_name = "FORMAT", value_parser = format)]
    format: Format,

    /// A `.gguf` file, or a directory (fp8, bf16, f16 and f32 only) [default: named after model and format]
    #[arg(value_name = "OUT")]
    out: Option<PathBuf>,

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
Routers, norms and biases keep their precision; the head gets at least six bits. Rows that are no
whole blocks get the next format with smaller blocks.

Examples:
  fathom quantize deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B q4_k
  fathom quantize deepseek-ai/DeepSeek-V2-Lite-Chat q8_0 lite.gguf
  fathom quantize runs/r1-tiny fp8 tiny-fp8          a directory with block scales, as DeepSeek-V3's";

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    args.machine.apply();
    let opened = Opened::find(Some(&args.model), Missing::Fetch)?;
    let out = args.out.unwrap_or_else(|| default_out(opened.path(), args.format));
    let conversion =
        Conversion { out: &out, format: Some(args.format), force: args.force, json: args.json };
    convert(&opened, &conversion)
}

/// In the current folder, named after the model and the format.
fn default_out(model: &Path, format: Format) -> PathBuf {
    let stem = match model.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("gguf") => model.file_stem(),
        _ => model.file_name(),
    };
    let stem = stem.map_or("model".into(), |stem| stem.to_string_lossy());
    let is_directory = format == Format::F8E4M3;
    debug_assert!(!is_directory || DIRECTORY_FORMATS.contains(&format));
    PathBuf::from(format!("{stem}-{}{}", format.name(), if is_directory { "" } else { ".gguf" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_place_is_named_after_model_and_format() {
        let name = |model, format| default_out(Path::new(model), format).display().to_string();
        assert_eq!(name("a/b", Format::Q4K), "b-q4_k.gguf");
        assert_eq!(name("a/b.gguf", Format::Q8_0), "b-q8_0.gguf");
        assert_eq!(name("DeepSeek-V3.1", Format::F8E4M3), "DeepSeek-V3.1-fp8");
    }
}
