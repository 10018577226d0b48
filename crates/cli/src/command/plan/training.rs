//! Training: arithmetic, memory, time, money, beside what was published.

use super::machine::Meant;
use super::{Args, Subject};
use crate::sizes::{format_bytes, format_count, grouped};
use fathom_model::cost::hardware::{PUBLISHED_RUNS, PublishedRun, V3_STAGES_GPU_HOURS};
use fathom_model::cost::plan::{
    TRAINING_BYTES_PER_PARAMETER, Training, TrainingPlan, training_plan,
};
use serde_json::{Value, json};

/// Text and JSON of the plan.
pub(super) fn plan(
    subject: &Subject,
    machine: &Meant,
    args: &Args,
    context: u64,
    tokens: u64,
) -> (String, Value) {
    let training = Training {
        tokens: tokens as f64,
        n_devices: machine.n_devices,
        context_tokens: context,
        batch: args.batch,
    };
    let plan = training_plan(&subject.config, &machine.one, &training);
    let published = PUBLISHED_RUNS.iter().find(|run| Some(run.preset) == subject.preset);
    let mut text = text(subject, machine, tokens, &plan, (context, args.batch));
    if let Some(run) = published {
        text.push_str(&comparison(run));
    }
    let priced = machine.one.price_per_hour > 0.0;
    let object = json!({
        "tokens": tokens,
        "parameters_counted": plan.n_parameters,
        "flops": plan.flops,
        "state_bytes": plan.state_bytes,
        "state_bytes_per_device": plan.state_bytes.div_ceil(machine.n_devices),
        "activation_bytes_per_device": plan.activation_bytes,
        "utilisation_share": machine.one.training_share,
        "device_hours": plan.device_hours,
        "wall_days": plan.days,
        "price_dollars": priced.then_some(plan.price),
        "published": published.map(published_json),
    });
    (text, object)
}

fn text(
    subject: &Subject,
    machine: &Meant,
    tokens: u64,
    plan: &TrainingPlan,
    (context, batch): (u64, u64),
) -> String {
    let n = machine.n_devices;
    let counted = format_count(plan.n_parameters);
    let per_device = plan.state_bytes.div_ceil(n);
    let held = per_device.saturating_add(plan.activation_bytes);
    let fits = if held <= machine.one.memory_bytes { "fits" } else { "does not fit" };
    let mut text = format!(
        "model    {}: {counted} parameters met by a token, without the embedding\n\
         work     6 x {counted} x {} tokens = {:.3e} FLOP\n\
         state    {} at {TRAINING_BYTES_PER_PARAMETER} bytes per parameter (f32 weights, gradients, two moments of AdamW){}\n\
         step     {} of activations for {batch} x {context} tokens on a device; {fits} beside its state\n\
         time     {} device hours at {:.1} % of the peak, {} on {n} {}\n",
        subject.label,
        format_count(tokens),
        plan.flops,
        format_bytes(plan.state_bytes),
        if n > 1 {
            format!(", {} per device if split evenly", format_bytes(per_device))
        } else {
            String::new()
        },
        format_bytes(plan.activation_bytes),
        hours(plan.device_hours),
        machine.one.training_share * 100.0,
        days(plan.days),
        if n == 1 { "device" } else { "devices" },
    );
    let price = machine.one.price_per_hour;
    if price > 0.0 {
        let dollars = grouped(plan.price.round() as u64);
        text.push_str(&format!("money    ${dollars} at ${price} an hour\n"));
    }
    text
}

/// What the paper reports, and what the rule makes of it.
fn comparison(run: &PublishedRun) -> String {
    let mut text = format!(
        "paper    {} of {}: {} H800 hours for {} tokens ({})\n",
        run.what,
        run.preset,
        grouped(run.gpu_hours as u64),
        format_count(run.tokens as u64),
        run.source,
    );
    if run.preset == "v3" {
        let hours: f64 = V3_STAGES_GPU_HOURS.iter().map(|(_, hours)| hours).sum();
        let rest: Vec<String> = V3_STAGES_GPU_HOURS[1..]
            .iter()
            .map(|(what, hours)| format!("{what} {}", grouped(*hours as u64)))
            .collect();
        text.push_str(&format!(
            "         with {}: {} hours, ${} at $2\n",
            rest.join(" and "),
            grouped(hours as u64),
            grouped((hours * 2.0) as u64)
        ));
    }
    text
}

fn published_json(run: &PublishedRun) -> Value {
    json!({
        "what": run.what,
        "tokens": run.tokens,
        "gpu_hours": run.gpu_hours,
        "source": run.source,
    })
}

fn hours(hours: f64) -> String {
    if hours >= 1000.0 { grouped(hours.round() as u64) } else { format!("{hours:.2}") }
}

/// Days for people: years when they are many, hours when they are few.
fn days(days: f64) -> String {
    match days {
        d if d >= 730.0 => format!("{} years", grouped((d / 365.25).round() as u64)),
        d if d >= 2.0 => format!("{d:.1} days"),
        d => format!("{:.1} hours", d * 24.0),
    }
}
