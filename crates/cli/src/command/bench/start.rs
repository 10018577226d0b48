//! `fathom bench start`: from the start of the program to the first token of an answer.

use super::rate::Spread;
use super::subject::Loading;
use crate::command::Machine;
use crate::failure::Failure;
use crate::memory::peak_rss_bytes;
use crate::output::{json_to_stdout, to_stdout};
use fathom_engine::{GenerateRequest, Sampling, Session};
use fathom_model::Loaded;
use fathom_train::results::align;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    loading: Loading,

    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    prompt: u16,

    /// Start it N times; the median, the least and the most are shown
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Print one JSON object; names of figures carry their unit
    #[arg(long)]
    json: bool,

    /// Be the program that is started
    #[arg(long, hide = true)]
    started: bool,

    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  fathom bench start model-q8_0.gguf
  fathom bench start model-q8_0.gguf --rounds 9 --json

The program starts itself once before, so that the files are in memory, and N times with the clock
running: opening, tokenizer, weights, the prompt, one token.";

/// One start.
struct Round {
    first_token_s: f64,
    loaded_s: f64,
    peak_rss_bytes: f64,
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    if args.started {
        return first_token(&args);
    }
    let opened = args.loading.find()?;
    let file_bytes = bytes_of(opened.path());
    start_once()?;
    let rounds = (0..args.rounds).map(|_| start_once()).collect::<Result<Vec<_>, Failure>>()?;
    let spread = |figure: fn(&Round) -> f64| Spread::of(rounds.iter().map(figure));
    let first = spread(|round| round.first_token_s);
    let memory = spread(|round| round.peak_rss_bytes);
    if args.json {
        return json_to_stdout(&json!({
            "model": opened.label(),
            "prompt_tokens": args.prompt,
            "rounds": args.rounds,
            "first_token_s": first.median,
            "first_token_s_least": first.least,
            "first_token_s_most": first.most,
            "loaded_s": spread(|round| round.loaded_s).median,
            "peak_rss_bytes": memory.median,
            "file_bytes": file_bytes,
            "peak_rss_over_file": memory.median / file_bytes as f64,
        }));
    }
    let heading = ["first token, s", "least – most", "loaded, s", "memory, GB", "of the files"];
    let line = vec![
        format!("{:.2}", first.median),
        format!("{:.2} – {:.2}", first.least, first.most),
        format!("{:.2}", spread(|round| round.loaded_s).median),
        format!("{:.2}", memory.median / 1e9),
        format!("{:.2}", memory.median / file_bytes as f64),
    ];
    let table = align(&[heading.map(str::to_owned).to_vec(), line]);
    to_stdout(&format!("{table}{}, a prompt of {} tokens\n", opened.label(), args.prompt))
}

/// Starts this program with the arguments it was given, and hears when the first token is there.
fn start_once() -> Result<Round, Failure> {
    let failed = |what: &dyn std::fmt::Display| {
        Failure::Failed(format!("cannot start this program again: {what}"))
    };
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--started")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(|error| failed(&error))?;
    }
    let first_token_s = start.elapsed().as_secs_f64();
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        return Err(Failure::Failed(said.strip_prefix("error: ").unwrap_or(said).to_owned()));
    }
    let told: Value = serde_json::from_str(&line).map_err(|error| failed(&error))?;
    let figure = |name: &str| told[name].as_f64().unwrap_or(f64::NAN);
    let (loaded_s, peak_rss_bytes) = (figure("loaded_s"), figure("peak_rss_bytes"));
    Ok(Round { first_token_s, loaded_s, peak_rss_bytes })
}

/// Opens the model, reads a prompt of fixed ids, draws a token, and says what that took.
fn first_token(args: &Args) -> Result<(), Failure> {
    let start = Instant::now();
    args.machine.apply();
    let opened = args.loading.find()?;
    // Not needed for ids, but a part of every start; models made for measuring may have none.
    let tokenizer = opened.tokenizer().ok();
    let (Loaded { model, .. }, spec) = args.loading.load(&opened)?;
    let loaded_s = start.elapsed().as_secs_f64();
    let vocab = tokenizer.map_or(usize::MAX, |t| t.vocab_size()).min(model.config.vocab_size);
    let ids: Vec<u32> =
        (0..args.prompt).map(|i| (u64::from(i) * 7919 % vocab as u64) as u32).collect();
    let sampling = Sampling { vocab_limit: vocab, ..Sampling::greedy(1) };
    Session::new(spec).generate(&model, &GenerateRequest::new(&ids, &sampling), |_| true)?;
    json_to_stdout(&json!({
        "loaded_s": loaded_s,
        "peak_rss_bytes": peak_rss_bytes(),
    }))
}

/// Bytes of a GGUF, or of all safetensors of a directory.
fn bytes_of(path: &Path) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
    if path.is_file() {
        return size(path);
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .map(|p| size(&p))
        .sum()
}
