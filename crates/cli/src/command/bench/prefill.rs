//! `fathom bench prefill`: prompts, beside what the processor computes at most.

use super::rate::{Beside, Peak, Spread};
use super::subject::{Counts, Subject, Typed};
use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stdout};
use fathom_engine::bench::{Runner, Work};
use fathom_train::results::align;
use serde_json::{Value, json};

/// Tokens of the prompt before the clock runs: every weight is touched, every buffer taken.
const WARMUP: usize = 256;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    typed: Typed,

    /// Lengths of the prompt, in a row of the table each
    #[arg(long, value_name = "N,…", default_value = "512,2048")]
    tokens: Counts,
}

const EXAMPLES: &str = "\
Examples:
  fathom bench prefill model-q8_0.gguf
  fathom bench prefill deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --quant q4_k --tokens 512,8192
  fathom bench prefill model.gguf --rounds 7 --json

Operations are those of the cheapest known order, the head's of one row only. The share is theirs in
what the processor did between the rounds: on bytes for weights in few bits, on floats for others.";

/// One round.
struct Round {
    work: Work,
    peak: f64,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let subject = args.typed.open()?;
    let longest = args.tokens.0.iter().max().copied().unwrap_or(0);
    subject.check_context(longest)?;
    let peak = Peak::of(subject.format);
    let mut runner = Runner::new(&subject.model, subject.cache, 1);
    runner.prompt(WARMUP.min(longest));
    let mut rows = Vec::new();
    for &n_tokens in &args.tokens.0 {
        subject.announce(&format!("reading prompts of {n_tokens} tokens"));
        let rounds: Vec<Round> = (0..args.typed.rounds)
            .map(|_| {
                let mut limit = Beside::default();
                limit.look(peak.now());
                runner.rewind(0);
                let work = runner.prompt(n_tokens);
                limit.look(peak.now());
                Round { work, peak: limit.mean() }
            })
            .collect();
        rows.push((n_tokens, rounds));
    }
    if args.typed.json {
        let rows = rows.iter().map(|(n, rounds)| as_json(*n, rounds, peak)).collect();
        return json_to_stdout(&subject.as_json(rows));
    }
    to_stdout(&table(&subject, &rows, peak))
}

fn rate(round: &Round) -> f64 {
    round.work.n_tokens as f64 / round.work.seconds
}

fn operations(round: &Round) -> f64 {
    round.work.operations / round.work.seconds
}

fn share(round: &Round) -> f64 {
    operations(round) / round.peak
}

fn table(subject: &Subject, rows: &[(usize, Vec<Round>)], peak: Peak) -> String {
    let limit = format!("{} peak", peak.name());
    let heading =
        ["tokens", "tokens/s", "least – most", "first token, s", "GOP/s", &limit, "share of it"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for (n_tokens, rounds) in rows {
        let [tokens, reach] = Spread::of(rounds.iter().map(rate)).cells(1.0);
        lines.push(vec![
            n_tokens.to_string(),
            tokens,
            reach,
            format!("{:.2}", Spread::of(rounds.iter().map(|r| r.work.seconds)).median),
            format!("{:.0}", Spread::of(rounds.iter().map(operations)).median / 1e9),
            format!("{:.0}", Spread::of(rounds.iter().map(|r| r.peak)).median / 1e9),
            format!("{:.0} %", Spread::of(rounds.iter().map(share)).median * 100.0),
        ]);
    }
    align(&lines) + &subject.facts()
}

fn as_json(n_tokens: usize, rounds: &[Round], peak: Peak) -> Value {
    let rates = Spread::of(rounds.iter().map(rate));
    json!({
        "tokens": n_tokens,
        "rounds": rounds.len(),
        "tokens_per_s": rates.median,
        "tokens_per_s_least": rates.least,
        "tokens_per_s_most": rates.most,
        "first_token_s": Spread::of(rounds.iter().map(|r| r.work.seconds)).median,
        "operations_per_token": rounds[0].work.operations / n_tokens as f64,
        "operations_per_s": Spread::of(rounds.iter().map(operations)).median,
        "peak": peak.name(),
        "peak_operations_per_s": Spread::of(rounds.iter().map(|r| r.peak)).median,
        "share_of_peak": Spread::of(rounds.iter().map(share)).median,
    })
}
