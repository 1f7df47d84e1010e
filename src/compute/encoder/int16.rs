//! Products of 16-bit integers with sums in 32 bits: twice the multiplications a cycle of `f32`.
//!
//! Each row of activations has a scale and is rounded to whole numbers of at most [`LIMIT`]. Each output of the weights has a
//! scale, too, chosen so that the magnitudes of its whole numbers sum to at most `(2^31 - 1) / LIMIT`: no sum can
//! overflow, whatever a row holds. Sums are exact, so their order does not matter, and a product is one conversion, two
//! multiplications and an addition behind them. For MiniLM's widths weights keep 11 to 13 bits and activations 13: about
//! bfloat16's precision or better (`embed` tests the cosine with the `f32` vectors).
//!
//! Layout: activations are an [`Operand`]'s lines. A line of weights is 16 outputs for one pair of inputs, and a *panel* is
//! 32 outputs: for each step of 32 inputs 16 lines of its first and 16 of its second half. So one instruction multiplies
//! a pair of a row, broadcast from memory, with 16 outputs and adds both products to their sums (`vpdpwssd`; `vpmaddwd` and
//! `vpaddd` before VNNI).
//!
//! Cost: with AVX-512, eight rows by a panel are 16 sums in registers; each pair of inputs takes two loads of weights, eight
//! broadcasts and 16 multiplications of 32 MAC, two of them a cycle. A panel of 384 inputs is 24 KB and stays in the
//! first-level cache while all rows pass by.

use super::operand::{LIMIT, Line, Operand, ROWS, STEP, line_at};
use crate::compute::lanes::asked;

/// Outputs in a panel.
pub(super) const PANEL: usize = 32;
/// Rows multiplied at once.
pub(super) const TOGETHER: usize = 8;

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// The definition: for tests.
    Plain,
}

impl Unit {
    /// The fastest of this CPU, or what [`asked`] for less leaves; `None` where whole numbers would be slower than `f32`.
    pub(super) fn fastest() -> Option<Self> {
        let most = asked().unwrap_or("avx512vnni");
        Self::all().into_iter().find(|unit| match unit {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => most == "avx512vnni",
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => most != "avx2" && most != "scalar",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => most != "scalar",
            Self::Plain => false,
        })
    }

    /// All that this CPU can run, fastest first.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
                all.push(Self::Avx512Vnni);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni") {
                all.push(Self::AvxVnni);
            }
            if is_x86_feature_detected!("avx2") {
                all.push(Self::Avx2);
            }
        }
        all.push(Self::Plain);
        all
    }
}

/// A weight matrix of whole numbers.
pub(super) struct Ints {
    lines: Vec<Line>,
    /// What one is worth, for each output; filled up with zeros to whole panels.
    pub(super) scales: Vec<f32>,
    steps: usize,
    unit: Unit,
}

/// Sums of eight rows with the 32 outputs of a panel.
#[repr(align(64))]
pub(super) struct Sums(pub(super) [i32; TOGETHER * PANEL]);

impl Default for Sums {
    fn default() -> Self {
        Self([0; TOGETHER * PANEL])
    }
}

impl Ints {
    /// Rounds and packs `weights[outputs][inputs]`.
    pub(super) fn pack(unit: Unit, outputs: usize, inputs: usize, weights: &[f32]) -> Self {
        let (panels, steps) = (outputs.div_ceil(PANEL), inputs.div_ceil(STEP));
        let mut lines = vec![Line::ZERO; panels * steps * 2 * ROWS];
        let mut scales = vec![0.0; panels * PANEL];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let (panel, half, n) = (output / PANEL, output % PANEL / 16, output % 16);
            let per_unit = units_per_one(row);
            scales[output] = 1.0 / per_unit;
            for (input, weight) in row.iter().enumerate() {
                let (step, pair, second) = (input / STEP, input % STEP / 2, input % 2);
                let line = ((panel * steps + step) * 2 + half) * ROWS + pair;
                lines[line].0[2 * n + second] = (weight * per_unit).round_ties_even() as i16 as u16;
            }
        }
        Self { lines, scales, steps, unit }
    }

    /// Eight rows of `x` from `first` (a multiple of 8) times a panel. Rows that `x` does not have give anything.
    #[inline(always)]
    pub(super) fn multiply(&self, x: &Operand, first: usize, panel: usize, sums: &mut Sums) {
        let steps = self.steps;
        assert!(
            x.steps() == steps && first.is_multiple_of(TOGETHER),
            "rows of {} steps, weights of {steps}",
            x.steps()
        );
        let weights = &self.lines[panel * steps * 2 * ROWS..][..steps * 2 * ROWS];
        let x = &x.lines()[first / ROWS * ROWS * steps..][..steps * ROWS];
        let x = &x[first % ROWS..];
        match self.unit {
            // SAFETY (all three): a unit is only made where the CPU has it; `weights` has two halves of 16 lines a step, `x`
            // eight lines in each 16 of a step.
            #[cfg(target_arch = "x86_64")]
            Unit::Avx512Vnni => unsafe { x86::avx512_vnni(x, weights, steps, &mut sums.0) },
            #[cfg(target_arch = "x86_64")]
            Unit::AvxVnni => unsafe { x86::avx_vnni(x, weights, steps, &mut sums.0) },
            #[cfg(target_arch = "x86_64")]
            Unit::Avx2 => unsafe { x86::avx2(x, weights, steps, &mut sums.0) },
            Unit::Plain => plain(x, weights, steps, &mut sums.0),
        }
    }
}

