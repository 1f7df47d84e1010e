//! Low-rank products beside a matrix (LoRA, Hu et al. 2021): `y += scale * B(A x)`.

use super::panels::Panels;
use super::parallel::{SharedOut, for_each_index};
use super::{ComputeError, Format, PackedMatrix, widened};

/// Numbers in one piece of the addition.
const PIECE: usize = 16 * 1024;

/// What an adapter adds to one matrix, in main memory. A row's sums are the same bits whatever rows are beside it.
pub struct LowRank {
    a: Panels,
    b: Panels,
    scale: f32,
}

impl LowRank {
    /// `a` is `[rank][inputs]`, `b` is `[outputs][rank]`. Half-precision numbers stay as they are, others are widened.
    ///
    /// # Errors
    /// Two matrices that do not fit, or bytes that do not make them.
    pub(super) fn new(a: &PackedMatrix<'_>, b: &PackedMatrix<'_>, scale: f32) -> Result<Self, ComputeError> {
        check(a, b)?;
        Ok(Self { a: panels(a)?, b: panels(b)?, scale })
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.a.bytes() + self.b.bytes()
    }

    /// `y += scale * B(A x)`, for all rows of `x` (`[rows][inputs]`) and `y` (`[rows][outputs]`).
    ///
    /// # Errors
    /// Rows of other widths.
    pub(super) fn add(&self, x: &[f32], y: &mut [f32]) -> Result<(), ComputeError> {
        let (inputs, outputs) = (self.a.inputs(), self.b.outputs());
        let rows = x.len() / inputs;
        if x.len() != rows * inputs || y.len() != rows * outputs {
            return Err(ComputeError::Step(format!(
                "an adapter of {inputs} to {outputs} does not take {} numbers to {}",
                x.len(),
                y.len()
            )));
        }
        let sums = self.b.product(&self.a.product(x));
        let len = y.len();
        let y = SharedOut::new(y);
        for_each_index(len.div_ceil(PIECE), |piece| {
            let from = piece * PIECE;
            let here = PIECE.min(len - from);
            // SAFETY: pieces do not overlap.
            let y = unsafe { y.slice(from, here) };
            y.iter_mut().zip(&sums[from..]).for_each(|(y, sum)| *y += self.scale * sum);
        });
        Ok(())
    }
}

/// Refuses two matrices that are no pair.
pub(super) fn check(a: &PackedMatrix<'_>, b: &PackedMatrix<'_>) -> Result<(), ComputeError> {
    for matrix in [a, b] {
        let bytes = matrix.format.matrix_bytes(matrix.rows, matrix.cols);
        if bytes != Some(matrix.bytes.len()) || matrix.rows == 0 || matrix.cols == 0 {
            return Err(ComputeError::Weight {
                name: matrix.name.into(),
                reason: format!(
                    "{} bytes do not make {} rows of {} in {:?}",
                    matrix.bytes.len(),
                    matrix.rows,
                    matrix.cols,
                    matrix.format
                ),
            });
        }
    }
    match a.rows == b.cols {
        true => Ok(()),
        false => Err(ComputeError::Weight {
            name: a.name.into(),
            reason: format!("is of rank {}, and `{}` of rank {}", a.rows, b.name, b.cols),
        }),
    }
}

