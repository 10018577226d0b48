//! Bytes that matrices share: a range of something that stays in memory, such as a mapped file.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Who holds the bytes. Whoever maps files implements this; a plain vector does too.
pub trait Bytes: Send + Sync {
    /// All of them.
    fn bytes(&self) -> &[u8];

    /// A hint that `range` will be read soon.
    fn will_need(&self, range: Range<usize>) {
        let _ = range;
    }

    /// Makes `range` quick to read, and returns when it is: bytes of a file are fetched and their pages
    /// entered in the process's table.
    fn prepare(&self, range: Range<usize>) {
        let _ = range;
    }

    /// Copies all bytes, if they are a file's, into memory of the process, in large pages where the system has
    /// some; returns when they are there. Nothing but the speed of reading changes.
    ///
    /// Error: the system refuses memory. The bytes stay readable.
    fn copy(&self) -> std::io::Result<()> {
        Ok(())
    }

    /// A hint that `range` will not be read soon: its memory may serve others. The bytes stay readable.
    fn release(&self, range: Range<usize>) {
        let _ = range;
    }
}

impl Bytes for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// A range of shared bytes. Cloning shares.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn Bytes>,
    range: Range<usize>,
}

impl SharedBytes {
    /// The bytes `range` of `owner`.
    ///
    /// Panics if the range leaves the owner's bytes.
    pub fn new(owner: Arc<dyn Bytes>, range: Range<usize>) -> Self {
        let len = owner.bytes().len();
        assert!(range.start <= range.end && range.end <= len, "{range:?} of {len} bytes");
        SharedBytes { owner, range }
    }

    /// Bytes of our own.
    pub fn owned(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        SharedBytes { owner: Arc::new(bytes), range }
    }

    /// Part of these bytes.
    ///
    /// Panics if the range leaves them.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.end <= self.range.len(), "{range:?} of {} bytes", self.range.len());
        let start = self.range.start;
        SharedBytes::new(self.owner.clone(), start + range.start..start + range.end)
    }

    /// See [`Bytes::will_need`].
    pub fn will_need(&self) {
        self.owner.will_need(self.range.clone());
    }

    /// See [`Bytes::prepare`].
    pub fn prepare(&self) {
        self.owner.prepare(self.range.clone());
    }

    /// See [`Bytes::copy`]: of all bytes of the owner.
    pub fn copy(&self) -> std::io::Result<()> {
        self.owner.copy()
    }

    /// See [`Bytes::release`].
    pub fn release(&self) {
        self.owner.release(self.range.clone());
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.owner.bytes()[self.range.clone()]
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({:?})", self.range)
    }
}
