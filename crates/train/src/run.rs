//! Runs a recipe, stage by stage, in a run directory; goes on where an earlier process stopped.

use crate::error::Error;
use crate::logs::Logs;
use crate::progress::{Event, Observer};
use crate::recipe::Recipe;
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
    let (dir, state) = RunDir::open(root, recipe, start)?;
    let logs = Logs::open(&dir, &state)?;
    let results = read_results(&dir);
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
        stage::run(&mut work, stage)?;
        finish_stage(&mut work, &stage.name)?;
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

fn finish_stage(work: &mut Work, name: &str) -> Result<(), Error> {
    work.logs.sync()?;
    let results = current(work);
    work.dir.write(&work.dir.results(), results.to_json().as_bytes())?;
    let step = work.state.steps_done(name);
    work.state.finish(name);
    work.save_state()?;
    if step > 0 {
        // The stage's outcome replaces its last step checkpoint; what cannot be removed only takes space.
        let _ = std::fs::remove_dir_all(work.dir.step_checkpoint(name, step));
    }
    Ok(())
}

fn current(work: &Work) -> Results {
    Results {
        models: work.results.clone(),
        seed: work.recipe.seed,
        wall_s: work.earlier_wall_s + work.started.elapsed().as_secs_f64(),
        peak_rss_bytes: peak_rss_bytes(),
    }
}

/// Figures that an earlier process of the run wrote; none if there are none or they cannot be read.
fn read_results(dir: &RunDir) -> Models {
    let text = std::fs::read_to_string(dir.results()).unwrap_or_default();
    Results::from_json(&text).map(|results| results.models).unwrap_or_default()
}

fn write_outcome(work: &Work, results: &Results) -> Result<(), Error> {
    work.dir.write(&work.dir.results(), results.to_json().as_bytes())?;
    Ok(())
}

/// Largest resident set of this process so far; 0 where the system does not tell.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
