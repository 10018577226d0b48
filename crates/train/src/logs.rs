//! All the logs of a run behind one door: every figure goes to `metrics.jsonl` and TensorBoard.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::json_lines::JsonLines;
use crate::metrics::{Record, Sample};
use crate::run_dir::{RunDir, RunDirError, State};
use crate::tensorboard::EventFile;

/// The open logs of a run.
#[derive(Debug)]
pub struct Logs {
    metrics: JsonLines<Record>,
    timing: JsonLines<Record>,
    samples: JsonLines<Sample>,
    events: EventFile,
}

impl Logs {
    /// Opens the logs, cut back to where `state` says the run goes on.
    ///
    /// Errors: `File` if one of the files cannot be opened, read, cut or written.
    pub fn open(dir: &RunDir, state: &State) -> Result<Logs, RunDirError> {
        let covered = |record: &Record| state.covers(&record.stage, record.step);
        let (metrics, records) = JsonLines::open(dir.metrics(), covered)?;
        let (timing, _) = JsonLines::open(dir.timing(), covered)?;
        let (samples, answers) =
            JsonLines::open(dir.samples(), |s: &Sample| state.covers(&s.stage, s.step))?;
        let mut events = EventFile::create(dir.events(), now_s())?;
        for record in &records {
            events.write(record, now_s())?;
        }
        let mut logs = Logs { metrics, timing, samples, events };
        for answer in &answers {
            logs.show_in_tensorboard(answer)?;
        }
        logs.events.flush()?;
        Ok(logs)
    }

    /// Records figures of a step that depend on nothing but the recipe.
    pub fn metrics(&mut self, record: &Record) -> Result<(), RunDirError> {
        self.metrics.write(record)?;
        self.events.write(record, now_s())?;
        self.events.flush()
    }

    /// Records speeds and times of a step.
    pub fn timing(&mut self, record: &Record) -> Result<(), RunDirError> {
        self.timing.write(record)?;
        self.events.write(record, now_s())
    }

    /// Records a sampled answer.
    pub fn sample(&mut self, sample: &Sample) -> Result<(), RunDirError> {
        self.samples.write(sample)?;
        self.show_in_tensorboard(sample)
    }

    /// Waits until everything is on the disk; call it before the state is saved.
    pub fn sync(&mut self) -> Result<(), RunDirError> {
        self.metrics.sync()?;
        self.timing.sync()?;
        self.samples.sync()?;
        self.events.flush()
    }

    fn show_in_tensorboard(&mut self, sample: &Sample) -> Result<(), RunDirError> {
        let tag = format!("{}/sample", sample.stage);
        // Four spaces make a Markdown block in which tags such as `<think>` stay visible.
        let text: Vec<String> = [sample.question.as_str(), "", sample.response.as_str()]
            .iter()
            .flat_map(|part| part.split('\n'))
            .map(|line| format!("    {line}"))
            .collect();
        self.events.write_text(&tag, sample.step, &text.join("\n"), now_s())
    }
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}
