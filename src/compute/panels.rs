//! Products with float weights, packed in panels of 32 outputs at the precision that they have: F32, F16 or BF16.
//!
//! `out[row][o] = bias[o] + Σ_k x[row][k] * w[o][k]`. A panel holds 32 outputs as `[k][32]`, so that one step of `k`
//! loads two (AVX-512) vectors of weights and multiplies them with one broadcast activation of each of up to 8 rows (16
//! sums; 24 would fit the registers too, but then the compiler keeps them in memory): the activations need no packing
//! and every weight is read, and where it is narrower widened, once per 8 rows. Each output sums over `k` in order,
//! whatever the number of rows: a row's result does not depend on the rows beside it, to the last bit.

use half::{bf16, f16};

use super::lanes::{Isa, Lanes, dispatch};
use super::parallel::{SharedOut, for_each_index};

/// Outputs in a panel.
pub(super) const PANEL: usize = 32;

/// Weights, panel after panel.
enum Numbers {
    Single(Vec<f32>),
    Half(Vec<f16>),
    Bfloat(Vec<bf16>),
}

/// A kind of stored numbers.
pub(super) trait Number: Copy {
    /// Widens as many as a vector has.
    ///
    /// # Safety
    /// As for [`Lanes`].
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L;
}

/// One panel's weights.
#[derive(Clone, Copy)]
enum Panel<'a> {
    Single(&'a [f32]),
    Half(&'a [f16]),
    Bfloat(&'a [bf16]),
}

/// A weight matrix in panels.
pub(super) struct Panels {
    weights: Numbers,
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
            None => Ok(Self { weights: Numbers::Single(weights), bias, outputs, inputs, isa: Isa::widest() }),
        }
    }

    /// Packs `outputs` rows of `inputs` half-precision numbers as they are; the bytes are little-endian.
    pub(super) fn pack_halves(outputs: usize, inputs: usize, bytes: &[u8]) -> Self {
        let weights = Numbers::Half(pack_narrow(outputs, inputs, bytes, f16::from_le_bytes));
        Self { weights, bias: None, outputs, inputs, isa: Isa::widest() }
    }

    /// The same for `bfloat16` numbers.
    pub(super) fn pack_bfloats(outputs: usize, inputs: usize, bytes: &[u8]) -> Self {
        let weights = Numbers::Bfloat(pack_narrow(outputs, inputs, bytes, bf16::from_le_bytes));
        Self { weights, bias: None, outputs, inputs, isa: Isa::widest() }
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// The weights of one output.
    pub(super) fn row(&self, output: usize, to: &mut [f32]) {
        let lane = output % PANEL;
        let to = to.iter_mut();
        match self.panel(output / PANEL) {
            Panel::Single(panel) => to.zip(panel[lane..].iter().step_by(PANEL)).for_each(|(to, w)| *to = *w),
            Panel::Half(panel) => to.zip(panel[lane..].iter().step_by(PANEL)).for_each(|(to, w)| *to = w.to_f32()),
            Panel::Bfloat(panel) => to.zip(panel[lane..].iter().step_by(PANEL)).for_each(|(to, w)| *to = w.to_f32()),
        }
    }

    fn panel(&self, number: usize) -> Panel<'_> {
        let size = PANEL * self.inputs;
        let range = number * size..(number + 1) * size;
        match &self.weights {
            Numbers::Single(weights) => Panel::Single(&weights[range]),
            Numbers::Half(weights) => Panel::Half(&weights[range]),
            Numbers::Bfloat(weights) => Panel::Bfloat(&weights[range]),
        }
    }

    /// Bytes of all weights.
    pub(super) fn bytes(&self) -> usize {
        match &self.weights {
            Numbers::Single(weights) => size_of_val(&weights[..]),
            Numbers::Half(weights) => size_of_val(&weights[..]),
            Numbers::Bfloat(weights) => size_of_val(&weights[..]),
        }
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
                weights: self.panel(panel),
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

impl Number for f32 {
    #[inline(always)]
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L {
        // SAFETY: passed on from the caller.
        unsafe { L::load(from) }
    }
}

impl Number for f16 {
    #[inline(always)]
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L {
        // SAFETY: passed on from the caller.
        unsafe { L::load_halves(from) }
    }
}

impl Number for bf16 {
    #[inline(always)]
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L {
        // SAFETY: passed on from the caller.
        unsafe { L::load_bfloats(from) }
    }
}

/// Lays numbers of 16 bits out in panels, panels spread over the cores.
fn pack_narrow<W: Copy + Default + Send + Sync>(
    outputs: usize,
    inputs: usize,
    bytes: &[u8],
    number: fn([u8; 2]) -> W,
) -> Vec<W> {
    let count = outputs.div_ceil(PANEL);
    let mut weights = vec![W::default(); count * PANEL * inputs];
    let shared = SharedOut::new(&mut weights);
    let (pairs, _) = bytes.as_chunks::<2>();
    for_each_index(count, |panel| {
        // SAFETY: each panel is one index, and panels do not overlap.
        let packed = unsafe { shared.slice(panel * PANEL * inputs, PANEL * inputs) };
        for (lane, row) in pairs.chunks_exact(inputs).skip(panel * PANEL).take(PANEL).enumerate() {
            for (weight, pair) in packed[lane..].iter_mut().step_by(PANEL).zip(row) {
                *weight = number(*pair);
            }
        }
    });
    weights
}

/// One panel's work: its columns for all rows.
struct Tile<'a> {
    x: &'a [f32],
    weights: Panel<'a>,
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
    // SAFETY: passed on from the caller.
    unsafe {
        match tile.weights {
            Panel::Single(weights) => all_rows::<L, f32>(&tile, weights),
            Panel::Half(weights) => all_rows::<L, f16>(&tile, weights),
            Panel::Bfloat(weights) => all_rows::<L, bf16>(&tile, weights),
        }
    }
}

/// # Safety
/// As for [`panel_product`]; `weights` is the whole panel.
#[inline(always)]
unsafe fn all_rows<L: Lanes, W: Number>(tile: &Tile<'_>, weights: &[W]) {
    let rows = tile.x.len() / tile.inputs;
    let mut row = 0;
    // SAFETY: passed on from the caller; `row + R <= rows` in every branch.
    unsafe {
        while row < rows {
            let left = rows - row;
            row += match left {
                _ if L::ROWS >= 8 && left >= 8 => rows_product::<L, W, 8>(tile, weights, row),
                _ if L::ROWS >= 4 && left >= 4 => rows_product::<L, W, 4>(tile, weights, row),
                _ if left >= 2 => rows_product::<L, W, 2>(tile, weights, row),
                _ => rows_product::<L, W, 1>(tile, weights, row),
            };
        }
    }
}

/// Multiplies `R` rows from `row` with the panel; gives `R`.
///
/// # Safety
/// As for [`panel_product`], and `row + R` must be within `x`.
#[inline(always)]
unsafe fn rows_product<L: Lanes, W: Number, const R: usize>(tile: &Tile<'_>, weights: &[W], row: usize) -> usize {
    let inputs = tile.inputs;
    let x = tile.x[row * inputs..][..R * inputs].as_ptr();
    let width = PANEL.min(tile.outputs - tile.first);
    let mut column = 0;
    // SAFETY: `x` covers `R * inputs` numbers, `weights` has `inputs * PANEL`, and `column + 2 * L::N <= PANEL`.
    unsafe {
        while column < width {
            let weights = weights.as_ptr().add(column);
            let mut sums = [[L::splat(0.0); 2]; R];
            for k in 0..inputs {
                let w = weights.add(k * PANEL);
                let (w0, w1) = (W::lanes::<L>(w), W::lanes::<L>(w.add(L::N)));
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
    fn narrow_weights_give_the_bits_of_the_same_weights_widened_and_take_half_the_memory() {
        let mut rng = StdRng::seed_from_u64(9);
        for round in 0..20 {
            let (rows, inputs, outputs) = (rng.random_range(1..30), rng.random_range(1..100), rng.random_range(1..150));
            let x = random(&mut rng, rows * inputs);
            let w = random(&mut rng, outputs * inputs);
            let (bytes, wide): (Vec<[u8; 2]>, Vec<f32>) = match round % 2 {
                0 => w.iter().map(|w| (f16::from_f32(*w).to_le_bytes(), f16::from_f32(*w).to_f32())).unzip(),
                _ => w.iter().map(|w| (bf16::from_f32(*w).to_le_bytes(), bf16::from_f32(*w).to_f32())).unzip(),
            };
            let pack = if round % 2 == 0 { Panels::pack_halves } else { Panels::pack_bfloats };
            let mut narrow = pack(outputs, inputs, bytes.as_flattened());
            let fill = |first: usize, to: &mut [f32]| {
                to.copy_from_slice(&wide[first * inputs..][..to.len()]);
                Ok::<_, ()>(())
            };
            let mut single = Panels::pack(outputs, inputs, None, fill).unwrap();
            assert_eq!(2 * narrow.bytes(), single.bytes());
            for isa in Isa::all() {
                (narrow.isa, single.isa) = (isa, isa);
                assert_eq!(narrow.product(&x), single.product(&x), "{isa:?} {rows}x{inputs}x{outputs}");
            }
            let mut row = vec![0.0; inputs];
            narrow.row(outputs - 1, &mut row);
            assert_eq!(row, wide[(outputs - 1) * inputs..]);
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
