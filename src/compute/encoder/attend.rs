//! Attention within each text (Vaswani et al., arXiv:1706.03762): every token sees its own text, whole or its neighbours in
//! it, and no other.
//!
//! One piece of work is one head of one text. With AMX both products take tiles ([`super::attend_tiles`]); everywhere else
//! they stay in `f32`, here: the keys are packed as `[32 keys][dimension]` turned on end and its values
//! as 32 dimensions a panel, so that scores and sums are both the same small product: up to eight rows by 32 columns,
//! one broadcast a row and step. Scores of eight queries lie in the first-level cache until their softmax is done.

use std::cell::RefCell;
use std::ops::Range;

use super::attend_tiles::{self, attend_head_tiles};
use super::bf16::Unit;
use super::dense::Precision;
use super::operand::{Operand, STEP, SharedOperand};
use crate::compute::lanes::{Isa, Lanes, dispatch, exp};
use crate::compute::parallel::for_each_index;

/// Columns of a panel.
const PANEL: usize = 32;
/// Queries at a time.
const QUERIES: usize = 8;

/// Heads and their width.
#[derive(Debug, Clone, Copy)]
pub struct AttendShape {
    pub heads: usize,
    pub width: usize,
    /// How many tokens one sees to each side; all of its text where this is `None`.
    pub reach: Option<usize>,
}

impl AttendShape {
    /// The tokens of a text of `tokens` that one of `queries` sees.
    #[inline(always)]
    pub(super) fn seen(&self, queries: Range<usize>, tokens: usize) -> Range<usize> {
        match self.reach {
            None => 0..tokens,
            Some(reach) => queries.start.saturating_sub(reach)..queries.end.saturating_add(reach).min(tokens),
        }
    }
}

/// `out[rows][hidden]` from `qkv[rows][3 * hidden]`: queries (scaled already), keys and values side by side, each of
/// `heads * width`. `texts` are the rows of each text.
pub fn attend(qkv: &Operand, texts: &[Range<usize>], shape: AttendShape, out: &mut Operand) {
    let unit = qkv.is_bf16().then(|| Unit::fastest().unwrap_or(Unit::Plain));
    attend_on(Isa::widest(), unit, qkv, texts, shape, out);
}

thread_local! {
    static SPACE: RefCell<(Space, attend_tiles::Space)> = RefCell::default();
}

