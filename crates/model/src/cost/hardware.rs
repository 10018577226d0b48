//! Machines as four rates and a price, and the training runs that were published about them.
//!
//! Rates of graphics processors are the vendor's (dense bf16, without sparsity). What part of them
//! a training run reaches is taken from DeepSeek-V3's own account.

/// What a plan needs to know about one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    pub memory_bytes: u64,
    /// From memory, all threads together.
    pub read_bytes_per_s: f64,
    /// From the disk that holds the weights.
    pub disk_bytes_per_s: f64,
    /// Operations per second; a multiply-add is two.
    pub flops_per_s: f64,
    /// Share of `flops_per_s` that training reaches.
    pub training_share: f64,
    /// Dollars for one hour of one device.
    pub price_per_hour: f64,
}

/// A machine with a name.
#[derive(Debug, Clone, Copy)]
pub struct Hardware {
    pub name: &'static str,
    pub machine: Machine,
    /// Where the figures are from.
    pub source: &'static str,
}

/// Reads of a local NVMe disk, where nothing is known about it.
pub const ASSUMED_DISK_BYTES_PER_S: f64 = 2e9;
/// Share of the peak that a training run reaches, where nothing is known about it.
pub const ASSUMED_TRAINING_SHARE: f64 = 0.5;

/// Rates of one device with the training share and the price of DeepSeek-V3's account.
const fn hopper_like(memory_gb: u64, read_gb: f64, tflops: f64) -> Machine {
    Machine {
        memory_bytes: memory_gb * 1_000_000_000,
        read_bytes_per_s: read_gb * 1e9,
        disk_bytes_per_s: ASSUMED_DISK_BYTES_PER_S,
        flops_per_s: tflops * 1e12,
        training_share: 0.343,
        price_per_hour: 2.0,
    }
}

/// Machines that can be named.
pub const HARDWARE: &[Hardware] = &[
    Hardware {
        name: "h800",
        machine: hopper_like(80, 3350.0, 989.4),
        source: "NVIDIA's H800 SXM figures; share and $2 an hour from DeepSeek-V3, arXiv:2412.19437, table 1",
    },
    Hardware {
        name: "h100",
        machine: hopper_like(80, 3350.0, 989.4),
        source: "NVIDIA's H100 SXM figures; share and price as for the H800",
    },
    Hardware {
        name: "a100",
        machine: hopper_like(80, 2039.0, 312.0),
        source: "NVIDIA's A100 80GB SXM figures; share and price as for the H800",
    },
];

/// The machine of this name.
pub fn find(name: &str) -> Option<&'static Hardware> {
    HARDWARE.iter().find(|hardware| hardware.name.eq_ignore_ascii_case(name))
}

/// What was published about a training run on H800s.
#[derive(Debug, Clone, Copy)]
pub struct PublishedRun {
    /// Name of the preset.
    pub preset: &'static str,
    pub what: &'static str,
    pub tokens: f64,
    pub gpu_hours: f64,
    pub source: &'static str,
}

/// Runs to compare a plan with.
pub const PUBLISHED_RUNS: &[PublishedRun] = &[
    PublishedRun {
        preset: "llm-67b",
        what: "a trillion tokens",
        tokens: 1e12,
        gpu_hours: 300.6e3,
        source: "DeepSeek-V2, arXiv:2405.04434, section 3.2.3",
    },
    PublishedRun {
        preset: "v2",
        what: "a trillion tokens",
        tokens: 1e12,
        gpu_hours: 172.8e3,
        source: "DeepSeek-V2, arXiv:2405.04434, section 3.2.3",
    },
    PublishedRun {
        preset: "v3",
        what: "pre-training",
        tokens: 14.8e12,
        gpu_hours: 2664e3,
        source: "DeepSeek-V3, arXiv:2412.19437, table 1",
    },
];

/// The stages of DeepSeek-V3's training with their H800 hours: arXiv:2412.19437, table 1.
pub const V3_STAGES_GPU_HOURS: [(&str, f64); 3] =
    [("pre-training", 2664e3), ("context extension", 119e3), ("post-training", 5e3)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_of_v3_add_up_to_the_published_hours_and_dollars() {
        let hours: f64 = V3_STAGES_GPU_HOURS.iter().map(|(_, hours)| hours).sum();
        assert_eq!(hours, 2788e3);
        let h800 = find("H800").expect("it is in the table").machine;
        assert_eq!(hours * h800.price_per_hour, 5.576e6);
    }

    #[test]
    fn hardware_is_named_once() {
        for (i, hardware) in HARDWARE.iter().enumerate() {
            assert!(HARDWARE[..i].iter().all(|earlier| earlier.name != hardware.name));
        }
        assert!(find("abacus").is_none());
    }
}
