//! The seam between operations and the hardware that runs them.
//!
//! Operations ask the tape for its device and dispatch on it in one place each. Today there is one
//! body, the CPU kernels; the CUDA room will add the second.

/// Where tensors live and operations run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Device {
    /// The CPU kernels of `fathom-kernels`, variant chosen at run time.
    #[default]
    Cpu,
}

impl Device {
    /// Devices present on this machine, best first.
    pub fn present() -> Vec<Device> {
        vec![Device::Cpu]
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
        }
    }
}
