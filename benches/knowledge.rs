//! Speed of the knowledge: indexing, hybrid searches, the graph's recall, and whole turns in which the model writes nothing.
//!
//! `scripts/make-large-pack DATA/docs OUT --chunks 10000` makes a pack and messages; then
//! `cargo bench --bench knowledge -- --pack OUT/pack --messages OUT/QUESTIONS.json --state OUT/state`. A turn is the real one
//! (routing, filters, retrieval, decision), with the starter models; no language is given as one that the chat model
//! writes, so every answer is a verbatim or quoted one. Figures: `benches/RESULTS.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;
use firstline::config::Settings;
use firstline::embed::{Embedder, Role};
use firstline::kb::{IndexProgress, Knowledge, SearchQuery};
use firstline::llm::{ChatMessage, ChatModel};
use firstline::support::{Support, TurnEvent, TurnRequest};

/// Nearest vectors whose recall is measured, and queries that are compared exactly.
const NEAREST: usize = 10;
const COMPARED: usize = 200;

#[derive(Parser)]
#[command(about = "Measures indexing, searches and turns over a large pack")]
struct Options {
    /// The pack's folder
    #[arg(long)]
    pack: PathBuf,
    /// A JSON list of customers' messages
    #[arg(long)]
    messages: PathBuf,
    /// Where the index is written or found
    #[arg(long)]
    state: PathBuf,
    /// Folder of the models [default: the user's cache]
    #[arg(long)]
    models: Option<PathBuf>,
    /// Times that the messages are searched and asked
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Questions at once, besides one at a time
    #[arg(long, default_value_t = 8)]
    together: usize,
    /// Leave the turns out
    #[arg(long)]
    no_turns: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let models = options
        .models
        .clone()
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/firstline/models"));
    let messages: Vec<String> = serde_json::from_slice(&std::fs::read(&options.messages)?)?;
    let embedder = Embedder::load("all-minilm-l6-v2", &models.join("all-minilm-l6-v2"), &["en".into()])?;
    let mut settings = Settings::default();
    settings.knowledge.dir = options.pack.clone();
    println!("resident MiB with the embedding model: {}", resident_mib());
    for time in ["index", "open again"] {
        let (mut last, started) = (0, Instant::now());
        let progress = &mut |p: IndexProgress| {
            if p.total > 0 && p.done * 10 / p.total != last {
                last = p.done * 10 / p.total;
                eprintln!("  {:?}: {} of {}, {:.0} s", p.step, p.done, p.total, started.elapsed().as_secs_f64());
            }
        };
        let (knowledge, report) = Knowledge::open(&settings.knowledge, &options.state, embedder.clone(), progress)?;
        println!(
            "{time}: {} chunks, {} embedded, {} kept, {:.1} s; resident MiB {}",
            report.chunks,
            report.embedded,
            report.reused,
            report.seconds,
            resident_mib()
        );
        if time == "index" {
            continue;
        }
        searches(&options, &knowledge, &embedder, &messages)?;
        if !options.no_turns {
            turns(&options, &settings, &models, &embedder, knowledge, &messages)?;
        }
    }
    println!("resident MiB at the end: {}, at most {}", resident_mib(), peak_mib());
    Ok(())
}

