//! The most likely tokens in order, without sorting the vocabulary.
//!
//! Order: larger logits first (by `f32::total_cmp`), of equals the lower id.

/// Logits that are compared with a threshold together.
const CHUNK: usize = 64;
/// Tokens that are put in order first; four times as many each time more are asked for.
const FIRST: usize = 128;

/// A token as a number that is smaller the earlier it ranks.
fn key(id: usize, logit: f32) -> u64 {
    let bits = logit.to_bits();
    // Larger for larger floats: negative ones are turned around, positive ones put above them.
    let ascending = bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000);
    (u64::from(!ascending) << 32) | id as u64
}

/// The token of a [`key`].
pub(super) fn id(key: u64) -> u32 {
    key as u32
}

/// The `k` most likely tokens, in order; all if there are fewer.
pub(super) fn top_k(logits: &[f32], k: usize) -> Vec<u32> {
    let k = k.min(logits.len());
    if k == 0 {
        return Vec::new();
    }
    // At least k tokens are as large as the k-th largest of the chunks' maxima.
    let mut maxima: Vec<f32> = logits
        .chunks(CHUNK)
        .map(|chunk| chunk.iter().copied().fold(f32::NEG_INFINITY, f32::max))
        .collect();
    let threshold = match maxima.len() {
        n if k <= n => *maxima.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1,
        _ => f32::NEG_INFINITY,
    };
    let mut keys = keys_within(logits, threshold, f32::INFINITY);
    keys.select_nth_unstable(k - 1);
    keys.truncate(k);
    keys.sort_unstable();
    keys.into_iter().map(id).collect()
}

/// Keys of the tokens whose logits are at least `from` and below `to`, by id.
fn keys_within(logits: &[f32], from: f32, to: f32) -> Vec<u64> {
    let within = |logit: f32| logit >= from && logit < to;
    let mut keys = Vec::new();
    for (at, chunk) in logits.chunks(CHUNK).enumerate() {
        if !chunk.iter().fold(false, |any, logit| any | within(*logit)) {
            continue;
        }
        // Without a branch: every key is written, those outside are written over.
        let (mut found, mut n) = ([0; CHUNK], 0);
        for (offset, logit) in chunk.iter().enumerate() {
            found[n] = key(at * CHUNK + offset, *logit);
            n += usize::from(within(*logit));
        }
        keys.extend_from_slice(&found[..n]);
    }
    keys
}

/// Tokens of a range of logits, put in order as far as they are asked for.
pub(super) struct Ranked {
    keys: Vec<u64>,
    n_sorted: usize,
    next: usize,
}

impl Ranked {
    /// Tokens whose logits are at least `from` and below `to`.
    pub(super) fn within(logits: &[f32], from: f32, to: f32) -> Ranked {
        Ranked { keys: keys_within(logits, from, to), n_sorted: 0, next: 0 }
    }
}

impl Iterator for Ranked {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.next == self.n_sorted {
            let rest = &mut self.keys[self.n_sorted..];
            let more = (self.n_sorted * 3).max(FIRST).min(rest.len());
            if more == 0 {
                return None;
            }
            rest.select_nth_unstable(more - 1);
            rest[..more].sort_unstable();
            self.n_sorted += more;
        }
        self.next += 1;
        Some(id(self.keys[self.next - 1]))
    }
}
