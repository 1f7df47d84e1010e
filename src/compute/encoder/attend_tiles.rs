//! Attention over tiles of bfloat16: scores and sums are products of 32 queries with panels of 32.
//!
//! A head's keys are a weight matrix (an output for each key), and so are its values (an output for each dimension, keys
//! as inputs); both are copied from bfloat16 to bfloat16. Scores of 32 queries are `f32`; their softmax is rounded to be
//! the next product's operand.

use super::attend::{Job, softmax_numerators};
use super::bf16::{PANEL, Sums, Unit};
use super::operand::{Line, ROWS, STEP, line_at, round};
use crate::compute::lanes::Lanes;

/// Queries at a time.
const QUERIES: usize = 32;

/// Working memory of a thread.
#[derive(Default)]
pub(super) struct Space {
    /// `[blocks of 16 tokens][steps of a head's width][16]`
    queries: Vec<Line>,
    /// `[panels of 32 keys][steps of a head's width][2][16]`
    keys: Vec<Line>,
    /// `[panels of 32 dimensions][steps of 32 keys][2][16]`
    values: Vec<Line>,
    /// `[32 queries][tokens, filled up to whole panels]`
    scores: Vec<f32>,
    /// Softmax numerators: `[2 blocks][steps of 32 keys][16]`
    weights: Vec<Line>,
}

/// # Safety
/// As for [`Lanes`], and nobody else may use the head's columns of the text's rows of the result.
#[inline(always)]
pub(super) unsafe fn attend_head_tiles<L: Lanes>(job: Job<'_>, unit: Unit, space: &mut Space) {
    let (width, tokens) = (job.shape.width, job.rows.len());
    let (across, along) = (width.div_ceil(STEP), tokens.div_ceil(PANEL));
    pack(&job, space);
    let Space { queries, keys, values, scores, weights } = space;
    scores.resize(QUERIES * along * PANEL, 0.0);
    weights.resize(2 * along * ROWS, Line::ZERO);
    let mut block = Sums::default();
    unit.begin();
    for query in (0..tokens).step_by(QUERIES) {
        let rows = QUERIES.min(tokens - query);
        for (panel, keys) in keys.chunks_exact(across * 2 * ROWS).enumerate() {
            unit.multiply(&queries[query * across..], keys, across, rows, &mut block);
            for (row, from) in block.0.chunks_exact(PANEL).take(rows).enumerate() {
                scores[(row * along + panel) * PANEL..][..PANEL].copy_from_slice(from);
            }
        }
        let mut sums = [0.0f32; QUERIES];
        for (row, line) in scores.chunks_exact_mut(along * PANEL).take(rows).enumerate() {
            let seen = job.shape.seen(query + row..query + row + 1, tokens);
            // SAFETY: by the caller; the line is whole panels.
            sums[row] = unsafe { softmax_numerators::<L>(line, seen) };
            for (step, numbers) in line.chunks_exact(STEP).enumerate() {
                round(numbers, &mut weights[line_at(row, step, along)].0);
            }
        }
        for (panel, values) in values.chunks_exact(along * 2 * ROWS).enumerate() {
            unit.multiply(weights, values, along, rows, &mut block);
            for (row, from) in block.0.chunks_exact_mut(PANEL).take(rows).enumerate() {
                // SAFETY: by the caller.
                unsafe { job.write(query + row, panel * PANEL, from, 1.0 / sums[row]) };
            }
        }
    }
    unit.end();
}

/// Copies the head's queries, keys and values into tiles of their own.
#[inline(always)]
fn pack(job: &Job<'_>, space: &mut Space) {
    let (width, tokens) = (job.shape.width, job.rows.len());
    let (across, along) = (width.div_ceil(STEP), tokens.div_ceil(PANEL));
    // Lines that are not written below stay 0 for inputs, outputs and keys that do not exist.
    for (lines, count) in [
        (&mut space.queries, along * 2 * across * ROWS),
        (&mut space.keys, along * across * 2 * ROWS),
        (&mut space.values, across * along * 2 * ROWS),
    ] {
        lines.clear();
        lines.resize(count, Line::ZERO);
    }
    let (lines, steps) = (job.qkv.lines(), job.qkv.steps());
    let columns = [job.column(0), job.column(1), job.column(2)];
    for token in 0..tokens {
        let line = |column: usize| &lines[line_at(job.rows.start + token, column / STEP, steps)].0;
        let mut part = [0u16; STEP];
        for step in 0..across {
            let here = STEP.min(width - step * STEP);
            for (kind, column) in columns.iter().enumerate() {
                let from = column + step * STEP;
                if from % STEP == 0 && here == STEP {
                    part = *line(from);
                } else {
                    part.fill(0);
                    for i in 0..here {
                        part[i] = line(from + i)[(from + i) % STEP];
                    }
                }
                match kind {
                    0 => space.queries[line_at(token, step, across)].0 = part,
                    1 => {
                        let first = ((token / PANEL * across + step) * 2 + token % PANEL / 16) * ROWS;
                        for pair in 0..ROWS {
                            let to = &mut space.keys[first + pair].0;
                            to[2 * (token % 16)] = part[2 * pair];
                            to[2 * (token % 16) + 1] = part[2 * pair + 1];
                        }
                    }
                    _ => {
                        for half in 0..2 {
                            let first = ((step * along + token / STEP) * 2 + half) * ROWS;
                            let to = &mut space.values[first + token % STEP / 2].0;
                            for i in 0..16 {
                                to[2 * i + token % 2] = part[16 * half + i];
                            }
                        }
                    }
                }
            }
        }
    }
}
