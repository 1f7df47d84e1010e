//! Attention at 8 bits against its definition, and the same bits whatever stands beside a row.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::compute::lanes;
use crate::compute::paged::rotate_heads;
use crate::compute::{Rope, RopeKind, Span};

/// A sequence's queries, keys and values before rotation, and its blocks in a pool.
struct Sequence {
    q: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    blocks: Vec<u32>,
    tokens: usize,
}

/// A pool with room for some sequences, in blocks of random order, filled with what others left.
struct Fixture {
    kv: Kv8,
    rope: Rope,
    how: Attend,
    free: Vec<u32>,
    rng: StdRng,
}

impl Fixture {
    fn new(seed: u64, attention: AttentionShape) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let blocks = 96;
        let mut free: Vec<u32> = (0..blocks as u32).collect();
        free.shuffle(&mut rng);
        let mut kv = Kv8::new(KvShape { layers: 1, blocks, attention }).unwrap();
        // Bytes of 0xff are also NaN where scales lie.
        kv.layers[0].all_mut().fill(0xff);
        let rope = Rope::new(RopeKind::Halves, attention.head_dim & !1, 100.0, |_| 1.0);
        Self { kv, rope, how: Attend::plain(attention.head_dim), free, rng }
    }

    /// The same, attending with a window, with capped scores, or with both, by turns.
    fn masked(seed: u64, attention: AttentionShape) -> Self {
        let mut fixture = Self::new(seed, attention);
        if seed % 3 != 1 {
            fixture.how.window = Some(fixture.rng.random_range(1..300));
        }
        if seed % 3 != 0 {
            // Some scores lie far beyond such a cap, most within.
            fixture.how.softcap = Some(fixture.rng.random_range(0.3..4.0));
        }
        fixture
    }

    fn sequence(&mut self, tokens: usize) -> Sequence {
        let AttentionShape { heads, kv_heads, head_dim } = self.kv.shape.attention;
        let mut random = |len: usize| -> Vec<f32> { (0..len).map(|_| self.rng.random_range(-1.0..1.0)).collect() };
        let (q, mut keys) = (random(tokens * heads * head_dim), random(tokens * kv_heads * head_dim));
        let values = random(tokens * kv_heads * head_dim);
        // Some channels far larger than the others, as models have them.
        keys.iter_mut().step_by(head_dim).for_each(|x| *x *= 8.0);
        let blocks = self.free.split_off(self.free.len() - tokens.div_ceil(BLOCK_TOKENS));
        Sequence { q, keys, values, blocks, tokens }
    }

    /// Tokens `from..to` of each sequence as one step; each sequence's outputs.
    fn step(&mut self, isa: Isa, parts: &[(&Sequence, usize, usize)]) -> Vec<Vec<f32>> {
        let AttentionShape { heads, kv_heads, head_dim } = self.kv.shape.attention;
        let (mut spans, mut positions, mut rows) = (Vec::new(), Vec::new(), 0);
        let (mut q, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (sequence, from, to) in parts {
            spans.push(Span { rows: rows..rows + to - from, start: *from, blocks: &sequence.blocks });
            rows += to - from;
            positions.extend(*from..*to);
            q.extend_from_slice(&sequence.q[from * heads * head_dim..to * heads * head_dim]);
            keys.extend_from_slice(&sequence.keys[from * kv_heads * head_dim..to * kv_heads * head_dim]);
            values.extend_from_slice(&sequence.values[from * kv_heads * head_dim..to * kv_heads * head_dim]);
        }
        let rope = self.rope.rows(positions.into_iter());
        let plan = Plan { spans, rows };
        self.kv.write(isa, 0, &mut keys, &values, &rope, &plan).unwrap();
        rotate_heads(&mut q, head_dim, heads, &rope);
        let mut out = vec![f32::NAN; q.len()];
        self.kv.attend(isa, 0, &q, &self.how, &plan, &mut out);
        let width = heads * head_dim;
        plan.spans.iter().map(|span| out[span.rows.start * width..span.rows.end * width].to_vec()).collect()
    }

    /// The definition of attention, in `f64`, for the last token.
    fn plain(&self, sequence: &Sequence) -> Vec<f64> {
        let AttentionShape { heads, kv_heads, head_dim } = self.kv.shape.attention;
        let rope = self.rope.rows(0..sequence.tokens);
        let (mut q, mut keys) = (sequence.q.clone(), sequence.keys.clone());
        rotate_heads(&mut q, head_dim, heads, &rope);
        rotate_heads(&mut keys, head_dim, kv_heads, &rope);
        let mut out = Vec::new();
        for head in 0..heads {
            let kv_head = head / (heads / kv_heads);
            let q = &q[((sequence.tokens - 1) * heads + head) * head_dim..][..head_dim];
            let at = |t: usize| (t * kv_heads + kv_head) * head_dim;
            let dot = |k: &[f32]| q.iter().zip(k).map(|(a, b)| *a as f64 * *b as f64).sum::<f64>();
            let first = self.how.window.map_or(0, |window| sequence.tokens.saturating_sub(window));
            let weight = |t: usize| {
                let score = dot(&keys[at(t)..at(t) + head_dim]) / (head_dim as f64).sqrt();
                let capped = self.how.softcap.map_or(score, |cap| cap as f64 * (score / cap as f64).tanh());
                if t < first { 0.0 } else { capped.exp() }
            };
            let weights: Vec<f64> = (0..sequence.tokens).map(weight).collect();
            let total: f64 = weights.iter().sum();
            for d in 0..head_dim {
                let sum: f64 = (0..sequence.tokens).map(|t| weights[t] * sequence.values[at(t) + d] as f64).sum();
                out.push(sum / total);
            }
        }
        out
    }
}

