//! `fathom logits`: what a model computes for given tokens, for people and for programs.

use super::tokenizer::{Ids, text_or_stdin};
use super::{Dtype, Machine};
use crate::failure::Failure;
use crate::opened::{Holding, Opened};
use crate::output::to_stdout;
use crate::talk::source::Missing;
use fathom_engine::{GenerateRequest, Sampling, Session};
use fathom_kernels::cross_entropy;
use fathom_model::cache::CacheForm;
use fathom_model::{Model, PackedRows, Rows};
use fathom_tensor::{Tape, Tensor, op};
use fathom_text::{Tokenizer, special};
use fathom_train::results::align;
use serde::Serialize;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A directory with `config.json`, a `.gguf` file, a run directory, or a downloaded repository
    #[arg(value_name = "MODEL")]
    model: String,

    /// Text instead of ids; `-` reads stdin
    #[arg(value_name = "TEXT", required_unless_present = "ids")]
    text: Option<String>,

    /// Token ids, such as 5,17,3
    #[arg(long, value_name = "IDS", conflicts_with_all = ["text", "bos"])]
    ids: Option<Ids>,

    /// Put the begin token before the text
    #[arg(long)]
    bos: bool,

    /// Log-probabilities instead of logits
    #[arg(long)]
    logprobs: bool,

    /// Also the N most likely next tokens, one after the other
    #[arg(long, value_name = "N", default_value_t = 0)]
    greedy: usize,

    /// Also the logits of the multi-token-prediction module
    #[arg(long)]
    mtp: bool,

    /// Arithmetic of the matrices
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: Dtype,

    #[command(flatten)]
    holding: Holding,

    /// Print one JSON object: ids, logits (or logprobs) per position, greedy, mtp_logits
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  fathom logits runs/r1-tiny \"1 + 1 =\"            the likeliest next tokens at every position
  fathom logits golden/llama_gqa --ids 5,17,3 --greedy 4
  fathom logits golden/deepseek_v3 --ids 5,17,3 --json --mtp";

/// Likeliest tokens that people are shown.
const N_SHOWN: usize = 5;

/// The figures, one row per position.
#[derive(Serialize)]
struct Computed {
    ids: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logits: Option<Vec<Vec<f32>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<Vec<f32>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    greedy: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtp_logits: Option<Vec<Vec<f32>>>,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    args.machine.apply();
    let opened = Opened::find(Some(&args.model), Missing::Refuse)?;
    let tokenizer = opened.tokenizer();
    let ids = ids(&args, &tokenizer)?;
    let mut model = opened.load(&args.holding, args.mtp)?.model;
    check(&args, &model, &ids)?;
    // The expanded cache computes the bits of an uncached pass.
    let cache = model.pack_for_cache(args.dtype.into(), CacheForm::Expanded);
    let rows = PackedRows::sequence(&ids);
    let hidden = model.hidden(&rows);
    let logits = op::logits(&hidden, model.head());
    let mtp_logits =
        if args.mtp { Some(mtp_logits(&model, &rows, &hidden, &logits)?) } else { None };
    let greedy = match args.greedy {
        0 => Vec::new(),
        n => greedy(&model, &mut Session::new(cache), &ids, n)?,
    };
    if !args.json {
        return to_stdout(&shown(tokenizer.ok().as_ref(), &ids, &logits, &greedy));
    }
    let mut values = rows_of(&logits);
    if args.logprobs {
        values.iter_mut().for_each(|row| to_log_probs(row));
    }
    let (logits, logprobs) =
        if args.logprobs { (None, Some(values)) } else { (Some(values), None) };
    let computed = Computed { ids, logits, logprobs, greedy, mtp_logits };
    let text = serde_json::to_string(&computed).expect("numbers always fit in JSON");
    to_stdout(&(text + "\n"))
}

fn ids(args: &Args, tokenizer: &Result<Tokenizer, Failure>) -> Result<Vec<u32>, Failure> {
    if let Some(ids) = &args.ids {
        return Ok(ids.0.clone());
    }
    let tokenizer = tokenizer.as_ref().map_err(Failure::clone)?;
    let mut ids = Vec::new();
    if args.bos {
        ids.push(tokenizer.special_id(special::BOS)?);
    }
    ids.extend(tokenizer.encode(&text_or_stdin(args.text.as_deref())?));
    Ok(ids)
}

