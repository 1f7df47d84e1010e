//! The soft-cap of attention scores (Gemma 2).

use super::lanes::{Lanes, exp};

/// `cap * tanh(factor * score)` of every score; `tanh(z) = 1 - 2 / (e^2z + 1)`.
///
/// # Safety
/// As for [`Lanes`]; there are a multiple of 16 scores.
#[inline(always)]
pub(super) unsafe fn soften<L: Lanes>(scores: &mut [f32], factor: f32, cap: f32) {
    debug_assert_eq!(scores.len() % 16, 0);
    let mut j = 0;
    // SAFETY: `j + L::N` is within the scores.
    unsafe {
        while j < scores.len() {
            let to = scores.as_mut_ptr().add(j);
            let e = exp(L::load(to).mul(L::splat(2.0 * factor)));
            let part = L::splat(-2.0 * cap).div(e.add(L::splat(1.0)));
            part.add(L::splat(cap)).store(to);
            j += L::N;
        }
    }
}
