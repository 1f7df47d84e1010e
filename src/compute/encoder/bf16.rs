//! Products of bfloat16 matrices with sums in `f32`.
//!
//! Activations are an [`Operand`]. Weights lie as AMX wants them, too: a line of weights is 16 outputs for one pair of
//! inputs. A *panel* is 32 outputs: for each step of 32 inputs two tiles side by side. One panel of MiniLM's products is 24
//! to 96 KB and meets all rows before the next one is touched. (AVX-512 BF16 could read the same tiles, but `vdpbf16ps`
//! takes two cycles where a multiply-add in `f32` takes half of one: 44 against 88 GMAC/s on a Sapphire Rapids.)
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
