//! Activations rounded to 8 bits, as products take them.
//!
//! Every 32 numbers of a row have one scale (in half precision, as ggml's Q8_0), so that a row does not depend on the
//! rows beside it and results agree with llama.cpp's. Beside the bytes lie the sums that weights with an offset or a
//! minimum need (see [`super::code`]).

use super::tile::{BLOCK, Tile};

/// Rows of rounded activations.
#[derive(Default)]
pub(super) struct RoundedRows {
    /// `[rows][width]`
    pub(super) bytes: Vec<i8>,
    /// `[rows][width / 32]`: what 1 stands for.
    pub(super) scales: Vec<f32>,
    /// `[rows][width / 32]`: scale times the sum of a block's bytes.
    pub(super) sums: Vec<f32>,
    /// The same, rounded to half precision, as ggml's Q8_1 has them.
    pub(super) coarse_sums: Vec<f32>,
    /// `[rows][width / 16]`: the sums of half blocks.
    pub(super) half_sums: Vec<f32>,
    rows: usize,
    width: usize,
}

impl RoundedRows {
    /// Makes room for `rows` of `width` (a multiple of 32) numbers; what they hold is undefined.
    pub(super) fn reshape(&mut self, rows: usize, width: usize) {
        let blocks = rows * (width / BLOCK);
        self.bytes.resize(rows * width, 0);
        self.scales.resize(blocks, 0.0);
        self.sums.resize(blocks, 0.0);
        self.coarse_sums.resize(blocks, 0.0);
        self.half_sums.resize(2 * blocks, 0.0);
        (self.rows, self.width) = (rows, width);
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Lends the rows to several threads, each of which writes other blocks.
    pub(super) fn shared(&mut self) -> SharedRounded {
        SharedRounded {
            bytes: self.bytes.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            sums: self.sums.as_mut_ptr(),
            coarse_sums: self.coarse_sums.as_mut_ptr(),
            half_sums: self.half_sums.as_mut_ptr(),
            blocks: self.width / BLOCK,
            rows: self.rows,
        }
    }
}

/// Where the blocks of [`RoundedRows`] are written.
#[derive(Clone, Copy)]
pub(super) struct SharedRounded {
    bytes: *mut i8,
    scales: *mut f32,
    sums: *mut f32,
    coarse_sums: *mut f32,
    half_sums: *mut f32,
    blocks: usize,
    rows: usize,
}

// SAFETY: `round`'s contract forbids writing a block from two threads.
unsafe impl Sync for SharedRounded {}
// SAFETY: as above.
unsafe impl Send for SharedRounded {}

impl SharedRounded {
    /// Rounds 32 numbers into a row's block.
    ///
    /// # Safety
    /// As for [`Tile`]; `from` has 32 numbers, the rows that were lent are still there, and nobody else uses the block.
    #[inline(always)]
    pub(super) unsafe fn round<T: Tile>(&self, row: usize, block: usize, from: *const f32) {
        debug_assert!(row < self.rows && block < self.blocks);
        let at = row * self.blocks + block;
        // SAFETY: within the rows by the caller's promise.
        unsafe {
            let rounded = T::round(from, self.bytes.add(at * BLOCK));
            let total = (rounded.sums[0] + rounded.sums[1]) as f32;
            let scale = T::half(rounded.scale);
            *self.scales.add(at) = scale;
            *self.sums.add(at) = scale * total;
            *self.coarse_sums.add(at) = T::half(rounded.scale * total);
            *self.half_sums.add(2 * at) = scale * rounded.sums[0] as f32;
            *self.half_sums.add(2 * at + 1) = scale * rounded.sums[1] as f32;
        }
    }
}
