//! Low-rank products over tensors: in main memory by [`compute::LowRank`](crate::compute::LowRank), whose rows have the
//! same bits alone and among others; on other devices by candle's products.

use candle_core::{Device, Tensor};

use super::weights::{widen, with_slice};
use super::{CandleBackend, numbers};
use crate::compute::{self, Beside, ComputeError, PackedMatrix, low_rank};

/// What an adapter adds to one matrix.
pub enum LowRank {
    #[doc(hidden)]
    Memory(compute::LowRank),
    /// `a` is `[inputs][rank]`, `b` is `[rank][outputs]`, with the scale in it.
    #[doc(hidden)]
    Device { a: Tensor, b: Tensor },
}

impl LowRank {
    pub(super) fn load(
        a: &PackedMatrix<'_>,
        b: &PackedMatrix<'_>,
        scale: f32,
        device: &Device,
    ) -> Result<Self, ComputeError> {
        match device.is_cpu() {
            true => Ok(Self::Memory(compute::LowRank::new(a, b, scale)?)),
            false => Self::on_device(a, b, scale, device),
        }
    }

    fn on_device(
        a: &PackedMatrix<'_>,
        b: &PackedMatrix<'_>,
        scale: f32,
        device: &Device,
    ) -> Result<Self, ComputeError> {
        low_rank::check(a, b)?;
        let turned = |matrix: &PackedMatrix<'_>, scale: f32| -> Result<Tensor, ComputeError> {
            let numbers: Vec<f32> = widen(matrix)?.into_iter().map(|x| scale * x).collect();
            Ok(Tensor::from_vec(numbers, (matrix.rows, matrix.cols), device)?.t()?.contiguous()?)
        };
        Ok(Self::Device { a: turned(a, 1.0)?, b: turned(b, scale)? })
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Memory(product) => product.bytes(),
            Self::Device { a, b } => (a.elem_count() + b.elem_count()) * size_of::<f32>(),
        }
    }
}

/// `y`, the product of a matrix with all rows of `x`, and what is beside it.
pub(super) fn added(x: &Tensor, beside: &[Beside<'_, CandleBackend>], mut y: Tensor) -> Result<Tensor, ComputeError> {
    for Beside { rows, product } in beside {
        let (from, to) = (x.dim(1)?, y.dim(1)?);
        y = match product {
            LowRank::Memory(product) => {
                let mut sums = numbers(&y)?;
                with_slice(x, |x| {
                    product.add(&x[rows.start * from..rows.end * from], &mut sums[rows.start * to..rows.end * to])
                })?;
                Tensor::from_vec(sums, y.shape(), y.device())?
            }
            LowRank::Device { a, b } => {
                let sums = x.narrow(0, rows.start, rows.len())?.contiguous()?.matmul(a)?.matmul(b)?;
                let sums = (y.narrow(0, rows.start, rows.len())? + sums)?;
                y.slice_assign(&[rows.clone(), 0..to], &sums)?
            }
        };
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::Format;

    #[test]
    fn a_devices_products_are_those_in_main_memory() {
        let numbers_of = |len: usize, step: f32| -> Vec<f32> { (0..len).map(|i| (i as f32 * step).sin()).collect() };
        let bytes = |numbers: &[f32]| -> Vec<u8> { numbers.iter().flat_map(|x| x.to_le_bytes()).collect() };
        let (a, b) = (bytes(&numbers_of(3 * 8, 0.7)), bytes(&numbers_of(10 * 3, 1.3)));
        let a = PackedMatrix { name: "a", format: Format::F32, rows: 3, cols: 8, bytes: &a };
        let b = PackedMatrix { name: "b", format: Format::F32, rows: 10, cols: 3, bytes: &b };
        let x = Tensor::from_vec(numbers_of(5 * 8, 0.3), (5, 8), &Device::Cpu).unwrap();
        let y = Tensor::from_vec(numbers_of(5 * 10, 0.9), (5, 10), &Device::Cpu).unwrap();
        let both = [LowRank::load(&a, &b, 0.4, &Device::Cpu), LowRank::on_device(&a, &b, 0.4, &Device::Cpu)];
        let sums = both.map(|product| {
            let product = &product.unwrap();
            numbers(&added(&x, &[Beside { rows: 1..4, product }], y.clone()).unwrap()).unwrap()
        });
        let plain = numbers(&y).unwrap();
        assert_eq!((&sums[0][..10], &sums[0][40..]), (&plain[..10], &plain[40..]));
        assert!(sums[0][10..40].iter().zip(&plain[10..40]).any(|(a, b)| (a - b).abs() > 0.1));
        assert!(sums[0].iter().zip(&sums[1]).all(|(a, b)| (a - b).abs() < 1e-5), "{sums:?}");
    }
}