/// How many whole numbers make one, for an output: as many as 16 bits and its sums allow.
fn units_per_one(row: &[f32]) -> f32 {
    let (mut largest, mut total) = (0f32, 0f64);
    for weight in row {
        largest = largest.max(weight.abs());
        total += f64::from(weight.abs());
    }
    // Rounding adds at most a half for each input.
    let room = f64::from(i32::MAX) / f64::from(LIMIT) - row.len() as f64 / 2.0 - 1.0;
    if largest > 0.0 { (f64::from(i16::MAX) / f64::from(largest)).min(room / total) as f32 } else { 1.0 }
}

impl Ints {
    /// Asks for the `part`th of `parts` of a panel's lines to be brought near: the next panel's weights come while this
    /// one's are used, whoever else has filled the caches meanwhile.
    #[inline(always)]
    pub(super) fn prefetch(&self, panel: usize, part: usize, parts: usize) {
        let lines = self.steps * 2 * ROWS;
        let here = lines.div_ceil(parts);
        let from = panel * lines + (part * here).min(lines);
        for line in self.lines.iter().skip(from).take(here) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: a prefetch reads nothing, and the address is a line of ours.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).cast());
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = line;
        }
    }
}

/// The definition: `x` is eight lines in each 16 of a step.
fn plain(x: &[Line], weights: &[Line], steps: usize, sums: &mut [i32; TOGETHER * PANEL]) {
    for row in 0..TOGETHER {
        for output in 0..PANEL {
            let mut sum = 0i32;
            for input in 0..steps * STEP {
                let (step, pair, second) = (input / STEP, input % STEP / 2, input % 2);
                let weight = weights[(step * 2 + output / 16) * ROWS + pair].0[output % 16 * 2 + second] as i16;
                let x = x[line_at(row, step, steps)].0[input % STEP] as i16;
                sum = sum.wrapping_add(i32::from(x) * i32::from(weight));
            }
            sums[row * PANEL + output] = sum;
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Line, PANEL, ROWS, TOGETHER};

    /// # Safety
    /// The CPU must have the features. `weights` holds two halves of 16 lines a step; `x` begins with eight lines of rows in
    /// each 16 lines of a step.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn avx512_vnni(x: &[Line], weights: &[Line], steps: usize, sums: &mut [i32; TOGETHER * PANEL]) {
        assert!(weights.len() >= steps * 2 * ROWS && x.len() >= (steps - 1) * ROWS + TOGETHER);
        let mut totals = [[_mm512_setzero_si512(); 2]; TOGETHER];
        for step in 0..steps {
            for pair in 0..ROWS {
                // SAFETY: within `weights` and `x` by the assertion; lines lie on 64 bytes.
                unsafe {
                    let at = weights.as_ptr().add(step * 2 * ROWS + pair);
                    let low = _mm512_load_si512(at.cast());
                    let high = _mm512_load_si512(at.add(ROWS).cast());
                    let x = x.as_ptr().add(step * ROWS);
                    for (row, total) in totals.iter_mut().enumerate() {
                        let both = _mm512_set1_epi32(x.add(row).cast::<i32>().add(pair).read());
                        total[0] = _mm512_dpwssd_epi32(total[0], both, low);
                        total[1] = _mm512_dpwssd_epi32(total[1], both, high);
                    }
                }
            }
        }
        for (row, total) in totals.iter().enumerate() {
            for (half, total) in total.iter().enumerate() {
                // SAFETY: 16 sums from there are within a row's 32.
                unsafe { _mm512_storeu_si512(sums.as_mut_ptr().add(row * PANEL + half * 16).cast(), *total) };
            }
        }
    }

    /// The kernel of 256 bits: four rows by 16 outputs at a time, which is what 16 registers hold.
    macro_rules! narrow {
        ($name:ident, $features:literal, |$sum:ident, $x:ident, $weight:ident| $step:expr) => {
            /// # Safety
            /// As for [`avx512_vnni`].
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(x: &[Line], weights: &[Line], steps: usize, sums: &mut [i32; TOGETHER * PANEL]) {
                assert!(weights.len() >= steps * 2 * ROWS && x.len() >= (steps - 1) * ROWS + TOGETHER);
                for part in 0..4 {
                    let (half, first) = (part % 2, part / 2 * 4);
                    let mut totals = [[_mm256_setzero_si256(); 2]; 4];
                    for step in 0..steps {
                        for pair in 0..ROWS {
                            // SAFETY: within `weights` and `x` by the assertion; lines lie on 64 bytes.
                            unsafe {
                                let at = weights.as_ptr().add((step * 2 + half) * ROWS + pair).cast::<__m256i>();
                                let line = [_mm256_load_si256(at), _mm256_load_si256(at.add(1))];
                                let x = x.as_ptr().add(step * ROWS + first);
                                for (row, total) in totals.iter_mut().enumerate() {
                                    let $x = _mm256_set1_epi32(x.add(row).cast::<i32>().add(pair).read());
                                    for ($sum, $weight) in total.iter_mut().zip(line) {
                                        *$sum = $step;
                                    }
                                }
                            }
                        }
                    }
                    for (row, total) in totals.iter().enumerate() {
                        for (quarter, total) in total.iter().enumerate() {
                            let at = (first + row) * PANEL + half * 16 + quarter * 8;
                            // SAFETY: eight sums from there are within a row's 32.
                            unsafe { _mm256_storeu_si256(sums.as_mut_ptr().add(at).cast(), *total) };
                        }
                    }
                }
            }
        };
    }

    narrow!(avx_vnni, "avx2,avxvnni", |sum, x, weight| _mm256_dpwssd_avx_epi32(*sum, x, weight));
    narrow!(avx2, "avx2", |sum, x, weight| _mm256_add_epi32(*sum, _mm256_madd_epi16(x, weight)));
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::compute::encoder::Precision;

    #[test]
    fn every_unit_gives_the_sums_of_the_definition() {
        let mut rng = StdRng::seed_from_u64(5);
        for _ in 0..20 {
            let (rows, inputs, outputs) = (rng.random_range(1..40), rng.random_range(1..130), rng.random_range(1..80));
            let mut numbers = |count: usize| (0..count).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<_>>();
            let (x, weights) = (numbers(rows * inputs), numbers(outputs * inputs));
            let mut operand = Operand::default();
            operand.take(Precision::Int16, &x, inputs);
            let sums_of = |unit: Unit| {
                let ints = Ints::pack(unit, outputs, inputs, &weights);
                let mut all = Vec::new();
                for (panel, first) in
                    (0..outputs.div_ceil(PANEL)).flat_map(|p| (0..rows).step_by(8).map(move |r| (p, r)))
                {
                    let mut sums = Sums::default();
                    ints.multiply(&operand, first, panel, &mut sums);
                    all.extend_from_slice(&sums.0[..TOGETHER.min(rows - first) * PANEL]);
                }
                all
            };
            let expected = sums_of(Unit::Plain);
            for unit in Unit::all() {
                assert!(sums_of(unit) == expected, "{unit:?} {rows}x{inputs}x{outputs}");
            }
        }
    }

    #[test]
    fn the_largest_sums_do_not_overflow() {
        for inputs in [1, 384, 1536, 20_000] {
            let weights = vec![0.7f32; inputs];
            let ints = Ints::pack(Unit::Plain, 1, inputs, &weights);
            let mut operand = Operand::default();
            operand.take(Precision::Int16, &vec![-3.0; inputs], inputs);
            let mut sums = Sums::default();
            ints.multiply(&operand, 0, 0, &mut sums);
            let got = sums.0[0] as f64 * f64::from(ints.scales[0]) * f64::from(operand.scales()[0]);
            let expected = -3.0 * 0.7 * inputs as f64;
            assert!(((got - expected) / expected).abs() < 0.05, "{inputs} inputs: {got}, not {expected}");
        }
    }
}
