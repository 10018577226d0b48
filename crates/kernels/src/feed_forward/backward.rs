//! The backward pass of a batch of gated blocks: one loop for the gradients of rows, one for those of
//! weights.
//!
//! The weight w of a slot in the sum over its row's experts is taken in here. With `a` the activation
//! and `u = downᵀ · dout` both gradients that a slot sends on need no output row:
//!
//! ```text
//! dw = Σ a · u        d(down) = doutᵀ · (w · a)        da = w · u
//! ```

use super::{SlotRows, Task, check_slots, tasks, with_scratch};
use crate::lanes::{dot, per_isa};
use crate::math::sigmoid;
use crate::matmul::{
    Format, LeftRows, Lhs, ListedProduct, NO_ROW, Packed, Product, Target, Write, multiply_rows,
    round_bf16, run_products,
};
use crate::threads::{Shards, run};
use std::cell::RefCell;
use std::ops::Range;

/// One block of weights on the way back.
pub struct GradientGroup<'a> {
    /// As in the forward pass.
    pub slots: Range<usize>,
    /// Right operand of `dgate · gate`, [F, D].
    pub gate: &'a Packed,
    /// Right operand of `dup · up`, [F, D].
    pub up: &'a Packed,
    /// Right operand of `dout · down`, [D', F].
    pub down: &'a Packed,
    /// Where the gradients of gate [F, D], up [F, D] and down [D', F] start.
    pub starts: [usize; 3],
}

/// What a backward pass reads and spends.
pub struct Gradient<'a> {
    /// Input of the forward pass.
    pub x: SlotRows<'a>,
    /// Gradient of the sums over slots, by row; slots as those of `x`.
    pub dout: SlotRows<'a>,
    /// What the forward pass saved; overwritten.
    pub gate: &'a mut [f32],
    /// The same.
    pub up: &'a mut [f32],
    /// Weight of each slot in the sum, and where its gradient goes, [S] each; none: all weights are 1.
    pub weights: Option<(&'a [f32], &'a mut [f32])>,
}

/// Where the gradients of slots go.
pub struct InputGradient<'a> {
    /// [S, D]
    pub dx: &'a mut [f32],
    /// Whether they are added to what is there.
    pub write: Write,
}

/// Where the gradients of weights go.
pub struct WeightGradients<'a> {
    /// The run that [`GradientGroup::starts`] counts in.
    pub data: &'a mut [f32],
    /// Whether they are added to what is there.
    pub write: Write,
}

thread_local! {
    /// Right operands of the weight gradients: rows of x, and activations.
    static PACKED: RefCell<[Packed; 2]> = RefCell::new([Packed::new(), Packed::new()]);
}

/// Gradients of [`forward`](super::forward()).
///
/// Panics if shapes disagree or groups do not cover the slots in order.
pub fn backward(
    groups: &[GradientGroup],
    gradient: Gradient,
    input: Option<InputGradient>,
    weights: WeightGradients,
) {
    let Gradient { x, dout, gate, up, weights: slot_weights } = gradient;
    let n_slots = x.n_slots();
    check_slots(groups.iter().map(|g| g.slots.clone()), n_slots);
    let Some(first) = groups.first() else { return };
    let hidden = first.gate.k;
    assert_eq!(dout.n_slots(), n_slots, "slots of x and of dout");
    assert!(gate.len() == n_slots * hidden && up.len() == n_slots * hidden, "saved [{n_slots}, F]");
    for g in groups {
        let shapes = [g.gate.k, g.up.k, g.down.n, g.gate.n, g.up.n, g.down.k];
        let wanted = [hidden, hidden, hidden, x.width, x.width, dout.width];
        assert_eq!(shapes, wanted, "weights of a block");
    }
    with_active(n_slots * hidden, |active| {
        let rows = Rows { hidden, gate, up, active, slot_weights, input };
        slot_gradients(groups, x.width, dout, rows);
        weight_gradients(groups, x, dout, [&*gate, &*up, &*active], weights);
    });
}

