//! Rotary embedding, MLA's keys and values, and attention.

use crate::check::{Case, softmax};
use fathom_kernels::attention::{Heads, Segment};
use fathom_kernels::rope::{Layout, RopeSpec, RopeTable, Scaling};
use fathom_tensor::op::{self, Rope};

const THETA: f64 = 100.0;

fn rope_of(layout: Layout, dim: usize) -> Rope {
    let spec = RopeSpec { dim, theta: THETA, scaling: Scaling::None };
    Rope { table: RopeTable::new(&spec), layout }
}

/// Elements `offset .. offset + dim` of every head turned by its row's position.
fn rotated(
    x: &[f64],
    layout: Layout,
    (n_heads, head, offset, dim): (usize, usize, usize, usize),
    positions: &[u32],
) -> Vec<f64> {
    let mut out = x.to_vec();
    for (at, out) in out.chunks_mut(head).enumerate() {
        let position = f64::from(positions[at / n_heads]);
        let out = &mut out[offset..offset + dim];
        for i in 0..dim / 2 {
            let (a, b) = match layout {
                Layout::HalfSplit => (i, i + dim / 2),
                Layout::Interleaved => (2 * i, 2 * i + 1),
            };
            let (sin, cos) = (position * THETA.powf(-2.0 * i as f64 / dim as f64)).sin_cos();
            (out[a], out[b]) = (out[a] * cos - out[b] * sin, out[a] * sin + out[b] * cos);
        }
    }
    out
}

#[test]
fn rope_is_its_definition_in_both_layouts() {
    let positions = [0, 1, 2, 0, 1, 9];
    for layout in [Layout::HalfSplit, Layout::Interleaved] {
        for (n_heads, head, offset, dim) in [(3, 4, 0, 4), (2, 9, 3, 6), (1, 7, 1, 2)] {
            let rope = rope_of(layout, dim);
            let case = Case::new("rope").leaf(&[6, n_heads, head]);
            case.check(
                |tape, x, _| vec![op::rope(tape, x[0].clone(), &rope, offset, &positions)],
                |v| rotated(&v[0], layout, (n_heads, head, offset, dim), &positions),
            );
        }
    }
}

#[test]
fn rope_over_its_own_memory_is_the_same() {
    let (positions, layout) = ([2, 5, 6], Layout::Interleaved);
    let rope = rope_of(layout, 4);
    let case = Case::new("rope of unshared memory").leaf(&[3, 12]).weight(&[12]);
    case.check(
        |tape, x, w| {
            let x = op::add_bias(tape, x[0].clone(), &w[0]).reshaped(&[3, 2, 6]);
            vec![op::rope(tape, x, &rope, 2, &positions)]
        },
        |v| {
            let x: Vec<f64> = (0..36).map(|i| v[0][i] + v[1][i % 12]).collect();
            rotated(&x, layout, (2, 6, 2, 4), &positions)
        },
    );
}

#[test]
fn mla_keys_and_values_are_their_definition() {
    let (n, n_heads, d_nope, d_rope, d_v) = (5, 3, 4, 2, 5);
    let d_kv = d_nope + d_v;
    let case = Case::new("mla_keys_values").leaf(&[n, n_heads * d_kv]).leaf(&[n, d_rope]);
    let keys = |v: &[Vec<f64>]| -> Vec<f64> {
        let head = |at: usize| {
            let rope = &v[1][at / n_heads * d_rope..][..d_rope];
            [&v[0][at * d_kv..][..d_nope], rope].concat()
        };
        (0..n * n_heads).flat_map(head).collect()
    };
    let values = |v: &[Vec<f64>]| -> Vec<f64> {
        v[0].chunks(d_kv).flat_map(|head| head[d_nope..].to_vec()).collect()
    };
    let op = |tape: &_, x: &[_]| op::mla_keys_values(tape, &x[0], &x[1], n_heads, (d_nope, d_v));
    case.check(
        |tape, x, _| {
            let (keys, values) = op(tape, x);
            vec![keys, values]
        },
        |v| [keys(v), values(v)].concat(),
    );
    case.check(|tape, x, _| vec![op(tape, x).0], keys);
    case.check(|tape, x, _| vec![op(tape, x).1], values);
}

