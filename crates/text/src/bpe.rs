//! Byte-level merging: the bytes of a piece become tokens, and pairs of neighbours become larger
//! tokens, the pair with the lowest rank first, the leftmost of equals.
//!
//! Source: Sennrich et al. 2016, GPT-2. Equal to `tokenizers`, including that a byte without a
//! token vanishes. Short pieces are merged by looking for the lowest rank again and again, long
//! ones by a queue, so that no piece costs more than n log n.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, RandomState};

/// No token, no rank.
const NONE: u32 = u32::MAX;
/// Longer pieces are merged through a queue.
const MAX_SCANNED: usize = 48;

/// A vocabulary's merges.
pub(crate) struct Bpe {
    /// The token of every byte; `NONE` where there is none.
    byte_ids: [u32; 256],
    merges: PairTable,
    /// With `ignore_merges`: tokens by their bytes, taken whole where a piece equals one.
    whole: Option<HashMap<Box<[u8]>, u32>>,
}

/// Room to work in, kept between pieces.
#[derive(Default)]
pub(crate) struct Work {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<(u32, usize)>>,
}

impl Work {
    /// Keeps room for at most `n` symbols.
    pub(crate) fn forget_room(&mut self, n: usize) {
        self.symbols.clear();
        self.symbols.shrink_to(n);
        self.queue.clear();
        self.queue.shrink_to(n);
    }
}

/// A token in the making.
#[derive(Clone, Copy)]
struct Symbol {
    id: u32,
    /// Rank of the merge with the next symbol, and what it gives.
    rank: u32,
    merged: u32,
    /// Neighbours, for pieces merged through the queue. The end is its own length.
    previous: usize,
    next: usize,
}

impl Bpe {
    /// `bytes` gives the tokens of single bytes; `merges` are left, right and result, the most
    /// urgent first; of two merges of the same pair the later counts.
    pub(crate) fn new(
        bytes: impl IntoIterator<Item = (u8, u32)>,
        merges: &[(u32, u32, u32)],
        whole: Option<HashMap<Box<[u8]>, u32>>,
    ) -> Bpe {
        let mut byte_ids = [NONE; 256];
        for (byte, id) in bytes {
            byte_ids[usize::from(byte)] = id;
        }
        Bpe { byte_ids, merges: PairTable::new(merges), whole }
    }

    /// Whether pieces that are tokens are taken whole.
    pub(crate) fn ignores_merges(&self) -> bool {
        self.whole.is_some()
    }

