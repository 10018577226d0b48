//! Packing of both operands: panels of the right one, rounded row copies of the left one.

#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::{COLUMN_STRIDE, Left, Lhs, PANEL, ROW_STRIDE, group_height};
use crate::cpu::cpu;
use crate::lanes::per_isa;
use crate::memory::Block;
use crate::threads::{Shards, run, run_chunks};
use std::ops::Range;

/// Precision of the operands. Sums are always f32.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Precision {
    /// Operands as they are.
    F32,
    /// Operands rounded to bf16 (nearest even) before multiplying.
    Bf16,
}

/// How the elements of a packed operand are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// f32 panels `[k, PANEL]`.
    F32,
    /// f32 panels whose values are rounded to bf16: for CPUs on which `vdpbf16ps` is missing or
    /// slower than f32 FMA (Intel up to Emerald Rapids: half its rate).
    RoundedF32,
    /// Panels `[k/2, PANEL, 2]` of bf16, for `vdpbf16ps`; two bf16 in the place of one f32.
    Bf16Pairs,
}

impl Format {
    /// The format that runs fastest here for operands of `precision`.
    pub fn fastest(precision: Precision) -> Format {
        match precision {
            Precision::F32 => Format::F32,
            Precision::Bf16 if cpu().bf16_dot_pays => Format::Bf16Pairs,
            Precision::Bf16 => Format::RoundedF32,
        }
    }

    /// The format of fewest bytes that this CPU multiplies without detours: faster for few rows of an
    /// operand that comes from memory, where [`Format::fastest`] is for many.
    pub fn smallest(precision: Precision) -> Format {
        match precision {
            Precision::F32 => Format::F32,
            Precision::Bf16 if cpu().bf16_dot => Format::Bf16Pairs,
            Precision::Bf16 => Format::RoundedF32,
        }
    }

    /// How a left operand is copied for a right one of this format; `rounded`: it is rounded already.
    pub(super) fn of_left(self, rounded: bool) -> Format {
        if rounded && self == Format::RoundedF32 { Format::F32 } else { self }
    }
}

/// Rows that a task packs: long enough that a panel's part is a few pages.
const ROWS_AT_ONCE: usize = 128;

/// A row of zeros among those that [`Packed::pack_listed`] takes.
pub const NO_ROW: u32 = u32::MAX;

/// A right operand `[k, n]` in panels of [`PANEL`] columns, zero-padded at the right and, for pairs, at the end of `k`.
pub struct Packed {
    /// Rows of the operand: the length of the sums.
    pub k: usize,
    /// Columns of the operand.
    pub n: usize,
    /// Storage of the elements.
    pub format: Format,
    /// The panels, from a cache line on: a load of a panel row never straddles two.
    data: Block,
}

impl Packed {
    /// An empty buffer that `pack_*` fills; its memory is reused from call to call.
    pub fn new() -> Self {
        Packed { k: 0, n: 0, format: Format::F32, data: Block::empty() }
    }

    /// Packs the row-major matrix `b [k, n]`.
    pub fn pack_rows(&mut self, b: &[f32], k: usize, n: usize, format: Format) {
        self.pack(b, k, n, format, n, 1);
    }

    /// Packs the transpose of the row-major matrix `w [n, k]`: weights stored `[out, in]`.
    pub fn pack_transposed(&mut self, w: &[f32], k: usize, n: usize, format: Format) {
        self.pack(w, k, n, format, 1, k);
    }

    /// Packs the rows `listed` of a row-major matrix of `width` columns; [`NO_ROW`] stands for a row of
    /// zeros.
    pub fn pack_listed(&mut self, b: &[f32], width: usize, listed: &[u32], format: Format) {
        let k = listed.len();
        if format != Format::Bf16Pairs {
            return self.fill_rows(k, width, format, |rows, columns, out| {
                copy_listed(b, width, &listed[rows], columns, format, out);
            });
        }
        self.fill_panels(k, width, format, |column, out| {
            let at = |i: usize, j: usize| match listed[i] {
                NO_ROW => 0.0,
                row => b[row as usize * width + column + j],
            };
            pairs(out, k, PANEL.min(width - column), at);
        });
    }

    fn pack(
        &mut self,
        b: &[f32],
        k: usize,
        n: usize,
        format: Format,
        k_stride: usize,
        n_stride: usize,
    ) {
        assert_eq!(b.len(), k * n, "operand [{k}, {n}]");
        if n_stride == 1 && format != Format::Bf16Pairs {
            return self.fill_rows(k, n, format, |rows, columns, out| {
                let b = &b[rows.start * k_stride + columns.start..];
                copy_rows(b, rows.len(), k_stride, columns.len(), format, out);
            });
        }
        self.fill_panels(k, n, format, |column, out| {
            let width = PANEL.min(n - column);
            match (n_stride, format) {
                (1, Format::Bf16Pairs) => pairs(out, k, width, |i, j| b[i * k_stride + column + j]),
                (_, Format::Bf16Pairs) => {
                    pairs(out, k, width, |i, j| b[i + (column + j) * n_stride])
                }
                _ => {
                    copy_columns(&b[column * n_stride..], k, n_stride, width, out);
                    if format == Format::RoundedF32 {
                        round_in_place(out);
                    }
                }
            }
        });
    }

