//! How each format's weights lie in a packed matrix, and how a kernel reads them.
//!
//! Every format comes down to the same arithmetic. A weight is `scale * (byte - offset)` or `scale * byte - minimum`, with
//! one scale and one minimum for each column and block of 32 inputs (Q6_K: two halves of 16 with a scale each). With
//! activations `d * a` (see [`super::rounded`]), a block adds
//!
//! ```text
//! scale * d * (Σ byte * a - offset * Σ a)     or     scale * d * Σ byte * a  -  minimum * d * Σ a
//! ```
//!
//! to a column's sum. What is in brackets is one sum of whole numbers: `offset * Σ a` is the same for all columns, is kept
//! with the activations, and the sum starts from its negative.
//!
//! A tile of 16 columns has three runs of memory, so that each is read from front to back:
//! - *quants*, per block of 32 inputs: a 4-bit plane of four vectors of 64 bytes (vector `j` holds step `j` in the lower
//!   halves of its bytes and step `j + 4` in the upper ones), then the planes of the fifth and sixth bits; Q8_0 has its
//!   eight steps as they are, with 128 added to each byte.
//! - *sides*, per block: the scales and shifts of 16 columns as the format stores them.
//! - *supers*, per 256 inputs: what K-quants share between eight blocks.

use super::rounded::{OFFSET_8, OFFSET_32, OFFSET_128};
use super::tile::{COLUMNS, STEP, Tile};

/// A tile's three runs.
#[derive(Clone, Copy)]
pub(super) struct TileAt {
    pub(super) quants: *const u8,
    pub(super) sides: *const u8,
    pub(super) supers: *const u8,
}

/// A format as kernels see it.
///
/// # Safety
/// Methods read within the tile's runs for blocks that it has, with the vectors of a CPU that has them.
pub(super) trait Code: 'static {
    /// Bytes of quants of a block.
    const QUANTS: usize;
    /// Bytes of sides of a block.
    const SIDES: usize;
    /// Bytes of supers of 256 inputs.
    const SUPERS: usize = 0;
    /// Scales of a block: 1, or 2 for its halves.
    const HALVES: usize = 1;
    /// True where bytes reach beyond 127; they are the weights plus 128.
    const WIDE: bool = false;
    /// Which of a block's [`starts`](super::rounded::Block::starts) takes the offset away (that of the first half, where
    /// there are two). `None`: there is a [`Self::shift`] to take in.
    const START: Option<usize> = None;
    /// True where ggml rounds the activations' sums to half precision, and results are to agree with it.
    const ROUNDED_SUMS: bool = false;

    /// The eight steps of a block.
    unsafe fn steps<T: Tile>(tile: &TileAt, block: usize) -> [T::Bytes; 8];
    unsafe fn scale<T: Tile>(tile: &TileAt, block: usize, half: usize) -> T::Floats;
    /// The shift's negative.
    unsafe fn shift<T: Tile>(tile: &TileAt, block: usize, half: usize) -> T::Floats;
}

#[inline(always)]
unsafe fn nibbles<T: Tile>(quants: *const u8) -> [T::Bytes; 8] {
    // SAFETY: passed on from the caller: 256 bytes of quants.
    unsafe {
        let mut steps = [T::bytes(quants); 8];
        for s in 0..4 {
            let both = T::bytes(quants.add(s * STEP));
            steps[s] = T::shifted::<0>(both, 0x0f);
            steps[s + 4] = T::shifted::<-4>(both, 0x0f);
        }
        steps
    }
}

#[inline(always)]
unsafe fn all_or<T: Tile>(mut low: [T::Bytes; 8], high: [T::Bytes; 8]) -> [T::Bytes; 8] {
    for s in 0..8 {
        // SAFETY: passed on from the caller.
        low[s] = unsafe { T::or(low[s], high[s]) };
    }
    low
}

/// Adds the fifth bits: bit `s` of each byte belongs to step `s`.
#[inline(always)]
unsafe fn with_fifth_bits<T: Tile>(low: [T::Bytes; 8], plane: *const u8) -> [T::Bytes; 8] {
    // SAFETY: passed on from the caller: 64 bytes.
    unsafe {
        let bits = T::bytes(plane);
        let high = [
            T::shifted::<4>(bits, 0x10),
            T::shifted::<3>(bits, 0x10),
            T::shifted::<2>(bits, 0x10),
            T::shifted::<1>(bits, 0x10),
            T::shifted::<0>(bits, 0x10),
            T::shifted::<-1>(bits, 0x10),
            T::shifted::<-2>(bits, 0x10),
            T::shifted::<-3>(bits, 0x10),
        ];
        all_or::<T>(low, high)
    }
}

