//! Products of rounded activations with packed weights.
//!
//! Work is cut into *groups* of 32 columns (two tiles) by some rows. What happens to a group's sums is the caller's: it
//! is handed `[rows][32]` numbers while they lie in the nearest cache.
//!
//! - *Few rows* (as many as keep their sums in registers beside a tile): weights are unpacked from memory straight into
//!   registers. One row is bound by memory.
//! - *Many rows*: a stretch of a group is unpacked once into a buffer that the nearest cache holds, and all rows pass
//!   over it, six rows by two tiles of registers at a time.
//!
//! Either way a row's sum takes in its blocks in order, each by the same operations ([`take_in`]), so that the bits of a
//! row's result do not depend on the rows beside it.

use std::cell::RefCell;
use std::ops::Range;

use super::code::{Code, TileAt, for_code};
use super::packed::Packed;
use super::rounded::{Block, ORIGIN, RoundedRows};
use super::tile::{BLOCK, COLUMNS, Isa, STEP, Tile, on_isa};
use crate::compute::parallel::for_each_index;

/// Columns of a group.
pub(super) const GROUP: usize = 2 * COLUMNS;

/// Bytes of one piece of work's rows, at most: they stay in the second cache while one group after the other meets them.
const PIECE_BYTES: usize = 9 << 17;

/// Fewest and most rows of a piece: each piece unpacks the weights again, and the sums of one lie in that cache too.
const PIECE_ROWS: (usize, usize) = (10 * ROWS_TOGETHER, 43 * ROWS_TOGETHER);

/// Rows in registers beside two tiles, on the widest machine.
const ROWS_TOGETHER: usize = 6;

/// Blocks that are unpacked at a time, at most: 18 KiB of a group's bytes, so that they and the rows' blocks fit the nearest
/// cache. (A row of 576 numbers is 18 blocks, and passes at once.)
const STRETCH: usize = 18;

/// How far ahead few rows ask for weights, in bytes: what memory brings while a tile is multiplied.
const AHEAD: usize = 8192;

