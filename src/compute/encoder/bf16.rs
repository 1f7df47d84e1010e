//! Products of bfloat16 matrices with sums in `f32`.
//!
//! Activations are an [`Operand`]. Weights lie as AMX wants them, too, and AVX-512 BF16 reads the same tiles: a line of
//! weights is 16 outputs for one pair of inputs, so that one broadcast pair of a row meets 16 outputs. A *panel* is 32
//! outputs: for each step of 32 inputs two tiles side by side. One panel of MiniLM's products is 24 to 96 KB and meets
//! all rows before the next one is touched.
//!
//! Rounding to bfloat16 costs each number up to 0.4 %, at random; over MiniLM's six layers that leaves the cosine with
//! the `f32` vectors above 0.9999 (`embed` tests it).

use super::amx;
use super::operand::{Line, Operand, ROWS, STEP, line_at, rounded, widened};

/// Outputs in a panel.
pub(super) const PANEL: usize = 32;

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Amx,
    Avx512,
    /// The definition: for tests.
    Plain,
}

impl Unit {
    /// The fastest of this CPU; `None` where bfloat16 would be slower than `f32`.
    pub(super) fn fastest() -> Option<Self> {
        if crate::compute::lanes::asked().is_some_and(|isa| isa != "avx512vnni") {
            return None;
        }
        Self::all().into_iter().find(|unit| *unit != Self::Plain)
    }

    /// All that this CPU can run, fastest first.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        if amx::available() {
            all.push(Self::Amx);
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f") {
            all.push(Self::Avx512);
        }
        all.push(Self::Plain);
        all
    }
}

/// A weight matrix in panels of tiles.
pub(super) struct Tiles {
    lines: Vec<Line>,
    steps: usize,
    pub(super) unit: Unit,
}

/// Sums of up to 32 rows with the 32 outputs of a panel.
#[repr(align(64))]
pub(super) struct Sums(pub(super) [f32; 32 * PANEL]);

impl Tiles {
    /// Packs `weights[outputs][inputs]`.
    pub(super) fn pack(unit: Unit, outputs: usize, inputs: usize, weights: &[f32]) -> Self {
        let (panels, steps) = (outputs.div_ceil(PANEL), inputs.div_ceil(STEP));
        let mut lines = vec![Line::ZERO; panels * steps * 2 * ROWS];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let (panel, half, n) = (output / PANEL, output % PANEL / 16, output % 16);
            for (input, weight) in row.iter().enumerate() {
                let (step, pair, second) = (input / STEP, input % STEP / 2, input % 2);
                let line = ((panel * steps + step) * 2 + half) * ROWS + pair;
                lines[line].0[2 * n + second] = rounded(*weight);
            }
        }
        Self { lines, steps, unit }
    }

    /// The 32 rows of `x` from `first` (a multiple of 32), or as many as there are, times a panel. Only between the unit's
    /// `begin` and `end`.
    #[inline(always)]
    pub(super) fn multiply(&self, x: &Operand, first: usize, panel: usize, sums: &mut Sums) {
        assert!(x.steps() == self.steps, "rows of {} steps, weights of {}", x.steps(), self.steps);
        let (rows, lines) = ((x.rows() - first).min(32), self.steps * 2 * ROWS);
        let weights = &self.lines[panel * lines..][..lines];
        self.unit.multiply(&x.lines()[first * self.steps..], weights, self.steps, rows, sums);
    }
}

impl Default for Sums {
    fn default() -> Self {
        Self([0.0; 32 * PANEL])
    }
}

impl Unit {
    /// Before the first [`Self::multiply`] of a piece of work. (No closure around the work: it would not be compiled for
    /// the instruction set of the kernel around it.)
    #[inline(always)]
    pub(super) fn begin(self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self == Self::Amx {
            // SAFETY: `Unit::Amx` is only made where tiles are available.
            unsafe { amx::set_up() };
        }
    }

