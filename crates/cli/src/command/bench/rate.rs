//! Figures of repeated measurements, and the limits of the machine taken between them.

use fathom_kernels::limits::{self, ReadMeter};
use fathom_kernels::quant::Format;
use std::time::Duration;

/// Time of one look at what the processor does at most.
const WINDOW: Duration = Duration::from_millis(8);

/// The middle of several measurements, and how far they reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    /// Of at least one value.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let n = values.len();
        assert!(n > 0, "every measurement has a round");
        let median = (values[(n - 1) / 2] + values[n / 2]) / 2.0;
        Spread { median, least: values[0], most: values[n - 1] }
    }

    /// `21.3` and `20.9 – 22.0`, in this unit.
    pub(super) fn cells(&self, unit: f64) -> [String; 2] {
        let digits = if self.median / unit < 100.0 { 1 } else { 0 };
        let show = |value: f64| format!("{:.digits$}", value / unit);
        [show(self.median), format!("{} – {}", show(self.least), show(self.most))]
    }
}

/// The mean of looks at a limit that were taken before, between and after parts of a round: the
/// machine drifts, and a limit of another minute says little.
#[derive(Debug, Default)]
pub(super) struct Beside {
    sum: f64,
    n: usize,
}

impl Beside {
    pub(super) fn look(&mut self, rate: f64) {
        self.sum += rate;
        self.n += 1;
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.n.max(1) as f64
    }
}

/// Bytes per second that can be read now: the better of two passes, since others can only lower it.
pub(super) fn read_now(meter: &ReadMeter) -> f64 {
    meter.bytes_per_s(Duration::ZERO, 2)
}

/// The arithmetic that products with weights of a format are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peak {
    /// Of bytes, for weights in few bits.
    Int8,
    /// Of f32 or bf16, whichever is faster here.
    Float,
}

impl Peak {
    pub(super) fn of(format: Option<Format>) -> Peak {
        match format {
            None | Some(Format::F32 | Format::F16 | Format::Bf16 | Format::F8E4M3) => Peak::Float,
            Some(_) => Peak::Int8,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Peak::Int8 => "int8",
            Peak::Float => "float",
        }
    }

    /// Operations per second that the processor does at most now.
    pub(super) fn now(self) -> f64 {
        match self {
            Peak::Int8 => limits::int8_ops(WINDOW, 2),
            Peak::Float => {
                let bf16 = limits::bf16_flops(WINDOW, 2).unwrap_or(0.0);
                limits::f32_flops(WINDOW, 2).max(bf16)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((spread.least, spread.median, spread.most), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0]).median, 2.5);
        assert_eq!(spread.cells(1.0), ["2.0", "1.0 – 3.0"]);
    }
}
