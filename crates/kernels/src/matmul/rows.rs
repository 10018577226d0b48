//! Products of the same rows, or into the same rows, in one loop over blocks of rows.

use super::pack::{self, Packed};
use super::{
    Block, GROUP_ROWS, K_BLOCK, Left, Lhs, ListedProduct, M_BLOCK, PANEL, Product, SCRATCH,
    SCRATCH_LEN, Write, matmul, plan, run_block, run_task, worth_sharing,
};
use crate::threads::{Shards, n_threads, run, run_if};

/// Rows of a left operand that one task holds: up to [`M_BLOCK`] of them.
#[derive(Clone, Copy)]
pub(crate) struct LeftRows<'a> {
    /// Rows of `width` elements.
    pub(crate) data: &'a [f32],
    pub(crate) width: usize,
    /// Which rows; none: the first ones.
    pub(crate) listed: Option<&'a [u32]>,
    pub(crate) n_rows: usize,
    /// They are rounded as the format wants already.
    pub(crate) rounded: bool,
}

/// A right operand and where its product goes: row `i` at `i * stride`.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) rhs: &'a Packed,
    pub(crate) out: *mut f32,
    pub(crate) stride: usize,
}

/// The same few rows times several right operands of one format, on the calling thread: the rows are
/// copied and rounded once for all.
///
/// Safety: every target has room for `n_rows` rows of `rhs.n`, which are the caller's alone.
///
/// Panics if the left rows leave their matrix or the lengths of sums differ.
pub(crate) unsafe fn multiply_rows(left: &LeftRows, targets: &[Target], write: Write) {
    let LeftRows { data, width, listed, n_rows, rounded } = *left;
    let format = targets[0].rhs.format;
    assert!(n_rows <= M_BLOCK && listed.is_none_or(|rows| rows.len() == n_rows), "rows of a block");
    assert!(listed.is_some() || data.len() >= n_rows * width, "{n_rows} rows of {width}");
    let fit = |t: &Target| t.rhs.k == width && t.rhs.format == format;
    assert!(targets.iter().all(fit), "targets of rows of {width}");
    let copied_as = format.of_left(rounded);
    let lhs = Lhs::rows(data, width);
    let layout = pack::layout(&lhs, listed, copied_as, 1);
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(SCRATCH_LEN, 0.0);
        for k0 in (0..width).step_by(K_BLOCK) {
            let k = K_BLOCK.min(width - k0);
            let a = match layout {
                Left::Direct(_) => &data[k0..],
                _ => {
                    let source = pack::Source { lhs: &lhs, listed };
                    pack::copy_lhs(&source, layout, 0..n_rows, k0..k0 + k, copied_as, scratch);
                    &scratch[..]
                }
            };
            let fresh = write == Write::Set && k0 == 0;
            let block = Block { a, left: layout, n_rows, k, fresh };
            for target in targets {
                let panels = 0..target.rhs.n.div_ceil(PANEL);
                // SAFETY: the caller's promise.
                unsafe { run_block(&block, target.rhs, k0, panels, target.out, target.stride) };
            }
        }
    });
}

/// Elements of right operands that each thread may read for itself: 256 KiB.
const SMALL_ELEMENTS: usize = 1 << 16;

/// Whether blocks of rows alone keep all threads busy.
fn enough_blocks(n: usize) -> bool {
    n_threads() == 1 || n.div_ceil(M_BLOCK) >= 4 * n_threads()
}

/// Rows of a task that takes a block of rows through all right operands, `n_elements` in all; none if
/// threads share a right operand by columns instead. Few rows are cut into small blocks if every thread
/// can hold the operands in its second-level cache.
fn block_rows(n: usize, n_elements: usize) -> Option<usize> {
    if enough_blocks(n) {
        return Some(M_BLOCK);
    }
    let step = n.div_ceil(2 * n_threads()).clamp(GROUP_ROWS, M_BLOCK);
    (n_elements <= SMALL_ELEMENTS && n.div_ceil(step) >= n_threads()).then_some(step)
}

