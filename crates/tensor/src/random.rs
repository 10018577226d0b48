//! Seeded randomness without state: every number is a function of a key, so nothing needs saving
//! for an exact resume, and a sequence's draws do not depend on what runs beside it.

/// A stream of numbers named by a key.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of `key`; different keys give unrelated streams.
    pub fn from_key(key: &[u64]) -> Self {
        let state = key.iter().fold(0x6a09_e667_f3bc_c908, |hash, &word| mix(hash ^ mix(word)));
        Random { state }
    }

    /// Next 64 random bits (splitmix64).
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// Uniform in `[0, 1)`, on a grid of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// `n` normal values of deviation `std`.
    pub fn normals(&mut self, n: usize, std: f64) -> Vec<f32> {
        (0..n).map(|_| (self.normal() * std) as f32).collect()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_the_deviation_asked_for() {
        let values = Random::from_key(&[1]).normals(100_000, 0.006);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 1e5;
        let variance = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 1e-4, "{mean}");
        assert!((variance.sqrt() / 0.006 - 1.0).abs() < 0.01, "{variance}");
    }

    #[test]
    fn keys_give_unrelated_streams() {
        let first = |key: &[u64]| Random::from_key(key).next_u64();
        assert_ne!(first(&[1, 2]), first(&[2, 1]));
        assert_ne!(first(&[0]), first(&[0, 0]));
        assert_eq!(first(&[7, 8]), first(&[7, 8]));
    }
}
