//! Claims about the products of absorbed MLA with the weights of each head.

use super::*;

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
