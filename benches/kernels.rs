//! The kernels alone: products with packed weights, attention over KV blocks, the encoder's products and attention.
//!
//! `cargo bench --bench kernels` (criterion; add a filter: `-- native/Q4_1`). Throughput in "elements" a second is in
//! multiply-adds a second; behind each figure stands its share of what the machine's vector units do at most in the same
//! minutes (`compute::limits`). All threads of the pool; `RAYON_NUM_THREADS=1` for one.

use std::cell::Cell;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use firstline::compute::encoder::{self, AttendShape, Dense, Operand, Precision, Then};
use firstline::compute::native::{KvPrecision, NativeBackend};
use firstline::compute::{
    Attend, AttentionShape, BLOCK_TOKENS, Backend, ComputeError, Format, Join, KvShape, PackedMatrix, Plan, Qkv, Rope,
    RopeKind, Span, limits,
};

/// Inputs and outputs of the native products: rows of Qwen3-0.6B's, which every format allows.
const INPUTS: usize = 1024;
const OUTPUTS: usize = 2048;
const FORMATS: [Format; 8] =
    [Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1, Format::Q8_0, Format::Q4K, Format::Q5K, Format::Q6K];

fn main() -> Result<(), ComputeError> {
    let mut criterion = Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    products(&mut criterion)?;
    attention(&mut criterion)?;
    encoders(&mut criterion);
    criterion.final_summary();
    Ok(())
}

/// Measures `work`, which does `macs` multiply-adds, and says what share of `peak` (10^9 a second) its best time is.
fn measure(criterion: &mut Criterion, name: &str, macs: usize, peak: f64, mut work: impl FnMut() -> Duration) {
    let best = Cell::new(f64::INFINITY);
    let mut group = criterion.benchmark_group(name.split_once('/').map_or(name, |(group, _)| group));
    group.throughput(Throughput::Elements(macs as u64));
    group.bench_function(name.split_once('/').map_or(name, |(_, rest)| rest), |bencher| {
        bencher.iter_custom(|times| {
            let took: Duration = (0..times).map(|_| work()).sum();
            best.set(best.get().min(took.as_secs_f64() / times as f64));
            took
        });
    });
    group.finish();
    if best.get().is_finite() {
        let rate = macs as f64 / best.get() / 1e9;
        println!("{name}: at best {rate:.0} GMAC/s, {:.0} % of {peak:.0}", rate / peak * 100.0);
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    std::hint::black_box(work());
    started.elapsed()
}

/// Bytes of a matrix whose scales and weights are ordinary numbers in every format.
fn weights(format: Format, rows: usize, cols: usize) -> Vec<u8> {
    vec![0x2a; format.matrix_bytes(rows, cols).unwrap_or(0)]
}

/// `rows` rows of `width` numbers.
fn rows_of(
    backend: &NativeBackend,
    rows: usize,
    width: usize,
) -> Result<<NativeBackend as Backend>::Rows, ComputeError> {
    let bytes: Vec<u8> = (0..width).flat_map(|i| (((i * 37 % 101) as f32 - 50.0) / 50.0).to_le_bytes()).collect();
    let table = PackedMatrix { name: "rows", format: Format::F32, rows: 1, cols: width, bytes: &bytes };
    backend.embed_rows(&backend.table(&table)?, &vec![0; rows], 1.0)
}

fn products(criterion: &mut Criterion) -> Result<(), ComputeError> {
    let (backend, peak) = (NativeBackend::new(KvPrecision::Bytes), limits::int8_gmac_s());
    let plain = Join { norm: None, scale: 1.0 };
    for format in FORMATS {
        let bytes = weights(format, OUTPUTS, INPUTS);
        let packed = PackedMatrix { name: "weight", format, rows: OUTPUTS, cols: INPUTS, bytes: &bytes };
        let linear = backend.linear(&packed, None)?;
        for rows in [1, 8, 64, 512] {
            let x = rows_of(&backend, rows, INPUTS)?;
            let mut residual = Some(rows_of(&backend, rows, OUTPUTS)?);
            measure(criterion, &format!("native/{format:?}, {rows} rows"), rows * INPUTS * OUTPUTS, peak, || {
                let started = Instant::now();
                residual =
                    residual.take().and_then(|residual| backend.linear_add(&x, &linear, &[], &plain, residual).ok());
                started.elapsed()
            });
        }
    }
    Ok(())
}

/// Causal attention of one span behind so many tokens, with SmolLM2's heads.
fn attention(criterion: &mut Criterion) -> Result<(), ComputeError> {
    let (backend, peak) = (NativeBackend::new(KvPrecision::Bytes), limits::int8_gmac_s());
    let heads = AttentionShape { heads: 9, kv_heads: 3, head_dim: 64 };
    let rope = Rope::new(RopeKind::Interleaved, heads.head_dim, 10_000.0, |_| 1.0);
    for (before, rows) in [(0usize, 512usize), (3584, 512), (512, 1), (4095, 1)] {
        let blocks: Vec<u32> = (0..(before + rows).div_ceil(BLOCK_TOKENS) as u32).collect();
        let mut kv = backend.kv_pool(KvShape { layers: 1, blocks: blocks.len(), attention: heads })?;
        let plan =
            |start: usize, rows: usize| Plan { spans: vec![Span { rows: 0..rows, start, blocks: &blocks }], rows };
        let mut cache = |plan: &Plan<'_>| {
            let [q, k] = [heads.heads, heads.kv_heads].map(|n| n * heads.head_dim);
            let part = |width: usize| rows_of(&backend, plan.rows, width);
            let qkv = Qkv { q: part(q)?, k: part(k)?, v: part(k)? };
            let rotation = rope.rows(plan.spans[0].start..plan.spans[0].start + plan.rows);
            backend.rope_and_cache(qkv, None, &rotation, &mut kv, 0, plan)
        };
        if before > 0 {
            cache(&plan(0, before))?;
        }
        let step = plan(before, rows);
        let q = cache(&step)?;
        let seen: usize = (before + 1..=before + rows).sum();
        let macs = 2 * seen * heads.heads * heads.head_dim;
        measure(criterion, &format!("attention/{rows} rows behind {before}"), macs, peak, || {
            timed(|| backend.paged_attention(&q, &kv, 0, &Attend::plain(heads.head_dim), &step).is_ok())
        });
    }
    Ok(())
}

