//! From the blocks of a file to tiles: four weights of a column at a time, never one by one.
//!
//! A file's block holds the lower halves of its first sixteen weights' bytes beside those of its last sixteen (ggml's
//! 32-weight formats), which is just how a tile wants them; K-quants are shifted and masked, a word of four bytes at
//! once. What a tile looks like is told in [`super::code`], what a block looks like in ggml's definitions.

use super::code::{Code, for_code};
use super::tile::{BLOCK, COLUMNS};
use crate::compute::Format;

/// One column of the tile memory that belongs to one block of the file.
struct Column<'a> {
    /// Vectors of [`COLUMNS`] words.
    quants: &'a mut [[u8; 4]],
    sides: &'a mut [u8],
    supers: &'a mut [u8],
    column: usize,
}

/// A word in every byte of which lie the bits of this mask.
const fn each_byte(mask: u8) -> u32 {
    u32::from_ne_bytes([mask; 4])
}

/// Four bits, each as the lowest of a byte.
const SPREAD: [u32; 16] = {
    let mut spread = [0; 16];
    let mut bits = 0;
    while bits < 16 {
        let b = bits as u8;
        spread[bits] = u32::from_ne_bytes([b & 1, b >> 1 & 1, b >> 2 & 1, b >> 3]);
        bits += 1;
    }
    spread
};

/// Word `number` of some bytes.
#[inline(always)]
fn word(bytes: &[u8], number: usize) -> u32 {
    let at = 4 * number;
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Column<'_> {
    #[inline(always)]
    fn put(&mut self, vector: usize, four: u32) {
        self.quants[vector * COLUMNS + self.column] = four.to_ne_bytes();
    }

    /// A half-precision number of run `run` of the sides.
    #[inline(always)]
    fn side(&mut self, run: usize, half: &[u8]) {
        // Not by `copy_from_slice`: two bytes became a call of `memmove`.
        let to = &mut self.sides[(run * COLUMNS + self.column) * 2..][..2];
        (to[0], to[1]) = (half[0], half[1]);
    }

    /// A byte of run `run` of the sides of block `block`.
    #[inline(always)]
    fn small_side(&mut self, block: usize, run: usize, byte: u8) {
        self.sides[(2 * block + run) * COLUMNS + self.column] = byte;
    }

    /// A half-precision number of run `run` of the supers.
    #[inline(always)]
    fn unit(&mut self, run: usize, half: [u8; 2]) {
        let to = &mut self.supers[(run * COLUMNS + self.column) * 2..][..2];
        (to[0], to[1]) = (half[0], half[1]);
    }

    /// The lower halves of sixteen weights' bytes beside those of sixteen others, as they are.
    #[inline(always)]
    fn nibbles(&mut self, bytes: &[u8]) {
        for j in 0..4 {
            self.put(j, word(bytes, j));
        }
    }

    /// The fifth bits of 32 weights, a bit each.
    #[inline(always)]
    fn fifth_bits(&mut self, bytes: &[u8]) {
        let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let mut plane = 0;
        for s in 0..8 {
            plane |= SPREAD[(bits >> (4 * s) & 15) as usize] << s;
        }
        self.put(4, plane);
    }

    /// The lower halves of 32 bytes that lie in the lower halves (`shift` 0) or upper ones (4) of 32 bytes of the file.
    #[inline(always)]
    fn low(&mut self, first_vector: usize, bytes: &[u8], shift: usize) {
        for j in 0..4 {
            let (first, second) = (word(bytes, j) >> shift, word(bytes, j + 4) >> shift);
            self.put(first_vector + j, first & each_byte(0x0f) | (second & each_byte(0x0f)) << 4);
        }
    }

    /// The upper bits, `bits` of each of 32 bytes, that lie at `shift` of 32 bytes of the file.
    #[inline(always)]
    fn high(&mut self, first_vector: usize, bytes: &[u8], shift: usize, bits: usize) {
        let steps = 8 / bits;
        for vector in 0..bits {
            let mut plane = 0;
            for s in 0..steps {
                let high = word(bytes, vector * steps + s) >> shift & each_byte((1 << bits) - 1);
                plane |= high << (s * bits);
            }
            self.put(first_vector + vector, plane);
        }
    }
}

/// Weights of a row that are packed before the next row's: what all columns write to meanwhile lies in the nearest cache,
/// and the file is still read from front to back.
const STRETCH: usize = 1024;