fn panels(matrix: &PackedMatrix<'_>) -> Result<Panels, ComputeError> {
    let PackedMatrix { format, rows, cols, bytes, .. } = *matrix;
    match format {
        Format::F16 => Ok(Panels::pack_halves(rows, cols, bytes)),
        Format::BF16 => Ok(Panels::pack_bfloats(rows, cols, bytes)),
        _ => {
            let numbers = widened(matrix)?;
            Panels::pack(rows, cols, None, |first, to| {
                to.copy_from_slice(&numbers[first * cols..][..to.len()]);
                Ok(())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    fn matrix<'a>(name: &'a str, rows: usize, cols: usize, bytes: &'a [u8]) -> PackedMatrix<'a> {
        PackedMatrix { name, format: Format::F32, rows, cols, bytes }
    }

    #[test]
    fn the_product_is_the_definitions_and_a_row_has_the_same_bits_alone() {
        let mut rng = StdRng::seed_from_u64(3);
        let (rows, inputs, rank, outputs) = (7, 50, 5, 70);
        let mut random = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let (a, b, x, y) =
            (random(rank * inputs), random(outputs * rank), random(rows * inputs), random(rows * outputs));
        let (a_bytes, b_bytes) = (bytes(&a), bytes(&b));
        let pair = [matrix("a", rank, inputs, &a_bytes), matrix("b", outputs, rank, &b_bytes)];
        let product = LowRank::new(&pair[0], &pair[1], 0.7).unwrap();
        let mut all = y.clone();
        product.add(&x, &mut all).unwrap();
        for row in 0..rows {
            let mut alone = y[row * outputs..][..outputs].to_vec();
            product.add(&x[row * inputs..][..inputs], &mut alone).unwrap();
            assert_eq!(alone, all[row * outputs..][..outputs]);
            for (o, got) in alone.iter().enumerate() {
                let inner = |r: usize| -> f64 {
                    (0..inputs).map(|i| a[r * inputs + i] as f64 * x[row * inputs + i] as f64).sum()
                };
                let sum: f64 = (0..rank).map(|r| b[o * rank + r] as f64 * inner(r)).sum();
                let expected = y[row * outputs + o] as f64 + 0.7 * sum;
                assert!((*got as f64 - expected).abs() < 1e-4, "{got} instead of {expected}");
            }
        }
    }

    #[test]
    fn half_precision_pairs_give_the_bits_of_their_widened_numbers_and_take_half_the_memory() {
        let numbers = |len: usize| (0..len).map(|i| half::f16::from_f32((i as f32 * 0.7).sin()));
        let (rank, inputs, outputs) = (3, 40, 33);
        let narrow = |len| -> Vec<u8> { numbers(len).flat_map(half::f16::to_le_bytes).collect() };
        let wide = |len| -> Vec<u8> { bytes(&numbers(len).map(half::f16::to_f32).collect::<Vec<_>>()) };
        let (a, b) = ([narrow(rank * inputs), wide(rank * inputs)], [narrow(outputs * rank), wide(outputs * rank)]);
        let x: Vec<f32> = (0..2 * inputs).map(|i| (i as f32 * 0.3).cos()).collect();
        let mut got = Vec::new();
        for (kind, format) in [Format::F16, Format::F32].into_iter().enumerate() {
            let a = PackedMatrix { format, ..matrix("a", rank, inputs, &a[kind]) };
            let b = PackedMatrix { format, ..matrix("b", outputs, rank, &b[kind]) };
            let product = LowRank::new(&a, &b, 1.5).unwrap();
            let mut y = vec![0.25; 2 * outputs];
            product.add(&x, &mut y).unwrap();
            got.push((product.bytes(), y));
        }
        assert_eq!(2 * got[0].0, got[1].0);
        assert_eq!(got[0].1, got[1].1);
    }

    #[test]
    fn matrices_that_are_no_pair_are_refused() {
        let numbers = bytes(&[0.0; 12]);
        let refused = |a: PackedMatrix<'_>, b: PackedMatrix<'_>| LowRank::new(&a, &b, 1.0).err().unwrap().to_string();
        assert!(
            refused(matrix("a", 2, 6, &numbers), matrix("b", 4, 3, &numbers)).contains("rank 2, and `b` of rank 3")
        );
        assert!(refused(matrix("a", 2, 5, &numbers), matrix("b", 6, 2, &numbers)).contains("48 bytes do not make 2"));
        let product = LowRank::new(&matrix("a", 2, 6, &numbers), &matrix("b", 6, 2, &numbers), 1.0).unwrap();
        assert!(product.add(&[0.0; 5], &mut [0.0; 6]).is_err());
    }
}
