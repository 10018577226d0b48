//! Fields that say how tokens are chosen, the same in chat and completions.

use super::fields::{Fields, as_integer, as_number, wrong};
use crate::ask::SamplingAsk;
use crate::refusal::Refusal;
use fathom_text::chat::Json;
use std::collections::BTreeMap;

/// Stop strings of a request at most.
const MOST_STOPS: usize = 16;
/// Likeliest tokens beside each token at most.
pub(crate) const MOST_TOP: usize = 20;
/// Answers to one prompt at most.
pub(crate) const MOST_ANSWERS: usize = 16;

/// Accepted without effect: they tell a company's service about its customers.
pub(crate) const WITHOUT_EFFECT: &[&str] = &[
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// How tokens are chosen.
pub(crate) fn sampling(fields: &Fields) -> Result<SamplingAsk, Refusal> {
    let top_p = fields.number("top_p", 0.0..=1.0)?;
    if top_p == Some(0.0) {
        let message = "`top_p` must be above 0 and at most 1, not 0\nhint: `temperature` 0 takes the likeliest token";
        return Err(Refusal::out_of_range(fields.path("top_p"), message));
    }
    Ok(SamplingAsk {
        temperature: fields.number("temperature", 0.0..=2.0)?,
        top_p,
        top_k: fields.count("top_k", 0..=1 << 20)?,
        min_p: fields.number("min_p", 0.0..=1.0)?,
        repetition_penalty: fields.number("repetition_penalty", 0.01..=100.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(0.0),
        logit_bias: logit_bias(fields)?,
        seed: seed(fields)?,
        ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
    })
}

/// Texts that end an answer. An empty one would never be found, so it is left out.
pub(crate) fn stop(fields: &Fields) -> Result<Vec<String>, Refusal> {
    let stops = match fields.any("stop") {
        None => return Ok(Vec::new()),
        Some(Json::String(text)) => vec![text.clone()],
        Some(Json::Array(items)) => {
            let text = |(at, item): (usize, &Json)| match item {
                Json::String(text) => Ok(text.clone()),
                other => Err(fields.wrong(&format!("stop[{at}]"), "a string", other)),
            };
            items.iter().enumerate().map(text).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(fields.wrong("stop", "a string or a list of strings", other)),
    };
    if stops.len() > MOST_STOPS {
        let message = format!("`stop` must have at most {MOST_STOPS} strings, not {}", stops.len());
        return Err(Refusal::out_of_range("stop", message));
    }
    Ok(stops.into_iter().filter(|stop| !stop.is_empty()).collect())
}

/// Whether the answer is streamed, and whether its usage comes last.
pub(crate) fn streaming(fields: &Fields) -> Result<(bool, bool, Vec<String>), Refusal> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    let Some(options) = fields.object("stream_options")? else {
        return Ok((stream, false, Vec::new()));
    };
    if !stream {
        return Err(Refusal::invalid(
            "stream_options",
            "`stream_options` is allowed only with `stream` true",
        ));
    }
    let include_usage = options.flag("include_usage")?.unwrap_or(false);
    options.without_effect(&["include_obfuscation"]);
    Ok((stream, include_usage, options.unknown()))
}

fn seed(fields: &Fields) -> Result<Option<u64>, Refusal> {
    let Some(seed) = fields.integer("seed")? else { return Ok(None) };
    let signed = i64::try_from(seed).map(|seed| seed as u64);
    signed.or_else(|_| u64::try_from(seed)).map(Some).map_err(|_| {
        Refusal::out_of_range("seed", format!("`seed` must fit into 64 bits, not {seed}"))
    })
}

fn logit_bias(fields: &Fields) -> Result<BTreeMap<u32, f32>, Refusal> {
    let Some(value) = fields.any("logit_bias") else { return Ok(BTreeMap::new()) };
    let Json::Object(entries) = value else {
        return Err(fields.wrong("logit_bias", "an object of token ids and numbers", value));
    };
    let entry = |(key, value): &(String, Json)| {
        let path = format!("logit_bias.{key}");
        let Ok(id) = key.parse::<u32>() else {
            let message = format!("`logit_bias` must have token ids as keys, not `{key}`");
            return Err(Refusal::invalid("logit_bias", message));
        };
        let Some(bias) = as_number(value) else {
            return Err(wrong(&path, "a number", value));
        };
        match (-100.0..=100.0).contains(&bias) {
            true => Ok((id, bias as f32)),
            false => {
                let message = format!("`{path}` must be from -100 to 100, not {bias}");
                Err(Refusal::out_of_range(path, message))
            }
        }
    };
    entries.iter().map(entry).collect()
}

/// Token ids, such as a prompt. Errors: 400 for anything but whole numbers of 32 bits.
pub(crate) fn token_ids(path: &str, items: &[Json]) -> Result<Vec<u32>, Refusal> {
    let id = |(at, item): (usize, &Json)| {
        let id = as_integer(item).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| wrong(&format!("{path}[{at}]"), "a token id", item))
    };
    items.iter().enumerate().map(id).collect()
}
