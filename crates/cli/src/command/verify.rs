//! `fathom verify`: is this model, computed here, the model that the reference computed?

use super::{Dtype, Machine};
use crate::failure::Failure;
use crate::opened::{Holding, Opened};
use crate::output::{json_to_stdout, to_stdout};
use crate::sizes::table;
use crate::talk::source::Missing;
use fathom_model::cache::CacheForm;
use fathom_model::verify::{CaseReport, Distance, Golden, Way, compare};
use serde_json::json;
use std::path::{Path, PathBuf};

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A directory with `config.json`, a `.gguf` file, or a run directory
    #[arg(value_name = "MODEL")]
    model: String,

    /// Reference values, or a directory that holds them as `golden.json` [default: MODEL]
    #[arg(value_name = "GOLDEN")]
    golden: Option<PathBuf>,

    /// Largest absolute difference of a logit that passes
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    tolerance: f32,

    /// Arithmetic of the matrices
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: Dtype,

    /// Run through this cache instead of in one pass without a cache
    #[arg(long, value_name = "FORM")]
    cache: Option<Cache>,

    /// Tokens at a time, through the cache
    #[arg(long, value_name = "N", requires = "cache", default_value_t = 512)]
    chunk: usize,

    /// Round activations of FP8 matrices to FP8, as DeepSeek serves them
    #[arg(long)]
    fp8_activations: bool,

    #[command(flatten)]
    holding: Holding,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    machine: Machine,
}

/// What the cache of latent attention holds.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Cache {
    /// The latent; attention runs in the absorbed form
    Latent,
    /// Keys and values of every head
    Expanded,
}

const EXAMPLES: &str = "\
Exit code 1 if a logit is further off than the tolerance, or a greedy token differs.

Examples:
  fathom verify golden/deepseek_v3
  fathom verify golden/deepseek_v3 --cache latent --chunk 3
  fathom verify model-q8_0.gguf golden/llama_gqa --tolerance 0.2";

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    args.machine.apply();
    let opened = Opened::find(Some(&args.model), Missing::Refuse)?;
    let path = golden_path(args.golden.as_deref().unwrap_or(opened.path()));
    let golden = Golden::open(&path)?;
    let mut model = opened.load(&args.holding, true)?.model;
    golden.check(&path, &model)?;
    if args.fp8_activations && model.quantize_activations() == 0 {
        return Err(Failure::hinted(
            "this checkpoint has no FP8 matrices",
            "leave `--fp8-activations` out",
        ));
    }
    let form = match args.cache {
        Some(Cache::Latent) => CacheForm::Latent,
        Some(Cache::Expanded) | None => CacheForm::Expanded,
    };
    let way = match args.cache {
        Some(_) => Way::Cached { chunk: args.chunk },
        None => Way::Whole,
    };
    let cache = model.pack_for_cache(args.dtype.into(), form);
    let reports: Vec<CaseReport> =
        golden.cases.iter().map(|case| compare(&model, cache, way, case)).collect();
    let n_failed = reports.iter().filter(|report| !report.passes(args.tolerance)).count();
    if args.json {
        json_to_stdout(&json!({
            "model": opened.label(),
            "golden": path.display().to_string(),
            "source": golden.source,
            "tolerance": args.tolerance,
            "passed": n_failed == 0,
            "cases": reports,
        }))?;
    } else {
        to_stdout(&shown(&reports, args.tolerance))?;
    }
    match n_failed {
        0 => Ok(()),
        n => Err(Failure::Failed(format!(
            "{n} of {} cases differ: a logit by more than {:e}, or a greedy token",
            reports.len(),
            args.tolerance
        ))),
    }
}

fn golden_path(given: &Path) -> PathBuf {
    if given.is_dir() { given.join("golden.json") } else { given.to_owned() }
}

fn shown(reports: &[CaseReport], tolerance: f32) -> String {
    let header = ["case", "tokens", "worst", "at", "mean", "cosine", "greedy", "mtp worst", ""];
    let at = |d: &Distance| format!("position {}, token {}", d.position, d.token);
    let rows: Vec<Vec<String>> = reports
        .iter()
        .enumerate()
        .map(|(case, report)| {
            let d = &report.logits;
            let greedy = match report.greedy_difference {
                None => format!("{} equal", report.n_greedy),
                Some(d) => format!("{} for {} at {}", d.found, d.expected, d.step),
            };
            let mtp = report.mtp_logits.map_or("–".into(), |d| format!("{:.1e}", d.worst_abs));
            vec![
                case.to_string(),
                report.n_ids.to_string(),
                format!("{:.1e}", d.worst_abs),
                at(d),
                format!("{:.1e}", d.mean_abs),
                format!("{:.9}", d.cosine),
                greedy,
                mtp,
                (if report.passes(tolerance) { "ok" } else { "FAILED" }).to_owned(),
            ]
        })
        .collect();
    table(&header, &rows, &[3, 6, 8])
}
