//! Damaged files, the same at every run: what the fuzzer finds by luck, tried by plan.
//!
//! Included by the tests of each room (`#[path]`) and by nothing of the product.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Lengths that have broken readers before.
const LENGTHS: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    1 << 32,
    (1 << 53) + 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// What goes into any file: not UTF-8, NUL, right-to-left, byte order marks, huge numbers, JSON.
const SPICE: [&[u8]; 24] = [
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\0",
    "\u{202e}\u{5d0}\u{5d1}".as_bytes(),
    "\u{feff}".as_bytes(),
    "\u{10ffff}".as_bytes(),
    b"1e309",
    b"-1e309",
    b"1e-999",
    b"-1",
    b"-0.0",
    b"4294967296",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999999999999999999999999999",
    b"\"\\ud800\"",
    b"\\u0000",
    b"null",
    b"{\"\":",
    b"[[",
    b"}]",
    b"\"",
];

/// A seeded generator (splitmix64, Steele et al. 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Below `n`, which is not zero.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Holds `claim` on the seeds, on every beginning of the short ones, and on `n_cases` mutations.
/// `words` are pieces that belong to the format. Panics with the bytes of the first case that fails.
///
/// `FATHOM_FUZZ_CASES` multiplies the number of mutations, `FATHOM_FUZZ_SEED` changes them.
pub(crate) fn hold(seeds: &[Vec<u8>], words: &[&[u8]], n_cases: usize, claim: fn(&[u8])) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let n_cases = n_cases * number("FATHOM_FUZZ_CASES").unwrap_or(1) as usize;
    let mut random = Random(number("FATHOM_FUZZ_SEED").unwrap_or(20_250_101));
    for seed in seeds {
        check(seed, claim);
        // Long files are cut at places spread over them, short ones everywhere.
        for end in (0..seed.len()).step_by(1 + seed.len() / 600) {
            check(&seed[..end], claim);
        }
    }
    for _ in 0..n_cases {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..1 + random.below(3) {
            mutate(&mut bytes, seeds, words, &mut random);
        }
        check(&bytes, claim);
    }
}

/// JSON nested so deep that a reader which recurses would end the process.
pub(crate) fn deep_json() -> Vec<Vec<u8>> {
    let nested = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(100_000), close.repeat(100_000)).into_bytes()
    };
    vec![
        nested("[", "", "]"),
        nested("{\"a\":", "1", "}"),
        nested("[{\"a\":", "", ""),
        nested("[", "", ""),
    ]
}

fn check(bytes: &[u8], claim: fn(&[u8])) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| claim(bytes))) {
        let path = std::env::temp_dir().join(format!("fathom-failed-{}", std::process::id()));
        let kept = std::fs::write(&path, bytes);
        eprintln!("{} bytes break the claim, kept in `{}`: {kept:?}", bytes.len(), path.display());
        eprintln!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]));
        std::panic::resume_unwind(panic);
    }
}

fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&[u8]], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let span = |random: &mut Random, most: usize| at..(at + random.below(most)).min(bytes.len());
    match random.below(11) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.next() as u8,
        2 => bytes.truncate(at),
        // A length field, little-endian, of four or eight bytes.
        3 => {
            let value = LENGTHS[random.below(LENGTHS.len())].to_le_bytes();
            let n = [4, 8][random.below(2)].min(bytes.len() - at);
            bytes[at..at + n].copy_from_slice(&value[..n]);
        }
        4 => drop(bytes.drain(span(random, 32))),
        // A stretch doubled in place, or moved elsewhere.
        5 => {
            let piece = bytes[span(random, 96)].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        6 => {
            let piece: Vec<u8> = bytes.drain(span(random, 96)).collect();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        7 => insert(bytes, at, SPICE[random.below(SPICE.len())]),
        8 if !words.is_empty() => insert(bytes, at, words[random.below(words.len())]),
        9 => replace_number(bytes, at, random),
        // The end of another seed.
        _ => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.splice(at..at, piece.iter().copied());
}

/// Another number in the place of the next written one.
fn replace_number(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = (at..bytes.len()).find(|i| bytes[*i].is_ascii_digit()) else { return };
    let end = (start..bytes.len()).find(|i| !bytes[*i].is_ascii_digit()).unwrap_or(bytes.len());
    let number = match random.below(3) {
        0 => random.below(70_000).to_string(),
        1 => LENGTHS[random.below(LENGTHS.len())].to_string(),
        _ => SPICE_NUMBERS[random.below(SPICE_NUMBERS.len())].to_owned(),
    };
    bytes.splice(start..end, number.into_bytes());
}

const SPICE_NUMBERS: [&str; 8] =
    ["-1", "1e309", "1.5", "0.0", "1e-320", "null", "\"3\"", "18446744073709551616"];
