//! Attention against its definition in f64, and the identities between its forms, bit for bit.

mod absorbed;
mod cached;

use super::backward::{Saved, backward_on};
use super::forward::{Inputs, forward_on};
use super::*;
use crate::cpu::{Isa, available_isas, cpu};
use crate::threads;

/// Operands of one case.
pub(super) struct Case {
    pub(super) heads: Heads,
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
}

pub(super) fn heads(n_heads: usize, n_kv_heads: usize, qk_dim: usize, v_dim: usize) -> Heads {
    Heads { n_heads, n_kv_heads, qk_dim, v_dim, scale: 1.0 / (qk_dim as f32).sqrt() }
}

/// Numbers in -1..1 from a small generator (splitmix64).
pub(super) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Scores of a few units, so that the softmax is neither flat nor one-hot.
pub(super) fn case(heads: Heads, n_rows: usize) -> Case {
    let q = noise(1, n_rows * heads.n_heads * heads.qk_dim).iter().map(|x| 3.0 * x).collect();
    let k = noise(2, n_rows * heads.n_kv_heads * heads.qk_dim);
    let v = noise(3, n_rows * heads.n_kv_heads * heads.v_dim);
    Case { heads, q, k, v }
}

impl Case {
    pub(super) fn n_rows(&self) -> usize {
        self.q.len() / (self.heads.n_heads * self.heads.qk_dim)
    }

    pub(super) fn inputs(&self) -> Inputs<'_> {
        Inputs { q: &self.q, k: &self.k, v: &self.v }
    }

    /// Output and log-sum-exp.
    fn forward(&self, isa: Isa, segments: &[Segment]) -> (Vec<f32>, Vec<f32>) {
        let n = self.n_rows() * self.heads.n_heads;
        let (mut out, mut lse) = (vec![0.0; n * self.heads.v_dim], vec![0.0; n]);
        forward_on(isa, &self.heads, segments, self.inputs(), &mut out, &mut lse);
        (out, lse)
    }

    /// Gradients of q, k, v.
    fn backward(&self, isa: Isa, segments: &[Segment], dout: &[f32]) -> [Vec<f32>; 3] {
        let (out, lse) = self.forward(isa, segments);
        let saved = Saved { inputs: self.inputs(), out: &out, lse: &lse, dout };
        // Not zero, to see that they are overwritten.
        let mut grads = [&self.q, &self.k, &self.v].map(|x| vec![7.0; x.len()]);
        backward_on(isa, &self.heads, segments, saved, grads.each_mut().map(|x| &mut x[..]));
        grads
    }

    /// The rows `rows` as operands of their own.
    fn rows(&self, rows: Range<usize>) -> Case {
        let h = &self.heads;
        let cut = |x: &[f32], len: usize| x[rows.start * len..rows.end * len].to_vec();
        Case {
            heads: *h,
            q: cut(&self.q, h.n_heads * h.qk_dim),
            k: cut(&self.k, h.n_kv_heads * h.qk_dim),
            v: cut(&self.v, h.n_kv_heads * h.v_dim),
        }
    }

    /// The rows in the given order.
    fn gather(&self, order: &[usize]) -> Case {
        let mut all = Case { heads: self.heads, q: vec![], k: vec![], v: vec![] };
        for &row in order {
            let one = self.rows(row..row + 1);
            all.q.extend(one.q);
            all.k.extend(one.k);
            all.v.extend(one.v);
        }
        all
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x as f64).collect()
}

/// The definition: output [N, H, V] and log-sum-exp [N, H].
fn define(
    h: &Heads,
    segments: &[Segment],
    q: &[f64],
    k: &[f64],
    v: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let n = q.len() / (h.n_heads * h.qk_dim);
    let (mut out, mut lse) = (vec![0.0; n * h.n_heads * h.v_dim], vec![0.0; n * h.n_heads]);
    for segment in segments {
        for (i, row) in segment.own.clone().enumerate() {
            for head in 0..h.n_heads {
                let kv = head / (h.n_heads / h.n_kv_heads);
                let q = &q[(row * h.n_heads + head) * h.qk_dim..][..h.qk_dim];
                let keys: Vec<usize> = segment
                    .prefix
                    .clone()
                    .chain(segment.own.start..segment.own.start + i + 1)
                    .collect();
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|&key| {
                        let k = &k[(key * h.n_kv_heads + kv) * h.qk_dim..][..h.qk_dim];
                        q.iter().zip(k).map(|(x, y)| x * y).sum::<f64>() * h.scale as f64
                    })
                    .collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                lse[row * h.n_heads + head] = max + sum.ln();
                let out = &mut out[(row * h.n_heads + head) * h.v_dim..][..h.v_dim];
                for (&key, s) in keys.iter().zip(&scores) {
                    let v = &v[(key * h.n_kv_heads + kv) * h.v_dim..][..h.v_dim];
                    let p = (s - max).exp() / sum;
                    out.iter_mut().zip(v).for_each(|(o, v)| *o += p * v);
                }
            }
        }
    }
    (out, lse)
}

