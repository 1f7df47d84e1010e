//! A tile of query rows walks the blocks of its sequences.
//!
//! The unit of the walk is a *chunk* of 128 positions, four blocks, counted from position 0. For each chunk some rows at
//! a time (as many as keep their sums in registers)
//!
//! 1. multiply with the keys in whole numbers: `vpdpbusd` on 32 keys of four numbers each;
//! 2. become weights `2^(score - best)` by the online softmax (Milakov and Gimelshein 2018), which are multiplied by the
//!    scales of their values and rounded to bytes, 255 being the largest of this row and chunk;
//! 3. multiply with the values in whole numbers, and are added to the row's sums with one `fma`.
//!
//! Where scores are capped, they are so between the first two, in powers of two. Chunks that lie before the windows of all
//! rows are not read; of one that a window begins in, the positions before it weigh nothing, as those behind the row.
//!
//! A row sees the same chunks, in one order and by the same operations, whatever rows stand beside it and however the
//! prompt was cut into steps: its result is the same to the last bit.
//!
//! Cost of a row and chunk with heads of 64 numbers, AVX-512: 256 `vpdpbusd`, about 200 other vector operations.

use std::ops::Range;

use super::token::{Head, spread};
use super::weigh::{Weights, weigh};
use super::{COLUMNS, Layout};
use crate::compute::native::tile::{STEP, Tile};
use crate::compute::parallel::SharedOut;
use crate::compute::softcap::soften;
use crate::compute::{AttentionShape, BLOCK_TOKENS, Plan};

/// Blocks of a chunk.
pub(super) const CHUNK_BLOCKS: usize = 4;

/// Positions of a chunk.
pub(super) const CHUNK: usize = CHUNK_BLOCKS * BLOCK_TOKENS;

/// Bytes from one step of four numbers to the next in a block's keys.
const KEY_STEP: usize = 4 * BLOCK_TOKENS;

/// Most rows at a time.
pub(super) const MOST_ROWS: usize = 6;

/// A token that asks: row `row` of the step, of span `span`, seeing positions from `from` to below `sees`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) span: usize,
    pub(super) row: usize,
    pub(super) from: usize,
    pub(super) sees: usize,
}

/// One KV head of some tokens. Its rows are the query heads of that KV head, token after token.
pub(super) struct Job<'a> {
    /// A layer's pool.
    pub(super) bytes: &'a [u8],
    pub(super) layout: Layout,
    pub(super) attention: AttentionShape,
    /// Factor of scores.
    pub(super) scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub(super) softcap: Option<f32>,
    pub(super) kv_head: usize,
    /// `[row][head][head_dim]`
    pub(super) q: &'a [f32],
    pub(super) out: &'a SharedOut<'a>,
    pub(super) plan: &'a Plan<'a>,
    pub(super) tokens: &'a [Seen],
}

/// The rows of a tile.
#[derive(Default)]
pub(super) struct Rows {
    /// Rounded queries, `[row][padded]`.
    q: Vec<i8>,
    /// What a query's 1 stands for, times the factor of scores, in powers of two; 1 where scores are capped.
    pub(super) scale: Vec<f32>,
    /// Where scores are capped: the cap in powers of two, and what a query's 1 stands for in caps.
    cap: Option<f32>,
    caps: Vec<f32>,
    /// What its sums begin with, against the 128 that keys have too much.
    start: Vec<i32>,
    /// Positions that it sees.
    pub(super) from: Vec<usize>,
    pub(super) sees: Vec<usize>,
    /// Largest score so far, in units of `scale`.
    pub(super) best: Vec<f32>,
    /// Sum of weights, `2^(score - best)`.
    pub(super) total: Vec<f32>,
    /// Weighted sums of values, `[row][padded]`.
    sums: Vec<f32>,
    /// One query or output.
    head: Head,
}

/// # Safety
/// As for [`Tile`]; nobody else uses these tokens' rows and heads of `out`.
#[inline(always)]
pub(super) unsafe fn attend_tile<T: Tile>(job: &Job<'_>, rows: &mut Rows) {
    // SAFETY: passed on from the caller.
    unsafe {
        rows.begin::<T>(job);
        walk::<T>(job, rows);
        rows.end::<T>(job);
    }
}

