//! RMS norm over slices (Zhang and Sennrich 2019).

use super::lanes::{Isa, Lanes, dispatch};
use super::parallel::{SharedOut, for_each_index};

/// Rows in one piece of work are chosen to make about this many numbers.
const PIECE: usize = 16 * 1024;

/// `out[row] = x[row] / sqrt(mean(x[row]²) + eps) * weight`, rows of the weight's length.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    rms_norm_on(Isa::widest(), x, weight, eps)
}

fn rms_norm_on(isa: Isa, x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    let rows = x.len() / width;
    let mut out = vec![0.0f32; rows * width];
    let shared = SharedOut::new(&mut out);
    let step = (PIECE / width).max(1);
    for_each_index(rows.div_ceil(step), |piece| {
        for row in piece * step..rows.min((piece + 1) * step) {
            // SAFETY: every row is one piece's alone.
            let out = unsafe { shared.slice(row * width, width) };
            let x = &x[row * width..][..width];
            rms_norm_row(isa, x, weight, eps, out);
        }
    });
    out
}

/// One row of [`rms_norm`]. `isa` must be one that this CPU has.
pub(super) fn rms_norm_row(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len());
    // SAFETY: the CPU has `isa`; the three slices have one length.
    unsafe { dispatch!(isa, norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32])) }
}

/// # Safety
/// As for [`Lanes`]; the slices have one length.
#[inline(always)]
unsafe fn norm_row<L: Lanes>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let whole = x.len() / L::N * L::N;
    // SAFETY: `i + L::N <= whole <= len` for every vector.
    unsafe {
        let mut squares = L::splat(0.0);
        let mut i = 0;
        while i < whole {
            let v = L::load(x.as_ptr().add(i));
            squares = v.fma(v, squares);
            i += L::N;
        }
        let mut lanes = [0.0f32; 16];
        squares.store(lanes.as_mut_ptr());
        let (mut total, mut rest) = (0.0, 0.0);
        for lane in 0..16 {
            total += lanes[lane];
        }
        for i in whole..x.len() {
            rest += x[i] * x[i];
        }
        let mean = (total + rest) / x.len() as f32;
        let scale = 1.0 / (mean + eps).sqrt();
        let wide = L::splat(scale);
        let mut i = 0;
        while i < whole {
            let v = L::load(x.as_ptr().add(i)).mul(wide).mul(L::load(weight.as_ptr().add(i)));
            v.store(out.as_mut_ptr().add(i));
            i += L::N;
        }
        for i in whole..x.len() {
            out[i] = x[i] * scale * weight[i];
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
                let (rows, width) = (rng.random_range(1..40), rng.random_range(1..700));
                let x: Vec<f32> = (0..rows * width).map(|_| rng.random_range(-2.0..2.0)).collect();
                let weight: Vec<f32> = (0..width).map(|_| rng.random_range(0.5..1.5)).collect();
                let out = rms_norm_on(isa, &x, &weight, 1e-5);
                for (row, out) in x.chunks(width).zip(out.chunks(width)) {
                    let mean = row.iter().map(|v| (*v as f64).powi(2)).sum::<f64>() / width as f64;
                    for i in 0..width {
                        let expected = row[i] as f64 / (mean + 1e-5).sqrt() * weight[i] as f64;
                        assert!((out[i] as f64 - expected).abs() < 1e-5, "{isa:?} {rows}x{width}");
                    }
                }
            }
        }
    }
}
