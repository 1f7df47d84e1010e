//! A tile of query rows walks the blocks of its sequence.
//!
//! The rows of a tile belong to one span and share a KV head. Block after block, while it lies in the nearest cache, all
//! rows of the tile take it in with the online softmax (Milakov and Gimelshein 2018; Dao et al. 2022,
//! "FlashAttention"). The walk is by whole blocks from the first that a row sees, so a row's result does not depend on
//! how the prompt was cut into steps, to the last bit.

use super::padded;
use super::stored::Stored;
use crate::compute::lanes::{Lanes, exp};
use crate::compute::parallel::SharedOut;
use crate::compute::softcap::soften;
use crate::compute::{Attend, AttentionShape, BLOCK_TOKENS, Span};

/// Most query rows of a tile.
pub(super) const TILE_ROWS: usize = 48;

/// A tile. Row `i` is token `(first + i) / group` of the span, query head `kv_head * group + (first + i) % group`.
pub(in crate::compute) struct Item<'a, S> {
    pub(super) keys: &'a [S],
    pub(super) values: &'a [S],
    pub(super) q: &'a [f32],
    pub(super) out: &'a SharedOut<'a>,
    pub(super) attention: AttentionShape,
    pub(super) how: Attend,
    pub(super) span: &'a Span<'a>,
    pub(super) kv_head: usize,
    pub(super) first: usize,
    /// At most [`TILE_ROWS`].
    pub(super) rows: usize,
}

/// What the rows of a tile have taken in so far.
struct Walk<'a> {
    /// Where each row lies in the queries and in the output.
    at: [usize; TILE_ROWS],
    /// The first position that each row sees, and the one behind the last.
    from: [usize; TILE_ROWS],
    sees: [usize; TILE_ROWS],
    how: Attend,
    /// Largest score of each row.
    best: [f32; TILE_ROWS],
    /// Sum of each row's weights, `e^(score - best)`.
    total: [f32; TILE_ROWS],
    /// Weighted sum of values, `[row][width]`.
    sums: &'a mut [f32],
    /// Padded size of a head.
    width: usize,
}

/// # Safety
/// The CPU must have `L`'s instruction set, and nobody else may use the tile's rows and heads of `out`.
#[inline(always)]
pub(super) unsafe fn attend_item<L: Lanes, S: Stored>(item: Item<'_, S>) {
    let AttentionShape { heads, kv_heads, head_dim } = item.attention;
    let group = heads / kv_heads;
    let width = padded(head_dim);
    let (key_len, value_len) = (head_dim * BLOCK_TOKENS, width * BLOCK_TOKENS);
    let mut sums = vec![0.0f32; item.rows * width];
    let mut walk = Walk {
        at: [0; TILE_ROWS],
        from: [0; TILE_ROWS],
        sees: [0; TILE_ROWS],
        how: item.how,
        best: [f32::NEG_INFINITY; TILE_ROWS],
        total: [0.0; TILE_ROWS],
        sums: &mut sums,
        width,
    };
    for i in 0..item.rows {
        let (token, head) = ((item.first + i) / group, item.kv_head * group + (item.first + i) % group);
        walk.at[i] = ((item.span.rows.start + token) * heads + head) * head_dim;
        walk.from[i] = item.how.first_seen(item.span.start + token);
        walk.sees[i] = item.span.start + token + 1;
    }
    let blocks = walk.sees[item.rows - 1].div_ceil(BLOCK_TOKENS);
    let first = walk.from[0] / BLOCK_TOKENS;
    for (number, block) in item.span.blocks[..blocks].iter().enumerate().skip(first) {
        let at = *block as usize * kv_heads + item.kv_head;
        let keys = &item.keys[at * key_len..][..key_len];
        let values = &item.values[at * value_len..][..value_len];
        let start = number * BLOCK_TOKENS;
        let mut i = 0;
        while i < item.rows {
            // SAFETY: passed on from the caller; `i + R <= item.rows`.
            unsafe {
                i += match item.rows - i {
                    left if L::ROWS >= 8 && left >= 8 => walk.visit::<L, S, 8>(i, item.q, keys, values, start),
                    left if L::ROWS >= 4 && left >= 4 => walk.visit::<L, S, 4>(i, item.q, keys, values, start),
                    left if left >= 2 => walk.visit::<L, S, 2>(i, item.q, keys, values, start),
                    _ => walk.visit::<L, S, 1>(i, item.q, keys, values, start),
                };
            }
        }
    }
    for i in 0..item.rows {
        // SAFETY: this row and head belong to this tile alone.
        let out = unsafe { item.out.slice(walk.at[i], head_dim) };
        let share = 1.0 / walk.total[i];
        out.iter_mut().zip(&walk.sums[i * width..]).for_each(|(o, s)| *o = s * share);
    }
}

