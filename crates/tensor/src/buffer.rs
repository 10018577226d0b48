//! Memory of tensors, kept and reused: a training step asks for the same sizes again and again.
//!
//! Freed buffers go to a list per size class of the freeing thread, and come back with stale
//! content. Without this, a third of a small training step goes to page faults.

use fathom_kernels::elementwise;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that one thread keeps for reuse; what is freed past that goes back to the allocator.
const KEEP_BYTES: usize = 6 << 30;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static FREE: RefCell<FreeLists> = const { RefCell::new(FreeLists { lists: [const { Vec::new() }; N_LISTS], bytes: 0 }) };
}

/// Lists of free memory: four size classes per power of two, of all that a `usize` counts.
const N_LISTS: usize = 4 * usize::BITS as usize;

struct FreeLists {
    /// By [`list_of`] their size class.
    lists: [Vec<Vec<f32>>; N_LISTS],
    bytes: usize,
}

/// f32 of a cache line. Buffers start on one, so that a load of sixteen never straddles two.
const LINE: usize = 16;

/// A run of f32 whose memory is reused after it is dropped.
#[derive(Debug)]
pub struct Buffer {
    /// As long as its size class, and the elements that aligning may skip.
    data: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` elements of unspecified content.
    pub fn stale(len: usize) -> Self {
        let class = size_class(len);
        let reused = FREE.with_borrow_mut(|free| {
            let data = free.lists[list_of(class)].pop()?;
            free.bytes -= 4 * class;
            Some(data)
        });
        let data = reused.unwrap_or_else(|| {
            LIVE_BYTES.fetch_add(4 * class, Ordering::Relaxed);
            vec![0.0; class + LINE - 1]
        });
        let start = data.as_ptr().align_offset(4 * LINE).min(LINE - 1);
        Buffer { data, start, len }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Buffer::stale(len);
        elementwise::fill(&mut buffer, 0.0);
        buffer
    }

    /// A copy of `values`.
    pub fn copy_of(values: &[f32]) -> Self {
        let mut buffer = Buffer::stale(values.len());
        elementwise::copy(values, &mut buffer);
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut data = std::mem::take(&mut self.data);
        let class = data.len() - (LINE - 1);
        // `try_with`: a buffer dropped while its thread ends simply frees its memory.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.bytes + 4 * class <= KEEP_BYTES {
                free.bytes += 4 * class;
                free.lists[list_of(class)].push(std::mem::take(&mut data));
            }
        });
        if !data.is_empty() {
            LIVE_BYTES.fetch_sub(4 * class, Ordering::Relaxed);
        }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Buffer::copy_of(self)
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.data[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..self.start + self.len]
    }
}

/// Bytes held by all buffers, those kept for reuse included.
pub fn buffer_bytes() -> usize {
    LIVE_BYTES.load(Ordering::Relaxed)
}

/// Capacity for `len` elements: the next of four steps per power of two, at least 64.
fn size_class(len: usize) -> usize {
    let len = len.max(64);
    let step = (len.next_power_of_two() / 8).max(16);
    len.div_ceil(step) * step
}

/// Place of the list of a size class: its power of two, and the two bits behind the first.
fn list_of(class: usize) -> usize {
    let power = class.ilog2() as usize;
    4 * power + ((class >> (power - 2)) & 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back() {
        let first = Buffer::stale(1000);
        let address = first.as_ptr();
        drop(first);
        let second = Buffer::zeros(990);
        assert_eq!(second.as_ptr(), address);
        assert_eq!(second.len(), 990);
        assert!(second.iter().all(|v| *v == 0.0));
    }

    #[test]
    fn a_class_is_its_own_class_and_wastes_little() {
        for len in 1..5000 {
            let class = size_class(len);
            assert!(class >= len && size_class(class) == class, "{len} -> {class}");
            assert!(len < 64 || class <= len + len / 3 + 16, "{len} -> {class}");
            let next = size_class(class + 1);
            assert!(list_of(class) < list_of(next), "lists of {class} and {next}");
        }
    }
}
