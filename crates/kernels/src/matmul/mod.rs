//! Matrix products `out = lhs · rhs` on f32 slices, in f32 or with operands rounded to bf16.
//!
//! The right operand is packed once ([`Packed`]) and used many times; weights keep theirs between
//! steps. The left operand may have any strides, so the same code serves
//! `x·Wᵀ` (forward), `dy·W` (input gradient) and `dyᵀ·x` (weight gradient).
//!
//! Every element of the result is one chain `fma(l[k], r[k], …)` over ascending `k`, whatever the
//! number of rows, the blocking and the threads: a row computed alone has the bits it has in a batch.
//!
//! Blocking: a task owns a block of rows and a run of panels; `K_BLOCK` elements of `k` at a time,
//! its rows are copied (and rounded) into scratch, then a register tile walks the panels.

mod avx2;
mod avx512;
mod neon;
mod pack;
mod rows;
mod scalar;

pub(crate) use pack::round_bf16;
pub use pack::{Format, NO_ROW, Packed, Precision, pack_both_ways};
pub(crate) use rows::{LeftRows, Target, multiply_rows};
pub use rows::{multiply_shared, multiply_sum};

use crate::cpu::{Isa, isa};
use crate::threads::{Shards, n_threads, run_if};
use std::cell::RefCell;
use std::ops::Range;

/// Columns of a panel of the packed right operand: two AVX-512 registers, four of AVX2.
pub const PANEL: usize = 32;
/// Elements of `k` handled at a time, so that a panel stays in the first-level cache (32 KiB).
const K_BLOCK: usize = 256;
/// Rows of the scratch copy of the left operand. A multiple of every tile height below.
pub(crate) const M_BLOCK: usize = 84;

/// Left operand: element `(i, k)` is `data[i * row_stride + k * col_stride]`.
#[derive(Clone, Copy)]
pub struct Lhs<'a> {
    /// The elements, from `(0, 0)` on.
    pub data: &'a [f32],
    /// Distance between rows.
    pub row_stride: usize,
    /// Distance between columns.
    pub col_stride: usize,
}

impl<'a> Lhs<'a> {
    /// A row-major matrix of width `k`.
    pub fn rows(data: &'a [f32], k: usize) -> Self {
        Lhs { data, row_stride: k, col_stride: 1 }
    }

    /// The transpose of a row-major matrix of width `m`: row `i` is its column `i`.
    pub fn transposed(data: &'a [f32], m: usize) -> Self {
        Lhs { data, row_stride: 1, col_stride: m }
    }
}

/// One product of a batch: `out[out_start + i * rhs.n + j] (+)= Σ_k lhs(i, k) · rhs(k_range.start + k, j)`.
pub struct Product<'a> {
    /// Left operand, `m` rows and `k_range.len()` columns.
    pub lhs: Lhs<'a>,
    /// Rows.
    pub m: usize,
    /// Right operand.
    pub rhs: &'a Packed,
    /// The rows of `rhs` that take part (all of them, or those of one expert).
    pub k_range: Range<usize>,
    /// Where the result starts in `out`. Results of one batch must not overlap.
    pub out_start: usize,
}

/// What happens to the old content of the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// It is replaced.
    Set,
    /// The product is added to it.
    Add,
}

/// `out [m, n] (+)= lhs [m, k] · rhs [k, n]`.
///
/// Panics if `out` or `lhs.data` is too short.
pub fn matmul(lhs: Lhs, m: usize, rhs: &Packed, out: &mut [f32], write: Write) {
    let product = Product { lhs, m, rhs, k_range: 0..rhs.k, out_start: 0 };
    matmul_batch(&[product], out, write);
}

/// Runs all products of a batch as one parallel loop; the grouped product of routed experts is one batch.
///
/// Panics if two results overlap or leave `out`, or if a left operand is too short.
pub fn matmul_batch(products: &[Product], out: &mut [f32], write: Write) {
    let products: Vec<ListedProduct> = products.iter().map(Product::all_rows).collect();
    run_products(&products, out, write);
}

/// A product whose left operand is some rows of a matrix, in the order listed: `listed[i]` takes the
/// place of stored row `i`, which is row `i` of [`Lhs::rows`] and column `i` of [`Lhs::transposed`].
pub(crate) struct ListedProduct<'a> {
    pub(crate) product: Product<'a>,
    /// Ascending; none: all rows as they lie.
    pub(crate) listed: Option<&'a [u32]>,
    /// The left operand is rounded as the format wants already.
    pub(crate) rounded: bool,
}

