//! Prefixes of earlier sequences, kept for later ones: full blocks of the cache in a tree, and what
//! memory has no room for in a store outside it.
//!
//! A later prompt that begins with the same tokens shares the blocks and computes the rest. Its answer
//! has the same bits: what a block holds is a function of the tokens up to its end (`docs/serving.md`).

mod identity;
mod saved;
#[cfg(test)]
mod tests;
mod tree;

pub use identity::fingerprint;
pub use tree::{Found, PrefixTree};
