//! The names of blocks: what a block holds follows from the model, the owner, and all tokens up to its
//! end, so a name is a hash over these, chained from block to block.
//!
//! Names are SHA-256 cut to 128 bits. Prompts are chosen by strangers, and whoever could make two
//! prefixes of one name could make another's answer go on from a past that is not its own: a hash
//! that merely mixes well would not do.

use sha2::{Digest, Sha256};

/// A block of a prefix, without what it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity<'a> {
    pub(super) owner: u64,
    /// The name of the block before; of the first one [`root`].
    pub(super) parent: u128,
    /// Its tokens, as many as a block holds.
    pub(super) tokens: &'a [u32],
}

impl Identity<'_> {
    /// The block's name.
    pub(super) fn key(&self) -> u128 {
        let mut hash = Sha256::new_with_prefix(b"block");
        // Model and owner are part of the parent's name.
        hash.update(self.parent.to_le_bytes());
        self.tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        cut(hash)
    }
}

/// The name that all prefixes of an owner begin with.
pub(super) fn root(fingerprint: u128, owner: u64) -> u128 {
    let mut hash = Sha256::new_with_prefix(b"root");
    hash.update(fingerprint.to_le_bytes());
    hash.update(owner.to_le_bytes());
    cut(hash)
}

/// A number for all that decides what a block holds besides tokens, for
/// [`PrefixTree::new`](super::PrefixTree::new): the weights, the precision they are multiplied in, the
/// level of the CPU, the version of the program. The shape of the cache is checked apart from it.
///
/// Other parts, or the same in another order or cut otherwise, give another number.
pub fn fingerprint(parts: &[&[u8]]) -> u128 {
    let mut hash = Sha256::new_with_prefix(b"fingerprint");
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    cut(hash)
}

fn cut(hash: Sha256) -> u128 {
    let whole = <[u8; 32]>::from(hash.finalize());
    whole.iter().take(16).fold(0, |key, byte| key << 8 | u128::from(*byte))
}
