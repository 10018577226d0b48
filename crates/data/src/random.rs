//! A small seeded generator: splitmix64 turns a key into the state of xoshiro256** (Blackman and
//! Vigna, 2018). Not for secrets. A key such as `[seed, stream, index]` gives every item its own
//! generator, so item `n` can be made without making the items before it.

/// The stream of pseudo-random numbers that belongs to one key.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

/// Mixes all words of `key`, in order, into one.
pub fn hash_key(key: &[u64]) -> u64 {
    key.iter()
        .fold(0x243F_6A88_85A3_08D3, |hash, &word| finish(hash.rotate_left(23) ^ finish(word)))
}

/// Mixes the bytes of `text` into one word (FNV-1a, then the splitmix finish).
pub fn hash_text(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    finish(fnv)
}

/// One splitmix64 step: advances by the golden ratio and scrambles.
fn finish(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Rng {
    /// The generator of `key`; equal keys give equal streams.
    pub fn from_key(key: &[u64]) -> Self {
        let mut word = hash_key(key);
        let state = std::array::from_fn(|_| {
            word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
            finish(word)
        });
        Self { state }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let out = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// A number in `0..n`, by the high half of a product: the bias is below `n / 2^64`.
    ///
    /// Panics: if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "below: n is 0");
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `low..=high`.
    ///
    /// Panics: if `low > high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "between: low {low} is above high {high}");
        low + self.below(high - low + 1)
    }

    /// A number in `[0, 1)` with 53 random bits.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// One of `items`, all equally likely.
    ///
    /// Panics: if `items` is empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// An index drawn in proportion to `weights`; an entry of weight 0 is never drawn.
    ///
    /// Panics: if the weights are negative or do not add up to a positive number.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        assert!(
            total > 0.0 && total.is_finite() && weights.iter().all(|&w| w >= 0.0),
            "weighted: cannot draw from {weights:?}"
        );
        let mut rest = self.unit() * total;
        let mut last = 0;
        for (idx, &weight) in weights.iter().enumerate() {
            if weight > 0.0 {
                if rest < weight {
                    return idx;
                }
                rest -= weight;
                last = idx; // rounding may leave a crumb behind the last entry
            }
        }
        last
    }

    /// Puts `items` in random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = self.below(end as u64 + 1) as usize;
            items.swap(end, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_give_equal_streams_and_order_matters() {
        let draw = |key: &[u64]| {
            let mut rng = Rng::from_key(key);
            [rng.next_u64(), rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(draw(&[1, 2]), draw(&[1, 2]));
        assert_ne!(draw(&[1, 2]), draw(&[2, 1]));
        assert_ne!(draw(&[1]), draw(&[1, 0]));
    }

    #[test]
    fn draws_follow_their_weights_and_bounds() {
        let mut rng = Rng::from_key(&[7]);
        let mut counts = [0_u32; 4];
        for _ in 0..20_000 {
            counts[rng.weighted(&[1.0, 0.0, 2.0, 1.0])] += 1;
            assert!((3..=5).contains(&rng.between(3, 5)));
        }
        assert_eq!(counts[1], 0);
        assert!((4700..5300).contains(&counts[0]), "{counts:?}");
        assert!((9600..10400).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Rng::from_key(&[3]).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