impl<'a> Product<'a> {
    /// The product over the rows as they lie.
    pub(crate) fn all_rows(&self) -> ListedProduct<'a> {
        let Product { lhs, m, rhs, ref k_range, out_start } = *self;
        let product = Product { lhs, m, rhs, k_range: k_range.clone(), out_start };
        ListedProduct { product, listed: None, rounded: false }
    }
}

/// [`matmul_batch`] of listed products.
pub(crate) fn run_products(products: &[ListedProduct], out: &mut [f32], write: Write) {
    check(products, out.len());
    let tasks = plan(products);
    let shards = Shards::new(out);
    run_if(worth_sharing(products), tasks.len(), |i| {
        let task = &tasks[i];
        let listed = &products[task.product];
        let product = &listed.product;
        // SAFETY: tasks of one product differ in rows or columns and touch those only; products do
        // not overlap and stay inside `out` (checked above). Rows of column-split tasks interleave,
        // so the output travels as a pointer, never as overlapping slices.
        unsafe {
            let first_row = shards.pointer(product.out_start + task.rows.start * product.rhs.n);
            run_task(listed, task, first_row, write);
        }
    });
}

fn check(products: &[ListedProduct], out_len: usize) {
    let mut spans: Vec<(usize, usize)> = Vec::with_capacity(products.len());
    for ListedProduct { product: p, listed, .. } in products.iter().filter(|p| p.product.m > 0) {
        let end = p.out_start + p.m * p.rhs.n;
        assert!(end <= out_len, "result ends at {end}, output has {out_len}");
        assert!(p.k_range.end <= p.rhs.k, "k range {:?} of {}", p.k_range, p.rhs.k);
        if p.m > 0 && !p.k_range.is_empty() {
            let (mut row, mut column) = (p.m - 1, p.k_range.len() - 1);
            if let Some(listed) = listed {
                assert!(listed.is_sorted(), "listed rows ascend");
                let place = if p.lhs.col_stride == 1 { &mut row } else { &mut column };
                *place = listed[*place] as usize;
            }
            let last = row * p.lhs.row_stride + column * p.lhs.col_stride;
            assert!(last < p.lhs.data.len(), "lhs needs {}, has {}", last + 1, p.lhs.data.len());
        }
        spans.push((p.out_start, end));
    }
    spans.sort_unstable();
    assert!(spans.windows(2).all(|w| w[0].1 <= w[1].0), "results overlap: {spans:?}");
}

/// Steps of a tile over a panel that are worth another thread: about a microsecond of them.
const WORTH_SHARING: usize = 800;

/// Whether a batch takes long enough for another thread to help: few rows of small weights do not.
fn worth_sharing(products: &[ListedProduct]) -> bool {
    let steps = |p: &Product| {
        let at_once = if p.rhs.format == Format::Bf16Pairs { 2 } else { 1 };
        // Up to four rows a tile waits for its sums, and takes as long as for one.
        p.m.div_ceil(4) * p.rhs.n.div_ceil(PANEL) * p.k_range.len().div_ceil(at_once)
    };
    products.iter().map(|p| steps(&p.product)).sum::<usize>() >= WORTH_SHARING
}

struct Task {
    product: usize,
    rows: Range<usize>,
    panels: Range<usize>,
}

/// Cuts the batch into tasks: blocks of rows, and runs of panels where rows alone give too few.
fn plan(products: &[ListedProduct]) -> Vec<Task> {
    let row_blocks: usize = products.iter().map(|p| p.product.m.div_ceil(M_BLOCK)).sum();
    let wanted = if n_threads() == 1 { 1 } else { 4 * n_threads() };
    let most_cuts = wanted.div_ceil(row_blocks.max(1));
    let mut tasks = Vec::with_capacity(row_blocks * most_cuts);
    for (product, ListedProduct { product: p, .. }) in products.iter().enumerate() {
        let n_panels = p.rhs.n.div_ceil(PANEL);
        let n_cuts = column_cuts(p.m, n_panels, most_cuts);
        // Parts differ by a panel: the longer ones come first in one product, last in the next.
        let up = product % 2 * (n_cuts - 1);
        let cut = |i: usize| (n_panels * i + up) / n_cuts;
        // Blocks of even height: 128 rows are twice 64, not 84 and 44.
        let block = p.m.div_ceil(p.m.div_ceil(M_BLOCK).max(1)).max(1);
        for row in (0..p.m).step_by(block) {
            for i in 0..n_cuts {
                let (rows, panels) = (row..(row + block).min(p.m), cut(i)..cut(i + 1));
                tasks.push(Task { product, rows, panels });
            }
        }
    }
    tasks
}

