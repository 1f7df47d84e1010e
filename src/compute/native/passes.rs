//! What happens to rows between products: norms, rounding, gates.

use std::cell::RefCell;

use super::product::GROUP;
use super::rounded::{RoundedRows, SharedRounded};
use super::tile::{BLOCK, COLUMNS, Isa, Tile, on_isa};
use super::weights::Norm;
use crate::compute::parallel::{SharedOut, for_each_index};
use crate::compute::{Activation, RopeRows, gate, norm};

/// Rows in one piece of work are chosen to make about this many numbers.
const PIECE: usize = 8 * 1024;

thread_local! {
    /// One row before a norm, or between a norm and its rounding.
    static ROW: RefCell<Vec<f32>> = RefCell::default();
}

/// Calls `row` for all rows, some of them at a time on each core.
fn for_each_row(rows: usize, width: usize, row: impl Fn(usize) + Sync) {
    let step = (PIECE / width).max(1);
    for_each_index(rows.div_ceil(step), |piece| (piece * step..rows.min((piece + 1) * step)).for_each(&row));
}

/// Normalises the rows of `x` that `rows` names, in its order.
pub(super) fn norm(isa: Isa, x: &[f32], rows: impl Fn(usize) -> usize + Sync, norm: &Norm, out: &mut [f32]) {
    let width = norm.weight.len();
    let count = out.len() / width;
    let shared = SharedOut::new(out);
    for_each_row(count, width, |i| {
        // SAFETY: every row is one piece's alone.
        let out = unsafe { shared.slice(i * width, width) };
        norm::rms_norm_row(isa.lanes(), &x[rows(i) * width..][..width], &norm.weight, norm.eps, out);
    });
}

/// Normalises all heads of the rows of `x` where there is a norm, and rotates them where there are angles. One pass for both:
/// the rows of a long prompt do not fit the nearer caches.
pub(super) fn norm_and_rotate(
    isa: Isa,
    x: &mut [f32],
    shape: [usize; 2],
    norm: Option<&Norm>,
    rope: Option<&RopeRows>,
) {
    let [heads, head_dim] = shape;
    let width = heads * head_dim;
    let count = x.len() / width;
    let shared = SharedOut::new(x);
    for_each_row(count, width, |i| {
        ROW.with_borrow_mut(|before| {
            // SAFETY: every row is one piece's alone.
            let row = unsafe { shared.slice(i * width, width) };
            before.resize(head_dim, 0.0);
            for head in row.chunks_exact_mut(head_dim) {
                if let Some(norm) = norm {
                    before.copy_from_slice(head);
                    norm::rms_norm_row(isa.lanes(), before, &norm.weight, norm.eps, head);
                }
                if let Some(rope) = rope {
                    // SAFETY: `isa` is one that this CPU has.
                    unsafe { on_isa!(isa, rotate(rope: &RopeRows, i: usize, head: &mut [f32])) }
                }
            }
        });
    });
}

/// # Safety
/// As for [`Tile`].
#[inline(always)]
unsafe fn rotate<T: Tile>(rope: &RopeRows, row: usize, head: &mut [f32]) {
    rope.rotate(row, head);
}

/// Normalises the rows of `x` that `rows` names, in its order, and rounds them.
pub(super) fn norm_and_round(
    isa: Isa,
    x: &[f32],
    rows: impl Fn(usize) -> usize + Sync,
    norm: &Norm,
    to: &mut RoundedRows,
) {
    let (width, count) = (to.width(), to.rows());
    let to = to.shared();
    for_each_row(count, width, |i| {
        ROW.with_borrow_mut(|normed| {
            normed.resize(width, 0.0);
            norm::rms_norm_row(isa.lanes(), &x[rows(i) * width..][..width], &norm.weight, norm.eps, normed);
            let from = &normed[..];
            // SAFETY: `isa` is one that this CPU has, and the row is one piece's alone.
            unsafe { on_isa!(isa, round_row(from: &[f32], to: SharedRounded, i: usize)) }
        });
    });
}

/// Rounds all rows of `x`.
pub(super) fn round(isa: Isa, x: &[f32], to: &mut RoundedRows) {
    let (width, count) = (to.width(), to.rows());
    let to = to.shared();
    for_each_row(count, width, |i| {
        let from = &x[i * width..][..width];
        // SAFETY: as above.
        unsafe { on_isa!(isa, round_row(from: &[f32], to: SharedRounded, i: usize)) }
    });
}

/// `activation(gate) * up` of a group's sums (`[rows][32]`, the first being row `row`), rounded into block `block`.
///
/// # Safety
/// Nobody else uses the block of these rows.
pub(super) unsafe fn gate_and_round(
    isa: Isa,
    activation: Activation,
    [gate, up]: [&mut [f32]; 2],
    to: SharedRounded,
    row: usize,
    block: usize,
) {
    gate::gate_times_slice(isa.lanes(), activation, gate, up);
    let gate = &gate[..];
    // SAFETY: `isa` is one that this CPU has; the block is the caller's.
    unsafe { on_isa!(isa, round_column(gate: &[f32], to: SharedRounded, row: usize, block: usize)) }
}

/// Where a group's sums go: `[rows][width]`, from row `row` and column `first` on.
#[derive(Clone, Copy)]
pub(super) struct GroupAt<'a> {
    pub(super) out: &'a SharedOut<'a>,
    pub(super) width: usize,
    pub(super) row: usize,
    pub(super) first: usize,
    /// True where they are added to what is there.
    pub(super) add: bool,
}

/// Writes or adds the sums (`[rows][32]`) of a group whose columns are all there.
///
/// # Safety
/// Nobody else uses these rows' columns.
pub(super) unsafe fn put_group(isa: Isa, sums: &[f32], to: GroupAt<'_>) {
    // SAFETY: `isa` is one that this CPU has; the columns are the caller's.
    unsafe { on_isa!(isa, put_rows(sums: &[f32], to: GroupAt<'_>)) }
}

/// # Safety
/// As for [`Tile`] and [`put_group`].
#[inline(always)]
unsafe fn put_rows<T: Tile>(sums: &[f32], to: GroupAt<'_>) {
    for row in 0..sums.len() / GROUP {
        // SAFETY: a group has 32 numbers here and there.
        unsafe {
            let out = to.out.slice((to.row + row) * to.width + to.first, GROUP).as_mut_ptr();
            for half in 0..GROUP / COLUMNS {
                let sum = T::load(sums.as_ptr().add(row * GROUP + half * COLUMNS));
                let out = out.add(half * COLUMNS);
                // A product by 1 is exact: this is a plain sum.
                T::store(if to.add { T::fma(sum, T::splat(1.0), T::load(out)) } else { sum }, out);
            }
        }
    }
}

/// # Safety
/// As for [`SharedRounded::round`], for all blocks of the row.
#[inline(always)]
unsafe fn round_row<T: Tile>(from: &[f32], to: SharedRounded, row: usize) {
    for block in 0..from.len() / BLOCK {
        // SAFETY: passed on from the caller.
        unsafe { to.round::<T>(row, block, from.as_ptr().add(block * BLOCK)) }
    }
}

/// # Safety
/// As for [`SharedRounded::round`], for the block of all rows.
#[inline(always)]
unsafe fn round_column<T: Tile>(from: &[f32], to: SharedRounded, first: usize, block: usize) {
    for row in 0..from.len() / BLOCK {
        // SAFETY: passed on from the caller.
        unsafe { to.round::<T>(first + row, block, from.as_ptr().add(row * BLOCK)) }
    }
}