fn check(args: &Args, model: &Model, ids: &[u32]) -> Result<(), Failure> {
    let (vocab, positions) = (model.config.vocab_size, model.config.max_position_embeddings);
    if ids.is_empty() {
        return Err(Failure::Usage("there are no tokens".into()));
    }
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
        return Err(Failure::Failed(format!(
            "id {id} is outside the vocabulary of {vocab} tokens"
        )));
    }
    let n_tokens = ids.len().saturating_add(args.greedy);
    if n_tokens > positions {
        return Err(Failure::Failed(format!(
            "{n_tokens} tokens are more than the model's {positions} positions"
        )));
    }
    if args.mtp && model.config.num_nextn_predict_layers == 0 {
        return Err(Failure::hinted(
            "this model has no multi-token-prediction module",
            "leave `--mtp` out; `num_nextn_predict_layers` in `config.json` says how many there are",
        ));
    }
    Ok(())
}

/// Row `i` scores the token after the next; behind the last token stands the most likely one.
fn mtp_logits(
    model: &Model,
    rows: &PackedRows,
    hidden: &Tensor,
    logits: &Tensor,
) -> Result<Vec<Vec<f32>>, Failure> {
    let last = &logits.data()[(rows.tokens.len() - 1) * logits.width()..];
    let mut next = rows.tokens[1..].to_vec();
    next.push(cross_entropy::argmax(last));
    let tape = Tape::forgetting();
    let forward = model.forward_mtp(&tape, Rows::Packed(rows), None, hidden, &next);
    let forward = forward.ok_or_else(|| Failure::Failed("the module has no weights".into()))?;
    Ok(rows_of(&op::logits(&forward.hidden, model.head())))
}

fn greedy(
    model: &Model,
    session: &mut Session,
    ids: &[u32],
    n: usize,
) -> Result<Vec<u32>, fathom_engine::Error> {
    let sampling = Sampling::greedy(n);
    let request = GenerateRequest::new(ids, &sampling);
    let mut drawn = Vec::with_capacity(n);
    session.generate(model, &request, |token| {
        drawn.push(token.token);
        true
    })?;
    Ok(drawn)
}

fn rows_of(tensor: &Tensor) -> Vec<Vec<f32>> {
    tensor.data().chunks(tensor.width()).map(<[f32]>::to_vec).collect()
}

fn to_log_probs(row: &mut [f32]) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|logit| f64::from(logit - max).exp()).sum();
    let lse = f64::from(max) + sum.ln();
    row.iter_mut().for_each(|logit| *logit = (f64::from(*logit) - lse) as f32);
}

/// The likeliest next tokens at every position, as words where there is a tokenizer.
fn shown(tokenizer: Option<&Tokenizer>, ids: &[u32], logits: &Tensor, greedy: &[u32]) -> String {
    let word = |id: u32| match tokenizer {
        Some(tokenizer) => format!("{:?}", tokenizer.decode(&[id])),
        None => id.to_string(),
    };
    let mut table = vec![vec!["token".to_owned(), "likeliest next".to_owned()]];
    for (id, mut row) in ids.iter().zip(rows_of(logits)) {
        to_log_probs(&mut row);
        let mut order: Vec<u32> = (0..row.len() as u32).collect();
        order.sort_by(|a, b| row[*b as usize].total_cmp(&row[*a as usize]).then(a.cmp(b)));
        let best = order.iter().take(N_SHOWN);
        let best = best.map(|id| format!("{} {:.1} %", word(*id), row[*id as usize].exp() * 100.0));
        table.push([word(*id)].into_iter().chain(best).collect());
    }
    let mut text = align(&table);
    if !greedy.is_empty() {
        let words: Vec<String> = greedy.iter().map(|id| word(*id)).collect();
        text.push_str(&format!("greedy  {}\n", words.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_add_up_to_one() {
        let mut row = [1000.0, 1001.0, 999.0];
        to_log_probs(&mut row);
        let sum: f64 = row.iter().map(|value| f64::from(*value).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6 && row[1] > row[0], "{row:?}");
    }
}
