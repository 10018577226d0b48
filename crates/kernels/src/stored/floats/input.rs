//! Rows of x, laid out as the kernels read them; once for all tasks of a batch.

use super::scratch::{Scratch, give_inputs, take_inputs};
use super::{BLOCK, PAIRED, covers};
use crate::cpu::{Isa, isa};
use crate::lanes::per_isa;
use crate::stored::{Matrix, Product, Rows};
use crate::threads::{Shards, run};
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::avx512;

/// How rows of x lie in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[m, padded]`, every [`PAIRED`] elements as even ones and odd ones. For the plain kernels.
    Rows,
    /// The same, for kernels that take few rows.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Few,
    /// Groups of rows, each `[chunk, chain, step, row]`. For many rows.
    #[cfg(target_arch = "x86_64")]
    Groups,
}

impl Layout {
    /// Whether W is read from end to end while little is computed.
    pub(super) fn is_read_once(self) -> bool {
        match self {
            Layout::Rows => false,
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Layout::Few => true,
            #[cfg(target_arch = "x86_64")]
            Layout::Groups => false,
        }
    }
}

/// Rows of x for one product.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(super) values: &'a [f32],
    /// Rows.
    pub(super) m: usize,
    pub(super) layout: Layout,
}

/// Where the rows of a product lie.
struct Part {
    range: Range<usize>,
    m: usize,
    layout: Layout,
}

/// The inputs of a batch.
pub(crate) struct Inputs {
    scratch: Scratch,
    len: usize,
    /// One per product; none where its format is not ours.
    parts: Vec<Option<Part>>,
}

/// Elements of a row, with the zeros behind it.
pub(super) fn padded(n_in: usize) -> usize {
    n_in.next_multiple_of(BLOCK)
}

/// Fewer elements are laid out by the calling thread alone.
const WORTH_SHARING: usize = 1 << 16;

impl Inputs {
    /// Lays out the inputs of those products whose format is ours. Products of one input share it.
    pub(crate) fn new(products: &[Product<'_>]) -> Inputs {
        let mut parts: Vec<Option<Part>> = Vec::with_capacity(products.len());
        let mut units: Vec<Unit> = Vec::new();
        let mut len = 0;
        for (i, product) in products.iter().enumerate() {
            let n_in = product.matrix.n_in;
            let x = match product.x {
                Rows::Exact(x) if covers(product.matrix.format) && n_in > 0 => x,
                _ => {
                    parts.push(None);
                    continue;
                }
            };
            let m = x.len() / n_in;
            let layout = layout(m, product.matrix);
            let twin = i.checked_sub(1).filter(|&i| same_input(&products[i], product));
            let twin = twin.and_then(|i| parts[i].as_ref()).filter(|twin| twin.layout == layout);
            let range = match twin {
                Some(twin) => twin.range.clone(),
                None => {
                    let range = len..len + m * padded(n_in);
                    push_units(&mut units, x, n_in, layout, range.start);
                    len = range.end;
                    range
                }
            };
            parts.push(Some(Part { range, m, layout }));
        }
        let mut scratch = take_inputs();
        let shards = Shards::new(scratch.room(len));
        let work = |i: usize| {
            let unit = &units[i];
            // SAFETY: units cover ranges that do not overlap.
            unit.lay_out(unsafe { shards.slice(unit.range.clone()) });
        };
        if len < WORTH_SHARING {
            (0..units.len()).for_each(work)
        } else {
            run(units.len(), work)
        }
        Inputs { scratch, len, parts }
    }

    /// The input of product `i`; none if its format is not ours.
    pub(crate) fn get(&self, i: usize) -> Option<Input<'_>> {
        let part = self.parts[i].as_ref()?;
        let values = &self.scratch.get(self.len)[part.range.clone()];
        Some(Input { values, m: part.m, layout: part.layout })
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        give_inputs(std::mem::take(&mut self.scratch));
    }
}

fn same_input(a: &Product<'_>, b: &Product<'_>) -> bool {
    let same = matches!((&a.x, &b.x), (Rows::Exact(a), Rows::Exact(b)) if std::ptr::eq(*a, *b));
    same && a.matrix.n_in == b.matrix.n_in
}

/// The layout for `m` rows of x. Scales that the fast kernels do not know are left to the plain ones.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
fn layout(m: usize, matrix: &Matrix) -> Layout {
    match isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if avx512::knows_scales(matrix) => match m {
            ..=avx512::FEW => Layout::Few,
            _ => Layout::Groups,
        },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon if m <= super::neon::FEW => Layout::Few,
        _ => Layout::Rows,
    }
}

/// Rows that are laid out together.
struct Unit<'a> {
    x: &'a [f32],
    n_in: usize,
    layout: Layout,
    range: Range<usize>,
}

/// Cuts the rows of a product into units that end up one after another from `start`.
fn push_units<'a>(
    units: &mut Vec<Unit<'a>>,
    x: &'a [f32],
    n_in: usize,
    layout: Layout,
    start: usize,
) {
    let m = x.len() / n_in;
    let mut push = |rows: Range<usize>| {
        units.push(Unit {
            x: &x[rows.start * n_in..rows.end * n_in],
            n_in,
            layout,
            range: start + rows.start * padded(n_in)..start + rows.end * padded(n_in),
        })
    };
    match layout {
        #[cfg(target_arch = "x86_64")]
        Layout::Groups => avx512::groups(m).for_each(push),
        _ => push(0..m),
    }
}

impl Unit<'_> {
    fn lay_out(&self, out: &mut [f32]) {
        match self.layout {
            #[cfg(target_arch = "x86_64")]
            Layout::Groups => avx512::lay_out(self.x, self.n_in, out),
            _ => {
                let rows = self.x.chunks_exact(self.n_in);
                for (x, out) in rows.zip(out.chunks_exact_mut(padded(self.n_in))) {
                    pair_up(x, out);
                }
            }
        }
    }
}

per_isa! {
    /// Even elements of every [`PAIRED`] before the odd ones, zeros behind the row.
    pub(super) fn pair_up(x: &[f32], out: &mut [f32]) {
        let (blocks, tail) = x.as_chunks::<PAIRED>();
        let mut last = [0.0; PAIRED];
        last[..tail.len()].copy_from_slice(tail);
        let (outs, _) = out.as_chunks_mut::<PAIRED>();
        for (x, out) in blocks.iter().chain([&last]).zip(outs.iter_mut()) {
            for i in 0..PAIRED / 2 {
                out[i] = x[2 * i];
                out[PAIRED / 2 + i] = x[2 * i + 1];
            }
        }
        for out in outs.iter_mut().skip(blocks.len() + 1) {
            out.fill(0.0);
        }
    }
}