/// Buffers of a thread.
#[derive(Default)]
struct Scratch {
    bytes: Vec<Lines>,
    sides: Vec<f32>,
    sums: [Vec<f32>; 2],
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Lines([u8; STEP]);

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Rows as a kernel reads them.
#[derive(Clone, Copy)]
struct RowsAt {
    start: *const Block,
    /// Blocks in a row.
    blocks: usize,
}

/// Multiplies all rows of `x` with the columns of `weights`, and hands out the sums of each group:
/// `done(weight, first column, rows, sums)`, from several threads.
pub(super) fn for_each_group(
    isa: Isa,
    x: &RoundedRows,
    weights: &[&Packed],
    done: impl Fn(usize, usize, Range<usize>, &mut [f32]) + Sync,
) {
    let mut starts = vec![0];
    weights.iter().for_each(|w| starts.push(starts[starts.len() - 1] + w.outputs.div_ceil(GROUP)));
    for_each_piece(x, starts[weights.len()], |group, rows, scratch| {
        let which = starts.partition_point(|start| *start <= group) - 1;
        let group = group - starts[which];
        let mut sums = std::mem::take(&mut scratch.sums[0]);
        let here = group_sums(isa, weights[which], group, x, rows.clone(), scratch, &mut sums);
        done(which, group * GROUP, rows, here);
        scratch.sums[0] = sums;
    });
}

/// As [`for_each_group`], the same columns of two matrices of one shape at a time: `done(first column, rows, a, b)`.
pub(super) fn for_each_group_of_two(
    isa: Isa,
    x: &RoundedRows,
    weights: [&Packed; 2],
    done: impl Fn(usize, Range<usize>, &mut [f32], &mut [f32]) + Sync,
) {
    for_each_piece(x, weights[0].outputs.div_ceil(GROUP), |group, rows, scratch| {
        let [mut a, mut b] = std::mem::take(&mut scratch.sums);
        let gate = group_sums(isa, weights[0], group, x, rows.clone(), scratch, &mut a);
        let up = group_sums(isa, weights[1], group, x, rows.clone(), scratch, &mut b);
        done(group * GROUP, rows, gate, up);
        scratch.sums = [a, b];
    });
}

fn for_each_piece(x: &RoundedRows, groups: usize, piece: impl Fn(usize, Range<usize>, &mut Scratch) + Sync) {
    let rows = x.rows();
    let row_bytes = x.width() / BLOCK * size_of::<Block>();
    let most = (PIECE_BYTES / row_bytes.max(1)).clamp(PIECE_ROWS.0, PIECE_ROWS.1);
    let pieces = rows.div_ceil(most / ROWS_TOGETHER * ROWS_TOGETHER);
    // Pieces of like length: each unpacks the weights again.
    let each = rows.div_ceil(pieces.max(1)).next_multiple_of(ROWS_TOGETHER);
    for_each_index(groups * pieces, |index| {
        let (part, group) = (index / groups, index % groups);
        let first = (part * each).min(rows);
        SCRATCH.with_borrow_mut(|scratch| piece(group, first..rows.min(first + each), scratch));
    });
}

/// The sums of a group's columns over some rows, `[rows][32]`, in room that is kept.
fn group_sums<'a>(
    isa: Isa,
    weight: &Packed,
    group: usize,
    x: &RoundedRows,
    rows: Range<usize>,
    scratch: &mut Scratch,
    room: &'a mut Vec<f32>,
) -> &'a mut [f32] {
    assert!(x.width() == weight.inputs && rows.end <= x.rows() && weight.outputs > group * GROUP);
    if room.len() < rows.len() * GROUP {
        room.resize(rows.len() * GROUP, 0.0);
    }
    let sums = &mut room[..rows.len() * GROUP];
    scratch.bytes.resize(2 * STRETCH * 8, Lines([0; STEP]));
    scratch.sides.resize(2 * 4 * STRETCH * COLUMNS, 0.0);
    let tiles = [weight.tile(2 * group), weight.tile(2 * group + 1)];
    let job = Job {
        tiles: &tiles,
        rows: rows.len(),
        sums: sums.as_mut_ptr(),
        next: 2 * weight.tile_bytes(),
        bytes: scratch.bytes.as_mut_ptr().cast(),
        sides: scratch.sides.as_mut_ptr(),
    };
    for_code!(weight.format, F => {
        let blocks = x.width() / BLOCK;
        let x = RowsAt { start: x.blocks[rows.start * blocks..].as_ptr(), blocks };
        // SAFETY: `isa` is one that this CPU has; the tiles have as many blocks as the rows, and the buffers above have
        // the sizes that the kernel needs.
        unsafe { on_isa!(isa, run::<[F: Code]>(x: RowsAt, job: Job<'_>)) }
    });
    sums
}

/// A group's work.
struct Job<'a> {
    tiles: &'a [TileAt; 2],
    rows: usize,
    /// `[rows][32]`
    sums: *mut f32,
    /// Room for unpacked steps, `[tile][block][8]`.
    bytes: *mut u8,
    /// Bytes from a tile to the same one of the next group.
    next: usize,
    /// Room for unpacked scales and shifts, `[tile][block][half][scale, shift][16]`.
    sides: *mut f32,
}

/// # Safety
/// As for [`Tile`]; pointers and sizes as told in [`Job`] and [`RowsAt`].
#[inline(always)]
unsafe fn run<T: Tile, F: Code>(x: RowsAt, job: Job<'_>) {
    // SAFETY: passed on from the caller.
    unsafe {
        if job.rows <= T::ROWS || T::PAIR_ROWS == 0 {
            let mut row = 0;
            while row < job.rows {
                let here = RowsAt { start: x.start.add(row * x.blocks), ..x };
                let left = (job.rows - row).min(T::ROWS);
                for (t, tile) in job.tiles.iter().enumerate() {
                    let to = job.sums.add(row * GROUP + t * COLUMNS);
                    match left {
                        8 if T::ROWS >= 8 => few::<T, F, 8>(tile, here, to),
                        7 if T::ROWS >= 8 => few::<T, F, 7>(tile, here, to),
                        6 if T::ROWS >= 8 => few::<T, F, 6>(tile, here, to),
                        5 if T::ROWS >= 8 => few::<T, F, 5>(tile, here, to),
                        4 if T::ROWS >= 8 => few::<T, F, 4>(tile, here, to),
                        3 if T::ROWS >= 3 => few::<T, F, 3>(tile, here, to),
                        2 if T::ROWS >= 2 => few::<T, F, 2>(tile, here, to),
                        _ => few::<T, F, 1>(tile, here, to),
                    }
                }
                row += left;
            }
            return;
        }
        // Stretches of like length: each loads and stores the sums.
        let each = x.blocks.div_ceil(x.blocks.div_ceil(STRETCH).max(1));
        let mut from = 0;
        while from < x.blocks {
            let stretch = from..x.blocks.min(from + each);
            unpack::<T, F>(&job, stretch.clone());
            from = stretch.end;
            let mut row = 0;
            while row < job.rows {
                fetch_next::<T, F>(&job, x, stretch.clone(), row);
                row += match (T::PAIR_ROWS, job.rows - row) {
                    (6, 6..) => many::<T, F, 2, 6>(&job, x, row, stretch.clone()),
                    (6, 4 | 5) => many::<T, F, 2, 4>(&job, x, row, stretch.clone()),
                    (6, 2 | 3) => many::<T, F, 2, 2>(&job, x, row, stretch.clone()),
                    (6, _) => many::<T, F, 2, 1>(&job, x, row, stretch.clone()),
                    (_, 3..) => many::<T, F, 1, 3>(&job, x, row, stretch.clone()),
                    _ => many::<T, F, 1, 1>(&job, x, row, stretch.clone()),
                };
            }
        }
    }
}

/// What the whole-number sums of a block, or half of one, start from.
#[inline(always)]
unsafe fn start<T: Tile, F: Code>(x: *const Block, half: usize) -> T::Ints {
    // SAFETY: passed on from the caller.
    unsafe {
        match F::START {
            // What signed machines multiply has no offset left.
            Some(offset) if !(T::SIGNED && F::WIDE) => T::whole((&(*x).starts)[offset + half]),
            _ => T::whole(ORIGIN.to_bits() as i32),
        }
    }
}

/// A block's part of a sum: `sum + scale * (d * dots)`, and `shift * d * Σ a` after it where there is a shift. A fused
/// product by `d` takes the origin away in the same operation.
#[inline(always)]
unsafe fn take_in<T: Tile, F: Code>(
    sum: T::Floats,
    dots: T::Ints,
    [scale, shift]: [T::Floats; 2],
    x: *const Block,
) -> T::Floats {
    // SAFETY: passed on from the caller.
    unsafe {
        let part = T::fma(T::bits(dots), T::splat((*x).scale), T::splat((*x).minus_origin));
        let sum = T::fma(part, scale, sum);
        match (F::START, F::ROUNDED_SUMS) {
            (Some(_), _) => sum,
            (None, true) => T::fma(shift, T::splat((*x).coarse_sum), sum),
            (None, false) => T::fma(shift, T::splat((*x).sum), sum),
        }
    }
}

#[inline(always)]
unsafe fn dot<T: Tile, F: Code>(sum: T::Ints, weights: T::Bytes, activations: *const i8) -> T::Ints {
    // SAFETY: passed on from the caller.
    unsafe { if F::WIDE { T::dot_wide(sum, weights, activations) } else { T::dot(sum, weights, activations) } }
}

/// `R` rows times one tile.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn few<T: Tile, F: Code, const R: usize>(tile: &TileAt, x: RowsAt, to: *mut f32) {
    // SAFETY: block, step and row are within the rows and the tile.
    unsafe {
        let mut sums = [T::splat(0.0); R];
        for block in 0..x.blocks {
            for line in (0..F::QUANTS).step_by(STEP) {
                T::prefetch(tile.quants.wrapping_add(block * F::QUANTS + line + AHEAD));
            }
            T::prefetch(tile.sides.wrapping_add(block * F::SIDES + AHEAD));
            let steps = F::steps::<T>(tile, block);
            let x = RowsAt { start: x.start.add(block), ..x };
            for half in 0..F::HALVES {
                let mut dots = [T::zero(); R];
                for r in 0..R {
                    dots[r] = start::<T, F>(x.start.add(r * x.blocks), half);
                }
                for step in half * (8 / F::HALVES)..(half + 1) * (8 / F::HALVES) {
                    for r in 0..R {
                        let activations = (*x.start.add(r * x.blocks)).bytes.as_ptr().add(4 * step);
                        dots[r] = dot::<T, F>(dots[r], steps[step], activations);
                    }
                }
                let sides = [F::scale::<T>(tile, block, half), F::shift::<T>(tile, block, half)];
                for r in 0..R {
                    sums[r] = take_in::<T, F>(sums[r], dots[r], sides, x.start.add(r * x.blocks));
                }
            }
        }
        for r in 0..R {
            T::store(sums[r], to.add(r * GROUP));
        }
    }
}

