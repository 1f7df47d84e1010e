//! Many vectors in 4 bits, to be compared with one: a matrix whose product with a query is its likeness to each of them.
//!
//! It is a Q4_0 matrix like a model's and goes through the same kernels, so 100,000 vectors of 384 numbers are 21 MB and
//! two milliseconds of memory. A product is off by about a hundredth: it says which vectors to look at, not their order.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::packed::Packed;
use super::passes;
use super::product::{GROUP, for_each_group};
use super::rounded::RoundedRows;
use super::tile::{BLOCK, Isa};
use crate::compute::parallel::SharedOut;
use crate::compute::{ComputeError, Format, PackedMatrix};

/// Vectors that are rounded at a time, so that few are there in full.
const ROUNDED_TOGETHER: usize = 4096;

/// Vectors in 4 bits.
pub struct Sketch {
    packed: Packed,
}

impl Sketch {
    /// True where vectors of so many numbers can be sketched.
    pub fn takes(dimensions: usize) -> bool {
        dimensions > 0 && dimensions.is_multiple_of(BLOCK)
    }

    /// Rounds vectors. `fill` writes the vectors from a number on, each of `dimensions` numbers.
    ///
    /// # Errors
    /// No vectors, or a width that is not [taken](Self::takes).
    pub fn of(count: usize, dimensions: usize, mut fill: impl FnMut(usize, &mut [f32])) -> Result<Self, ComputeError> {
        let mut bytes = Vec::new();
        let mut vectors = vec![0.0f32; ROUNDED_TOGETHER.min(count) * dimensions];
        for first in (0..count).step_by(ROUNDED_TOGETHER) {
            let here = ROUNDED_TOGETHER.min(count - first);
            let vectors = &mut vectors[..here * dimensions];
            fill(first, vectors);
            let tensor = Tensor::from_slice(vectors, (here, dimensions), &Device::Cpu)?;
            bytes.extend_from_slice(&QTensor::quantize(&tensor, GgmlDType::Q4_0)?.data()?);
        }
        let (name, format) = ("sketch", Format::Q4_0);
        Ok(Self { packed: Packed::new(&PackedMatrix { name, format, rows: count, cols: dimensions, bytes: &bytes })? })
    }

    /// The query's product with every vector, in their order, to about a hundredth of the lengths' product.
    ///
    /// # Errors
    /// A query of another width.
    pub fn products(&self, query: &[f32]) -> Result<Vec<f32>, ComputeError> {
        let (count, dimensions) = (self.packed.outputs, self.packed.inputs);
        if query.len() != dimensions {
            let reason = format!("a sketch of vectors of {dimensions} numbers does not take one of {}", query.len());
            return Err(ComputeError::Step(reason));
        }
        let isa = Isa::best();
        let mut rounded = RoundedRows::default();
        rounded.reshape(1, dimensions);
        passes::round(isa, query, &mut rounded);
        let mut products = vec![0.0f32; count];
        let shared = SharedOut::new(&mut products);
        for_each_group(isa, &rounded, &[&self.packed], |_, first, _, sums| {
            let here = GROUP.min(count - first);
            // SAFETY: groups are of different columns.
            unsafe { shared.slice(first, here) }.copy_from_slice(&sums[..here]);
        });
        Ok(products)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn products_of_any_number_of_vectors_are_near_the_exact_ones() {
        let mut rng = StdRng::seed_from_u64(5);
        for (count, dimensions) in [(1, 32), (33, 384), (5000, 64), (16, 768)] {
            let mut unit = || {
                let vector: Vec<f32> = (0..dimensions).map(|_| rng.random_range(-1.0f32..1.0)).collect();
                let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
                vector.iter().map(|x| x / length).collect::<Vec<f32>>()
            };
            let vectors: Vec<f32> = (0..count).flat_map(|_| unit()).collect();
            let query = unit();
            let from = |first: usize, to: &mut [f32]| to.copy_from_slice(&vectors[first * dimensions..][..to.len()]);
            let sketch = Sketch::of(count, dimensions, from).unwrap();
            let found = sketch.products(&query).unwrap();
            assert_eq!(found.len(), count);
            for (found, vector) in found.iter().zip(vectors.chunks_exact(dimensions)) {
                let exact: f32 = vector.iter().zip(&query).map(|(a, b)| a * b).sum();
                assert!((found - exact).abs() < 0.05, "{count} by {dimensions}: {found}, not {exact}");
            }
            assert!(sketch.products(&query[1..]).is_err());
        }
        assert!(Sketch::of(0, 64, |_, _| {}).is_err() && Sketch::of(3, 40, |_, _| {}).is_err());
        assert!(Sketch::takes(384) && !Sketch::takes(40) && !Sketch::takes(0));
    }
}
