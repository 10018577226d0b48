//! `fathom bench`: how fast this machine is, beside what it can do at most.

mod batch;
mod decode;
mod drafts;
mod kernels;
mod prefill;
mod rate;
mod rollout;
mod stand_in;
mod start;
mod subject;
mod tokenizer;
mod turns;

use super::{Dtype, Machine};
use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stderr, to_stdout};
use crate::terminal::Style;
use fathom_train::bench::{self, BenchResult, BenchShape};
use fathom_train::results::align;
use serde_json::{Value, json};

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "\
Examples:
  fathom bench decode model-q8_0.gguf --depth 0,4096
  fathom bench prefill deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B --quant q4_k
  fathom bench train
  fathom bench train --shape llama-34m --precision f32 --seconds 20 --json
  fathom bench stand-in distill-qwen-1.5b /tmp/qwen --tokenizer my/tokenizer.json";

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Reading prompts: tokens per second, beside what the processor computes at most
    Prefill(prefill::Args),
    /// Writing an answer, token after token, beside what memory delivers at most
    Decode(decode::Args),
    /// Many sequences that advance together
    Batch(batch::Args),
    /// What drafts bring on the held-out questions of a trained run
    Drafts(drafts::Args),
    /// Products with weights of every format, and attention
    Kernels(kernels::Args),
    /// Text to token ids, on one thread
    Tokenizer(tokenizer::Args),
    /// From the start of the program to the first token, and the memory that takes
    Start(start::Args),
    /// Whole training steps: forward, backward, clipping, AdamW
    Train(Train),
    /// Answers to many prompts at once, as reinforcement learning samples them
    Rollout(rollout::Args),
    /// Write a checkpoint of a release's shape with random weights, to measure with
    StandIn(stand_in::Args),
}

#[derive(clap::Args, Debug)]
struct Train {
    /// The model and batch to time: llama-34m, llama-0.9m, v3-16m or all
    #[arg(long, value_name = "NAME", default_value = "all", value_parser = shapes)]
    shape: Shapes,

    /// Arithmetic of the matrices
    #[arg(long, value_name = "TYPE", default_value = "bf16")]
    precision: Dtype,

    /// Run layers again in the backward pass instead of keeping what they computed
    #[arg(long)]
    recompute: bool,

    /// Time steps for at least S seconds per shape
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,

    /// Print one JSON object; names of figures carry their unit
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    machine: Machine,
}

/// Shapes as typed.
#[derive(Clone, Debug)]
struct Shapes(Vec<BenchShape>);

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    match args.what {
        What::Prefill(args) => prefill::run(args),
        What::Decode(args) => decode::run(args),
        What::Batch(args) => batch::run(args),
        What::Drafts(args) => drafts::run(args),
        What::Kernels(args) => kernels::run(args),
        What::Tokenizer(args) => tokenizer::run(args),
        What::Start(args) => start::run(args),
        What::Train(args) => train(args),
        What::Rollout(args) => rollout::run(args),
        What::StandIn(args) => stand_in::run(args),
    }
}

fn train(args: Train) -> Result<(), Failure> {
    args.machine.apply();
    let mut results = Vec::new();
    for shape in &args.shape.0 {
        let about = format!("{}: {} s of training steps …", shape.name, args.seconds);
        to_stderr(&format!("{}\n", Style::of_stderr().dim(&about)));
        let result = bench::train_step(shape, args.precision.into(), args.recompute, args.seconds)?;
        results.push((shape, result));
    }
    let n_threads = fathom_kernels::threads::n_threads();
    if args.json {
        let shapes: Vec<Value> = results.iter().map(|(shape, r)| as_json(shape, r)).collect();
        return json_to_stdout(&json!({
            "precision": args.precision.to_string(),
            "recompute": args.recompute,
            "threads": n_threads,
            "shapes": shapes,
        }));
    }
    to_stdout(&table(&results, args.precision, n_threads))
}

fn table(results: &[(&BenchShape, BenchResult)], precision: Dtype, n_threads: usize) -> String {
    let heading = [
        "shape",
        "parameters",
        "batch",
        "tokens/s",
        "least – most",
        "GFLOP/s",
        "of f32 peak",
        "memory",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (shape, result) in results {
        let [median, least, most] = result.tokens_per_s;
        rows.push(vec![
            shape.name.to_owned(),
            format!("{:.2} M", result.n_parameters as f64 / 1e6),
            format!("{} × {}", shape.n_sequences, shape.length),
            format!("{median:.0}"),
            format!("{least:.0} – {most:.0}"),
            format!("{:.0}", result.flops / 1e9),
            format!("{:.0} %", result.share_of_peak * 100.0),
            result
                .peak_rss_bytes
                .map_or("–".into(), |bytes| format!("{:.2} GB", bytes as f64 / 1e9)),
        ]);
    }
    let facts =
        format!("{precision}, threads: {n_threads}; memory is the most this process held so far\n");
    align(&rows) + &facts
}

fn as_json(shape: &BenchShape, result: &BenchResult) -> Value {
    let [median, least, most] = result.tokens_per_s;
    json!({
        "shape": shape.name,
        "parameters": result.n_parameters,
        "batch_sequences": shape.n_sequences,
        "sequence_tokens": shape.length,
        "steps": result.n_steps,
        "tokens_per_s": median,
        "tokens_per_s_least": least,
        "tokens_per_s_most": most,
        "flops_per_s": result.flops,
        "share_of_f32_peak": result.share_of_peak,
        "peak_rss_bytes": result.peak_rss_bytes,
        "loss_nats_per_token": result.loss,
    })
}

fn shapes(name: &str) -> Result<Shapes, String> {
    if name == "all" {
        return Ok(Shapes(bench::shapes()));
    }
    bench::shape(name).map(|shape| Shapes(vec![shape])).ok_or_else(|| {
        let names: Vec<&str> = bench::shapes().iter().map(|shape| shape.name).collect();
        format!("it is one of {} or all", names.join(", "))
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("it must be a number of seconds, at most a day".into()),
    }
}