/// Packs the weights of at most [`COLUMNS`] outputs, `row_bytes` each, into a tile whose runs of quants and sides are `runs`
/// bytes long.
pub(super) fn pack_tile(format: Format, runs: [usize; 2], rows: &[u8], row_bytes: usize, tile: &mut [u8]) {
    let (quants, rest) = tile.split_at_mut(runs[0]);
    let (sides, supers) = rest.split_at_mut(runs[1]);
    let (quants, _) = quants.as_chunks_mut::<4>();
    let (blocks, bytes) = (format.block_len() / BLOCK, format.block_bytes());
    let (count, together) = (row_bytes / bytes, STRETCH / format.block_len());
    for_code!(format, F => {
        let sizes = [blocks * F::QUANTS / 4, blocks * F::SIDES, F::SUPERS];
        for first in (0..count).step_by(together) {
            for (column, row) in rows.chunks_exact(row_bytes).take(COLUMNS).enumerate() {
                for number in first..count.min(first + together) {
                    let to = &mut Column {
                        quants: &mut quants[number * sizes[0]..][..sizes[0]],
                        sides: &mut sides[number * sizes[1]..][..sizes[1]],
                        supers: &mut supers[number * sizes[2]..][..sizes[2]],
                        column,
                    };
                    pack_block(format, &row[number * bytes..][..bytes], to);
                }
            }
        }
    })
}

/// Packs one block of the file.
#[inline(always)]
fn pack_block(format: Format, bytes: &[u8], to: &mut Column<'_>) {
    match format {
        Format::Q4_0 => {
            to.side(0, bytes);
            to.nibbles(&bytes[2..18]);
        }
        Format::Q4_1 => {
            to.side(0, bytes);
            to.side(1, &bytes[2..]);
            to.nibbles(&bytes[4..20]);
        }
        Format::Q5_0 => {
            to.side(0, bytes);
            to.nibbles(&bytes[6..22]);
            to.fifth_bits(&bytes[2..6]);
        }
        Format::Q5_1 => {
            to.side(0, bytes);
            to.side(1, &bytes[2..]);
            to.nibbles(&bytes[8..24]);
            to.fifth_bits(&bytes[4..8]);
        }
        Format::Q8_0 => {
            to.side(0, bytes);
            // The bounds are checked once for all eight.
            let (quants, bytes) = (&mut to.quants[to.column..][..7 * COLUMNS + 1], &bytes[2..34]);
            for s in 0..8 {
                quants[s * COLUMNS] = (word(bytes, s) ^ each_byte(0x80)).to_ne_bytes();
            }
        }
        Format::Q4K => {
            scales_and_minimums(bytes, to);
            for part in 0..8 {
                to.low(4 * part, &bytes[16 + part / 2 * 32..][..32], part % 2 * 4);
            }
        }
        Format::Q5K => {
            scales_and_minimums(bytes, to);
            for part in 0..8 {
                to.low(5 * part, &bytes[48 + part / 2 * 32..][..32], part % 2 * 4);
                to.high(5 * part + 4, &bytes[16..48], part, 1);
            }
        }
        _ => {
            // Q6_K: 128 weights in four parts share 64 bytes of lower halves and 32 bytes of bit pairs.
            to.unit(0, [bytes[208], bytes[209]]);
            for part in 0..8 {
                let (half, quarter) = (part / 4, part % 4);
                to.low(6 * part, &bytes[half * 64 + quarter % 2 * 32..][..32], quarter / 2 * 4);
                to.high(6 * part + 4, &bytes[128 + half * 32..][..32], quarter * 2, 2);
                to.small_side(part, 0, bytes[192 + 2 * part]);
                to.small_side(part, 1, bytes[192 + 2 * part + 1]);
            }
        }
    }
}

/// The first sixteen bytes of Q4_K and Q5_K: two units, the second of which gets its sign turned, and eight pairs of
/// whole numbers in twelve bytes.
#[inline(always)]
fn scales_and_minimums(bytes: &[u8], to: &mut Column<'_>) {
    to.unit(0, [bytes[0], bytes[1]]);
    to.unit(1, [bytes[2], bytes[3] ^ 0x80]);
    let pairs = &bytes[4..16];
    for part in 0..8 {
        let (scale, minimum) = match part {
            0..4 => (pairs[part] & 63, pairs[part + 4] & 63),
            _ => (pairs[part + 4] & 15 | pairs[part - 4] >> 6 << 4, pairs[part + 4] >> 4 | pairs[part] >> 6 << 4),
        };
        to.small_side(part, 0, scale);
        to.small_side(part, 1, minimum);
    }
}
