//! What the system says about this process.

/// Bytes of memory that are really there; none where the system does not tell.
pub(super) fn resident_bytes() -> Option<u64> {
    // Not `statm`, which counts in pages whose size only a call into C would tell.
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
