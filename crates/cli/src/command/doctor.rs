//! `fathom doctor`: what was found on this machine, and what will be used of it.

use super::Machine;
use crate::failure::Failure;
use crate::memory::{Memory, memory};
use crate::output::{json_to_stdout, to_stdout};
use crate::talk::source::{Missing, RUNS, locate};
use crate::terminal::Style;
use fathom_kernels::cores::{Cores, cores, spread_memory};
use fathom_kernels::cpu::{Cpu, Isa, cpu};
use fathom_kernels::limits::{self, Limits};
use fathom_tensor::Device;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    machine: Machine,
}

const EXAMPLES: &str = "\
Examples:
  fathom doctor
  FATHOM_CPU=avx2 fathom doctor      with the kernels of an older CPU (scalar, neon, avx2, avx512)
  FATHOM_THREADS=1 fathom doctor     on one thread";

/// Memory under which the larger recipes may not fit.
const LOW_MEMORY_BYTES: u64 = 2 << 30;

/// Everything that was found.
struct Found {
    cpu: &'static Cpu,
    cores: Cores,
    n_threads: usize,
    memory_is_spread: bool,
    memory: Option<Memory>,
    limits: Limits,
    devices: Vec<Device>,
    runs: PathBuf,
    newest: Option<String>,
    hub_cache: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    args.machine.apply();
    let found = find();
    if args.json {
        return json_to_stdout(&as_json(&found));
    }
    to_stdout(&as_text(&found, Style::of_stdout()))
}

fn find() -> Found {
    let here = std::env::current_dir().unwrap_or_default();
    Found {
        cpu: cpu(),
        cores: cores(),
        n_threads: fathom_kernels::threads::n_threads(),
        memory_is_spread: spread_memory(),
        memory: memory(),
        limits: limits::measure(Duration::from_millis(40), 5),
        devices: Device::present(),
        runs: here.join(RUNS),
        newest: locate(None, Missing::Refuse).ok().map(|found| found.label().to_owned()),
        hub_cache: hub_cache(),
    }
}

fn as_text(found: &Found, style: Style) -> String {
    let limits = &found.limits;
    let bf16 =
        limits.bf16_flops.map_or(String::new(), |rate| format!(", {:.0} GFLOP/s bf16", rate / 1e9));
    let devices: Vec<String> = found.devices.iter().map(Device::to_string).collect();
    let mut facts = vec![
        (
            "fathom",
            format!(
                "{} ({} {})",
                env!("CARGO_PKG_VERSION"),
                std::env::consts::ARCH,
                std::env::consts::OS
            ),
        ),
        ("cpu", found.cpu.brand.clone()),
        ("kernels", kernels(found.cpu)),
        ("threads", threads(found)),
        (
            "limits",
            format!(
                "{:.0} GFLOP/s f32{bf16}, {:.0} GOP/s int8, {:.1} GB/s read",
                limits.f32_flops / 1e9,
                limits.int8_ops / 1e9,
                limits.read_bytes_per_s / 1e9
            ),
        ),
        ("devices", devices.join(", ")),
    ];
    if let Some(memory) = found.memory {
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let (total, free) = (gb(memory.total_bytes), gb(memory.available_bytes));
        let spread = match (found.cores.nodes, found.memory_is_spread) {
            (1, _) => String::new(),
            (n, true) => format!(", spread over {n} nodes"),
            (n, false) => format!(", on {n} nodes; not spread"),
        };
        let text = format!("{total:.1} GB, {free:.1} GB free{spread}");
        facts.push(("memory", text));
    }
    let newest =
        found.newest.as_deref().map_or("none trained yet".into(), |run| format!("newest: {run}"));
    facts.push(("runs", format!("{} ({newest})", found.runs.display())));
    if let Some(cache) = &found.hub_cache {
        let there = if cache.is_dir() { "" } else { " (not there)" };
        facts.push(("hub cache", format!("{}{there}", cache.display())));
    }
    let mut text: String = facts
        .iter()
        .map(|(name, fact)| format!("{} {fact}\n", style.bold(&format!("{name:10}"))))
        .collect();
    for warning in warnings(found) {
        text.push_str(&format!("{} {warning}\n", style.yellow("warning:")));
    }
    text
}

