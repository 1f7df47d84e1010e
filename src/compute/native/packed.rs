//! Weights packed for products: tiles of 16 columns, at the bits per weight of the file.
//!
//! How a tile lies in memory is told in [`super::code`]. Columns beyond the last output are zeros.

use super::code::{Code, TileAt, for_code};
use super::memory::Memory;
use super::packing::pack_tile;
use super::tile::{BLOCK, COLUMNS, STEP, Scalar};
use crate::compute::parallel::for_each_index;
use crate::compute::{ComputeError, Format, PackedMatrix};

/// Numbers in a super-block of a K-quant.
const SUPER: usize = 256;

/// Bytes that a thread packs at a time: they stay in its second cache from when the system zeroes them.
const PIECE: usize = 256 << 10;

/// A weight matrix in tiles.
pub(super) struct Packed {
    memory: Memory,
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

impl Packed {
    /// True where products take this format as whole numbers.
    pub(super) fn takes(format: Format) -> bool {
        !matches!(format, Format::F32 | Format::F16 | Format::BF16 | Format::Q2K | Format::Q3K)
    }

    /// Packs a matrix.
    ///
    /// # Errors
    /// A format that products do not take, bytes that do not make the matrix, or too little memory.
    pub(super) fn new(weight: &PackedMatrix<'_>) -> Result<Self, ComputeError> {
        let PackedMatrix { format, rows, cols, bytes, .. } = *weight;
        let refuse = |reason: String| ComputeError::Weight { name: weight.name.into(), reason };
        if !Self::takes(format) {
            return Err(refuse(format!("the native backend has no product for {format:?}")));
        }
        if format.matrix_bytes(rows, cols) != Some(bytes.len()) || rows == 0 {
            return Err(refuse(format!("{} bytes do not make {rows} rows of {cols} in {format:?}", bytes.len())));
        }
        let (layout, tiles) = Self::shape(format, rows, cols);
        let memory = Memory::zeroed(tiles * layout.tile);
        let memory = memory.map_err(|e| refuse(format!("there is no memory for it: {e}")))?;
        let row_bytes = bytes.len() / rows;
        let together = (PIECE / layout.tile).max(1);
        for_each_index(tiles.div_ceil(together), |piece| {
            let some = piece * together..tiles.min((piece + 1) * together);
            // SAFETY: each tile is one index's alone.
            let to = unsafe { memory.fresh(some.start * layout.tile..some.end * layout.tile) };
            for (tile, to) in some.zip(to.chunks_exact_mut(layout.tile)) {
                let from = (tile * COLUMNS * row_bytes).min(bytes.len());
                let rows = &bytes[from..bytes.len().min(from + COLUMNS * row_bytes)];
                pack_tile(format, [layout.quants, layout.sides], rows, row_bytes, to);
            }
        });
        Ok(Self { memory, format, outputs: rows, inputs: cols, layout })
    }

    /// Takes over bytes that [`Self::bytes`] gave for a matrix of the same shape and format, by the same build.
    /// `None` where they are not as many, or the format is none that products take.
    pub(super) fn from_saved(format: Format, rows: usize, cols: usize, memory: Memory) -> Option<Self> {
        if !Self::takes(format) || format.matrix_bytes(rows, cols).is_none_or(|bytes| bytes == 0) {
            return None;
        }
        let (layout, tiles) = Self::shape(format, rows, cols);
        (tiles.checked_mul(layout.tile) == Some(memory.bytes().len())).then_some(Self {
            memory,
            format,
            outputs: rows,
            inputs: cols,
            layout,
        })
    }

    /// How a tile lies, and how many there are: products take them by twos.
    fn shape(format: Format, rows: usize, cols: usize) -> (Layout, usize) {
        (for_code!(format, F => Layout::of::<F>(cols)), rows.div_ceil(COLUMNS).next_multiple_of(2))
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

    /// All tiles.
    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.bytes()
    }
}
