//! What encoding remembers: the tokens of short pieces, in a table of fixed size.
//!
//! Most pieces of a text are words seen before. A new piece takes the place of whatever was in
//! its slot, so that memory is bounded and no text, however built, makes the table slow.

use std::ops::Range;

use crate::bpe::{Bpe, Work, mixed};

const N_SLOTS: usize = 1 << 14;
const MAX_BYTES: usize = 16;
const MAX_IDS: usize = 6;

/// Room to work in for one thread.
pub(crate) struct PieceCache {
    slots: Box<[Slot]>,
    work: Work,
    pub(crate) pieces: Vec<Range<usize>>,
    pub(crate) spare: Vec<Range<usize>>,
}

/// Empty where `len` is 0.
#[derive(Clone, Copy)]
struct Slot {
    key: [u64; 2],
    len: u8,
    n_ids: u8,
    ids: [u32; MAX_IDS],
}

impl PieceCache {
    pub(crate) fn new() -> PieceCache {
        let empty = Slot { key: [0; 2], len: 0, n_ids: 0, ids: [0; MAX_IDS] };
        PieceCache {
            slots: vec![empty; N_SLOTS].into_boxed_slice(),
            work: Work::default(),
            pieces: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Gives back what one very long text took, and keeps what is known.
    pub(crate) fn forget_room(&mut self) {
        const KEPT: usize = 1 << 16;
        self.pieces.shrink_to(KEPT);
        self.spare.shrink_to(KEPT);
        self.work.forget_room(KEPT);
    }

    /// Appends the tokens of a piece. The cache belongs to one `bpe` for ever.
    pub(crate) fn encode(&mut self, bpe: &Bpe, piece: &[u8], ids: &mut Vec<u32>) {
        if piece.is_empty() || piece.len() > MAX_BYTES {
            return bpe.encode(piece, &mut self.work, ids);
        }
        let mut bytes = [0u8; MAX_BYTES];
        bytes[..piece.len()].copy_from_slice(piece);
        let [low, high] = [0, 8].map(|at| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the slice has eight bytes"))
        });
        let hash = mixed(low ^ mixed(high ^ piece.len() as u64));
        let slot = &mut self.slots[hash as usize % N_SLOTS];
        if slot.key == [low, high] && usize::from(slot.len) == piece.len() {
            return ids.extend_from_slice(&slot.ids[..usize::from(slot.n_ids)]);
        }
        let start = ids.len();
        bpe.encode(piece, &mut self.work, ids);
        let found = &ids[start..];
        if found.len() <= MAX_IDS {
            *slot = Slot {
                key: [low, high],
                len: piece.len() as u8,
                n_ids: found.len() as u8,
                ids: [0; MAX_IDS],
            };
            slot.ids[..found.len()].copy_from_slice(found);
        }
    }
}