/// Adds the fifth and sixth bits: byte pairs of bits `2 * (s % 4)` of vector `s / 4` belong to step `s`.
#[inline(always)]
unsafe fn with_two_high_bits<T: Tile>(low: [T::Bytes; 8], plane: *const u8) -> [T::Bytes; 8] {
    // SAFETY: passed on from the caller: 128 bytes.
    unsafe {
        let (a, b) = (T::bytes(plane), T::bytes(plane.add(STEP)));
        let high = [
            T::shifted::<4>(a, 0x30),
            T::shifted::<2>(a, 0x30),
            T::shifted::<0>(a, 0x30),
            T::shifted::<-2>(a, 0x30),
            T::shifted::<4>(b, 0x30),
            T::shifted::<2>(b, 0x30),
            T::shifted::<0>(b, 0x30),
            T::shifted::<-2>(b, 0x30),
        ];
        all_or::<T>(low, high)
    }
}

#[inline(always)]
unsafe fn whole_bytes<T: Tile>(quants: *const u8) -> [T::Bytes; 8] {
    // SAFETY: passed on from the caller: 512 bytes.
    unsafe {
        let mut steps = [T::bytes(quants); 8];
        for s in 1..8 {
            steps[s] = T::bytes(quants.add(s * STEP));
        }
        steps
    }
}

#[inline(always)]
unsafe fn five_bits<T: Tile>(quants: *const u8) -> [T::Bytes; 8] {
    // SAFETY: passed on from the caller: 320 bytes.
    unsafe { with_fifth_bits::<T>(nibbles::<T>(quants), quants.add(PLANE4)) }
}

#[inline(always)]
unsafe fn six_bits<T: Tile>(quants: *const u8) -> [T::Bytes; 8] {
    // SAFETY: passed on from the caller: 384 bytes.
    unsafe { with_two_high_bits::<T>(nibbles::<T>(quants), quants.add(PLANE4)) }
}

/// Bytes of the planes of 4, 1 and 2 bits, and of 16 half-precision numbers.
const PLANE4: usize = 4 * STEP;
const PLANE1: usize = STEP;
const PLANE2: usize = 2 * STEP;
const HALVES: usize = 2 * COLUMNS;

/// A format whose block has one scale, and whose bytes are the weights plus an offset.
macro_rules! with_offset {
    ($name:ident, $steps:ident, $quants:expr, $offset:expr, $start:expr) => {
        pub(super) struct $name;

        // SAFETY (bodies): passed on from the caller.
        impl Code for $name {
            const QUANTS: usize = $quants;
            const SIDES: usize = HALVES;
            const WIDE: bool = $offset == 128;
            const START: Option<usize> = $start;

            #[inline(always)]
            unsafe fn steps<T: Tile>(tile: &TileAt, block: usize) -> [T::Bytes; 8] {
                unsafe { $steps::<T>(tile.quants.add(block * Self::QUANTS)) }
            }
            #[inline(always)]
            unsafe fn scale<T: Tile>(tile: &TileAt, block: usize, _: usize) -> T::Floats {
                unsafe { T::load_halves(tile.sides.add(block * Self::SIDES)) }
            }
            #[inline(always)]
            unsafe fn shift<T: Tile>(tile: &TileAt, block: usize, _: usize) -> T::Floats {
                let offset = if T::SIGNED && Self::WIDE { 0.0 } else { -($offset as f32) };
                unsafe { T::mul(Self::scale::<T>(tile, block, 0), T::splat(offset)) }
            }
        }
    };
}

/// A format whose block has a scale and a minimum.
macro_rules! with_minimum {
    ($name:ident, $steps:ident, $quants:expr) => {
        pub(super) struct $name;

        // SAFETY (bodies): passed on from the caller.
        impl Code for $name {
            const QUANTS: usize = $quants;
            const SIDES: usize = 2 * HALVES;
            const ROUNDED_SUMS: bool = true;

            #[inline(always)]
            unsafe fn steps<T: Tile>(tile: &TileAt, block: usize) -> [T::Bytes; 8] {
                unsafe { $steps::<T>(tile.quants.add(block * Self::QUANTS)) }
            }
            #[inline(always)]
            unsafe fn scale<T: Tile>(tile: &TileAt, block: usize, _: usize) -> T::Floats {
                unsafe { T::load_halves(tile.sides.add(block * Self::SIDES)) }
            }
            #[inline(always)]
            unsafe fn shift<T: Tile>(tile: &TileAt, block: usize, _: usize) -> T::Floats {
                unsafe { T::load_halves(tile.sides.add(block * Self::SIDES + HALVES)) }
            }
        }
    };
}