/// Unpacks a stretch of both tiles.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn unpack<T: Tile, F: Code>(job: &Job<'_>, stretch: Range<usize>) {
    // SAFETY: the stretch is within the tiles and fits the room.
    unsafe {
        for (t, tile) in job.tiles.iter().enumerate() {
            for (at, block) in stretch.clone().enumerate() {
                let at = t * STRETCH + at;
                for (step, bytes) in F::steps::<T>(tile, block).into_iter().enumerate() {
                    T::store_bytes(bytes, job.bytes.add((at * 8 + step) * STEP));
                }
                for half in 0..F::HALVES {
                    let to = job.sides.add((at * F::HALVES + half) * GROUP);
                    T::store(F::scale::<T>(tile, block, half), to);
                    T::store(F::shift::<T>(tile, block, half), to.add(COLUMNS));
                }
            }
        }
    }
}

/// While a stretch is multiplied, asks little by little for the weights of the next one, or of the next group's first: memory
/// takes longer to bring them than to unpack them. `row` says how far the multiplication has come.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn fetch_next<T: Tile, F: Code>(job: &Job<'_>, x: RowsAt, stretch: Range<usize>, row: usize) {
    let parts = job.rows.div_ceil(ROWS_TOGETHER);
    let part = row / ROWS_TOGETHER;
    for tile in job.tiles {
        for (run, block) in [(tile.quants, F::QUANTS), (tile.sides, F::SIDES)] {
            let from = if stretch.end < x.blocks { stretch.end * block } else { job.next };
            let lines = stretch.len() * block / STEP;
            let mut line = part * lines / parts;
            while line < (part + 1) * lines / parts {
                // SAFETY: any address will do.
                unsafe { T::prefetch(run.wrapping_add(from + line * STEP)) };
                line += 1;
            }
        }
    }
}

