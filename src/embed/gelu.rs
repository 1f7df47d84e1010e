//! Bias and GELU in one pass over memory. candle's own `gelu_erf` computes a double-precision `erf` one number at a
//! time on one thread, which took longer than the matrix products around it.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor};
use rayon::prelude::*;

/// `x = gelu(x + bias)` or `x = x + bias`, with `bias` added to every row.
pub(super) struct AddBias {
    pub gelu: bool,
}

impl AddBias {
    /// Works in place on the CPU, which is why `x` is taken whole.
    pub fn apply(&self, x: Tensor, bias: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() {
            x.inplace_op2(bias, self)?;
            return Ok(x);
        }
        let x = x.broadcast_add(bias)?;
        if self.gelu { x.gelu_erf() } else { Ok(x) }
    }
}

impl InplaceOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, x_layout: &Layout, bias: &CpuStorage, bias_layout: &Layout) -> Result<()> {
        let (Some((start, end)), Some((bias_start, bias_end))) =
            (x_layout.contiguous_offsets(), bias_layout.contiguous_offsets())
        else {
            candle_core::bail!("add-bias wants contiguous tensors");
        };
        let (CpuStorage::F32(x), CpuStorage::F32(bias)) = (x, bias) else {
            candle_core::bail!("add-bias wants f32");
        };
        let bias = &bias[bias_start..bias_end];
        let rows_a_task = (16_384 / bias.len()).max(1);
        x[start..end].par_chunks_mut(bias.len() * rows_a_task).for_each(|rows| {
            for row in rows.chunks_exact_mut(bias.len()) {
                if self.gelu {
                    row.iter_mut().zip(bias).for_each(|(x, b)| *x = gelu(*x + b));
                } else {
                    row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
                }
            }
        });
        Ok(())
    }
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function by a rational minimax approximation on [-4, 4] (the one of Eigen and XNNPACK); its error is a
/// few units in the last place, and the loop around it becomes vector code.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let y = x * x;
    let mut p = -2.726_142_3e-10_f32;
    for c in [2.770_681_5e-8, -2.101_024e-6, -5.692_506_5e-5, -7.349_906e-4, -2.954_599_8e-3, -1.609_603_4e-2] {
        p = p * y + c;
    }
    let mut q = -1.456_607_2e-5_f32;
    for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_474e-2] {
        q = q * y + c;
    }
    x * p / q
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_fused_gelu_agrees_with_candles_exact_one() {
        let values: Vec<f32> = (0..6000).map(|i| (i as f32 - 3000.0) / 300.0).collect();
        let x = Tensor::from_vec(values, (1500, 4), &Device::Cpu).unwrap();
        let bias = Tensor::new(&[0.1f32, -0.2, 0.0, 3.0], &Device::Cpu).unwrap();
        let expected: Vec<f32> =
            x.broadcast_add(&bias).unwrap().gelu_erf().unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let got: Vec<f32> = AddBias { gelu: true }.apply(x, &bias).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let worst = expected.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 2e-6, "{worst}");
    }
}
