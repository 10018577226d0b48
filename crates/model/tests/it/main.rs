//! Claims about whole models.

mod golden;