fn random_shape(rng: &mut StdRng) -> AttentionShape {
    let kv_heads = rng.random_range(1..4);
    let head_dim = if rng.random_bool(0.3) { rng.random_range(2..70) } else { 16 * rng.random_range(1..9) };
    AttentionShape { heads: kv_heads * rng.random_range(1..8), kv_heads, head_dim }
}

#[test]
fn attention_of_random_shapes_is_near_the_definition_on_every_instruction_set() {
    compare_with_the_definition(Fixture::new);
}

#[test]
fn windows_and_caps_of_random_shapes_are_near_the_definition_on_every_instruction_set() {
    compare_with_the_definition(Fixture::masked);
}

fn compare_with_the_definition(fixture: fn(u64, AttentionShape) -> Fixture) {
    let mut rng = StdRng::seed_from_u64(21);
    for round in 0..14 {
        let attention = random_shape(&mut rng);
        let mut fixture = fixture(round, attention);
        let tokens = rng.random_range(1..400);
        let sequence = fixture.sequence(tokens);
        let expected = fixture.plain(&sequence);
        let mut wide = Vec::new();
        for isa in Isa::all() {
            let out = fixture.step(isa, &[(&sequence, 0, tokens)]).remove(0);
            if isa.lanes() != lanes::Isa::Scalar {
                wide.push(out.clone());
            }
            let last = &out[out.len() - expected.len()..];
            let error: f64 = last.iter().zip(&expected).map(|(got, x)| (*got as f64 - x).powi(2)).sum();
            let size: f64 = expected.iter().map(|x| x.powi(2)).sum();
            let off = (error / size).sqrt();
            assert!(off < 0.03, "{isa:?} {attention:?} {:?} {tokens} tokens: off by {off}", fixture.how);
        }
        assert!(
            wide.windows(2).all(|two| two[0] == two[1]),
            "{attention:?} {:?}: other bits on another instruction set",
            fixture.how
        );
    }
}

#[test]
fn a_row_gives_the_same_bits_alone_in_chunks_and_beside_others() {
    compare_chunks_with_the_whole(Fixture::new, 2);
}

#[test]
fn a_row_with_a_window_or_a_cap_gives_the_same_bits_alone_in_chunks_and_beside_others() {
    compare_chunks_with_the_whole(Fixture::masked, 6);
}

fn compare_chunks_with_the_whole(fixture: fn(u64, AttentionShape) -> Fixture, rounds: u64) {
    let mut rng = StdRng::seed_from_u64(22);
    for isa in Isa::all() {
        for round in 0..rounds {
            let attention = random_shape(&mut rng);
            let mut fixture = fixture(100 + round, attention);
            let sequence = fixture.sequence(331);
            let whole = fixture.step(isa, &[(&sequence, 0, 331)]).remove(0);
            let others: Vec<Sequence> = (0..7).map(|i| fixture.sequence(20 + 37 * i)).collect();
            let mut chunks = fixture.step(isa, &[(&sequence, 0, 16)]).remove(0);
            for (from, to) in [(16, 49), (49, 50), (50, 128), (128, 131), (131, 330)] {
                let mut parts: Vec<_> = others.iter().map(|other| (other, 0, other.tokens)).collect();
                parts.insert(round as usize % 8, (&sequence, from, to));
                chunks.extend(fixture.step(isa, &parts).remove(round as usize % 8));
            }
            // One token each, as in a decode.
            let mut parts: Vec<_> = others.iter().map(|other| (other, other.tokens - 1, other.tokens)).collect();
            parts.push((&sequence, 330, 331));
            chunks.extend(fixture.step(isa, &parts).pop().unwrap());
            assert!(whole == chunks, "{isa:?} {attention:?} {:?}", fixture.how);
        }
    }
}

