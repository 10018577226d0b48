//! Claims about whole runs.

mod bits;
mod golden;
mod small;
