//! Speed and memory of the chat model: loading, reading prompts, decoding one and several streams.
//!
//! `cargo bench --bench decoder` measures the starter model; `-- --help` names the options. With `--json` every
//! measurement is one line of JSON, which `scripts/bench-peers` puts beside llama.cpp's. Figures of past runs:
//! `benches/RESULTS.md`.

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use candle_core::quantized::gguf_file;

use clap::Parser;
use firstline::compute::limits;
use firstline::config::{EngineSettings, Settings};
use firstline::model::{
    self, Adapter, AdapterFile, BLOCK_TOKENS, BlockId, ChatFile, ChatTokenizer, Decoder, ModelError, PackedCache,
    StepSequence, WantLogits,
};
use serde_json::{Value, json};

#[path = "../src/model/tests/lora_file.rs"]
mod lora_file;

#[derive(Parser)]
#[command(about = "Measures loading, prefill and decode of a GGUF file")]
struct Options {
    /// GGUF file [default: the starter model in the user's cache]
    #[arg(long)]
    model: Option<PathBuf>,
    /// As the setting engine.backend
    #[arg(long)]
    backend: Option<String>,
    /// As the setting engine.weights
    #[arg(long)]
    weights: Option<String>,
    /// As the setting engine.kv
    #[arg(long)]
    kv: Option<String>,
    /// As the setting engine.step_tokens
    #[arg(long)]
    step_tokens: Option<usize>,
    /// Threads of the compute room [default: the machine's]
    #[arg(long)]
    threads: Option<usize>,
    /// Prompt lengths to read, in tokens
    #[arg(long, value_delimiter = ',', default_value = "512")]
    prompts: Vec<usize>,
    /// Numbers of streams to decode together
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    streams: Vec<usize>,
    /// Tokens in each stream's cache when its decode begins
    #[arg(long, default_value_t = 512)]
    context: usize,
    /// Tokens that each stream decodes in a round
    #[arg(long, default_value_t = 32)]
    steps: usize,
    /// Times that each thing is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure instead how long prompts take after a prefix of so many tokens that is in the cache, alone and as many at
    /// once as `streams` says, each with blocks of its own after the shared ones
    #[arg(long)]
    prefix: Option<usize>,
    /// Take packed weights from this folder, and leave them there for the next time
    #[arg(long)]
    packed: Option<PathBuf>,
    /// Decode through so many LoRA adapters of random numbers on all matrices, the streams by turns
    #[arg(long, default_value_t = 0)]
    adapters: usize,
    /// Their rank
    #[arg(long, default_value_t = 16)]
    rank: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Measure the machine's limits instead: int8 multiply-adds and bytes read a second
    #[arg(long)]
    limits: bool,
    /// Only predict: the best next token after each token of this text, and its perplexity
    #[arg(long)]
    predict: Option<PathBuf>,
    /// Tokens of that text
    #[arg(long, default_value_t = 2000)]
    predict_tokens: usize,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn model(&self) -> PathBuf {
        let starter = "models/smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf";
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        self.model.clone().unwrap_or_else(|| home().join(".cache/firstline").join(starter))
    }

    fn settings(&self) -> EngineSettings {
        let mut settings = EngineSettings::default();
        self.backend.iter().for_each(|backend| settings.backend.clone_from(backend));
        self.kv.iter().for_each(|kv| settings.kv.clone_from(kv));
        self.weights.iter().for_each(|weights| settings.weights.clone_from(weights));
        self.step_tokens.iter().for_each(|tokens| settings.step_tokens = *tokens);
        // KV memory is taken as it is written to: the limit must only be large enough.
        settings.kv_mib = settings.kv_mib.max(8192);
        settings
    }

