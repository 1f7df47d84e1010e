//! Speed of the chat model: reading a prompt of 512 tokens, and decoding 1 and 8 sequences.
//!
//! `cargo bench --bench decoder` on the starter model, or `FIRSTLINE_BENCH_GGUF=FILE cargo bench --bench decoder`.
//! `FIRSTLINE_BENCH_BACKEND=candle` measures another backend than `auto`.
//! Threads: `RAYON_NUM_THREADS`, `CANDLE_NUM_THREADS`. Figures of past runs: `benches/RESULTS.md`.

use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use firstline::config::EngineSettings;
use firstline::model::{BLOCK_TOKENS, BlockId, Decoder, StepSequence, WantLogits};

const PROMPT: usize = 512;

/// The GGUF to measure: a setting, else the starter model in the user's cache.
fn gguf() -> PathBuf {
    let starter = "models/smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf";
    match std::env::var_os("FIRSTLINE_BENCH_GGUF") {
        Some(file) => file.into(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/firstline").join(starter),
    }
}

/// Blocks for `count` sequences of `PROMPT` tokens and some more.
fn tables(count: usize) -> Vec<Vec<BlockId>> {
    let each = (PROMPT / BLOCK_TOKENS + 1) as BlockId;
    (0..count as BlockId).map(|s| (s * each..(s + 1) * each).collect()).collect()
}

fn bench(c: &mut Criterion) {
    let backend = std::env::var("FIRSTLINE_BENCH_BACKEND").unwrap_or("auto".into());
    let settings = EngineSettings { backend, ..Default::default() };
    let mut decoder = Decoder::load(&gguf(), &settings).expect("a model (scripts/fetch-models gets it)");
    let prompt: Vec<u32> = (0..PROMPT as u32).map(|i| (i * 7919 + 13) % decoder.vocab() as u32).collect();
    let tables = tables(8);

    let mut group = c.benchmark_group("decoder");
    group.sample_size(10);
    group.throughput(Throughput::Elements(PROMPT as u64));
    group.bench_function("prefill_512", |b| {
        b.iter(|| {
            let share = StepSequence { tokens: &prompt, start: 0, blocks: &tables[0], logits: WantLogits::Last };
            decoder.step(&[share]).expect("a step")
        })
    });
    for table in &tables {
        let share = StepSequence { tokens: &prompt, start: 0, blocks: table, logits: WantLogits::No };
        decoder.step(&[share]).expect("a step");
    }
    for streams in [1, 8] {
        let batch: Vec<StepSequence<'_>> = tables[..streams]
            .iter()
            .map(|blocks| StepSequence { tokens: &[17], start: PROMPT, blocks, logits: WantLogits::Last })
            .collect();
        group.throughput(Throughput::Elements(streams as u64));
        group.bench_function(format!("decode_{streams}"), |b| b.iter(|| decoder.step(&batch).expect("a step")));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
