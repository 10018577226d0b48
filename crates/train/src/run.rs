//! Runs a recipe, stage by stage, in a run directory; goes on where an earlier process stopped.

use crate::error::Error;
use crate::logs::Logs;
use crate::progress::{Event, Observer};
use crate::recipe::{Kind, Recipe, Stage};
use crate::report::{self, ReportInput};
use crate::results::{Models, Results};
use crate::run_dir::{RunDir, Start};
use crate::stage::{self, Work};
use std::path::Path;
use std::time::Instant;

/// Runs `recipe` in `root` and returns the figures of its models.
///
/// Errors: `Interrupted` once the observer wants a stop and everything is saved; all others leave
/// what was saved before.
pub fn run(
    recipe: &Recipe,
    root: &Path,
    start: Start,
    observer: &mut dyn Observer,
) -> Result<Results, Error> {
    crate::check::check(recipe)?;
    let (dir, mut state) = RunDir::open(root, recipe, start)?;
    if let Some(at) = state.reopen(recipe) {
        let note = format!("`{}` has more time now and goes on after step {}", at.stage, at.step);
        observer.event(&Event::Note(note));
        dir.save_state(&state)?; // before the logs are cut back to it
    }
    let logs = Logs::open(&dir, &state)?;
    let (results, earlier_peak_rss_bytes) = read_results(&dir);
    let earlier_wall_s = state.wall_s;
    let mut work = Work {
        recipe,
        dir: &dir,
        state,
        logs,
        observer,
        results,
        started: Instant::now(),
        earlier_wall_s,
        earlier_peak_rss_bytes,
        stage_started: Instant::now(),
        stage_earlier_ms: 0,
        stage_minutes: None,
    };
    let of = recipe.stages.len();
    for (idx, stage) in recipe.stages.iter().enumerate() {
        if work.state.is_done(&stage.name) {
            work.observer.event(&Event::StageSkipped { stage: stage.name.clone() });
            continue;
        }
        let began = Instant::now();
        work.observer.event(&Event::StageStarted {
            stage: stage.name.clone(),
            kind: stage.kind.name(),
            idx: idx + 1,
            of,
            steps_done: work.state.steps_done(&stage.name),
        });
        work.stage_started = began;
        work.stage_earlier_ms = work.state.worked_ms(&stage.name);
        work.stage_minutes = stage.kind.minutes();
        stage::run(&mut work, stage)?;
        finish_stage(&mut work, stage)?;
        let wall_s = began.elapsed().as_secs_f64();
        work.observer.event(&Event::StageDone {
            stage: stage.name.clone(),
            wall_s,
            figures: Vec::new(),
        });
    }
    let results = current(&work);
    write_outcome(&work, &results)?;
    Ok(results)
}

fn finish_stage(work: &mut Work, stage: &Stage) -> Result<(), Error> {
    work.logs.sync()?;
    write_outcome(work, &current(work))?;
    let name = stage.name.as_str();
    let step = work.state.steps_done(name);
    let mut superseded = None;
    let ended = work.state.ended_by_time.as_ref().map(|at| (at.stage.clone(), at.step));
    if !matches!(stage.kind, Kind::Evaluate(_)) && ended.as_ref().is_some_and(|at| at.0 != name) {
        // This stage may have begun from that one: it stays as it is from now on.
        work.state.ended_by_time = None;
        superseded = ended.clone();
    }
    work.state.finish(name);
    work.save_state()?;
    // Outcomes replace step checkpoints; what cannot be removed only takes space.
    let own = Some((name.to_owned(), step)).filter(|own| step > 0 && ended.as_ref() != Some(own));
    for (name, step) in own.into_iter().chain(superseded) {
        let _ = std::fs::remove_dir_all(work.dir.step_checkpoint(&name, step));
    }
    Ok(())
}

fn current(work: &Work) -> Results {
    Results {
        models: work.results.clone(),
        seed: work.recipe.seed,
        wall_s: work.earlier_wall_s + work.started.elapsed().as_secs_f64(),
        peak_rss_bytes: peak_rss_bytes().max(work.earlier_peak_rss_bytes),
    }
}

/// Figures that an earlier process of the run wrote, and the most memory it took; none if there
/// are none or they cannot be read.
fn read_results(dir: &RunDir) -> (Models, u64) {
    let text = std::fs::read_to_string(dir.results()).unwrap_or_default();
    let read = Results::from_json(&text);
    read.map(|results| (results.models, results.peak_rss_bytes)).unwrap_or_default()
}

/// `results.json` and `report.html` as far as the run got.
fn write_outcome(work: &Work, results: &Results) -> Result<(), Error> {
    work.dir.write(&work.dir.results(), results.to_json().as_bytes())?;
    let page = report::render(&ReportInput::read(work.dir.root())?);
    Ok(work.dir.write(&work.dir.report(), page.as_bytes())?)
}

/// Largest resident set of this process so far; 0 where the system does not tell.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
