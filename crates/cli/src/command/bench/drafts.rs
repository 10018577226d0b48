//! `fathom bench drafts`: what drafts bring on the held-out questions of a trained run.

use super::rate::Spread;
use crate::command::Machine;
use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stdout};
use crate::talk::drafting::{self, Drafts};
use fathom_train::bench::{DraftRates, DraftWork, draft_rates};
use fathom_train::results::align;
use serde_json::json;
use std::path::PathBuf;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The directory of a finished run
    run: PathBuf,

    /// A stage of the run [default: the model the run stands for]
    #[arg(long, value_name = "STAGE")]
    model: Option<String>,

    #[command(flatten)]
    drafts: Drafts,

    /// Held-out questions
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    questions: u32,

    /// Longest answer
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tokens: u32,

    /// Ask all of them N times in both ways; the median is shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Print one JSON object; names of figures carry their unit
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  fathom bench drafts runs/r1-tiny
  fathom bench drafts runs/r1-tiny --model base --threads 1 --json

Every question is answered greedily with drafts and without, in turns, and the answers are compared.
Rates count the tokens after the first of each answer.";

pub(super) fn run(args: Args) -> Result<(), Failure> {
    args.machine.apply();
    let work = DraftWork {
        n_questions: args.questions as usize,
        max_new_tokens: args.tokens as usize,
        n_rounds: args.rounds.into(),
        drafting: args.drafts.typed()?,
    };
    let (model, rates) = draft_rates(&args.run, args.model.as_deref(), work)?;
    let DraftRates { n_questions, n_answers, n_same, n_tokens, tokens_per_s, counts } = rates;
    let of = |way: usize| tokens_per_s.iter().map(move |pair| pair[way]);
    let [without, with] = [0, 1].map(|way| Spread::of(of(way)).median);
    let ratio = Spread::of(tokens_per_s.iter().map(|[without, with]| with / without)).median;
    let n_threads = fathom_kernels::threads::n_threads();
    let all_tokens = n_tokens * tokens_per_s.len();
    let per_pass = all_tokens as f64 / (counts.n_passes.max(1)) as f64;
    if args.json {
        return json_to_stdout(&json!({
            "model": model,
            "draft": drafting::word(work.drafting),
            "threads": n_threads,
            "questions": n_questions,
            "answers": n_answers,
            "same_answers": n_same,
            "tokens": n_tokens,
            "tokens_per_s": with,
            "tokens_per_s_without": without,
            "ratio": ratio,
            "tokens_per_s_rounds": of(1).collect::<Vec<f64>>(),
            "tokens_per_s_without_rounds": of(0).collect::<Vec<f64>>(),
            "tokens_per_pass": per_pass,
            "acceptance": counts.acceptance(),
        }));
    }
    let heading = ["model", "tokens/s", "without", "ratio", "tokens per pass", "right", "same"];
    let right = counts.acceptance().map_or("–".to_owned(), |a| format!("{:.1} %", 100.0 * a));
    let row = vec![
        model,
        format!("{with:.0}"),
        format!("{without:.0}"),
        format!("{ratio:.2}×"),
        format!("{per_pass:.2}"),
        right,
        format!("{n_same} of {n_answers} answers"),
    ];
    let about = format!("{n_questions} questions, {n_tokens} tokens, threads: {n_threads}\n");
    to_stdout(&(align(&[heading.map(str::to_owned).to_vec(), row]) + &about))
}
