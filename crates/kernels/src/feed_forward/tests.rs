//! Claims about gated blocks.

use super::forward::few_rows;
use super::*;
use crate::matmul::{Format, Lhs, Write, matmul};
use crate::swiglu;
use crate::testing::{assert_close, dot64, gradient, noise, widen};

const WIDTH: usize = 20;
const HIDDEN: usize = 35;
const N: usize = 90;
/// Rows of three groups; the second is empty, one is longer than a block of rows.
const LENS: [usize; 3] = [88, 0, 31];

struct Case {
    x: Vec<f32>,
    dout: Vec<f32>,
    rows: Vec<u32>,
    weights: Vec<f32>,
    /// gate, up and down of every group, end to end.
    matrices: Vec<[Vec<f32>; 3]>,
}

fn case() -> Case {
    let rows = LENS.iter().flat_map(|&n| (0..n as u32).map(move |i| i * N as u32 / n as u32));
    let rows: Vec<u32> = rows.collect();
    let matrix = |seed| noise(seed, WIDTH * HIDDEN);
    Case {
        x: noise(1, N * WIDTH),
        dout: noise(2, N * WIDTH),
        weights: noise(3, rows.len()),
        rows,
        matrices: (0..3).map(|g| [matrix(10 + g), matrix(20 + g), matrix(30 + g)]).collect(),
    }
}

fn slots() -> Vec<Range<usize>> {
    let mut start = 0;
    let next = |n| {
        start += n;
        start - n..start
    };
    LENS.map(next).to_vec()
}

fn packed(w: &[f32], n_out: usize, n_in: usize, transposed: bool, format: Format) -> Packed {
    let mut packed = Packed::new();
    match transposed {
        true => packed.pack_transposed(w, n_in, n_out, format),
        false => packed.pack_rows(w, n_out, n_in, format),
    }
    packed
}

impl Case {
    fn rows(&self) -> SlotRows<'_> {
        SlotRows { data: &self.x, width: WIDTH, rows: Some(&self.rows) }
    }

    /// Output of every slot, and what is saved.
    fn forward(&self, format: Format) -> [Vec<f32>; 3] {
        let forms: Vec<[Packed; 3]> = self
            .matrices
            .iter()
            .map(|[gate, up, down]| {
                [
                    packed(gate, HIDDEN, WIDTH, true, format),
                    packed(up, HIDDEN, WIDTH, true, format),
                    packed(down, WIDTH, HIDDEN, true, format),
                ]
            })
            .collect();
        let groups: Vec<Group> = slots()
            .into_iter()
            .zip(&forms)
            .map(|(slots, [gate, up, down])| Group { slots, gate, up, down })
            .collect();
        let n = self.rows.len();
        let mut out = vec![9.0; n * WIDTH];
        let (mut gate, mut up) = (vec![9.0; n * HIDDEN], vec![9.0; n * HIDDEN]);
        let saved = Saved { gate: &mut gate, up: &mut up };
        forward(&groups, self.rows(), Some(saved), &mut out);
        let mut again = vec![9.0; n * WIDTH];
        forward(&groups, self.rows(), None, &mut again);
        assert_eq!(out, again, "saving changes nothing");
        let mut scratch = vec![9.0; 3 * n * HIDDEN];
        few_rows(&groups, self.rows(), &mut scratch, &mut again);
        assert_eq!(out, again, "the way of few rows has the same bits");
        [out, gate, up]
    }

    /// Gradients of slots, of their weights and of the matrices, end to end.
    fn backward(&self, format: Format, write: Write) -> [Vec<f32>; 3] {
        let [_, mut gate, mut up] = self.forward(format);
        let forms: Vec<[Packed; 3]> = self
            .matrices
            .iter()
            .map(|[gate, up, down]| {
                [
                    packed(gate, HIDDEN, WIDTH, false, format),
                    packed(up, HIDDEN, WIDTH, false, format),
                    packed(down, WIDTH, HIDDEN, false, format),
                ]
            })
            .collect();
        let len = WIDTH * HIDDEN;
        let groups: Vec<GradientGroup> = slots()
            .into_iter()
            .zip(&forms)
            .enumerate()
            .map(|(at, (slots, [gate, up, down]))| {
                let starts = [3 * at * len, (3 * at + 1) * len, (3 * at + 2) * len];
                GradientGroup { slots, gate, up, down, starts }
            })
            .collect();
        let n = self.rows.len();
        let (mut dx, mut dweights) = (vec![0.5; n * WIDTH], vec![9.0; n]);
        let mut data = vec![0.5; 3 * 3 * len];
        let gradient = Gradient {
            x: self.rows(),
            dout: SlotRows { data: &self.dout, ..self.rows() },
            gate: &mut gate,
            up: &mut up,
            weights: Some((&self.weights, &mut dweights)),
        };
        let input = InputGradient { dx: &mut dx, write };
        let weights = WeightGradients { data: &mut data, write };
        backward(&groups, gradient, Some(input), weights);
        [dx, dweights, data]
    }
}

