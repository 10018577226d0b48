//! What a run tells whoever watches it; how that is shown is the watcher's business.

use std::collections::VecDeque;

use crate::metrics::Sample;

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A stage begins, or goes on after an interruption.
    StageStarted {
        /// Name of the stage.
        stage: String,
        /// What kind of stage it is.
        kind: &'static str,
        /// Its place among all stages, from 1.
        idx: usize,
        /// Number of stages.
        of: usize,
        /// Steps that an earlier process did.
        steps_done: u64,
    },
    /// A step is done.
    Step(Step),
    /// An answer worth showing.
    Sample(Sample),
    /// A stage is complete.
    StageDone {
        /// Name of the stage.
        stage: String,
        /// Seconds it took in this process.
        wall_s: f64,
        /// Its last figures, the most telling first.
        figures: Vec<(String, f64)>,
    },
    /// A stage was complete already and is passed over.
    StageSkipped {
        /// Name of the stage.
        stage: String,
    },
    /// A sentence for people.
    Note(String),
}

/// One step of a stage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// Name of the stage.
    pub stage: String,
    /// The step, from 1.
    pub step: u64,
    /// Steps of the stage.
    pub of: u64,
    /// Figures by name, the most telling first: loss or reward.
    pub figures: Vec<(&'static str, f64)>,
    /// Tokens trained on or sampled per second.
    pub tokens_per_s: f64,
    /// Seconds until the stage ends, once that can be told.
    pub remaining_s: Option<f64>,
}

/// Someone who watches a run.
pub trait Observer {
    /// Is told of an event as it happens, in order.
    fn event(&mut self, event: &Event);

    /// Asked between steps: whether the run should save itself and stop.
    fn wants_stop(&self) -> bool {
        false
    }
}

/// An observer that shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _event: &Event) {}
}

/// The last `width` parts of a curve as block letters, from its least to its greatest value.
///
/// Longer series are averaged into `width` parts; shorter ones give one letter per value. A value
/// that is not finite leaves a gap.
/// ```
/// # use fathom_train::progress::sparkline;
/// assert_eq!(sparkline(&[1.0, 2.0, 3.0, 8.0], 8), "▁▂▃█");
/// assert_eq!(sparkline(&[3.0, 3.0], 8), "▄▄");
/// ```
pub fn sparkline(values: &[f64], width: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let parts = averaged(values, width);
    let finite = || parts.iter().copied().filter(|value| value.is_finite());
    let (low, high) = finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let letter = |value: &f64| {
        if !value.is_finite() {
            ' '
        } else if high <= low {
            LEVELS[3]
        } else {
            LEVELS[((value - low) / (high - low) * 7.0).round() as usize]
        }
    };
    parts.iter().map(letter).collect()
}

/// `values` in at most `width` parts, each the mean of the finite values it covers.
fn averaged(values: &[f64], width: usize) -> Vec<f64> {
    if values.len() <= width {
        return values.to_vec();
    }
    (0..width)
        .map(|part| {
            let (start, end) = (part * values.len() / width, (part + 1) * values.len() / width);
            let finite: Vec<f64> =
                values[start..end].iter().copied().filter(|value| value.is_finite()).collect();
            finite.iter().sum::<f64>() / finite.len() as f64
        })
        .collect()
}

/// Tells how long a stage still takes, from the pace of its last steps.
#[derive(Debug, Clone, Default)]
pub struct Remaining {
    /// Step and time in seconds, oldest first.
    marks: VecDeque<(u64, f64)>,
}

impl Remaining {
    /// Steps looked back upon: enough to smooth answers of uneven length, few enough to follow a
    /// pace that changes as answers grow.
    const WINDOW_STEPS: usize = 32;

    /// Notes that `step` ended at `now_s`, and estimates the seconds until step `of` ends.
    ///
    /// `None` until two steps are known.
    pub fn after(&mut self, step: u64, of: u64, now_s: f64) -> Option<f64> {
        self.marks.push_back((step, now_s));
        if self.marks.len() > Self::WINDOW_STEPS {
            self.marks.pop_front();
        }
        let (first_step, first_s) = *self.marks.front()?;
        let n_steps = step.checked_sub(first_step).filter(|n| *n > 0)?;
        Some((now_s - first_s) / n_steps as f64 * of.saturating_sub(step) as f64)
    }
}

/// A duration as people say it.
/// ```
/// # use fathom_train::progress::duration;
/// assert_eq!([9.4, 61.0, 3725.0].map(duration), ["9 s", "1 min 01 s", "1 h 02 min"]);
/// ```
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".into();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparkline_never_exceeds_its_width_and_shows_gaps() {
        let falling: Vec<f64> = (0..100).map(|n| f64::from(100 - n)).collect();
        assert_eq!(sparkline(&falling, 8), "█▇▆▅▄▃▂▁");
        assert_eq!(sparkline(&[0.0, f64::NAN, 1.0], 8), "▁ █");
        assert_eq!(sparkline(&[], 8), "");
        assert_eq!(sparkline(&[f64::NAN], 8), " ");
    }

    #[test]
    fn remaining_time_follows_the_recent_pace() {
        let mut remaining = Remaining::default();
        assert_eq!(remaining.after(11, 21, 5.0), None);
        assert_eq!(remaining.after(12, 21, 7.0), Some(18.0));
        for step in 13..60 {
            remaining.after(step, 100, 7.0 + (step - 12) as f64 * 0.5);
        }
        assert_eq!(remaining.after(60, 100, 31.0), Some(20.0));
    }
}
