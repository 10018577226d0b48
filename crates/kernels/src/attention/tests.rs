//! Attention against its definition in f64, and the identities between its forms, bit for bit.

use super::backward::{Saved, backward_on};
use super::cached::forward_cached_on;
use super::forward::{Inputs, forward_on};
use super::*;
use crate::convert::{f16_to_f32, f32_to_f16};
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

#[test]
fn avx2_and_avx512_give_the_same_bits() {
    if cpu().found < Isa::Avx512 {
        eprintln!("skipped: this CPU has no AVX-512");
        return;
    }
    for h in shapes() {
        let case = case(h, 130);
        let segments = [Segment::document(0..130)];
        let dout = noise(4, 130 * h.n_heads * h.v_dim);
        let (a, b) = (case.forward(Isa::Avx2, &segments), case.forward(Isa::Avx512, &segments));
        assert_eq!(bits(&a.0), bits(&b.0));
        assert_eq!(bits(&a.1), bits(&b.1));
        let a = case.backward(Isa::Avx2, &segments, &dout);
        let b = case.backward(Isa::Avx512, &segments, &dout);
        (0..3).for_each(|i| assert_eq!(bits(&a[i]), bits(&b[i])));
    }
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

/// A cache of `case`, taken as the documents `lengths` one after the other, blocks dealt out of order.
/// Returns it with the block tables.
fn fill(case: &Case, lengths: &[usize], mut cache: PagedKv) -> (PagedKv, Vec<Vec<u32>>) {
    let h = &case.heads;
    let n_blocks: usize = lengths.iter().map(|n| n.div_ceil(BLOCK_TOKENS)).sum();
    cache.grow(n_blocks + 1);
    // Whatever a block held before must not matter.
    let (k_len, v_len) = (h.n_kv_heads * h.qk_dim, h.n_kv_heads * h.v_dim);
    let v_used = |x: &[f32]| if cache.is_latent() { vec![] } else { x.to_vec() };
    let stale = v_used(&vec![f32::NAN; v_len]);
    let latent = cache.is_latent();
    for block in 0..n_blocks as u32 + 1 {
        for slot in 0..BLOCK_TOKENS {
            cache.write(block, slot, &vec![f32::NAN; k_len], &stale);
        }
    }
    let mut free: Vec<u32> = (0..n_blocks as u32).map(|b| n_blocks as u32 - b).collect();
    let mut start = 0;
    let mut tables = vec![];
    for &n in lengths {
        let table: Vec<u32> = (0..n.div_ceil(BLOCK_TOKENS)).filter_map(|_| free.pop()).collect();
        let places: Vec<(u32, u32)> =
            (0..n).map(|i| (table[i / BLOCK_TOKENS], (i % BLOCK_TOKENS) as u32)).collect();
        let v = if latent { &[][..] } else { &case.v[start * v_len..(start + n) * v_len] };
        cache.write_rows(&places, &case.k[start * k_len..(start + n) * k_len], v);
        tables.push(table);
        start += n;
    }
    (cache, tables)
}

/// Every row of the documents `lengths`, from the cache, in several ways, has the bits of `want`.
fn check_cached(case: &Case, lengths: &[usize], cache: PagedKv, isa: Isa, want: &[f32]) {
    let h = &case.heads;
    let (cache, tables) = fill(case, lengths, cache);
    let start = |doc: usize| lengths[..doc].iter().sum::<usize>();
    let mut calls: Vec<Vec<CachedSegment>> = vec![];
    // All documents whole, in one call.
    calls.push(
        (0..lengths.len())
            .map(|doc| {
                let rows = start(doc)..start(doc) + lengths[doc];
                CachedSegment { blocks: &tables[doc], past: 0, rows }
            })
            .collect(),
    );
    // In chunks of 1, 2, 3, … rows, all documents side by side; the last call of each decodes one row.
    let mut past = vec![0; lengths.len()];
    for chunk in 1.. {
        let mut call = vec![];
        for doc in 0..lengths.len() {
            let left = lengths[doc] - past[doc];
            let n = if left > 1 { chunk.min(left - 1) } else { left };
            let first = start(doc) + past[doc];
            if n > 0 {
                let blocks = &tables[doc][..];
                call.push(CachedSegment { blocks, past: past[doc], rows: first..first + n });
            }
            past[doc] += n;
        }
        if call.is_empty() {
            break;
        }
        calls.push(call);
    }
    // Single rows, alone.
    for (doc, at) in [(0, 0), (lengths.len() - 1, lengths[lengths.len() - 1] - 1)] {
        let rows = start(doc) + at..start(doc) + at + 1;
        calls.push(vec![CachedSegment { blocks: &tables[doc], past: at, rows }]);
    }
    for call in &calls {
        let mut out = vec![f32::NAN; want.len()];
        forward_cached_on(isa, h, &cache, call, &case.q, &mut out);
        for segment in call {
            let len = h.n_heads * h.v_dim;
            let part = segment.rows.start * len..segment.rows.end * len;
            assert_eq!(bits(&out[part.clone()]), bits(&want[part]), "{h:?} {isa:?} {segment:?}");
        }
    }
}

/// One document after the other.
fn documents(lengths: &[usize]) -> Vec<Segment> {
    let mut end = 0;
    let mut document = |&n: &usize| {
        end += n;
        Segment::document(end - n..end)
    };
    lengths.iter().map(&mut document).collect()
}

#[test]
fn cached_rows_have_the_bits_of_the_whole_sequence() {
    for h in shapes() {
        let lengths = [1, 64, 65, 130, 7];
        let case = case(h, lengths.iter().sum());
        let segments = documents(&lengths);
        for isa in available_isas() {
            let (want, _) = case.forward(isa, &segments);
            let cache = PagedKv::new(h.n_kv_heads, h.qk_dim, h.v_dim);
            check_cached(&case, &lengths, cache, isa, &want);
        }
    }
}

#[test]
fn latent_rows_have_the_bits_of_multi_query_attention() {
    for h in [heads(4, 1, 48, 32), heads(5, 1, 7, 5), heads(40, 1, 72, 64), heads(1, 1, 576, 512)] {
        let lengths = [65, 3, 81];
        let mut case = case(h, lengths.iter().sum());
        let value = |key: &[f32]| key[..h.v_dim].to_vec();
        case.v = case.k.chunks(h.qk_dim).flat_map(value).collect();
        let segments = documents(&lengths);
        for isa in available_isas() {
            let (want, _) = case.forward(isa, &segments);
            let cache = PagedKv::latent(h.qk_dim, h.v_dim);
            check_cached(&case, &lengths, cache, isa, &want);
        }
    }
}

fn rounded(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| f16_to_f32(f32_to_f16(x))).collect()
}

