//! Running: what fits in each format, what is read per token, and how fast it can be at most.

use super::machine::Meant;
use super::{Args, Subject};
use crate::sizes::{format_bytes, format_count, table};
use fathom_kernels::quant::Format;
use fathom_model::Config;
use fathom_model::cost::plan::{
    Bound, Fit, PREFILL_CHUNK_TOKENS, Serving, ServingPlan, distinct_expert_share, serving_plan,
};
use fathom_model::cost::{COMPARED, parameters};
use serde_json::{Value, json};

/// Text and JSON of the plan.
pub(super) fn plan(
    subject: &Subject,
    machine: &Meant,
    args: &Args,
    context: u64,
) -> (String, Value) {
    let together = machine.together();
    let formats = args.quant.map_or(COMPARED.to_vec(), |format| vec![format]);
    let plans: Vec<(Format, ServingPlan)> = formats
        .into_iter()
        .map(|format| {
            let serving = Serving { format, context_tokens: context, batch: args.batch };
            (format, serving_plan(&subject.config, &together, &serving))
        })
        .collect();
    let json = plans.iter().map(|(format, plan)| as_json(*format, plan)).collect::<Vec<_>>();
    let object = json!({
        "cache_bytes": plans[0].1.cache_bytes,
        "scratch_bytes": plans[0].1.scratch_bytes,
        "formats": json,
    });
    (text(subject, &plans, args.batch, context), object)
}

fn text(subject: &Subject, plans: &[(Format, ServingPlan)], batch: u64, context: u64) -> String {
    let config = &subject.config;
    let counts = parameters(config);
    let sparse = config.n_routed_experts.is_some();
    let first = &plans[0].1;
    let mut text = format!(
        "model    {}: {} parameters, {} active without the embedding\n\
         run      {context} positions, batch {batch}: cache {} in f32, scratch {} for chunks of {PREFILL_CHUNK_TOKENS} tokens\n\n",
        subject.label,
        format_count(counts.total),
        format_count(counts.active_without_embedding),
        format_bytes(first.cache_bytes),
        format_bytes(first.scratch_bytes),
    );
    let mut header =
        vec!["format", "weights", "needed", "read/step", "fits", "tokens/s", "bound by"];
    if sparse {
        header.insert(3, "resident");
        header.insert(5, "disk/step");
    }
    let left = [0, header.len() - 3];
    let rows: Vec<Vec<String>> =
        plans.iter().map(|(format, plan)| row(*format, plan, sparse)).collect();
    text.push_str(&table(&header, &rows, &left));
    text.push('\n');
    if sparse {
        text.push_str(&experts(config, batch));
    }
    text.push_str(
        "Tokens/s are an upper bound, all sequences together; a step makes one token of each.\n",
    );
    text
}

fn row(format: Format, plan: &ServingPlan, sparse: bool) -> Vec<String> {
    let mut row = vec![
        format.name().to_owned(),
        format_bytes(plan.weights.main()),
        format_bytes(plan.needed_bytes()),
        format_bytes(plan.read_bytes_per_step),
        fit(plan),
        rate(plan.max_tokens_per_s),
        bound_name(plan.bound).to_owned(),
    ];
    if sparse {
        row.insert(3, format_bytes(plan.resident_bytes()));
        row.insert(5, format_bytes(plan.disk_bytes_per_step));
    }
    if matches!(plan.fit, Fit::No { .. }) {
        let n = row.len();
        (row[n - 2], row[n - 1]) = ("-".to_owned(), String::new());
    }
    row
}

/// What is resident and what is read per token of a model with experts.
fn experts(config: &Config, batch: u64) -> String {
    let n_experts = config.n_routed_experts.unwrap_or(0);
    let share = distinct_expert_share(config, batch) * 100.0;
    format!(
        "Resident: embedding, attention, shared experts, routers, head, cache, scratch. A step reads \
         {} of {n_experts} routed experts per layer and sequence ({share:.1} % of all, chosen evenly); \
         those not in memory come from disk.\n",
        config.num_experts_per_tok
    )
}

fn fit(plan: &ServingPlan) -> String {
    match plan.fit {
        Fit::InMemory => "in memory".to_owned(),
        Fit::ExpertsFromDisk { cached_share } => {
            format!("experts from disk, {:.0} % in memory", cached_share * 100.0)
        }
        Fit::AllFromDisk => "all from disk".to_owned(),
        Fit::No { lacking_bytes } => format!("no: {} short", format_bytes(lacking_bytes)),
    }
}

fn fit_name(fit: Fit) -> &'static str {
    match fit {
        Fit::InMemory => "memory",
        Fit::ExpertsFromDisk { .. } => "experts_from_disk",
        Fit::AllFromDisk => "all_from_disk",
        Fit::No { .. } => "no",
    }
}

fn bound_name(bound: Bound) -> &'static str {
    match bound {
        Bound::Memory => "memory",
        Bound::Disk => "disk",
        Bound::Compute => "compute",
    }
}

/// Two digits that mean something.
fn rate(per_s: f64) -> String {
    match per_s {
        r if r >= 100.0 => format!("{r:.0}"),
        r if r >= 1.0 => format!("{r:.1}"),
        r => format!("{r:.3}"),
    }
}

fn as_json(format: Format, plan: &ServingPlan) -> Value {
    let cached = match plan.fit {
        Fit::InMemory => Some(1.0),
        Fit::ExpertsFromDisk { cached_share } => Some(cached_share),
        Fit::AllFromDisk | Fit::No { .. } => None,
    };
    let runs = !matches!(plan.fit, Fit::No { .. });
    json!({
        "format": format.name(),
        "weight_bytes": plan.weights.main(),
        "embedding_bytes": plan.weights.embedding,
        "every_token_bytes": plan.weights.every_token,
        "routed_expert_bytes": plan.weights.routed,
        "mtp_bytes": plan.weights.mtp,
        "needed_bytes": plan.needed_bytes(),
        "resident_bytes": plan.resident_bytes(),
        "fits": fit_name(plan.fit),
        "experts_in_memory_share": cached,
        "read_bytes_per_step": plan.read_bytes_per_step,
        "disk_bytes_per_step": plan.disk_bytes_per_step,
        "flops_per_step": plan.flops_per_step,
        "max_tokens_per_s": runs.then_some(plan.max_tokens_per_s),
        "max_prompt_tokens_per_s": runs.then_some(plan.max_prompt_tokens_per_s),
        "bound_by": runs.then_some(bound_name(plan.bound)),
    })
}
