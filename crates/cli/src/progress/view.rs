//! The stage under way as lines of text; knows no terminal.

use super::figure;
use crate::terminal::{Style, columns, cut};
use fathom_train::progress::{Step, duration, sparkline};
use std::time::{Duration, Instant};

/// Columns of the bar at most.
const BAR_COLUMNS: usize = 32;
/// Letters of the curve at most.
const CURVE_COLUMNS: usize = 60;

/// A stage as far as it got.
pub(super) struct View {
    stage: String,
    kind: String,
    place: (usize, usize),
    steps_done: u64,
    began: Instant,
    step: Step,
    /// The newest value of every figure, in the order in which they first came.
    figures: Vec<(String, f64)>,
    /// The main figure of every step.
    curve: Vec<f64>,
}

impl View {
    pub(super) fn new(stage: &str, kind: &str, place: (usize, usize), steps_done: u64) -> View {
        View {
            stage: stage.to_owned(),
            kind: kind.to_owned(),
            place,
            steps_done,
            began: Instant::now(),
            step: Step::default(),
            figures: Vec::new(),
            curve: Vec::new(),
        }
    }

    /// Takes in a step. Figures that come only now and then keep their last value.
    pub(super) fn step(&mut self, step: &Step) {
        for (name, value) in &step.figures {
            match self.figures.iter_mut().find(|(known, _)| known == name) {
                Some((_, newest)) => *newest = *value,
                None => self.figures.push((name.to_string(), *value)),
            }
        }
        self.curve.extend(step.figures.first().map(|(_, value)| *value));
        self.step = step.clone();
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The stage's name, kind and place.
    pub(super) fn title(&self, style: Style) -> String {
        let (idx, of) = self.place;
        let from = match self.steps_done {
            0 => String::new(),
            done => format!(" · going on after step {done}"),
        };
        let about = format!("{} · stage {idx} of {of}{from}", self.kind);
        format!("{} {}  {}", style.cyan("▸"), style.bold(&self.stage), style.dim(&about))
    }

    /// What is drawn over and over: at most four lines of at most `width` columns.
    pub(super) fn block(&self, style: Style, width: usize) -> Vec<String> {
        let clock = style.dim(&duration(self.elapsed().as_secs_f64()));
        let mut title = self.title(style);
        let gap = width.saturating_sub(columns(&title) + columns(&clock));
        if gap >= 2 {
            title.push_str(&" ".repeat(gap.min(40)));
            title.push_str(&clock);
        }
        let mut lines = vec![title];
        if self.step.of > 0 {
            lines.push(format!("  {}", self.bar(style, width)));
        }
        let shown = figure::shown(&self.figures);
        let mut parts: Vec<String> =
            shown.iter().map(|(title, value)| format!("{} {value}", style.dim(title))).collect();
        if self.step.tokens_per_s > 0.0 {
            parts.push(figure::rate(self.step.tokens_per_s));
        }
        if !parts.is_empty() {
            lines.push(format!("  {}", parts.join("   ")));
        }
        if self.curve.len() > 1 {
            let title = style.dim(&shown.first().map_or(String::new(), |(title, _)| title.clone()));
            let room = CURVE_COLUMNS.min(width.saturating_sub(columns(&title) + 5));
            lines.push(format!("  {}  {title}", style.cyan(&sparkline(&self.curve, room))));
        }
        lines.iter().map(|line| cut(line, width)).collect()
    }

    fn bar(&self, style: Style, width: usize) -> String {
        let Step { step, of, remaining_s, .. } = self.step;
        let share = (step as f64 / of as f64).min(1.0);
        let n = BAR_COLUMNS.min(width / 3);
        let full = (share * n as f64).round() as usize;
        let bar = style.cyan(&"━".repeat(full)) + &style.dim(&"╌".repeat(n - full));
        let left = remaining_s.map_or(String::new(), |s| format!("   {} left", duration(s)));
        format!("{bar}  {step}/{of}  {:.0} %{left}", share * 100.0)
    }

    /// The same as one plain line.
    pub(super) fn line(&self) -> String {
        let Step { step, of, tokens_per_s, remaining_s, .. } = self.step;
        let mut parts = vec![format!("{} {step}/{of}", self.stage)];
        parts.extend(
            figure::shown(&self.figures).iter().map(|(title, value)| format!("{title} {value}")),
        );
        if tokens_per_s > 0.0 {
            parts.push(figure::rate(tokens_per_s));
        }
        parts.extend(remaining_s.filter(|_| step < of).map(|s| format!("{} left", duration(s))));
        format!("  {}", parts.join("  "))
    }
}

/// The line that stays when a stage is complete. `figures` win over those of the steps.
pub(super) fn summary(
    stage: &str,
    wall_s: f64,
    figures: &[(String, f64)],
    view: Option<&View>,
    style: Style,
) -> String {
    /// Figures beside the name, so that the line stays a line.
    const N_FIGURES: usize = 4;
    let last = view.map_or(&[][..], |view| &view.figures);
    let shown = figure::shown(if figures.is_empty() { last } else { figures });
    let parts: Vec<String> =
        shown.iter().take(N_FIGURES).map(|(title, value)| format!("{title} {value}")).collect();
    let curve = view.filter(|view| view.curve.len() > 2).map(|view| sparkline(&view.curve, 16));
    let curve = curve.map_or(String::new(), |curve| format!("  {}", style.cyan(&curve)));
    format!(
        "{} {stage:18}{:>12}{curve}  {}",
        style.green("✓"),
        duration(wall_s),
        style.dim(&parts.join("   "))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halfway() -> View {
        let mut view = View::new("base", "pretrain", (2, 11), 0);
        for step in 1..=5 {
            view.step(&Step {
                stage: "base".into(),
                step,
                of: 10,
                figures: vec![("loss", 4.0 - step as f64 / 2.0)],
                tokens_per_s: 12_345.0,
                remaining_s: Some(75.0),
            });
        }
        view
    }

    #[test]
    fn block_shows_place_bar_figures_and_curve() {
        let block = halfway().block(Style::PLAIN, 60);
        assert_eq!(
            block,
            [
                "▸ base  pretrain · stage 2 of 11                         0 s",
                "  ━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌  5/10  50 %   1 min 15 s left",
                "  loss 1.500   12.3k tokens/s",
                "  █▆▅▃▁  loss",
            ]
        );
    }

    #[test]
    fn no_line_of_the_block_is_wider_than_the_terminal() {
        for width in [20, 30, 200] {
            assert!(halfway().block(Style::PLAIN, width).iter().all(|line| columns(line) <= width));
        }
    }

    #[test]
    fn plain_line_tells_the_same() {
        let line = halfway().line();
        assert_eq!(line, "  base 5/10  loss 1.500  12.3k tokens/s  1 min 15 s left");
    }

    #[test]
    fn summary_keeps_time_curve_and_last_figures() {
        let text = summary("base", 61.0, &[], Some(&halfway()), Style::PLAIN);
        assert_eq!(text, "✓ base                1 min 01 s  █▆▅▃▁  loss 1.500");
    }
}