impl Job<'_> {
    fn group(&self) -> usize {
        self.attention.heads / self.attention.kv_heads
    }

    /// Where a row's query and output begin.
    fn at(&self, row: usize) -> usize {
        let (token, head) = (row / self.group(), self.kv_head * self.group() + row % self.group());
        (self.tokens[token].row * self.attention.heads + head) * self.layout.head_dim
    }

    /// The blocks of a chunk that a token's span has.
    fn blocks(&self, token: &Seen, chunk: usize) -> &[u32] {
        let blocks = self.plan.spans[token.span].blocks;
        &blocks[(chunk * CHUNK_BLOCKS).min(blocks.len())..((chunk + 1) * CHUNK_BLOCKS).min(blocks.len())]
    }

    /// Tokens from `first` on that read the same blocks in this chunk.
    fn run(&self, first: usize, chunk: usize) -> Range<usize> {
        let blocks = self.blocks(&self.tokens[first], chunk);
        let same = |token: &Seen| {
            token.span == self.tokens[first].span || blocks.len() == CHUNK_BLOCKS && self.blocks(token, chunk) == blocks
        };
        first..first + self.tokens[first..].iter().take_while(|token| same(token)).count()
    }
}

impl Rows {
    /// Rounds the queries of a tile.
    ///
    /// # Safety
    /// As for [`Tile`].
    #[inline(always)]
    unsafe fn begin<T: Tile>(&mut self, job: &Job<'_>) {
        let Layout { head_dim, padded, .. } = job.layout;
        let rows = job.tokens.len() * job.group();
        self.q.clear();
        self.q.resize(rows * padded, 0);
        self.sums.clear();
        self.sums.resize(rows * padded, 0.0);
        for (column, value) in [(&mut self.best, f32::NEG_INFINITY), (&mut self.total, 0.0), (&mut self.scale, 0.0)] {
            column.clear();
            column.resize(rows, value);
        }
        self.start.clear();
        self.from.clear();
        self.sees.clear();
        self.caps.clear();
        self.cap = job.softcap.map(|cap| std::f32::consts::LOG2_E * cap);
        self.head.fit(&job.layout);
        let unit = std::f32::consts::LOG2_E * job.scale;
        for row in 0..rows {
            // SAFETY: passed on from the caller.
            let scale = unsafe { self.head.round::<T::Lanes>(&job.layout, &job.q[job.at(row)..][..head_dim]) };
            let (to, from) = (&mut self.q[row * padded..][..padded], &self.head.bytes[..padded]);
            let mut sum = 0;
            for i in 0..padded {
                to[i] = (from[i] ^ 0x80) as i8;
                sum += to[i] as i32;
            }
            // A query of zeros weighs all positions alike; the least number keeps what is not seen out of that.
            let scale = (scale * unit).max(1e-25);
            self.scale[row] = match self.cap {
                Some(cap) => {
                    self.caps.push(scale / cap);
                    1.0
                }
                None => scale,
            };
            self.start.push(-128 * sum);
            let token = &job.tokens[row / job.group()];
            self.from.push(token.from);
            self.sees.push(token.sees);
        }
    }

    /// Writes the outputs of a tile.
    ///
    /// # Safety
    /// As for [`attend_tile`].
    #[inline(always)]
    unsafe fn end<T: Tile>(&mut self, job: &Job<'_>) {
        let Layout { head_dim, padded, turned } = job.layout;
        for row in 0..self.total.len() {
            let share = 1.0 / self.total[row];
            let (head, sums) = (&mut self.head.numbers[..head_dim], &self.sums[row * padded..][..head_dim]);
            for i in 0..head_dim {
                head[i] = sums[i] * share;
            }
            // SAFETY: by the caller's promise.
            unsafe {
                spread::<T::Lanes>(head, turned);
                job.out.slice(job.at(row), head_dim).copy_from_slice(head);
            }
        }
    }
}

