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
//! How a token gets there is in [`token`], how queries meet the blocks in [`attend`].

mod attend;
#[cfg(test)]
mod tests;
mod token;
mod weigh;

use std::cell::RefCell;

use self::attend::{Job, Rows, Seen, attend_tile};
use self::token::{Head, rotate_and_put};
use super::tile::{Isa, on_isa};
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
    pub(super) fn attend(&self, isa: Isa, layer: usize, q: &[f32], how: &Attend, plan: &Plan<'_>, out: &mut [f32]) {
        assert_eq!(q.len(), out.len());
        let attention = self.shape.attention;
        let group = attention.heads / attention.kv_heads;
        let (tokens, tiles) = tiles(plan, how, (TILE_ROWS / group).max(1));
        let out = SharedOut::new(out);
        for_each_index(tiles.len() * attention.kv_heads, |index| {
            let (tile, kv_head) = (&tiles[index / attention.kv_heads], index % attention.kv_heads);
            let job = Job {
                bytes: self.layers[layer].all(),
                layout: self.layout,
                attention,
                scale: how.scale,
                softcap: how.softcap,
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
fn tiles(plan: &Plan<'_>, how: &Attend, most: usize) -> (Vec<Seen>, Vec<std::ops::Range<usize>>) {
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
            tokens.push(Seen { span: *span, row, from: how.first_seen(position), sees: position + 1 });
        }
    }
    if start < tokens.len() {
        tiles.push(start..tokens.len());
    }
    // Tiles that see more take longer: begin with them, so that no long one is left at the end.
    tiles.sort_by_key(|tile| std::cmp::Reverse(tokens[tile.end - 1].sees - tokens[tile.end - 1].from));
    (tokens, tiles)
}