thread_local! {
    static ACTIVE: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with room for the activations of all slots.
fn with_active<R>(len: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    ACTIVE.with_borrow_mut(|active| {
        if active.len() < len {
            active.resize(len, 0.0);
        }
        body(&mut active[..len])
    })
}

/// What the loop over slots writes.
struct Rows<'a, 'g> {
    hidden: usize,
    /// Becomes `dgate`.
    gate: &'a mut [f32],
    /// Becomes `dup`.
    up: &'a mut [f32],
    /// Becomes `w · a`.
    active: &'a mut [f32],
    slot_weights: Option<(&'g [f32], &'g mut [f32])>,
    input: Option<InputGradient<'g>>,
}

fn slot_gradients(groups: &[GradientGroup], width: usize, dout: SlotRows, rows: Rows) {
    let Rows { hidden, gate, up, active, slot_weights, input } = rows;
    let tasks = tasks(groups.iter().map(|g| g.slots.clone()), gate.len() / hidden);
    let (gate, up, active) = (Shards::new(gate), Shards::new(up), Shards::new(active));
    let slot_weights = slot_weights.map(|(weights, dweights)| (weights, Shards::new(dweights)));
    let input = input.map(|input| (Shards::new(input.dx), input.write));
    run(tasks.len(), |i| {
        let Task { group, slots } = &tasks[i];
        let (group, n_rows) = (&groups[*group], slots.len());
        let own = slots.start * hidden..slots.end * hidden;
        // All that is written here is the operand of products: rounded at once where they round.
        let rounded = group.gate.format == Format::RoundedF32;
        // SAFETY: slots of different tasks differ.
        let (gate, up, active) =
            unsafe { (gate.slice(own.clone()), up.slice(own.clone()), active.slice(own)) };
        with_scratch(n_rows * hidden, |dactive| {
            let target = Target { rhs: group.down, out: dactive.as_mut_ptr(), stride: hidden };
            // SAFETY: the target holds the block's rows, and is this task's.
            unsafe { multiply_rows(&dout.of(slots.clone()), &[target], Write::Set) };
            match &slot_weights {
                // SAFETY: as above.
                Some((weights, dweights)) => unsafe {
                    let dweights = dweights.slice(slots.clone());
                    let weights = &weights[slots.clone()];
                    back_weighted(rounded, weights, dactive, gate, up, active, dweights);
                },
                None => back(rounded, dactive, gate, up, active),
            }
        });
        if let Some((dx, write)) = &input {
            // SAFETY: as above.
            let out = unsafe { dx.slice(slots.start * width..slots.end * width) }.as_mut_ptr();
            for (data, rhs, write) in [(gate, group.gate, *write), (up, group.up, Write::Add)] {
                let left = LeftRows { data, width: hidden, listed: None, n_rows, rounded: true };
                // SAFETY: as above.
                unsafe { multiply_rows(&left, &[Target { rhs, out, stride: width }], write) };
            }
        }
    });
}

/// `[dgateᵀ · x, dupᵀ · x, doutᵀ · active]` of every group, as one parallel loop.
fn weight_gradients(
    groups: &[GradientGroup],
    x: SlotRows,
    dout: SlotRows,
    [dgate, dup, active]: [&[f32]; 3],
    weights: WeightGradients,
) {
    let (format, hidden) = (groups[0].gate.format, groups[0].gate.k);
    // Pairs of bf16 need an even first row in every group.
    let mut starts = Vec::with_capacity(groups.len());
    let mut slots_in_order = Vec::with_capacity(active.len() / hidden + groups.len());
    for group in groups {
        starts.push(slots_in_order.len());
        slots_in_order.extend(group.slots.clone().map(|slot| slot as u32));
        if !slots_in_order.len().is_multiple_of(2) {
            slots_in_order.push(NO_ROW);
        }
    }
    let row_of = |slot: u32| match (slot, x.rows) {
        (NO_ROW, _) | (_, None) => slot,
        (_, Some(rows)) => rows[slot as usize],
    };
    let rows_in_order: Vec<u32> = slots_in_order.iter().map(|slot| row_of(*slot)).collect();
    PACKED.with_borrow_mut(|[packed_x, packed_active]| {
        packed_x.pack_listed(x.data, x.width, &rows_in_order, format);
        packed_active.pack_listed(active, hidden, &slots_in_order, format);
        let (packed_x, packed_active) = (&*packed_x, &*packed_active);
        let mut products = Vec::with_capacity(3 * groups.len());
        for (group, start) in groups.iter().zip(starts) {
            let slots = group.slots.clone();
            let k_range = start..start + slots.len();
            let own = slots.start * hidden..slots.end * hidden;
            for (dy, out_start) in [(dgate, group.starts[0]), (dup, group.starts[1])] {
                let lhs = Lhs::transposed(&dy[own.clone()], hidden);
                let k_range = k_range.clone();
                let product = Product { lhs, m: hidden, rhs: packed_x, k_range, out_start };
                products.push(ListedProduct { product, listed: None, rounded: true });
            }
            let (m, out_start) = (dout.width, group.starts[2]);
            let (data, listed) = match dout.rows {
                Some(rows) => (dout.data, Some(&rows[slots])),
                None => (&dout.data[slots.start * m..slots.end * m], None),
            };
            let lhs = Lhs::transposed(data, m);
            let product = Product { lhs, m, rhs: packed_active, k_range, out_start };
            products.push(ListedProduct { product, listed, rounded: false });
        }
        run_products(&products, weights.data, weights.write);
    });
}

/// `gate` becomes `dgate`, `up` becomes `dup`, `active` the activation itself; `weight` is that of the slot.
#[inline(always)]
fn back_row<const ROUNDED: bool>(
    weight: f32,
    dactive: &[f32],
    gate: &mut [f32],
    up: &mut [f32],
    active: &mut [f32],
) {
    let n = dactive.len();
    let (gate, up, active) = (&mut gate[..n], &mut up[..n], &mut active[..n]);
    for i in 0..n {
        let (g, u) = (gate[i], up[i]);
        let sigma = sigmoid(g);
        let (silu, da) = (g * sigma, weight * dactive[i]);
        active[i] = silu * u;
        gate[i] = round::<ROUNDED>(da * u * sigma * (1.0 + g * (1.0 - sigma)));
        up[i] = round::<ROUNDED>(da * silu);
    }
}

/// [`round_bf16`] or nothing.
#[inline(always)]
fn round<const ROUNDED: bool>(x: f32) -> f32 {
    if ROUNDED { round_bf16(x) } else { x }
}

per_isa! {
    /// All rows, whose weights are 1.
    fn back(rounded: bool, dactive: &[f32], gate: &mut [f32], up: &mut [f32], active: &mut [f32]) {
        if rounded {
            back_row::<true>(1.0, dactive, gate, up, active);
        } else {
            back_row::<false>(1.0, dactive, gate, up, active);
        }
    }
}

per_isa! {
    /// As [`back`] for rows with weights of their own, and the gradients of those weights; `active`
    /// is weighted too.
    fn back_weighted(
        rounded: bool, weights: &[f32], dactive: &[f32], gate: &mut [f32], up: &mut [f32],
        active: &mut [f32], dweights: &mut [f32],
    ) {
        let hidden = dactive.len() / weights.len().max(1);
        for row in 0..weights.len() {
            let (own, weight) = (row * hidden..(row + 1) * hidden, weights[row]);
            let (dactive, active) = (&dactive[own.clone()], &mut active[own.clone()]);
            let (gate, up) = (&mut gate[own.clone()], &mut up[own]);
            if rounded {
                back_row::<true>(weight, dactive, gate, up, active);
            } else {
                back_row::<false>(weight, dactive, gate, up, active);
            }
            dweights[row] = dot(active, dactive);
            for i in 0..hidden {
                active[i] *= weight;
            }
        }
    }
}
