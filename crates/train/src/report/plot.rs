//! Small line plots as SVG: axes with units, a faint line of the values and a strong one of their
//! running mean, and a title to hover over for every point.

use std::fmt::Write;

use super::html::escape;
use super::scale::{Scale, number, percent};

/// How the values of a plot are written and bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// Shares of 1: the axis runs from 0 to 100 %.
    Share,
    /// Numbers that are never below zero and are compared with it.
    FromZero,
    /// Numbers of which only the change matters.
    Free,
}

/// One line of a plot.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// Stands in the legend where there are several lines.
    pub(super) label: String,
    /// Step and value, steps rising.
    pub(super) points: Vec<(f64, f64)>,
}

/// A plot of figures over the steps of a stage.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    pub(super) title: String,
    /// What the numbers count, such as `nats per token`.
    pub(super) unit: String,
    pub(super) axis: Axis,
    pub(super) series: Vec<Series>,
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 188.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 350.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 166.0;
/// Points drawn of a line: as many as the page has room for.
const MOST_POINTS: usize = 200;
/// Lines with fewer points are drawn as they are, without a running mean.
const FEWEST_TO_SMOOTH: usize = 25;
/// Places to hover over; more would overlap.
const MOST_HOVERS: usize = 60;

impl Plot {
    /// The plot as a card: heading with first and last value, drawing, legend.
    ///
    /// `None` if there is no finite value to draw.
    pub(super) fn card(&self) -> Option<String> {
        let lines: Vec<Line> = self.series.iter().filter_map(Line::new).collect();
        let main = lines.first()?;
        let (first, last) = (main.strong.first()?.1, main.strong.last()?.1);
        let mut card = format!(
            "<figure class=\"card\">\n<figcaption><span class=\"what\">{}<small>{}</small></span>\
             <span class=\"ends\">{}<i> → </i><b>{}</b></span></figcaption>\n",
            escape(&self.title),
            escape(&self.unit),
            self.show(first),
            self.show(last),
        );
        card.push_str(&self.svg(&lines));
        if lines.len() > 1 {
            card.push_str("<p class=\"legend\">");
            for (idx, line) in lines.iter().enumerate() {
                let label = escape(&line.label);
                let _ = write!(card, "<span class=\"key line-{idx}\">{label}</span>");
            }
            card.push_str("</p>");
        }
        card.push_str("</figure>\n");
        Some(card)
    }

    fn show(&self, value: f64) -> String {
        if self.axis == Axis::Share { percent(value) } else { number(value) }
    }