/// A K-quant whose eight blocks have whole-number scales and minimums in units of their super-block's.
macro_rules! with_unit_and_minimum {
    ($name:ident, $steps:ident, $quants:expr) => {
        pub(super) struct $name;

        // SAFETY (bodies): passed on from the caller.
        impl Code for $name {
            const QUANTS: usize = $quants;
            const SIDES: usize = 2 * COLUMNS;
            const SUPERS: usize = 2 * HALVES;

            #[inline(always)]
            unsafe fn steps<T: Tile>(tile: &TileAt, block: usize) -> [T::Bytes; 8] {
                unsafe { $steps::<T>(tile.quants.add(block * Self::QUANTS)) }
            }
            #[inline(always)]
            unsafe fn scale<T: Tile>(tile: &TileAt, block: usize, _: usize) -> T::Floats {
                unsafe {
                    let unit = T::load_halves(tile.supers.add(block / 8 * Self::SUPERS));
                    T::mul(unit, T::load_unsigned(tile.sides.add(block * Self::SIDES)))
                }
            }
            #[inline(always)]
            unsafe fn shift<T: Tile>(tile: &TileAt, block: usize, _: usize) -> T::Floats {
                // The packer has turned the sign of the minimums' unit.
                unsafe {
                    let unit = T::load_halves(tile.supers.add(block / 8 * Self::SUPERS + HALVES));
                    T::mul(unit, T::load_unsigned(tile.sides.add(block * Self::SIDES + COLUMNS)))
                }
            }
        }
    };
}

with_offset!(Q4_0, nibbles, PLANE4, 8, Some(OFFSET_8));
with_offset!(Q5_0, five_bits, PLANE4 + PLANE1, 16, None);
with_offset!(Q8_0, whole_bytes, 8 * STEP, 128, Some(OFFSET_128));
with_minimum!(Q4_1, nibbles, PLANE4);
with_minimum!(Q5_1, five_bits, PLANE4 + PLANE1);
with_unit_and_minimum!(Q4K, nibbles, PLANE4);
with_unit_and_minimum!(Q5K, five_bits, PLANE4 + PLANE1);

/// Halves of 16 with signed scales in units of the super-block's; bytes are the weights plus 32.
pub(super) struct Q6K;

// SAFETY (bodies): passed on from the caller.
impl Code for Q6K {
    const QUANTS: usize = PLANE4 + PLANE2;
    const SIDES: usize = 2 * COLUMNS;
    const SUPERS: usize = HALVES;
    const HALVES: usize = 2;
    const START: Option<usize> = Some(OFFSET_32);

    #[inline(always)]
    unsafe fn steps<T: Tile>(tile: &TileAt, block: usize) -> [T::Bytes; 8] {
        unsafe { six_bits::<T>(tile.quants.add(block * Self::QUANTS)) }
    }
    #[inline(always)]
    unsafe fn scale<T: Tile>(tile: &TileAt, block: usize, half: usize) -> T::Floats {
        unsafe {
            let unit = T::load_halves(tile.supers.add(block / 8 * Self::SUPERS));
            T::mul(unit, T::load_signed(tile.sides.add(block * Self::SIDES + half * COLUMNS)))
        }
    }
    #[inline(always)]
    unsafe fn shift<T: Tile>(tile: &TileAt, block: usize, half: usize) -> T::Floats {
        unsafe { T::mul(Self::scale::<T>(tile, block, half), T::splat(-32.0)) }
    }
}

/// Calls `$body` with `$code` naming the [`Code`] of a format that products take as whole numbers.
macro_rules! for_code {
    ($format:expr, $code:ident => $body:expr) => {{
        use $crate::compute::Format;
        use $crate::compute::native::code;
        macro_rules! as_code {
            ($name:ident) => {{
                type $code = code::$name;
                $body
            }};
        }
        match $format {
            Format::Q4_0 => as_code!(Q4_0),
            Format::Q4_1 => as_code!(Q4_1),
            Format::Q5_0 => as_code!(Q5_0),
            Format::Q5_1 => as_code!(Q5_1),
            Format::Q8_0 => as_code!(Q8_0),
            Format::Q4K => as_code!(Q4K),
            Format::Q5K => as_code!(Q5K),
            Format::Q6K => as_code!(Q6K),
            other => unreachable!("{other:?} is not packed"),
        }
    }};
}
pub(super) use for_code;
