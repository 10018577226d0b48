//! Tensors, a narrow tape, and the operations that the models here are made of.
//!
//! Not a general framework: about fifteen coarse operations, each a fused kernel with its backward
//! in the same file under [`op`]. The same functions run training, scoring, rollout and serving;
//! only the tape differs, which either records or does not.
//!
//! This room does not know models, files or text.
#![forbid(unsafe_code)]

mod buffer;
pub mod device;
mod gradients;
pub mod op;
pub mod random;
mod recompute;
mod tape;
mod tensor;
mod weight;

pub use buffer::{Buffer, buffer_bytes};
pub use device::Device;
pub use fathom_kernels::matmul::Precision;
pub use gradients::Gradients;
pub use tape::{Backward, Tape};
pub use tensor::Tensor;
pub use weight::{Weight, pack_all};
