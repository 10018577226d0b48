//! A model as it was typed, opened: its files, and how its weights are to be held.

use crate::failure::Failure;
use crate::memory::memory;
use crate::output::to_stderr;
use crate::sizes::{format_bytes, parse_bytes};
use crate::talk::dialect::open_tokenizer;
use crate::talk::source::{Found, Missing, locate};
use crate::terminal::stderr_is_live;
use crate::vocabulary::gguf_tokenizer;
use fathom_kernels::quant::Format;
use fathom_model::{LoadOptions, Loaded, Model, Source};
use fathom_text::Tokenizer;
use std::path::Path;
use std::time::Instant;

/// Unknown tensors that are named; the others are counted.
const N_NAMED: usize = 3;
/// Loading that takes longer than this shows how far it is.
const QUIET_S: f64 = 0.5;

/// How weights are held in memory.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Holding {
    /// Turn matrices into this format while loading: q8_0, q6_k, q5_k, q4_k, q4_0, fp8, bf16, f32 … [default: as stored]
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    quant: Option<Format>,

    /// What quantised weights are multiplied with: int8 rounds to 8 bits in groups of 32, as other
    /// programs do, and is several times as fast as f32, which rounds nothing
    #[arg(long, value_name = "TYPE", default_value = "int8")]
    activations: Activations,

    /// Most memory for weights, such as 12GiB; experts past that are read from disk when they are chosen
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory: Option<u64>,

    /// Copy the weights out of their files into memory, in large pages: starts later, then decodes up to 8 %
    /// faster; takes memory that other programs cannot share
    #[arg(long, conflicts_with = "memory")]
    no_mmap: bool,
}

/// [`fathom_model::Activations`] as typed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default)]
#[value(rename_all = "lower")]
enum Activations {
    #[default]
    Int8,
    F32,
}

impl From<Activations> for fathom_model::Activations {
    fn from(typed: Activations) -> Self {
        match typed {
            Activations::Int8 => Self::Int8,
            Activations::F32 => Self::F32,
        }
    }
}

impl Holding {
    /// Whether memory for weights is limited.
    pub(crate) fn is_limited(&self) -> bool {
        self.memory.is_some()
    }
}

/// A model whose headers were read.
pub(crate) struct Opened {
    /// Where it was found.
    pub(crate) found: Found,
    pub(crate) files: Source,
}

impl Opened {
    /// Finds and opens what was typed; says on stderr what its files leave open.
    pub(crate) fn find(typed: Option<&str>, missing: Missing) -> Result<Opened, Failure> {
        let found = locate(typed, missing)?;
        let files = Source::open(found.path())?;
        for assumption in files.assumptions() {
            to_stderr(&format!("note: {assumption}\n"));
        }
        Ok(Opened { found, files })
    }

    /// What to call it.
    pub(crate) fn label(&self) -> &str {
        self.found.label()
    }

    /// The checkpoint directory, or the GGUF file.
    pub(crate) fn path(&self) -> &Path {
        self.found.path()
    }

    /// The tokenizer of the directory, or the one inside the GGUF.
    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, Failure> {
        match self.files.gguf() {
            Some(gguf) => gguf_tokenizer(gguf),
            None => open_tokenizer(self.path()),
        }
    }

    /// Loads the weights, with a line on stderr if that takes long, and a warning about tensors that
    /// have no place.
    pub(crate) fn load(&self, holding: &Holding, mtp: bool) -> Result<Loaded, Failure> {
        let options = LoadOptions {
            activations: holding.activations.into(),
            quant: holding.quant,
            mtp,
            memory_bytes: holding.memory,
        };
        let (start, live) = (Instant::now(), stderr_is_live());
        let mut shown = false;
        let loaded = Model::load(&self.files, &options, &mut |done, n| {
            if live && start.elapsed().as_secs_f64() > QUIET_S {
                to_stderr(&format!("\r\x1b[2Kloading: {done} of {n} tensors"));
                shown = true;
            }
        });
        if shown {
            to_stderr("\r\x1b[2K");
        }
        let loaded = loaded?;
        if let Some(warning) = unknown(&loaded.unknown) {
            to_stderr(&warning);
        }
        let room = memory().map_or(0, |memory| memory.available_bytes);
        if holding.no_mmap && !cfg!(target_os = "linux") {
            to_stderr("note: `--no-mmap` does nothing on this system; weights stay mapped\n");
        } else if holding.no_mmap {
            copy(&loaded, room)?;
        } else if loaded.weight_bytes <= holding.memory.unwrap_or(u64::MAX).min(room) {
            loaded.prepare();
        }
        if let Some(limit) = holding.memory
            && loaded.weight_bytes > limit
        {
            to_stderr(&format!(
                "note: {} of weights, of which {} stay in memory\n",
                format_bytes(loaded.weight_bytes),
                format_bytes(limit)
            ));
        }
        Ok(loaded)
    }
}

/// Copies the weights into memory, of which `room` bytes are free.
fn copy(loaded: &Loaded, room: u64) -> Result<(), Failure> {
    let refused = |found: String| {
        let needed = format_bytes(loaded.weight_bytes);
        Failure::hinted(
            format!("`--no-mmap` needs {needed} of memory for the weights: {found}"),
            "without it weights are read from the page cache, which gives way to other programs",
        )
    };
    if loaded.weight_bytes > room {
        return Err(refused(format!("{} are free", format_bytes(room))));
    }
    loaded.copy().map_err(|error| refused(error.to_string()))
}

fn unknown(names: &[String]) -> Option<String> {
    let named: Vec<String> = names.iter().take(N_NAMED).map(|name| format!("`{name}`")).collect();
    let more = match names.len() {
        0 => return None,
        n if n > N_NAMED => format!(" and {} more", n - N_NAMED),
        _ => String::new(),
    };
    Some(format!(
        "warning: the checkpoint holds tensors that this architecture does not have: {}{more}\n",
        named.join(", ")
    ))
}

/// A format as typed.
pub(crate) fn format(text: &str) -> Result<Format, String> {
    // llama.cpp's names of mixtures, which people type out of habit.
    let plain = text.to_ascii_lowercase();
    let plain = plain.strip_suffix("_m").or(plain.strip_suffix("_s")).unwrap_or(&plain);
    Format::from_name(plain).ok_or_else(|| {
        let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
        format!("there is no format `{text}`; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_understood_by_the_names_people_use() {
        assert_eq!(format("Q4_K"), Ok(Format::Q4K));
        assert_eq!(format("q4_k_m"), Ok(Format::Q4K));
        assert_eq!(format("bf16"), Ok(Format::Bf16));
        assert!(format("q9").unwrap_err().contains("q8_0"));
    }

    #[test]
    fn unknown_tensors_are_named_and_counted() {
        let names: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let warning = unknown(&names).unwrap();
        assert!(warning.contains("`a`, `b`, `c` and 2 more"), "{warning}");
        assert_eq!(unknown(&[]), None);
    }
}
