//! The engine with the starter model. These tests need its file: `scripts/fetch-models`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::super::{CacheScope, GenerationEvent, SamplingParams, Usage};
use super::*;

const STARTER: &str = "smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf";

fn starter() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let folder = std::env::var_os("FIRSTLINE_MODELS")
        .map_or_else(|| PathBuf::from(home).join(".cache/firstline/models"), PathBuf::from);
    let file = folder.join(STARTER);
    assert!(file.is_file(), "{} is missing: run scripts/fetch-models", file.display());
    file
}

fn load(change: impl FnOnce(&mut EngineSettings)) -> ChatModel {
    let mut settings = EngineSettings { kv_mib: 512, ..EngineSettings::default() };
    change(&mut settings);
    ChatModel::load("starter", &starter(), &settings, None).unwrap()
}

fn messages(parts: &[(&str, &str)]) -> Vec<ChatMessage> {
    parts.iter().map(|(role, content)| ChatMessage { role: (*role).into(), content: (*content).into() }).collect()
}

fn greedy() -> SamplingParams {
    SamplingParams { temperature: 0.0, ..SamplingParams::default() }
}

/// An English instruction of about so many tokens.
fn instruction(tokens: usize) -> String {
    let rules = [
        "Answer in one or two short sentences and stay polite, whatever the customer writes.",
        "The widget is installed by one line of code before the closing body tag of the page.",
        "Invoices are found under Settings, Billing, Invoices; only an owner of the workspace sees them.",
        "Never promise a refund, a date or a discount: such questions belong to the people of the sales team.",
        "If the widget does not appear, ask for the address of the page and for the browser's name and version.",
    ];
    (0..tokens / 18).map(|i| format!("{}. {}\n", i + 1, rules[i % rules.len()])).collect()
}

const QUESTIONS: [&str; 8] = [
    "How do I install the widget?",
    "Where can I find my invoices, and who is allowed to see them?",
    "Write three sentences about the sea.",
    "What is the capital of France?",
    "My chat does not show up on the checkout page of my shop. What should I do first?",
    "List the days of the week, one per line.",
    "Explain in simple words what a web browser does and why people need one every day.",
    "Say hello.",
];

/// Asks for an answer of exactly `max_tokens`: the end tokens are ruled out.
fn question(model: &ChatModel, index: usize, max_tokens: usize) -> GenerateRequest {
    let system = instruction(60 + 40 * index);
    let prompt = model.prompt(&messages(&[("system", &system), ("user", QUESTIONS[index])])).unwrap();
    let cache = CacheScope { shared_tokens: 0, salt: index.to_string() };
    let sampling = SamplingParams { logit_bias: ENDLESS.to_vec(), ..greedy() };
    GenerateRequest {
        prompt: prompt.tokens,
        sampling,
        max_tokens,
        cache,
        top_logprobs: Some(2),
        ..GenerateRequest::default()
    }
}

/// Rules out the starter model's end tokens.
const ENDLESS: [(u32, f32); 2] = [(0, -100.0), (2, -100.0)];

/// A token, its text, and how far its logit lies above the second best.
type Step = (u32, String, f32);

async fn collect(mut generation: Generation) -> (Vec<Step>, Usage) {
    let mut steps = Vec::new();
    while let Some(event) = generation.next().await {
        match event {
            GenerationEvent::Text { logprobs, .. } => {
                steps.extend(logprobs.into_iter().map(|l| (l.token, l.text, l.top[0].logprob - l.top[1].logprob)));
            }
            GenerationEvent::Done { usage, .. } => return (steps, usage),
            GenerationEvent::Failed(error) => panic!("{error}"),
        }
    }
    panic!("the generation ended without a word");
}

/// `got` is the beginning of `expected` but for near ties, where rounding may choose: those are listed, and what follows
/// them is another text.
fn assert_same(how: &str, index: usize, expected: &[Step], got: &[Step]) {
    for (at, (a, b)) in expected.iter().zip(got).enumerate() {
        if a.0 != b.0 {
            println!("{how}: prompt {index}, token {at}: {:?} or {:?}, margins {} and {}", a.1, b.1, a.2, b.2);
            assert!(a.2 <= 0.05, "{how}: prompt {index} differs at token {at} with a margin of {}", a.2);
            return;
        }
    }
    assert!(!got.is_empty() && got.len() <= expected.len(), "{how}: prompt {index}");
}

