//! Axes: round tick values and how numbers are written beside them.

/// A linear axis from `low` to `high`, with ticks at round values.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<f64>,
}

impl Scale {
    /// An axis that covers `low..=high` and ends at ticks.
    pub(super) fn round(low: f64, high: f64, n_wanted: usize) -> Scale {
        let step = round_step(low, high, n_wanted);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let ticks = ticks_between(first, last.max(first + 1.0), step);
        Scale { low: ticks[0], high: ticks[ticks.len() - 1], ticks }
    }

    /// An axis that spans exactly `low..=high`, with ticks at round values inside.
    pub(super) fn exact(low: f64, high: f64, n_wanted: usize) -> Scale {
        let high = if high > low { high } else { low + 1.0 };
        let step = round_step(low, high, n_wanted).max(1.0);
        let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
        Scale { low, high, ticks: ticks_between(first, last, step) }
    }

    /// Where `value` lies, 0 at the low end and 1 at the high end.
    pub(super) fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

fn ticks_between(first: f64, last: f64, step: f64) -> Vec<f64> {
    // Multiplied, not added up, so that a tick at 0.3 is not at 0.30000000000000004.
    (0..=(last - first) as usize).map(|n| tidy((first + n as f64) * step)).collect()
}

/// 1, 2 or 5 times a power of ten, so that about `n_wanted` steps cover the range.
fn round_step(low: f64, high: f64, n_wanted: usize) -> f64 {
    let range = if high > low { high - low } else { low.abs().max(1.0) * 0.1 };
    let rough = range / n_wanted as f64;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= rough * 0.999).unwrap_or(10.0);
    factor * power
}

/// Removes the noise of binary fractions far behind the digits that are shown.
fn tidy(value: f64) -> f64 {
    format!("{value:.12e}").parse().unwrap_or(value)
}

/// A number with as many digits as a reader wants: three significant ones, none to spare.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        _ if size == 0.0 => return "0".into(),
        _ if size >= 1e6 => return format!("{} M", number(value / 1e6)),
        _ if size >= 1e4 => return format!("{} k", number(value / 1e3)),
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 10.0 => format!("{value:.1}"),
        _ if size >= 1.0 => format!("{value:.2}"),
        _ if size >= 0.01 => format!("{value:.3}"),
        _ if size >= 1e-4 => format!("{value:.5}"),
        _ => return format!("{value:.1e}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A share of 1 in percent.
pub(super) fn percent(value: f64) -> String {
    let percent = value * 100.0;
    let whole = (percent - percent.round()).abs() < 0.05;
    if whole { format!("{percent:.0} %") } else { format!("{percent:.1} %") }
}