/// # Safety
/// As for [`attend_tile`].
#[inline(always)]
unsafe fn walk<T: Tile>(job: &Job<'_>, rows: &mut Rows) {
    let mut weights = Weights::new();
    let head = job.layout.head();
    let first = job.tokens.iter().map(|token| token.from).min().unwrap_or(0) / CHUNK;
    let longest = job.tokens.iter().map(|token| token.sees).max().unwrap_or(0);
    for chunk in first..longest.div_ceil(CHUNK) {
        let start = chunk * CHUNK;
        let mut token = 0;
        while token < job.tokens.len() {
            let run = job.run(token, chunk);
            let mut row = run.start * job.group();
            let mut end = run.end * job.group();
            token = run.end;
            // The last token of a span sees most; of several spans all have whole chunks here.
            let blocks = job.blocks(&job.tokens[run.end - 1], chunk);
            let mut at = [job.bytes.as_ptr(); CHUNK_BLOCKS];
            for (at, block) in at.iter_mut().zip(blocks) {
                *at = job.bytes[(*block as usize * job.attention.kv_heads + job.kv_head) * head..][..head].as_ptr();
            }
            // Rows of a long prompt that end before this chunk, and those whose window begins behind it.
            while row < end && rows.sees[row] <= start {
                row += 1;
            }
            while row < end && rows.from[end - 1] >= start + CHUNK {
                end -= 1;
            }
            // Few rows wait for memory: ask for the same head of the chunk's blocks that come next.
            if end - row <= 2 {
                let next = job.blocks(&job.tokens[run.end - 1], chunk + 1);
                for block in next {
                    let at =
                        job.bytes[(*block as usize * job.attention.kv_heads + job.kv_head) * head..][..head].as_ptr();
                    for line in (0..head).step_by(STEP) {
                        // SAFETY: any address will do.
                        unsafe { T::prefetch(at.wrapping_add(line)) };
                    }
                }
            }
            while row < end {
                let (to, left) = (&mut weights, end - row);
                // SAFETY: passed on from the caller; `row + R <= end`, and the blocks of what the rows see are there.
                unsafe {
                    row += match T::ATTEND_ROWS {
                        6 if left >= 6 => visit::<T, 6>(job.layout, rows, row, start, &at, to),
                        6 if left >= 3 => visit::<T, 3>(job.layout, rows, row, start, &at, to),
                        _ if left >= 2 => visit::<T, 2>(job.layout, rows, row, start, &at, to),
                        _ => visit::<T, 1>(job.layout, rows, row, start, &at, to),
                    };
                }
            }
        }
    }
}

/// Rows `row..row + R` take in a chunk that begins at position `start`; gives `R`.
///
/// # Safety
/// As for [`attend_tile`]; `blocks` are this head's of the chunk, as far as any of the rows sees.
#[inline(always)]
unsafe fn visit<T: Tile, const R: usize>(
    layout: Layout,
    rows: &mut Rows,
    row: usize,
    start: usize,
    blocks: &[*const u8; CHUNK_BLOCKS],
    weights: &mut Weights,
) -> usize {
    let mut filled = 0;
    for r in 0..R {
        filled = filled.max(rows.sees[row + r].saturating_sub(start).min(CHUNK));
    }
    let count = filled.div_ceil(BLOCK_TOKENS);
    // SAFETY: passed on from the caller; only the first `count` blocks are read.
    unsafe {
        let mut block = 0;
        while block < count {
            // Two vectors of 16 keys in a block. The second block of a pair may be the first again.
            if T::ATTEND_ROWS == 6 {
                let second = blocks[(block + 1).min(count - 1)];
                let keys = [blocks[block], blocks[block].add(STEP), second, second.add(STEP)];
                scores::<T, R, 4>(layout, rows, row, keys, &mut weights.scores, block * BLOCK_TOKENS);
                block += 2;
            } else {
                let keys = [blocks[block], blocks[block].add(STEP)];
                scores::<T, R, 2>(layout, rows, row, keys, &mut weights.scores, block * BLOCK_TOKENS);
                block += 1;
            }
        }
        if let Some(cap) = rows.cap {
            for r in 0..R {
                soften::<T::Lanes>(&mut weights.scores[r][..count * BLOCK_TOKENS], rows.caps[row + r], cap);
            }
        }
        let mut full = true;
        for r in 0..R {
            full &= rows.from[row + r] <= start && rows.sees[row + r] >= start + CHUNK;
        }
        match full {
            true => weigh::<T::Lanes, R, true>(layout, rows, row, start, &blocks[..count], weights),
            false => weigh::<T::Lanes, R, false>(layout, rows, row, start, &blocks[..count], weights),
        }
        let mut column = 0;
        while column < layout.padded {
            column += match layout.padded - column {
                64.. if T::ATTEND_ROWS == 6 => mix::<T, R, 4>(layout, rows, row, &blocks[..count], weights, column),
                32.. => mix::<T, R, 2>(layout, rows, row, &blocks[..count], weights, column),
                _ => mix::<T, R, 1>(layout, rows, row, &blocks[..count], weights, column),
            };
        }
    }
    R
}

