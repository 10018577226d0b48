//! Moves the bytes of a mapped file into memory of our own, in pages of 2 MiB, at the addresses they have.
#![allow(unsafe_code)]

use fathom_kernels::threads;
use rustix::io::Errno;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags, madvise, mmap_anonymous, mprotect,
    mremap_fixed, munmap,
};
use std::ptr::null_mut;
use std::sync::OnceLock;

/// A large page.
const PAGE: usize = 2 << 20;
/// What is copied at a time: so much memory is taken twice by each thread.
const PIECE: usize = 8 * PAGE;

/// Replaces all whole large pages of `mapped` by copies, on all threads. Who reads the bytes meanwhile finds them
/// as they were: the system changes what is behind an address between two accesses.
///
/// Error: the first refusal of the system, such as for lack of memory. Bytes that were not copied stay mapped.
///
/// Safety: `mapped` is a private mapping of a file, which nobody unmaps meanwhile.
pub(super) unsafe fn move_into(mapped: &[u8]) -> Result<(), Errno> {
    let skipped = mapped.as_ptr().align_offset(PAGE).min(mapped.len());
    let whole = (mapped.len() - skipped) / PAGE * PAGE;
    let pages = &mapped[skipped..skipped + whole];
    let refused = OnceLock::new();
    threads::run(whole.div_ceil(PIECE), |i| {
        let piece = &pages[i * PIECE..whole.min((i + 1) * PIECE)];
        // SAFETY: whole pages of the mapping, a part of it that no other task has.
        if let Err(errno) = unsafe { move_piece(piece) } {
            refused.get_or_init(|| errno);
        }
    });
    refused.into_inner().map_or(Ok(()), Err)
}

/// Safety: as [`move_into`]; the piece begins on a large page and ends with one.
unsafe fn move_piece(piece: &[u8]) -> Result<(), Errno> {
    let n_bytes = piece.len();
    let read_write = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: fresh memory, of which the part that begins on a large page is filled, write-protected and moved over
    // the piece with the same bytes; what is left before and behind it is given back.
    unsafe {
        let raw = mmap_anonymous(null_mut(), n_bytes + PAGE, read_write, MapFlags::PRIVATE)?;
        let skipped = raw.cast::<u8>().align_offset(PAGE);
        let start = raw.byte_add(skipped);
        let fill = || {
            // Where large pages are not to be had, small ones do.
            let _ = madvise(start, n_bytes, Advice::LinuxHugepage);
            start.cast::<u8>().copy_from_nonoverlapping(piece.as_ptr(), n_bytes);
            mprotect(start, n_bytes, MprotectFlags::READ)?;
            let there = piece.as_ptr().cast_mut().cast();
            mremap_fixed(start, n_bytes, n_bytes, MremapFlags::MAYMOVE, there)
        };
        let moved = fill();
        if moved.is_err() {
            munmap(start, n_bytes)?;
        }
        for (at, n_bytes) in [(raw, skipped), (start.byte_add(n_bytes), PAGE - skipped)] {
            if n_bytes > 0 {
                munmap(at, n_bytes)?;
            }
        }
        moved.map(|_| ())
    }
}
