//! What a model learns from: generated tasks and corpora, a person's own files, and their packing
//! into batches; and the graders that tell right answers from wrong ones.
#![forbid(unsafe_code)]

pub mod corpus;
pub mod error;
pub mod fim;
pub mod grade;
pub mod jsonl;
pub mod language;
pub mod math_answer;
pub mod pack;
pub mod random;
pub mod skipped;
pub mod source_tree;
pub mod task;

pub use error::Error;
