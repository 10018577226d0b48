//! `fathom inspect`: what a model is and what it costs, from its headers or its shape alone.

mod description;
mod presets;
mod report;

use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stdout};
use crate::talk::source::{Found, Missing, locate};
use fathom_model::preset;
use report::Report;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["model", "preset", "list_presets"])))]
pub(crate) struct Args {
    /// A directory with `config.json`, a GGUF file, a downloaded repository, or a run directory
    #[arg(value_name = "MODEL")]
    model: Option<String>,

    /// A released model by name, without its files; all of them if no name is given
    #[arg(long, value_name = "NAME")]
    preset: Option<Option<String>>,

    /// List the released models
    #[arg(long)]
    list_presets: bool,

    /// List them as a Markdown page
    #[arg(long, requires = "list_presets", conflicts_with = "json")]
    markdown: bool,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  fathom inspect runs/r1-tiny
  fathom inspect golden/deepseek_v3 --json
  fathom inspect --preset v3
  fathom inspect --list-presets";

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let description = match (&args.model, &args.preset) {
        (Some(model), _) => match locate(Some(model), Missing::Refuse)? {
            Found::Directory(source) => description::of_directory(&source.dir)?,
            Found::Gguf { file, .. } => description::of_gguf(&file)?,
        },
        (None, Some(Some(name))) => description::of_preset(find_preset(name)?),
        (None, Some(None) | None) => return list(&args),
    };
    let report = Report::new(&description);
    match args.json {
        true => json_to_stdout(&report.json())?,
        false => to_stdout(&report.text())?,
    }
    match description.weights_error {
        Some(error) => Err(Failure::Failed(error)),
        None => Ok(()),
    }
}

fn list(args: &Args) -> Result<(), Failure> {
    match (args.json, args.markdown) {
        (true, _) => json_to_stdout(&presets::json()),
        (false, true) => to_stdout(&presets::markdown()),
        (false, false) => to_stdout(&presets::text()),
    }
}

/// The preset of this name, or a failure that names the nearest.
pub(crate) fn find_preset(name: &str) -> Result<&'static preset::Preset, Failure> {
    preset::find(name).map_err(|error| {
        let hint = match error.nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => "`fathom inspect --list-presets` shows them all".to_owned(),
        };
        Failure::hinted(error, hint)
    })
}
