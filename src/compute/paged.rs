//! Attention on CPUs over keys and values in blocks.
//!
//! Keys lie `[block][kv head][head_dim][32 tokens]` (so that scores of a block are broadcast-multiply-add over lanes
//! of tokens), values `[block][kv head][32 tokens][padded head_dim]`. A work item is a tile of query rows of one span
//! that share a KV head; it walks the span's blocks once with the online softmax (Milakov and Gimelshein 2018; Dao et
//! al. 2022, "FlashAttention"). The walk is by whole blocks from position 0, so a row's result does not depend on how
//! the prompt was cut into steps, to the last bit.

use super::lanes::{Isa, Lanes, dispatch, exp};
use super::parallel::{SharedOut, for_each_index};
use super::{AttentionShape, BLOCK_TOKENS, ComputeError, KvShape, Plan, RopeRows, Span};

/// Query rows of one work item.
const TILE_ROWS: usize = 48;

/// Most query rows that walk the blocks together.
const WALK_ROWS: usize = 8;

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

/// Query rows of one span that share a KV head. Row `i` is token `i / group` of the span, query head
/// `kv_head * group + i % group`.
struct Item<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    q: &'a [f32],
    out: &'a SharedOut<'a>,
    attention: AttentionShape,
    span: &'a Span<'a>,
    kv_head: usize,
    first: usize,
    rows: usize,
}

impl Item<'_> {
    fn group(&self) -> usize {
        self.attention.heads / self.attention.kv_heads
    }

    /// Where query row `i` lies in `q` and `out`.
    fn at(&self, i: usize) -> usize {
        let row = self.span.rows.start + i / self.group();
        let head = self.kv_head * self.group() + i % self.group();
        (row * self.attention.heads + head) * self.attention.head_dim
    }

    /// Positions that query row `i` sees.
    fn sees(&self, i: usize) -> usize {
        self.span.start + i / self.group() + 1
    }
}

/// # Safety
/// The CPU must have `L`'s instruction set, and nobody else may use the item's rows and heads of `out`. Blocks must be
/// within the pool.
#[inline(always)]
unsafe fn attend_item<L: Lanes>(item: Item<'_>) {
    let mut i = item.first;
    let end = item.first + item.rows;
    let mut sums = vec![0.0f32; WALK_ROWS * padded(item.attention.head_dim)];
    while i < end {
        // SAFETY: passed on from the caller; `i + R <= end`.
        unsafe {
            i += match end - i {
                left if L::ROWS >= 8 && left >= 8 => walk::<L, 8>(&item, i, &mut sums),
                left if left >= 4 => walk::<L, 4>(&item, i, &mut sums),
                left if left >= 2 => walk::<L, 2>(&item, i, &mut sums),
                _ => walk::<L, 1>(&item, i, &mut sums),
            };
        }
    }
}

/// Walks the blocks for query rows `i..i + R`; gives `R`.
///
/// # Safety
/// As for [`attend_item`].
#[inline(always)]
unsafe fn walk<L: Lanes, const R: usize>(item: &Item<'_>, i: usize, sums: &mut [f32]) -> usize {
    let head_dim = item.attention.head_dim;
    let width = padded(head_dim);
    let kv_heads = item.attention.kv_heads;
    let (key_len, value_len) = (head_dim * BLOCK_TOKENS, width * BLOCK_TOKENS);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let q: [&[f32]; R] = std::array::from_fn(|r| &item.q[item.at(i + r)..][..head_dim]);
    let sees: [usize; R] = std::array::from_fn(|r| item.sees(i + r));
    let sums = &mut sums[..R * width];
    sums.fill(0.0);
    let mut best = [f32::NEG_INFINITY; R];
    let mut total = [0.0f32; R];
    let mut weights = [[0.0f32; BLOCK_TOKENS]; R];
    for (number, block) in item.span.blocks[..sees[R - 1].div_ceil(BLOCK_TOKENS)].iter().enumerate() {
        let at = *block as usize * kv_heads + item.kv_head;
        let keys = &item.keys[at * key_len..][..key_len];
        let values = &item.values[at * value_len..][..value_len];
        // SAFETY: `keys` is `[head_dim][32]`, `values` `[32][width]`, `weights` and `sums` are as declared.
        unsafe {
            scores::<L, R>(&q, keys, scale, &mut weights);
            for r in 0..R {
                let seen = sees[r].saturating_sub(number * BLOCK_TOKENS).min(BLOCK_TOKENS);
                if seen == 0 {
                    weights[r] = [0.0; BLOCK_TOKENS];
                    continue;
                }
                let row = &mut weights[r];
                let mut top = best[r];
                for score in &row[..seen] {
                    top = top.max(*score);
                }
                row[seen..].fill(f32::NEG_INFINITY);
                let mut j = 0;
                while j < BLOCK_TOKENS {
                    let to = row.as_mut_ptr().add(j);
                    exp(L::load(to).add(L::splat(-top))).store(to);
                    j += L::N;
                }
                // `exp` ends at about 1e-38, not at 0.
                row[seen..].fill(0.0);
                let sum = sum_of(row);
                if top > best[r] {
                    let fade = if best[r] == f32::NEG_INFINITY { 0.0 } else { (best[r] - top).exp() };
                    total[r] *= fade;
                    let fade = L::splat(fade);
                    let mut j = 0;
                    while j < width {
                        let to = sums.as_mut_ptr().add(r * width + j);
                        L::load(to).mul(fade).store(to);
                        j += L::N;
                    }
                    best[r] = top;
                }
                total[r] += sum;
            }
            // Slots beyond the last seen one may hold anything, even NaN.
            let filled = BLOCK_TOKENS.min(sees[R - 1] - number * BLOCK_TOKENS);
            mix::<L, R>(&weights, &values[..filled * width], width, sums);
        }
    }
    for r in 0..R {
        // SAFETY: this row and head belong to this item alone.
        let out = unsafe { item.out.slice(item.at(i + r), head_dim) };
        let share = 1.0 / total[r];
        out.iter_mut().zip(&sums[r * width..]).for_each(|(o, s)| *o = s * share);
    }
    R
}

