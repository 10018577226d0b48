//! Sending tokens to their experts and adding up what comes back.
//!
//! A slot is one visit of a token to an expert. Slots are sorted by expert, tokens in order within
//! one, so every expert works on consecutive rows. Sums over the experts of a token run in the
//! order of the gate's list (ascending expert), independent of other tokens.
//!
//! Letters: T tokens, E experts, K experts per token, S = T·K slots, D width.

use crate::lanes::{self, for_rows, per_isa};
use crate::matmul::Write;
use crate::threads::Shards;

/// Which token sits in which slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// [E + 1] slots of expert e are `offsets[e]..offsets[e + 1]`.
    pub offsets: Vec<usize>,
    /// [S] token of each slot.
    pub rows: Vec<u32>,
    /// [T, K] slot of each choice.
    pub slot_of: Vec<u32>,
    top_k: usize,
}

impl Dispatch {
    /// Sorts the choices of a gate.
    ///
    /// Shapes: `ids` [T, K].
    ///
    /// Panics if `ids` is not made of whole rows or an id is not below `n_experts`.
    pub fn new(ids: &[u32], n_experts: usize, top_k: usize) -> Self {
        assert!(top_k > 0 && ids.len().is_multiple_of(top_k), "{} ids, {top_k} each", ids.len());
        let mut offsets = vec![0; n_experts + 1];
        for &id in ids {
            assert!((id as usize) < n_experts, "expert {id} of {n_experts}");
            offsets[id as usize + 1] += 1;
        }
        for expert in 0..n_experts {
            offsets[expert + 1] += offsets[expert];
        }
        let mut next = offsets.clone();
        let (mut rows, mut slot_of) = (vec![0; ids.len()], vec![0; ids.len()]);
        for (choice, &id) in ids.iter().enumerate() {
            let slot = &mut next[id as usize];
            rows[*slot] = (choice / top_k) as u32;
            slot_of[choice] = *slot as u32;
            *slot += 1;
        }
        Dispatch { offsets, rows, slot_of, top_k }
    }

    /// S
    pub fn n_slots(&self) -> usize {
        self.rows.len()
    }

    /// T
    pub fn n_tokens(&self) -> usize {
        self.rows.len() / self.top_k
    }

    /// The slots of one expert.
    pub fn slots(&self, expert: usize) -> std::ops::Range<usize> {
        self.offsets[expert]..self.offsets[expert + 1]
    }

    /// Copies the row of each slot's token.
    ///
    /// Shapes: `x` [T, D], `out` [S, D].
    ///
    /// Panics if the shapes disagree.
    pub fn gather(&self, x: &[f32], d: usize, out: &mut [f32]) {
        self.check(x.len(), out.len(), d);
        let out = Shards::new(out);
        for_rows(self.n_slots(), d, |slots| {
            for slot in slots {
                let row = self.rows[slot] as usize;
                // SAFETY: slot ranges of one loop do not overlap.
                let out = unsafe { out.slice(slot * d..(slot + 1) * d) };
                out.copy_from_slice(&x[row * d..(row + 1) * d]);
            }
        });
    }

    /// The gradient of [`Dispatch::gather`]: the rows of a token's slots are added up in `dx`, or to it.
    ///
    /// Shapes: `dout` [S, D], `dx` [T, D].
    ///
    /// Panics if the shapes disagree.
    pub fn gather_backward(&self, dout: &[f32], d: usize, dx: &mut [f32], write: Write) {
        self.check(dx.len(), dout.len(), d);
        let dx = Shards::new(dx);
        for_rows(self.n_tokens(), self.top_k * d, |tokens| {
            for t in tokens {
                // SAFETY: token ranges of one loop do not overlap.
                let dx = unsafe { dx.slice(t * d..(t + 1) * d) };
                let mut choices = self.choices(t);
                if write == Write::Set {
                    let first = choices.next().expect("a token has at least one choice");
                    dx.copy_from_slice(self.slot_row(dout, first, d));
                }
                for choice in choices {
                    add_scaled(1.0, self.slot_row(dout, choice, d), dx);
                }
            }
        });
    }

    /// Brings one value per choice into the order of slots: `choices` [T, K], `slots` [S].
    ///
    /// Panics if the lengths disagree.
    pub fn to_slots(&self, choices: &[f32], slots: &mut [f32]) {
        assert_eq!([choices.len(), slots.len()], [self.n_slots(); 2], "values of all slots");
        for (&value, &slot) in choices.iter().zip(&self.slot_of) {
            slots[slot as usize] = value;
        }
    }