    fn svg(&self, lines: &[Line]) -> String {
        let (across, up) = (steps_axis(lines), self.values_axis(lines));
        let x = |step: f64| LEFT + across.place(step) * (RIGHT - LEFT);
        let y = |value: f64| BOTTOM - up.place(value).clamp(0.0, 1.0) * (BOTTOM - TOP);
        let label = escape(&format!("{} over steps, {}", self.title, self.unit));
        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{label}\">\n");
        for tick in &up.ticks {
            let (at, text) = (y(*tick), self.show(*tick));
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/><text x=\"{:.1}\" y=\"{:.1}\" class=\"tick y\">{text}</text>",
                LEFT - 7.0,
                at + 3.5
            );
        }
        for tick in &across.ticks {
            let (at, text) = (x(*tick), number(*tick));
            let _ = writeln!(
                svg,
                "<path class=\"notch\" d=\"M{at:.1} {BOTTOM}v4\"/><text x=\"{at:.1}\" y=\"{:.1}\" class=\"tick x\">{text}</text>",
                BOTTOM + 16.0
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" class=\"axis\">step</text>",
            LEFT - 7.0,
            BOTTOM + 16.0
        );
        // Later lines lie below earlier ones: the first is the one that the heading speaks of.
        for (idx, line) in lines.iter().enumerate().rev() {
            if line.is_smoothed() {
                let _ = writeln!(
                    svg,
                    "<path class=\"faint line-{idx}\" d=\"{}\"/>",
                    path(&line.faint, x, y)
                );
            }
            let _ = writeln!(
                svg,
                "<path class=\"strong line-{idx}\" d=\"{}\"/>",
                path(&line.strong, x, y)
            );
            if let Some((step, value)) = line.strong.last() {
                let _ = writeln!(
                    svg,
                    "<circle class=\"end line-{idx}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.2\"/>",
                    x(*step),
                    y(*value)
                );
            }
        }
        for (idx, line) in lines.iter().enumerate() {
            for (step, value) in line.strong.iter().step_by(line.strong.len().div_ceil(MOST_HOVERS))
            {
                let name =
                    if lines.len() > 1 { format!("{}, ", line.label) } else { String::new() };
                let hover = escape(&format!("{name}step {}: {}", number(*step), self.show(*value)));
                let _ = writeln!(
                    svg,
                    "<circle class=\"hover line-{idx}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\"><title>{hover}</title></circle>",
                    x(*step),
                    y(*value)
                );
            }
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn values_axis(&self, lines: &[Line]) -> Scale {
        if self.axis == Axis::Share {
            return Scale { low: 0.0, high: 1.0, ticks: vec![0.0, 0.25, 0.5, 0.75, 1.0] };
        }
        let values = || lines.iter().flat_map(|line| &line.faint).map(|point| point.1);
        let low = values().fold(f64::INFINITY, f64::min);
        let high = values().fold(f64::NEG_INFINITY, f64::max);
        let low = if self.axis == Axis::FromZero { low.min(0.0) } else { low };
        Scale::round(low, high, 4)
    }
}

fn steps_axis(lines: &[Line]) -> Scale {
    let steps = || lines.iter().flat_map(|line| &line.faint).map(|point| point.0);
    let low = steps().fold(f64::INFINITY, f64::min);
    let high = steps().fold(f64::NEG_INFINITY, f64::max);
    Scale::exact(low.min(1.0), high, 5)
}

/// A series made ready: few enough points, and their running mean.
struct Line {
    label: String,
    faint: Vec<(f64, f64)>,
    strong: Vec<(f64, f64)>,
}

impl Line {
    fn new(series: &Series) -> Option<Line> {
        let finite: Vec<(f64, f64)> =
            series.points.iter().copied().filter(|point| point.1.is_finite()).collect();
        if finite.is_empty() {
            return None;
        }
        let faint = thinned(&finite);
        let strong = match faint.len() < FEWEST_TO_SMOOTH {
            true => faint.clone(),
            false => running_mean(&faint, (faint.len() / 24).max(1)),
        };
        Some(Line { label: series.label.clone(), faint, strong })
    }

    fn is_smoothed(&self) -> bool {
        self.faint.len() >= FEWEST_TO_SMOOTH
    }
}

/// Means of neighbouring points, so that at most `MOST_POINTS` are left.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let n_together = points.len().div_ceil(MOST_POINTS);
    let mean = |part: &[(f64, f64)]| {
        let n = part.len() as f64;
        let value = part.iter().map(|point| point.1).sum::<f64>() / n;
        // The last step of the part, so that the line reaches the last step of the stage.
        (part[part.len() - 1].0, value)
    };
    points.chunks(n_together).map(mean).collect()
}

/// The mean over `reach` points to each side, fewer at the ends.
fn running_mean(points: &[(f64, f64)], reach: usize) -> Vec<(f64, f64)> {
    let mean_around = |idx: usize| {
        // As far to the left as to the right: a steep start is not pulled towards its end.
        let reach = reach.min(idx).min(points.len() - 1 - idx);
        let part = &points[idx - reach..=idx + reach];
        (points[idx].0, part.iter().map(|point| point.1).sum::<f64>() / part.len() as f64)
    };
    (0..points.len()).map(mean_around).collect()
}

fn path(points: &[(f64, f64)], x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let mut d = String::new();
    for (idx, (step, value)) in points.iter().enumerate() {
        let command = if idx == 0 { 'M' } else { 'L' };
        let _ = write!(d, "{command}{:.1} {:.1}", x(*step), y(*value));
    }
    d
}
