//! The released models as a table: for a terminal, for programs, for the documentation.

use crate::sizes::{format_bytes, format_count, grouped, table};
use fathom_model::Config;
use fathom_model::cost::{
    Parameters, cache_bytes_per_token, parameters, released_format, weight_bytes,
};
use fathom_model::preset::{OWNER, PRESETS, Preset};
use serde_json::{Value, json};

/// One preset with what is counted of it.
struct Row {
    preset: &'static Preset,
    config: Config,
    counts: Parameters,
    weight_bytes: u64,
}

fn rows() -> impl Iterator<Item = Row> {
    PRESETS.iter().map(|preset| {
        let config = (preset.config)();
        let counts = parameters(&config);
        let weight_bytes = weight_bytes(&config, released_format(&config)).total();
        Row { preset, config, counts, weight_bytes }
    })
}

/// Names and main figures in columns.
pub(super) fn text() -> String {
    let header =
        ["preset", "type", "parameters", "active", "layers", "context", "cache/token", "weights"];
    let rows: Vec<Vec<String>> = rows()
        .map(|row| {
            vec![
                row.preset.name.to_owned(),
                row.config.model_type.model_type().to_owned(),
                format_count(row.counts.total),
                format_count(row.counts.active),
                row.config.num_hidden_layers.to_string(),
                row.preset.context_tokens.to_string(),
                format!("{} B", cache_bytes_per_token(&row.config, 2)),
                format_bytes(row.weight_bytes),
            ]
        })
        .collect();
    let legend = "\nCache in bf16 and weights as published. \
                  `fathom inspect --preset NAME` shows one; repository names work as well.\n";
    table(&header, &rows, &[0, 1]) + legend
}

/// All of them in one object.
pub(super) fn json() -> Value {
    let presets: Vec<Value> = rows()
        .map(|row| {
            let ids: Vec<String> =
                row.preset.hub_ids.iter().map(|id| format!("{OWNER}/{id}")).collect();
            json!({
                "name": row.preset.name,
                "hub_ids": ids,
                "model_type": row.config.model_type.model_type(),
                "parameters": row.counts.total,
                "parameters_active": row.counts.active,
                "layers": row.config.num_hidden_layers,
                "published_context_tokens": row.preset.context_tokens,
                "cache_bytes_per_token_bf16": cache_bytes_per_token(&row.config, 2),
                "released_weight_bytes": row.weight_bytes,
            })
        })
        .collect();
    json!({ "presets": presets })
}

/// The page `docs/models.md`.
pub(super) fn markdown() -> String {
    let mut page = String::from(
        "# Supported models\n\n\
         Printed by `fathom inspect --list-presets --markdown`; a test compares. Each row is a \
         preset: `fathom inspect --preset NAME` shows its shape, `fathom plan --preset NAME` what \
         it takes to run. Repositories are those of `deepseek-ai` with exactly that \
         configuration. Active parameters are those that a token meets, embedding included; the \
         cache is that of one token in bf16; weights are the bytes of the released checkpoint.\n\n\
         | preset | repositories | model_type | parameters | active | context | cache | weights |\n\
         |---|---|---|--:|--:|--:|--:|--:|\n",
    );
    for row in rows() {
        let ids: Vec<String> = row.preset.hub_ids.iter().map(|id| format!("`{id}`")).collect();
        page.push_str(&format!(
            "| `{}` | {} | `{}` | {} | {} | {} | {} B | {} |\n",
            row.preset.name,
            ids.join(", "),
            row.config.model_type.model_type(),
            grouped(row.counts.total),
            format_count(row.counts.active),
            grouped(row.preset.context_tokens),
            grouped(cache_bytes_per_token(&row.config, 2)),
            format_bytes(row.weight_bytes),
        ));
    }
    page
}
