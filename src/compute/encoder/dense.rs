//! A dense layer: `then(x · Wᵀ + bias)`.

use super::bf16::{self, PANEL, Tiles};
use super::gelu::gelu;
use super::int16::{self, Ints, TOGETHER};
use super::operand::{Operand, SharedOperand};
use crate::compute::lanes::{Isa, Lanes, dispatch};
use crate::compute::panels::Panels;
use crate::compute::parallel::{SharedOut, for_each_index};

/// How weights are held and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    F32,
    /// Where this CPU has AMX.
    Bf16,
    /// Where this CPU has AVX2 or more.
    Int16,
}

impl Precision {
    /// This, or `f32` where the CPU has no unit for it.
    pub fn available(self) -> Self {
        if Unit::of(self).is_some() { self } else { Self::F32 }
    }

    /// What this CPU multiplies fastest.
    pub fn fastest() -> Self {
        match Unit::fastest() {
            None => Self::F32,
            Some(Unit::Bf16(_)) => Self::Bf16,
            Some(Unit::Int16(_)) => Self::Int16,
        }
    }
}

/// What multiplies where it is not `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bf16(bf16::Unit),
    Int16(int16::Unit),
}

impl Unit {
    fn fastest() -> Option<Self> {
        Self::of(Precision::Bf16).or_else(|| Self::of(Precision::Int16))
    }

    /// All that this CPU can run.
    #[cfg(test)]
    fn all() -> Vec<Self> {
        let bf16 = bf16::Unit::all().into_iter().map(Self::Bf16);
        bf16.chain(int16::Unit::all().into_iter().map(Self::Int16)).collect()
    }

    /// The fastest unit of a precision.
    fn of(precision: Precision) -> Option<Self> {
        match precision {
            Precision::F32 => None,
            Precision::Bf16 => bf16::Unit::fastest().map(Self::Bf16),
            Precision::Int16 => int16::Unit::fastest().map(Self::Int16),
        }
    }
}

/// What is done to a product before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Nothing,
    Gelu,
}

/// A weight matrix with its bias.
pub struct Dense {
    weights: Weights,
    /// Filled up with zeros to whole panels.
    bias: Vec<f32>,
    outputs: usize,
    inputs: usize,
}

enum Weights {
    F32(Panels),
    Bf16(Tiles),
    Int16(Ints),
}

impl Dense {
    #[cfg(test)]
    fn precision(&self) -> Precision {
        match self.weights {
            Weights::F32(_) => Precision::F32,
            Weights::Bf16(_) => Precision::Bf16,
            Weights::Int16(_) => Precision::Int16,
        }
    }

    /// Packs `weights[outputs][inputs]` in a precision that is [`Precision::available`].
    pub fn pack(precision: Precision, inputs: usize, weights: &[f32], bias: &[f32]) -> Self {
        Self::pack_for(Unit::of(precision), inputs, weights, bias)
    }

    fn pack_for(unit: Option<Unit>, inputs: usize, weights: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        assert!(weights.len() == outputs * inputs, "{} weights for {outputs} x {inputs}", weights.len());
        let packed = match unit {
            Some(Unit::Bf16(unit)) => Weights::Bf16(Tiles::pack(unit, outputs, inputs, weights)),
            Some(Unit::Int16(unit)) => Weights::Int16(Ints::pack(unit, outputs, inputs, weights)),
            None => {
                let fill = |first: usize, to: &mut [f32]| {
                    to.copy_from_slice(&weights[first * inputs..][..to.len()]);
                    Ok::<_, std::convert::Infallible>(())
                };
                match Panels::pack(outputs, inputs, Some(bias.to_vec()), fill) {
                    Ok(panels) => Weights::F32(panels),
                    Err(never) => match never {},
                }
            }
        };
        let mut bias = bias.to_vec();
        bias.resize(outputs.div_ceil(PANEL) * PANEL, 0.0);
        Self { weights: packed, bias, outputs, inputs }
    }

