//! Which figures of a stage are drawn, in which order, and under which title.

use super::plot::{Axis, Plot, Series};
use crate::metrics::{Record, name};

/// A figure that has its own plot.
struct Curve {
    figure: &'static str,
    title: &'static str,
    unit: &'static str,
    axis: Axis,
    /// Figures drawn into the same plot, with the words of the legend.
    beside: &'static [(&'static str, &'static str)],
    /// The word of the legend for the figure itself, where there are others.
    label: &'static str,
}

/// The figures shown at once; all others are drawn too, but folded away.
const CURVES: &[Curve] = &[
    Curve {
        figure: name::LOSS,
        title: "Loss",
        unit: "nats per token",
        axis: Axis::Free,
        beside: &[(name::HELD_OUT_LOSS, "held out")],
        label: "training",
    },
    alone(name::BITS_PER_BYTE, "Held-out text", "bits per byte", Axis::Free),
    alone(name::MTP_LOSS, "Loss of the extra token", "nats per token", Axis::Free),
    Curve {
        figure: name::MTP_ACCURACY[0],
        title: "Guesses of the extra layer",
        unit: "share that is the model's choice",
        axis: Axis::Share,
        beside: &[(name::MTP_ACCURACY[1], "second")],
        label: "first",
    },
    alone(name::REWARD, "Reward", "mean sum of rewards", Axis::FromZero),
    alone(name::ACCURACY, "Correct answers", "share of rollouts", Axis::Share),
    alone(name::RESPONSE_TOKENS, "Response length", "tokens", Axis::FromZero),
    alone(name::LANGUAGE_CONSISTENCY, "One language", "share of the reasoning", Axis::Share),
    alone(name::FORMAT, "Wanted form", "share of rollouts", Axis::Share),
    alone(name::TRUNCATED, "Cut at the limit", "share of rollouts", Axis::Share),
    Curve {
        figure: name::EXPERT_LOAD,
        title: "Expert load",
        unit: "busiest over mean",
        axis: Axis::FromZero,
        beside: &[(name::EXPERT_LOAD_WITHOUT_BIAS, "without bias update")],
        label: "with bias update",
    },
    alone(name::KL, "Drift", "KL to the reference, nats per token", Axis::FromZero),
    alone(name::ENTROPY, "Entropy", "nats per token", Axis::FromZero),
];

const fn alone(figure: &'static str, title: &'static str, unit: &'static str, axis: Axis) -> Curve {
    Curve { figure, title, unit, axis, beside: &[], label: "" }
}

/// The plots of a stage: those of [`CURVES`], and all others.
pub(super) fn plots_of(stage: &str, records: &[Record]) -> (Vec<Plot>, Vec<Plot>) {
    let records: Vec<&Record> = records.iter().filter(|record| record.stage == stage).collect();
    let series = |figure: &str, label: &str| Series {
        label: label.to_owned(),
        points: records
            .iter()
            .filter_map(|record| Some((record.step as f64, *record.values.get(figure)?)))
            .collect(),
    };
    let mut main = Vec::new();
    for curve in CURVES {
        let mut lines = vec![series(curve.figure, curve.label)];
        lines.extend(curve.beside.iter().map(|(figure, label)| series(figure, label)));
        lines.retain(|line| !line.points.is_empty());
        if !lines.is_empty() {
            main.push(Plot {
                title: curve.title.to_owned(),
                unit: curve.unit.to_owned(),
                axis: curve.axis,
                series: lines,
            });
        }
    }
    let is_drawn = |figure: &str| {
        let beside = |curve: &Curve| curve.beside.iter().any(|(name, _)| *name == figure);
        CURVES.iter().any(|curve| curve.figure == figure || beside(curve))
    };
    let others: std::collections::BTreeSet<&String> = records
        .iter()
        .flat_map(|record| record.values.keys())
        .filter(|figure| !is_drawn(figure))
        .collect();
    let rest = others.into_iter().map(|figure| Plot {
        title: figure.replace('_', " "),
        unit: String::new(),
        axis: Axis::Free,
        series: vec![series(figure, "")],
    });
    (main, rest.collect())
}
