//! Attention on CPUs over keys and values in blocks.
//!
//! Numbers are single or half precision ([`Stored`]). Keys lie `[block][kv head][head_dim][32 tokens]` (so that scores of a block are broadcast-multiply-add over lanes
//! of tokens), values `[block][kv head][32 tokens][padded head_dim]`. How queries walk them is in [`attend`].

mod attend;
mod stored;

use self::attend::{Item, TILE_ROWS};
use self::stored::Stored;
use super::lanes::Isa;
use super::parallel::{SharedOut, for_each_index};
use super::{Attend, AttentionShape, BLOCK_TOKENS, ComputeError, KvShape, Plan, RopeRows};

/// Head sizes are padded to this many numbers where values are stored.
const PAD: usize = 32;

/// Keys and values of all layers, as numbers of type `S`.
pub(super) struct PagedKv<S> {
    shape: KvShape,
    /// One allocation a layer.
    keys: Vec<Vec<S>>,
    values: Vec<Vec<S>>,
}

impl<S: Stored> PagedKv<S> {
    /// Reserves the pool. Pages are taken from the system as blocks are first written.
    ///
    /// # Errors
    /// Where the pool does not fit the address space or memory.
    pub(super) fn new(shape: KvShape) -> Result<Self, ComputeError> {
        let layer = |len: usize| -> Result<Vec<S>, ComputeError> {
            let total = len.checked_mul(shape.blocks).filter(|n| *n < isize::MAX as usize / size_of::<S>());
            total.map(|n| vec![S::default(); n]).ok_or_else(|| ComputeError::Step("the KV pool is too large".into()))
        };
        let (keys, values) = (Self::key_len(&shape.attention), Self::value_len(&shape.attention));
        Ok(Self {
            shape,
            keys: (0..shape.layers).map(|_| layer(keys)).collect::<Result<_, _>>()?,
            values: (0..shape.layers).map(|_| layer(values)).collect::<Result<_, _>>()?,
        })
    }

    fn key_len(attention: &AttentionShape) -> usize {
        attention.kv_heads * attention.head_dim * BLOCK_TOKENS
    }

    fn value_len(attention: &AttentionShape) -> usize {
        attention.kv_heads * padded(attention.head_dim) * BLOCK_TOKENS
    }

    /// Bytes of one block over all layers, as stored.
    pub(super) fn block_bytes(layers: usize, attention: &AttentionShape) -> usize {
        (Self::key_len(attention) + Self::value_len(attention)) * layers * size_of::<S>()
    }

    pub(super) fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// Rotates the keys of a step (`[row][kv head][head_dim]`) and writes them and the values to their blocks.
    pub(super) fn write(
        &mut self,
        layer: usize,
        keys: &mut [f32],
        values: &[f32],
        rope: &RopeRows,
        plan: &Plan<'_>,
    ) -> Result<(), ComputeError> {
        let AttentionShape { kv_heads, head_dim, .. } = self.shape.attention;
        let (key_len, value_len) = (Self::key_len(&self.shape.attention), Self::value_len(&self.shape.attention));
        let (to_keys, to_values) = (SharedOut::new(&mut self.keys[layer]), SharedOut::new(&mut self.values[layer]));
        let keys = SharedOut::new(keys);
        let write = |piece: &Piece, head: usize| {
            let head_len = head_dim * BLOCK_TOKENS;
            let value_width = padded(head_dim);
            // SAFETY: pieces are of different blocks (or run one after the other), and of different rows.
            unsafe {
                let to_keys = to_keys.slice(piece.block * key_len + head * head_len, head_len);
                let to = piece.block * value_len + head * BLOCK_TOKENS * value_width;
                let to_values = to_values.slice(to, BLOCK_TOKENS * value_width);
                for (row, slot) in piece.rows.clone().zip(piece.slot..) {
                    let from = (row * kv_heads + head) * head_dim;
                    let key = keys.slice(from, head_dim);
                    rope.rotate(row, key);
                    for (d, key) in key.iter().enumerate() {
                        to_keys[d * BLOCK_TOKENS + slot] = S::of(*key);
                    }
                    let to = &mut to_values[slot * value_width..][..head_dim];
                    to.iter_mut().zip(&values[from..]).for_each(|(to, value)| *to = S::of(*value));
                }
            }
        };
        for_each_piece(plan, self.shape.blocks, kv_heads, write)
    }

    /// Attention of rotated queries `[row][head][head_dim]`, into `out` in the same layout.
    pub(super) fn attend(&self, layer: usize, q: &[f32], how: &Attend, plan: &Plan<'_>, out: &mut [f32]) {
        self.attend_on(Isa::widest(), layer, q, how, plan, out);
    }

    fn attend_on(&self, isa: Isa, layer: usize, q: &[f32], how: &Attend, plan: &Plan<'_>, out: &mut [f32]) {
        assert_eq!(q.len(), out.len());
        let attention = self.shape.attention;
        let group = attention.heads / attention.kv_heads;
        let mut items = Vec::new();
        for span in &plan.spans {
            let queries = span.rows.len() * group;
            for kv_head in 0..attention.kv_heads {
                // Later tiles see more positions: start them first, so that no long one is left at the end.
                for tile in (0..queries.div_ceil(TILE_ROWS)).rev() {
                    items.push((span, kv_head, tile * TILE_ROWS, TILE_ROWS.min(queries - tile * TILE_ROWS)));
                }
            }
        }
        let shared = SharedOut::new(out);
        for_each_index(items.len(), |index| {
            let (span, kv_head, first, rows) = items[index];
            let item = Item {
                keys: &self.keys[layer],
                values: &self.values[layer],
                q,
                out: &shared,
                attention,
                how: *how,
                span,
                kv_head,
                first,
                rows,
            };
            // SAFETY: `isa` is one that this CPU has; items write different rows and heads of `out`.
            unsafe { S::attend(isa, item) }
        });
    }

