//! What this CPU can do, found once at start, and which kernels that selects.
//!
//! `FATHOM_CPU=scalar|neon|avx2|avx512` forces a level (tests use it to reach every variant).

use std::cell::Cell;
use std::sync::OnceLock;

/// Instruction-set level of the kernels, ordered from plain to fast among those of one architecture
/// ([`Isa::OF_THIS_ARCHITECTURE`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust: the definition that the other levels are tested against.
    Scalar,
    /// NEON of 64-bit ARM. Byte products use `sdot` where the CPU has it ([`Cpu::dotprod`]).
    Neon,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL and DQ.
    Avx512,
}

impl Isa {
    /// The levels that a CPU of the architecture this was built for can have, plain first.
    pub const OF_THIS_ARCHITECTURE: &'static [Isa] = if cfg!(target_arch = "x86_64") {
        &[Isa::Scalar, Isa::Avx2, Isa::Avx512]
    } else if cfg!(all(target_arch = "aarch64", target_endian = "little")) {
        &[Isa::Scalar, Isa::Neon]
    } else {
        &[Isa::Scalar]
    };

    /// Its name, as `FATHOM_CPU` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Neon => "neon",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }
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
    /// `sdot` exists (FEAT_DotProd, optional before ARMv8.4) and the level in use allows it.
    pub dotprod: bool,
    /// Brand string as the CPU reports it.
    pub brand: String,
    /// `FATHOM_CPU` held a word that names no level of this architecture; it was ignored.
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
    let levels = Isa::OF_THIS_ARCHITECTURE.iter().copied();
    levels.filter(|&level| level <= cpu().found).collect()
}

fn detect() -> Cpu {
    let found = detect_isa();
    let (isa, ignored_override) = match std::env::var("FATHOM_CPU") {
        Err(_) => (found, None),
        Ok(word) => match asked(&word) {
            Some(level) => (found.min(level), None),
            None if word.is_empty() || word.eq_ignore_ascii_case("auto") => (found, None),
            None => (found, Some(word)),
        },
    };
    Cpu {
        isa,
        found,
        bf16_dot: isa == Isa::Avx512 && has_bf16_dot(),
        bf16_dot_pays: isa == Isa::Avx512 && has_bf16_dot() && vendor_is_amd(),
        vnni: isa == Isa::Avx512 && has_vnni(),
        dotprod: isa == Isa::Neon && has_dotprod(),
        brand: brand(),
        ignored_override,
    }
}

/// The level of this architecture with that name.
fn asked(name: &str) -> Option<Isa> {
    let mut levels = Isa::OF_THIS_ARCHITECTURE.iter().copied();
    levels.find(|level| name.eq_ignore_ascii_case(level.name()))
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

/// NEON is part of every 64-bit ARM CPU. In big-endian order lanes lie otherwise than the kernels think.
#[cfg(not(target_arch = "x86_64"))]
fn detect_isa() -> Isa {
    *Isa::OF_THIS_ARCHITECTURE.last().unwrap_or(&Isa::Scalar)
}

#[cfg(target_arch = "aarch64")]
fn has_dotprod() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

#[cfg(not(target_arch = "aarch64"))]
fn has_dotprod() -> bool {
    false
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

/// ARM CPUs have numbers, not names: what the system knows of them.
#[cfg(not(target_arch = "x86_64"))]
fn brand() -> String {
    let brand = if cfg!(target_os = "macos") {
        let output = std::process::Command::new("/usr/sbin/sysctl")
            .args(["-n", "machdep.cpu.brand_string"])
            .output();
        output.ok().and_then(|output| String::from_utf8(output.stdout).ok())
    } else {
        std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| arm_brand(&text))
    };
    let brand = brand.map(|brand| brand.trim().to_string()).filter(|brand| !brand.is_empty());
    brand.unwrap_or_else(|| std::env::consts::ARCH.to_string())
}

/// The cores that Linux lists: implementer and part by number (Arm, Main ID Register), named if they
/// are common.
#[cfg_attr(target_arch = "x86_64", allow(dead_code))]
fn arm_brand(cpuinfo: &str) -> Option<String> {
    let values = |key: &str| -> Vec<&str> {
        let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).collect()
    };
    if let Some(name) = values("model name").first() {
        return Some(name.to_string());
    }
    let mut cores: Vec<String> = Vec::new();
    for (implementer, part) in values("CPU implementer").into_iter().zip(values("CPU part")) {
        let name = match (implementer, part) {
            ("0x41", "0xd03") => "Cortex-A53".to_string(),
            ("0x41", "0xd07") => "Cortex-A57".to_string(),
            ("0x41", "0xd08") => "Cortex-A72".to_string(),
            ("0x41", "0xd0b") => "Cortex-A76".to_string(),
            ("0x41", "0xd0c") => "Neoverse N1".to_string(),
            ("0x41", "0xd40") => "Neoverse V1".to_string(),
            ("0x41", "0xd49") => "Neoverse N2".to_string(),
            ("0x41", "0xd4f") => "Neoverse V2".to_string(),
            ("0x61", _) => "Apple".to_string(),
            _ => format!("ARM {implementer}/{part}"),
        };
        if !cores.contains(&name) {
            cores.push(name);
        }
    }
    (!cores.is_empty()).then(|| cores.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_this_architecture_ascend_and_have_names() {
        assert!(Isa::OF_THIS_ARCHITECTURE.is_sorted());
        for level in available_isas() {
            assert_eq!(asked(level.name()), Some(level));
            assert_eq!(asked(&level.name().to_uppercase()), Some(level));
        }
        let other = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
        assert_eq!((asked(other), asked("fast")), (None, None));
    }

    #[test]
    fn arm_cores_are_named_by_their_numbers() {
        let core = |part: &str| format!("CPU implementer\t: 0x41\nCPU part\t: {part}\n\n");
        let brand = |parts: &[&str]| arm_brand(&parts.iter().map(|p| core(p)).collect::<String>());
        assert_eq!(brand(&["0xd40", "0xd40"]).as_deref(), Some("Neoverse V1"));
        assert_eq!(brand(&["0xd03", "0xd08"]).as_deref(), Some("Cortex-A53 and Cortex-A72"));
        assert_eq!(brand(&["0xfff"]).as_deref(), Some("ARM 0x41/0xfff"));
        assert_eq!(brand(&[]), None);
    }
}