#[test]
fn half_precision_rows_have_the_bits_of_rounded_keys_and_values() {
    // Decoded from half precision, widened for many queries, several parts.
    for (h, lengths) in [
        (heads(6, 2, 48, 32), vec![65, 3, 81]),
        (heads(5, 1, 7, 5), vec![130, 1]),
        (heads(12, 2, 128, 128), vec![300]),
    ] {
        let case = case(h, lengths.iter().sum());
        let exact = Case { k: rounded(&case.k), v: rounded(&case.v), q: case.q.clone(), ..case };
        let segments = documents(&lengths);
        for isa in available_isas() {
            let (want, _) = exact.forward(isa, &segments);
            let cache = PagedKv::new(h.n_kv_heads, h.qk_dim, h.v_dim).with_type(CacheType::F16);
            check_cached(&case, &lengths, cache, isa, &want);
        }
    }
}

#[test]
fn half_precision_latent_rows_have_the_bits_of_rounded_latents() {
    for (h, lengths) in [
        (heads(4, 1, 48, 32), vec![65, 3, 81]),
        (heads(5, 1, 7, 5), vec![300, 1]),
        (heads(16, 1, 96, 64), vec![70]),
    ] {
        let case = case(h, lengths.iter().sum());
        let k = rounded(&case.k);
        let v = k.chunks(h.qk_dim).flat_map(|key| key[..h.v_dim].to_vec()).collect();
        let exact = Case { k, v, q: case.q.clone(), ..case };
        let segments = documents(&lengths);
        for isa in available_isas() {
            let (want, _) = exact.forward(isa, &segments);
            let cache = PagedKv::latent(h.qk_dim, h.v_dim).with_type(CacheType::F16);
            check_cached(&case, &lengths, cache, isa, &want);
        }
    }
}