    /// `out = then(x · Wᵀ + bias)`, to be read by the next product or attention.
    pub fn product(&self, x: &mut Operand, then: Then, out: &mut Operand) {
        if let Weights::Bf16(_) = self.weights {
            out.shape(Precision::Bf16, x.rows(), self.outputs);
            let out = out.shared();
            return self.multiply(x, then, Out::Operand(&out));
        }
        out.shape(Precision::F32, x.rows(), self.outputs);
        self.multiply(x, then, Out::Plain(&SharedOut::new(out.plain_mut())));
    }

    /// `out[rows][outputs] = x · Wᵀ + bias`, plain.
    pub fn product_plain(&self, x: &mut Operand, out: &mut [f32]) {
        self.multiply(x, Then::Nothing, Out::Plain(&SharedOut::new(out)));
    }

    fn multiply(&self, x: &mut Operand, then: Then, out: Out<'_>) {
        assert!(x.width() == self.inputs, "rows of {} numbers, weights for {}", x.width(), self.inputs);
        match &self.weights {
            Weights::F32(panels) => {
                let Out::Plain(out) = out else { return };
                // SAFETY: nobody else has parts of `out` yet.
                let out = unsafe { out.slice(0, x.rows() * self.outputs) };
                panels.product_into(x.plain(), out);
                if then == Then::Gelu {
                    gelu_plain(out, self.outputs);
                }
            }
            Weights::Bf16(tiles) => self.panels(x, then, &out, |isa, job| {
                // SAFETY: `isa` is one that this CPU has; each panel writes its own columns.
                unsafe { dispatch!(isa, bf16_panel(job: Job<'_>, tiles: &Tiles)) };
            }),
            Weights::Int16(ints) => {
                x.make_integers();
                self.panels(x, then, &out, |isa, job| {
                    // SAFETY: as above.
                    unsafe { dispatch!(isa, int16_panel(job: Job<'_>, ints: &Ints)) };
                });
            }
        }
    }

    /// Does the job of every panel, over the cores.
    fn panels(&self, x: &Operand, then: Then, out: &Out<'_>, kernel: impl Fn(Isa, Job<'_>) + Sync) {
        let isa = Isa::widest();
        for_each_index(self.outputs.div_ceil(PANEL), |panel| kernel(isa, Job { dense: self, x, panel, then, out }));
    }
}

/// Rows whose GELU is one piece of work.
const PIECE_ROWS: usize = 8;

/// GELU in place over rows of `width`.
pub(super) fn gelu_plain(out: &mut [f32], width: usize) {
    let (isa, rows) = (Isa::widest(), out.len() / width);
    let shared = SharedOut::new(out);
    for_each_index(rows.div_ceil(PIECE_ROWS), |piece| {
        let first = piece * PIECE_ROWS;
        // SAFETY: pieces do not overlap.
        let out = unsafe { shared.slice(first * width, PIECE_ROWS.min(rows - first) * width) };
        // SAFETY: `isa` is one that this CPU has.
        unsafe { dispatch!(isa, gelu_rows(out: &mut [f32], width: usize)) };
    });
}

/// One panel's work.
#[derive(Clone, Copy)]
struct Job<'a> {
    dense: &'a Dense,
    x: &'a Operand,
    panel: usize,
    then: Then,
    out: &'a Out<'a>,
}

/// Where a product goes.
enum Out<'a> {
    Operand(&'a SharedOperand<'a>),
    Plain(&'a SharedOut<'a>),
}

impl Job<'_> {
    /// Writes a row's numbers, as many as the panel has.
    ///
    /// # Safety
    /// Nobody else may use the panel's columns of `out`.
    #[inline(always)]
    unsafe fn write(&self, row: usize, numbers: &[f32; PANEL]) {
        let first = self.panel * PANEL;
        let width = PANEL.min(self.dense.outputs - first);
        // SAFETY: by the caller.
        unsafe {
            match self.out {
                Out::Operand(out) => out.write(row, first, &numbers[..width]),
                Out::Plain(out) => {
                    let out = out.slice(row * self.dense.outputs + first, width);
                    match <&mut [f32; PANEL]>::try_from(&mut *out) {
                        Ok(out) => *out = *numbers,
                        Err(_) => out.copy_from_slice(&numbers[..width]),
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn bias(&self) -> &[f32] {
        &self.dense.bias[self.panel * PANEL..][..PANEL]
    }
}

/// # Safety
/// As for [`Lanes`], and nobody else may use the panel's columns of `out`.
#[inline(always)]
unsafe fn bf16_panel<L: Lanes>(job: Job<'_>, tiles: &Tiles) {
    let (rows, bias) = (job.x.rows(), job.bias());
    // Tiles and vectors work side by side: the next block's product is under way while this one's sums are finished.
    let (mut even, mut odd) = (bf16::Sums::default(), bf16::Sums::default());
    tiles.unit.begin();
    tiles.multiply(job.x, 0, job.panel, &mut even);
    for row in (0..rows).step_by(32) {
        let (now, next) = if row % 64 == 0 { (&mut even, &mut odd) } else { (&mut odd, &mut even) };
        if row + 32 < rows {
            tiles.multiply(job.x, row + 32, job.panel, next);
        }
        let (sums, _) = now.0.as_chunks_mut::<PANEL>();
        for (r, sums) in sums.iter_mut().take(rows - row).enumerate() {
            // SAFETY: `sums` and `bias` have a panel's length, a multiple of every `L::N`; the columns of `out` are this
            // job's.
            unsafe {
                for i in (0..PANEL).step_by(L::N) {
                    let v = L::load(sums.as_ptr().add(i)).add(L::load(bias.as_ptr().add(i)));
                    let v = if job.then == Then::Gelu { gelu(v) } else { v };
                    v.store(sums.as_mut_ptr().add(i));
                }
                job.write(row + r, sums);
            }
        }
    }
    tiles.unit.end();
}

/// # Safety
/// As for [`Lanes`], and nobody else may use the panel's columns of `out`.
#[inline(always)]
unsafe fn int16_panel<L: Lanes>(job: Job<'_>, ints: &Ints) {
    let (rows, bias) = (job.x.rows(), job.bias());
    let worth = &ints.scales[job.panel * PANEL..][..PANEL];
    let mut block = int16::Sums::default();
    for first in (0..rows).step_by(TOGETHER) {
        ints.multiply(job.x, first, job.panel, &mut block);
        ints.prefetch(job.panel + 1, first / TOGETHER, rows.div_ceil(TOGETHER));
        for (r, sums) in block.0.chunks_exact(PANEL).take(rows - first).enumerate() {
            let mut numbers = [0.0f32; PANEL];
            // SAFETY: all have a panel's length, a multiple of every `L::N`; the columns of `out` are this job's.
            unsafe {
                let scale = L::splat(job.x.scales()[first + r]);
                for i in (0..PANEL).step_by(L::N) {
                    let scale = scale.mul(L::load(worth.as_ptr().add(i)));
                    let v = L::load_ints(sums.as_ptr().add(i)).fma(scale, L::load(bias.as_ptr().add(i)));
                    let v = if job.then == Then::Gelu { gelu(v) } else { v };
                    v.store(numbers.as_mut_ptr().add(i));
                }
                job.write(first + r, &numbers);
            }
        }
    }
}

/// Row by row: whether a number lies in a vector or behind the last one must not depend on the rows beside it.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn gelu_rows<L: Lanes>(out: &mut [f32], width: usize) {
    for row in out.chunks_exact_mut(width) {
        let mut chunks = row.chunks_exact_mut(L::N);
        // SAFETY: a chunk has `L::N` numbers; a single `f32` is a vector of one lane.
        unsafe {
            for chunk in &mut chunks {
                gelu(L::load(chunk.as_ptr())).store(chunk.as_mut_ptr());
            }
            for x in chunks.into_remainder() {
                *x = gelu(*x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn random(rng: &mut StdRng, len: usize) -> Vec<f32> {
        (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// The product as `f32`; with GELU, what the next product would read.
    fn product(dense: &Dense, x: &[f32], then: Then) -> Vec<f32> {
        let (precision, rows) = (dense.precision(), x.len() / dense.inputs);
        let (mut operand, mut out) = (Operand::default(), Operand::default());
        operand.take(precision, x, dense.inputs);
        if then == Then::Nothing {
            let mut out = vec![0.0; rows * dense.outputs];
            dense.product_plain(&mut operand, &mut out);
            return out;
        }
        dense.product(&mut operand, then, &mut out);
        out.to_plain()
    }

    /// The definition, in `f64`, of numbers that are bfloat16 already where `bf16`.
    fn expected(x: &[f32], w: &[f32], bias: &[f32], inputs: usize, bf16: bool, then: Then) -> Vec<f64> {
        let number = |x: f32| if bf16 { half::bf16::from_f32(x).to_f64() } else { x as f64 };
        let mut out = Vec::new();
        for x in x.chunks(inputs) {
            for (w, bias) in w.chunks(inputs).zip(bias) {
                let sum: f64 = x.iter().zip(w).map(|(x, w)| number(*x) * number(*w)).sum::<f64>() + *bias as f64;
                // Reference: the error function as a sum over steps of its integral.
                let cdf = |x: f64| {
                    let (steps, from) = (4000, -9.0);
                    let h = (x - from) / steps as f64;
                    let at = |i: usize| (-(from + (i as f64 + 0.5) * h).powi(2) / 2.0).exp();
                    (0..steps).map(at).sum::<f64>() * h / (2.0 * std::f64::consts::PI).sqrt()
                };
                out.push(if then == Then::Gelu { sum * cdf(sum) } else { sum });
            }
        }
        out
    }

    #[test]
    fn products_of_random_shapes_match_the_definition_on_every_unit() {
        let mut rng = StdRng::seed_from_u64(7);
        let units: Vec<Option<Unit>> = Unit::all().into_iter().map(Some).chain([None]).collect();
        for case in 0..25 {
            let (rows, inputs, outputs) = (rng.random_range(1..70), rng.random_range(1..130), rng.random_range(1..100));
            let (x, w) = (random(&mut rng, rows * inputs), random(&mut rng, outputs * inputs));
            let bias = random(&mut rng, outputs);
            let then = if case % 5 == 0 { Then::Gelu } else { Then::Nothing };
            for unit in &units {
                let dense = Dense::pack_for(*unit, inputs, &w, &bias);
                let out = product(&dense, &x, then);
                let bf16 = matches!(unit, Some(Unit::Bf16(_)));
                let expected = expected(&x, &w, &bias, inputs, bf16, then);
                for (got, expected) in out.iter().zip(&expected) {
                    let rounding = match unit {
                        Some(Unit::Bf16(_)) if then == Then::Gelu => expected.abs() / 128.0,
                        // 13 bits of activations, 12 of weights: 2e-4 of a number each, at random.
                        Some(Unit::Int16(_)) => 4e-4 * (inputs as f64).sqrt(),
                        _ => 0.0,
                    };
                    assert!(
                        (*got as f64 - expected).abs() < 2e-5 + rounding,
                        "{unit:?} {rows}x{inputs}x{outputs}: {got} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_gives_the_same_bits_alone_and_among_others() {
        let mut rng = StdRng::seed_from_u64(8);
        let (rows, inputs, outputs) = (53, 70, 45);
        let (x, w) = (random(&mut rng, rows * inputs), random(&mut rng, outputs * inputs));
        let bias = random(&mut rng, outputs);
        for unit in Unit::all().into_iter().map(Some).chain([None]) {
            let dense = Dense::pack_for(unit, inputs, &w, &bias);
            for then in [Then::Nothing, Then::Gelu] {
                let together = product(&dense, &x, then);
                for row in 0..rows {
                    let alone = product(&dense, &x[row * inputs..][..inputs], then);
                    assert_eq!(alone, together[row * outputs..][..outputs], "{unit:?}");
                }
            }
        }
    }
}
