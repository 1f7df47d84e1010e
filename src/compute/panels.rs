//! Products with F32 weights, packed in panels of 32 outputs.
//!
//! `out[row][o] = bias[o] + Σ_k x[row][k] * w[o][k]`. A panel holds 32 outputs as `[k][32]`, so that one step of `k`
//! loads two (AVX-512) vectors of weights and multiplies them with one broadcast activation of each of up to 8 rows (16
//! sums; 24 would fit the registers too, but then the compiler keeps them in memory): the activations need no packing
//! and every weight is read once per 8 rows. Each output sums over `k` in order,
//! whatever the number of rows: a row's result does not depend on the rows beside it, to the last bit.

use super::lanes::{Isa, Lanes, dispatch};
use super::parallel::{SharedOut, for_each_index};

/// Outputs in a panel.
pub(super) const PANEL: usize = 32;

/// A weight matrix in panels.
pub(super) struct Panels {
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    outputs: usize,
    inputs: usize,
    isa: Isa,
}

impl Panels {
    /// Packs `outputs` rows of `inputs` weights. `fill(first, rows)` writes the weights of outputs
    /// `first..first + rows.len() / inputs`, row after row; it is called for one panel at a time, from several threads.
    pub(super) fn pack<E: Send>(
        outputs: usize,
        inputs: usize,
        bias: Option<Vec<f32>>,
        fill: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let count = outputs.div_ceil(PANEL);
        let mut weights = vec![0.0f32; count * PANEL * inputs];
        let shared = SharedOut::new(&mut weights);
        let failure = std::sync::Mutex::new(None);
        for_each_index(count, |panel| {
            let first = panel * PANEL;
            let here = PANEL.min(outputs - first);
            let mut rows = vec![0.0f32; here * inputs];
            if let Err(error) = fill(first, &mut rows) {
                failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
                return;
            }
            // SAFETY: each panel is one index, and panels do not overlap.
            let packed = unsafe { shared.slice(panel * PANEL * inputs, PANEL * inputs) };
            for (lane, row) in rows.chunks_exact(inputs).enumerate() {
                for (k, weight) in row.iter().enumerate() {
                    packed[k * PANEL + lane] = *weight;
                }
            }
        });
        match failure.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(error) => Err(error),
            None => Ok(Self { weights, bias, outputs, inputs, isa: Isa::widest() }),
        }
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// The weights of one output.
    pub(super) fn row(&self, output: usize, to: &mut [f32]) {
        let panel = &self.weights[output / PANEL * PANEL * self.inputs..];
        to.iter_mut().zip(panel.iter().skip(output % PANEL).step_by(PANEL)).for_each(|(to, weight)| *to = *weight);
    }

