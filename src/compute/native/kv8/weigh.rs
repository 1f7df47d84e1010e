//! Scores of a chunk become weights in bytes.

use super::Layout;
use super::attend::{CHUNK, CHUNK_BLOCKS, MOST_ROWS, Rows};
use crate::compute::BLOCK_TOKENS;
use crate::compute::lanes::{Lanes, exp2};

/// What some rows make of a chunk.
#[repr(C, align(64))]
pub(super) struct Weights {
    pub(super) scores: [[f32; CHUNK]; MOST_ROWS],
    pub(super) bytes: [[u8; CHUNK]; MOST_ROWS],
    /// What 1 in `bytes` stands for.
    pub(super) scale: [f32; MOST_ROWS],
    /// What the sums so far are multiplied by.
    pub(super) fade: [f32; MOST_ROWS],
}

impl Weights {
    pub(super) fn new() -> Self {
        Self {
            scores: [[0.0; CHUNK]; MOST_ROWS],
            bytes: [[0; CHUNK]; MOST_ROWS],
            scale: [0.0; MOST_ROWS],
            fade: [0.0; MOST_ROWS],
        }
    }
}

/// Turns the scores of `R` rows into rounded weights. Each sweep goes over all rows, so that the slow ends of one row
/// (sums over a vector's lanes) pass while others are worked on.
///
/// # Safety
/// As for [`visit`], with the vectors `L`; `FULL` where all rows see the whole chunk.
#[inline(always)]
pub(super) unsafe fn weigh<L: Lanes, const R: usize, const FULL: bool>(
    layout: Layout,
    rows: &mut Rows,
    row: usize,
    start: usize,
    blocks: &[*const u8],
    weights: &mut Weights,
) {
    let count = if FULL { CHUNK_BLOCKS } else { blocks.len() };
    let end = count * BLOCK_TOKENS;
    let (mut hidden, mut seen) = ([0; R], [CHUNK; R]);
    if !FULL {
        for r in 0..R {
            seen[r] = rows.sees[row + r].saturating_sub(start).min(CHUNK);
            hidden[r] = rows.from[row + r].saturating_sub(start);
            if hidden[r] >= seen[r] {
                (hidden[r], seen[r]) = (0, 0);
            }
            // What is not seen may hold anything, even NaN.
            weights.scores[r][..hidden[r]].fill(-1e30);
            weights.scores[r][seen[r]..end].fill(-1e30);
        }
    }
    let (mut tops, mut largest) = ([0.0f32; R], [0.0f32; R]);
    // SAFETY: positions are below `end`, a multiple of 32 and at most `CHUNK`.
    unsafe {
        for r in 0..R {
            let at = weights.scores[r].as_ptr();
            let (mut a, mut b) = (L::load(at), L::load(at.add(L::N)));
            let mut j = 2 * L::N;
            while j < end {
                a = a.max(L::load(at.add(j)));
                b = b.max(L::load(at.add(j + L::N)));
                j += 2 * L::N;
            }
            tops[r] = a.max(b).reduce_max();
        }
        for r in 0..R {
            let (before, unit) = (*rows.best.get_unchecked(row + r), *rows.scale.get_unchecked(row + r));
            let top = if seen[r] > 0 { before.max(tops[r]) } else { before };
            let fade = if top > before { ((before - top) * unit).exp2() } else { 1.0 };
            let (unit, minus) = (L::splat(unit), L::splat(-top * unit));
            let at = weights.scores[r].as_mut_ptr();
            let (mut a, mut b) = (L::splat(0.0), L::splat(0.0));
            let (mut most_a, mut most_b) = (a, b);
            for block in 0..count {
                let scales = blocks.get_unchecked(block).add(layout.value_scales()).cast::<f32>();
                let at = at.add(block * BLOCK_TOKENS);
                let mut j = 0;
                while j < BLOCK_TOKENS {
                    let x = exp2(L::load(at.add(j)).fma(unit, minus));
                    let y = exp2(L::load(at.add(j + L::N)).fma(unit, minus));
                    (a, b) = (a.add(x), b.add(y));
                    let x = x.mul(L::load(scales.add(j)));
                    let y = y.mul(L::load(scales.add(j + L::N)));
                    x.store(at.add(j));
                    y.store(at.add(j + L::N));
                    (most_a, most_b) = (most_a.max(x), most_b.max(y));
                    j += 2 * L::N;
                }
            }
            if !FULL && (hidden[r] > 0 || seen[r] < end) {
                // These weigh nothing, but the scales beside them may be what another sequence left.
                weights.scores[r][..hidden[r]].fill(0.0);
                weights.scores[r][seen[r]..end].fill(0.0);
                let mut most = L::load(at);
                let mut j = L::N;
                while j < end {
                    most = most.max(L::load(at.add(j)));
                    j += L::N;
                }
                most_a = most;
                most_b = most;
            }
            if FULL || seen[r] > 0 {
                let total = rows.total.get_unchecked_mut(row + r);
                *total = *total * fade + a.add(b).reduce_sum();
            }
            *rows.best.get_unchecked_mut(row + r) = top;
            weights.fade[r] = fade;
            largest[r] = most_a.max(most_b).reduce_max();
        }
        for r in 0..R {
            weights.scale[r] = largest[r] / 255.0;
            let inverse = L::splat(if largest[r] > 0.0 { 255.0 / largest[r] } else { 0.0 });
            let (from, to) = (weights.scores[r].as_ptr(), weights.bytes[r].as_mut_ptr());
            let mut j = 0;
            while j < end {
                L::load(from.add(j)).mul(inverse).store_bytes(to.add(j));
                j += L::N;
            }
        }
    }
}
