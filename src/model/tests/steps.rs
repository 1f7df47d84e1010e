//! Steps: the same sequence alone, batched, in chunks, and after its blocks went out and in.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{golden, settings, starter};
use crate::config::EngineSettings;
use crate::model::{Decoder, StepSequence, WantLogits};

fn decoder() -> Decoder {
    Decoder::load(&golden("models/qwen3.gguf"), &settings("native")).unwrap()
}

/// Packed weights, and keys and values at 8 bits.
fn packed_decoder() -> Decoder {
    Decoder::load(&starter(), &settings("native")).unwrap()
}

/// Windows, soft-caps, and keys and values at 8 bits.
fn masked_decoder() -> Decoder {
    let settings = EngineSettings { kv: "q8".into(), ..settings("native") };
    Decoder::load(&golden("models/gemma2.gguf"), &settings).unwrap()
}

fn tokens(seed: u64, len: usize) -> Vec<u32> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(0..300)).collect()
}

/// Logits of the last token, the sequence alone and whole.
fn alone(decoder: impl Fn() -> Decoder, tokens: &[u32]) -> Vec<f32> {
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(32) as u32).collect();
    let step = StepSequence { tokens, start: 0, blocks: &blocks, logits: WantLogits::Last, adapter: None };
    decoder().step(&[step]).unwrap().remove(0)
}

#[test]
fn a_sequence_gives_the_same_bits_alone_batched_and_in_chunks() {
    compare_with_others_and_alone(decoder);
    compare_with_others_and_alone(packed_decoder);
    compare_with_others_and_alone(masked_decoder);
}

fn compare_with_others_and_alone(load: fn() -> Decoder) {
    let (a, b, c) = (tokens(1, 150), tokens(2, 33), tokens(3, 70));
    let mut decoder = load();
    let (of_a, of_b, of_c) = ([7, 3, 9, 1, 0], [2, 8], [5, 6, 4]);
    let last = |tokens, start, blocks| StepSequence { tokens, start, blocks, logits: WantLogits::Last, adapter: None };
    let no = |tokens, start, blocks| StepSequence { tokens, start, blocks, logits: WantLogits::No, adapter: None };
    // a in chunks of 16 with b's decodes and c's chunks beside it.
    assert!(decoder.step(&[no(&b[..31], 0, &of_b)]).unwrap()[0].is_empty());
    let mut from = 0;
    let mut steps = 0;
    while from < a.len() {
        let to = a.len().min(from + 16);
        let mut batch = vec![last(&a[from..to], from, &of_a)];
        if steps < 2 {
            batch.push(last(&b[31 + steps..32 + steps], 31 + steps, &of_b));
            batch.push(last(&c[steps * 35..(steps + 1) * 35], steps * 35, &of_c));
        }
        let logits = decoder.step(&batch).unwrap();
        if steps == 1 {
            assert_eq!(logits[1], alone(load, &b));
            assert_eq!(logits[2], alone(load, &c));
        }
        if to == a.len() {
            assert_eq!(logits[0], alone(load, &a));
        }
        from = to;
        steps += 1;
    }
}

#[test]
fn a_sequence_asks_for_no_one_or_all_logits() {
    let tokens = tokens(4, 20);
    let step = |logits| StepSequence { tokens: &tokens, start: 0, blocks: &[0], logits, adapter: None };
    let mut decoder = decoder();
    let vocab = decoder.vocab();
    let answer = decoder.step(&[step(WantLogits::All)]).unwrap().remove(0);
    assert_eq!(answer.len(), 20 * vocab);
    assert_eq!(decoder.step(&[step(WantLogits::Last)]).unwrap()[0], answer[19 * vocab..]);
    assert!(decoder.step(&[step(WantLogits::No)]).unwrap()[0].is_empty());
    assert!(decoder.step(&[]).unwrap().is_empty());
    let nothing = StepSequence { tokens: &[], start: 0, blocks: &[], logits: WantLogits::Last, adapter: None };
    assert_eq!(decoder.step(&[nothing]).unwrap(), [Vec::<f32>::new()]);
}

#[test]
fn saved_blocks_stand_in_for_a_computed_prefix() {
    compare_with_a_saved_prefix(decoder);
    compare_with_a_saved_prefix(packed_decoder);
    compare_with_a_saved_prefix(masked_decoder);
}

fn compare_with_a_saved_prefix(load: fn() -> Decoder) {
    let tokens = tokens(5, 65);
    let mut first = load();
    let step = |tokens, start, blocks| StepSequence { tokens, start, blocks, logits: WantLogits::Last, adapter: None };
    first.step(&[step(&tokens[..64], 0, &[0, 1])]).unwrap();
    let saved: Vec<Vec<u8>> = (0..2).map(|block| first.export_block(block).unwrap()).collect();
    let mut second = load();
    second.import_block(6, &saved[0]).unwrap();
    second.import_block(2, &saved[1]).unwrap();
    let logits = second.step(&[step(&tokens[64..], 64, &[6, 2, 3])]).unwrap().remove(0);
    assert_eq!(logits, alone(load, &tokens));
    assert!(second.import_block(0, &saved[0][1..]).unwrap_err().to_string().contains("bytes"));
    assert!(second.export_block(u32::MAX).is_err());
}

#[test]
fn steps_outside_the_model_are_refused() {
    let mut decoder = decoder();
    let blocks = decoder.kv_blocks() as u32;
    let mut error = |tokens: &[u32], start, blocks: &[u32]| {
        let step = StepSequence { tokens, start, blocks, logits: WantLogits::Last, adapter: None };
        decoder.step(&[step]).unwrap_err().to_string()
    };
    assert!(error(&[100_000], 0, &[0]).contains("token 100000"));
    assert!(error(&[1], 0, &[blocks]).contains(&format!("KV block {blocks}")));
    assert!(error(&[1; 33], 0, &[0]).contains("cover 32 positions"));
    assert!(error(&[1], usize::MAX, &[0]).contains("cover"));
}

#[test]
fn settings_that_cannot_be_met_are_named() {
    let error = |settings: EngineSettings| {
        Decoder::load(&golden("models/qwen3.gguf"), &settings).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let base = || settings("auto");
    assert!(error(EngineSettings { kv_mib: 0, ..base() }).contains("kv_mib"));
    assert!(error(EngineSettings { backend: "abacus".into(), ..base() }).contains("`abacus`"));
    assert!(error(EngineSettings { weights: "int3".into(), ..base() }).contains("`int3`"));
    assert!(error(EngineSettings { device: "abacus".into(), ..base() }).contains("`abacus`"));
}