    /// One finding, as a line.
    fn report(&self, finding: Value) {
        if self.json {
            return println!("{finding}");
        }
        let fields = finding.as_object().into_iter().flatten();
        let words: Vec<String> = fields.map(|(key, value)| format!("{key} {value}")).collect();
        println!("{}", words.join(", "));
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    // The thread pool reads its size from the environment, once: start over with the right one.
    if let Some(threads) = options.threads.filter(|n| std::env::var("RAYON_NUM_THREADS") != Ok(n.to_string())) {
        let mut again = std::process::Command::new(std::env::current_exe()?);
        let status = again.args(std::env::args_os().skip(1)).env("RAYON_NUM_THREADS", threads.to_string()).status()?;
        std::process::exit(status.code().unwrap_or(1));
    }
    if options.limits {
        let (int8, read) = (limits::int8_gmac_s(), limits::read_gb_s());
        options
            .report(json!({"what": "limits", "int8_gmac_s": int8.round(), "read_gb_s": (read * 10.0).round() / 10.0}));
        return Ok(());
    }
    match &options.predict {
        Some(text) => predict(&options, &std::fs::read_to_string(text)?)?,
        None if options.prefix.is_some() => measure_after_prefix(&options)?,
        None => measure(&options)?,
    }
    Ok(())
}

/// The best next token after each of a text's first tokens, and their perplexity, read in the engine's steps.
fn predict(options: &Options, text: &str) -> Result<(), ModelError> {
    let settings = options.settings();
    let mut tokens = ChatTokenizer::from_gguf(&options.model())?.encode(text, false)?;
    tokens.truncate(options.predict_tokens);
    let mut decoder = Decoder::load(&options.model(), &settings)?;
    let (vocab, blocks) = (decoder.vocab(), table(0, tokens.len()));
    let (mut top, mut loss) = (Vec::new(), 0.0);
    for chunk in tokens.chunks(settings.step_tokens) {
        let start = top.len();
        let step = StepSequence { tokens: chunk, start, blocks: &blocks, logits: WantLogits::All, adapter: None };
        for row in decoder.step(&[step])?[0].chunks(vocab) {
            let best = (0..vocab).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or(0);
            top.push(best);
            if let Some(next) = tokens.get(top.len()) {
                let total: f64 = row.iter().map(|x| ((*x - row[best]) as f64).exp()).sum();
                loss += total.ln() + (row[best] - row[*next as usize]) as f64;
            }
        }
    }
    let perplexity = (loss / (tokens.len() as f64 - 1.0)).exp();
    options.report(json!({"what": "predict", "top": top, "perplexity": perplexity}));
    Ok(())
}

fn measure(options: &Options) -> Result<(), ModelError> {
    let settings = options.settings();
    let started = Instant::now();
    let cache = options.packed.as_ref().and_then(|folder| {
        let mut all = Settings::default();
        all.engine.packed_dir = Some(folder.clone());
        PackedCache::new(&all)
    });
    let ChatFile { mut decoder, source, .. } = model::load(&options.model(), &settings, cache.as_ref())?;
    let seconds = started.elapsed().as_secs_f64();
    options.report(json!({"what": "load", "seconds": [seconds], "rss_mib": resident_mib()}));
    if cache.is_some() {
        source.keep_packed(&source.hash());
    }

    for tokens in options.prompts.iter().copied() {
        let seconds = (0..options.rounds).map(|_| {
            let started = Instant::now();
            read_prompt(&mut decoder, tokens, 0, settings.step_tokens, WantLogits::Last)?;
            Ok(started.elapsed().as_secs_f64())
        });
        let seconds = seconds.collect::<Result<Vec<f64>, ModelError>>()?;
        let tok_s = tokens as f64 / median(&seconds);
        options.report(json!({"what": "prefill", "tokens": tokens, "seconds": seconds, "tok_s": tok_s}));
    }
    for stream in 0..options.streams.iter().copied().max().unwrap_or(0) {
        let first = stream * blocks(options.context + options.steps);
        read_prompt(&mut decoder, options.context, first, settings.step_tokens, WantLogits::No)?;
    }
    let adapters = adapters(options, &decoder)?;
    for streams in options.streams.iter().copied() {
        let seconds = (0..options.rounds).map(|_| decode(&mut decoder, streams, &adapters, options));
        let seconds = seconds.collect::<Result<Vec<f64>, ModelError>>()?;
        let tok_s = (streams * options.steps) as f64 / median(&seconds);
        options.report(json!({
            "what": "decode", "streams": streams, "context": options.context, "steps": options.steps,
            "adapters": adapters.len(), "seconds": seconds, "tok_s": tok_s
        }));
    }
    options.report(json!({"what": "memory", "rss_mib": resident_mib()}));
    Ok(())
}

/// Seconds to the first logits of prompts that follow a shared prefix.
fn measure_after_prefix(options: &Options) -> Result<(), ModelError> {
    let settings = options.settings();
    let mut decoder = Decoder::load(&options.model(), &settings)?;
    let prefix = options.prefix.unwrap_or(0) / BLOCK_TOKENS * BLOCK_TOKENS;
    read_prompt(&mut decoder, prefix, 0, settings.step_tokens, WantLogits::No)?;
    for tokens in options.prompts.iter().copied() {
        for streams in options.streams.iter().copied() {
            let own = |stream: usize| table(blocks(prefix) + stream * blocks(tokens), tokens);
            let tables: Vec<Vec<BlockId>> = (0..streams).map(|s| [table(0, prefix), own(s)].concat()).collect();
            let mut seconds = Vec::new();
            for round in 0..options.rounds {
                let prompts: Vec<Vec<u32>> = (0..streams)
                    .map(|s| (0..tokens).map(|i| token((s * 977 + round + i) as u32, &decoder)).collect())
                    .collect();
                let started = Instant::now();
                let mut read = 0;
                while read < tokens {
                    // The step's tokens are shared out among the streams.
                    let end = tokens.min(read + (settings.step_tokens / streams).max(1));
                    let logits = if end == tokens { WantLogits::Last } else { WantLogits::No };
                    let batch = prompts.iter().zip(&tables).map(|(prompt, blocks)| StepSequence {
                        tokens: &prompt[read..end],
                        start: prefix + read,
                        blocks,
                        logits,
                        adapter: None,
                    });
                    decoder.step(&batch.collect::<Vec<_>>())?;
                    read = end;
                }
                seconds.push(started.elapsed().as_secs_f64());
            }
            options.report(json!({
                "what": "after_prefix", "prefix": prefix, "tokens": tokens, "streams": streams, "seconds": seconds
            }));
        }
    }
    Ok(())
}

/// Reads a prompt into the blocks from `first_block`, in the engine's steps.
fn read_prompt(
    decoder: &mut Decoder,
    tokens: usize,
    first_block: usize,
    step_tokens: usize,
    last: WantLogits,
) -> Result<(), ModelError> {
    let prompt: Vec<u32> = (0..tokens as u32).map(|i| token(i, decoder)).collect();
    let table = table(first_block, tokens);
    let mut start = 0;
    for chunk in prompt.chunks(step_tokens) {
        let logits = if start + chunk.len() == tokens { last } else { WantLogits::No };
        decoder.step(&[StepSequence { tokens: chunk, start, blocks: &table, logits, adapter: None }])?;
        start += chunk.len();
    }
    Ok(())
}

/// Seconds for `steps` steps of `streams` sequences, each beginning after its context.
fn decode(decoder: &mut Decoder, streams: usize, adapters: &[Adapter], options: &Options) -> Result<f64, ModelError> {
    let each = blocks(options.context + options.steps);
    let tables: Vec<Vec<BlockId>> = (0..streams).map(|s| table(s * each, options.context + options.steps)).collect();
    let started = Instant::now();
    for step in 0..options.steps {
        let tokens: Vec<[u32; 1]> = (0..streams).map(|s| [token((s * 1000 + step) as u32, decoder)]).collect();
        let batch: Vec<StepSequence<'_>> = tokens
            .iter()
            .zip(&tables)
            .enumerate()
            .map(|(stream, (tokens, blocks))| StepSequence {
                tokens,
                start: options.context + step,
                blocks,
                logits: WantLogits::Last,
                adapter: adapters.get(stream % adapters.len().max(1)),
            })
            .collect();
        decoder.step(&batch)?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// As many adapters as the options say, of random numbers for all matrices of the layers.
fn adapters(options: &Options, decoder: &Decoder) -> Result<Vec<Adapter>, ModelError> {
    let failed = |e: &dyn std::fmt::Display| ModelError::Compute(e.to_string());
    if options.adapters == 0 {
        return Ok(Vec::new());
    }
    let mut file = File::open(options.model()).map_err(|e| failed(&e))?;
    let content = gguf_file::Content::read(&mut file).map_err(|e| failed(&e))?;
    let architecture = content.metadata.get("general.architecture").and_then(|name| name.to_string().ok());
    let mut names: Vec<&String> = content.tensor_infos.keys().filter(|name| is_adapted(name)).collect();
    names.sort();
    let folder = tempfile::tempdir().map_err(|e| failed(&e))?;
    let one = |number: usize| {
        let path = folder.path().join(format!("{number}.gguf"));
        let numbers = |rows: usize, cols: usize| -> Vec<f32> {
            (0..rows * cols).map(|i| ((i * 7919 + number) as f32).sin() / (cols as f32).sqrt()).collect()
        };
        let pairs = names.iter().flat_map(|name| {
            let (outputs, inputs) = content.tensor_infos[*name].shape.dims2().unwrap_or((1, 1));
            let (a, b) = ((options.rank, inputs), (outputs, options.rank));
            [(format!("{name}.lora_a"), a, numbers(a.0, a.1)), (format!("{name}.lora_b"), b, numbers(b.0, b.1))]
        });
        let kinds = [architecture.map_or("llama", |name| name), "adapter", "lora"];
        lora_file::write(&path, kinds, options.rank as f32, pairs.collect());
        decoder.adapters().read(&AdapterFile::open(&path)?, 0.1)
    };
    (0..options.adapters).map(one).collect()
}

fn is_adapted(name: &str) -> bool {
    let of_layer = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    name.starts_with("blk.") && of_layer.iter().any(|matrix| name.ends_with(&format!(".{matrix}.weight")))
}

/// Some token, never the same twice in a row; the peer reads the same ones.
fn token(i: u32, decoder: &Decoder) -> u32 {
    (i * 7919 + 13) % decoder.vocab() as u32
}

fn blocks(tokens: usize) -> usize {
    tokens.div_ceil(BLOCK_TOKENS)
}

fn table(first: usize, tokens: usize) -> Vec<BlockId> {
    (first..first + blocks(tokens)).map(|block| block as BlockId).collect()
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// This process's resident memory (Linux; `null` elsewhere).
fn resident_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}