const SHORT: usize = 24;
/// Grows a sequence by more blocks than admission keeps free for it.
const LONG: usize = 72;

async fn one_by_one(model: &ChatModel, how: &str, alone: &[Vec<Step>]) {
    for (index, expected) in alone.iter().enumerate() {
        let (steps, _) = collect(model.generate(question(model, index, SHORT)).unwrap()).await;
        assert_same(how, index, expected, &steps);
    }
}

async fn all_at_once(model: &ChatModel, how: &str, length: usize, alone: &[Vec<Step>]) {
    let running: Vec<_> = (0..8).map(|i| model.generate(question(model, i, length)).unwrap()).collect();
    for (index, generation) in running.into_iter().enumerate() {
        let (steps, _) = collect(generation).await;
        assert_eq!(steps.len(), length);
        assert_same(how, index, &alone[index], &steps);
    }
}

#[tokio::test]
async fn greedy_answers_are_the_same_alone_together_chunked_cached_and_preempted() {
    let mut alone = Vec::new();
    let model = load(|settings| settings.max_running = 8);
    for index in 0..8 {
        let (steps, usage) = collect(model.generate(question(&model, index, LONG)).unwrap()).await;
        assert_eq!((usage.cached_tokens, steps.len()), (0, LONG));
        alone.push(steps);
    }
    let before = model.stats().cached_tokens;
    one_by_one(&model, "after a prefix hit", &alone).await;
    assert!(model.stats().cached_tokens - before > 1500, "{:?}", model.stats());
    drop(model);

    let model = load(|settings| settings.max_running = 8);
    all_at_once(&model, "all at once", SHORT, &alone).await;
    drop(model);

    let model = load(|settings| settings.step_tokens = 16);
    one_by_one(&model, "with a 16-token prefill chunk", &alone).await;
    drop(model);

    // How many sequences stand in the cache when one of them outgrows it depends on how fast they were read.
    let mut preemptions = 0;
    for kv_mib in [21, 18, 15] {
        let model = load(|settings| settings.kv_mib = kv_mib);
        all_at_once(&model, "after a preemption", LONG, &alone).await;
        let stats = model.stats();
        println!("{} preemptions in {} blocks", stats.preemptions, stats.kv_blocks);
        preemptions += stats.preemptions;
    }
    assert!(preemptions > 0);
}

