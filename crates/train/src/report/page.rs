//! The page itself: headline, models, stages with their curves, answers, recipe.

use std::fmt::Write;

use super::answers;
use super::curves::plots_of;
use super::html::escape;
use super::scale::{number, percent};
use super::{ReportInput, summary};
use crate::metrics::name;
use crate::progress::duration;
use crate::recipe::{BUILT_IN, Kind, Recipe, Stage};
use crate::results::{Column, ModelResult, Results, Unit};

const STYLE: &str = include_str!("style.css");

/// The whole document.
pub(super) fn page(input: &ReportInput) -> String {
    let name = escape(&input.recipe.name);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name} · Fathom</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    html.push_str(&header(input));
    html.push_str(&models(input));
    html.push_str(&stages(input));
    let pairs = answers::before_and_after(&input.recipe, &input.samples);
    if !pairs.is_empty() {
        let _ = write!(
            html,
            "<section><h2>Before and after</h2><p class=\"lead\">The same held-out questions, one sampled answer from each model. Thinking is dimmed.</p>\n{pairs}</section>\n"
        );
    }
    html.push_str(&reproduce(input));
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn header(input: &ReportInput) -> String {
    let recipe = &input.recipe;
    let mut html = format!(
        "<header><p class=\"eyebrow\">Fathom training report</p><h1>{}</h1><p class=\"lead\">{}</p>",
        escape(&recipe.name),
        escape(&recipe.description)
    );
    let _ = write!(html, "<p class=\"headline\">{}</p>", headline(input));
    let mut tiles = result_tiles(recipe, input.results.as_ref());
    if let Some(results) = &input.results {
        tiles.push((duration(results.wall_s), "wall time".into()));
        let gib = results.peak_rss_bytes as f64 / (1u64 << 30) as f64;
        tiles.push((format!("{gib:.2} GiB"), "peak memory".into()));
    }
    if tiles.is_empty() {
        tiles.push((recipe.stages.len().to_string(), "stages".into()));
        tiles.push((recipe.seed.to_string(), "seed".into()));
    }
    html.push_str("<dl class=\"tiles\">");
    for (value, what) in tiles {
        let _ = write!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(&what), escape(&value));
    }
    html.push_str("</dl></header>\n");
    html
}

/// The result in a sentence.
fn headline(input: &ReportInput) -> String {
    let recipe = &input.recipe;
    if let Some((main, pass)) = main_figure(recipe, input.results.as_ref(), "pass@1") {
        let from = start_of(recipe, &recipe.main_model)
            .filter(|start| *start != recipe.main_model)
            .and_then(|start| {
                let result = input.results.as_ref()?.models.get(start)?;
                Some((start, *result.figures.get("pass@1")?))
            });
        let before = from.map_or(String::new(), |(start, pass)| {
            format!(", up from {} for <b>{}</b>", percent(pass), escape(start))
        });
        return format!(
            "<b>{}</b> solves <em>{}</em> of {} held-out problems at the first try{before}.",
            escape(&recipe.main_model),
            percent(pass),
            main.n
        );
    }
    let last = input.records.iter().rev().find_map(|r| r.values.get(name::BITS_PER_BYTE));
    if let Some(bits) = last {
        return format!("<em>{}</em> bits per byte on held-out text.", number(*bits));
    }
    format!("{} stages.", recipe.stages.len())
}

fn main_figure<'a>(
    recipe: &Recipe,
    results: Option<&'a Results>,
    figure: &str,
) -> Option<(&'a ModelResult, f64)> {
    let model = results?.models.get(&recipe.main_model)?;
    Some((model, *model.figures.get(figure)?))
}

/// The pre-trained model that a stage goes back to.
fn start_of<'a>(recipe: &'a Recipe, stage: &'a str) -> Option<&'a str> {
    match &recipe.stage(stage)?.kind {
        Kind::Pretrain(_) => Some(stage),
        Kind::Sft(settings) => start_of(recipe, &settings.from),
        Kind::Grpo(settings) => start_of(recipe, &settings.from),
        _ => None,
    }
}

