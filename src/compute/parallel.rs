//! Work over all cores, and output that is shared between them by parts.

use std::marker::PhantomData;

/// Calls `work` for every index below `count`, spread over candle's pool of threads (one pool for the whole program).
pub(super) fn for_each_index(count: usize, work: impl Fn(usize) + Sync) {
    candle_core::utils::barrier_pool().execute_chunked(count, |range| range.for_each(&work));
}

/// A mutable slice whose parts several threads write at once.
pub(super) struct SharedOut<'a> {
    start: *mut f32,
    len: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: the value only hands out parts, and `slice`'s contract forbids overlapping ones.
unsafe impl Sync for SharedOut<'_> {}
// SAFETY: as above; the borrow outlives the value.
unsafe impl Send for SharedOut<'_> {}

impl<'a> SharedOut<'a> {
    pub(super) fn new(out: &'a mut [f32]) -> Self {
        Self { start: out.as_mut_ptr(), len: out.len(), borrowed: PhantomData }
    }

    /// The part `from..from + len`. Panics where that is out of range.
    ///
    /// # Safety
    /// No two parts in use at the same time may overlap.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn slice(&self, from: usize, len: usize) -> &mut [f32] {
        assert!(from <= self.len && len <= self.len - from, "part {from}+{len} of {}", self.len);
        // SAFETY: in range by the line above; not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), len) }
    }
}
