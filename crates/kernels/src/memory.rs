//! Memory that is read over and over, in pages of 2 MiB where the system has them.
//!
//! A decode step reads all weights and the whole cache, and does little with each number: with pages of
//! 4 KiB it waits for the page tables. Blocks are cut from large pieces, so that small matrices share
//! such pages. And lines can be asked for before they are needed.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard};

/// A large page.
const PAGE_BYTES: usize = 2 << 20;
/// What small blocks are cut from.
const PIECE_BYTES: usize = 8 * PAGE_BYTES;
/// Blocks start on a cache line.
const LINE_BYTES: usize = 64;

/// f32 of a size that is set once, zero at first, on a cache line.
pub(crate) struct Block {
    data: NonNull<f32>,
    len: usize,
    /// Number of the piece it is cut from; none: it is a piece of its own.
    piece: Option<usize>,
}

// SAFETY: a block owns its memory, as a `Vec` does.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// No memory.
    pub(crate) const fn empty() -> Self {
        Block { data: NonNull::dangling(), len: 0, piece: None }
    }

    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        if len == 0 {
            return Block::empty();
        }
        let n_bytes = bytes_of(len);
        let (data, piece) = match n_bytes < PAGE_BYTES {
            true => {
                let (data, piece) = pieces().take(n_bytes);
                (data, Some(piece))
            }
            false => (allocate(n_bytes), None),
        };
        let data = data.cast::<f32>();
        // SAFETY: the memory is this block's alone and has room for `len`.
        unsafe { data.write_bytes(0, len) };
        Block { data, len, piece }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let (data, n_bytes) = (self.data.cast::<u8>(), bytes_of(self.len));
        match self.piece {
            Some(piece) => pieces().give_back(data, n_bytes, piece),
            None if self.len > 0 => free(data, n_bytes),
            None => {}
        }
    }
}