/// `outs[i] = x · rhs[i]` for several right operands of one format: x [n, k], rhs[i] [k, n_i], outs[i] [n, n_i].
///
/// Panics if a length does not fit.
pub fn multiply_shared(x: &[f32], n: usize, rhs: &[&Packed], outs: &mut [&mut [f32]]) {
    assert_eq!(rhs.len(), outs.len(), "one output per right operand");
    let width = rhs[0].k;
    assert!(x.len() >= n * width, "{n} rows of {width}");
    let outs: Vec<Shards<f32>> = rhs
        .iter()
        .zip(outs)
        .map(|(rhs, out)| {
            assert!(rhs.k == width && out.len() >= n * rhs.n, "{n} rows of {}", rhs.n);
            Shards::new(out)
        })
        .collect();
    let Some(step) = block_rows(n, rhs.iter().map(|rhs| rhs.k * rhs.n).sum()) else {
        return multiply_columns(x, n, rhs, &outs);
    };
    run(n.div_ceil(step), |block| {
        let rows = block * step..((block + 1) * step).min(n);
        let data = &x[rows.start * width..rows.end * width];
        let left = LeftRows { data, width, listed: None, n_rows: rows.len(), rounded: false };
        let mut targets = Vec::with_capacity(rhs.len());
        for (rhs, out) in rhs.iter().zip(&outs) {
            // SAFETY: blocks of rows do not overlap, and the rows exist.
            let out = unsafe { out.slice(rows.start * rhs.n..rows.end * rhs.n) }.as_mut_ptr();
            targets.push(Target { rhs, out, stride: rhs.n });
        }
        // SAFETY: as above.
        unsafe { multiply_rows(&left, &targets, Write::Set) };
    });
}

/// [`multiply_shared`], each product cut by columns, all in one loop. The lengths fit.
fn multiply_columns(x: &[f32], n: usize, rhs: &[&Packed], outs: &[Shards<f32>]) {
    let lhs = Lhs::rows(x, rhs[0].k);
    let product = |rhs| Product { lhs, m: n, rhs, k_range: 0..rhs.k, out_start: 0 }.all_rows();
    let products: Vec<ListedProduct> = rhs.iter().map(|rhs| product(*rhs)).collect();
    let tasks = plan(&products);
    run_if(worth_sharing(&products), tasks.len(), |i| {
        let task = &tasks[i];
        // SAFETY: tasks of one product differ in rows or columns and touch those only, each product has an
        // output of its own, and it has room.
        unsafe {
            let out = outs[task.product].pointer(task.rows.start * rhs[task.product].n);
            run_task(&products[task.product], task, out, Write::Set);
        }
    });
}

/// `out (+)= Σ_i x[i] · rhs[i]`, in order: x[i] [n, k_i], rhs[i] [k_i, m], out [n, m].
///
/// Panics if a length does not fit.
pub fn multiply_sum(terms: &[(&[f32], &Packed)], n: usize, out: &mut [f32], write: Write) {
    let of = |at: usize| if at == 0 { write } else { Write::Add };
    if terms.len() == 1 || !enough_blocks(n) {
        for (at, (x, rhs)) in terms.iter().enumerate() {
            matmul(Lhs::rows(x, rhs.k), n, rhs, out, of(at));
        }
        return;
    }
    let m = terms[0].1.n;
    for (x, rhs) in terms {
        assert!(x.len() >= n * rhs.k && rhs.n == m, "[{n}, {}] · [{}, {}]", rhs.k, rhs.k, rhs.n);
    }
    assert!(out.len() >= n * m, "{n} rows of {m}");
    let out = Shards::new(out);
    run(n.div_ceil(M_BLOCK), |block| {
        let rows = block * M_BLOCK..((block + 1) * M_BLOCK).min(n);
        // SAFETY: blocks of rows do not overlap.
        let out = unsafe { out.slice(rows.start * m..rows.end * m) }.as_mut_ptr();
        for (at, (x, rhs)) in terms.iter().enumerate() {
            let data = &x[rows.start * rhs.k..rows.end * rhs.k];
            let left =
                LeftRows { data, width: rhs.k, listed: None, n_rows: rows.len(), rounded: false };
            // SAFETY: as above.
            unsafe { multiply_rows(&left, &[Target { rhs, out, stride: m }], of(at)) };
        }
    });
}