/// Sum of a block's weights, always in the same order.
#[inline(always)]
fn sum_of(row: &[f32; BLOCK_TOKENS]) -> f32 {
    let mut lanes = [0.0f32; 8];
    for part in row.chunks_exact(8) {
        for (lane, x) in lanes.iter_mut().zip(part) {
            *lane += x;
        }
    }
    lanes.iter().sum()
}

/// `weights[r][t] = scale * q[r] · keys[..][t]` for the 32 tokens of a block.
///
/// # Safety
/// As for [`Lanes`]; `keys` holds `q[r].len() * 32` numbers.
#[inline(always)]
unsafe fn scores<L: Lanes, const R: usize>(
    q: &[&[f32]; R],
    keys: &[f32],
    scale: f32,
    weights: &mut [[f32; BLOCK_TOKENS]; R],
) {
    let mut column = 0;
    // SAFETY: `column + 2 * L::N <= 32`.
    unsafe {
        while column < BLOCK_TOKENS {
            let mut sums = [[L::splat(0.0); 2]; R];
            for d in 0..q[0].len() {
                let k = keys.as_ptr().add(d * BLOCK_TOKENS + column);
                let (k0, k1) = (L::load(k), L::load(k.add(L::N)));
                for r in 0..R {
                    let a = L::splat(*q[r].get_unchecked(d));
                    sums[r][0] = a.fma(k0, sums[r][0]);
                    sums[r][1] = a.fma(k1, sums[r][1]);
                }
            }
            let scale = L::splat(scale);
            for r in 0..R {
                let to = weights[r].as_mut_ptr().add(column);
                sums[r][0].mul(scale).store(to);
                sums[r][1].mul(scale).store(to.add(L::N));
            }
            column += 2 * L::N;
        }
    }
}

