//! The machine that is meant: a known device, or this one measured, with what was typed on top.

use super::Args;
use crate::failure::Failure;
use crate::memory::memory;
use crate::sizes::format_bytes;
use fathom_kernels::limits;
use fathom_model::cost::hardware::{
    ASSUMED_DISK_BYTES_PER_S, ASSUMED_TRAINING_SHARE, HARDWARE, Machine, find,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Window and number of windows of a quick measurement.
const WINDOW: Duration = Duration::from_millis(30);
const N_WINDOWS: usize = 4;

/// Rates with where each is from.
pub(super) struct Meant {
    pub(super) one: Machine,
    pub(super) n_devices: u64,
    memory_from: &'static str,
    read_from: &'static str,
    disk_from: &'static str,
    flops_from: &'static str,
    /// What the figures of a known device rest on.
    source: Option<&'static str>,
}

/// Finds, measures or assumes what was not typed.
pub(super) fn meant(args: &Args) -> Result<Meant, Failure> {
    let known = match &args.hardware {
        Some(name) => Some(find(name).ok_or_else(|| unknown(name))?),
        None => None,
    };
    let mut meant = match known {
        Some(hardware) => Meant {
            one: hardware.machine,
            n_devices: args.devices,
            memory_from: hardware.name,
            read_from: hardware.name,
            disk_from: "assumed",
            flops_from: hardware.name,
            source: Some(hardware.source),
        },
        None => here(args)?,
    };
    let one = &mut meant.one;
    let put = |value: &mut f64, from: &mut &'static str, typed: Option<f64>| {
        if let Some(typed) = typed {
            (*value, *from) = (typed * 1e9, "given");
        }
    };
    put(&mut one.read_bytes_per_s, &mut meant.read_from, args.bandwidth);
    put(&mut one.disk_bytes_per_s, &mut meant.disk_from, args.disk);
    put(&mut one.flops_per_s, &mut meant.flops_from, args.compute);
    if let Some(bytes) = args.memory {
        (one.memory_bytes, meant.memory_from) = (bytes, "given");
    }
    one.price_per_hour = args.price.unwrap_or(one.price_per_hour);
    one.training_share = args.utilisation.map_or(one.training_share, |percent| percent / 100.0);
    if one.training_share > 1.0 {
        return Err(Failure::Usage("`--utilisation` is a percentage, at most 100".to_owned()));
    }
    Ok(meant)
}

/// This machine. Nothing is measured that was typed.
fn here(args: &Args) -> Result<Meant, Failure> {
    let memory_bytes = match (args.memory, memory()) {
        (Some(bytes), _) => bytes,
        (None, Some(memory)) => memory.available_bytes,
        (None, None) => {
            return Err(Failure::Usage(
                "this system does not say how much memory it has\nhint: add `--memory 16GiB`"
                    .to_owned(),
            ));
        }
    };
    let measure = args.bandwidth.is_none() || args.compute.is_none();
    let limits = measure.then(|| limits::measure(WINDOW, N_WINDOWS));
    let one = Machine {
        memory_bytes,
        read_bytes_per_s: limits.map_or(0.0, |limits| limits.read_bytes_per_s),
        disk_bytes_per_s: ASSUMED_DISK_BYTES_PER_S,
        flops_per_s: limits.map_or(0.0, |limits| limits.f32_flops),
        training_share: ASSUMED_TRAINING_SHARE,
        price_per_hour: 0.0,
    };
    Ok(Meant {
        one,
        n_devices: args.devices,
        memory_from: "available here",
        read_from: "measured",
        disk_from: "assumed",
        flops_from: "measured, f32",
        source: None,
    })
}

fn unknown(name: &str) -> Failure {
    let names: Vec<&str> = HARDWARE.iter().map(|hardware| hardware.name).collect();
    Failure::hinted(
        format!("there is no hardware `{name}`"),
        format!(
            "it is one of {}, or give `--memory`, `--bandwidth`, `--compute`",
            names.join(", ")
        ),
    )
}

impl Meant {
    /// All devices as one; the disk is shared.
    pub(super) fn together(&self) -> Machine {
        let n = self.n_devices;
        Machine {
            memory_bytes: self.one.memory_bytes.saturating_mul(n),
            read_bytes_per_s: self.one.read_bytes_per_s * n as f64,
            flops_per_s: self.one.flops_per_s * n as f64,
            ..self.one
        }
    }

    pub(super) fn text(&self) -> String {
        let one = &self.one;
        let times =
            if self.n_devices > 1 { format!("{} x ", self.n_devices) } else { String::new() };
        let mut text = format!(
            "machine  {times}{} memory ({}), {:.1} GB/s read ({}), {:.0} GFLOP/s ({}), disk {:.1} GB/s ({})\n",
            format_bytes(one.memory_bytes),
            self.memory_from,
            one.read_bytes_per_s / 1e9,
            self.read_from,
            one.flops_per_s / 1e9,
            self.flops_from,
            one.disk_bytes_per_s / 1e9,
            self.disk_from,
        );
        if let Some(source) = self.source {
            text.push_str(&format!("         {source}\n"));
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "devices": self.n_devices,
            "memory_bytes": self.one.memory_bytes,
            "memory_from": self.memory_from,
            "read_bytes_per_s": self.one.read_bytes_per_s,
            "read_from": self.read_from,
            "disk_bytes_per_s": self.one.disk_bytes_per_s,
            "disk_from": self.disk_from,
            "flops_per_s": self.one.flops_per_s,
            "flops_from": self.flops_from,
            "source": self.source,
        })
    }
}
