//! Keys and values at 8 bits, and attention over them in whole numbers.
//!
//! A key is rounded as one row of a head: 127 stands for its largest number, one scale a (position, head). So what lies
//! in the pool depends on its own position alone. Large numbers in few places of a row would leave little for the rest;
//! therefore keys, and the queries that meet them, are first turned by a Hadamard transform (`spread`), which
//! leaves their products as they are and shares every number out over the whole row (as QuaRot, Ashkboos et al. 2024,
//! does). Values are rounded likewise, turned before and turned back after attention.
//!
//! Layout: one run of bytes a layer; in it blocks of 32 tokens; in a block the KV heads one after another, each
//!
//! ```text
//! keys          [head_dim / 4][32 tokens][4]        bytes, 128 added
//! key scales    [32 tokens]                         f32
//! values        [32 tokens / 4][head_dim][4]        signed bytes
//! value scales  [32 tokens]                         f32
//! ```
//!
//! so that both products take four numbers of a key, or four tokens of a value, in one lane of an instruction
//! ([`tile`](super::tile)). Head sizes are padded to multiples of 16. A token takes `2 * head_dim + 8` bytes a head,
//! about half of what half precision takes.
//!
//! How queries meet the blocks is in [`attend`].

mod attend;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

use self::attend::{Job, Rows, Seen, attend_tile};
use super::tile::{Isa, Tile, on_isa};
use crate::compute::lanes::Lanes;
use crate::compute::paged::{Piece, for_each_piece, out_of_pool};
use crate::compute::parallel::{SharedOut, for_each_index};
use crate::compute::{Attend, AttentionShape, BLOCK_TOKENS, ComputeError, KvShape, Plan, RopeRows};

/// Columns of a vector, and what head sizes are padded to.
const COLUMNS: usize = 16;

/// Query rows of a tile, about.
const TILE_ROWS: usize = 48;

/// Tokens of a step that a sequence has at most to share its tiles with others.
const FEW: usize = 4;

thread_local! {
    /// A thread's head.
    static HEAD: RefCell<Head> = RefCell::default();
    /// A thread's tile.
    static ROWS: RefCell<Rows> = RefCell::default();
}

/// The pool.
pub(super) struct Kv8 {
    shape: KvShape,
    layout: Layout,
    /// One run of bytes a layer; pages are taken from the system as blocks are first written.
    layers: Vec<Bytes>,
}

/// Where things lie in one head of one block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    head_dim: usize,
    /// `head_dim`, padded.
    padded: usize,
    /// Numbers that are turned together: the largest power of two that divides `head_dim`.
    turned: usize,
}

impl Layout {
    fn of(attention: &AttentionShape) -> Self {
        let head_dim = attention.head_dim;
        Self { head_dim, padded: head_dim.next_multiple_of(COLUMNS), turned: 1 << head_dim.trailing_zeros() }
    }

    fn key_scales(&self) -> usize {
        self.padded * BLOCK_TOKENS
    }

    fn values(&self) -> usize {
        self.key_scales() + BLOCK_TOKENS * size_of::<f32>()
    }

    fn value_scales(&self) -> usize {
        self.values() + self.padded * BLOCK_TOKENS
    }

    /// Bytes of one head of one block: a multiple of 64.
    fn head(&self) -> usize {
        self.value_scales() + BLOCK_TOKENS * size_of::<f32>()
    }
}

/// Zeroed bytes from a multiple of 64. A plain vector, since only that comes from the system untouched.
struct Bytes {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bytes {
    fn new(len: usize) -> Self {
        let memory = vec![0u8; len + 64];
        let start = memory.as_ptr().align_offset(64);
        Self { memory, start, len }
    }

    fn all(&self) -> &[u8] {
        &self.memory[self.start..][..self.len]
    }

    fn all_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }
}

impl Kv8 {
    /// Reserves the pool.
    ///
    /// # Errors
    /// Where it does not fit the address space.
    pub(super) fn new(shape: KvShape) -> Result<Self, ComputeError> {
        let layout = Layout::of(&shape.attention);
        let bytes = (shape.attention.kv_heads * layout.head()).checked_mul(shape.blocks);
        let bytes = bytes.filter(|n| *n < isize::MAX as usize / 2);
        let bytes = bytes.ok_or_else(|| ComputeError::Step("the KV pool is too large".into()))?;
        Ok(Self { shape, layout, layers: (0..shape.layers).map(|_| Bytes::new(bytes)).collect() })
    }