/// Parts into which the panels of a product of `m` rows are cut, at most `most` if that gives each thread one. Of
/// few rows there is little to do per panel: parts are larger then, and each thread has as many, so that it meets
/// the same weights in every pass.
fn column_cuts(m: usize, n_panels: usize, most: usize) -> usize {
    let (n_threads, n_panels) = (n_threads(), n_panels.max(1));
    if most == 1 || m > GROUP_ROWS {
        return most.min(n_panels);
    }
    let large = (n_panels / 2).min(most.next_multiple_of(n_threads));
    (large / n_threads * n_threads).max(n_threads).min(n_panels)
}

/// Arguments of one register tile: up to [`GROUP_ROWS`] rows × up to [`PANEL`] columns over `k` elements.
pub(crate) struct Tile<'a> {
    /// The group of rows of the left operand, as `left` says.
    pub(crate) a: &'a [f32],
    pub(crate) left: Left,
    pub(crate) rows: usize,
    pub(crate) k: usize,
    /// One panel, `[k, PANEL]`.
    pub(crate) b: &'a [f32],
    /// Columns of the panel that exist.
    pub(crate) n: usize,
    /// Start the chains from zero instead of from the output.
    pub(crate) fresh: bool,
    /// First element of the result; rows are `out_stride` apart, `n` elements of each are ours.
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
}

/// How a group of rows of the left operand lies in memory. A pair of bf16 counts as one element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// Where it came from, not copied: element `(i, k)` at `i * stride + k`.
    Direct(usize),
    /// The same of a transposed operand: element `(i, k)` at `k * stride + i`.
    DirectColumns(usize),
    /// Row after row: element `(i, k)` at `i * ROW_STRIDE + k`.
    Rows,
    /// Column after column: element `(i, k)` at `k * COLUMN_STRIDE + i`.
    Columns,
}

/// Rows of a group: the height of the widest register tile.
pub(crate) const GROUP_ROWS: usize = 14;
/// Distance of rows: past the power of two, so that rows fall into different cache sets.
pub(crate) const ROW_STRIDE: usize = K_BLOCK + 16;
/// Distance of columns: whole cache lines.
pub(crate) const COLUMN_STRIDE: usize = 16;

/// Elements of scratch that hold a block of rows in either layout.
const SCRATCH_LEN: usize = M_BLOCK.div_ceil(GROUP_ROWS)
    * if K_BLOCK * COLUMN_STRIDE > GROUP_ROWS * ROW_STRIDE {
        K_BLOCK * COLUMN_STRIDE
    } else {
        GROUP_ROWS * ROW_STRIDE
    };

/// Rows of a tile, for a block of `n_rows`: they are dealt evenly. 16 rows are 8 and 8, not 14 and 2,
/// whose chains are too few.
fn group_height(n_rows: usize) -> usize {
    n_rows.div_ceil(n_rows.div_ceil(GROUP_ROWS).max(1)).max(1)
}

impl Left {
    /// Elements from one group of `height` rows to the next.
    fn group_len(self, height: usize) -> usize {
        match self {
            Left::Direct(stride) => height * stride,
            Left::DirectColumns(_) => height,
            Left::Rows => height * ROW_STRIDE,
            Left::Columns => K_BLOCK * COLUMN_STRIDE,
        }
    }
}