fn as_json(found: &Found) -> Value {
    let devices: Vec<String> = found.devices.iter().map(Device::to_string).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "arch": std::env::consts::ARCH,
        "os": std::env::consts::OS,
        "cpu": found.cpu.brand,
        "isa_found": found.cpu.found.name(),
        "isa_used": found.cpu.isa.name(),
        "avx512_bf16": found.cpu.bf16_dot,
        "avx512_bf16_pays": found.cpu.bf16_dot_pays,
        "avx512_vnni": found.cpu.vnni,
        "cores": found.cores.physical,
        "hyperthreads": found.cores.logical,
        "memory_nodes": found.cores.nodes,
        "memory_is_spread": found.memory_is_spread,
        "neon_dotprod": found.cpu.dotprod,
        "threads": found.n_threads,
        "memory_total_bytes": found.memory.map(|memory| memory.total_bytes),
        "memory_available_bytes": found.memory.map(|memory| memory.available_bytes),
        "f32_flops_per_s": found.limits.f32_flops,
        "bf16_flops_per_s": found.limits.bf16_flops,
        "int8_ops_per_s": found.limits.int8_ops,
        "read_bytes_per_s": found.limits.read_bytes_per_s,
        "devices": devices,
        "runs_dir": found.runs.display().to_string(),
        "newest_run": found.newest,
        "hub_cache_dir": found.hub_cache.as_ref().map(|path| path.display().to_string()),
        "warnings": warnings(found),
    })
}

fn threads(found: &Found) -> String {
    let Cores { logical, physical, .. } = found.cores;
    let hyperthreads = match logical > physical {
        true => format!(" ({logical} hyperthreads)"),
        false => String::new(),
    };
    format!("{} on {physical} cores{hyperthreads}", found.n_threads)
}

fn kernels(cpu: &Cpu) -> String {
    let mut text = cpu.isa.name().to_owned();
    if cpu.isa < cpu.found {
        text.push_str(&format!(
            " (`FATHOM_CPU` asks for it; this CPU offers {})",
            cpu.found.name()
        ));
    }
    if cpu.bf16_dot {
        let use_of_it = if cpu.bf16_dot_pays { "used" } else { "slower than f32 here, not used" };
        text.push_str(&format!("; bf16 products in hardware: {use_of_it}"));
    }
    if cpu.vnni {
        text.push_str("; vnni");
    }
    if cpu.dotprod {
        text.push_str("; dotprod");
    }
    text
}

fn warnings(found: &Found) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(word) = &found.cpu.ignored_override {
        let levels: Vec<&str> = Isa::OF_THIS_ARCHITECTURE.iter().map(|isa| isa.name()).collect();
        let levels = levels.join(", ");
        warnings.push(format!("`FATHOM_CPU={word}` is ignored: levels here are {levels}"));
    }
    if found.cpu.found == Isa::Scalar {
        let arch = std::env::consts::ARCH;
        let missing = if arch == "x86_64" { "AVX2" } else { "kernels of its own" };
        warnings.push(format!(
            "this CPU ({arch}) has no {missing}: everything works, many times slower"
        ));
    }
    if found.cores.logical == 1 {
        warnings
            .push("there is only one core: recipes take about twice the stated time".to_owned());
    }
    if found.n_threads > found.cores.logical {
        let (n, cores) = (found.n_threads, found.cores.physical);
        warnings.push(format!("{n} threads share {cores} cores: they wait for each other"));
    }
    if found.memory.is_some_and(|memory| memory.available_bytes < LOW_MEMORY_BYTES) {
        warnings.push("less than 2 GB of memory are free: larger recipes may not fit".to_owned());
    }
    warnings
}

/// Where the Hugging Face libraries keep what they fetch.
fn hub_cache() -> Option<PathBuf> {
    let var =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = |tail: &str| var("HOME").map(|home| home.join(tail));
    var("HF_HUB_CACHE")
        .or_else(|| var("HF_HOME").map(|dir| dir.join("hub")))
        .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("huggingface/hub")))
        .or_else(|| home(".cache/huggingface/hub"))
}
