//! Activations that the next product or attention reads, in the form that it reads.
//!
//! For products in `f32` that is a plain matrix. For bfloat16 it is blocks of 16 rows; a block has a tile for each *step*
//! of 32 numbers, and a tile a line of 64 bytes for each row. A panel of 32 outputs is a step of the next product: what
//! a product writes lies where the next one loads it.

use super::dense::Precision;
use crate::compute::lanes::{Isa, Lanes, dispatch};
use crate::compute::parallel::SharedOut;

/// Numbers in a step.
pub(super) const STEP: usize = 32;
/// Rows in a tile.
pub(super) const ROWS: usize = 16;

/// 32 bfloat16 numbers, on a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [u16; STEP]);

impl Line {
    pub(super) const ZERO: Self = Self([0; STEP]);
}

/// A matrix of activations; its memory is kept from one use to the next.
#[derive(Default)]
pub(crate) struct Operand {
    plain: Vec<f32>,
    lines: Vec<Line>,
    /// True where `lines` is used, not `plain`.
    rounded: bool,
    rows: usize,
    width: usize,
}

impl Operand {
    /// Makes it a matrix of `rows` rows of `width` numbers, whatever they are.
    pub(crate) fn shape(&mut self, precision: Precision, rows: usize, width: usize) {
        (self.rows, self.width, self.rounded) = (rows, width, precision == Precision::Bf16);
        match precision {
            Precision::F32 => self.plain.resize(rows * width, 0.0),
            // Padding rows are multiplied but never read. Numbers behind a row's last meet weights of 0 and must be
            // finite: bfloat16 of an earlier use or 0.
            Precision::Bf16 => self.lines.resize(rows.div_ceil(ROWS) * ROWS * self.steps(), Line::ZERO),
        }
    }

    /// Takes over `x`, whole rows of `width` numbers.
    pub(crate) fn take(&mut self, precision: Precision, x: &[f32], width: usize) {
        self.shape(precision, x.len() / width, width);
        if !self.rounded {
            return self.plain.copy_from_slice(x);
        }
        let lines = &mut self.lines[..];
        // SAFETY: `Isa::widest` is one that this CPU has.
        unsafe { dispatch!(Isa::widest(), round_rows(x: &[f32], width: usize, lines: &mut [Line])) };
    }

    /// The numbers, row after row.
    #[cfg(test)]
    pub(super) fn to_plain(&self) -> Vec<f32> {
        let at = |row, column| widened(self.lines[line_at(row, column / STEP, self.steps())].0[column % STEP]);
        let rounded = || (0..self.rows).flat_map(|row| (0..self.width).map(move |column| (row, column)));
        if self.rounded { rounded().map(|(row, column)| at(row, column)).collect() } else { self.plain().to_vec() }
    }

    /// True for bfloat16.
    pub(super) fn rounded(&self) -> bool {
        self.rounded
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Steps of a row.
    pub(super) fn steps(&self) -> usize {
        self.width.div_ceil(STEP)
    }

    /// The matrix, for products in `f32`.
    pub(super) fn plain(&self) -> &[f32] {
        &self.plain[..self.rows * self.width]
    }

    pub(super) fn plain_mut(&mut self) -> &mut [f32] {
        &mut self.plain[..self.rows * self.width]
    }

    /// The tiles, for products in bfloat16.
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Where several threads may write at once.
    pub(super) fn shared(&mut self) -> SharedOperand<'_> {
        let (rounded, width, steps) = (self.rounded, self.width, self.steps());
        let (start, len) = (self.lines.as_mut_ptr().cast::<u16>(), self.lines.len() * STEP);
        // SAFETY: a line is `STEP` numbers without padding, and `self` stays borrowed.
        let numbers = unsafe { std::slice::from_raw_parts_mut(start, len) };
        let plain = SharedOut::new(&mut self.plain);
        SharedOperand { plain, numbers: SharedOut::new(numbers), rounded, width, steps }
    }
}

/// Where a line lies.
#[inline(always)]
pub(super) fn line_at(row: usize, step: usize, steps: usize) -> usize {
    (row / ROWS * steps + step) * ROWS + row % ROWS
}

/// An operand that several threads write.
pub(super) struct SharedOperand<'a> {
    plain: SharedOut<'a>,
    numbers: SharedOut<'a, u16>,
    rounded: bool,
    width: usize,
    steps: usize,
}

impl SharedOperand<'_> {
    /// Writes `x` to the columns of `row` from `column`; within one step where the operand is rounded.
    ///
    /// # Safety
    /// Nobody else may use these columns of the row.
    #[inline(always)]
    pub(super) unsafe fn write(&self, row: usize, column: usize, x: &[f32]) {
        // SAFETY: by the caller.
        unsafe {
            if self.rounded {
                let from = line_at(row, column / STEP, self.steps) * STEP + column % STEP;
                round(x, self.numbers.slice(from, x.len()));
            } else {
                self.plain.slice(row * self.width + column, x.len()).copy_from_slice(x);
            }
        }
    }
}

/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn round_rows<L: Lanes>(x: &[f32], width: usize, lines: &mut [Line]) {
    let steps = width.div_ceil(STEP);
    for (row, x) in x.chunks_exact(width).enumerate() {
        for (step, x) in x.chunks(STEP).enumerate() {
            round(x, &mut lines[line_at(row, step, steps)].0);
        }
    }
}

/// Rounds `from` into the first numbers of `to`. Loops, no closures: they are compiled with the kernel around them.
#[inline(always)]
pub(super) fn round(from: &[f32], to: &mut [u16]) {
    if let (Ok(from), Ok(to)) = (<&[f32; STEP]>::try_from(from), <&mut [u16; STEP]>::try_from(&mut *to)) {
        for i in 0..STEP {
            to[i] = rounded(from[i]);
        }
        return;
    }
    for i in 0..from.len() {
        to[i] = rounded(from[i]);
    }
}

/// To the nearest bfloat16, ties to even.
#[inline(always)]
pub(super) fn rounded(x: f32) -> u16 {
    let bits = x.to_bits();
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

pub(super) fn widened(x: u16) -> f32 {
    f32::from_bits((x as u32) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_takes_the_nearest_bfloat16() {
        for x in [0.0, 1.0, -1.5, 3.140_625, 1e-20, 123_456.7, -0.333_333] {
            assert_eq!(rounded(x), half::bf16::from_f32(x).to_bits(), "{x}");
        }
    }
}