/// MiniLM's products and attention, in the precision that embeddings take here.
fn encoders(criterion: &mut Criterion) {
    let precision = Precision::fastest();
    let peak = if precision == Precision::F32 { limits::f32_gmac_s() } else { limits::int16_gmac_s() };
    let numbers = |count: usize| -> Vec<f32> { (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect() };
    for (name, inputs, outputs, then) in [
        ("qkv", 384, 1152, Then::Nothing),
        ("out", 384, 384, Then::Nothing),
        ("up and GELU", 384, 1536, Then::Gelu),
        ("down", 1536, 384, Then::Nothing),
    ] {
        let dense = Dense::pack(precision, inputs, &numbers(inputs * outputs), &vec![0.1; outputs]);
        for rows in [12, 256] {
            let (x, mut input, mut out) = (numbers(rows * inputs), Operand::default(), Operand::default());
            measure(
                criterion,
                &format!("encoder/{name}, {rows} rows, {precision:?}"),
                rows * inputs * outputs,
                peak,
                || {
                    timed(|| {
                        input.take(precision, &x, inputs);
                        dense.product(&mut input, then, &mut out);
                    })
                },
            );
        }
    }
    let shape = AttendShape { heads: 12, width: 32, reach: None };
    let dense = Dense::pack(precision, 384, &numbers(384 * 1152), &vec![0.1; 1152]);
    for (texts, tokens) in [(12, 20), (2, 128), (1, 512)] {
        let rows = texts * tokens;
        let (mut input, mut qkv, mut out) = (Operand::default(), Operand::default(), Operand::default());
        input.take(precision, &numbers(rows * 384), 384);
        dense.product(&mut input, Then::Nothing, &mut qkv);
        let texts: Vec<_> = (0..texts).map(|text| text * tokens..(text + 1) * tokens).collect();
        let macs = 2 * rows * tokens * 384;
        measure(
            criterion,
            &format!("encoder/attention, {} of {tokens}", texts.len()),
            macs,
            limits::f32_gmac_s(),
            || timed(|| encoder::attend(&qkv, &texts, shape, &mut out)),
        );
    }
}