    /// The inverse of [`Dispatch::to_slots`].
    ///
    /// Panics if the lengths disagree.
    pub fn from_slots(&self, slots: &[f32], choices: &mut [f32]) {
        assert_eq!([choices.len(), slots.len()], [self.n_slots(); 2], "values of all slots");
        for (value, &slot) in choices.iter_mut().zip(&self.slot_of) {
            *value = slots[slot as usize];
        }
    }

    /// `out[t] = Σ_k weights[t, k] · y[slot of (t, k)]`; overwrites `out`.
    ///
    /// Shapes: `y` [S, D], `weights` [T, K], `out` [T, D].
    ///
    /// Panics if the shapes disagree.
    pub fn combine(&self, y: &[f32], weights: &[f32], d: usize, out: &mut [f32]) {
        self.check(out.len(), y.len(), d);
        assert_eq!(weights.len(), self.n_slots(), "weights of {} slots", self.n_slots());
        let out = Shards::new(out);
        for_rows(self.n_tokens(), self.top_k * d, |tokens| {
            for t in tokens {
                // SAFETY: token ranges of one loop do not overlap.
                let out = unsafe { out.slice(t * d..(t + 1) * d) };
                out.fill(0.0);
                for choice in self.choices(t) {
                    add_scaled(weights[choice], self.slot_row(y, choice, d), out);
                }
            }
        });
    }

    /// The gradient of [`Dispatch::combine`]; overwrites `dy` and `dweights`.
    ///
    /// Shapes: `y`, `dy` [S, D]; `weights`, `dweights` [T, K]; `dout` [T, D], which gives D.
    ///
    /// Panics if the shapes disagree.
    pub fn combine_backward(
        &self,
        y: &[f32],
        weights: &[f32],
        dout: &[f32],
        dy: &mut [f32],
        dweights: &mut [f32],
    ) {
        let d = dout.len() / self.n_tokens().max(1);
        self.check(dout.len(), y.len(), d);
        let n_slots = self.n_slots();
        assert_eq!([weights.len(), dweights.len(), dy.len()], [n_slots, n_slots, y.len()]);
        let (dy, dweights) = (Shards::new(dy), Shards::new(dweights));
        for_rows(self.n_tokens(), self.top_k * d, |tokens| {
            for t in tokens {
                let dout = &dout[t * d..(t + 1) * d];
                for choice in self.choices(t) {
                    let slot = self.slot_of[choice] as usize;
                    // SAFETY: a choice belongs to one token and a slot to one choice.
                    let (dy, dweight) = unsafe {
                        (dy.slice(slot * d..(slot + 1) * d), dweights.slice(choice..choice + 1))
                    };
                    dweight[0] = dot(self.slot_row(y, choice, d), dout);
                    copy_scaled(weights[choice], dout, dy);
                }
            }
        });
    }

    /// The choices of token `t`: indices into `ids`, `weights` and `slot_of`.
    fn choices(&self, t: usize) -> std::ops::Range<usize> {
        t * self.top_k..(t + 1) * self.top_k
    }

    /// The row of the slot of `choice` in an [S, D] array.
    fn slot_row<'a>(&self, rows: &'a [f32], choice: usize, d: usize) -> &'a [f32] {
        let slot = self.slot_of[choice] as usize;
        &rows[slot * d..(slot + 1) * d]
    }

    fn check(&self, tokens_len: usize, slots_len: usize, d: usize) {
        assert_eq!(
            (tokens_len, slots_len),
            (self.n_tokens() * d, self.n_slots() * d),
            "{} tokens, {} slots, width {d}",
            self.n_tokens(),
            self.n_slots()
        );
    }
}

per_isa! {
    fn add_scaled(scale: f32, x: &[f32], acc: &mut [f32]) {
        let n = acc.len().min(x.len());
        let (acc, x) = (&mut acc[..n], &x[..n]);
        for i in 0..n {
            acc[i] += scale * x[i];
        }
    }
}

per_isa! {
    fn copy_scaled(scale: f32, x: &[f32], out: &mut [f32]) {
        let n = out.len().min(x.len());
        let (out, x) = (&mut out[..n], &x[..n]);
        for i in 0..n {
            out[i] = scale * x[i];
        }
    }
}