impl Tile<'_> {
    /// Asserts that the operands hold what the tile will read.
    fn check(&self, format: Format) {
        let words = if format == Format::Bf16Pairs { self.k.div_ceil(2) } else { self.k };
        assert!(self.rows > 0 && self.rows <= GROUP_ROWS && self.n > 0 && self.n <= PANEL);
        assert!(match self.left {
            Left::Direct(stride) => self.a.len() >= (self.rows - 1) * stride + words,
            Left::DirectColumns(stride) => self.a.len() >= (words - 1) * stride + self.rows,
            Left::Rows => self.a.len() >= (self.rows - 1) * ROW_STRIDE + words,
            Left::Columns => self.a.len() >= (words - 1) * COLUMN_STRIDE + self.rows,
        });
        assert!(self.b.len() >= words * PANEL);
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Safety: `out` points at row `task.rows.start` of the result; the task's rows and columns are its own.
unsafe fn run_task(listed: &ListedProduct, task: &Task, out: *mut f32, write: Write) {
    let ListedProduct { product, listed, rounded } = listed;
    let rhs = product.rhs;
    let copied_as = rhs.format.of_left(*rounded);
    let n_rows = task.rows.len();
    if product.k_range.is_empty() && write == Write::Set {
        let columns = task.panels.start * PANEL..(task.panels.end * PANEL).min(rhs.n);
        for i in 0..n_rows {
            // SAFETY: the caller's promise.
            unsafe { out.add(i * rhs.n + columns.start).write_bytes(0, columns.len()) };
        }
        return;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let left = pack::layout(&product.lhs, *listed, copied_as, task.panels.len());
        scratch.resize(SCRATCH_LEN, 0.0);
        for k0 in (0..product.k_range.len()).step_by(K_BLOCK) {
            let k = K_BLOCK.min(product.k_range.len() - k0);
            let fresh = write == Write::Set && k0 == 0;
            let a = match left {
                Left::Direct(stride) => &product.lhs.data[task.rows.start * stride + k0..],
                Left::DirectColumns(stride) => &product.lhs.data[k0 * stride + task.rows.start..],
                _ => {
                    let (rows, ks) = (task.rows.clone(), k0..k0 + k);
                    let source = pack::Source { lhs: &product.lhs, listed: *listed };
                    pack::copy_lhs(&source, left, rows, ks, copied_as, scratch);
                    &scratch[..]
                }
            };
            let block = Block { a, left, n_rows, k, fresh };
            let k0 = product.k_range.start + k0;
            // SAFETY: the caller's promise.
            unsafe { run_block(&block, rhs, k0, task.panels.clone(), out, rhs.n) };
        }
    });
}

/// Up to [`M_BLOCK`] rows of a left operand, over up to [`K_BLOCK`] elements of `k`.
#[derive(Clone, Copy)]
struct Block<'a> {
    a: &'a [f32],
    left: Left,
    n_rows: usize,
    k: usize,
    fresh: bool,
}

/// A block of rows against some panels, whose rows `k0 ..` take part.
///
/// Safety: `out` points at the block's first row, whose rows are `out_stride` apart; these columns of
/// them are the caller's alone.
unsafe fn run_block(
    block: &Block,
    rhs: &Packed,
    k0: usize,
    panels: Range<usize>,
    out: *mut f32,
    out_stride: usize,
) {
    let Block { a, left, n_rows, k, fresh } = *block;
    let height = group_height(n_rows);
    let group_len = left.group_len(height);
    for panel in panels {
        let b = rhs.panel(panel, k0, k);
        let column = panel * PANEL;
        let n = PANEL.min(rhs.n - column);
        for first in (0..n_rows).step_by(height) {
            let a = &a[first / height * group_len..];
            let rows = height.min(n_rows - first);
            // SAFETY: the caller's promise; columns `column .. column + n` are among those.
            unsafe {
                let out = out.add(first * out_stride + column);
                let tile = Tile { a, left, rows, k, b, n, fresh, out, out_stride };
                tile.check(rhs.format);
                run_tile(&tile, rhs.format);
            }
        }
    }
}

/// A group of rows against one panel.
///
/// Safety: the tile is checked, and its part of the output is the caller's alone.
unsafe fn run_tile(tile: &Tile, format: Format) {
    // SAFETY: the caller's promise; the level was detected before it was chosen.
    unsafe {
        match (format, isa()) {
            #[cfg(target_arch = "x86_64")]
            (Format::Bf16Pairs, _) => avx512::tile_bf16(tile),
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Avx512) => avx512::tile_f32(tile),
            #[cfg(target_arch = "x86_64")]
            (_, Isa::Avx2) => avx2::tile_f32(tile),
            #[cfg(target_arch = "aarch64")]
            (_, Isa::Neon) => neon::tile_f32(tile),
            _ => scalar::tile_f32(tile),
        }
    }
}

#[cfg(test)]
mod tests;
