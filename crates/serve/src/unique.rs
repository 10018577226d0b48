//! Names and numbers that do not come twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// `prefix` and 24 hexadecimal digits.
pub(crate) fn name(prefix: &str) -> String {
    format!("{prefix}{:016x}{:08x}", number(), number() as u32)
}

/// 64 random bits; where the system has none, the time and a count.
pub(crate) fn number() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    getrandom::u64().unwrap_or_else(|_| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        (now.as_nanos() as u64).rotate_left(20) ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// Seconds since 1970.
pub(crate) fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