fn result_tiles(recipe: &Recipe, results: Option<&Results>) -> Vec<(String, String)> {
    let mut tiles = Vec::new();
    let figures = [
        ("language_consistency", "reasoning in one language"),
        ("mean_response_tokens", "mean tokens of an answer"),
        ("parameters", "parameters"),
    ];
    let Some(main) = results.and_then(|results| results.models.get(&recipe.main_model)) else {
        return tiles;
    };
    if let Some((name, value)) = majority(main) {
        tiles.push((percent(value), format!("{name}, by majority")));
    }
    for (figure, what) in figures {
        if let Some(value) = main.figures.get(figure) {
            let share = figure == "language_consistency";
            tiles.push((if share { percent(*value) } else { number(*value) }, what.into()));
        }
    }
    tiles
}

fn models(input: &ReportInput) -> String {
    let Some(results) = input.results.as_ref().filter(|results| !results.models.0.is_empty())
    else {
        return String::new();
    };
    let mut html = String::from("<section><h2>Models</h2>\n");
    html.push_str(&bars(&input.recipe, results));
    html.push_str(&table(&input.recipe, results));
    html.push_str("</section>\n");
    html
}

/// The majority vote over the most answers.
fn majority(model: &ModelResult) -> Option<(&str, f64)> {
    let votes = model.figures.iter().filter(|(name, _)| name.starts_with("maj@"));
    votes.max_by_key(|(name, _)| name.len()).map(|(name, value)| (name.as_str(), *value))
}

/// pass@1 of every model as bars, with the majority vote as a mark on the same line.
fn bars(recipe: &Recipe, results: &Results) -> String {
    let rows: Vec<(&String, f64, &ModelResult)> = results
        .models
        .0
        .iter()
        .filter_map(|(stage, model)| Some((stage, *model.figures.get("pass@1")?, model)))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let vote_name = rows.iter().find_map(|row| majority(row.2)).map(|(name, _)| name);
    let mark =
        vote_name.map_or(String::new(), |name| format!(" <span class=\"key-mark\"></span> {name}"));
    let mut html = format!(
        "<p class=\"bars-key\"><span class=\"key-bar\"></span> pass@1{mark}</p><div class=\"bars\" role=\"img\" aria-label=\"pass@1 of every model\">"
    );
    for (stage, pass, model) in rows {
        let class = bar_class(recipe, stage);
        let _ = write!(
            html,
            "<div class=\"bar {class}\" title=\"{0}: pass@1 {1}\"><span class=\"of\">{0}</span><span class=\"track\"><i style=\"width:{2:.1}%\"></i>",
            escape(stage),
            percent(pass),
            pass * 100.0
        );
        if let Some((name, value)) = majority(model) {
            let _ = write!(
                html,
                "<u style=\"left:{:.1}%\" title=\"{name} {}\"></u>",
                value * 100.0,
                percent(value)
            );
        }
        let _ = write!(html, "</span><span class=\"value\">{}</span></div>", percent(pass));
    }
    html.push_str("</div>\n");
    html
}

/// The main model stands out; models that do not share its first model (students) look apart.
fn bar_class(recipe: &Recipe, stage: &str) -> &'static str {
    if stage == recipe.main_model {
        "main"
    } else if recipe.model_of(stage) == recipe.model_of(&recipe.main_model) {
        "kin"
    } else {
        "other"
    }
}

fn table(recipe: &Recipe, results: &Results) -> String {
    let shown = results.models.shown();
    let mut html =
        String::from("<div class=\"scroll\"><table><thead><tr><th scope=\"col\">model</th>");
    for (figure, column) in &shown {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(&column.heading(figure)));
    }
    html.push_str("<th scope=\"col\">problems</th></tr></thead><tbody>\n");
    for (stage, model) in &results.models.0 {
        let class = if *stage == recipe.main_model { " class=\"main\"" } else { "" };
        let _ = write!(html, "<tr{class}><th scope=\"row\">{}</th>", escape(stage));
        for (figure, column) in &shown {
            html.push_str(&cell(results, model, figure, column));
        }
        let _ = writeln!(html, "<td>{}</td></tr>", model.n);
    }
    html.push_str("</tbody></table></div>\n");
    html
}

