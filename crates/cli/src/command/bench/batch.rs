//! `fathom bench batch`: many sequences that advance together.

use super::rate::{Beside, Spread, read_now};
use super::subject::{Counts, Subject, Typed};
use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stdout};
use fathom_engine::bench::{Runner, Work};
use fathom_kernels::limits::ReadMeter;
use fathom_train::results::align;
use serde_json::{Value, json};

/// Steps between two looks at the bandwidth.
const SLICE: usize = 16;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    typed: Typed,

    /// Numbers of sequences, in a row of the table each
    #[arg(long, value_name = "N,…", default_value = "1,4,16,64")]
    sequences: Counts,

    /// Tokens of each sequence's prompt; no two have anything in common
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    prompt: u32,

    /// Tokens that each sequence then gets
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    tokens: u32,
}

const EXAMPLES: &str = "\
Examples:
  fathom bench batch model-q4_k.gguf
  fathom bench batch model-q4_k.gguf --sequences 16 --prompt 128 --tokens 64 --json

All prompts are read first, then every step gives each sequence a token. The first token counts from
the start until all prompts are read; `answers` are the tokens given, over all of the time.";

/// One round.
struct Round {
    prompt: Work,
    answer: Work,
    read_limit: f64,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let subject = args.typed.open()?;
    let (n_prompt, n_tokens) = (args.prompt as usize, args.tokens as usize);
    subject.check_context(n_prompt + n_tokens)?;
    let meter = ReadMeter::new();
    Runner::new(&subject.model, subject.cache, 1).prompt(n_prompt);
    let mut rows = Vec::new();
    for &n_sequences in &args.sequences.0 {
        subject.announce(&format!("{n_sequences} sequences of {n_prompt} + {n_tokens} tokens"));
        let mut runner = Runner::new(&subject.model, subject.cache, n_sequences);
        let rounds: Vec<Round> = (0..args.typed.rounds)
            .map(|_| {
                runner.rewind(0);
                round(&mut runner, n_prompt, n_tokens, &meter)
            })
            .collect();
        rows.push((n_sequences, rounds));
    }
    if args.typed.json {
        let rows = rows.iter().map(|(n, rounds)| as_json(*n, n_prompt, rounds)).collect();
        return json_to_stdout(&subject.as_json(rows));
    }
    to_stdout(&table(&subject, &rows))
}

fn round(runner: &mut Runner<'_>, n_prompt: usize, n_tokens: usize, meter: &ReadMeter) -> Round {
    let prompt = runner.prompt(n_prompt);
    let (mut answer, mut limit) = (Work::default(), Beside::default());
    limit.look(read_now(meter));
    for from in (0..n_tokens).step_by(SLICE) {
        for _ in from..(from + SLICE).min(n_tokens) {
            answer = answer.and(runner.step());
        }
        limit.look(read_now(meter));
    }
    Round { prompt, answer, read_limit: limit.mean() }
}

impl Round {
    fn prompt_rate(&self) -> f64 {
        self.prompt.n_tokens as f64 / self.prompt.seconds
    }

    fn rate(&self) -> f64 {
        self.answer.n_tokens as f64 / self.answer.seconds
    }

    fn answers(&self) -> f64 {
        self.answer.n_tokens as f64 / self.seconds()
    }

    fn total(&self) -> f64 {
        (self.prompt.n_tokens + self.answer.n_tokens) as f64 / self.seconds()
    }

    fn seconds(&self) -> f64 {
        self.prompt.seconds + self.answer.seconds
    }

    fn share(&self) -> f64 {
        self.answer.bytes() / self.answer.seconds / self.read_limit
    }
}

fn table(subject: &Subject, rows: &[(usize, Vec<Round>)]) -> String {
    let heading = [
        "sequences",
        "prompt tokens/s",
        "first token, s",
        "tokens/s",
        "least – most",
        "answers, tokens/s",
        "total, tokens/s",
        "of read limit",
    ];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for (n_sequences, rounds) in rows {
        let median =
            |figure: fn(&Round) -> f64, unit| Spread::of(rounds.iter().map(figure)).cells(unit);
        let [tokens, reach] = median(Round::rate, 1.0);
        let [share, _] = median(Round::share, 0.01);
        let [first, _] = median(|round| round.prompt.seconds, 1.0);
        lines.push(vec![
            n_sequences.to_string(),
            median(Round::prompt_rate, 1.0)[0].clone(),
            first,
            tokens,
            reach,
            median(Round::answers, 1.0)[0].clone(),
            median(Round::total, 1.0)[0].clone(),
            format!("{share} %"),
        ]);
    }
    align(&lines) + &subject.facts()
}

fn as_json(n_sequences: usize, n_prompt: usize, rounds: &[Round]) -> Value {
    let spread = |figure: fn(&Round) -> f64| Spread::of(rounds.iter().map(figure));
    let rates = spread(Round::rate);
    json!({
        "sequences": n_sequences,
        "prompt_tokens": n_prompt,
        "tokens": rounds[0].answer.n_tokens / n_sequences,
        "rounds": rounds.len(),
        "prompt_tokens_per_s": spread(Round::prompt_rate).median,
        "first_token_s": spread(|round| round.prompt.seconds).median,
        "tokens_per_s": rates.median,
        "tokens_per_s_least": rates.least,
        "tokens_per_s_most": rates.most,
        "answer_tokens_per_s": spread(Round::answers).median,
        "total_tokens_per_s": spread(Round::total).median,
        "share_of_read_limit": spread(Round::share).median,
    })
}
