//! `fathom bench tokenizer`: text to ids on one thread.

use super::rate::Spread;
use crate::failure::Failure;
use crate::output::{json_to_stdout, to_stdout};
use crate::vocabulary::find_tokenizer;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

/// What was typed.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// A model, a directory with `tokenizer.json`, such a file, or a GGUF
    #[arg(value_name = "MODEL_OR_FILE")]
    from: String,

    /// The text, in UTF-8
    #[arg(long, value_name = "FILE")]
    file: PathBuf,

    /// Encode it N times; the median, the least and the most are shown
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Print one JSON object; names of figures carry their unit
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  fathom bench tokenizer tokenizer.json --file page.txt
  fathom bench tokenizer model.gguf --file page.txt --rounds 9 --json

The first round meets empty caches of pieces and is shown apart. `ids_hash` is the FNV-1a hash of the
ids as little-endian 32-bit words, to compare with other programs.";

pub(super) fn run(args: Args) -> Result<(), Failure> {
    let tokenizer = find_tokenizer(&args.from)?;
    let refuse = |error| Failure::Failed(format!("cannot read `{}`: {error}", args.file.display()));
    let text = std::fs::read_to_string(&args.file).map_err(refuse)?;
    if text.is_empty() {
        return Err(Failure::Failed(format!("`{}` is empty", args.file.display())));
    }
    let mut ids = Vec::new();
    let rates: Vec<f64> = (0..=args.rounds)
        .map(|_| {
            let start = Instant::now();
            ids = tokenizer.encode(&text);
            text.len() as f64 / start.elapsed().as_secs_f64()
        })
        .collect();
    let (first, rates) = (rates[0], Spread::of(rates[1..].iter().copied()));
    if args.json {
        return json_to_stdout(&json!({
            "bytes": text.len(),
            "ids": ids.len(),
            "ids_hash": format!("{:016x}", hash(&ids)),
            "rounds": args.rounds,
            "first_bytes_per_s": first,
            "bytes_per_s": rates.median,
            "bytes_per_s_least": rates.least,
            "bytes_per_s_most": rates.most,
        }));
    }
    let [median, reach] = rates.cells(1e6);
    to_stdout(&format!(
        "{median} MB/s ({reach}), first round {:.1}: {} bytes, {} ids, one thread\n",
        first / 1e6,
        text.len(),
        ids.len()
    ))
}

fn hash(ids: &[u32]) -> u64 {
    let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(hash(&[]), 0xcbf2_9ce4_8422_2325);
        // "abcd" as one word.
        assert_eq!(hash(&[u32::from_le_bytes(*b"abcd")]), 0xfc17_9f83_ee07_24dd);
    }
}