#[test]
fn an_exported_block_is_imported_bit_for_bit() {
    let shapes = [PagedKv::new(2, 5, 7), PagedKv::latent(20, 12)];
    for cache_type in [CacheType::F32, CacheType::F16] {
        for cache in shapes.clone() {
            let mut from = cache.with_type(cache_type);
            let (n_kv, qk, v) = (from.n_kv_heads(), from.qk_dim(), from.v_dim());
            from.grow(3);
            let places: Vec<(u32, u32)> = (0..BLOCK_TOKENS as u32).map(|slot| (1, slot)).collect();
            let k = noise(4, BLOCK_TOKENS * n_kv * qk);
            let n_values = if from.is_latent() { 0 } else { BLOCK_TOKENS * n_kv * v };
            from.write_rows(&places, &k, &noise(5, n_values));
            let mut bytes = vec![9];
            from.export_block(1, &mut bytes);
            assert_eq!(bytes.len(), 1 + from.block_bytes());

            let mut to = shapes[usize::from(from.is_latent())].clone().with_type(cache_type);
            to.grow(2);
            to.import_block(0, &bytes[1..]);
            let mut again = Vec::new();
            to.export_block(0, &mut again);
            assert_eq!(again, bytes[1..]);
            assert!(again.iter().any(|byte| *byte != 0));
            again.clear();
            to.export_block(1, &mut again);
            assert!(again.iter().all(|byte| *byte == 0), "the neighbour is left alone");
        }
    }
}

#[test]
fn what_is_expected_is_grown_into_without_a_copy_and_too_much_does_no_harm() {
    let mut cache = PagedKv::new(2, 5, 7);
    cache.expect(50);
    cache.grow(2);
    let start = cache.keys::<f32>(0, 0).as_ptr();
    cache.grow(50);
    assert_eq!((start, cache.n_blocks()), (cache.keys::<f32>(0, 0).as_ptr(), 50));
    cache.expect(usize::MAX);
    cache.expect(usize::MAX / 4000);
    cache.grow(51);
    assert_eq!(cache.n_blocks(), 51);
}

#[test]
#[should_panic(expected = "bytes of a block")]
fn a_block_of_another_length_is_refused() {
    let mut cache = PagedKv::latent(20, 12);
    cache.grow(1);
    cache.import_block(0, &[0; 64]);
}

#[test]
fn one_thread_and_all_threads_give_the_same_bits_over_a_long_cache() {
    let (n, n_keys) = (3, 700);
    for latent in [false, true] {
        let h = heads(20, if latent { 1 } else { 2 }, 48, 32);
        let case = case(h, n_keys);
        let cache = if latent { PagedKv::latent(48, 32) } else { PagedKv::new(2, 48, 32) };
        let (cache, tables) = fill(&case, &[n_keys], cache.with_type(CacheType::F16));
        let decode = |rows: Range<usize>| {
            let mut out = vec![0.0; n_keys * h.n_heads * h.v_dim];
            let segment =
                CachedSegment { blocks: &tables[0], past: rows.start, rows: rows.clone() };
            forward_cached(&h, &cache, &[segment], &case.q, &mut out);
            bits(&out[rows.start * h.n_heads * h.v_dim..rows.end * h.n_heads * h.v_dim])
        };
        let all = decode(n_keys - n..n_keys);
        threads::limit_threads(Some(1));
        let one = decode(n_keys - n..n_keys);
        // Many rows: each list walks over its parts in turn.
        let many = decode(0..n_keys);
        threads::limit_threads(None);
        assert_eq!(all, one);
        assert_eq!(all, many[many.len() - all.len()..]);
    }
}