    /// Bytes of one block over all layers.
    pub(super) fn block_bytes(shape: &KvShape) -> usize {
        Layout::of(&shape.attention).head() * shape.attention.kv_heads * shape.layers
    }

    pub(super) fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// Rotates the keys of a step (`[row][kv head][head_dim]`) and writes them and the values to their blocks.
    pub(super) fn write(
        &mut self,
        isa: Isa,
        layer: usize,
        keys: &mut [f32],
        values: &[f32],
        rope: &RopeRows,
        plan: &Plan<'_>,
    ) -> Result<(), ComputeError> {
        let AttentionShape { kv_heads, head_dim, .. } = self.shape.attention;
        let layout = self.layout;
        let to = SharedOut::new(self.layers[layer].all_mut());
        let keys = SharedOut::new(keys);
        let write = |piece: &Piece, head: usize| {
            HEAD.with_borrow_mut(|rounded| {
                rounded.fit(&layout);
                // SAFETY: pieces are of different blocks (or run one after the other), and of different rows; `isa` is
                // one that this CPU has.
                unsafe {
                    let to = to.slice((piece.block * kv_heads + head) * layout.head(), layout.head());
                    for (row, slot) in piece.rows.clone().zip(piece.slot..) {
                        let from = (row * kv_heads + head) * head_dim;
                        let (key, value) = (keys.slice(from, head_dim), &values[from..][..head_dim]);
                        let (head, to) = (&mut *rounded, &mut *to);
                        on_isa!(isa, rotate_and_put(
                            layout: Layout, rope: &RopeRows, row: usize, slot: usize, key: &mut [f32], value: &[f32],
                            head: &mut Head, to: &mut [u8]
                        ));
                    }
                }
            });
        };
        for_each_piece(plan, self.shape.blocks, kv_heads, write)
    }

