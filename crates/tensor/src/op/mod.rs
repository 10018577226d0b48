//! The operations: forward and backward of each together in one file.
//!
//! Shapes: N rows (tokens of all sequences of a batch, end to end), D model width, H heads,
//! E experts, K experts per token, V vocabulary.

mod add;
mod attention;
mod columns;
mod distil;
mod embedding;
mod experts;
mod feed_forward;
mod gate;
mod linear;
mod log_prob;
mod mla;
mod pick;
mod rms_norm;
mod rope;
mod swiglu;

pub use add::{add, add_bias};
pub use attention::attention;
pub use columns::{concat_columns, split_columns};
pub use distil::{Distilled, Pairs, linear_distil};
pub use embedding::embedding;
pub use experts::{Expert, ExpertMemory, experts};
pub use feed_forward::feed_forward;
pub use gate::{Balance, Route, route};
pub use linear::{linear, linears};
pub use log_prob::{LogProbs, linear_log_probs, logits, logits_into};
pub use mla::mla_keys_values;
pub use pick::pick_rows;
pub use rms_norm::rms_norm;
pub use rope::{Rope, rope};
pub use swiglu::swiglu;