impl Deref for Block {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` f32 were written when the block was made.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and nobody else holds the block.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

/// Asks for large pages under this memory, where it covers some. Nothing changes but the speed.
pub(crate) fn advise_large_pages(start: *mut u8, n_bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        const MADV_HUGEPAGE: i32 = 14;
        unsafe extern "C" {
            fn madvise(start: *mut u8, n_bytes: usize, advice: i32) -> i32;
        }
        let skipped = start.align_offset(PAGE_BYTES);
        let whole = n_bytes.saturating_sub(skipped) / PAGE_BYTES * PAGE_BYTES;
        if whole > 0 {
            // SAFETY: whole pages of this memory, whose content does not change. Systems without
            // large pages refuse, which is no harm.
            unsafe { madvise(start.wrapping_add(skipped), whole, MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, n_bytes);
}

/// Asks for the cache line at `at`, to be used soon; any address will do.
#[inline(always)]
pub(crate) fn fetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{at}]", at = in(reg) at,
            options(readonly, nostack, preserves_flags),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Asks for the cache line at `at` in the second-level cache; any address will do.
#[inline(always)]
pub(crate) fn fetch_far(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(at.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "prfm pldl2keep, [{at}]", at = in(reg) at,
            options(readonly, nostack, preserves_flags),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// Where small blocks come from.
struct Pieces {
    /// By number: start, and how many blocks of it are in use.
    pieces: BTreeMap<usize, (Address, usize)>,
    /// Blocks that were given back, by size.
    free: BTreeMap<usize, Vec<(Address, usize)>>,
    /// The piece that is cut, and how much of it is.
    open: Option<(usize, usize)>,
    n_made: usize,
}

/// Start of memory that nobody holds.
#[derive(Clone, Copy)]
struct Address(NonNull<u8>);

// SAFETY: it is a number until it is handed out, to one block.
unsafe impl Send for Address {}

static PIECES: Mutex<Pieces> =
    Mutex::new(Pieces { pieces: BTreeMap::new(), free: BTreeMap::new(), open: None, n_made: 0 });

fn pieces() -> MutexGuard<'static, Pieces> {
    PIECES.lock().unwrap_or_else(|e| e.into_inner())
}

impl Pieces {
    /// Memory of `n_bytes`, less than a large page, and the piece that it is from.
    fn take(&mut self, n_bytes: usize) -> (NonNull<u8>, usize) {
        if let Some((start, piece)) = self.free.get_mut(&n_bytes).and_then(Vec::pop) {
            self.count(piece, 1);
            return (start.0, piece);
        }
        let (piece, used) = match self.open {
            Some((piece, used)) if used + n_bytes <= PIECE_BYTES => (piece, used),
            _ => {
                self.n_made += 1;
                let start = Address(allocate(PIECE_BYTES));
                self.pieces.insert(self.n_made, (start, 0));
                if let Some((full, _)) = self.open.take() {
                    self.close(full);
                }
                (self.n_made, 0)
            }
        };
        self.open = Some((piece, used + n_bytes));
        self.count(piece, 1);
        let start = self.pieces[&piece].0;
        // SAFETY: `used + n_bytes` is inside the piece.
        (unsafe { start.0.add(used) }, piece)
    }

    fn give_back(&mut self, start: NonNull<u8>, n_bytes: usize, piece: usize) {
        self.free.entry(n_bytes).or_default().push((Address(start), piece));
        self.count(piece, -1);
        if self.open.is_none_or(|(open, _)| open != piece) {
            self.close(piece);
        }
    }

    fn count(&mut self, piece: usize, change: isize) {
        if let Some((_, n_used)) = self.pieces.get_mut(&piece) {
            *n_used = n_used.wrapping_add_signed(change);
        }
    }

    /// Gives a piece that is cut no further back to the system, if no block of it is in use.
    fn close(&mut self, piece: usize) {
        if let Some(&(start, 0)) = self.pieces.get(&piece) {
            self.free.values_mut().for_each(|blocks| blocks.retain(|(_, of)| *of != piece));
            self.pieces.remove(&piece);
            free(start.0, PIECE_BYTES);
        }
    }
}

/// Bytes that `len` f32 take.
fn bytes_of(len: usize) -> usize {
    (4 * len).next_multiple_of(LINE_BYTES)
}

fn layout(n_bytes: usize) -> Layout {
    Layout::from_size_align(n_bytes, PAGE_BYTES).expect("a size that memory has room for")
}

fn allocate(n_bytes: usize) -> NonNull<u8> {
    let layout = layout(n_bytes);
    // SAFETY: the size is not zero.
    let start = unsafe { alloc(layout) };
    let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
    advise_large_pages(start.as_ptr(), n_bytes);
    start
}

fn free(start: NonNull<u8>, n_bytes: usize) {
    // SAFETY: `allocate` made it with this size, and nobody holds a part of it.
    unsafe { dealloc(start.as_ptr(), layout(n_bytes)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_zero_and_their_own() {
        let sizes = [0, 1, 15, 1000, 100_000, 600_000, 3 << 20];
        for _ in 0..3 {
            let mut blocks: Vec<Block> = sizes.iter().map(|&len| Block::zeros(len)).collect();
            for (i, block) in blocks.iter_mut().enumerate() {
                assert!(block.len() == sizes[i] && block.iter().all(|x| *x == 0.0));
                assert!(block.is_empty() || block.as_ptr().addr().is_multiple_of(LINE_BYTES));
                block.fill(i as f32);
            }
            assert!(blocks.iter().enumerate().all(|(i, b)| b.iter().all(|x| *x == i as f32)));
        }
    }

    #[test]
    fn memory_goes_back_piece_by_piece() {
        let mut pieces =
            Pieces { pieces: BTreeMap::new(), free: BTreeMap::new(), open: None, n_made: 0 };
        let n_bytes = PIECE_BYTES / 4;
        let mut taken: Vec<_> = (0..9).map(|_| pieces.take(n_bytes)).collect();
        assert_eq!(pieces.pieces.len(), 3);
        let (start, piece) = taken.remove(0);
        pieces.give_back(start, n_bytes, piece);
        assert_eq!(pieces.take(n_bytes), (start, piece)); // the same memory again
        taken.insert(0, (start, piece));
        for (start, piece) in taken.drain(..8) {
            pieces.give_back(start, n_bytes, piece);
        }
        assert_eq!((pieces.pieces.len(), pieces.free[&n_bytes].len()), (1, 0));
        pieces.give_back(taken[0].0, n_bytes, taken[0].1);
        assert_eq!(pieces.pieces.len(), 1); // it is still being cut
        pieces.open = None;
        pieces.close(taken[0].1);
        assert!(pieces.pieces.is_empty());
    }
}