#[test]
fn sequences_that_share_a_prefix_decode_together_to_the_bits_they_give_alone() {
    compare_together_with_alone(Fixture::new, 200);
}

#[test]
fn sequences_that_share_a_prefix_decode_together_with_windows_and_caps() {
    (200..203).for_each(|seed| compare_together_with_alone(Fixture::masked, seed));
}

fn compare_together_with_alone(fixture: fn(u64, AttentionShape) -> Fixture, seed: u64) {
    let mut rng = StdRng::seed_from_u64(23);
    for isa in Isa::all() {
        let attention = random_shape(&mut rng);
        let mut fixture = fixture(seed, attention);
        let prefix = fixture.sequence(192);
        fixture.step(isa, &[(&prefix, 0, 192)]);
        let sequences: Vec<Sequence> = (0..8)
            .map(|i| {
                let mut own = fixture.sequence(200 + 31 * i);
                let spare = own.blocks.splice(..6, prefix.blocks.clone()).collect::<Vec<_>>();
                fixture.free.extend(spare);
                own
            })
            .collect();
        let mut alone = Vec::new();
        for sequence in &sequences {
            fixture.step(isa, &[(sequence, 192, sequence.tokens)]);
            alone.push(fixture.step(isa, &[(sequence, sequence.tokens - 1, sequence.tokens)]).remove(0));
        }
        let last: Vec<_> = sequences.iter().map(|s| (s, s.tokens - 1, s.tokens)).collect();
        assert!(fixture.step(isa, &last) == alone, "{isa:?} {attention:?} {:?}", fixture.how);
        let plan = Plan {
            spans: sequences
                .iter()
                .enumerate()
                .map(|(i, s)| Span { rows: i..i + 1, start: s.tokens - 1, blocks: &s.blocks })
                .collect(),
            rows: 8,
        };
        assert_eq!(tiles(&plan, &fixture.how, 16).1.len(), 1, "what they share is read once");
    }
}

#[test]
fn a_query_of_zeros_weighs_all_that_it_sees_alike() {
    let attention = AttentionShape { heads: 3, kv_heads: 1, head_dim: 64 };
    let mut fixture = Fixture::new(300, attention);
    let mut sequence = fixture.sequence(77);
    sequence.q.fill(0.0);
    let expected = fixture.plain(&sequence);
    for isa in Isa::all() {
        let out = fixture.step(isa, &[(&sequence, 0, 77)]).remove(0);
        for (got, expected) in out[76 * 192..].iter().zip(&expected) {
            assert!((*got as f64 - expected).abs() < 0.01, "{isa:?}: {got}, not {expected}");
        }
    }
}

#[test]
fn an_exported_block_comes_back_into_another_block() {
    let attention = AttentionShape { heads: 4, kv_heads: 2, head_dim: 20 };
    let mut fixture = Fixture::new(400, attention);
    let mut sequence = fixture.sequence(40);
    let isa = Isa::best();
    let before = fixture.step(isa, &[(&sequence, 0, 40)]).remove(0);
    let bytes = fixture.kv.export(sequence.blocks[0] as usize).unwrap();
    assert_eq!(bytes.len(), Kv8::block_bytes(&fixture.kv.shape));
    let spare = fixture.free[0];
    fixture.kv.import(spare as usize, &bytes).unwrap();
    sequence.blocks[0] = spare;
    let tail = fixture.step(isa, &[(&sequence, 39, 40)]).remove(0);
    assert_eq!(tail, before[39 * 80..]);
    assert!(fixture.kv.import(0, &bytes[1..]).is_err());
    assert!(fixture.kv.import(99, &bytes).is_err() && fixture.kv.export(99).is_err());
}