    /// Takes the shape `[k, n]` and lets `fill` write every panel, given its first column, in parallel.
    fn fill_panels(
        &mut self,
        k: usize,
        n: usize,
        format: Format,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let panels = self.room(k, n, format);
        let panel_len = rows_of(k, format) * PANEL;
        if panel_len > 0 {
            run_chunks(panels, panel_len, |panel, out| fill(panel * PANEL, out));
        }
    }

    /// As [`Packed::fill_panels`] for f32, whose rows lie on their own: `fill` writes some rows of a panel,
    /// given their numbers and the columns. A task takes its rows through all panels, so that what is
    /// read lies side by side.
    fn fill_rows(
        &mut self,
        k: usize,
        n: usize,
        format: Format,
        fill: impl Fn(Range<usize>, Range<usize>, &mut [f32]) + Sync,
    ) {
        let panels = Shards::new(self.room(k, n, format));
        run(k.div_ceil(ROWS_AT_ONCE), |chunk| {
            let rows = chunk * ROWS_AT_ONCE..((chunk + 1) * ROWS_AT_ONCE).min(k);
            for column in (0..n).step_by(PANEL) {
                let start = column * k;
                // SAFETY: chunks of rows do not overlap.
                let out =
                    unsafe { panels.slice(start + rows.start * PANEL..start + rows.end * PANEL) };
                fill(rows.clone(), column..(column + PANEL).min(n), out);
            }
        });
    }

    /// Takes the shape `[k, n]`: the memory of all panels, with stale content.
    fn room(&mut self, k: usize, n: usize, format: Format) -> &mut [f32] {
        (self.k, self.n, self.format) = (k, n, format);
        let len = n.div_ceil(PANEL) * rows_of(k, format) * PANEL;
        if self.data.len() < len {
            self.data = Block::empty(); // given back first
            self.data = Block::zeros(len);
        }
        &mut self.data[..len]
    }

    /// Elements `k0 .. k0 + k` of panel `panel`.
    pub(super) fn panel(&self, panel: usize, k0: usize, k: usize) -> &[f32] {
        let rows = rows_of(self.k, self.format);
        let (from, to) = match self.format {
            Format::Bf16Pairs => {
                assert!(k0.is_multiple_of(2), "pairs start at even elements, not at {k0}");
                (k0 / 2, (k0 + k).div_ceil(2))
            }
            _ => (k0, k0 + k),
        };
        let start = panel * rows * PANEL;
        &self.data[start + from * PANEL..start + to * PANEL]
    }
}

impl Default for Packed {
    fn default() -> Self {
        Packed::new()
    }
}

/// f32-sized rows of a panel that hold `k` elements.
fn rows_of(k: usize, format: Format) -> usize {
    if format == Format::Bf16Pairs { k.div_ceil(2) } else { k }
}

/// Packs a weight `w [n_out, n_in]` twice in one pass over it: `forward` as
/// [`Packed::pack_transposed`] does, for `x · Wᵀ`, and `gradient` as [`Packed::pack_rows`], for `dy · W`.
pub fn pack_both_ways(
    w: &[f32],
    n_out: usize,
    n_in: usize,
    format: Format,
    forward: &mut Packed,
    gradient: &mut Packed,
) {
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::isa() == crate::cpu::Isa::Avx512 && format != Format::Bf16Pairs {
        assert_eq!(w.len(), n_out * n_in, "weight [{n_out}, {n_in}]");
        let forward = Shards::new(forward.room(n_in, n_out, format));
        let gradient = Shards::new(gradient.room(n_out, n_in, format));
        let rounded = format == Format::RoundedF32;
        run(n_out.div_ceil(PANEL), |panel| {
            let rows = panel * PANEL..((panel + 1) * PANEL).min(n_out);
            for column in (0..n_in).step_by(PANEL) {
                let square = avx512::Square {
                    w: &w[rows.start * n_in + column..],
                    n_in,
                    rows: rows.len(),
                    columns: PANEL.min(n_in - column),
                };
                // SAFETY: a square's place in either operand is its own, and inside it; the level
                // was detected.
                unsafe {
                    let forward = forward.pointer((panel * n_in + column) * PANEL);
                    let gradient = gradient.pointer((column / PANEL * n_out + rows.start) * PANEL);
                    avx512::pack_square(&square, rounded, forward, gradient);
                }
            }
        });
        return;
    }
    forward.pack_transposed(w, n_in, n_out, format);
    gradient.pack_rows(w, n_out, n_in, format);
}