/// `sums[r] += Σ_t weights[r][t] * values[t]` over the tokens in `values`.
///
/// # Safety
/// As for [`Lanes`]; `values` holds at most 32 rows of `width` numbers, `sums` `R * width`, and `width` is a multiple of 32.
#[inline(always)]
unsafe fn mix<L: Lanes, const R: usize>(
    weights: &[[f32; BLOCK_TOKENS]; R],
    values: &[f32],
    width: usize,
    sums: &mut [f32],
) {
    let mut column = 0;
    // SAFETY: `column + 2 * L::N <= width`.
    unsafe {
        while column < width {
            let to = sums.as_mut_ptr().add(column);
            let mut now: [[L; 2]; R] =
                std::array::from_fn(|r| [L::load(to.add(r * width)), L::load(to.add(r * width + L::N))]);
            for t in 0..values.len() / width {
                let v = values.as_ptr().add(t * width + column);
                let (v0, v1) = (L::load(v), L::load(v.add(L::N)));
                for r in 0..R {
                    let a = L::splat(weights[r][t]);
                    now[r][0] = a.fma(v0, now[r][0]);
                    now[r][1] = a.fma(v1, now[r][1]);
                }
            }
            for r in 0..R {
                now[r][0].store(to.add(r * width));
                now[r][1].store(to.add(r * width + L::N));
            }
            column += 2 * L::N;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::compute::{Rope, RopeKind};

    fn random(rng: &mut StdRng, len: usize) -> Vec<f32> {
        (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    /// A pool, a sequence's keys and values in it, and its block table in random order.
    struct Sequence {
        kv: PagedKv,
        rope: Rope,
        keys: Vec<f32>,
        values: Vec<f32>,
        q: Vec<f32>,
        blocks: Vec<u32>,
        tokens: usize,
    }

    fn sequence(rng: &mut StdRng, attention: AttentionShape, tokens: usize) -> Sequence {
        let count = tokens.div_ceil(BLOCK_TOKENS);
        let mut blocks: Vec<u32> = (0..count as u32 + 3).collect();
        blocks.shuffle(rng);
        blocks.truncate(count);
        let kv = PagedKv::new(KvShape { layers: 1, blocks: count + 3, attention }).unwrap();
        let width = attention.kv_heads * attention.head_dim;
        Sequence {
            kv,
            rope: Rope::new(RopeKind::Halves, attention.head_dim & !1, 100.0, |_| 1.0),
            keys: random(rng, tokens * width),
            values: random(rng, tokens * width),
            q: random(rng, tokens * attention.heads * attention.head_dim),
            blocks,
            tokens,
        }
    }

    impl Sequence {
        /// Runs tokens `from..to` as one step.
        fn step(&mut self, isa: Isa, from: usize, to: usize) -> Vec<f32> {
            let AttentionShape { heads, kv_heads, head_dim } = self.kv.shape.attention;
            let span = Span { rows: 0..to - from, start: from, blocks: &self.blocks };
            let plan = Plan { spans: vec![span], rope: self.rope.rows(from..to), rows: to - from };
            let (a, b) = (from * kv_heads * head_dim, to * kv_heads * head_dim);
            self.kv.write(0, &mut self.keys[a..b].to_vec(), &self.values[a..b], &plan).unwrap();
            let mut q = self.q[from * heads * head_dim..to * heads * head_dim].to_vec();
            rotate_heads(&mut q, head_dim, heads, &plan.rope);
            self.kv.attend_on(isa, 0, &q, &plan)
        }

        /// The definition of attention, in `f64`, for the last token.
        fn plain(&self) -> Vec<f64> {
            let AttentionShape { heads, kv_heads, head_dim } = self.kv.shape.attention;
            let rope = self.rope.rows(0..self.tokens);
            let (mut q, mut keys) = (self.q.clone(), self.keys.clone());
            rotate_heads(&mut q, head_dim, heads, &rope);
            rotate_heads(&mut keys, head_dim, kv_heads, &rope);
            let mut out = Vec::new();
            for head in 0..heads {
                let kv_head = head / (heads / kv_heads);
                let q = &q[((self.tokens - 1) * heads + head) * head_dim..][..head_dim];
                let at = |t: usize| (t * kv_heads + kv_head) * head_dim;
                let dot = |k: &[f32]| q.iter().zip(k).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
                let weights: Vec<f64> = (0..self.tokens)
                    .map(|t| (dot(&keys[at(t)..at(t) + head_dim]) / (head_dim as f64).sqrt()).exp())
                    .collect();
                let total: f64 = weights.iter().sum();
                for d in 0..head_dim {
                    let sum: f64 = (0..self.tokens).map(|t| weights[t] * self.values[at(t) + d] as f64).sum();
                    out.push(sum / total);
                }
            }
            out
        }
    }

    fn random_shape(rng: &mut StdRng) -> AttentionShape {
        let kv_heads = rng.random_range(1..4);
        AttentionShape { heads: kv_heads * rng.random_range(1..5), kv_heads, head_dim: rng.random_range(2..70) }
    }

    #[test]
    fn attention_of_random_shapes_matches_the_definition_on_every_instruction_set() {
        let mut rng = StdRng::seed_from_u64(11);
        for _ in 0..12 {
            let attention = random_shape(&mut rng);
            let tokens = rng.random_range(1..150);
            let mut sequence = sequence(&mut rng, attention, tokens);
            let expected = sequence.plain();
            for isa in Isa::all() {
                let out = sequence.step(isa, 0, tokens);
                let last = &out[out.len() - expected.len()..];
                for (got, expected) in last.iter().zip(&expected) {
                    assert!((*got as f64 - expected).abs() < 1e-5, "{isa:?} {attention:?} {tokens}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn a_prompt_gives_the_same_bits_in_one_step_and_in_chunks() {
        let mut rng = StdRng::seed_from_u64(12);
        for _ in 0..6 {
            let attention = random_shape(&mut rng);
            let mut sequence = sequence(&mut rng, attention, 131);
            let whole = sequence.step(Isa::widest(), 0, 131);
            let mut chunks = sequence.step(Isa::widest(), 0, 16);
            for (from, to) in [(16, 49), (49, 50), (50, 128), (128, 131)] {
                chunks.extend(sequence.step(Isa::widest(), from, to));
            }
            assert_eq!(whole, chunks);
        }
    }

    #[test]
    fn an_exported_block_comes_back_into_another_block() {
        let mut rng = StdRng::seed_from_u64(13);
        let attention = AttentionShape { heads: 4, kv_heads: 2, head_dim: 20 };
        let mut sequence = sequence(&mut rng, attention, 40);
        let before = sequence.step(Isa::widest(), 0, 40);
        let bytes = sequence.kv.export(sequence.blocks[0] as usize).unwrap();
        let spare = (0..5).find(|b| !sequence.blocks.contains(b)).unwrap();
        sequence.kv.import(spare as usize, &bytes).unwrap();
        sequence.blocks[0] = spare;
        let tail = sequence.step(Isa::widest(), 39, 40);
        assert_eq!(tail, before[39 * 80..]);
        assert!(sequence.kv.import(0, &bytes[1..]).is_err());
        assert!(sequence.kv.import(99, &bytes).is_err());
    }
}
