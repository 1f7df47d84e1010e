//! Keys and values on a device, with attention by tensor operations.
//!
//! Keys and values of a layer lie `[slot][kv_heads * head_dim]`, slot = block × 32 + token. A step scatters its new
//! rows to their slots; each span then gathers its slots and attends with plain matrix products. That is exact, and
//! slow on long contexts: candle's paged flash attention is to take its place there.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::softmax_last_dim;

use crate::compute::{Attend, AttentionShape, BLOCK_TOKENS, ComputeError, KvShape, Plan, RopeKind, RopeRows, Span};

/// The pool in device memory, in `f32`.
pub(super) struct DeviceKv {
    shape: KvShape,
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    device: Device,
}

impl DeviceKv {
    pub(super) fn new(shape: KvShape, device: &Device) -> Result<Self, ComputeError> {
        let width = shape.attention.kv_heads * shape.attention.head_dim;
        let layer = || Tensor::zeros((shape.blocks * BLOCK_TOKENS, width), DType::F32, device);
        let all = || (0..shape.layers).map(|_| layer()).collect::<candle_core::Result<Vec<_>>>();
        Ok(Self { shape, keys: all()?, values: all()?, device: device.clone() })
    }

    /// Rotates queries and keys, writes keys and values, gives the queries.
    pub(super) fn rope_and_write(
        &mut self,
        layer: usize,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        rope: &RopeRows,
        plan: &Plan<'_>,
    ) -> Result<Tensor, ComputeError> {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape.attention;
        let q = self.rotate(q, heads, head_dim, rope, plan.rows)?;
        let k = self.rotate(k, kv_heads, head_dim, rope, plan.rows)?;
        let width = kv_heads * head_dim;
        let mut slots = Vec::with_capacity(plan.rows);
        for span in &plan.spans {
            for position in span.start..span.start + span.rows.len() {
                slots.push(self.slot(span, position)?);
            }
        }
        let index = Tensor::from_vec(slots, (plan.rows, 1), &self.device)?.broadcast_as((plan.rows, width))?;
        let index = index.contiguous()?;
        self.keys[layer].scatter_set(&index, &k, 0)?;
        self.values[layer].scatter_set(&index, &v.contiguous()?, 0)?;
        Ok(q)
    }

    fn slot(&self, span: &Span<'_>, position: usize) -> Result<u32, ComputeError> {
        let (block, slot) = Plan::place(span, position);
        if block >= self.shape.blocks {
            return Err(ComputeError::Step(format!("KV block {block} is not in the pool of {}", self.shape.blocks)));
        }
        Ok((block * BLOCK_TOKENS + slot) as u32)
    }

    fn rotate(
        &self,
        x: &Tensor,
        heads: usize,
        head_dim: usize,
        rope: &RopeRows,
        rows: usize,
    ) -> Result<Tensor, ComputeError> {
        let angles = |x: &[f32]| Tensor::from_slice(x, (rows, 1, rope.pairs), &self.device);
        let (cos, sin) = (angles(&rope.cos)?, angles(&rope.sin)?);
        let x = x.reshape((rows, heads, head_dim))?;
        let turned = 2 * rope.pairs;
        let part = x.narrow(2, 0, turned)?;
        let (a, b) = match rope.kind {
            RopeKind::Interleaved => {
                let pairs = part.reshape((rows, heads, rope.pairs, 2))?;
                (pairs.narrow(3, 0, 1)?.squeeze(3)?, pairs.narrow(3, 1, 1)?.squeeze(3)?)
            }
            RopeKind::Halves => (part.narrow(2, 0, rope.pairs)?, part.narrow(2, rope.pairs, rope.pairs)?),
        };
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
        let part = match rope.kind {
            RopeKind::Interleaved => Tensor::stack(&[first, second], 3)?.reshape((rows, heads, turned))?,
            RopeKind::Halves => Tensor::cat(&[first, second], 2)?,
        };
        let whole = match head_dim - turned {
            0 => part,
            rest => Tensor::cat(&[part, x.narrow(2, turned, rest)?], 2)?,
        };
        Ok(whole.reshape((rows, heads * head_dim))?.contiguous()?)
    }