per_isa! {
    fn copy_rows(
        b: &[f32], k: usize, k_stride: usize, width: usize, format: Format, out: &mut [f32],
    ) {
        for (i, row) in out.as_chunks_mut::<PANEL>().0.iter_mut().enumerate().take(k) {
            copy_row(&b[i * k_stride..i * k_stride + width], format, row);
        }
    }
}

per_isa! {
    fn copy_listed(
        b: &[f32], k_stride: usize, listed: &[u32], columns: Range<usize>, format: Format,
        out: &mut [f32],
    ) {
        for (row, &from) in out.as_chunks_mut::<PANEL>().0.iter_mut().zip(listed) {
            if from == NO_ROW {
                row.fill(0.0);
                continue;
            }
            let start = from as usize * k_stride;
            copy_row(&b[start + columns.start..start + columns.end], format, row);
        }
    }
}

/// One row of a panel.
#[inline(always)]
fn copy_row(from: &[f32], format: Format, row: &mut [f32; PANEL]) {
    if let Ok(whole) = <&[f32; PANEL]>::try_from(from) {
        *row = *whole;
    } else {
        row[..from.len()].copy_from_slice(from);
        row[from.len()..].fill(0.0);
    }
    if format == Format::RoundedF32 {
        for x in row {
            *x = round_bf16(*x);
        }
    }
}

/// Transposes in squares of 16, so that both sides stay in cache.
fn copy_columns(w: &[f32], k: usize, n_stride: usize, width: usize, out: &mut [f32]) {
    for i0 in (0..k).step_by(16) {
        let end = (i0 + 16).min(k);
        for j in 0..width {
            let column = &w[j * n_stride..j * n_stride + k];
            for i in i0..end {
                out[i * PANEL + j] = column[i];
            }
        }
        for i in i0..end {
            out[i * PANEL + width..(i + 1) * PANEL].fill(0.0);
        }
    }
}

fn pairs(out: &mut [f32], k: usize, width: usize, at: impl Fn(usize, usize) -> f32) {
    for (pair, row) in out.chunks_exact_mut(PANEL).enumerate() {
        for (j, slot) in row.iter_mut().enumerate() {
            let get = |i: usize| if i < k && j < width { bf16_bits(at(i, j)) } else { 0 };
            *slot = f32::from_bits(u32::from(get(2 * pair)) | u32::from(get(2 * pair + 1)) << 16);
        }
    }
}

/// The upper half of `x` rounded to nearest even; NaN stays NaN.
#[inline(always)]
pub(super) fn bf16_bits(x: f32) -> u16 {
    (round_bf16(x).to_bits() >> 16) as u16
}

/// `x` rounded to bf16, as f32.
#[inline(always)]
pub(crate) fn round_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    f32::from_bits(if x.is_nan() { (bits | 0x0040_0000) & 0xffff_0000 } else { rounded })
}

/// Panels up to which copying columns costs more than reading them where they lie.
const FEW_PANELS: usize = 8;

/// How a product of `n_panels` reads its left operand: where it lies if it need not be rounded and the
/// caches like its strides, else from a copy laid out as the operand is, so that copying is straight.
pub(super) fn layout(lhs: &Lhs, listed: Option<&[u32]>, format: Format, n_panels: usize) -> Left {
    let as_it_lies = format == Format::F32 && listed.is_none();
    match lhs.col_stride {
        1 if as_it_lies && !collides(lhs.row_stride) => Left::Direct(lhs.row_stride),
        1 => Left::Rows,
        stride if as_it_lies && lhs.row_stride == 1 && n_panels <= FEW_PANELS => {
            Left::DirectColumns(stride)
        }
        _ => Left::Columns,
    }
}

/// A left operand to copy from, and which of its stored rows take part.
pub(super) struct Source<'a> {
    pub(super) lhs: &'a Lhs<'a>,
    pub(super) listed: Option<&'a [u32]>,
}

/// Whether rows this far apart crowd into half of the first-level cache, or less.
fn collides(row_stride: usize) -> bool {
    row_stride.is_multiple_of(512)
}

