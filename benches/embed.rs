//! Speed of the embedding model: many texts, and one query at a time.
//!
//! `cargo bench --bench embed -- --texts FILE` (a JSON list of texts). With `--json` every measurement is one line of
//! JSON, which `scripts/bench-peers` puts beside sentence-transformers'. Figures: `benches/RESULTS.md`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use firstline::embed::{Embedder, Role};
use serde_json::json;

const QUERY: &str = "How do I change the color of the chat button?";

#[derive(Parser)]
#[command(about = "Measures an embedding model")]
struct Options {
    /// Model folder [default: the starter model in the user's cache]
    #[arg(long)]
    model: Option<PathBuf>,
    /// A JSON list of texts [default: 1,000 paragraphs cut from tests/golden/english.txt]
    #[arg(long)]
    texts: Option<PathBuf>,
    /// Threads of the compute room [default: the machine's]
    #[arg(long)]
    threads: Option<usize>,
    /// Times that the texts are embedded
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Write the vectors here: f32, row after row
    #[arg(long)]
    vectors: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    // The thread pool reads its size from the environment, once: start over with the right one.
    if let Some(threads) = options.threads.filter(|n| std::env::var("RAYON_NUM_THREADS") != Ok(n.to_string())) {
        let mut again = std::process::Command::new(std::env::current_exe()?);
        let status = again.args(std::env::args_os().skip(1)).env("RAYON_NUM_THREADS", threads.to_string()).status()?;
        std::process::exit(status.code().unwrap_or(1));
    }
    let model = options.model.clone().unwrap_or_else(|| {
        let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
        home.join(".cache/firstline/models/all-minilm-l6-v2")
    });
    let started = Instant::now();
    let embedder = Embedder::load("all-minilm-l6-v2", &model, &["en".into()])?;
    let load_s = started.elapsed().as_secs_f64();
    let texts: Vec<String> = match &options.texts {
        Some(file) => serde_json::from_slice(&std::fs::read(file)?)?,
        None => paragraphs(),
    };
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();

    let mut vectors = embedder.embed(&texts[..texts.len().min(64)], Role::Passage)?;
    let mut seconds = Vec::new();
    for _ in 0..options.rounds {
        let started = Instant::now();
        vectors = embedder.embed(&texts, Role::Passage)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    let mut queries = Vec::new();
    for _ in 0..30 {
        let started = Instant::now();
        embedder.embed(&[QUERY], Role::Query)?;
        queries.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    let texts_s = texts.len() as f64 / median(&seconds);
    let tokens: usize = vectors.tokens.iter().sum();
    let findings = [
        json!({"what": "load", "seconds": [load_s]}),
        json!({"what": "embed", "texts": texts.len(), "tokens": tokens, "seconds": seconds, "texts_s": texts_s}),
        json!({"what": "query", "ms": median(&queries)}),
    ];
    for finding in findings {
        let fields = finding.as_object().into_iter().flatten();
        let words: Vec<String> = fields.map(|(key, value)| format!("{key} {value}")).collect();
        println!("{}", if options.json { finding.to_string() } else { words.join(", ") });
    }
    if let Some(path) = &options.vectors {
        let bytes: Vec<u8> = vectors.vectors.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

/// A thousand runs of words, 20 to 150 long.
fn paragraphs() -> Vec<String> {
    let words: Vec<&str> = include_str!("../tests/golden/english.txt").split_whitespace().collect();
    let cut = |i: usize| words.iter().cycle().skip(i * 37 % words.len()).take(20 + i * 53 % 131).copied();
    (0..1000).map(|i| cut(i).collect::<Vec<_>>().join(" ")).collect()
}

fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
