//! Attention against its definition, and blocks that go out and come back.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::compute::{Rope, RopeKind, Span};

fn random(rng: &mut StdRng, len: usize) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A pool, a sequence's keys and values in it, and its block table in random order.
struct Sequence<S> {
    kv: PagedKv<S>,
    rope: Rope,
    keys: Vec<f32>,
    values: Vec<f32>,
    q: Vec<f32>,
    blocks: Vec<u32>,
    tokens: usize,
    how: Attend,
}

fn sequence<S: Stored>(rng: &mut StdRng, attention: AttentionShape, tokens: usize) -> Sequence<S> {
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
        how: Attend::plain(attention.head_dim),
    }
}

impl<S: Stored> Sequence<S> {
    /// Runs tokens `from..to` as one step.
    fn step(&mut self, isa: Isa, from: usize, to: usize) -> Vec<f32> {
        let AttentionShape { heads, kv_heads, head_dim } = self.kv.shape.attention;
        let span = Span { rows: 0..to - from, start: from, blocks: &self.blocks };
        let plan = Plan { spans: vec![span], rows: to - from };
        let rope = self.rope.rows(from..to);
        let (a, b) = (from * kv_heads * head_dim, to * kv_heads * head_dim);
        self.kv.write(0, &mut self.keys[a..b].to_vec(), &self.values[a..b], &rope, &plan).unwrap();
        let mut q = self.q[from * heads * head_dim..to * heads * head_dim].to_vec();
        rotate_heads(&mut q, head_dim, heads, &rope);
        let mut out = vec![f32::NAN; q.len()];
        self.kv.attend_on(isa, 0, &q, &self.how, &plan, &mut out);
        out
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
            let score = |t: usize| {
                let score = dot(&keys[at(t)..at(t) + head_dim]) * self.how.scale as f64;
                self.how.softcap.map_or(score, |cap| cap as f64 * (score / cap as f64).tanh())
            };
            let seen = |t: usize| self.how.window.is_none_or(|window| self.tokens - t <= window);
            let weights: Vec<f64> = (0..self.tokens).map(|t| if seen(t) { score(t).exp() } else { 0.0 }).collect();
            let total: f64 = weights.iter().sum();
            for d in 0..head_dim {
                let sum: f64 = (0..self.tokens).map(|t| weights[t] * self.values[at(t) + d] as f64).sum();
                out.push(sum / total);
            }
        }
        out
    }
}

/// Any scale, with and without a window and a soft-cap.
fn random_attend(rng: &mut StdRng) -> Attend {
    Attend {
        scale: rng.random_range(0.05..0.5),
        window: rng.random_bool(0.7).then(|| rng.random_range(1..100)),
        softcap: rng.random_bool(0.5).then(|| rng.random_range(0.2..3.0)),
    }
}

fn random_shape(rng: &mut StdRng) -> AttentionShape {
    let kv_heads = rng.random_range(1..4);
    AttentionShape { heads: kv_heads * rng.random_range(1..5), kv_heads, head_dim: rng.random_range(2..70) }
}

#[test]
fn attention_of_random_shapes_matches_the_definition_on_every_instruction_set() {
    compare_with_the_definition::<f32>(1e-5);
    // A half-precision number has 11 bits.
    compare_with_the_definition::<u16>(2e-3);
}

fn compare_with_the_definition<S: Stored>(tolerance: f64) {
    let mut rng = StdRng::seed_from_u64(11);
    for _ in 0..20 {
        let attention = random_shape(&mut rng);
        let tokens = rng.random_range(1..150);
        let mut sequence = sequence::<S>(&mut rng, attention, tokens);
        sequence.how = random_attend(&mut rng);
        let expected = sequence.plain();
        for isa in Isa::all() {
            let out = sequence.step(isa, 0, tokens);
            let last = &out[out.len() - expected.len()..];
            for (got, expected) in last.iter().zip(&expected) {
                assert!((*got as f64 - expected).abs() < tolerance, "{isa:?} {attention:?} {tokens}: {got} {expected}");
            }
        }
    }
}

#[test]
fn a_prompt_gives_the_same_bits_in_one_step_and_in_chunks() {
    let mut rng = StdRng::seed_from_u64(12);
    for _ in 0..6 {
        let attention = random_shape(&mut rng);
        let mut sequence = sequence::<u16>(&mut rng, attention, 131);
        sequence.how = random_attend(&mut rng);
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
    let mut sequence = sequence::<u16>(&mut rng, attention, 40);
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
