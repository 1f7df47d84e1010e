//! Layer norm (Ba, Kiros and Hinton, arXiv:1607.06450) over the sum of two matrices.

use crate::compute::lanes::{Isa, Lanes, dispatch};

/// Weight and bias of a norm, of the rows' width.
pub struct LayerNorm {
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub eps: f32,
}

/// `x[row] = norm(x[row] + y[row])` for every row.
pub fn add_norm(x: &mut [f32], y: &[f32], norm: &LayerNorm) {
    add_norm_on(Isa::widest(), x, y, norm);
}

fn add_norm_on(isa: Isa, x: &mut [f32], y: &[f32], norm: &LayerNorm) {
    let width = norm.weight.len();
    assert!(x.len() == y.len() && x.len().is_multiple_of(width) && norm.bias.len() == width);
    // SAFETY: `isa` is one that this CPU has; the lengths are those that the kernel asks for.
    unsafe { dispatch!(isa, add_norm_rows(x: &mut [f32], y: &[f32], norm: &LayerNorm)) }
}

/// # Safety
/// As for [`Lanes`]; `x` and `y` have one length, whole rows of the norm's width.
#[inline(always)]
unsafe fn add_norm_rows<L: Lanes>(x: &mut [f32], y: &[f32], norm: &LayerNorm) {
    let width = norm.weight.len();
    let whole = width / L::N * L::N;
    for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
        // SAFETY: `i + L::N <= whole <= width` for every vector.
        unsafe {
            let mut sums = L::splat(0.0);
            for i in (0..whole).step_by(L::N) {
                let v = L::load(x.as_ptr().add(i)).add(L::load(y.as_ptr().add(i)));
                v.store(x.as_mut_ptr().add(i));
                sums = sums.add(v);
            }
            let mut sum = sums.reduce_sum();
            for i in whole..width {
                x[i] += y[i];
                sum += x[i];
            }
            let mean = sum / width as f32;
            let (shift, mut squares) = (L::splat(-mean), L::splat(0.0));
            for i in (0..whole).step_by(L::N) {
                let v = L::load(x.as_ptr().add(i)).add(shift);
                squares = v.fma(v, squares);
            }
            let rest: f32 = x[whole..].iter().map(|v| (v - mean) * (v - mean)).sum();
            let scale = 1.0 / ((squares.reduce_sum() + rest) / width as f32 + norm.eps).sqrt();
            let wide = L::splat(scale);
            for i in (0..whole).step_by(L::N) {
                let v = L::load(x.as_ptr().add(i)).add(shift).mul(wide);
                let (weight, bias) = (L::load(norm.weight.as_ptr().add(i)), L::load(norm.bias.as_ptr().add(i)));
                v.fma(weight, bias).store(x.as_mut_ptr().add(i));
            }
            for i in whole..width {
                x[i] = (x[i] - mean) * scale * norm.weight[i] + norm.bias[i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn norms_of_random_shapes_match_the_definition_on_every_instruction_set() {
        let mut rng = StdRng::seed_from_u64(5);
        for isa in Isa::all() {
            for _ in 0..20 {
                let (rows, width) = (rng.random_range(1..20), rng.random_range(1..500));
                let mut random = |len: usize| (0..len).map(|_| rng.random_range(-2.0..2.0)).collect::<Vec<f32>>();
                let (x, y) = (random(rows * width), random(rows * width));
                let norm = LayerNorm { weight: random(width), bias: random(width), eps: 1e-3 };
                let mut out = x.clone();
                add_norm_on(isa, &mut out, &y, &norm);
                for row in 0..rows {
                    let at = |i: usize| x[row * width + i] as f64 + y[row * width + i] as f64;
                    let mean = (0..width).map(at).sum::<f64>() / width as f64;
                    let variance = (0..width).map(|i| (at(i) - mean).powi(2)).sum::<f64>() / width as f64;
                    for i in 0..width {
                        let normal = (at(i) - mean) / (variance + 1e-3).sqrt();
                        let expected = normal * norm.weight[i] as f64 + norm.bias[i] as f64;
                        assert!((out[row * width + i] as f64 - expected).abs() < 1e-4, "{isa:?} {rows}x{width}");
                    }
                }
            }
        }
    }
}