    /// Attention of rotated queries `[row][head][head_dim]`, into `out` in the same layout.
    ///
    /// # Errors
    /// Windows and caps, which these kernels do not have.
    pub(super) fn attend(
        &self,
        isa: Isa,
        layer: usize,
        q: &[f32],
        how: &Attend,
        plan: &Plan<'_>,
        out: &mut [f32],
    ) -> Result<(), ComputeError> {
        assert_eq!(q.len(), out.len());
        if how.is_masked() {
            return Err(ComputeError::Step("attention over 8-bit keys has no windows and caps".into()));
        }
        let attention = self.shape.attention;
        let group = attention.heads / attention.kv_heads;
        let (tokens, tiles) = tiles(plan, (TILE_ROWS / group).max(1));
        let out = SharedOut::new(out);
        for_each_index(tiles.len() * attention.kv_heads, |index| {
            let (tile, kv_head) = (&tiles[index / attention.kv_heads], index % attention.kv_heads);
            let job = Job {
                bytes: self.layers[layer].all(),
                layout: self.layout,
                attention,
                scale: how.scale,
                kv_head,
                q,
                out: &out,
                plan,
                tokens: &tokens[tile.clone()],
            };
            ROWS.with_borrow_mut(|rows| {
                let job = &job;
                // SAFETY: `isa` is one that this CPU has; tiles write different rows and heads of `out`.
                unsafe { on_isa!(isa, attend_tile(job: &Job<'_>, rows: &mut Rows)) }
            });
        });
        Ok(())
    }

    /// The block's bytes of every layer.
    pub(super) fn export(&self, block: usize) -> Result<Vec<u8>, ComputeError> {
        let mut bytes = Vec::with_capacity(Self::block_bytes(&self.shape));
        let len = self.shape.attention.kv_heads * self.layout.head();
        for layer in &self.layers {
            let part = layer.all().get(block * len..).and_then(|rest| rest.get(..len));
            bytes.extend_from_slice(part.ok_or_else(|| out_of_pool(block, self.shape.blocks))?);
        }
        Ok(bytes)
    }

    /// Puts back what [`Self::export`] gave.
    pub(super) fn import(&mut self, block: usize, bytes: &[u8]) -> Result<(), ComputeError> {
        let len = self.shape.attention.kv_heads * self.layout.head();
        if bytes.len() != len * self.layers.len() {
            return Err(ComputeError::Step(format!(
                "a saved KV block has {} bytes; this model's blocks have {}",
                bytes.len(),
                len * self.layers.len()
            )));
        }
        for (layer, from) in self.layers.iter_mut().zip(bytes.chunks_exact(len)) {
            let part = layer.all_mut().get_mut(block * len..).and_then(|rest| rest.get_mut(..len));
            part.ok_or_else(|| out_of_pool(block, self.shape.blocks))?.copy_from_slice(from);
        }
        Ok(())
    }
}

/// All tokens of a step, and the runs of them that are tiles. A tile is of one sequence, but sequences with few rows that
/// begin with the same block (an operator's instruction) stand together, so that the tile reads what they share once.
fn tiles(plan: &Plan<'_>, most: usize) -> (Vec<Seen>, Vec<std::ops::Range<usize>>) {
    let mut order: Vec<usize> = (0..plan.spans.len()).collect();
    let first = |span: &usize| {
        let span = &plan.spans[*span];
        if span.rows.len() > FEW { None } else { span.blocks.first().copied() }
    };
    order.sort_by_key(first);
    let (mut tokens, mut tiles) = (Vec::with_capacity(plan.rows), Vec::new());
    let mut start = 0;
    for (number, span) in order.iter().enumerate() {
        let together = number > 0 && first(span).is_some() && first(&order[number - 1]) == first(span);
        if !together && start < tokens.len() {
            tiles.push(start..tokens.len());
            start = tokens.len();
        }
        for (row, position) in plan.spans[*span].rows.clone().zip(plan.spans[*span].start..) {
            if tokens.len() == start + most {
                tiles.push(start..tokens.len());
                start = tokens.len();
            }
            tokens.push(Seen { span: *span, row, sees: position + 1 });
        }
    }
    if start < tokens.len() {
        tiles.push(start..tokens.len());
    }
    // Tiles that see more take longer: begin with them, so that no long one is left at the end.
    tiles.sort_by_key(|tile| std::cmp::Reverse(tokens[tile.end - 1].sees));
    (tokens, tiles)
}

/// One head of one token: as numbers, and rounded.
#[derive(Default)]
struct Head {
    /// Padded with zeros.
    numbers: Vec<f32>,
    /// 128 added.
    bytes: Vec<u8>,
}

impl Head {
    fn fit(&mut self, layout: &Layout) {
        self.numbers.clear();
        self.numbers.resize(layout.padded, 0.0);
        self.bytes.resize(layout.padded, 0);
    }

    /// Takes in the numbers of a head, turned and rounded; gives what 1 stands for.
    ///
    /// # Safety
    /// As for [`Lanes`]; the head has been made to [`fit`](Self::fit), and `from` has as many numbers as a head.
    #[inline(always)]
    unsafe fn round<L: Lanes>(&mut self, layout: &Layout, from: &[f32]) -> f32 {
        let numbers = &mut self.numbers[..layout.padded];
        numbers[..layout.head_dim].copy_from_slice(from);
        // SAFETY: numbers and bytes have `padded` elements, a multiple of 16.
        unsafe {
            spread::<L>(&mut numbers[..layout.head_dim], layout.turned);
            let (from, to) = (numbers.as_ptr(), self.bytes.as_mut_ptr());
            let mut largest = L::splat(0.0);
            let mut i = 0;
            while i < layout.padded {
                let x = L::load(from.add(i));
                largest = largest.max(x.max(x.mul(L::splat(-1.0))));
                i += L::N;
            }
            let largest = largest.reduce_max();
            let inverse = L::splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
            let mut i = 0;
            while i < layout.padded {
                L::load(from.add(i)).fma(inverse, L::splat(128.0)).store_bytes(to.add(i));
                i += L::N;
            }
            largest / 127.0
        }
    }
}

/// Rotates the key of row `row`, and writes it and the value.
///
/// # Safety
/// As for [`put_token`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn rotate_and_put<T: Tile>(
    layout: Layout,
    rope: &RopeRows,
    row: usize,
    slot: usize,
    key: &mut [f32],
    value: &[f32],
    head: &mut Head,
    to: &mut [u8],
) {
    rope.rotate(row, key);
    // SAFETY: passed on from the caller.
    unsafe { put_token::<T>(layout, slot, key, value, head, to) }
}

/// Writes one token's key and value of one head into slot `slot` of a block.
///
/// # Safety
/// The CPU must have `T`'s instruction set (see [`Tile`]); `head` fits.
#[inline(always)]
unsafe fn put_token<T: Tile>(layout: Layout, slot: usize, key: &[f32], value: &[f32], head: &mut Head, to: &mut [u8]) {
    let (keys, rest) = to.split_at_mut(layout.key_scales());
    let (key_scales, rest) = rest.split_at_mut(BLOCK_TOKENS * size_of::<f32>());
    let (values, value_scales) = rest.split_at_mut(layout.padded * BLOCK_TOKENS);
    // SAFETY: passed on from the caller.
    let scale = unsafe { head.round::<T::Lanes>(&layout, key) };
    key_scales[4 * slot..][..4].copy_from_slice(&scale.to_ne_bytes());
    for (to, four) in keys[4 * slot..].chunks_mut(4 * BLOCK_TOKENS).zip(head.bytes.chunks_exact(4)) {
        to[..4].copy_from_slice(four);
    }
    // SAFETY: passed on from the caller.
    let scale = unsafe { head.round::<T::Lanes>(&layout, value) };
    value_scales[4 * slot..][..4].copy_from_slice(&scale.to_ne_bytes());
    let to = &mut values[slot / 4 * 4 * layout.padded..][..4 * layout.padded];
    for (to, byte) in to.chunks_exact_mut(4).zip(&head.bytes) {
        to[slot % 4] = byte ^ 0x80;
    }
}

/// The Hadamard transform of each `size` numbers (a power of two), scaled so that it is its own inverse and keeps
/// products of two rows.
///
/// # Safety
/// As for [`Lanes`].
#[inline(always)]
unsafe fn spread<L: Lanes>(x: &mut [f32], size: usize) {
    let mut half = 1;
    if size >= COLUMNS {
        for part in x.chunks_exact_mut(COLUMNS) {
            // SAFETY: `part` and the rows of the table have 16 numbers.
            unsafe { spread_columns::<L>(part) }
        }
        half = COLUMNS;
    }
    while half < size {
        for pair in x.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let share = 1.0 / (size as f32).sqrt();
    for x in x {
        *x *= share;
    }
}

/// The unscaled transform of 16 numbers, as a product with its matrix: a number times a row at a time.
///
/// # Safety
/// As for [`Lanes`]; `x` has 16 numbers.
#[inline(always)]
unsafe fn spread_columns<L: Lanes>(x: &mut [f32]) {
    let mut from = [0.0f32; COLUMNS];
    from.copy_from_slice(x);
    // SAFETY: `column + L::N <= 16`.
    unsafe {
        let mut column = 0;
        while column < COLUMNS {
            let (mut even, mut odd) = (L::splat(0.0), L::splat(0.0));
            for i in 0..COLUMNS / 2 {
                even = L::splat(from[2 * i]).fma(L::load(TURN[2 * i].as_ptr().add(column)), even);
                odd = L::splat(from[2 * i + 1]).fma(L::load(TURN[2 * i + 1].as_ptr().add(column)), odd);
            }
            even.add(odd).store(x.as_mut_ptr().add(column));
            column += L::N;
        }
    }
}

/// The Hadamard matrix of 16 rows: -1 where row and column have an odd number of bits in common.
static TURN: [[f32; COLUMNS]; COLUMNS] = {
    let mut rows = [[1.0; COLUMNS]; COLUMNS];
    let mut i = 0;
    while i < COLUMNS * COLUMNS {
        if (i / COLUMNS & i % COLUMNS).count_ones() % 2 == 1 {
            rows[i / COLUMNS][i % COLUMNS] = -1.0;
        }
        i += 1;
    }
    rows
};
