//! One head of one token: rotated, turned, rounded, and put into its block.

use super::{COLUMNS, Layout};
use crate::compute::lanes::Lanes;
use crate::compute::native::tile::Tile;
use crate::compute::{BLOCK_TOKENS, RopeRows};

/// One head of one token: as numbers, and rounded.
#[derive(Default)]
pub(super) struct Head {
    /// Padded with zeros.
    pub(super) numbers: Vec<f32>,
    /// 128 added.
    pub(super) bytes: Vec<u8>,
}

impl Head {
    pub(super) fn fit(&mut self, layout: &Layout) {
        self.numbers.clear();
        self.numbers.resize(layout.padded, 0.0);
        self.bytes.resize(layout.padded, 0);
    }

    /// Takes in the numbers of a head, turned and rounded; gives what 1 stands for.
    ///
    /// # Safety
    /// As for [`Lanes`]; the head has been made to [`fit`](Self::fit), and `from` has as many numbers as a head.
    #[inline(always)]
    pub(super) unsafe fn round<L: Lanes>(&mut self, layout: &Layout, from: &[f32]) -> f32 {
        let numbers = &mut self.numbers[..layout.padded];
        numbers[..layout.head_dim].copy_from_slice(from);
        // SAFETY: numbers and bytes have `padded` elements, a multiple of 16.
        unsafe {
            spread::<L>(&mut numbers[..layout.head_dim], layout.turned);
            let (from, to) = (numbers.as_ptr(), self.bytes.as_mut_ptr());
            let mut largest = L::splat(0.0);
            let mut i = 0;
            while i < layout.padded {
                let x = L::load(from.add(i));
                largest = largest.max(x.max(x.mul(L::splat(-1.0))));
                i += L::N;
            }
            let largest = largest.reduce_max();
            let inverse = L::splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
            let mut i = 0;
            while i < layout.padded {
                L::load(from.add(i)).fma(inverse, L::splat(128.0)).store_bytes(to.add(i));
                i += L::N;
            }
            largest / 127.0
        }
    }
}

/// Rotates the key of row `row`, and writes it and the value.
///
/// # Safety
/// As for [`put_token`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn rotate_and_put<T: Tile>(
    layout: Layout,
    rope: &RopeRows,
    row: usize,
    slot: usize,
    key: &mut [f32],
    value: &[f32],
    head: &mut Head,
    to: &mut [u8],
) {
    rope.rotate(row, key);
    // SAFETY: passed on from the caller.
    unsafe { put_token::<T>(layout, slot, key, value, head, to) }
}

/// Writes one token's key and value of one head into slot `slot` of a block.
///
/// # Safety
/// The CPU must have `T`'s instruction set (see [`Tile`]); `head` fits.
#[inline(always)]
unsafe fn put_token<T: Tile>(layout: Layout, slot: usize, key: &[f32], value: &[f32], head: &mut Head, to: &mut [u8]) {
    let (keys, rest) = to.split_at_mut(layout.key_scales());
    let (key_scales, rest) = rest.split_at_mut(BLOCK_TOKENS * size_of::<f32>());
    let (values, value_scales) = rest.split_at_mut(layout.padded * BLOCK_TOKENS);
    // SAFETY: passed on from the caller.
    let scale = unsafe { head.round::<T::Lanes>(&layout, key) };
    key_scales[4 * slot..][..4].copy_from_slice(&scale.to_ne_bytes());
    for four in 0..layout.padded / 4 {
        // SAFETY: a block has as many steps of four numbers as a head, and so many tokens in each.
        unsafe {
            let from = head.bytes.as_ptr().add(4 * four).cast::<u32>();
            let to = keys.as_mut_ptr().add(4 * (four * BLOCK_TOKENS + slot)).cast::<u32>();
            to.write_unaligned(from.read_unaligned());
        }
    }
    // SAFETY: passed on from the caller.
    let scale = unsafe { head.round::<T::Lanes>(&layout, value) };
    value_scales[4 * slot..][..4].copy_from_slice(&scale.to_ne_bytes());
    let to = &mut values[slot / 4 * 4 * layout.padded..][..4 * layout.padded];
    let bytes = &head.bytes[..layout.padded];
    for i in 0..bytes.len() {
        to[4 * i + slot % 4] = bytes[i] ^ 0x80;
    }
}

/// The Hadamard transform of each `size` numbers (a power of two), scaled so that it is its own inverse and keeps
/// products of two rows.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(super) unsafe fn spread<L: Lanes>(x: &mut [f32], size: usize) {
    // Plain counting, as in all kernels: an iterator's `next` may be a call of its own.
    let len = x.len() / size * size;
    let mut half = 1;
    if size >= COLUMNS {
        let mut part = 0;
        while part < len {
            // SAFETY: `part` and the rows of the table have 16 numbers.
            unsafe { spread_columns::<L>(&mut x[part..part + COLUMNS]) }
            part += COLUMNS;
        }
        half = COLUMNS;
    }
    while half < size {
        let mut first = 0;
        while first < len {
            let (a, b) = x[first..first + 2 * half].split_at_mut(half);
            let mut i = 0;
            // Halves of 16 and more are whole vectors.
            while half >= COLUMNS && i < half {
                // SAFETY: `i + L::N <= half`.
                unsafe {
                    let (one, other) = (L::load(a.as_ptr().add(i)), L::load(b.as_ptr().add(i)));
                    one.add(other).store(a.as_mut_ptr().add(i));
                    one.add(other.mul(L::splat(-1.0))).store(b.as_mut_ptr().add(i));
                }
                i += L::N;
            }
            while i < half {
                (a[i], b[i]) = (a[i] + b[i], a[i] - b[i]);
                i += 1;
            }
            first += 2 * half;
        }
        half *= 2;
    }
    let share = 1.0 / (size as f32).sqrt();
    let mut i = 0;
    while i + L::N <= x.len() {
        // SAFETY: in range by the line above.
        unsafe { L::load(x.as_ptr().add(i)).mul(L::splat(share)).store(x.as_mut_ptr().add(i)) };
        i += L::N;
    }
    while i < x.len() {
        x[i] *= share;
        i += 1;
    }
}

/// The unscaled transform of 16 numbers, as a product with its matrix: a number times a row at a time.
///
/// # Safety
/// As for [`Lanes`]; `x` has 16 numbers.
#[inline(always)]
unsafe fn spread_columns<L: Lanes>(x: &mut [f32]) {
    let mut from = [0.0f32; COLUMNS];
    from.copy_from_slice(x);
    // SAFETY: `column + L::N <= 16`.
    unsafe {
        let mut column = 0;
        while column < COLUMNS {
            let (mut even, mut odd) = (L::splat(0.0), L::splat(0.0));
            for i in 0..COLUMNS / 2 {
                even = L::splat(from[2 * i]).fma(L::load(TURN[2 * i].as_ptr().add(column)), even);
                odd = L::splat(from[2 * i + 1]).fma(L::load(TURN[2 * i + 1].as_ptr().add(column)), odd);
            }
            even.add(odd).store(x.as_mut_ptr().add(column));
            column += L::N;
        }
    }
}

/// The Hadamard matrix of 16 rows: -1 where row and column have an odd number of bits in common.
static TURN: [[f32; COLUMNS]; COLUMNS] = {
    let mut rows = [[1.0; COLUMNS]; COLUMNS];
    let mut i = 0;
    while i < COLUMNS * COLUMNS {
        if (i / COLUMNS & i % COLUMNS).count_ones() % 2 == 1 {
            rows[i / COLUMNS][i % COLUMNS] = -1.0;
        }
        i += 1;
    }
    rows
};
