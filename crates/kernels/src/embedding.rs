//! Embedding lookup: rows of a table by id, and its gradient.
//!
//! Letters: V table rows, N tokens, D width.

use crate::convert::bf16_to_f32_slice;
use crate::lanes::{PARALLEL_ELEMENTS, for_rows, per_isa};
use crate::threads::{self, Shards};

/// Copies row `ids[i]` of `table` to row i of `out`.
///
/// Shapes: `table` [V, D], `ids` [N], `out` [N, D], `d` = D.
///
/// Panics if the shapes disagree or an id is not below V.
pub fn gather_f32(table: &[f32], ids: &[u32], d: usize, out: &mut [f32]) {
    gather(table, ids, d, out, |row, out| out.copy_from_slice(row));
}

/// As [`gather_f32`] from a bfloat16 table, widened.
pub fn gather_bf16(table: &[u16], ids: &[u32], d: usize, out: &mut [f32]) {
    gather(table, ids, d, out, bf16_to_f32_slice);
}

/// Adds row i of `dy` to row `ids[i]` of `dtable`, for equal ids in the order of i.
///
/// Shapes: `ids` [N], `dy` [N, D], `dtable` [V, D], `d` = D.
///
/// Panics if the shapes disagree or an id is not below V.
pub fn scatter_add(ids: &[u32], dy: &[f32], d: usize, dtable: &mut [f32]) {
    let n_table = check(dtable.len(), ids, d, dy.len());
    // Each task owns every `n_tasks`-th table row and meets its tokens in their order, so the
    // sums do not depend on the number of tasks.
    let worth = (dy.len() / PARALLEL_ELEMENTS).clamp(1, 4);
    let n_tasks = worth.min(n_table.max(1));
    let dtable = Shards::new(dtable);
    threads::run(n_tasks, |task| {
        for (dy, &id) in dy.chunks_exact(d).zip(ids) {
            let row = id as usize;
            if row % n_tasks == task {
                // SAFETY: a table row belongs to one task.
                add_row(dy, unsafe { dtable.slice(row * d..(row + 1) * d) });
            }
        }
    });
}

fn gather<T: Sync>(
    table: &[T],
    ids: &[u32],
    d: usize,
    out: &mut [f32],
    copy: impl Fn(&[T], &mut [f32]) + Sync,
) {
    check(table.len(), ids, d, out.len());
    let out = Shards::new(out);
    for_rows(ids.len(), d, |rows| {
        for i in rows {
            let row = ids[i] as usize;
            // SAFETY: row ranges of one loop do not overlap.
            copy(&table[row * d..(row + 1) * d], unsafe { out.slice(i * d..(i + 1) * d) });
        }
    });
}

/// Checks the shapes and returns V.
fn check(table_len: usize, ids: &[u32], d: usize, rows_len: usize) -> usize {
    assert!(d > 0 && table_len.is_multiple_of(d), "table of {table_len} elements, width {d}");
    assert_eq!(rows_len, ids.len() * d, "{} ids, width {d}", ids.len());
    let n_table = table_len / d;
    let outside = ids.iter().find(|&&id| id as usize >= n_table);
    assert!(outside.is_none(), "id {outside:?} in a table of {n_table} rows");
    n_table
}

per_isa! {
    fn add_row(x: &[f32], acc: &mut [f32]) {
        for (acc, &x) in acc.iter_mut().zip(x) {
            *acc += x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::{bf16_to_f32, f32_to_bf16};
    use crate::testing::{noise, same_bits_everywhere};

    const IDS: [u32; 6] = [2, 0, 2, 4, 1, 2];

    #[test]
    fn gather_copies_rows() {
        for d in [1, 7, 33] {
            let table = noise(1, 5 * d);
            let bits: Vec<u16> = table.iter().map(|&v| f32_to_bf16(v)).collect();
            let (mut out, mut narrow) = (vec![0.0; 6 * d], vec![0.0; 6 * d]);
            gather_f32(&table, &IDS, d, &mut out);
            gather_bf16(&bits, &IDS, d, &mut narrow);
            for (i, &id) in IDS.iter().enumerate() {
                for k in 0..d {
                    assert_eq!(out[i * d + k], table[id as usize * d + k]);
                    assert_eq!(narrow[i * d + k], bf16_to_f32(bits[id as usize * d + k]));
                }
            }
        }
    }

    #[test]
    fn scatter_adds_in_token_order() {
        let d = 7;
        let dy = noise(1, 6 * d);
        let mut dtable = noise(2, 5 * d);
        let mut want = dtable.clone();
        for (i, &id) in IDS.iter().enumerate() {
            for k in 0..d {
                want[id as usize * d + k] += dy[i * d + k];
            }
        }
        scatter_add(&IDS, &dy, d, &mut dtable);
        assert_eq!(dtable, want);
    }

    #[test]
    fn scatter_has_the_same_bits_on_every_level_and_thread_count() {
        let (n, d) = (2000, 33);
        let ids: Vec<u32> = (0..n as u32).map(|i| i * i % 17).collect();
        let dy = noise(1, n * d);
        same_bits_everywhere(|| {
            let mut dtable = vec![0.0; 17 * d];
            scatter_add(&ids, &dy, d, &mut dtable);
            dtable
        });
    }

    #[test]
    #[should_panic(expected = "in a table of 2 rows")]
    fn an_id_outside_the_table_is_refused() {
        gather_f32(&[0.0; 4], &[2], 2, &mut [0.0; 2]);
    }
}
