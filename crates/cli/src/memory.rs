//! Memory of this machine: Linux only.

/// What the system says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) total_bytes: u64,
    /// Without swapping: free, and given up by caches when asked.
    pub(crate) available_bytes: u64,
}

/// Asks the system; `None` where it does not say.
pub(crate) fn memory() -> Option<Memory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { total_bytes: bytes("MemTotal:")?, available_bytes: bytes("MemAvailable:")? })
}

/// The most memory this process has held, mapped files included; `None` where the system does not say.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}
