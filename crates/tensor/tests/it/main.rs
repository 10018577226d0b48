//! Claims about the operations: their values and gradients against plain f64 definitions.

mod attention;
mod check;
mod dense;
mod head;
mod moe;
mod tape;