    /// The block's numbers of every layer, keys then values, as little-endian bytes.
    pub(super) fn export(&self, block: usize) -> Result<Vec<u8>, ComputeError> {
        let (key_len, value_len) = (Self::key_len(&self.shape.attention), Self::value_len(&self.shape.attention));
        let mut bytes = Vec::with_capacity(Self::block_bytes(self.shape.layers, &self.shape.attention));
        for (keys, values) in self.keys.iter().zip(&self.values) {
            for part in [block_ref(keys, block, key_len)?, block_ref(values, block, value_len)?] {
                part.iter().for_each(|x| x.push(&mut bytes));
            }
        }
        Ok(bytes)
    }

    /// Puts back what [`Self::export`] gave.
    pub(super) fn import(&mut self, block: usize, bytes: &[u8]) -> Result<(), ComputeError> {
        let expected = Self::block_bytes(self.shape.layers, &self.shape.attention);
        if bytes.len() != expected {
            return Err(ComputeError::Step(format!(
                "a saved KV block has {} bytes; this model's blocks have {expected}",
                bytes.len()
            )));
        }
        let (key_len, value_len) = (Self::key_len(&self.shape.attention), Self::value_len(&self.shape.attention));
        let mut numbers = bytes.chunks_exact(size_of::<S>()).map(S::read);
        for (keys, values) in self.keys.iter_mut().zip(&mut self.values) {
            for part in [block_mut(keys, block, key_len)?, block_mut(values, block, value_len)?] {
                part.iter_mut().zip(&mut numbers).for_each(|(to, x)| *to = x);
            }
        }
        Ok(())
    }
}

fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(PAD)
}

fn block_ref<S>(layer: &[S], block: usize, len: usize) -> Result<&[S], ComputeError> {
    let blocks = layer.len() / len;
    layer.get(block * len..(block + 1) * len).ok_or_else(|| out_of_pool(block, blocks))
}

fn block_mut<S>(layer: &mut [S], block: usize, len: usize) -> Result<&mut [S], ComputeError> {
    let blocks = layer.len() / len;
    layer.get_mut(block * len..(block + 1) * len).ok_or_else(|| out_of_pool(block, blocks))
}

pub(super) fn out_of_pool(block: usize, blocks: usize) -> ComputeError {
    ComputeError::Step(format!("KV block {block} is not in the pool of {blocks}"))
}

/// Rotates every head of every row (`[row][heads][head_dim]`).
pub(super) fn rotate_heads(x: &mut [f32], head_dim: usize, heads: usize, rope: &RopeRows) {
    let width = heads * head_dim;
    let rows = x.len() / width;
    let step = (ROTATED / width).max(1);
    let shared = SharedOut::new(x);
    for_each_index(rows.div_ceil(step), |piece| {
        for row in piece * step..rows.min((piece + 1) * step) {
            // SAFETY: every row is one piece's alone.
            let row_heads = unsafe { shared.slice(row * width, width) };
            row_heads.chunks_exact_mut(head_dim).for_each(|head| rope.rotate(row, head));
        }
    });
}

/// Numbers that are rotated in one piece of work.
const ROTATED: usize = 8 * 1024;

/// The rows of a step that go to one block.
pub(super) struct Piece {
    pub(super) block: usize,
    /// Where the first of them goes in the block.
    pub(super) slot: usize,
    pub(super) rows: std::ops::Range<usize>,
}

/// Calls `write` for every piece of a step and every KV head, on all cores where no two pieces go to one block and the
/// rows are worth it. A block and head are in one hand at a time.
pub(super) fn for_each_piece(
    plan: &Plan<'_>,
    blocks: usize,
    kv_heads: usize,
    write: impl Fn(&Piece, usize) + Sync,
) -> Result<(), ComputeError> {
    let pieces = pieces(plan, blocks)?;
    let one = |index: usize| write(&pieces[index / kv_heads], index % kv_heads);
    let mut written: Vec<usize> = pieces.iter().map(|piece| piece.block).collect();
    written.sort_unstable();
    match written.windows(2).all(|pair| pair[0] != pair[1]) && plan.rows > 4 {
        true => for_each_index(pieces.len() * kv_heads, one),
        false => (0..pieces.len() * kv_heads).for_each(one),
    }
    Ok(())
}

/// Cuts a step's rows by the blocks of a pool of `blocks` that they go to.
fn pieces(plan: &Plan<'_>, blocks: usize) -> Result<Vec<Piece>, ComputeError> {
    let mut pieces = Vec::with_capacity(plan.spans.len() + plan.rows / BLOCK_TOKENS);
    for span in &plan.spans {
        let mut row = span.rows.start;
        while row < span.rows.end {
            let (block, slot) = Plan::place(span, span.start + row - span.rows.start);
            if block >= blocks {
                return Err(out_of_pool(block, blocks));
            }
            let end = span.rows.end.min(row + BLOCK_TOKENS - slot);
            pieces.push(Piece { block, slot, rows: row..end });
            row = end;
        }
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests;