    /// After the last [`Self::multiply`] of a piece of work.
    #[inline(always)]
    pub(super) fn end(self) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self == Self::Amx {
            // SAFETY: as for `begin`.
            unsafe { amx::release() };
        }
    }

    /// The first `rows` (up to 32) rows of `x`, blocks of 16 rows with `steps` tiles each, times a panel of `weights` with
    /// two tiles a step. Only between [`Self::begin`] and [`Self::end`].
    #[inline(always)]
    pub(super) fn multiply(self, x: &[Line], weights: &[Line], steps: usize, rows: usize, sums: &mut Sums) {
        let blocks = rows.div_ceil(ROWS);
        let (x, weights) = (&x[..blocks * ROWS * steps], &weights[..steps * 2 * ROWS]);
        assert!((1..=2).contains(&blocks) && steps > 0);
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => {
                let (a, b) = (x.as_ptr().cast(), weights.as_ptr().cast());
                // SAFETY: `begin` has set the tiles up; `x` has `blocks * steps` tiles, `weights` two a step.
                match blocks {
                    2 => unsafe { amx::product_two(a, b, steps, &mut sums.0) },
                    _ => unsafe { amx::product_one(a, b, steps, &mut sums.0) },
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                for row in (0..rows).step_by(8) {
                    // SAFETY: `Unit::Avx512` is only made where the instructions are. Rows come by eights, and blocks of
                    // 16 are whole.
                    unsafe { x86::eight_rows(x, weights, steps, row, sums) };
                }
            }
            _ => plain(x, weights, steps, rows, sums),
        }
    }
}

/// The definition of the product of tiles.
fn plain(lines: &[Line], weights: &[Line], steps: usize, rows: usize, sums: &mut Sums) {
    for row in 0..rows {
        let x = (0..steps).flat_map(|step| &lines[line_at(row, step, steps)].0);
        let x: Vec<f32> = x.map(|x| widened(*x)).collect();
        for output in 0..PANEL {
            let weight = |input: usize| {
                let line = (input / STEP * 2 + output / 16) * ROWS + input % STEP / 2;
                widened(weights[line].0[output % 16 * 2 + input % 2])
            };
            sums.0[row * PANEL + output] = x.iter().enumerate().map(|(input, x)| x * weight(input)).sum();
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Line, PANEL, ROWS, Sums};

    /// Rows `row..row + 8` with a panel.
    ///
    /// # Safety
    /// The CPU must have the features. `lines` holds whole blocks of 16 rows that reach to `row + 8`; `weights` holds two
    /// tiles a step.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn eight_rows(lines: &[Line], weights: &[Line], steps: usize, row: usize, sums: &mut Sums) {
        let first = &lines[row / ROWS * steps * ROWS + row % ROWS..];
        assert!(weights.len() >= steps * 2 * ROWS && first.len() >= (steps - 1) * ROWS + 8);
        let mut totals = [[_mm512_setzero_ps(); 2]; 8];
        for step in 0..steps {
            for pair in 0..ROWS {
                // SAFETY: within `weights` and `first` by the assertion.
                unsafe {
                    let at = weights.as_ptr().add(step * 2 * ROWS + pair);
                    let low: __m512bh = std::mem::transmute(_mm512_load_si512(at.cast()));
                    let high: __m512bh = std::mem::transmute(_mm512_load_si512(at.add(ROWS).cast()));
                    let x = first.as_ptr().add(step * ROWS);
                    for (r, total) in totals.iter_mut().enumerate() {
                        let both = x.add(r).cast::<i32>().add(pair).read();
                        let both: __m512bh = std::mem::transmute(_mm512_set1_epi32(both));
                        total[0] = _mm512_dpbf16_ps(total[0], both, low);
                        total[1] = _mm512_dpbf16_ps(total[1], both, high);
                    }
                }
            }
        }
        for (r, total) in totals.iter().enumerate() {
            for (half, total) in total.iter().enumerate() {
                let to = &mut sums.0[(row + r) * PANEL + half * 16..][..16];
                // SAFETY: `to` has 16 numbers.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *total) };
            }
        }
    }
}
