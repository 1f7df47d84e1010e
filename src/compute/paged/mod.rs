//! Attention on CPUs over keys and values in blocks.
//!
//! Keys lie `[block][kv head][head_dim][32 tokens]` (so that scores of a block are broadcast-multiply-add over lanes
//! of tokens), values `[block][kv head][32 tokens][padded head_dim]`. How queries walk them is in [`attend`].

mod attend;

use self::attend::{Item, TILE_ROWS, attend_item};
use super::lanes::{Isa, dispatch};
use super::parallel::{SharedOut, for_each_index};
use super::{AttentionShape, BLOCK_TOKENS, ComputeError, KvShape, Plan, RopeRows};

/// Head sizes are padded to this many numbers where values are stored.
const PAD: usize = 32;

/// Keys and values of all layers, in `f32`.
pub(super) struct PagedKv {
    shape: KvShape,
    /// One allocation a layer.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

impl PagedKv {
    /// Reserves the pool. Pages are taken from the system as blocks are first written.
    ///
    /// # Errors
    /// Where the pool does not fit the address space or memory.
    pub(super) fn new(shape: KvShape) -> Result<Self, ComputeError> {
        let layer = |len: usize| -> Result<Vec<f32>, ComputeError> {
            let total = len.checked_mul(shape.blocks).filter(|n| *n < isize::MAX as usize / 4);
            total.map(|n| vec![0.0f32; n]).ok_or_else(|| ComputeError::Step("the KV pool is too large".into()))
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
        (Self::key_len(attention) + Self::value_len(attention)) * layers * size_of::<f32>()
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
        plan: &Plan<'_>,
    ) -> Result<(), ComputeError> {
        let AttentionShape { kv_heads, head_dim, .. } = self.shape.attention;
        rotate_heads(keys, head_dim, kv_heads, &plan.rope);
        let (key_len, value_len) = (Self::key_len(&self.shape.attention), Self::value_len(&self.shape.attention));
        for span in &plan.spans {
            for (offset, row) in span.rows.clone().enumerate() {
                let (block, slot) = Plan::place(span, span.start + offset);
                let key_block = block_mut(&mut self.keys[layer], block, key_len)?;
                let value_block = block_mut(&mut self.values[layer], block, value_len)?;
                for head in 0..kv_heads {
                    let from = (row * kv_heads + head) * head_dim;
                    let to = &mut key_block[head * head_dim * BLOCK_TOKENS..][..head_dim * BLOCK_TOKENS];
                    for (d, key) in keys[from..from + head_dim].iter().enumerate() {
                        to[d * BLOCK_TOKENS + slot] = *key;
                    }
                    let to = (head * BLOCK_TOKENS + slot) * padded(head_dim);
                    value_block[to..to + head_dim].copy_from_slice(&values[from..from + head_dim]);
                }
            }
        }
        Ok(())
    }

    /// Attention of rotated queries `[row][head][head_dim]`, in the same layout.
    pub(super) fn attend(&self, layer: usize, q: &[f32], plan: &Plan<'_>) -> Vec<f32> {
        self.attend_on(Isa::widest(), layer, q, plan)
    }

    fn attend_on(&self, isa: Isa, layer: usize, q: &[f32], plan: &Plan<'_>) -> Vec<f32> {
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
        let mut out = vec![0.0f32; q.len()];
        let shared = SharedOut::new(&mut out);
        for_each_index(items.len(), |index| {
            let (span, kv_head, first, rows) = items[index];
            let item = Item {
                keys: &self.keys[layer],
                values: &self.values[layer],
                q,
                out: &shared,
                attention,
                span,
                kv_head,
                first,
                rows,
            };
            // SAFETY: `isa` is one that this CPU has; items write different rows and heads of `out`.
            unsafe { dispatch!(isa, attend_item(item: Item<'_>)) }
        });
        out
    }

    /// The block's numbers of every layer, keys then values, as little-endian bytes.
    pub(super) fn export(&self, block: usize) -> Result<Vec<u8>, ComputeError> {
        let (key_len, value_len) = (Self::key_len(&self.shape.attention), Self::value_len(&self.shape.attention));
        let mut bytes = Vec::with_capacity(Self::block_bytes(self.shape.layers, &self.shape.attention));
        for (keys, values) in self.keys.iter().zip(&self.values) {
            for part in [block_ref(keys, block, key_len)?, block_ref(values, block, value_len)?] {
                part.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
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
        let mut numbers = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
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

fn block_ref(layer: &[f32], block: usize, len: usize) -> Result<&[f32], ComputeError> {
    let blocks = layer.len() / len;
    layer.get(block * len..(block + 1) * len).ok_or_else(|| out_of_pool(block, blocks))
}

fn block_mut(layer: &mut [f32], block: usize, len: usize) -> Result<&mut [f32], ComputeError> {
    let blocks = layer.len() / len;
    layer.get_mut(block * len..(block + 1) * len).ok_or_else(|| out_of_pool(block, blocks))
}

fn out_of_pool(block: usize, blocks: usize) -> ComputeError {
    ComputeError::Step(format!("KV block {block} is not in the pool of {blocks}"))
}

/// Rotates every head of every row (`[row][heads][head_dim]`).
pub(super) fn rotate_heads(x: &mut [f32], head_dim: usize, heads: usize, rope: &RopeRows) {
    for (row, x) in x.chunks_exact_mut(heads * head_dim).enumerate() {
        for head in x.chunks_exact_mut(head_dim) {
            rope.rotate(row, head);
        }
    }
}

#[cfg(test)]
mod tests;