fn near(got: &[f32], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let error = (g as f64 - w).abs() / (1.0 + w.abs());
        assert!(error < tolerance, "{what}[{i}]: {g} for {w}, error {error:e}");
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Many, grouped, one; MLA; odd lengths; more than four groups of lanes.
fn shapes() -> Vec<Heads> {
    vec![
        heads(3, 3, 64, 64),
        heads(6, 2, 48, 32),
        heads(5, 1, 7, 5),
        heads(2, 2, 192, 128),
        heads(4, 2, 33, 81),
        heads(1, 1, 1, 1),
    ]
}

#[test]
fn forward_meets_the_definition_on_every_level() {
    for h in shapes() {
        for n in [1, 2, 15, 63, 64, 65, 130] {
            let case = case(h, n);
            let segments = [Segment::document(0..n)];
            let (want, want_lse) =
                define(&h, &segments, &wide(&case.q), &wide(&case.k), &wide(&case.v));
            for isa in available_isas() {
                let (out, lse) = case.forward(isa, &segments);
                near(&out, &want, 3e-6, &format!("out {h:?} n {n} {isa:?}"));
                near(&lse, &want_lse, 3e-6, &format!("lse {h:?} n {n} {isa:?}"));
            }
        }
    }
}

/// Levels that fuse multiply-adds agree, those of other architectures included: the prints were taken on AVX-512.
/// Gradients use the logarithm of the system, so they are compared on one machine only.
#[test]
fn levels_that_fuse_give_the_same_bits() {
    const PRINTS: [u64; 6] = [
        0x158f_47b1_cf6f_7d60,
        0x67ab_04a5_eac6_ae44,
        0x495d_f5cb_b6f5_9d28,
        0x3afa_f526_7c72_7de2,
        0x1867_c619_dd63_edb1,
        0x6b87_860e_fbfe_587f,
    ];
    let mut fused = available_isas();
    fused.retain(|level| *level != Isa::Scalar);
    for (h, print) in shapes().into_iter().zip(PRINTS) {
        let case = case(h, 130);
        let segments = [Segment::document(0..130)];
        let dout = noise(4, 130 * h.n_heads * h.v_dim);
        let run = |level: Isa| {
            let (out, lse) = case.forward(level, &segments);
            let [dq, dk, dv] = case.backward(level, &segments, &dout);
            [out, lse, dq, dk, dv].map(|x| bits(&x))
        };
        let all: Vec<_> = fused.iter().map(|level| run(*level)).collect();
        for (level, results) in fused.iter().zip(&all) {
            assert_eq!(fingerprint(&results[0]), print, "{h:?} {level:?}");
            assert_eq!(results, &all[0], "{h:?} {level:?}");
        }
    }
}

/// FNV-1a of the words.
fn fingerprint(bits: &[u32]) -> u64 {
    let step = |hash: u64, word: &u32| (hash ^ u64::from(*word)).wrapping_mul(0x100_0000_01b3);
    bits.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Central differences of `Σ dout · out` in f64, at every `stride`-th input.
fn check_gradients(case: &Case, segments: &[Segment], stride: usize) {
    let h = &case.heads;
    let dout = noise(4, case.n_rows() * h.n_heads * h.v_dim);
    let inputs = [wide(&case.q), wide(&case.k), wide(&case.v)];
    let loss = |x: &[Vec<f64>; 3]| -> f64 {
        let (out, _) = define(h, segments, &x[0], &x[1], &x[2]);
        out.iter().zip(&dout).map(|(o, &d)| o * d as f64).sum()
    };
    let mut want = inputs.clone().map(|x| vec![f64::NAN; x.len()]);
    for which in 0..3 {
        let mut x = inputs.clone();
        for i in (0..x[which].len()).step_by(stride) {
            let kept = x[which][i];
            let step = 1e-5;
            x[which][i] = kept + step;
            let above = loss(&x);
            x[which][i] = kept - step;
            let below = loss(&x);
            x[which][i] = kept;
            want[which][i] = (above - below) / (2.0 * step);
        }
    }
    for isa in available_isas() {
        let got = case.backward(isa, segments, &dout);
        for which in 0..3 {
            let picked: Vec<f32> = got[which].iter().copied().step_by(stride).collect();
            let want: Vec<f64> = want[which].iter().copied().step_by(stride).collect();
            near(&picked, &want, 1e-5, &format!("d{} {h:?} {isa:?}", ["q", "k", "v"][which]));
        }
    }
}

#[test]
fn backward_meets_central_differences() {
    for (h, n, stride) in [
        (heads(5, 1, 7, 5), 1, 1),
        (heads(5, 1, 7, 5), 9, 1),
        (heads(6, 2, 48, 32), 63, 211),
        (heads(2, 2, 17, 9), 64, 13),
        (heads(4, 2, 33, 81), 65, 307),
        (heads(2, 1, 7, 5), 130, 29),
        (heads(2, 2, 192, 128), 70, 1201),
    ] {
        check_gradients(&case(h, n), &[Segment::document(0..n)], stride);
    }
}

#[test]
fn backward_of_packed_and_prefixed_rows_meets_central_differences() {
    // Two documents; then a prompt with two continuations, one of them begun by a row of no segment.
    let segments = [
        Segment::document(0..5),
        Segment::document(5..75),
        Segment { prefix: 5..75, own: 75..84 },
        Segment { prefix: 5..75, own: 85..90 },
    ];
    check_gradients(&case(heads(4, 2, 7, 5), 92), &segments, 7);
}

#[test]
fn every_level_agrees_with_the_scalar_gradients() {
    for h in shapes() {
        let n = 130;
        let case = case(h, n);
        let segments = [Segment::document(0..n)];
        let dout = noise(4, n * h.n_heads * h.v_dim);
        let want = case.backward(Isa::Scalar, &segments, &dout);
        for isa in available_isas() {
            let got = case.backward(isa, &segments, &dout);
            for i in 0..3 {
                near(&got[i], &wide(&want[i]), 2e-5, &format!("{h:?} {isa:?} {i}"));
            }
        }
    }
}

#[test]
fn packed_documents_are_each_as_if_alone() {
    for h in shapes() {
        let ends = [0, 1, 64, 77, 150, 215];
        let packed = case(h, 215);
        let documents: Vec<Range<usize>> = ends.windows(2).map(|w| w[0]..w[1]).collect();
        let segments: Vec<Segment> = documents.iter().cloned().map(Segment::document).collect();
        let dout = noise(4, 215 * h.n_heads * h.v_dim);
        for isa in available_isas() {
            let (out, lse) = packed.forward(isa, &segments);
            let grads = packed.backward(isa, &segments, &dout);
            for rows in &documents {
                let alone = packed.rows(rows.clone());
                let whole = [Segment::document(0..rows.len())];
                let part = |len: usize| rows.start * len..rows.end * len;
                let v_part = part(h.n_heads * h.v_dim);
                let (want, want_lse) = alone.forward(isa, &whole);
                assert_eq!(bits(&out[v_part.clone()]), bits(&want), "{h:?} {rows:?}");
                assert_eq!(bits(&lse[part(h.n_heads)]), bits(&want_lse), "{h:?} {rows:?}");
                let want = alone.backward(isa, &whole, &dout[v_part]);
                assert_eq!(bits(&grads[0][part(h.n_heads * h.qk_dim)]), bits(&want[0]));
                assert_eq!(bits(&grads[1][part(h.n_kv_heads * h.qk_dim)]), bits(&want[1]));
                assert_eq!(bits(&grads[2][part(h.n_kv_heads * h.v_dim)]), bits(&want[2]));
            }
        }
    }
}

#[test]
fn a_shared_prefix_equals_the_concatenated_document() {
    for h in shapes() {
        // Prompt 0..70, and three continuations of it.
        let shared = case(h, 170);
        let parts = [70..75, 75..140, 140..170];
        let mut segments = vec![Segment::document(0..70)];
        segments.extend(parts.iter().map(|own| Segment { prefix: 0..70, own: own.clone() }));
        for isa in available_isas() {
            let (out, lse) = shared.forward(isa, &segments);
            for own in &parts {
                let order: Vec<usize> = (0..70).chain(own.clone()).collect();
                let whole = shared.gather(&order);
                let (want, want_lse) = whole.forward(isa, &[Segment::document(0..order.len())]);
                let len = h.n_heads * h.v_dim;
                let got = [&out[..70 * len], &out[own.start * len..own.end * len]].concat();
                assert_eq!(bits(&got), bits(&want), "{h:?} {own:?}");
                let len = h.n_heads;
                let got = [&lse[..70 * len], &lse[own.start * len..own.end * len]].concat();
                assert_eq!(bits(&got), bits(&want_lse), "{h:?} {own:?}");
            }
        }
    }
}

#[test]
fn one_thread_and_all_threads_give_the_same_bits() {
    let h = heads(6, 2, 48, 32);
    let case = case(h, 700);
    let segments = [
        Segment::document(0..400),
        Segment::document(400..500),
        Segment { prefix: 400..500, own: 500..540 },
        Segment { prefix: 400..500, own: 540..700 },
    ];
    let dout = noise(4, 700 * h.n_heads * h.v_dim);
    let isa = cpu().isa;
    let run = || (case.forward(isa, &segments), case.backward(isa, &segments, &dout));
    let all = run();
    threads::limit_threads(Some(1));
    let one = run();
    threads::limit_threads(None);
    assert_eq!(bits(&all.0.0), bits(&one.0.0));
    assert_eq!(bits(&all.0.1), bits(&one.0.1));
    (0..3).for_each(|i| assert_eq!(bits(&all.1[i]), bits(&one.1[i])));
}

#[test]
fn a_broken_later_row_leaves_earlier_rows_alone() {
    let h = heads(2, 1, 16, 16);
    let good = case(h, 70);
    let mut broken = case(h, 70);
    broken.k[66 * 16..67 * 16].fill(f32::NAN);
    broken.v[66 * 16..67 * 16].fill(f32::INFINITY);
    let segments = [Segment::document(0..70)];
    for isa in available_isas() {
        let (want, got) = (good.forward(isa, &segments).0, broken.forward(isa, &segments).0);
        assert_eq!(bits(&want[..66 * 32]), bits(&got[..66 * 32]));
        assert!(got[66 * 32..].iter().all(|x| x.is_nan()));
    }
}

#[test]
#[should_panic(expected = "two segments own row 3")]
fn segments_that_own_one_row_are_refused() {
    case(heads(1, 1, 4, 4), 8)
        .forward(Isa::Scalar, &[Segment::document(0..4), Segment::document(3..8)]);
}

#[test]
fn many_documents_have_the_bits_of_each_alone() {
    // So many that a thread takes all heads of one.
    let (n_documents, len) = (8 * threads::n_threads() + 3, 100);
    let case = case(heads(4, 2, 8, 24), n_documents * len);
    let segments: Vec<Segment> =
        (0..n_documents).map(|d| Segment::document(d * len..(d + 1) * len)).collect();
    let dout = noise(4, case.n_rows() * 4 * 24);
    for isa in available_isas() {
        let (out, lse) = case.forward(isa, &segments);
        let grads = case.backward(isa, &segments, &dout);
        for document in [0, 7, n_documents - 1] {
            let rows = document * len..(document + 1) * len;
            let (alone, only) = (case.rows(rows.clone()), [Segment::document(0..len)]);
            let of = |x: &[f32], width: usize| x[rows.start * width..rows.end * width].to_vec();
            let (out_alone, lse_alone) = alone.forward(isa, &only);
            assert_eq!([of(&out, 4 * 24), of(&lse, 4)], [out_alone, lse_alone], "{isa:?}");
            let alone = alone.backward(isa, &only, &of(&dout, 4 * 24));
            let widths = [4 * 8, 2 * 8, 2 * 24];
            for ((grad, alone), width) in grads.iter().zip(alone).zip(widths) {
                assert_eq!(of(grad, width), alone, "{isa:?}");
            }
        }
    }
}