/// One slot in f64.
fn plain(x: &[f64], [gate, up, down]: [&[f64]; 3]) -> Vec<f64> {
    let times = |w: &[f64], x: &[f64]| -> Vec<f64> {
        w.chunks(x.len()).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
    };
    let (g, u) = (times(gate, x), times(up, x));
    let active: Vec<f64> = g.iter().zip(&u).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
    times(down, &active)
}

#[test]
fn a_block_has_the_bits_of_separate_products() {
    let case = case();
    for format in [Format::F32, Format::RoundedF32] {
        let [out, ..] = case.forward(format);
        for (slots, [gate, up, down]) in slots().into_iter().zip(&case.matrices) {
            let n = slots.len();
            let x: Vec<f32> = case.rows[slots.clone()]
                .iter()
                .flat_map(|&row| case.x[row as usize * WIDTH..][..WIDTH].to_vec())
                .collect();
            let product = |x: &[f32], w: &[f32], n_out: usize, n_in: usize| {
                let mut out = vec![0.0; n * n_out];
                let w = packed(w, n_out, n_in, true, format);
                matmul(Lhs::rows(x, n_in), n, &w, &mut out, Write::Set);
                out
            };
            let (g, u) = (product(&x, gate, HIDDEN, WIDTH), product(&x, up, HIDDEN, WIDTH));
            let mut active = vec![0.0; n * HIDDEN];
            swiglu::forward(&g, &u, &mut active);
            let want = product(&active, down, WIDTH, HIDDEN);
            assert_eq!(out[slots.start * WIDTH..slots.end * WIDTH], want);
        }
    }
}

#[test]
fn gradients_equal_those_of_the_definition() {
    let case = case();
    let [dx, dweights, data] = case.backward(Format::F32, Write::Set);
    let len = WIDTH * HIDDEN;
    for (group, (slots, matrices)) in slots().into_iter().zip(&case.matrices).enumerate() {
        let matrices = [0, 1, 2].map(|i| widen(&matrices[i]));
        let loss_of = |slot: usize, x: &[f64], matrices: [&[f64]; 3], weight: f64| {
            let row = case.rows[slot] as usize;
            weight * dot64(&plain(x, matrices), &case.dout[row * WIDTH..][..WIDTH])
        };
        let all = [&matrices[0][..], &matrices[1], &matrices[2]];
        for slot in slots.clone().step_by(29) {
            let (row, weight) = (case.rows[slot] as usize, f64::from(case.weights[slot]));
            let x = &case.x[row * WIDTH..][..WIDTH];
            let want = gradient(x, |x| loss_of(slot, x, all, weight));
            assert_close(&dx[slot * WIDTH..][..WIDTH], &want, 5e-6, "dx");
            let want = loss_of(slot, &widen(x), all, 1.0);
            assert_close(&dweights[slot..slot + 1], &[want], 5e-6, "dweight");
        }
        for which in 0..3 {
            let got = &data[(3 * group + which) * len..][..len];
            // A few elements: the definition is slow.
            for at in (0..len).step_by(97) {
                let loss = |value: f64| -> f64 {
                    let mut changed = matrices[which].clone();
                    changed[at] = value;
                    let mut all = all;
                    all[which] = &changed;
                    let of = |slot: usize| {
                        let row = case.rows[slot] as usize;
                        let x = widen(&case.x[row * WIDTH..][..WIDTH]);
                        loss_of(slot, &x, all, f64::from(case.weights[slot]))
                    };
                    slots.clone().map(of).sum()
                };
                let value = matrices[which][at];
                let want = (loss(value + 1e-4) - loss(value - 1e-4)) / 2e-4;
                assert_close(&got[at..at + 1], &[want], 2e-5, "weights");
            }
        }
    }
}

#[test]
fn gradients_can_be_added_to_what_is_there() {
    let case = case();
    let [dx, _, data] = case.backward(Format::F32, Write::Set);
    let [more_dx, _, more_data] = case.backward(Format::F32, Write::Add);
    for (set, added) in dx.iter().zip(&more_dx).chain(data.iter().zip(&more_data)) {
        assert!((set + 0.5 - added).abs() < 1e-4, "{set} + 0.5 is not {added}");
    }
}

#[test]
fn one_thread_gives_the_bits_of_many() {
    let case = case();
    let all =
        || case.backward(Format::fastest(crate::matmul::Precision::Bf16), Write::Set).concat();
    let many = all();
    crate::threads::limit_threads(Some(1));
    let one = all();
    crate::threads::limit_threads(None);
    assert_eq!(one, many);
}