#[test]
fn sequences_that_share_blocks_decode_as_if_alone() {
    for latent in [false, true] {
        // A prompt of 100 tokens; its first block is shared, its second one copied.
        let h = heads(4, if latent { 1 } else { 2 }, 48, 32);
        let n = 9;
        let case = case(h, 100 + n);
        let make = || if latent { PagedKv::latent(48, 32) } else { PagedKv::new(2, 48, 32) };
        let values = |rows: Range<usize>| {
            let len = h.n_kv_heads * h.v_dim;
            if latent { &[][..] } else { &case.v[rows.start * len..rows.end * len] }
        };
        let (mut cache, tables) = fill(&case.rows(0..100), &[100], make());
        let own = cache.n_blocks() as u32;
        cache.grow(own as usize + n);
        let len = h.n_kv_heads * h.qk_dim;
        let tables: Vec<Vec<u32>> = (0..n)
            .map(|i| {
                cache.copy_block(tables[0][1], own + i as u32);
                let row = 100 + i;
                let k = &case.k[row * len..(row + 1) * len];
                cache.write(own + i as u32, 100 % BLOCK_TOKENS, k, values(row..row + 1));
                vec![tables[0][0], own + i as u32]
            })
            .collect();
        let segments: Vec<CachedSegment> = (0..n)
            .map(|i| CachedSegment { blocks: &tables[i], past: 100, rows: 100 + i..101 + i })
            .collect();
        for isa in available_isas() {
            let mut together = vec![0.0; case.n_rows() * h.n_heads * h.v_dim];
            forward_cached_on(isa, &h, &cache, &segments, &case.q, &mut together);
            let mut each = vec![0.0; together.len()];
            for segment in segments.iter().rev() {
                let one = std::slice::from_ref(segment);
                forward_cached_on(isa, &h, &cache, one, &case.q, &mut each);
            }
            assert_eq!(bits(&together), bits(&each));
            assert!(
                together[100 * h.n_heads * h.v_dim..].iter().all(|x| x.is_finite() && *x != 0.0)
            );
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

/// Weights, queries and contexts of a few heads.
fn absorbed_case(n: usize, rank: usize) -> (absorb::HeadWeights<'static>, Vec<f32>, Vec<f32>) {
    let (n_heads, d_nope, d_v) = (3, 33, 21);
    let values = noise(1, n_heads * (d_nope + d_v) * rank).leak();
    let weights = absorb::Weights::Dense(values);
    let weights = absorb::HeadWeights { weights, n_heads, d_nope, d_v, rank, bf16: false };
    (weights, noise(2, n * n_heads * (d_nope + 8)), noise(3, n * n_heads * rank))
}

/// Both products: moved queries, values.
fn absorbed(weights: &absorb::HeadWeights, q: &[f32], context: &[f32]) -> [Vec<f32>; 2] {
    let n = context.len() / (weights.n_heads * weights.rank);
    let mut moved = vec![f32::NAN; n * weights.n_heads * (weights.rank + 8)];
    let mut values = vec![f32::NAN; n * weights.n_heads * weights.d_v];
    absorb::absorb_queries(weights, 8, q, &mut moved);
    absorb::context_values(weights, context, &mut values);
    [moved, values]
}

#[test]
fn per_head_products_meet_their_definition_alone_and_together() {
    for rank in [32, 40] {
        let n = 70;
        let (weights, q, context) = absorbed_case(n, rank);
        let absorb::Weights::Dense(w) = weights.weights else { unreachable!() };
        let [moved, values] = absorbed(&weights, &q, &context);
        let (mut want_moved, mut want_values) = (vec![], vec![]);
        for (row, head) in (0..n).flat_map(|row| (0..3).map(move |head| (row, head))) {
            let q = &q[(row * 3 + head) * 41..][..41];
            let context = &context[(row * 3 + head) * rank..][..rank];
            let at = |i: usize, k: usize| w[(head * 54 + i) * rank + k] as f64;
            want_moved
                .extend((0..rank).map(|k| (0..33).map(|d| q[d] as f64 * at(d, k)).sum::<f64>()));
            want_moved.extend(q[33..].iter().map(|&x| x as f64));
            want_values.extend(
                (0..21).map(|v| (0..rank).map(|k| context[k] as f64 * at(33 + v, k)).sum::<f64>()),
            );
        }
        near(&moved, &want_moved, 3e-6, "moved");
        near(&values, &want_values, 3e-6, "values");
        for rows in [0..1, 5..9, 10..19, 69..70] {
            let q = &q[rows.start * 123..rows.end * 123];
            let context = &context[rows.start * 3 * rank..rows.end * 3 * rank];
            let [some_moved, some_values] = absorbed(&weights, q, context);
            let of = |x: &[f32]| bits(&x[rows.start * x.len() / n..rows.end * x.len() / n]);
            assert_eq!(bits(&some_moved), of(&moved), "{rows:?}");
            assert_eq!(bits(&some_values), of(&values), "{rows:?}");
        }
    }
}

#[test]
fn stored_per_head_weights_have_the_bits_of_their_widened_values() {
    use crate::quant::Format;
    use crate::stored::Matrix;
    let (weights, q, context) = absorbed_case(20, 32);
    let absorb::Weights::Dense(w) = weights.weights else { unreachable!() };
    for format in [Format::Q8_0, Format::Bf16, Format::Q4_0] {
        let matrix = Matrix::from_f32(w, 3 * 54, 32, format).unwrap();
        let widened = matrix.to_f32();
        let stored = absorb::HeadWeights { weights: absorb::Weights::Stored(&matrix), ..weights };
        let dense = absorb::HeadWeights { weights: absorb::Weights::Dense(&widened), ..weights };
        let (a, b) = (absorbed(&stored, &q, &context), absorbed(&dense, &q, &context));
        (0..2).for_each(|i| assert_eq!(bits(&a[i]), bits(&b[i]), "{format:?}"));
    }
}

#[test]
fn per_head_weights_in_two_parts_have_the_bits_of_one_matrix() {
    use crate::quant::Format;
    use crate::stored::Matrix;
    let (n_heads, d_nope, d_v) = (3, 64, 21);
    for (rank, formats) in [
        (40, [Format::F32, Format::F16]),
        (96, [Format::Q8_0, Format::Q5_0]),
        (32, [Format::Q5_0, Format::Q8_0]),
    ] {
        let of = |seed, rows: usize, columns: usize, format| {
            Matrix::from_f32(&noise(seed, rows * columns), rows, columns, format).unwrap()
        };
        let keys_t = of(1, n_heads * rank, d_nope, formats[0]);
        let values = of(2, n_heads * d_v, rank, formats[1]);
        let (turned, low) = (keys_t.to_f32(), values.to_f32());
        let mut joined = vec![];
        for head in 0..n_heads {
            for i in 0..d_nope {
                joined.extend((0..rank).map(|j| turned[(head * rank + j) * d_nope + i]));
            }
            joined.extend_from_slice(&low[head * d_v * rank..][..d_v * rank]);
        }
        let whole = Matrix::from_f32(&joined, n_heads * (d_nope + d_v), rank, Format::F32).unwrap();
        let parted = whole.clone().with_parts(keys_t, values);
        for n in [1, 3, 8, 9, 70] {
            let q = noise(3, n * n_heads * (d_nope + 8));
            let context = noise(4, n * n_heads * rank);
            let [want, found] = [&whole, &parted].map(|matrix| {
                let weights = absorb::Weights::Stored(matrix);
                let weights =
                    absorb::HeadWeights { weights, n_heads, d_nope, d_v, rank, bf16: false };
                absorbed(&weights, &q, &context).map(|x| bits(&x))
            });
            assert_eq!(want, found, "rank {rank}, {n} rows");
        }
    }
}

#[test]
fn keys_made_chunk_by_chunk_give_the_bits_of_the_whole_sequence() {
    let h = heads(3, 3, 24, 16);
    let n = 1100;
    let case = case(h, n);
    let (want, _) = case.forward(cpu().isa, &[Segment::document(0..n)]);
    for past in [0, 1023, 1024, 1090] {
        let q = &case.q[past * 72..];
        let mut out = vec![f32::NAN; (n - past) * 48];
        forward_chunked(&h, past, q, &mut out, |keys, places, cache| {
            let (k, v) =
                (&case.k[keys.start * 72..keys.end * 72], &case.v[keys.start * 48..keys.end * 48]);
            cache.write_rows(places, k, v);
        });
        assert_eq!(bits(&out), bits(&want[past * 48..]), "{past}");
    }
}