per_isa! {
    fn dot(a: &[f32], b: &[f32]) -> f32 {
        lanes::dot(a, b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_close, dot64, gradient, noise, same_bits_everywhere, widen};

    /// Three tokens, four experts, two each; expert 1 stays empty.
    const IDS: [u32; 6] = [0, 3, 2, 3, 0, 2];

    #[test]
    fn slots_are_sorted_by_expert_then_token() {
        let dispatch = Dispatch::new(&IDS, 4, 2);
        assert_eq!(dispatch.offsets, [0, 2, 2, 4, 6]);
        assert_eq!(dispatch.rows, [0, 2, 1, 2, 0, 1]);
        assert_eq!(dispatch.slot_of, [0, 4, 2, 5, 1, 3]);
        assert_eq!(dispatch.slots(2), 2..4);
        assert_eq!((dispatch.n_tokens(), dispatch.n_slots()), (3, 6));
    }

    #[test]
    fn gather_and_its_gradient_equal_the_definition() {
        for d in [1, 7, 33] {
            let dispatch = Dispatch::new(&IDS, 4, 2);
            let (x, dout) = (noise(1, 3 * d), noise(2, 6 * d));
            let (mut out, mut dx) = (vec![0.0; 6 * d], vec![0.5; 3 * d]);
            dispatch.gather(&x, d, &mut out);
            for (slot, &row) in dispatch.rows.iter().enumerate() {
                assert_eq!(out[slot * d..(slot + 1) * d], x[row as usize * d..][..d]);
            }
            dispatch.gather_backward(&dout, d, &mut dx, Write::Add);
            dx.iter_mut().for_each(|v| *v -= 0.5);
            let gathered = |x: &[f64]| -> Vec<f64> {
                dispatch.rows.iter().flat_map(|&r| x[r as usize * d..][..d].to_vec()).collect()
            };
            assert_close(&dx, &gradient(&x, |x| dot64(&gathered(x), &dout)), 1e-6, "dx");
        }
    }

    #[test]
    fn combine_and_its_gradient_equal_the_definition() {
        for d in [1, 7, 33] {
            let dispatch = Dispatch::new(&IDS, 4, 2);
            let (y, weights, dout) = (noise(1, 6 * d), noise(2, 6), noise(3, 3 * d));
            let plain = |y: &[f64], weights: &[f64]| {
                let mut out = vec![0.0; 3 * d];
                for (choice, weight) in weights.iter().enumerate() {
                    let slot = dispatch.slot_of[choice] as usize;
                    for k in 0..d {
                        out[choice / 2 * d + k] += weight * y[slot * d + k];
                    }
                }
                out
            };
            let mut out = vec![9.0; 3 * d];
            dispatch.combine(&y, &weights, d, &mut out);
            assert_close(&out, &plain(&widen(&y), &widen(&weights)), 1e-6, "out");
            let (mut dy, mut dweights) = (vec![9.0; 6 * d], vec![9.0; 6]);
            dispatch.combine_backward(&y, &weights, &dout, &mut dy, &mut dweights);
            let want = gradient(&y, |y| dot64(&plain(y, &widen(&weights)), &dout));
            assert_close(&dy, &want, 1e-6, "dy");
            let want = gradient(&weights, |w| dot64(&plain(&widen(&y), w), &dout));
            assert_close(&dweights, &want, 2e-6, "dweights");
        }
    }

    #[test]
    fn no_tokens_are_no_work() {
        let dispatch = Dispatch::new(&[], 4, 2);
        assert_eq!(dispatch.offsets, [0; 5]);
        dispatch.combine(&[], &[], 8, &mut []);
        dispatch.combine_backward(&[], &[], &[], &mut [], &mut []);
    }

    #[test]
    fn bits_are_the_same_on_every_level_and_thread_count() {
        let (n, d) = (400, 65);
        let ids: Vec<u32> = (0..n).flat_map(|t| [t % 5, 5 + t % 3, 8 + t % 4]).collect();
        let dispatch = Dispatch::new(&ids, 12, 3);
        let n_slots = ids.len();
        let (y, weights, dout) =
            (noise(1, n_slots * d), noise(2, n_slots), noise(3, n as usize * d));
        same_bits_everywhere(|| {
            let (mut out, mut dx) = (vec![0.0; dout.len()], vec![0.0; dout.len()]);
            let (mut dy, mut dweights) = (vec![0.0; y.len()], vec![0.0; n_slots]);
            dispatch.combine(&y, &weights, d, &mut out);
            dispatch.combine_backward(&y, &weights, &dout, &mut dy, &mut dweights);
            dispatch.gather_backward(&y, d, &mut dx, Write::Set);
            [out, dx, dy, dweights].concat()
        });
    }
}
