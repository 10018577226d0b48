//! `fathom bench rollout`: how fast answers are sampled for reinforcement learning.

use super::{Shapes, shapes};
use crate::command::{Dtype, Machine};
use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stderr, to_stdout};
use crate::terminal::Style;
use fathom_train::bench::{RolloutWork, rollout_rate};
use fathom_train::results::align;
use serde_json::{Value, json};

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The model: llama-34m, llama-0.9m, v3-16m or all
    #[arg(long, value_name = "NAME", default_value = "v3-16m", value_parser = shapes)]
    shape: Shapes,

    /// Sequences that advance together
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    sequences: u32,

    /// Tokens of each prompt
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    prompt: u32,

    /// Tokens of each answer
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4096))]
    tokens: u32,

    /// Take the likeliest token instead of a draw at temperature 1
    #[arg(long)]
    greedy: bool,

    /// Arithmetic of the matrices
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    precision: Dtype,

    /// Whole rollouts to time
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Print one JSON object; names of figures carry their unit
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  fathom bench rollout
  fathom bench rollout --shape v3-16m --sequences 64 --prompt 64 --tokens 128 --greedy --json

Rates count the tokens of the answers over all of the time, prompts included.";

pub(super) fn run(args: Args) -> Result<(), Failure> {
    args.machine.apply();
    let work = RolloutWork {
        n_sequences: args.sequences as usize,
        n_prompt: args.prompt as usize,
        n_new: args.tokens as usize,
        greedy: args.greedy,
    };
    let heading = ["shape", "sequences", "prompt + answer", "drawn", "tokens/s", "least – most"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    let mut objects: Vec<Value> = Vec::new();
    for shape in &args.shape.0 {
        let about = format!("{}: {} rollouts …", shape.name, args.rounds);
        to_stderr(&format!("{}\n", Style::of_stderr().dim(&about)));
        let rounds = args.rounds as usize;
        let [median, least, most] = rollout_rate(shape, args.precision.into(), work, rounds)?;
        rows.push(vec![
            shape.name.to_owned(),
            args.sequences.to_string(),
            format!("{} + {}", args.prompt, args.tokens),
            if args.greedy { "likeliest" } else { "temperature 1" }.to_owned(),
            format!("{median:.0}"),
            format!("{least:.0} – {most:.0}"),
        ]);
        objects.push(json!({
            "shape": shape.name,
            "tokens_per_s": median,
            "tokens_per_s_least": least,
            "tokens_per_s_most": most,
        }));
    }
    let n_threads = fathom_kernels::threads::n_threads();
    if args.json {
        return json_to_stdout(&json!({
            "precision": args.precision.to_string(),
            "threads": n_threads,
            "sequences": args.sequences,
            "prompt_tokens": args.prompt,
            "answer_tokens": args.tokens,
            "greedy": args.greedy,
            "rounds": args.rounds,
            "shapes": objects,
        }));
    }
    to_stdout(&(align(&rows) + &format!("{}, threads: {n_threads}\n", args.precision)))
}
