//! `GET /api/info`: what the page must know of the model before it can show anything.

use crate::app::Shared;
use crate::caller::Caller;
use crate::protocol::model_name;
use crate::refusal::Refusal;
use crate::served::{Defaults, ExpertsShape, Served, Thinking};
use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

/// Reached without a key too, so that the page can ask its reader for one.
pub(crate) const PATH: &str = "/api/info";

/// Answers with the model's facts; with less to whoever shows no valid key where one is needed.
pub(crate) async fn info(
    State(app): State<Shared>,
    caller: Option<Extension<Caller>>,
) -> Result<Json<Value>, Refusal> {
    let needs_key = app.settings.keys.are_needed(&app.store)?;
    Ok(Json(body(&app.served, needs_key, caller.is_some())))
}

fn body(served: &Served, needs_key: bool, is_accepted: bool) -> Value {
    let mut body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "needs_key": needs_key,
        "key_accepted": is_accepted,
    });
    if is_accepted {
        body["model"] = json!(served.name);
        body["models"] = json!(model_name::names(served));
        body["chat"] = json!(served.renderer.is_some());
        body["thinking"] = json!(word(served.thinking));
        body["context_tokens"] = json!(served.context_tokens);
        body["defaults"] = defaults(&served.defaults);
        body["experts"] = experts(served.experts.as_ref());
    }
    body
}

fn word(thinking: Thinking) -> &'static str {
    match thinking {
        Thinking::Never => "never",
        Thinking::Always => "always",
        Thinking::Switch => "switch",
    }
}

fn defaults(defaults: &Defaults) -> Value {
    json!({
        "temperature": decimal(defaults.temperature),
        "top_p": decimal(defaults.top_p),
        "top_k": defaults.top_k,
        "min_p": decimal(defaults.min_p),
        "repetition_penalty": decimal(defaults.repetition_penalty),
        "max_tokens": defaults.max_tokens,
    })
}

fn experts(experts: Option<&ExpertsShape>) -> Value {
    experts.map_or(Value::Null, |shape| {
        json!({
            "layers": shape.layers,
            "n_routed_experts": shape.n_routed_experts,
            "num_experts_per_tok": shape.num_experts_per_tok,
        })
    })
}

/// The number as a person wrote it: 0.6 and not 0.6000000238.
fn decimal(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_people_write_them() {
        assert_eq!(decimal(0.6).to_string(), "0.6");
        assert_eq!(decimal(1.0), json!(1.0));
        assert_eq!(decimal(f32::NAN), Value::Null);
        let shape =
            ExpertsShape { layers: vec![1, 2], n_routed_experts: 8, num_experts_per_tok: 2 };
        assert_eq!(experts(Some(&shape))["layers"], json!([1, 2]));
        assert_eq!(experts(None), Value::Null);
    }
}
