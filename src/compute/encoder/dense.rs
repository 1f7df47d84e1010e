//! A dense layer: `then(x · Wᵀ + bias)`.

use super::bf16::{PANEL, Sums, Tiles, Unit};
use super::gelu::gelu;
use super::operand::{Operand, SharedOperand};
use crate::compute::lanes::{Isa, Lanes, dispatch};
use crate::compute::panels::Panels;
use crate::compute::parallel::{SharedOut, for_each_index};

/// How weights are held and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    F32,
    /// Where this CPU has a unit for it.
    Bf16,
}

impl Precision {
    /// bfloat16 where this CPU multiplies it faster than `f32`.
    pub(crate) fn fastest() -> Self {
        if Unit::fastest().is_some() { Self::Bf16 } else { Self::F32 }
    }
}

/// What is done to a product before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    Gelu,
}

/// A weight matrix with its bias.
pub(crate) struct Dense {
    weights: Weights,
    /// Filled up with zeros to whole panels.
    bias: Vec<f32>,
    outputs: usize,
    inputs: usize,
}

enum Weights {
    F32(Panels),
    Bf16(Tiles),
}

impl Dense {
    #[cfg(test)]
    fn precision(&self) -> Precision {
        match self.weights {
            Weights::F32(_) => Precision::F32,
            Weights::Bf16(_) => Precision::Bf16,
        }
    }

    /// Packs `weights[outputs][inputs]`.
    pub(crate) fn pack(precision: Precision, inputs: usize, weights: &[f32], bias: &[f32]) -> Self {
        let unit = match precision {
            Precision::F32 => None,
            Precision::Bf16 => Unit::fastest(),
        };
        Self::pack_for(unit, inputs, weights, bias)
    }

    fn pack_for(unit: Option<Unit>, inputs: usize, weights: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        assert!(weights.len() == outputs * inputs, "{} weights for {outputs} x {inputs}", weights.len());
        let packed = match unit {
            Some(unit) => Weights::Bf16(Tiles::pack(unit, outputs, inputs, weights)),
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
    pub(crate) fn product(&self, x: &Operand, then: Then, out: &mut Operand) {
        assert!(x.width() == self.inputs, "rows of {} numbers, weights for {}", x.width(), self.inputs);
        match &self.weights {
            Weights::F32(panels) => {
                out.shape(Precision::F32, x.rows(), self.outputs);
                panels.product_into(x.plain(), out.plain_mut());
                if then == Then::Gelu {
                    gelu_plain(out.plain_mut(), self.outputs);
                }
            }
            Weights::Bf16(tiles) => {
                out.shape(Precision::Bf16, x.rows(), self.outputs);
                let out = out.shared();
                self.panels(|panel| Job { dense: self, tiles, x, panel, then, out: Out::Operand(&out) });
            }
        }
    }

    /// `out[rows][outputs] = x · Wᵀ + bias`, plain.
    pub(crate) fn product_plain(&self, x: &Operand, out: &mut [f32]) {
        assert!(x.width() == self.inputs && x.rows() * self.outputs == out.len());
        match &self.weights {
            Weights::F32(panels) => panels.product_into(x.plain(), out),
            Weights::Bf16(tiles) => {
                let out = SharedOut::new(out);
                self.panels(|panel| Job { dense: self, tiles, x, panel, then: Then::Nothing, out: Out::Plain(&out) });
            }
        }
    }

    /// Does the job of every panel, over the cores.
    fn panels<'a>(&self, job: impl Fn(usize) -> Job<'a> + Sync) {
        let isa = Isa::widest();
        for_each_index(self.outputs.div_ceil(PANEL), |panel| {
            let job = job(panel);
            // SAFETY: `isa` is one that this CPU has; each panel writes its own columns.
            unsafe { dispatch!(isa, panel_product(job: Job<'_>)) };
        });
    }
}

/// Rows whose GELU is one piece of work.
const PIECE_ROWS: usize = 8;

/// GELU in place over rows of `width`.
fn gelu_plain(out: &mut [f32], width: usize) {
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
struct Job<'a> {
    dense: &'a Dense,
    tiles: &'a Tiles,
    x: &'a Operand,
    panel: usize,
    then: Then,
    out: Out<'a>,
}

/// Where a product goes.
enum Out<'a> {
    Operand(&'a SharedOperand<'a>),
    Plain(&'a SharedOut<'a>),
}

/// # Safety
/// As for [`Lanes`], and nobody else may use the panel's columns of `out`.
#[inline(always)]
unsafe fn panel_product<L: Lanes>(job: Job<'_>) {
    let first = job.panel * PANEL;
    let width = PANEL.min(job.dense.outputs - first);
    let bias = &job.dense.bias[first..first + PANEL];
    let rows = job.x.rows();
    // Tiles and vectors work side by side: the next block's product is under way while this one's sums are finished.
    let (mut even, mut odd) = (Sums::default(), Sums::default());
    job.tiles.unit.begin();
    job.tiles.multiply(job.x, 0, job.panel, &mut even);
    for row in (0..rows).step_by(32) {
        let (now, next) = if row % 64 == 0 { (&mut even, &mut odd) } else { (&mut odd, &mut even) };
        if row + 32 < rows {
            job.tiles.multiply(job.x, row + 32, job.panel, next);
        }
        for (r, sums) in now.0.chunks_exact_mut(PANEL).take(rows - row).enumerate() {
            // SAFETY: `sums` and `bias` have a panel's length, a multiple of every `L::N`; the columns of `out` are this
            // job's.
            unsafe {
                for i in (0..PANEL).step_by(L::N) {
                    let v = L::load(sums.as_ptr().add(i)).add(L::load(bias.as_ptr().add(i)));
                    let v = if job.then == Then::Gelu { gelu(v) } else { v };
                    v.store(sums.as_mut_ptr().add(i));
                }
                match job.out {
                    Out::Operand(out) => out.write(row + r, first, &sums[..width]),
                    Out::Plain(out) => {
                        let out = out.slice((row + r) * job.dense.outputs + first, width);
                        out.copy_from_slice(&sums[..width]);
                    }
                }
            }
        }
    }
    job.tiles.unit.end();
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
            dense.product_plain(&operand, &mut out);
            return out;
        }
        dense.product(&operand, then, &mut out);
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
                let expected = expected(&x, &w, &bias, inputs, unit.is_some(), then);
                for (got, expected) in out.iter().zip(&expected) {
                    let rounding = if unit.is_some() && then == Then::Gelu { expected.abs() / 128.0 } else { 0.0 };
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