/// Copies rows `rows`, columns `ks` of the left operand into `scratch`, in groups as `left` says,
/// rounded as `format` wants. What no element lands on is left as it is, but the odd element of a
/// last pair is zero.
pub(super) fn copy_lhs(
    source: &Source,
    left: Left,
    rows: Range<usize>,
    ks: Range<usize>,
    format: Format,
    scratch: &mut [f32],
) {
    let Source { lhs, listed } = *source;
    let stored = |row: usize| listed.map_or(row, |listed| listed[row] as usize);
    if left == Left::Rows {
        for (i, row) in rows.enumerate() {
            let at = stored(row) * lhs.row_stride + ks.start;
            let src = &lhs.data[at..at + ks.len()];
            let dst = &mut scratch[i * ROW_STRIDE..i * ROW_STRIDE + ks.len()];
            match format {
                Format::F32 => dst.copy_from_slice(src),
                Format::RoundedF32 => round_row(src, dst),
                Format::Bf16Pairs => pack_pairs(src, dst),
            }
        }
        return;
    }
    let height = group_height(rows.len());
    let group_len = Left::Columns.group_len(height);
    let column = |k: usize| stored(ks.start + k) * lhs.col_stride + rows.start * lhs.row_stride;
    let mut done = 0;
    if lhs.row_stride == 1 && format != Format::Bf16Pairs {
        // Whole lanes where the operand has them: what lands past the rows is never read.
        let n_groups = rows.len().div_ceil(height);
        let reach = (n_groups - 1) * height + COLUMN_STRIDE;
        done = ks.len();
        while done > 0 && column(done - 1) + reach > lhs.data.len() {
            done -= 1;
        }
        if done > 0 {
            let groups = (n_groups, height);
            let (rounded, stride) = (format == Format::RoundedF32, lhs.col_stride);
            if let Some(listed) = listed {
                let listed = &listed[ks.start..ks.start + done];
                let src = &lhs.data[rows.start..];
                copy_listed_lanes(src, stride, listed, groups, rounded, scratch);
            } else {
                let src = &lhs.data[column(0)..column(done - 1) + reach];
                copy_lanes(src, stride, done, groups, rounded, scratch);
            }
        }
    }
    let at = |i: usize, k: usize| lhs.data[column(k) + i * lhs.row_stride];
    let n_words = if format == Format::Bf16Pairs { ks.len().div_ceil(2) } else { ks.len() };
    for word in done..n_words {
        for i in 0..rows.len() {
            scratch[i / height * group_len + word * COLUMN_STRIDE + i % height] = match format {
                Format::F32 => at(i, word),
                Format::RoundedF32 => round_bf16(at(i, word)),
                Format::Bf16Pairs if 2 * word + 1 == ks.len() => pair(at(i, 2 * word), 0.0),
                Format::Bf16Pairs => pair(at(i, 2 * word), at(i, 2 * word + 1)),
            };
        }
    }
}

per_isa! {
    /// Copies `n` columns, `stride` apart in `src`, group by group: all of a column at a time, so
    /// that every cache line is asked for once and next to its neighbours.
    fn copy_lanes(
        src: &[f32], stride: usize, n: usize, groups: (usize, usize), rounded: bool, dst: &mut [f32],
    ) {
        for k in 0..n {
            copy_column(&src[k * stride..], k, groups, rounded, dst);
        }
    }
}

per_isa! {
    /// As [`copy_lanes`], of the columns listed.
    fn copy_listed_lanes(
        src: &[f32], stride: usize, listed: &[u32], groups: (usize, usize), rounded: bool, dst: &mut [f32],
    ) {
        for (k, &from) in listed.iter().enumerate() {
            copy_column(&src[from as usize * stride..], k, groups, rounded, dst);
        }
    }
}

#[inline(always)]
fn copy_column(
    src: &[f32],
    k: usize,
    (n_groups, height): (usize, usize),
    rounded: bool,
    dst: &mut [f32],
) {
    let group_len = Left::Columns.group_len(height);
    for group in 0..n_groups {
        let from = group * height;
        let to = group * group_len + k * COLUMN_STRIDE;
        let src = &src[from..from + COLUMN_STRIDE];
        let dst = &mut dst[to..to + COLUMN_STRIDE];
        if rounded {
            for lane in 0..COLUMN_STRIDE {
                dst[lane] = round_bf16(src[lane]);
            }
        } else {
            dst.copy_from_slice(src);
        }
    }
}

per_isa! {
    fn round_in_place(x: &mut [f32]) {
        for x in x {
            *x = round_bf16(*x);
        }
    }
}

per_isa! {
    fn round_row(src: &[f32], dst: &mut [f32]) {
        for (dst, &src) in dst.iter_mut().zip(src) {
            *dst = round_bf16(src);
        }
    }
}

/// Two bf16 in the place of one f32.
#[inline(always)]
fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(u32::from(bf16_bits(low)) | u32::from(bf16_bits(high)) << 16)
}

per_isa! {
    fn pack_pairs(src: &[f32], dst: &mut [f32]) {
        let (whole, odd) = src.as_chunks::<2>();
        let (pairs, rest) = dst.split_at_mut(whole.len());
        for i in 0..whole.len() {
            let [low, high] = whole[i];
            pairs[i] = pair(low, high);
        }
        if let [last] = odd {
            rest[0] = pair(*last, 0.0);
        }
    }
}