impl Walk<'_> {
    /// Rows `i..i + R` take in the block of positions from `start`; gives `R`.
    ///
    /// # Safety
    /// As for [`Lanes`]; `keys` is `[head_dim][32]`, `values` `[32][width]`.
    #[inline(always)]
    unsafe fn visit<L: Lanes, S: Stored, const R: usize>(
        &mut self,
        i: usize,
        q: &[f32],
        keys: &[S],
        values: &[S],
        start: usize,
    ) -> usize {
        let filled = self.sees[i + R - 1].saturating_sub(start).min(BLOCK_TOKENS);
        if filled == 0 || self.from[i] >= start + BLOCK_TOKENS {
            return R;
        }
        let head_dim = keys.len() / BLOCK_TOKENS;
        let q: [&[f32]; R] = std::array::from_fn(|r| &q[self.at[i + r]..][..head_dim]);
        let mut weights = [[0.0f32; BLOCK_TOKENS]; R];
        // SAFETY: the shapes are as promised by the caller.
        unsafe {
            scores::<L, S, R>(&q, keys, self.how.scale, &mut weights);
            if let Some(cap) = self.how.softcap {
                weights.iter_mut().for_each(|row| soften::<L>(row, 1.0 / cap, cap));
            }
            for (r, row) in weights.iter_mut().enumerate() {
                self.weigh::<L>(i + r, row, start);
            }
            // Slots beyond the last seen one may hold anything, even NaN.
            let sums = &mut self.sums[i * self.width..][..R * self.width];
            mix::<L, S, R>(&weights, &values[..filled * self.width], self.width, sums);
        }
        R
    }

    /// Turns a row's scores of a block into weights, and brings what it took in before to the same scale.
    ///
    /// # Safety
    /// As for [`Lanes`].
    #[inline(always)]
    unsafe fn weigh<L: Lanes>(&mut self, i: usize, row: &mut [f32; BLOCK_TOKENS], start: usize) {
        let seen = self.sees[i].saturating_sub(start).min(BLOCK_TOKENS);
        let hidden = self.from[i].saturating_sub(start).min(BLOCK_TOKENS);
        if hidden >= seen {
            return row.fill(0.0);
        }
        row[..hidden].fill(f32::NEG_INFINITY);
        row[seen..].fill(f32::NEG_INFINITY);
        // SAFETY: `j + L::N` is within the 32 numbers, and within `width` for the sums.
        unsafe {
            let mut highest = L::load(row.as_ptr());
            let mut j = L::N;
            while j < BLOCK_TOKENS {
                highest = highest.max(L::load(row.as_ptr().add(j)));
                j += L::N;
            }
            let best = self.best[i];
            let top = best.max(highest.reduce_max());
            let mut j = 0;
            while j < BLOCK_TOKENS {
                let to = row.as_mut_ptr().add(j);
                exp(L::load(to).add(L::splat(-top))).store(to);
                j += L::N;
            }
            // `exp` ends at about 1e-38, not at 0.
            row[..hidden].fill(0.0);
            row[seen..].fill(0.0);
            let mut sum = L::load(row.as_ptr());
            let mut j = L::N;
            while j < BLOCK_TOKENS {
                sum = sum.add(L::load(row.as_ptr().add(j)));
                j += L::N;
            }
            if top > best {
                let fade = if best == f32::NEG_INFINITY { 0.0 } else { (best - top).exp() };
                self.total[i] *= fade;
                let sums = self.sums[i * self.width..][..self.width].as_mut_ptr();
                let mut j = 0;
                while j < self.width {
                    let to = sums.add(j);
                    L::load(to).mul(L::splat(fade)).store(to);
                    j += L::N;
                }
                self.best[i] = top;
            }
            self.total[i] += sum.reduce_sum();
        }
    }
}

/// `weights[r][t] = scale * q[r] · keys[..][t]` for the 32 tokens of a block.
///
/// # Safety
/// As for [`Lanes`]; `keys` holds `q[r].len() * 32` numbers.
#[inline(always)]
unsafe fn scores<L: Lanes, S: Stored, const R: usize>(
    q: &[&[f32]; R],
    keys: &[S],
    scale: f32,
    weights: &mut [[f32; BLOCK_TOKENS]; R],
) {
    let mut column = 0;
    // SAFETY: `column + 2 * L::N <= 32`.
    unsafe {
        while column < BLOCK_TOKENS {
            let mut sums = [[L::splat(0.0); 2]; R];
            for d in 0..q[0].len() {
                let k = keys.as_ptr().add(d * BLOCK_TOKENS + column);
                let (k0, k1) = (S::load::<L>(k), S::load::<L>(k.add(L::N)));
                for r in 0..R {
                    let a = L::splat(*q[r].get_unchecked(d));
                    sums[r][0] = a.fma(k0, sums[r][0]);
                    sums[r][1] = a.fma(k1, sums[r][1]);
                }
            }
            let scale = L::splat(scale);
            for r in 0..R {
                let to = weights[r].as_mut_ptr().add(column);
                sums[r][0].mul(scale).store(to);
                sums[r][1].mul(scale).store(to.add(L::N));
            }
            column += 2 * L::N;
        }
    }
}

/// `sums[r] += Σ_t weights[r][t] * values[t]` over the tokens in `values`.
///
/// # Safety
/// As for [`Lanes`]; `values` holds at most 32 rows of `width` numbers, `sums` `R * width`, and `width` is a multiple of 32.
#[inline(always)]
unsafe fn mix<L: Lanes, S: Stored, const R: usize>(
    weights: &[[f32; BLOCK_TOKENS]; R],
    values: &[S],
    width: usize,
    sums: &mut [f32],
) {
    let mut column = 0;
    // SAFETY: `column + 2 * L::N <= width`.
    unsafe {
        while column < width {
            let to = sums.as_mut_ptr().add(column);
            let mut now = [[L::splat(0.0); 2]; R];
            for r in 0..R {
                now[r] = [L::load(to.add(r * width)), L::load(to.add(r * width + L::N))];
            }
            for t in 0..values.len() / width {
                let v = values.as_ptr().add(t * width + column);
                let (v0, v1) = (S::load::<L>(v), S::load::<L>(v.add(L::N)));
                for r in 0..R {
                    let a = L::splat(weights[r][t]);
                    now[r][0] = a.fma(v0, now[r][0]);
                    now[r][1] = a.fma(v1, now[r][1]);
                }
            }
            for r in 0..R {
                now[r][0].store(to.add(r * width));
                now[r][1].store(to.add(r * width + L::N));
            }
            column += 2 * L::N;
        }
    }
}
