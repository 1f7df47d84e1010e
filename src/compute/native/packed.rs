//! Weights packed for products: tiles of 16 columns, at the bits per weight of the file.
//!
//! How a tile lies in memory is told in [`super::code`]. Columns beyond the last output are zeros.

use super::code::{Code, TileAt, for_code};
use super::tile::{BLOCK, COLUMNS, STEP, Scalar};
use crate::compute::parallel::for_each_index;
use crate::compute::{ComputeError, Format, PackedMatrix};

/// Numbers in a super-block of a K-quant.
const SUPER: usize = 256;

/// A weight matrix in tiles.
pub(super) struct Packed {
    memory: Aligned,
    pub(super) format: Format,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    layout: Layout,
}

/// Bytes of the runs of one tile.
#[derive(Debug, Clone, Copy)]
struct Layout {
    quants: usize,
    sides: usize,
    /// From tile to tile: a multiple of 64.
    tile: usize,
}

impl Layout {
    fn of<F: Code>(inputs: usize) -> Self {
        let (blocks, supers) = (inputs / BLOCK, inputs.div_ceil(SUPER));
        let (quants, sides) = (blocks * F::QUANTS, blocks * F::SIDES);
        Self { quants, sides, tile: (quants + sides + supers * F::SUPERS).next_multiple_of(STEP) }
    }
}

/// One block of 32 weights on its way into a tile.
struct Block {
    /// Each weight as its byte.
    bytes: [u8; BLOCK],
    /// What lies in the sides for this column: up to two half-precision numbers or two bytes.
    sides: [[u8; 2]; 2],
}

impl Packed {
    /// True where products take this format as whole numbers.
    pub(super) fn takes(format: Format) -> bool {
        !matches!(format, Format::F32 | Format::F16 | Format::BF16 | Format::Q2K | Format::Q3K)
    }

    /// Packs a matrix.
    ///
    /// # Errors
    /// A format that products do not take, or bytes that do not make the matrix.
    pub(super) fn new(weight: &PackedMatrix<'_>) -> Result<Self, ComputeError> {
        let PackedMatrix { format, rows, cols, bytes, .. } = *weight;
        let refuse = |reason: String| ComputeError::Weight { name: weight.name.into(), reason };
        if !Self::takes(format) {
            return Err(refuse(format!("the native backend has no product for {format:?}")));
        }
        if format.matrix_bytes(rows, cols) != Some(bytes.len()) || rows == 0 {
            return Err(refuse(format!("{} bytes do not make {rows} rows of {cols} in {format:?}", bytes.len())));
        }
        let layout = for_code!(format, F => Layout::of::<F>(cols));
        // Products take tiles by twos.
        let tiles = rows.div_ceil(COLUMNS).next_multiple_of(2);
        let mut packed =
            Self { memory: Aligned::new(tiles * layout.tile), format, outputs: rows, inputs: cols, layout };
        let shared = SharedBytes(packed.memory.start());
        let row_bytes = bytes.len() / rows;
        for_each_index(tiles, |tile| {
            // SAFETY: each tile is one index's alone, and lies within the allocation.
            let to = unsafe { shared.part(tile * layout.tile, layout.tile) };
            for column in 0..COLUMNS.min(rows.saturating_sub(tile * COLUMNS)) {
                let row = &bytes[(tile * COLUMNS + column) * row_bytes..][..row_bytes];
                pack_row(format, layout, row, column, to);
            }
        });
        Ok(packed)
    }

    /// Where a tile lies.
    pub(super) fn tile(&self, tile: usize) -> TileAt {
        let bytes = &self.memory.bytes()[tile * self.layout.tile..][..self.layout.tile];
        let (quants, rest) = bytes.split_at(self.layout.quants);
        let (sides, supers) = rest.split_at(self.layout.sides);
        TileAt { quants: quants.as_ptr(), sides: sides.as_ptr(), supers: supers.as_ptr() }
    }

    /// Bytes from one tile to the next.
    pub(super) fn tile_bytes(&self) -> usize {
        self.layout.tile
    }

