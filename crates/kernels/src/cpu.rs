//! What this CPU can do, found once at start, and which kernels that selects.
//!
//! `FATHOM_CPU=scalar|avx2|avx512` forces a level (tests use it to reach every variant).

use std::cell::Cell;
use std::sync::OnceLock;

/// Instruction-set level of the kernels, ordered from plain to fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust: the definition that the other levels are tested against.
    Scalar,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL and DQ.
    Avx512,
}

/// What was found, and what will be used.
#[derive(Clone, Debug)]
pub struct Cpu {
    /// Level the kernels run at.
    pub isa: Isa,
    /// Highest level this CPU offers, before `FATHOM_CPU` had its say.
    pub found: Isa,
    /// `vdpbf16ps` exists (AVX-512 BF16) and the level in use allows it.
    pub bf16_dot: bool,
    /// `vdpbf16ps` exists and is faster than f32 FMA: so on AMD (twice its rate on Zen 5), not on
    /// Intel up to Emerald Rapids (half its rate).
    pub bf16_dot_pays: bool,
    /// `vpdpbusd` exists (AVX-512 VNNI) and the level in use allows it.
    pub vnni: bool,
    /// Brand string as the CPU reports it.
    pub brand: String,
    /// `FATHOM_CPU` held a word we do not know; it was ignored.
    pub ignored_override: Option<String>,
}

static CPU: OnceLock<Cpu> = OnceLock::new();

thread_local! {
    /// Level forced by [`force_isa`].
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// The CPU this program runs on.
pub fn cpu() -> &'static Cpu {
    CPU.get_or_init(detect)
}

/// Level that kernels dispatch on.
#[inline]
pub fn isa() -> Isa {
    FORCED.get().unwrap_or_else(|| cpu().isa)
}

/// Forces a level for kernels that the calling thread starts (their worker threads included), or
/// lifts the force. For parity tests and benchmarks; tests run side by side, hence per thread.
///
/// Panics if the CPU lacks the level.
pub fn force_isa(level: Option<Isa>) {
    if let Some(level) = level {
        assert!(level <= cpu().found, "cpu offers {:?}, asked for {level:?}", cpu().found);
    }
    FORCED.set(level);
}

/// The level in force on this thread, for a worker that continues its work.
pub(crate) fn forced_isa() -> Option<Isa> {
    FORCED.get()
}

/// The levels this CPU offers, plain first.
pub fn available_isas() -> Vec<Isa> {
    [Isa::Scalar, Isa::Avx2, Isa::Avx512]
        .into_iter()
        .filter(|&level| level <= cpu().found)
        .collect()
}

fn detect() -> Cpu {
    let found = detect_isa();
    let (isa, ignored_override) = match std::env::var("FATHOM_CPU") {
        Err(_) => (found, None),
        Ok(word) => match word.to_ascii_lowercase().as_str() {
            "scalar" => (Isa::Scalar, None),
            "avx2" => (found.min(Isa::Avx2), None),
            "avx512" | "auto" | "" => (found, None),
            _ => (found, Some(word)),
        },
    };
    Cpu {
        isa,
        found,
        bf16_dot: isa == Isa::Avx512 && has_bf16_dot(),
        bf16_dot_pays: isa == Isa::Avx512 && has_bf16_dot() && vendor_is_amd(),
        vnni: isa == Isa::Avx512 && has_vnni(),
        brand: brand(),
        ignored_override,
    }
}

#[cfg(target_arch = "x86_64")]
fn detect_isa() -> Isa {
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq");
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    match (avx512 && avx2, avx2) {
        (true, _) => Isa::Avx512,
        (false, true) => Isa::Avx2,
        _ => Isa::Scalar,
    }
}

#[cfg(target_arch = "x86_64")]
fn has_bf16_dot() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

#[cfg(target_arch = "x86_64")]
fn vendor_is_amd() -> bool {
    let r = std::arch::x86_64::__cpuid(0);
    [r.ebx, r.edx, r.ecx] == [0x6874_7541, 0x6974_6e65, 0x444d_4163] // "AuthenticAMD"
}

#[cfg(target_arch = "x86_64")]
fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

#[cfg(target_arch = "x86_64")]
fn brand() -> String {
    use std::arch::x86_64::__cpuid;
    if __cpuid(0x8000_0000).eax < 0x8000_0004 {
        return "unknown".to_string();
    }
    let mut bytes = Vec::with_capacity(48);
    for leaf in 0x8000_0002..=0x8000_0004u32 {
        let r = __cpuid(leaf);
        for word in [r.eax, r.ebx, r.ecx, r.edx] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).trim_matches(['\0', ' ']).to_string()
}

#[cfg(not(target_arch = "x86_64"))]
fn detect_isa() -> Isa {
    Isa::Scalar
}

#[cfg(not(target_arch = "x86_64"))]
fn has_bf16_dot() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn vendor_is_amd() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_vnni() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn brand() -> String {
    std::env::consts::ARCH.to_string()
}
