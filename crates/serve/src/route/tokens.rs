//! `POST /tokenize` and `/detokenize`: text to token ids and back, as the model sees it.

use crate::answer;
use crate::app::Shared;
use crate::aside::aside;
use crate::ask::PromptAsk;
use crate::protocol::body::JsonBody;
use crate::protocol::chat_request;
use crate::protocol::fields::Fields;
use crate::protocol::model_name;
use crate::protocol::sampling::token_ids;
use crate::protocol::warnings::Warnings;
use crate::refusal::Refusal;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fathom_text::chat::Json as JsonText;
use serde_json::{Value, json};

/// Ids of a text, or of a conversation as its template lays it out.
pub(crate) async fn tokenize(
    State(app): State<Shared>,
    JsonBody(body): JsonBody,
) -> Result<Response, Refusal> {
    aside(move || ids_of(&app, &body)).await
}

/// Text of ids, control tokens written out.
pub(crate) async fn detokenize(
    State(app): State<Shared>,
    JsonBody(body): JsonBody,
) -> Result<Response, Refusal> {
    let fields = Fields::of("", &body)?;
    check_model(&app, &fields)?;
    let Some(items) = fields.list("tokens")? else {
        return Err(fields.missing("tokens", "a list of token ids"));
    };
    let ids = token_ids("tokens", items)?;
    let limit = app.served.tokenizer.vocab_size();
    if let Some(at) = ids.iter().position(|id| *id as usize >= limit) {
        let message = format!("`tokens[{at}]` must be a token below {limit}, not {}", ids[at]);
        return Err(Refusal::invalid(format!("tokens[{at}]"), message));
    }
    let text = app.served.tokenizer.decode(&ids);
    // The first word is that of llama.cpp, the second that of vLLM.
    Ok(with_warnings(json!({"content": text, "prompt": text}), &fields))
}

fn ids_of(app: &Shared, body: &JsonText) -> Result<Response, Refusal> {
    let fields = Fields::of("", body)?;
    check_model(app, &fields)?;
    let ids = match fields.any("messages") {
        Some(_) => {
            let chat = chat_request::read_conversation(&app.served, &fields)?;
            answer::prompt(&app.served, &PromptAsk::Chat(chat))?.ids
        }
        None => text_ids(app, &fields)?,
    };
    let mut body = json!({
        "tokens": ids,
        "count": ids.len(),
        "max_model_len": app.served.context_tokens,
    });
    if fields.flag("return_token_strs")?.or(fields.flag("with_pieces")?).unwrap_or(false) {
        let text = |id: &u32| app.served.tokenizer.token_text(*id);
        body["token_strs"] = json!(ids.iter().map(text).collect::<Vec<_>>());
    }
    Ok(with_warnings(body, &fields))
}

fn text_ids(app: &Shared, fields: &Fields) -> Result<Vec<u32>, Refusal> {
    let mut texts = Vec::new();
    for name in ["content", "prompt", "text"] {
        texts.extend(fields.text(name)?);
    }
    let [text] = texts[..] else {
        let expected = "exactly one of `content`, `prompt`, `text` and `messages`";
        return Err(Refusal::invalid(
            "content",
            format!("{expected} is needed, not {}", texts.len()),
        ));
    };
    let add_special = fields.flag("add_special")?.or(fields.flag("add_special_tokens")?);
    let parse_special = fields.flag("parse_special")?.unwrap_or(true);
    Ok(match (add_special.unwrap_or(false), parse_special) {
        (true, true) => answer::with_bos(&app.served, text),
        (true, false) => {
            let ids = app.served.tokenizer.encode_plain(text);
            app.served.bos.into_iter().chain(ids).collect()
        }
        (false, true) => app.served.tokenizer.encode(text),
        (false, false) => app.served.tokenizer.encode_plain(text),
    })
}

fn check_model(app: &Shared, fields: &Fields) -> Result<(), Refusal> {
    // There is but one model, so its name may be left out.
    match fields.text("model")? {
        Some(name) => model_name::thinking_of(&app.served, name).map(drop),
        None => Ok(()),
    }
}

fn with_warnings(mut body: Value, fields: &Fields) -> Response {
    let warnings = Warnings::about_unknown(&fields.unknown());
    if !warnings.is_empty() {
        body["warnings"] = json!(warnings.0);
    }
    warnings.mark(Json(body).into_response())
}

#[cfg(test)]
mod tests;