/// Scores of `R` rows, in units of their scales, with the `C` times 16 keys at `keys`, into `scores[..][position..]`.
///
/// # Safety
/// As for [`visit`].
#[inline(always)]
unsafe fn scores<T: Tile, const R: usize, const C: usize>(
    layout: Layout,
    rows: &Rows,
    row: usize,
    keys: [*const u8; C],
    scores: &mut [[f32; CHUNK]; MOST_ROWS],
    position: usize,
) {
    // SAFETY: steps are within the keys and the rounded queries.
    unsafe {
        let padded = layout.padded;
        let q = rows.q.as_ptr().add(row * padded);
        let mut dots = [[T::zero(); C]; R];
        for r in 0..R {
            let start = if T::SIGNED { 0 } else { *rows.start.get_unchecked(row + r) };
            dots[r] = [T::whole(start); C];
        }
        for step in 0..padded / 4 {
            let mut bytes = [T::bytes(keys[0].add(step * KEY_STEP)); C];
            for c in 1..C {
                bytes[c] = T::bytes(keys[c].add(step * KEY_STEP));
            }
            for r in 0..R {
                for c in 0..C {
                    dots[r][c] = T::dot_wide(dots[r][c], bytes[c], q.add(r * padded + 4 * step));
                }
            }
        }
        for c in 0..C {
            // The scales of a block's keys lie behind its keys; odd vectors are the second half of their block.
            let half = c % 2;
            let scales = keys[c].sub(half * STEP).add(layout.key_scales()).cast::<f32>().add(half * COLUMNS);
            let scales = T::load(scales);
            for r in 0..R {
                T::store(T::mul(T::floats(dots[r][c]), scales), scores[r].as_mut_ptr().add(position + c * COLUMNS));
            }
        }
    }
}

/// Adds the weighted values of `16 * C` columns from `column` to the sums of `R` rows; gives the number of columns.
///
/// # Safety
/// As for [`visit`].
#[inline(always)]
unsafe fn mix<T: Tile, const R: usize, const C: usize>(
    layout: Layout,
    rows: &mut Rows,
    row: usize,
    blocks: &[*const u8],
    weights: &Weights,
    column: usize,
) -> usize {
    // SAFETY: columns and rows are within the sums, steps within the blocks.
    unsafe {
        let mut dots = [[T::zero(); C]; R];
        for (number, block) in blocks.iter().enumerate() {
            let values = block.add(layout.values() + 4 * column);
            for four in 0..BLOCK_TOKENS / 4 {
                let from = values.add(four * 4 * layout.padded);
                let mut bytes = [T::bytes(from); C];
                for c in 1..C {
                    bytes[c] = T::bytes(from.add(c * STEP));
                }
                for r in 0..R {
                    let weights = weights.bytes[r].as_ptr().add(number * BLOCK_TOKENS + 4 * four);
                    for c in 0..C {
                        dots[r][c] = T::dot_signed(dots[r][c], bytes[c], weights);
                    }
                }
            }
        }
        let sums = rows.sums.as_mut_ptr().add(row * layout.padded + column);
        for r in 0..R {
            for c in 0..C {
                let to = sums.add(r * layout.padded + c * COLUMNS);
                let before = T::mul(T::load(to), T::splat(weights.fade[r]));
                T::store(T::fma(T::floats(dots[r][c]), T::splat(weights.scale[r]), before), to);
            }
        }
        C * COLUMNS
    }
}
