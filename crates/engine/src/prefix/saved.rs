//! A block outside memory: what it must be, a checksum, and the cache's bytes.
//!
//! ```text
//! magic "fathomkv"   version u32   byte order u32   fingerprint u128   owner u64   parent u128
//! layers, MTP layers, key/value heads, length of a key, of a value, form, type, prefill: u32 each
//! tokens u32 × 64   length of the rest u64   SHA-256 of all but itself   the block
//! ```
//!
//! Little endian; the block in the machine's own order, which is written down. Whoever loads knows all
//! of the header beforehand, so it is compared, never believed: nothing read decides a length. What
//! is damaged, cut off, or another block's is no block at all. The checksum finds accidents; whoever
//! may write into the store can forge one, as he could exchange the model.

use super::identity::Identity;
use fathom_kernels::attention::BLOCK_TOKENS;
use fathom_model::cache::{CacheForm, CacheSpec, CacheType, Prefill};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"fathomkv";
const VERSION: u32 = 1;
/// Bytes of the checksum.
const CHECKSUM: usize = 32;
/// Bytes of the header.
const HEADER: usize = 8 + 4 + 4 + 16 + 8 + 16 + 8 * 4 + 4 * BLOCK_TOKENS + 8;

/// Bytes of a saved block, of which the cache has `n_bytes`.
pub(super) fn packed_bytes(n_bytes: usize) -> usize {
    HEADER + CHECKSUM + n_bytes
}

/// All that stands before the checksum of a block of `n_bytes`.
pub(super) fn header(
    fingerprint: u128,
    block: &Identity<'_>,
    spec: &CacheSpec,
    n_bytes: usize,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(packed_bytes(n_bytes));
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend(0x0102_0304_u32.to_ne_bytes());
    out.extend(fingerprint.to_le_bytes());
    out.extend(block.owner.to_le_bytes());
    out.extend(block.parent.to_le_bytes());
    shape(spec).iter().for_each(|word| out.extend(word.to_le_bytes()));
    block.tokens.iter().for_each(|token| out.extend(token.to_le_bytes()));
    out.extend((n_bytes as u64).to_le_bytes());
    out
}

/// A block ready to be saved: `header`, and what `export` appends.
pub(super) fn pack(mut header: Vec<u8>, export: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let start = header.len();
    header.extend([0; CHECKSUM]);
    export(&mut header);
    let sum = checksum(&header[..start], &header[start + CHECKSUM..]);
    header[start..start + CHECKSUM].copy_from_slice(&sum);
    header
}

/// The block in `bytes`, if it is the one of `header` and undamaged.
pub(super) fn unpack<'a>(bytes: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let (sum, block) = bytes.strip_prefix(header)?.split_at_checked(CHECKSUM)?;
    (checksum(header, block) == *sum).then_some(block)
}

fn checksum(header: &[u8], block: &[u8]) -> [u8; CHECKSUM] {
    Sha256::new_with_prefix(header).chain_update(block).finalize().into()
}

/// All of a spec that decides what bytes mean or which bits they have.
fn shape(spec: &CacheSpec) -> [u32; 8] {
    let CacheSpec { n_layers, n_mtp_layers, n_kv_heads, qk_dim, v_dim, form, cache_type, prefill } =
        *spec;
    let form = match form {
        CacheForm::Latent => 0,
        CacheForm::Expanded => 1,
    };
    let cache_type = match cache_type {
        CacheType::F32 => 0,
        CacheType::F16 => 1,
    };
    let prefill = match prefill {
        Prefill::Absorbed => 0,
        Prefill::Expanded => 1,
    };
    let [layers, mtp, heads, qk, v] =
        [n_layers, n_mtp_layers, n_kv_heads, qk_dim, v_dim].map(|n| n as u32);
    [layers, mtp, heads, qk, v, form, cache_type, prefill]
}
