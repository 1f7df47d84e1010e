//! Activations rounded to 8 bits, as products take them.
//!
//! Every 32 numbers of a row have one scale (in half precision, as ggml's Q8_0), so that a row does not depend on the
//! rows beside it and results agree with llama.cpp's. Beside the bytes lie the sums that weights with an offset or a
//! minimum need (see [`super::code`]).

use super::tile::{BLOCK, Tile};

/// What sums of products begin with beside their offset's share: 1.5 * 2^23 as the bits of an `f32`. Behind that number the
/// last bits of an `f32` are a whole number's, so a sum (below 2^22) need not be converted: its bits are those of
/// `ORIGIN + sum`.
pub(super) const ORIGIN: f32 = 12_582_912.0;

/// Which of [`Block::starts`] is for which offset. Halves of 16 have one each.
pub(super) const OFFSET_8: usize = 0;
pub(super) const OFFSET_128: usize = 1;
pub(super) const OFFSET_32: usize = 2;

/// 32 activations, with all that products read of them, on a cache line.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Block {
    pub(super) bytes: [i8; BLOCK],
    /// What 1 stands for: a number of half precision, so that its product with [`ORIGIN`] is exact.
    pub(super) scale: f32,
    /// `-ORIGIN * scale`
    pub(super) minus_origin: f32,
    /// Scale times the sum of the bytes.
    pub(super) sum: f32,
    /// The same, rounded to half precision, as ggml's Q8_1 has it.
    pub(super) coarse_sum: f32,
    /// The bits of [`ORIGIN`] minus so many times the sum of the bytes: 8, 128, and 32 in the first and the last 16.
    pub(super) starts: [i32; 4],
}

/// Rows of rounded activations.
#[derive(Default)]
pub(super) struct RoundedRows {
    /// `[rows][width / 32]`, and perhaps more that lay there before.
    pub(super) blocks: Vec<Block>,
    rows: usize,
    width: usize,
}

impl RoundedRows {
    /// Makes room for `rows` of `width` (a multiple of 32) numbers; what they hold is undefined.
    pub(super) fn reshape(&mut self, rows: usize, width: usize) {
        let blocks = rows * (width / BLOCK);
        if self.blocks.len() < blocks {
            // Not by growing: that would copy what nobody needs.
            self.blocks = vec![Block::default(); blocks];
        }
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
        SharedRounded { start: self.blocks.as_mut_ptr(), blocks: self.width / BLOCK, rows: self.rows }
    }
}

/// Where the blocks of [`RoundedRows`] are written.
#[derive(Clone, Copy)]
pub(super) struct SharedRounded {
    start: *mut Block,
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
        // SAFETY: within the rows by the caller's promise.
        unsafe {
            let to = &mut *self.start.add(row * self.blocks + block);
            let rounded = T::round(from, to.bytes.as_mut_ptr());
            let [first, last] = rounded.sums;
            let total = (first + last) as f32;
            to.scale = T::half(rounded.scale);
            to.minus_origin = -ORIGIN * to.scale;
            to.sum = to.scale * total;
            to.coarse_sum = T::half(rounded.scale * total);
            let origin = ORIGIN.to_bits() as i32;
            to.starts =
                [origin - 8 * (first + last), origin - 128 * (first + last), origin - 32 * first, origin - 32 * last];
        }
    }
}