    pub(super) fn attend(
        &self,
        layer: usize,
        q: &Tensor,
        how: &Attend,
        plan: &Plan<'_>,
    ) -> Result<Tensor, ComputeError> {
        let AttentionShape { heads, kv_heads, head_dim } = self.shape.attention;
        let group = heads / kv_heads;
        let mut outs = Vec::with_capacity(plan.spans.len());
        for span in &plan.spans {
            let (rows, seen) = (span.rows.len(), span.start + span.rows.len());
            let slots = (0..seen).map(|p| self.slot(span, p)).collect::<Result<Vec<_>, _>>()?;
            let slots = Tensor::from_vec(slots, seen, &self.device)?;
            let gather = |pool: &Tensor| -> candle_core::Result<Tensor> {
                pool.index_select(&slots, 0)?.reshape((seen, kv_heads, head_dim))?.transpose(0, 1)?.contiguous()
            };
            let (k, v) = (gather(&self.keys[layer])?, gather(&self.values[layer])?);
            // Query heads of one group become rows beside each other: [kv_heads][group * rows][head_dim].
            let q = q.narrow(0, span.rows.start, rows)?.reshape((rows, kv_heads, group, head_dim))?;
            let q = q.permute((1, 2, 0, 3))?.contiguous()?.reshape((kv_heads, group * rows, head_dim))?;
            let mut scores = (q.matmul(&k.transpose(1, 2)?)? * how.scale as f64)?;
            if let Some(cap) = how.softcap {
                scores = ((scores / cap as f64)?.tanh()? * cap as f64)?;
            }
            let mask: Vec<f32> = (0..rows)
                .flat_map(|row| {
                    let own = span.start + row;
                    let sees = how.first_seen(own)..=own;
                    (0..seen).map(move |p| if sees.contains(&p) { 0.0 } else { f32::NEG_INFINITY })
                })
                .collect();
            let mask = Tensor::from_vec(mask, (1, 1, rows, seen), &self.device)?;
            let scores = scores.reshape((kv_heads, group, rows, seen))?.broadcast_add(&mask)?;
            let weights = softmax_last_dim(&scores)?.reshape((kv_heads, group * rows, seen))?;
            let out = weights.matmul(&v)?.reshape((kv_heads, group, rows, head_dim))?;
            outs.push(out.permute((2, 0, 1, 3))?.contiguous()?.reshape((rows, heads * head_dim))?);
        }
        Ok(Tensor::cat(&outs, D::Minus2)?)
    }

    pub(super) fn export(&self, block: usize) -> Result<Vec<u8>, ComputeError> {
        if block >= self.shape.blocks {
            return Err(ComputeError::Step(format!("KV block {block} is not in the pool of {}", self.shape.blocks)));
        }
        let mut bytes = Vec::new();
        for pool in self.keys.iter().zip(&self.values).flat_map(|(k, v)| [k, v]) {
            let part = pool.narrow(0, block * BLOCK_TOKENS, BLOCK_TOKENS)?.flatten_all()?.to_vec1::<f32>()?;
            part.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        }
        Ok(bytes)
    }

    pub(super) fn import(&mut self, block: usize, bytes: &[u8]) -> Result<(), ComputeError> {
        let width = self.shape.attention.kv_heads * self.shape.attention.head_dim;
        let part = BLOCK_TOKENS * width * size_of::<f32>();
        if block >= self.shape.blocks || bytes.len() != part * 2 * self.shape.layers {
            return Err(ComputeError::Step(format!(
                "a saved KV block has {} bytes; this model's blocks have {}",
                bytes.len(),
                part * 2 * self.shape.layers
            )));
        }
        let mut parts = bytes.chunks_exact(part);
        for pool in self.keys.iter().zip(&self.values).flat_map(|(k, v)| [k, v]) {
            let numbers = parts.next().unwrap_or_default().chunks_exact(4);
            let numbers: Vec<f32> = numbers.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let rows = Tensor::from_vec(numbers, (BLOCK_TOKENS, width), &self.device)?;
            pool.slice_set(&rows, 0, block * BLOCK_TOKENS)?;
        }
        Ok(())
    }
}
