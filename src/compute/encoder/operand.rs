//! Activations that the next product or attention reads, in the form that it reads.
//!
//! For products in `f32` that is a plain matrix. For bfloat16 and 16-bit integers it is blocks of 16 rows; a block has a
//! tile for each *step* of 32 numbers, and a tile a line of 64 bytes for each row. A panel of 32 outputs is a step of
//! the next product: what a product in bfloat16 writes lies where the next one loads it. Integers need their row's largest
//! number first, so a product or attention leaves plain numbers behind, and the product that reads them rounds them.

use super::dense::Precision;
use crate::compute::lanes::{Isa, Lanes, dispatch};
use crate::compute::parallel::{SharedOut, for_each_index};

/// Numbers in a step.
pub(super) const STEP: usize = 32;
/// Rows in a tile.
pub(super) const ROWS: usize = 16;

/// Largest magnitude of an activation as a whole number.
pub(super) const LIMIT: u16 = 8191;

/// 32 numbers of 16 bits (bfloat16, or integers), on a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub(super) [u16; STEP]);

impl Line {
    pub(super) const ZERO: Self = Self([0; STEP]);
}

/// What the numbers of an operand are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Form {
    #[default]
    Plain,
    Bf16,
    Int16,
}

/// A matrix of activations; its memory is kept from one use to the next.
#[derive(Default)]
pub struct Operand {
    plain: Vec<f32>,
    /// The numbers where they are not plain.
    lines: Vec<Line>,
    /// What one is worth, for each row of integers.
    scales: Vec<f32>,
    form: Form,
    rows: usize,
    width: usize,
}

impl Operand {
    /// Makes it a matrix of `rows` rows of `width` numbers, whatever they are, for a product or attention to write.
    pub fn shape(&mut self, precision: Precision, rows: usize, width: usize) {
        (self.rows, self.width) = (rows, width);
        match precision {
            Precision::F32 | Precision::Int16 => {
                self.form = Form::Plain;
                self.plain.resize(rows * width, 0.0);
            }
            Precision::Bf16 => {
                self.form = Form::Bf16;
                self.make_lines();
            }
        }
    }

    /// Padding rows are multiplied but never read. Numbers behind a row's last meet weights of 0 and must be finite: what
    /// an earlier use left, or 0.
    fn make_lines(&mut self) {
        self.lines.resize(self.rows.div_ceil(ROWS) * ROWS * self.steps(), Line::ZERO);
    }

    /// Takes over `x`, whole rows of `width` numbers, to be read by a product.
    pub fn take(&mut self, precision: Precision, x: &[f32], width: usize) {
        self.shape(precision, x.len() / width, width);
        match precision {
            Precision::F32 => self.plain.copy_from_slice(x),
            Precision::Int16 => self.round_from(x),
            Precision::Bf16 => {
                let lines = &mut self.lines[..];
                // SAFETY: `Isa::widest` is one that this CPU has.
                unsafe { dispatch!(Isa::widest(), bf16_rows(x: &[f32], width: usize, lines: &mut [Line])) };
            }
        }
    }

    /// Makes plain numbers integers; those that are integers already stay.
    pub(super) fn make_integers(&mut self) {
        if self.form == Form::Plain {
            let plain = std::mem::take(&mut self.plain);
            self.round_from(&plain[..self.rows * self.width]);
            self.plain = plain;
        }
    }

    fn round_from(&mut self, x: &[f32]) {
        self.form = Form::Int16;
        self.make_lines();
        self.scales.resize(self.rows, 0.0);
        let (isa, rows, width, steps) = (Isa::widest(), self.rows, self.width, self.steps());
        let (lines, scales) = (SharedOut::new(&mut self.lines), SharedOut::new(&mut self.scales));
        for_each_index(rows.div_ceil(ROWS), |block| {
            let first = block * ROWS;
            let here = ROWS.min(rows - first);
            // SAFETY: blocks do not overlap.
            let (lines, scales) = unsafe { (lines.slice(first * steps, ROWS * steps), scales.slice(first, here)) };
            let x = &x[first * width..][..here * width];
            // SAFETY: `isa` is one that this CPU has.
            unsafe { dispatch!(isa, int16_rows(x: &[f32], width: usize, lines: &mut [Line], scales: &mut [f32])) };
        });
    }

    /// The numbers, row after row.
    #[cfg(test)]
    pub(super) fn to_plain(&self) -> Vec<f32> {
        let at = |row, column| widened(self.lines[line_at(row, column / STEP, self.steps())].0[column % STEP]);
        let rounded = || (0..self.rows).flat_map(|row| (0..self.width).map(move |column| (row, column)));
        match self.form {
            Form::Bf16 => rounded().map(|(row, column)| at(row, column)).collect(),
            _ => self.plain().to_vec(),
        }
    }

    /// True for bfloat16.
    pub(super) fn is_bf16(&self) -> bool {
        self.form == Form::Bf16
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

    /// The plain matrix.
    pub(super) fn plain(&self) -> &[f32] {
        &self.plain[..self.rows * self.width]
    }

    pub(super) fn plain_mut(&mut self) -> &mut [f32] {
        &mut self.plain[..self.rows * self.width]
    }

    /// What one is worth, for each row of integers.
    pub(super) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The tiles of bfloat16 or integers.
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Where several threads may write at once.
    pub(super) fn shared(&mut self) -> SharedOperand<'_> {
        let (rounded, width, steps) = (self.is_bf16(), self.width, self.steps());
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
unsafe fn bf16_rows<L: Lanes>(x: &[f32], width: usize, lines: &mut [Line]) {
    let steps = width.div_ceil(STEP);
    for (row, x) in x.chunks_exact(width).enumerate() {
        for (step, x) in x.chunks(STEP).enumerate() {
            round(x, &mut lines[line_at(row, step, steps)].0);
        }
    }
}

/// Rounds whole rows to integers of at most [`LIMIT`]; `scales` says what one is worth in each.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn int16_rows<L: Lanes>(x: &[f32], width: usize, lines: &mut [Line], scales: &mut [f32]) {
    let (steps, whole) = (width.div_ceil(STEP), width / L::N * L::N);
    for (row, x) in x.chunks_exact(width).enumerate() {
        let mut largest = 0f32;
        // SAFETY: `i + L::N <= whole <= width`.
        unsafe {
            let (mut high, mut low) = (L::splat(0.0), L::splat(0.0));
            for i in (0..whole).step_by(L::N) {
                let v = L::load(x.as_ptr().add(i));
                (high, low) = (high.max(v), low.min(v));
            }
            largest = largest.max(high.max(low.mul(L::splat(-1.0))).reduce_max());
        }
        for x in &x[whole..] {
            largest = largest.max(x.abs());
        }
        let limit = f32::from(LIMIT);
        let per_unit = if largest > 0.0 { limit / largest } else { 0.0 };
        scales[row] = largest / limit;
        for (step, x) in x.chunks(STEP).enumerate() {
            let to = &mut lines[line_at(row, step, steps)].0;
            match <&[f32; STEP]>::try_from(x) {
                Ok(x) => {
                    for i in 0..STEP {
                        to[i] = whole_number(x[i] * per_unit);
                    }
                }
                Err(_) => {
                    for i in 0..x.len() {
                        to[i] = whole_number(x[i] * per_unit);
                    }
                }
            }
        }
    }
}

/// The bits of the nearest whole number, for small ones: behind 1.5 * 2^23 a number's last bits are its whole part.
#[inline(always)]
fn whole_number(x: f32) -> u16 {
    (x + 12_582_912.0).to_bits() as u16
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