fn attend_on(
    isa: Isa,
    unit: Option<Unit>,
    qkv: &Operand,
    texts: &[Range<usize>],
    shape: AttendShape,
    out: &mut Operand,
) {
    let hidden = shape.heads * shape.width;
    assert!(qkv.width() == 3 * hidden && texts.iter().all(|rows| rows.end <= qkv.rows()));
    out.shape(if unit.is_some() { Precision::Bf16 } else { Precision::F32 }, qkv.rows(), hidden);
    let out = out.shared();
    for_each_index(texts.len() * shape.heads, |piece| {
        let (rows, head) = (texts[piece / shape.heads].clone(), piece % shape.heads);
        SPACE.with_borrow_mut(|(space, tiles)| {
            let job = Job { qkv, hidden, head, shape, rows, out: &out };
            // SAFETY: `isa` is one that this CPU has; each piece writes its own rows and columns of `out`.
            unsafe {
                match unit {
                    None => dispatch!(isa, attend_head(job: Job<'_>, space: &mut Space)),
                    Some(unit) => {
                        dispatch!(isa, attend_head_tiles(job: Job<'_>, unit: Unit, tiles: &mut attend_tiles::Space))
                    }
                }
            };
        });
    });
}

/// Working memory of a thread.
#[derive(Default)]
struct Space {
    /// `[panels of keys][width][32]`
    keys: Vec<f32>,
    /// `[panels of dimensions][tokens][32]`
    values: Vec<f32>,
    /// `[8][tokens, filled up to whole panels]`
    scores: Vec<f32>,
}

/// One head of one text.
pub(super) struct Job<'a> {
    pub(super) qkv: &'a Operand,
    hidden: usize,
    head: usize,
    pub(super) shape: AttendShape,
    /// The text's rows.
    pub(super) rows: Range<usize>,
    out: &'a SharedOperand<'a>,
}

impl Job<'_> {
    /// The column where the head's queries (part 0), keys (1) or values (2) begin.
    #[inline(always)]
    pub(super) fn column(&self, part: usize) -> usize {
        part * self.hidden + self.head * self.shape.width
    }

    /// Writes `sums * scale` (up to 32, changed on the way) to the dimensions from `from` of a token's result.
    ///
    /// # Safety
    /// Nobody else may use the head's columns of the text's rows of `out`.
    #[inline(always)]
    pub(super) unsafe fn write(&self, token: usize, from: usize, sums: &mut [f32], scale: f32) {
        let here = sums.len().min(self.shape.width - from);
        let mut sums = &mut sums[..here];
        for sum in sums.iter_mut() {
            *sum *= scale;
        }
        let mut column = self.column(0) + from;
        while !sums.is_empty() {
            // A head may begin within a step.
            let (now, rest) = sums.split_at_mut((STEP - column % STEP).min(sums.len()));
            // SAFETY: by the caller.
            unsafe { self.out.write(self.rows.start + token, column, now) };
            (column, sums) = (column + now.len(), rest);
        }
    }
}

/// # Safety
/// As for [`Lanes`], and nobody else may use the head's columns of the text's rows of `out`.
#[inline(always)]
unsafe fn attend_head<L: Lanes>(job: Job<'_>, space: &mut Space) {
    let (width, row_len, tokens) = (job.shape.width, 3 * job.hidden, job.rows.len());
    let padded = tokens.div_ceil(PANEL) * PANEL;
    let qkv = job.qkv.plain();
    let at = |token: usize, part: usize| &qkv[(job.rows.start + token) * row_len + job.column(part)..][..width];

    space.keys.clear();
    space.keys.resize(padded * width, 0.0);
    for token in 0..tokens {
        let panel = &mut space.keys[token / PANEL * PANEL * width..][..PANEL * width];
        for (d, key) in at(token, 1).iter().enumerate() {
            panel[d * PANEL + token % PANEL] = *key;
        }
    }
    let value_panels = width.div_ceil(PANEL);
    space.values.clear();
    space.values.resize(value_panels * tokens * PANEL, 0.0);
    for token in 0..tokens {
        for (panel, value) in at(token, 2).chunks(PANEL).enumerate() {
            space.values[(panel * tokens + token) * PANEL..][..value.len()].copy_from_slice(value);
        }
    }
    space.scores.resize(QUERIES * padded, 0.0);

    for query in (0..tokens).step_by(QUERIES) {
        let rows = QUERIES.min(tokens - query);
        let queries = at(query, 0).as_ptr();
        let scores = space.scores.as_mut_ptr();
        // Whole panels around what these queries see: from `first` on, `seen` keys.
        let seen = job.shape.seen(query..query + rows, tokens);
        let first = seen.start / PANEL * PANEL;
        let (end, seen) = (seen.end.div_ceil(PANEL) * PANEL, seen.end - first);
        // SAFETY: queries `query..query + rows` lie `row_len` apart; `scores` has `QUERIES` rows of `padded` numbers; each
        // panel of keys has `width` lines of 32, each panel of values `tokens`; `first + seen <= tokens`, `end <= padded`.
        unsafe {
            for panel in first / PANEL..end / PANEL {
                let keys = space.keys.as_ptr().add(panel * PANEL * width);
                let to = (scores.add(panel * PANEL), padded);
                block::<L>(rows, (queries, row_len), (keys, width), to);
            }
            let mut sums = [0.0f32; QUERIES];
            for (row, sum) in sums.iter_mut().enumerate().take(rows) {
                let line = std::slice::from_raw_parts_mut(scores.add(row * padded + first), end - first);
                let own = job.shape.seen(query + row..query + row + 1, tokens);
                *sum = softmax_numerators::<L>(line, own.start - first..own.end - first);
            }
            let mut result = [0.0f32; QUERIES * PANEL];
            for panel in 0..value_panels {
                let values = space.values.as_ptr().add((panel * tokens + first) * PANEL);
                block::<L>(rows, (scores.add(first), padded), (values, seen), (result.as_mut_ptr(), PANEL));
                for row in 0..rows {
                    job.write(query + row, panel * PANEL, &mut result[row * PANEL..][..PANEL], 1.0 / sums[row]);
                }
            }
        }
    }
}

/// `e^(score - largest)` in place over the numbers that are `seen`; gives their sum. The others may be anything.
///
/// # Safety
/// As for [`Lanes`]; `line` is whole vectors.
#[inline(always)]
pub(super) unsafe fn softmax_numerators<L: Lanes>(line: &mut [f32], seen: Range<usize>) -> f32 {
    // Far below every score, yet finite: its exponential is about 1e-38.
    line[..seen.start].fill(-1e30);
    line[seen.end..].fill(-1e30);
    // SAFETY: the line's length is a multiple of 32.
    unsafe {
        let mut largest = L::load(line.as_ptr());
        for i in (0..line.len()).step_by(L::N) {
            largest = largest.max(L::load(line.as_ptr().add(i)));
        }
        let shift = L::splat(-largest.reduce_max());
        let mut sums = L::splat(0.0);
        for i in (0..line.len()).step_by(L::N) {
            let e = exp(L::load(line.as_ptr().add(i)).add(shift));
            e.store(line.as_mut_ptr().add(i));
            sums = sums.add(e);
        }
        sums.reduce_sum()
    }
}

/// Up to eight rows with a panel: `to[r][32] = Σ_k x[r][k] * w[k][32]`. `x` and `to` are a start and the distance between
/// rows, `w` a start and the number of lines.
///
/// # Safety
/// As for [`Lanes`]; the pointers cover what the shapes say.
#[inline(always)]
unsafe fn block<L: Lanes>(rows: usize, x: (*const f32, usize), w: (*const f32, usize), to: (*mut f32, usize)) {
    let mut row = 0;
    // SAFETY: `row + R <= rows` in every call.
    unsafe {
        while row < rows {
            let (x, to) = ((x.0.add(row * x.1), x.1), (to.0.add(row * to.1), to.1));
            row += match rows - row {
                left if L::ROWS >= 8 && left >= 8 => block_rows::<L, 8>(x, w, to),
                left if L::ROWS >= 4 && left >= 4 => block_rows::<L, 4>(x, w, to),
                left if left >= 2 => block_rows::<L, 2>(x, w, to),
                _ => block_rows::<L, 1>(x, w, to),
            };
        }
    }
}

/// [`block`] for exactly `R` rows; gives `R`.
///
/// # Safety
/// As for [`block`].
#[inline(always)]
unsafe fn block_rows<L: Lanes, const R: usize>(
    x: (*const f32, usize),
    w: (*const f32, usize),
    to: (*mut f32, usize),
) -> usize {
    // SAFETY: passed on from the caller; `column + 2 * L::N <= PANEL`.
    unsafe {
        for column in (0..PANEL).step_by(2 * L::N) {
            let mut sums = [[L::splat(0.0); 2]; R];
            for k in 0..w.1 {
                let line = w.0.add(k * PANEL + column);
                let (w0, w1) = (L::load(line), L::load(line.add(L::N)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let a = L::splat(*x.0.add(r * x.1 + k));
                    sums[0] = a.fma(w0, sums[0]);
                    sums[1] = a.fma(w1, sums[1]);
                }
            }
            for (r, [s0, s1]) in sums.into_iter().enumerate() {
                let to = to.0.add(r * to.1 + column);
                s0.store(to);
                s1.store(to.add(L::N));
            }
        }
    }
    R
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// The definition, in `f64`.
    fn expected(qkv: &[f32], texts: &[Range<usize>], shape: AttendShape) -> Vec<f64> {
        let hidden = shape.heads * shape.width;
        let at = |row: usize, part: usize, i: usize| qkv[row * 3 * hidden + part * hidden + i] as f64;
        let mut out = vec![0.0; qkv.len() / 3];
        for rows in texts {
            for (query, head) in rows.clone().flat_map(|row| (0..shape.heads).map(move |head| (row, head))) {
                let dims = head * shape.width..(head + 1) * shape.width;
                let score = |key: usize| dims.clone().map(|i| at(query, 0, i) * at(key, 1, i)).sum::<f64>();
                let near = |key: usize| shape.reach.is_none_or(|reach| key.abs_diff(query) <= reach);
                let weight = |key: usize| if near(key) { score(key).exp() } else { 0.0 };
                let weights: Vec<f64> = rows.clone().map(weight).collect();
                let total: f64 = weights.iter().sum();
                for i in dims.clone() {
                    let sum: f64 = rows.clone().zip(&weights).map(|(key, weight)| weight * at(key, 2, i)).sum();
                    out[query * hidden + i] = sum / total;
                }
            }
        }
        out
    }

    #[test]
    fn attention_over_random_texts_matches_the_definition_on_every_instruction_set_and_unit() {
        let mut rng = StdRng::seed_from_u64(9);
        for _ in 0..25 {
            let reach = rng.random_bool(0.5).then(|| rng.random_range(0..70));
            let shape = AttendShape { heads: rng.random_range(1..4), width: rng.random_range(1..80), reach };
            let mut texts: Vec<Range<usize>> = Vec::new();
            for _ in 0..rng.random_range(1..4) {
                let from = texts.last().map_or(0, |text| text.end);
                texts.push(from..from + rng.random_range(1..90));
            }
            let rows = texts.last().map_or(0, |text| text.end);
            let hidden = shape.heads * shape.width;
            let qkv: Vec<f32> = (0..rows * 3 * hidden).map(|_| rng.random_range(-1.0..1.0)).collect();
            let expected = expected(&qkv, &texts, shape);
            let (mut operand, mut out) = (Operand::default(), Operand::default());
            let plain = Isa::all().into_iter().map(|isa| (isa, None, 1e-5));
            // bfloat16 has 8 bits.
            let tiles = Unit::all().into_iter().map(|unit| (Isa::widest(), Some(unit), 3e-2));
            for (isa, unit, tolerance) in plain.chain(tiles) {
                let precision = if unit.is_some() { Precision::Bf16 } else { Precision::F32 };
                operand.take(precision, &qkv, 3 * hidden);
                attend_on(isa, unit, &operand, &texts, shape, &mut out);
                for (got, expected) in out.to_plain().iter().zip(&expected) {
                    assert!((*got as f64 - expected).abs() < tolerance, "{isa:?} {unit:?} {shape:?} {texts:?}");
                }
            }
        }
    }
}