    /// The numbers of one output (a row of an embedding table).
    pub(super) fn row(&self, output: usize, to: &mut [f32]) {
        let (tile, column) = (self.tile(output / COLUMNS), output % COLUMNS);
        for_code!(self.format, F => {
            for (block, to) in to.chunks_exact_mut(BLOCK).enumerate() {
                // SAFETY: the tile has every block of the row.
                let (steps, sides) = unsafe {
                    let side = |half| (F::scale::<Scalar>(&tile, block, half), F::shift::<Scalar>(&tile, block, half));
                    (F::steps::<Scalar>(&tile, block), [side(0), side(F::HALVES - 1)])
                };
                for (k, to) in to.iter_mut().enumerate() {
                    let (scale, shift) = &sides[k / 16];
                    *to = scale[column] * steps[k / 4][4 * column + k % 4] as f32 + shift[column];
                }
            }
        })
    }

    /// Bytes held.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.memory.len
    }
}

/// Puts one output's weights into its column of a tile.
fn pack_row(format: Format, layout: Layout, row: &[u8], column: usize, to: &mut [u8]) {
    let (quants, rest) = to.split_at_mut(layout.quants);
    let (sides, supers) = rest.split_at_mut(layout.sides);
    let per_source = format.block_len() / BLOCK;
    for_code!(format, F => {
        for (source, bytes) in row.chunks_exact(format.block_bytes()).enumerate() {
            if F::SUPERS > 0 {
                put_units(format, bytes, column, &mut supers[source * F::SUPERS..][..F::SUPERS]);
            }
            for part in 0..per_source {
                let block = source * per_source + part;
                let unpacked = unpack(format, bytes, part);
                put_bytes(&unpacked.bytes, column, F::WIDE, &mut quants[block * F::QUANTS..][..F::QUANTS]);
                let sides = &mut sides[block * F::SIDES..][..F::SIDES];
                // Runs of 16 half-precision numbers, or of 16 bytes.
                let size = if F::SUPERS > 0 { 1 } else { 2 };
                for (run, side) in sides.chunks_exact_mut(COLUMNS * size).zip(&unpacked.sides) {
                    run[column * size..][..size].copy_from_slice(&side[..size]);
                }
            }
        }
    })
}

/// Puts a column's 32 bytes into the planes of a block, four inputs (a step of the column) at a time.
fn put_bytes(bytes: &[u8; BLOCK], column: usize, wide: bool, quants: &mut [u8]) {
    let mut steps = [0u32; BLOCK / 4];
    for (step, four) in steps.iter_mut().zip(bytes.chunks_exact(4)) {
        *step = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
    }
    let mut put = |vector: usize, four: u32| {
        quants[vector * STEP + 4 * column..][..4].copy_from_slice(&four.to_ne_bytes());
    };
    if wide {
        return steps.iter().enumerate().for_each(|(step, four)| put(step, *four));
    }
    for j in 0..4 {
        put(j, steps[j] & 0x0f0f_0f0f | (steps[j + 4] & 0x0f0f_0f0f) << 4);
    }
    match quants.len() / STEP {
        5 => put_plane(&steps, 1, column, &mut quants[4 * STEP..]),
        6 => put_plane(&steps, 2, column, &mut quants[4 * STEP..]),
        _ => {}
    }
}

/// Puts the bits above the fourth, `bits` of each byte, into vectors of `8 / bits` steps each.
fn put_plane(steps: &[u32; BLOCK / 4], bits: usize, column: usize, plane: &mut [u8]) {
    let mask = 0x0101_0101 * ((1 << bits) - 1);
    for (vector, steps) in steps.chunks_exact(8 / bits).enumerate() {
        let mut four = 0;
        for (step, bytes) in steps.iter().enumerate() {
            four |= (bytes >> 4 & mask) << (step * bits);
        }
        plane[vector * STEP + 4 * column..][..4].copy_from_slice(&four.to_ne_bytes());
    }
}

/// Puts a column's units of a super-block: the scales', and the negative of the minimums'.
fn put_units(format: Format, bytes: &[u8], column: usize, supers: &mut [u8]) {
    let mut put = |run: usize, unit: [u8; 2]| supers[(run * COLUMNS + column) * 2..][..2].copy_from_slice(&unit);
    match format {
        Format::Q6K => put(0, [bytes[208], bytes[209]]),
        _ => {
            put(0, [bytes[0], bytes[1]]);
            put(1, [bytes[2], bytes[3] ^ 0x80]);
        }
    }
}

