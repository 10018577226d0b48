//! The two orders of rows in q and k: half-split as in the releases of Llama-like models, interleaved
//! as GGUF files of the architectures `llama` and `deepseek` have them.
//!
//! Within a head of D rows, row i and row i + D/2 of the first order stand beside each other, as 2i
//! and 2i + 1, in the second. Rows move whole, so quantised ones need not be touched inside.

/// Rows of every head from half-split to interleaved order. `row` is the number of elements (or
/// bytes) of a row; `x` has `n_heads` times an even number of rows.
pub fn half_split_to_interleaved<T: Copy>(x: &[T], n_heads: usize, row: usize) -> Vec<T> {
    moved(x, n_heads, row, |at, half| at / 2 + at % 2 * half)
}

/// The way back of [`half_split_to_interleaved`].
pub fn interleaved_to_half_split<T: Copy>(x: &[T], n_heads: usize, row: usize) -> Vec<T> {
    moved(x, n_heads, row, |at, half| at % half * 2 + at / half)
}

/// `from(at, D / 2)` says which row of the head comes to `at`.
fn moved<T: Copy>(
    x: &[T],
    n_heads: usize,
    row: usize,
    from: impl Fn(usize, usize) -> usize,
) -> Vec<T> {
    let dim = x.len() / (n_heads * row);
    assert!(
        dim.is_multiple_of(2) && n_heads * dim * row == x.len(),
        "{n_heads} heads of {dim} rows"
    );
    let mut out = Vec::with_capacity(x.len());
    for head in x.chunks_exact(dim * row) {
        for at in 0..dim {
            let i = from(at, dim / 2);
            out.extend_from_slice(&head[i * row..(i + 1) * row]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_to_stand_beside_each_other() {
        // Two heads of four rows of one element.
        let x = [0, 1, 2, 3, 10, 11, 12, 13];
        let interleaved = half_split_to_interleaved(&x, 2, 1);
        assert_eq!(interleaved, [0, 2, 1, 3, 10, 12, 11, 13]);
        assert_eq!(interleaved_to_half_split(&interleaved, 2, 1), x);
        let six = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5];
        let moved = half_split_to_interleaved(&six, 1, 2);
        assert_eq!(moved, [0, 0, 3, 3, 1, 1, 4, 4, 2, 2, 5, 5]);
        assert_eq!(interleaved_to_half_split(&moved, 1, 2), six);
    }
}