#[tokio::test]
async fn a_second_conversation_finds_the_operators_core_cached_also_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let core = instruction(900);
    let mut answers = Vec::new();
    for start in 0..2 {
        let model = load(|_| ());
        let ask = |user: &str, salt: &str| {
            let prompt = model.prompt(&messages(&[("system", &core), ("user", user)])).unwrap();
            let (prompt, core_tokens) = (prompt.tokens, prompt.message_ends[0]);
            let cache = CacheScope { shared_tokens: core_tokens, salt: salt.into() };
            let request = GenerateRequest { prompt, cache, sampling: greedy(), max_tokens: 16, ..Default::default() };
            (core_tokens, request)
        };
        let (core_tokens, first) = ask("How do I install the widget?", "one");
        if start == 0 {
            // Without a pin: the first conversation computes the core, the second finds it.
            let (text, _, usage) = model.generate(first.clone()).unwrap().finish().await.unwrap();
            assert_eq!(usage.cached_tokens, 0);
            answers.push(text);
            let (_, second) = ask("Where are my invoices?", "two");
            let (_, _, usage) = model.generate(second).unwrap().finish().await.unwrap();
            println!("core {core_tokens} tokens, cached {}", usage.cached_tokens);
            assert!(usage.cached_tokens * 100 >= core_tokens * 95, "{} of {core_tokens}", usage.cached_tokens);
        }
        let begun = Instant::now();
        let report = model.pin("igor", first.prompt[..core_tokens].to_vec(), state.path()).await.unwrap();
        println!("start {start}: {report:?} in {:?}", begun.elapsed());
        assert_eq!((report.tokens, report.restored), (core_tokens, start == 1));
        // Its last block is filled in part: what it holds is copied, and the answer is as without a pin.
        let (_, anothers) = ask("How do I install the widget?", "four");
        let (text, _, usage) = model.generate(anothers).unwrap().finish().await.unwrap();
        assert!(!core_tokens.is_multiple_of(32) && usage.cached_tokens == core_tokens, "{usage:?} of {core_tokens}");
        answers.push(text);

        // What is kept already costs nothing, and what nobody names any more is let go, in memory and on disk.
        let saved = || std::fs::read_dir(state.path().join("prefixes")).unwrap().count();
        let again = model.pin("igor", ask("?", "three").1.prompt[..core_tokens].to_vec(), state.path()).await.unwrap();
        assert!(again.restored && model.stats().kv_blocks_pinned == core_tokens.div_ceil(32));
        model.keep_only(&["igor".into()], state.path()).await.unwrap();
        assert_eq!((model.stats().kv_blocks_pinned, saved()), (core_tokens.div_ceil(32), 1));
        if start == 1 {
            model.keep_only(&["olga".into()], state.path()).await.unwrap();
            assert_eq!((model.stats().kv_blocks_pinned, saved()), (0, 0));
        }
    }
    assert!(answers[1..].iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures time, so it runs alone and on a quiet machine: benches/RESULTS.md has the command"]
async fn running_streams_do_not_stutter_while_a_long_prompt_is_read() {
    let model = load(|_| ());
    let sampling = SamplingParams { logit_bias: ENDLESS.to_vec(), seed: Some(1), ..SamplingParams::default() };
    let enough = Arc::new(AtomicBool::new(false));
    let stream = |index: usize| {
        let prompt = model.prompt(&messages(&[("user", QUESTIONS[index])])).unwrap().tokens;
        let request = GenerateRequest { prompt, sampling: sampling.clone(), max_tokens: 1500, ..Default::default() };
        let mut generation = model.generate(request).unwrap();
        let (started, is_started) = tokio::sync::oneshot::channel();
        let enough = enough.clone();
        let arrivals = tokio::spawn(async move {
            let mut started = Some(started);
            let mut arrivals = Vec::new();
            while let Some(GenerationEvent::Text { .. }) = generation.next().await {
                arrivals.push(Instant::now());
                if enough.load(Ordering::Relaxed) {
                    break;
                }
                if let Some(started) = started.take() {
                    let _ = started.send(());
                }
            }
            arrivals
        });
        (is_started, arrivals)
    };
    let streams: Vec<_> = (0..4).map(stream).collect();
    let mut arrivals = Vec::new();
    for (is_started, stream) in streams {
        is_started.await.unwrap();
        arrivals.push(stream);
    }
    // Two prompts, one after the other: enough gaps to speak of one in a hundred.
    let mut spans = Vec::new();
    for skipped in [0, 37] {
        // Nothing of the second is in the cache: it begins elsewhere.
        let mut prompt = model.tokenize(&instruction(3400)).unwrap().split_off(skipped);
        prompt.truncate(3000);
        assert_eq!(prompt.len(), 3000);
        let begun = Instant::now();
        let request = GenerateRequest { prompt, sampling: greedy(), max_tokens: 1, ..Default::default() };
        let (_, _, usage) = model.generate(request).unwrap().finish().await.unwrap();
        assert_eq!(usage.cached_tokens, 0);
        spans.push((begun, Instant::now()));
    }
    let mut gaps_ms: Vec<f64> = Vec::new();
    enough.store(true, Ordering::Relaxed);
    for stream in arrivals {
        let times = stream.await.unwrap();
        let during =
            times.windows(2).filter(|pair| spans.iter().any(|(begun, ended)| pair[1] > *begun && pair[0] < *ended));
        gaps_ms.extend(during.map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1000.0));
    }
    gaps_ms.sort_by(f64::total_cmp);
    let at = |share: f64| gaps_ms[((gaps_ms.len() - 1) as f64 * share) as usize];
    println!(
        "3000 tokens read in {:?}; {} gaps: median {:.0} ms, 99 % {:.0} ms, longest {:.0} ms",
        spans.iter().map(|(begun, ended)| *ended - *begun).collect::<Vec<_>>(),
        gaps_ms.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    assert!(gaps_ms.len() > 100 && at(0.99) < 250.0);
}

/// Requests whose answers repeat what the prompt says, each with its own way of drawing.
fn grounded(model: &ChatModel, index: usize) -> GenerateRequest {
    let rules = instruction(120 + 30 * index);
    let ask = format!("{rules}\nRepeat the text above word for word.");
    let prompt = model.prompt(&messages(&[("user", &ask)])).unwrap().tokens;
    let sampled = SamplingParams { temperature: 0.6, seed: Some(index as u64), ..SamplingParams::default() };
    let sampling = match index {
        1 => sampled,
        2 => SamplingParams { frequency_penalty: 0.05, ..greedy() },
        _ => greedy(),
    };
    let constraint = (index == 3).then(|| {
        let schema = serde_json::json!({"type": "object", "required": ["text"], "additionalProperties": false,
            "properties": {"text": {"type": "string"}}});
        model.constraint(&Grammar::JsonSchema(schema)).unwrap()
    });
    let cache = CacheScope { shared_tokens: 0, salt: index.to_string() };
    let stop = if index == 4 { vec!["Invoices".to_string()] } else { Vec::new() };
    GenerateRequest { prompt, sampling, max_tokens: 90, stop, cache, constraint, ..GenerateRequest::default() }
}

const GROUNDED: usize = 5;

/// A small model of random weights, and the adapter that belongs to it.
fn adapted() -> (ChatModel, [Adapter; 2]) {
    let golden = |kind: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(kind).join("llama.gguf");
    let settings = EngineSettings { kv_mib: 64, backend: "native".into(), ..EngineSettings::default() };
    let model = ChatModel::load("small", &golden("models"), &settings, None).unwrap();
    let adapters = [1.0, 0.5].map(|scale| model.adapter(&golden("adapters"), scale, 1 << 20).unwrap());
    (model, adapters)
}

/// A prompt of 100 tokens, and what is said to it through an adapter.
async fn said(model: &ChatModel, shared_tokens: usize, adapter: Option<&Adapter>) -> (Vec<u32>, usize) {
    let ends = model.inner.tokenizer.end_tokens();
    let request = GenerateRequest {
        prompt: (0..100).map(|n| 5 + n * 7 % 200).collect(),
        sampling: SamplingParams { logit_bias: ends.iter().map(|end| (*end, -100.0)).collect(), ..greedy() },
        max_tokens: 40,
        cache: CacheScope { shared_tokens, salt: "x".into() },
        top_logprobs: Some(2),
        adapter: adapter.cloned(),
        ..GenerateRequest::default()
    };
    let (steps, usage) = collect(model.generate(request).unwrap()).await;
    (steps.into_iter().map(|(token, ..)| token).collect(), usage.cached_tokens)
}

#[tokio::test]
async fn requests_with_different_adapters_share_no_cached_block_and_answer_as_if_alone() {
    let (model, [first, second]) = adapted();
    let wanted = [None, Some(&first), Some(&second)];
    let mut alone = Vec::new();
    for adapter in wanted {
        let (tokens, cached) = said(&model, 0, adapter).await;
        assert_eq!(cached, 0, "{adapter:?} found another's blocks");
        alone.push(tokens);
    }
    assert!(alone[0] != alone[1] && alone[1] != alone[2] && alone[0] != alone[2]);
    for (adapter, alone) in wanted.into_iter().zip(&alone) {
        assert_eq!(said(&model, 0, adapter).await, (alone.clone(), 96), "after its own prefix");
    }
    let (fresh, [first, second]) = adapted();
    let together = tokio::join!(
        said(&fresh, 0, None),
        said(&fresh, 0, Some(&first)),
        said(&fresh, 0, Some(&second)),
        said(&fresh, 0, Some(&first))
    );
    assert_eq!(
        [&together.0.0, &together.1.0, &together.2.0, &together.3.0],
        [&alone[0], &alone[1], &alone[2], &alone[1]]
    );
}

#[tokio::test]
async fn a_kept_instruction_belongs_to_its_adapter_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let tokens: Vec<u32> = (0..64).map(|n| 5 + n * 7 % 200).collect();
    let prefix = |adapter: &Adapter| AdaptedTokens { tokens: tokens.clone(), adapter: Some(adapter.clone()) };
    let (model, [first, second]) = adapted();
    let (expected, _) = said(&model, 64, Some(&first)).await;
    drop(model);
    let (model, [first_again, _]) = adapted();
    assert!(!model.pin("igor/v1", prefix(&first_again), folder.path()).await.unwrap().restored);
    assert_eq!(said(&model, 64, Some(&first_again)).await, (expected.clone(), 64));
    assert_eq!(said(&model, 64, None).await.1, 0, "an instruction read through an adapter served one without");
    drop(model);
    let (model, [first_again, _]) = adapted();
    assert!(model.pin("igor/v1", prefix(&first_again), folder.path()).await.unwrap().restored);
    assert_eq!(said(&model, 64, Some(&first_again)).await, (expected, 64));
    // The operator gets another adapter: nothing of the old one is taken.
    assert!(!model.pin("igor/v1", prefix(&second), folder.path()).await.unwrap().restored);
    assert!(!model.pin("olga/v1", tokens, folder.path()).await.unwrap().restored);
    drop(first);
}