/// The 32 weights of part `part` of a block of the file, after ggml's definitions.
fn unpack(format: Format, bytes: &[u8], part: usize) -> Block {
    let mut block = Block { bytes: [0; BLOCK], sides: [[bytes[0], bytes[1]], [0; 2]] };
    // Lower halves are the first 16 weights, upper ones the last 16.
    let nibbles = |from: &[u8], to: &mut [u8; BLOCK]| {
        for (i, byte) in from[..16].iter().enumerate() {
            (to[i], to[i + 16]) = (byte & 15, byte >> 4);
        }
    };
    let fifth_bits = |from: &[u8], to: &mut [u8; BLOCK]| {
        let bits = u32::from_le_bytes([from[0], from[1], from[2], from[3]]);
        to.iter_mut().enumerate().for_each(|(i, byte)| *byte |= ((bits >> i & 1) as u8) << 4);
    };
    match format {
        Format::Q4_0 => nibbles(&bytes[2..], &mut block.bytes),
        Format::Q4_1 => {
            block.sides[1] = [bytes[2], bytes[3]];
            nibbles(&bytes[4..], &mut block.bytes);
        }
        Format::Q5_0 => {
            nibbles(&bytes[6..], &mut block.bytes);
            fifth_bits(&bytes[2..], &mut block.bytes);
        }
        Format::Q5_1 => {
            block.sides[1] = [bytes[2], bytes[3]];
            nibbles(&bytes[8..], &mut block.bytes);
            fifth_bits(&bytes[4..], &mut block.bytes);
        }
        Format::Q8_0 => block.bytes = std::array::from_fn(|i| bytes[2 + i] ^ 0x80),
        Format::Q4K | Format::Q5K => {
            let (scale, minimum) = six_bit_pair(&bytes[4..16], part);
            block.sides = [[scale, 0], [minimum, 0]];
            // 64 weights share 32 bytes of nibbles; the fifth bits of part `p` are bit `p` of 32 bytes.
            let (high, nibbles) = bytes[16..].split_at(if format == Format::Q5K { 32 } else { 0 });
            let (nibbles, shift) = (&nibbles[part / 2 * 32..][..BLOCK], part % 2 * 4);
            block.bytes.iter_mut().zip(nibbles).for_each(|(byte, both)| *byte = both >> shift & 15);
            block.bytes.iter_mut().zip(high).for_each(|(byte, high)| *byte |= (high >> part & 1) << 4);
        }
        _ => {
            // Q6_K: 128 weights in four parts share 64 bytes of nibbles and 32 bytes of bit pairs.
            let (half, quarter) = (part / 4, part % 4);
            let (low, high) = (&bytes[half * 64..], &bytes[128 + half * 32..]);
            let (low, shift) = (&low[quarter % 2 * 32..][..BLOCK], quarter / 2 * 4);
            for ((byte, low), high) in block.bytes.iter_mut().zip(low).zip(&high[..BLOCK]) {
                *byte = low >> shift & 15 | (high >> (quarter * 2) & 3) << 4;
            }
            block.sides = [[bytes[192 + 2 * part], 0], [bytes[192 + 2 * part + 1], 0]];
        }
    }
    block
}

/// Scale and minimum number `part` of the 12 bytes in which Q4_K and Q5_K pack eight pairs of 6 bits.
fn six_bit_pair(bytes: &[u8], part: usize) -> (u8, u8) {
    match part {
        0..4 => (bytes[part] & 63, bytes[part + 4] & 63),
        _ => (bytes[part + 4] & 15 | bytes[part - 4] >> 6 << 4, bytes[part + 4] >> 4 | bytes[part] >> 6 << 4),
    }
}

/// Zeroed bytes that begin at a multiple of 64.
struct Aligned {
    memory: Vec<Line>,
    len: usize,
}

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl Aligned {
    fn new(len: usize) -> Self {
        Self { memory: vec![Line([0; 64]); len.div_ceil(64)], len }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: a line is 64 plain bytes, and `len` of them are within the lines.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.len) }
    }

    fn start(&mut self) -> *mut u8 {
        self.memory.as_mut_ptr().cast()
    }
}

/// Bytes that several threads write, each its own part.
struct SharedBytes(*mut u8);

// SAFETY: `part`'s contract forbids overlaps.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    /// # Safety
    /// Within the allocation, and no two parts in use at the same time overlap.
    #[allow(clippy::mut_from_ref)]
    unsafe fn part(&self, from: usize, len: usize) -> &mut [u8] {
        // SAFETY: by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(from), len) }
    }
}
