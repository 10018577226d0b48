//! How much the server remembers: the cache of keys and values in memory and on disk.

use super::Args;
use crate::failure::Failure;
use crate::memory::memory;
use crate::opened::Opened;
use crate::output::to_stderr;
use crate::sizes::format_bytes;
use fathom_engine::prefix;
use fathom_engine::service::BlockStore;
use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_kernels::cpu::cpu;
use fathom_model::Config;
use fathom_model::cache::CacheSpec;
use fathom_serve::block_files::BlockFiles;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The share of free memory that the cache may fill.
const SHARE: u64 = 2;
/// What it may fill where the system does not say what is free.
const UNKNOWN_BYTES: u64 = 2 << 30;

/// The cache of keys and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Of 64 tokens.
    pub(super) n_blocks: usize,
    /// What they take once all are in use.
    pub(super) bytes: u64,
    /// Most tokens of one conversation.
    pub(super) context_tokens: usize,
}

impl Room {
    /// As much as was asked for; else half of what is free, but no more than all answers together can
    /// fill.
    ///
    /// Errors: not even a block fits; a context that was asked for does not.
    pub(super) fn of(args: &Args, config: &Config, cache: CacheSpec) -> Result<Room, Failure> {
        let positions = config.max_position_embeddings;
        if let Some(context) = args.context.filter(|context| *context > positions) {
            return Err(Failure::Usage(format!(
                "`--context {context}`: the model tells only {positions} positions apart"
            )));
        }
        let wanted = args.context.unwrap_or(positions);
        let block_bytes = cache.block_bytes() as u64;
        let useful = wanted.div_ceil(BLOCK_TOKENS) as u64 * u64::from(args.parallel);
        let free = memory().map_or(UNKNOWN_BYTES, |memory| memory.available_bytes / SHARE);
        let n_blocks = match args.cache_memory {
            Some(bytes) => bytes / block_bytes,
            None => (free / block_bytes).min(useful),
        };
        let n_tokens = n_blocks as usize * BLOCK_TOKENS;
        if n_blocks == 0 || args.context.is_some_and(|context| context > n_tokens) {
            let needed = args.context.unwrap_or(1).div_ceil(BLOCK_TOKENS) as u64 * block_bytes;
            return Err(Failure::hinted(
                format!(
                    "the cache holds {n_tokens} tokens; one conversation needs {} of it",
                    format_bytes(needed)
                ),
                "give it more with `--cache-memory`, or shorten conversations with `--context`",
            ));
        }
        Ok(Room {
            n_blocks: n_blocks as usize,
            bytes: n_blocks * block_bytes,
            context_tokens: wanted.min(n_tokens),
        })
    }
}

/// The files that cached prompts are kept in, if they shall be.
pub(super) fn block_files(args: &Args) -> Result<Option<Box<dyn BlockStore>>, Failure> {
    let Some(limit_bytes) = args.cache_disk else { return Ok(None) };
    let dir = args.cache_dir.clone().or_else(cache_dir).ok_or_else(|| {
        Failure::hinted("there is no home folder to keep prompts in", "name one with --cache-dir")
    })?;
    let log = Box::new(|line: &str| to_stderr(&format!("{line}\n")));
    let files = BlockFiles::open(&dir, limit_bytes, log)
        .map_err(|error| Failure::Failed(format!("`{}`: {error}", dir.display())))?;
    Ok(Some(Box::new(files)))
}

/// `$XDG_CACHE_HOME/fathom/prefixes`, else `~/.cache/fathom/prefixes`.
fn cache_dir() -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(caches.join("fathom/prefixes"))
}

/// Names everything that the bits in the cache depend on: the files of the model, how it is held and
/// computed, the program.
pub(super) fn fingerprint(args: &Args, opened: &Opened, cache: CacheSpec) -> u128 {
    let how = format!(
        "{:?} {:?} {:?} {:?} {}",
        cache,
        args.computing.holding,
        args.computing.dtype,
        cpu().isa,
        env!("CARGO_PKG_VERSION")
    );
    let mut parts = vec![how];
    let path = opened.path();
    let files = match path.is_dir() {
        true => std::fs::read_dir(path).into_iter().flatten().flatten().map(|f| f.path()).collect(),
        false => vec![path.to_owned()],
    };
    parts.extend(files.iter().filter_map(|path| stamp(path)));
    parts[1..].sort();
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    prefix::fingerprint(&parts)
}

/// Path, length and time of a file.
fn stamp(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let facts = path.metadata().ok()?;
    let changed = facts.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{} {} {}", path.display(), facts.len(), changed.as_nanos()))
}
