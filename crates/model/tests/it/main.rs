//! Claims about whole models.

mod golden;
mod gradients;
