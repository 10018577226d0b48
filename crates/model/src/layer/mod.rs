//! The layers that architectures are composed of. A layer holds places of weights, not weights:
//! the model is one list of weights, and a pass borrows it.

mod attention;
mod block;
mod gqa;
mod mla;
mod mlp;
mod moe;
mod mtp;

pub use block::{AttentionKind, Block, FeedForward};
pub use gqa::Gqa;
pub use mla::{Mla, Query};
pub use mlp::Mlp;
pub use moe::Moe;
pub use mtp::Mtp;

use crate::config::Config;
use crate::residency::Residency;
use crate::rows::{CachedRows, Rows};
use fathom_tensor::op::Rope;
use fathom_tensor::{Tape, Weight};
use std::cell::RefCell;
use std::sync::Arc;

/// The rows of a pass with a cache whose result is asked for.
pub(crate) struct Asked<'a> {
    /// Their numbers in the pass.
    wanted: &'a [usize],
    /// The same rows, each a segment of its own.
    rows: CachedRows<'a>,
}

impl<'a> Asked<'a> {
    fn of(rows: Rows<'a>, wanted: &'a [usize]) -> Asked<'a> {
        let Rows::Cached(rows, _) = rows else {
            unreachable!("rows of a pass without a cache are all wanted");
        };
        Asked { wanted, rows: rows.picked(wanted) }
    }
}

/// What every layer of a pass shares.
pub(crate) struct Pass<'t, 'w> {
    pub(crate) tape: &'t Tape<'w>,
    pub(crate) weights: &'w [Weight],
    pub(crate) config: &'w Config,
    pub(crate) rope: &'w Rope,
    pub(crate) rows: Rows<'w>,
    /// Rows of each sequence, for the balance loss; empty: no such loss.
    pub(crate) balance: Option<fathom_tensor::op::Balance<'w>>,
    /// Of a model larger than its memory.
    pub(crate) residency: Option<&'w Residency>,
    /// Tokens that each expert received, per MoE layer in order.
    pub(crate) loads: RefCell<Vec<Vec<u64>>>,
    /// The experts of all rows, [N, K] per MoE layer in order; none: nobody asked.
    pub(crate) visited: Option<RefCell<Vec<Arc<Vec<u32>>>>>,
}
