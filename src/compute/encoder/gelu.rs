//! GELU over vectors (Hendrycks and Gimpel, arXiv:1606.08415), the exact form with the error function.

use crate::compute::lanes::Lanes;

/// `x * Φ(x)`. The error function is a rational minimax approximation on [-4, 4] (the one of Eigen and XNNPACK), good
/// to a few units in the last place.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
pub(super) unsafe fn gelu<L: Lanes>(x: L) -> L {
    // SAFETY: passed on from the caller.
    unsafe {
        let half = x.mul(L::splat(0.5));
        half.fma(erf(x.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2))), half)
    }
}

/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn erf<L: Lanes>(x: L) -> L {
    // SAFETY: passed on from the caller.
    unsafe {
        let x = x.max(L::splat(-4.0)).min(L::splat(4.0));
        let y = x.mul(x);
        let mut p = L::splat(-2.726_142_3e-10);
        for c in [2.770_681_5e-8, -2.101_024e-6, -5.692_506_5e-5, -7.349_906e-4, -2.954_599_8e-3, -1.609_603_4e-2] {
            p = p.fma(y, L::splat(c));
        }
        let mut q = L::splat(-1.456_607_2e-5);
        for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_474e-2] {
            q = q.fma(y, L::splat(c));
        }
        x.mul(p).mul(q.recip())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::lanes::{Isa, dispatch};

    #[inline(always)]
    unsafe fn gelu_all<L: Lanes>(x: &[f32], y: &mut [f32]) {
        for i in (0..x.len()).step_by(L::N) {
            // SAFETY: the lengths are multiples of 16.
            unsafe { gelu(L::load(x[i..].as_ptr())).store(y[i..].as_mut_ptr()) }
        }
    }

    #[test]
    fn gelu_agrees_with_candles_exact_one_on_every_instruction_set() {
        let x: Vec<f32> = (0..6400).map(|i| (i as f32 - 3200.0) / 300.0).collect();
        let tensor = candle_core::Tensor::from_slice(&x, x.len(), &candle_core::Device::Cpu).unwrap();
        let expected: Vec<f32> = tensor.gelu_erf().unwrap().to_vec1().unwrap();
        for isa in Isa::all() {
            let mut y = vec![0.0; x.len()];
            let (from, to) = (&x[..], &mut y[..]);
            // SAFETY: `Isa::all` gives what this CPU has.
            unsafe { dispatch!(isa, gelu_all(from: &[f32], to: &mut [f32])) };
            let worst = expected.iter().zip(&y).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(worst < 2e-6, "{isa:?}: {worst}");
        }
    }
}