fn cell(results: &Results, model: &ModelResult, figure: &str, column: &Column) -> String {
    let Some(value) = model.figures.get(figure) else { return "<td>–</td>".into() };
    let others = || results.models.0.iter().filter_map(|(_, other)| other.figures.get(figure));
    let is_best = match column.higher_is_better {
        Some(true) => others().all(|other| other <= value),
        Some(false) => others().all(|other| other >= value),
        None => false,
    };
    // Where all are equal none stands out.
    let differs = others().any(|other| other != value);
    let class = if is_best && differs { " class=\"best\"" } else { "" };
    let shown =
        if column.unit == Unit::Share { percent_fixed(*value) } else { column.show(*value) };
    format!("<td{class}>{shown}</td>")
}

/// One digit always, so that the points of a column stand below each other.
fn percent_fixed(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

fn stages(input: &ReportInput) -> String {
    let mut html = String::from("<section><h2>Stages</h2>\n<ol class=\"path\">");
    for stage in &input.recipe.stages {
        let name = escape(&stage.name);
        let _ = write!(
            html,
            "<li class=\"{0}\"><a href=\"#stage-{name}\">{name}</a></li>",
            stage.kind.name()
        );
    }
    html.push_str("</ol>\n");
    for stage in &input.recipe.stages {
        html.push_str(&stage_section(input, stage));
    }
    html.push_str("</section>\n");
    html
}

fn stage_section(input: &ReportInput, stage: &Stage) -> String {
    let (main, rest) = plots_of(&stage.name, &input.records);
    let cards = |plots: &[super::plot::Plot]| -> String {
        plots.iter().filter_map(super::plot::Plot::card).collect()
    };
    let kind = stage.kind.name();
    let name = escape(&stage.name);
    let mut html = format!(
        "<div class=\"stage {kind}\" id=\"stage-{name}\"><h3>{name} <span class=\"kind\">{kind}</span></h3><p class=\"lead\">{}</p>\n",
        escape(&summary::of_stage(&stage.kind))
    );
    let main = cards(&main);
    if !main.is_empty() {
        let _ = writeln!(html, "<div class=\"cards\">{main}</div>");
    }
    let rest = cards(&rest);
    if !rest.is_empty() {
        let _ = writeln!(
            html,
            "<details><summary>More curves</summary><div class=\"cards\">{rest}</div></details>"
        );
    }
    if !matches!(stage.kind, Kind::Evaluate(_)) {
        html.push_str(&answers::course_of(&stage.name, &input.samples));
    }
    html.push_str("</div>\n");
    html
}

fn reproduce(input: &ReportInput) -> String {
    let recipe = &input.recipe;
    let dir = escape(&input.run_dir);
    // The built-in name is enough only for the recipe as it ships.
    let is_shipped = BUILT_IN
        .iter()
        .filter(|built_in| built_in.name == recipe.name)
        .filter_map(|built_in| Recipe::parse(built_in.text, &[]).ok())
        .any(|shipped| shipped == *recipe);
    let train = match is_shipped {
        true => format!("fathom train {}", recipe.name),
        false => format!("fathom train {dir}/recipe.toml --out runs/{}-again", recipe.name),
    };
    // A stage that ends by the clock does not end at the same step twice.
    let is_timed = recipe.resolved().contains("\nminutes = ");
    let promise = match is_timed {
        true => format!("The seed was {}; stages with `minutes` end by the clock.", recipe.seed),
        false => format!(
            "The same recipe and seed ({}) give the same bits, on one thread or many, interrupted or not.",
            recipe.seed
        ),
    };
    format!(
        "<section><h2>Do it again</h2><p class=\"lead\">{promise}</p>\n\
         <pre class=\"shell\">{train}\nfathom run {dir}</pre>\n\
         <details><summary>The complete recipe</summary><pre>{}</pre></details>\n\
         <p class=\"foot\">Faint lines are the recorded values, strong ones their running mean; numbers beside a curve are its first and last point. Figures: <code>metrics.jsonl</code>, answers: <code>samples.jsonl</code>, table: <code>results.json</code>.</p></section>\n",
        escape(&recipe.resolved())
    )
}