    /// The product of all rows of `x` (`[rows][inputs]`) as `[rows][outputs]`.
    pub(super) fn product(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0f32; x.len() / self.inputs * self.outputs];
        self.product_into(x, &mut out);
        out
    }

    /// As [`Self::product`], into memory that is there.
    pub(super) fn product_into(&self, x: &[f32], out: &mut [f32]) {
        assert!(x.len() / self.inputs * self.outputs == out.len());
        let shared = SharedOut::new(out);
        for_each_index(self.outputs.div_ceil(PANEL), |panel| {
            let first = panel * PANEL;
            let tile = Tile {
                x,
                weights: &self.weights[first * self.inputs..][..PANEL * self.inputs],
                inputs: self.inputs,
                outputs: self.outputs,
                first,
                bias: self.bias.as_deref(),
                out: &shared,
            };
            // SAFETY: `isa` was detected on this CPU; each panel writes its own columns of `out`.
            unsafe { dispatch!(self.isa, panel_product(tile: Tile<'_>)) }
        });
    }
}

/// One panel's work: its columns for all rows.
struct Tile<'a> {
    x: &'a [f32],
    weights: &'a [f32],
    inputs: usize,
    outputs: usize,
    first: usize,
    bias: Option<&'a [f32]>,
    out: &'a SharedOut<'a>,
}

/// # Safety
/// The CPU must have `L`'s instruction set, and nobody else may use the panel's columns of `out`.
#[inline(always)]
unsafe fn panel_product<L: Lanes>(tile: Tile<'_>) {
    let rows = tile.x.len() / tile.inputs;
    let mut row = 0;
    // SAFETY: passed on from the caller; `row + R <= rows` in every branch.
    unsafe {
        while row < rows {
            let left = rows - row;
            row += match left {
                _ if L::ROWS >= 8 && left >= 8 => rows_product::<L, 8>(&tile, row),
                _ if left >= 4 => rows_product::<L, 4>(&tile, row),
                _ if left >= 2 => rows_product::<L, 2>(&tile, row),
                _ => rows_product::<L, 1>(&tile, row),
            };
        }
    }
}

/// Multiplies `R` rows from `row` with the panel; gives `R`.
///
/// # Safety
/// As for [`panel_product`], and `row + R` must be within `x`.
#[inline(always)]
unsafe fn rows_product<L: Lanes, const R: usize>(tile: &Tile<'_>, row: usize) -> usize {
    let inputs = tile.inputs;
    let x = tile.x[row * inputs..][..R * inputs].as_ptr();
    let width = PANEL.min(tile.outputs - tile.first);
    let mut column = 0;
    // SAFETY: `x` covers `R * inputs` numbers, `weights` has `inputs * PANEL`, and `column + 2 * L::N <= PANEL`.
    unsafe {
        while column < width {
            let weights = tile.weights.as_ptr().add(column);
            let mut sums = [[L::splat(0.0); 2]; R];
            for k in 0..inputs {
                let w = weights.add(k * PANEL);
                let (w0, w1) = (L::load(w), L::load(w.add(L::N)));
                for r in 0..R {
                    let a = L::splat(*x.add(r * inputs + k));
                    sums[r][0] = a.fma(w0, sums[r][0]);
                    sums[r][1] = a.fma(w1, sums[r][1]);
                }
            }
            let mut line = [0.0f32; PANEL];
            for (r, [s0, s1]) in sums.iter().enumerate() {
                s0.store(line.as_mut_ptr());
                s1.store(line.as_mut_ptr().add(L::N));
                let here = (2 * L::N).min(width - column);
                let at = tile.first + column;
                let out = tile.out.slice((row + r) * tile.outputs + at, here);
                match tile.bias {
                    Some(bias) => {
                        for ((o, s), b) in out.iter_mut().zip(&line).zip(&bias[at..at + here]) {
                            *o = s + b;
                        }
                    }
                    None => out.copy_from_slice(&line[..here]),
                }
            }
            column += 2 * L::N;
        }
    }
    R
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn random(rng: &mut StdRng, len: usize) -> Vec<f32> {
        (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// The definition, in `f64`.
    fn plain(x: &[f32], w: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) -> Vec<f64> {
        let dot = |x: &[f32], o: usize| -> f64 {
            let sum: f64 = x.iter().zip(&w[o * inputs..]).map(|(a, b)| *a as f64 * *b as f64).sum();
            sum + bias.map_or(0.0, |b| b[o] as f64)
        };
        x.chunks(inputs).flat_map(|x| (0..outputs).map(move |o| (x, o))).map(|(x, o)| dot(x, o)).collect()
    }

    #[test]
    fn products_of_random_shapes_match_the_definition_on_every_instruction_set() {
        let mut rng = StdRng::seed_from_u64(7);
        for _ in 0..40 {
            let (rows, inputs, outputs) = (rng.random_range(1..30), rng.random_range(1..100), rng.random_range(1..150));
            let x = random(&mut rng, rows * inputs);
            let w = random(&mut rng, outputs * inputs);
            let bias = rng.random_bool(0.5).then(|| random(&mut rng, outputs));
            let mut panels = Panels::pack(outputs, inputs, bias.clone(), |first, to| {
                to.copy_from_slice(&w[first * inputs..][..to.len()]);
                Ok::<_, ()>(())
            })
            .unwrap();
            let expected = plain(&x, &w, bias.as_deref(), inputs, outputs);
            for isa in Isa::all() {
                panels.isa = isa;
                for (got, expected) in panels.product(&x).iter().zip(&expected) {
                    assert!((*got as f64 - expected).abs() < 1e-4, "{isa:?} {rows}x{inputs}x{outputs}");
                }
            }
        }
    }

    #[test]
    fn a_row_gives_the_same_bits_alone_and_among_others() {
        let mut rng = StdRng::seed_from_u64(8);
        let (rows, inputs, outputs) = (29, 77, 70);
        let x = random(&mut rng, rows * inputs);
        let w = random(&mut rng, outputs * inputs);
        let panels = Panels::pack(outputs, inputs, None, |first, to| {
            to.copy_from_slice(&w[first * inputs..][..to.len()]);
            Ok::<_, ()>(())
        })
        .unwrap();
        let together = panels.product(&x);
        for row in 0..rows {
            let alone = panels.product(&x[row * inputs..][..inputs]);
            assert_eq!(alone, together[row * outputs..][..outputs]);
        }
    }
}