/// `R` rows from `row` take in a stretch of both tiles, `C` at a time; gives `R`.
///
/// # Safety
/// As for [`run`]; `row + R` is within the rows, and the stretch has been unpacked.
#[inline(always)]
unsafe fn many<T: Tile, F: Code, const C: usize, const R: usize>(
    job: &Job<'_>,
    x: RowsAt,
    row: usize,
    stretch: Range<usize>,
) -> usize {
    // SAFETY: blocks, steps and rows are within what the caller promises.
    unsafe {
        let x = RowsAt { start: x.start.add(row * x.blocks), ..x };
        for first in (0..2).step_by(C) {
            let to = job.sums.add(row * GROUP + first * COLUMNS);
            let mut sums = [[T::splat(0.0); R]; C];
            if stretch.start > 0 {
                for (c, sums) in sums.iter_mut().enumerate() {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        *sum = T::load(to.add(r * GROUP + c * COLUMNS));
                    }
                }
            }
            for block in stretch.clone() {
                let at = first * STRETCH + block - stretch.start;
                for half in 0..F::HALVES {
                    let mut dots = [[T::zero(); R]; C];
                    for r in 0..R {
                        let start = start::<T, F>(x.start.add(r * x.blocks + block), half);
                        for c in 0..C {
                            dots[c][r] = start;
                        }
                    }
                    for step in half * (8 / F::HALVES)..(half + 1) * (8 / F::HALVES) {
                        let bytes = job.bytes.add((at * 8 + step) * STEP);
                        let mut weights = [T::bytes(bytes); C];
                        for c in 1..C {
                            weights[c] = T::bytes(bytes.add(c * STRETCH * 8 * STEP));
                        }
                        for r in 0..R {
                            let from = (*x.start.add(r * x.blocks + block)).bytes.as_ptr().add(4 * step);
                            for c in 0..C {
                                dots[c][r] = dot::<T, F>(dots[c][r], weights[c], from);
                            }
                        }
                    }
                    for c in 0..C {
                        let sides = job.sides.add((at + c * STRETCH) * F::HALVES * GROUP + half * GROUP);
                        let sides = [T::load(sides), T::load(sides.add(COLUMNS))];
                        for r in 0..R {
                            let x = x.start.add(r * x.blocks + block);
                            sums[c][r] = take_in::<T, F>(sums[c][r], dots[c][r], sides, x);
                        }
                    }
                }
            }
            for (c, sums) in sums.iter().enumerate() {
                for (r, sum) in sums.iter().enumerate() {
                    T::store(*sum, to.add(r * GROUP + c * COLUMNS));
                }
            }
        }
        R
    }
}