/// Attention row by row, head by head, over the keys that a segment names.
fn attended(heads: &Heads, segments: &[Segment], q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let Heads { n_heads, n_kv_heads, qk_dim, v_dim, .. } = *heads;
    let mut out = vec![0.0; q.len() / qk_dim * v_dim];
    for segment in segments {
        for row in segment.own.clone() {
            let keys: Vec<usize> =
                segment.prefix.clone().chain(segment.own.start..row + 1).collect();
            for h in 0..n_heads {
                let kv_head = h / (n_heads / n_kv_heads);
                let query = &q[(row * n_heads + h) * qk_dim..][..qk_dim];
                let score = |key: &usize| {
                    let key = &k[(key * n_kv_heads + kv_head) * qk_dim..][..qk_dim];
                    let dot: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
                    dot * f64::from(heads.scale)
                };
                let weights = softmax(&keys.iter().map(score).collect::<Vec<_>>());
                let out = &mut out[(row * n_heads + h) * v_dim..][..v_dim];
                for (key, weight) in keys.iter().zip(weights) {
                    let value = &v[(key * n_kv_heads + kv_head) * v_dim..][..v_dim];
                    out.iter_mut().zip(value).for_each(|(out, v)| *out += weight * v);
                }
            }
        }
    }
    out
}

fn check_attention(name: &'static str, heads: Heads, segments: &[Segment]) {
    let n = segments.last().map_or(0, |segment| segment.own.end);
    let case = Case::new(name)
        .leaf(&[n, heads.n_heads, heads.qk_dim])
        .leaf(&[n, heads.n_kv_heads, heads.qk_dim])
        .leaf(&[n, heads.n_kv_heads, heads.v_dim]);
    case.check(
        |tape, x, _| vec![op::attention(tape, heads, segments, (&x[0], &x[1], &x[2]))],
        |v| attended(&heads, segments, &v[0], &v[1], &v[2]),
    );
}

/// The kinds of heads here: multi-head, grouped, multi-query, and those of MLA.
fn kinds() -> [(&'static str, Heads); 4] {
    let heads = |n_heads, n_kv_heads, qk_dim, v_dim| {
        let scale = 1.0 / (qk_dim as f32).sqrt();
        Heads { n_heads, n_kv_heads, qk_dim, v_dim, scale }
    };
    [
        ("attention, MHA", heads(2, 2, 4, 4)),
        ("attention, GQA", heads(4, 2, 5, 5)),
        ("attention, MQA", heads(3, 1, 8, 8)),
        ("attention, MLA", heads(2, 2, 6, 3)),
    ]
}

#[test]
fn attention_over_several_documents_is_its_definition() {
    for (name, heads) in kinds() {
        check_attention(name, heads, &[Segment::document(0..7)]);
        let documents = [0..1, 1..6, 6..6, 6..9].map(Segment::document);
        check_attention(name, heads, &documents);
    }
}

#[test]
fn attention_of_two_continuations_of_one_prefix_is_its_definition() {
    for (name, heads) in kinds() {
        let segments = [
            Segment::document(0..2),
            Segment::document(2..6),
            Segment { prefix: 2..6, own: 6..9 },
            Segment { prefix: 2..6, own: 9..11 },
        ];
        check_attention(name, heads, &segments);
    }
}

#[test]
fn attention_past_a_block_of_keys_is_its_definition() {
    let heads = Heads { n_heads: 2, n_kv_heads: 1, qk_dim: 3, v_dim: 2, scale: 0.6 };
    check_attention("attention, 70 rows", heads, &[Segment::document(0..70)]);
    let shared = [
        Segment::document(0..66),
        Segment { prefix: 0..66, own: 66..69 },
        Segment { prefix: 0..66, own: 69..75 },
    ];
    check_attention("attention, long prefix", heads, &shared);
}
