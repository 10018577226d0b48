//! `fathom bench decode`: one token after another, beside what memory can deliver.

use super::rate::{Beside, Spread, read_now};
use super::subject::{Depths, Subject, Typed};
use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stdout};
use fathom_engine::bench::{Runner, Work};
use fathom_kernels::limits::ReadMeter;
use fathom_train::results::align;
use serde_json::{Value, json};

/// Tokens between two looks at the bandwidth.
const SLICE: usize = 16;
/// Tokens before the clock runs, so that every weight has been touched.
const WARMUP: usize = 2;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    typed: Typed,

    /// Tokens per round
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    tokens: u32,

    /// Tokens that are in the cache before, in a row of the table each
    #[arg(long, value_name = "N,…", default_value = "0")]
    depth: Depths,
}

const EXAMPLES: &str = "\
Examples:
  fathom bench decode model-q8_0.gguf
  fathom bench decode deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --quant q4_k --depth 0,4096
  fathom bench decode model.gguf --tokens 64 --rounds 7 --json

The share is that of the bytes a token has to read (weights, of experts those visited, keys and values)
in what memory delivered between the tokens.";

/// One round.
struct Round {
    work: Work,
    read_limit: f64,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let subject = args.typed.open()?;
    let n_tokens = args.tokens as usize;
    let deepest = args.depth.0.iter().max().copied().unwrap_or(0);
    subject.check_context(deepest + n_tokens.max(WARMUP))?;
    let meter = ReadMeter::new();
    let mut depths = args.depth.0.clone();
    depths.sort_unstable();
    let mut runner = Runner::new(&subject.model, subject.cache, 1);
    let (mut rows, mut filled) = (Vec::new(), 0);
    for depth in depths {
        subject.announce(&format!("decoding {n_tokens} tokens at depth {depth}"));
        runner.rewind(filled);
        runner.prompt(depth - filled);
        filled = depth;
        (0..WARMUP).for_each(|_| _ = runner.step());
        let rounds: Vec<Round> = (0..args.typed.rounds)
            .map(|_| {
                runner.rewind(depth);
                round(&mut runner, n_tokens, &meter)
            })
            .collect();
        rows.push((depth, rounds));
    }
    if args.typed.json {
        let rows = rows.iter().map(|(depth, rounds)| as_json(*depth, rounds)).collect();
        return json_to_stdout(&subject.as_json(rows));
    }
    to_stdout(&table(&subject, &rows))
}

fn round(runner: &mut Runner<'_>, n_tokens: usize, meter: &ReadMeter) -> Round {
    let (mut work, mut limit) = (Work::default(), Beside::default());
    limit.look(read_now(meter));
    for from in (0..n_tokens).step_by(SLICE) {
        for _ in from..(from + SLICE).min(n_tokens) {
            work = work.and(runner.step());
        }
        limit.look(read_now(meter));
    }
    Round { work, read_limit: limit.mean() }
}

fn rate(round: &Round) -> f64 {
    round.work.n_tokens as f64 / round.work.seconds
}

fn share(round: &Round) -> f64 {
    round.work.bytes() / round.work.seconds / round.read_limit
}

fn table(subject: &Subject, rows: &[(usize, Vec<Round>)]) -> String {
    let heading =
        ["depth", "tokens/s", "least – most", "GB a token", "GB/s", "GB/s limit", "share of it"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for (depth, rounds) in rows {
        let [tokens, reach] = Spread::of(rounds.iter().map(rate)).cells(1.0);
        let work = rounds[0].work;
        let got = Spread::of(rounds.iter().map(|r| r.work.bytes() / r.work.seconds));
        let limit = Spread::of(rounds.iter().map(|r| r.read_limit));
        lines.push(vec![
            depth.to_string(),
            tokens,
            reach,
            format!("{:.3}", work.bytes() / work.n_tokens as f64 / 1e9),
            format!("{:.1}", got.median / 1e9),
            format!("{:.1}", limit.median / 1e9),
            format!("{:.0} %", Spread::of(rounds.iter().map(share)).median * 100.0),
        ]);
    }
    align(&lines) + &subject.facts()
}

fn as_json(depth: usize, rounds: &[Round]) -> Value {
    let rates = Spread::of(rounds.iter().map(rate));
    let work = rounds[0].work;
    let n = work.n_tokens as f64;
    json!({
        "depth_tokens": depth,
        "tokens": work.n_tokens,
        "rounds": rounds.len(),
        "tokens_per_s": rates.median,
        "tokens_per_s_least": rates.least,
        "tokens_per_s_most": rates.most,
        "weight_bytes_per_token": work.weight_bytes / n,
        "cache_bytes_per_token": work.cache_bytes / n,
        "read_bytes_per_s": Spread::of(rounds.iter().map(|r| r.work.bytes() / r.work.seconds)).median,
        "read_limit_bytes_per_s": Spread::of(rounds.iter().map(|r| r.read_limit)).median,
        "share_of_read_limit": Spread::of(rounds.iter().map(share)).median,
    })
}
