//! `fathom train`: runs a recipe and shows how it goes.

use super::Machine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::{program, quoted, to_stderr, to_stdout};
use crate::progress::Progress;
use crate::terminal::Style;
use fathom_train::progress::duration;
use fathom_train::recipe::{BUILT_IN, Kind, Recipe};
use fathom_train::results::Results;
use fathom_train::run_dir::{self, RunDirError, Start};
use std::path::{Path, PathBuf};

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A built-in recipe (`--list` shows them), a TOML file, or a run directory to go on with
    #[arg(value_name = "RECIPE", required_unless_present = "list")]
    recipe: Option<String>,

    /// Change a value of the recipe; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,

    /// Go on where an earlier run stopped
    #[arg(long)]
    resume: bool,

    /// Where the run is kept [default: runs/<name of the recipe>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Time for all training stages together; each ends early when its share is used up
    #[arg(long, value_name = "M", value_parser = minutes)]
    minutes: Option<f64>,

    #[command(flatten)]
    machine: Machine,

    /// List the built-in recipes
    #[arg(long, exclusive = true)]
    list: bool,
}

const EXAMPLES: &str = "\
Examples:
  fathom train r1-tiny                          the DeepSeek-R1 recipe on a tiny model
  fathom train r1-tiny --set seed=2 --out runs/second
  fathom train r1-tiny --set r1-zero.steps=200  a value of the stage `r1-zero`
  fathom train code-small --set task.folder=src --minutes 60
  fathom train runs/r1-tiny --resume            go on after Ctrl-C, kill or power cut

The first Ctrl-C finishes the step, saves everything and prints how to go on; the second one stops
at once. Interrupted or not, a run ends with the same bits, unless `--minutes` ended a stage.";

/// What is meant.
#[derive(Debug)]
struct Plan {
    recipe: Recipe,
    root: PathBuf,
    start: Start,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    if args.list {
        return list();
    }
    args.machine.apply();
    let plan = plan(&args)?;
    let style = Style::of_stderr();
    to_stderr(&heading(&plan, style));
    let interrupt = Interrupt::listen();
    let mut progress = Progress::start(interrupt, style);
    let outcome = fathom_train::run(&plan.recipe, &plan.root, plan.start, &mut progress);
    drop(progress); // the screen is ours again
    match outcome {
        Ok(results) => to_stdout(&ending(&plan.root, &results)),
        Err(error @ fathom_train::Error::Interrupted { .. }) => {
            let go_on = format!("{} train {} --resume", program(), typed_as(&plan.root));
            Err(Failure::Interrupted(format!("{error}\ngo on with: {go_on}")))
        }
        Err(error) => Err(with_advice(error, &plan.root)),
    }
}

/// An error of the run, with what can be done about it here.
fn with_advice(error: fathom_train::Error, root: &Path) -> Failure {
    use RunDirError::{File, OtherRecipe, Write};
    match &error {
        fathom_train::Error::RunDir(File { .. } | Write(_)) => {
            Failure::hinted(error, "choose a directory that can be written with `--out DIR`")
        }
        fathom_train::Error::RunDir(OtherRecipe { .. }) => Failure::hinted(
            error,
            format!(
                "`{} train {} --resume` goes on with the run that is there",
                program(),
                typed_as(root)
            ),
        ),
        _ => error.into(),
    }
}

/// From what was typed to what is meant; touches no weights.
fn plan(args: &Args) -> Result<Plan, Failure> {
    let typed = args.recipe.as_deref().unwrap_or_default();
    // A built-in name must not be hidden by a run of the same name; `./name` means the run.
    let is_built_in = BUILT_IN.iter().any(|recipe| recipe.name == typed);
    let run_dir = Some(Path::new(typed)).filter(|path| !is_built_in && run_dir::is_run_dir(path));
    let file = run_dir.map(|root| root.join("recipe.toml").display().to_string());
    let source = file.as_deref().unwrap_or(typed);
    let mut sets = args.sets.clone();
    if let Some(minutes) = args.minutes {
        sets.extend(shares_of(&Recipe::load(source, &sets)?, minutes)?);
    }
    let recipe = Recipe::load(source, &sets)?;
    let root = match (&args.out, run_dir) {
        (Some(out), _) => out.clone(),
        (None, Some(root)) => root.to_owned(),
        (None, None) => Path::new("runs").join(&recipe.name),
    };
    let start = if args.resume { Start::Resume } else { Start::New };
    Ok(Plan { recipe, root, start })
}

/// The settings that give every training stage an equal share of the time.
fn shares_of(recipe: &Recipe, minutes: f64) -> Result<Vec<String>, Failure> {
    let takes_time = |kind: &Kind| matches!(kind, Kind::Pretrain(_) | Kind::Sft(_) | Kind::Grpo(_));
    let stages: Vec<&str> = recipe
        .stages
        .iter()
        .filter(|stage| takes_time(&stage.kind))
        .map(|stage| stage.name.as_str())
        .collect();
    if stages.is_empty() {
        return Err(Failure::Usage(
            "`--minutes` has no effect: no stage of the recipe trains".into(),
        ));
    }
    let share = minutes / stages.len() as f64;
    Ok(stages.iter().map(|stage| format!("{stage}.minutes={share:?}")).collect())
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes.is_finite() => Ok(minutes),
        _ => Err("it must be a number above 0".into()),
    }
}

fn list() -> Result<(), Failure> {
    let mut rows = Vec::new();
    for built_in in BUILT_IN {
        let recipe = Recipe::parse(built_in.text, &[])?;
        rows.push((built_in.name, recipe.description));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines: Vec<String> =
        rows.iter().map(|(name, about)| format!("{name:width$}  {about}\n")).collect();
    to_stdout(&lines.concat())
}

fn heading(plan: &Plan, style: Style) -> String {
    let recipe = &plan.recipe;
    let n_threads = fathom_kernels::threads::n_threads();
    let threads = if n_threads == 1 { "thread" } else { "threads" };
    let precision = match recipe.precision {
        fathom_train::recipe::Precision::F32 => "f32",
        fathom_train::recipe::Precision::Bf16 => "bf16",
    };
    let facts = format!(
        "{} stages · seed {} · {precision} · {n_threads} {threads} · in {}",
        recipe.stages.len(),
        recipe.seed,
        plan.root.display()
    );
    format!("{}  {}\n{}\n", style.bold(&recipe.name), recipe.description, style.dim(&facts))
}

/// A run directory as it is typed, never to be taken for a built-in name.
fn typed_as(root: &Path) -> String {
    let text = root.display().to_string();
    if text.contains('/') { quoted(&text) } else { format!("./{}", quoted(&text)) }
}

/// The table of all models, where things are, and what to type next.
fn ending(root: &Path, results: &Results) -> String {
    let mut text = String::from("\n");
    if !results.models.0.is_empty() {
        text.push_str(&results.table());
        text.push('\n');
    }
    let mut facts = Vec::new();
    let report = root.join("report.html");
    if report.is_file() {
        facts.push(("report", report.display().to_string()));
    }
    facts.push(("time", duration(results.wall_s)));
    facts.push(("memory", format!("{:.2} GB at most", results.peak_rss_bytes as f64 / 1e9)));
    if run_dir::model_stage(root).is_ok() {
        facts.push(("next", format!("{} run {}", program(), typed_as(root))));
    }
    for (name, fact) in facts {
        text.push_str(&format!("{name:8}{fact}\n"));
    }
    text
}