#[test]
fn an_adapter_that_is_too_large_or_of_another_model_is_refused_with_its_file() {
    let (model, _) = adapted();
    let golden = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/adapters").join(name);
    let refused = |name: &str, most| model.adapter(&golden(name), 1.0, most).unwrap_err().to_string();
    let said = refused("llama.gguf", 1000);
    assert!(said.contains("llama.gguf") && said.contains("engine.adapters_mib"), "{said}");
    assert!(refused("qwen2.gguf", 1 << 20).contains("for the architecture `qwen2`"));
    assert!(refused("missing.gguf", 1 << 20).contains("cannot be read"));
    assert!(model.adapter(&golden("llama.gguf"), f32::NAN, 1 << 20).is_err());
}

#[tokio::test]
async fn drafted_answers_are_the_plain_ones_to_the_last_token() {
    let plain = load(|settings| settings.draft_tokens = 0);
    let mut expected = Vec::new();
    for index in 0..GROUNDED {
        let (text, reason, usage) = plain.generate(grounded(&plain, index)).unwrap().finish().await.unwrap();
        expected.push((text, reason, usage.completion_tokens));
    }
    let plain_steps = plain.stats().steps;
    assert_eq!(plain.stats().drafts, 0);
    drop(plain);
    let said = |(text, reason, usage): (String, _, Usage)| (text, reason, usage.completion_tokens);

    let model = load(|_| ());
    for round in ["cold", "after a prefix hit"] {
        for (index, expected) in expected.iter().enumerate() {
            let answer = model.generate(grounded(&model, index)).unwrap().finish().await.unwrap();
            assert_eq!(&said(answer), expected, "{round}, request {index}");
        }
        if round == "cold" {
            let stats = model.stats();
            println!("{} steps instead of {plain_steps}: {stats:?}", stats.steps);
            assert!(stats.accepted_tokens > 60 && stats.steps * 4 < plain_steps * 3, "{stats:?}");
        }
    }
    drop(model);
    for (how, step_tokens, kv_mib) in [("together", 512, 512), ("in chunks", 16, 512), ("in little memory", 512, 12)] {
        let model = load(|settings| (settings.step_tokens, settings.kv_mib) = (step_tokens, kv_mib));
        let running: Vec<_> = (0..GROUNDED).map(|i| model.generate(grounded(&model, i)).unwrap()).collect();
        for (index, (generation, expected)) in running.into_iter().zip(&expected).enumerate() {
            assert_eq!(&said(generation.finish().await.unwrap()), expected, "{how}, request {index}");
        }
        println!("{how}: {:?}", model.stats());
    }
}