    /// The pairs that merge, the most urgent first.
    pub(crate) fn merges(&self) -> Vec<(u32, u32)> {
        let mut all: Vec<(u32, u32, u32)> =
            self.merges.slots.iter().filter(|slot| slot.rank != NONE).map(Slot::parts).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, left, right)| (left, right)).collect()
    }

    /// Appends the tokens of a piece.
    pub(crate) fn encode(&self, piece: &[u8], work: &mut Work, ids: &mut Vec<u32>) {
        if let Some(id) = self.whole.as_ref().and_then(|whole| whole.get(piece)) {
            return ids.push(*id);
        }
        let symbols = &mut work.symbols;
        symbols.clear();
        for byte in piece {
            let id = self.byte_ids[usize::from(*byte)];
            if id != NONE {
                let at = symbols.len();
                symbols.push(Symbol {
                    id,
                    rank: NONE,
                    merged: NONE,
                    previous: at.wrapping_sub(1),
                    next: at + 1,
                });
            }
        }
        for i in 1..symbols.len() {
            (symbols[i - 1].rank, symbols[i - 1].merged) =
                self.merges.get(symbols[i - 1].id, symbols[i].id);
        }
        if symbols.len() <= MAX_SCANNED {
            self.merge_scanning(symbols);
            ids.extend(symbols.iter().map(|symbol| symbol.id));
        } else {
            self.merge_queued(work, ids);
        }
    }

    fn merge_scanning(&self, symbols: &mut Vec<Symbol>) {
        loop {
            let lowest = symbols.iter().enumerate().min_by_key(|(_, symbol)| symbol.rank);
            let Some((at, rank)) = lowest.map(|(at, symbol)| (at, symbol.rank)) else { return };
            if rank == NONE {
                return;
            }
            symbols[at].id = symbols[at].merged;
            symbols.remove(at + 1);
            self.rank_with_next(symbols, at, at + 1);
            if at > 0 {
                self.rank_with_next(symbols, at - 1, at);
            }
        }
    }

    /// Merges in a linked list. A queue entry is stale when the rank at its place has changed.
    fn merge_queued(&self, work: &mut Work, ids: &mut Vec<u32>) {
        let Work { symbols, queue } = work;
        let n = symbols.len();
        queue.clear();
        let ranked = symbols.iter().enumerate().filter(|(_, symbol)| symbol.rank != NONE);
        queue.extend(ranked.map(|(at, symbol)| Reverse((symbol.rank, at))));
        while let Some(Reverse((rank, at))) = queue.pop() {
            if symbols[at].rank != rank {
                continue;
            }
            let gone = symbols[at].next;
            let next = symbols[gone].next;
            symbols[at].id = symbols[at].merged;
            symbols[at].next = next;
            symbols[gone].rank = NONE;
            if next < n {
                symbols[next].previous = at;
            }
            self.rank_with_next(symbols, at, next);
            if symbols[at].rank != NONE {
                queue.push(Reverse((symbols[at].rank, at)));
            }
            let previous = symbols[at].previous;
            if previous < n {
                self.rank_with_next(symbols, previous, at);
                if symbols[previous].rank != NONE {
                    queue.push(Reverse((symbols[previous].rank, previous)));
                }
            }
        }
        let mut at = 0;
        while at < n {
            ids.push(symbols[at].id);
            at = symbols[at].next;
        }
    }

    fn rank_with_next(&self, symbols: &mut [Symbol], at: usize, next: usize) {
        (symbols[at].rank, symbols[at].merged) = match symbols.get(next) {
            Some(right) => self.merges.get(symbols[at].id, right.id),
            None => (NONE, NONE),
        };
    }
}

/// A hash table from a pair to its rank and result, open and half empty.
struct PairTable {
    slots: Box<[Slot]>,
    shift: u32,
    /// Drawn anew for every table, so that no file can be built to collide. Look-ups alone use
    /// it: results do not depend on it.
    seed: u64,
}

#[derive(Clone, Copy)]
struct Slot {
    left: u32,
    right: u32,
    rank: u32,
    merged: u32,
}

impl Slot {
    fn parts(&self) -> (u32, u32, u32) {
        (self.rank, self.left, self.right)
    }
}

impl PairTable {
    fn new(merges: &[(u32, u32, u32)]) -> PairTable {
        let n_slots = (merges.len() * 2).next_power_of_two().max(2);
        let empty = Slot { left: NONE, right: NONE, rank: NONE, merged: NONE };
        let mut table = PairTable {
            slots: vec![empty; n_slots].into_boxed_slice(),
            shift: 64 - n_slots.trailing_zeros(),
            seed: RandomState::new().hash_one(0u8),
        };
        for (rank, &(left, right, merged)) in merges.iter().enumerate() {
            let at = table.find(left, right);
            table.slots[at] = Slot { left, right, rank: rank as u32, merged };
        }
        table
    }

    /// The slot of a pair, or the empty one where it belongs.
    #[inline]
    fn find(&self, left: u32, right: u32) -> usize {
        let key = (u64::from(left) << 32 | u64::from(right)) ^ self.seed;
        let mut at = (mixed(key) >> self.shift) as usize;
        loop {
            let slot = &self.slots[at];
            if (slot.left == left && slot.right == right) || slot.rank == NONE {
                return at;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    #[inline]
    fn get(&self, left: u32, right: u32) -> (u32, u32) {
        let slot = &self.slots[self.find(left, right)];
        (slot.rank, slot.merged)
    }
}

/// Spreads a key over all bits: both halves of a 128-bit product.
#[inline]
pub(crate) fn mixed(key: u64) -> u64 {
    let product = u128::from(key) * 0x9e37_79b9_7f4a_7c15;
    (product as u64) ^ (product >> 64) as u64
}