fn searches(options: &Options, knowledge: &Knowledge, embedder: &Embedder, messages: &[String]) -> Result<(), Failure> {
    let snapshot = knowledge.snapshot();
    let mut vectors = Vec::new();
    let mut embedding = Vec::new();
    for message in messages {
        let started = Instant::now();
        vectors.extend(embedder.embed(&[message], Role::Query)?.vectors);
        embedding.push(started.elapsed().as_secs_f64() * 1e3);
    }
    println!("embedding a message: {}", spread(&embedding));
    let search = |at: usize| -> Result<f64, Failure> {
        let at = at % messages.len();
        let query = SearchQuery {
            text: &messages[at],
            lang: Some("en"),
            limit: 32,
            vector: Some(&vectors[at]),
            ..SearchQuery::default()
        };
        let started = Instant::now();
        snapshot.search(&query)?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    (0..messages.len()).try_for_each(|at| search(at).map(drop))?;
    let count = messages.len() * options.rounds;
    println!("hybrid search, one at a time: {}", spread(&(0..count).map(search).collect::<Result<Vec<_>, _>>()?));
    let times = at_once(options.together, count, &search)?;
    println!("hybrid search, {} at once: {}", options.together, spread(&times));
    let compared = &vectors[..vectors.len().min(COMPARED)];
    if let Some([search, graph]) = snapshot.vector_recall(compared, NEAREST)? {
        println!(
            "recall of the {NEAREST} nearest against exact comparison, {} queries: {search:.4}; the graph alone: {graph:.4}",
            compared.len()
        );
    }
    Ok(())
}

fn turns(
    options: &Options,
    settings: &Settings,
    models: &Path,
    embedder: &Embedder,
    knowledge: Knowledge,
    messages: &[String],
) -> Result<(), Failure> {
    let file = models.join("smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf");
    let chat = ChatModel::load("smollm2-135m-instruct-q4_1", &file, &settings.engine, None)?;
    let started = Instant::now();
    let support = Support::new(settings, chat, &[], embedder.clone(), knowledge, &options.state)?;
    println!("learning the pack: {:.1} s; resident MiB {}", started.elapsed().as_secs_f64(), resident_mib());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let steps: Mutex<BTreeMap<String, Vec<f64>>> = Mutex::default();
    let kinds: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let turn = |at: usize| -> Result<f64, Failure> {
        let request = TurnRequest {
            messages: vec![ChatMessage { role: "user".into(), content: messages[at % messages.len()].clone() }],
            conversation_id: format!("c{at}"),
            group_id: format!("c{at}"),
            public_url: "http://127.0.0.1:8080".into(),
            ..TurnRequest::default()
        };
        let started = Instant::now();
        runtime.block_on(async {
            let mut turn = support.turn(request).await?;
            while let Some(event) = turn.next().await {
                let TurnEvent::Done(outcome) = event else { continue };
                let took = started.elapsed().as_secs_f64() * 1e3;
                let mut steps = steps.lock().unwrap_or_else(|e| e.into_inner());
                for (step, ms) in &outcome.trace.timings_ms {
                    steps.entry(step.clone()).or_default().push(*ms);
                }
                *kinds.lock().unwrap_or_else(|e| e.into_inner()).entry(outcome.kind.clone()).or_default() += 1;
                return Ok(took);
            }
            Err("the turn ended without an outcome".into())
        })
    };
    (0..messages.len().min(50)).try_for_each(|at| turn(at).map(drop))?;
    let count = messages.len() * options.rounds;
    for together in [1, options.together] {
        steps.lock().unwrap_or_else(|e| e.into_inner()).clear();
        kinds.lock().unwrap_or_else(|e| e.into_inner()).clear();
        let before = cpu_seconds();
        println!("turn without the model writing, {together} at once: {}", spread(&at_once(together, count, &turn)?));
        println!("  processor time of a turn: {:.2} ms", (cpu_seconds() - before) * 1e3 / count.max(1) as f64);
        for (step, times) in &*steps.lock().unwrap_or_else(|e| e.into_inner()) {
            println!("  {step}: {}", spread(times));
        }
        println!("  kinds: {:?}", kinds.lock().unwrap_or_else(|e| e.into_inner()));
    }
    Ok(())
}

/// Does `count` pieces of work, always so many at once; gives their times.
fn at_once(
    together: usize,
    count: usize,
    work: &(impl Fn(usize) -> Result<f64, Failure> + Sync),
) -> Result<Vec<f64>, Failure> {
    let (next, times) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..together)
            .map(|_| {
                scope.spawn(|| -> Result<(), Failure> {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= count {
                            return Ok(());
                        }
                        let time = work(at)?;
                        times.lock().unwrap_or_else(|e| e.into_inner()).push(time);
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("a worker panicked".into())))
    })?;
    Ok(times.into_inner().unwrap_or_else(|e| e.into_inner()))
}

fn spread(ms: &[f64]) -> String {
    let mut sorted = ms.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at =
        |share: f64| sorted.get(((sorted.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(f64::NAN);
    format!(
        "median {:.2} ms, 95 % {:.2}, 99 % {:.2}, longest {:.2} ({} times)",
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0),
        sorted.len()
    )
}

/// Processor time of all threads so far, user and system: in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn resident_mib() -> u64 {
    status_mib("VmRSS:")
}

fn peak_mib() -> u64 {
    status_mib("VmHWM:")
}

fn status_mib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
