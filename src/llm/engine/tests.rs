use std::sync::Mutex;

use super::super::{FinishReason, GenerateRequest, Generation, GenerationEvent, SamplingParams, Usage};
use super::*;

const VOCAB: usize = 64;
/// Ends an answer.
const END: u32 = 0;
/// A decoder step with this token fails, panics, or gives NaN.
const FAILS: u32 = 61;
const PANICS: u32 = 62;
const GIVES_NAN: u32 = 63;

/// A decoder whose next token depends on every token that it finds in the cache, so that a wrong block shows at once.
struct Fake {
    memory: Vec<[u32; BLOCK_TOKENS]>,
    /// Tokens of each step's shares.
    steps: Arc<Mutex<Vec<Vec<usize>>>>,
    /// It repeats what stands in its cache, most of the time.
    copies: bool,
    /// Each step waits for a word from here, if it is there.
    gate: Option<mpsc::Receiver<()>>,
    /// Told when the engine lets the decoder go.
    dropped: mpsc::Sender<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.dropped.send(());
    }
}

impl StepModel for Fake {
    fn kv_blocks(&self) -> usize {
        self.memory.len()
    }
    fn vocab(&self) -> usize {
        // One logit of padding, the highest of all.
        VOCAB + 1
    }
    fn step(&mut self, batch: &[StepSequence<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
        self.steps.lock().unwrap().push(batch.iter().map(|s| s.tokens.len()).collect());
        assert!(!batch.iter().any(|s| s.tokens.contains(&PANICS)), "a bug in the decoder");
        if batch.iter().any(|s| s.tokens.contains(&FAILS)) {
            return Err(ModelError::Compute("no such kernel".into()));
        }
        let row = |s: &StepSequence<'_>| {
            for (i, token) in s.tokens.iter().enumerate() {
                let at = s.start + i;
                self.memory[s.blocks[at / BLOCK_TOKENS] as usize][at % BLOCK_TOKENS] = *token;
            }
            if s.logits == WantLogits::No {
                return Vec::new();
            }
            let seen = |at: usize| self.memory[s.blocks[at / BLOCK_TOKENS] as usize][at % BLOCK_TOKENS];
            let logits = |end: usize| {
                let hash = (0..end).fold(17u32, |h, at| h.wrapping_mul(31).wrapping_add(seen(at)));
                let mut logits: Vec<f32> =
                    (0..VOCAB as u32).map(|t| (hash.wrapping_mul(t + 1) % 97) as f32 / 20.0).collect();
                if self.copies && !hash.is_multiple_of(9) {
                    // Mostly what followed the same token before, as an answer repeats its source.
                    let before = (0..end - 1).rev().find(|at| seen(*at) == seen(end - 1));
                    logits[before.map_or(5, |at| seen(at + 1)) as usize] += 6.0;
                }
                // The special tokens never come up by themselves.
                logits[END as usize] = -50.0;
                logits.push(100.0);
                logits[FAILS as usize..VOCAB].fill(if s.tokens.contains(&GIVES_NAN) { f32::NAN } else { -50.0 });
                logits
            };
            let ends = s.start + s.tokens.len();
            match s.logits {
                WantLogits::All => (s.start + 1..=ends).flat_map(logits).collect(),
                _ => logits(ends),
            }
        };
        Ok(batch.iter().map(row).collect())
    }
    fn export_block(&self, block: BlockId) -> Result<Vec<u8>, ModelError> {
        Ok(self.memory[block as usize].iter().flat_map(|t| t.to_le_bytes()).collect())
    }
    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), ModelError> {
        for (token, bytes) in self.memory[block as usize].iter_mut().zip(bytes.chunks_exact(4)) {
            *token = u32::from_le_bytes(bytes.try_into().unwrap());
        }
        Ok(())
    }
}

struct Letters;

impl TokenTable for Letters {
    fn token_bytes(&self, token: u32) -> Vec<u8> {
        if token == END { Vec::new() } else { vec![b'0' + token as u8] }
    }
    fn token_text(&self, token: u32) -> String {
        format!("<{token}>")
    }
    fn ends_answer(&self, token: u32) -> bool {
        token == END
    }
}

struct Rig {
    handle: EngineHandle,
    steps: Arc<Mutex<Vec<Vec<usize>>>>,
    gate: mpsc::Sender<()>,
    dropped: mpsc::Receiver<()>,
}

fn rig_with(blocks: usize, gated: bool, options: EngineOptions) -> Rig {
    rig_of(blocks, gated, false, options)
}

/// A decoder that repeats its text, and drafts of so many tokens.
fn copying_rig(blocks: usize, draft_tokens: usize) -> Rig {
    let limits = StepLimits { draft_tokens, ..options().limits };
    rig_of(blocks, false, true, EngineOptions { limits, ..options() })
}

fn rig_of(blocks: usize, gated: bool, copies: bool, options: EngineOptions) -> Rig {
    let (dropped_sender, dropped) = mpsc::channel();
    let (gate, gate_receiver) = mpsc::channel();
    let steps = Arc::new(Mutex::new(Vec::new()));
    let fake = Fake {
        memory: vec![[0; BLOCK_TOKENS]; blocks],
        steps: steps.clone(),
        copies,
        gate: gated.then_some(gate_receiver),
        dropped: dropped_sender,
    };
    let handle = start(fake, Arc::new(Letters), options).unwrap();
    Rig { handle, steps, gate, dropped }
}

fn options() -> EngineOptions {
    let limits = StepLimits { step_tokens: 128, chunk_tokens: 32, max_running: 8, draft_tokens: 0 };
    EngineOptions { limits, max_waiting: 8, context_tokens: 2000, vocab: VOCAB, step_time: Duration::from_millis(100) }
}

fn rig(blocks: usize) -> Rig {
    rig_with(blocks, false, options())
}

fn request(prompt: &[u32], max_tokens: usize) -> GenerateRequest {
    GenerateRequest {
        prompt: prompt.to_vec(),
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        max_tokens,
        ..GenerateRequest::default()
    }
}

fn prompt(tokens: usize, seed: u32) -> Vec<u32> {
    (0..tokens as u32).map(|i| 1 + (i * 7 + seed * 13) % 60).collect()
}

async fn finish(generation: Result<Generation, LlmError>) -> (String, FinishReason, Usage) {
    generation.unwrap().finish().await.unwrap()
}

#[tokio::test]
async fn answers_are_the_same_alone_together_and_after_preemptions() {
    let requests: Vec<_> = (0..6).map(|i| request(&prompt(60 + 20 * i, i as u32), 150)).collect();
    let roomy = rig(200);
    let mut alone = Vec::new();
    for request in &requests {
        alone.push(finish(roomy.handle.generate(request.clone())).await.0);
    }
    for blocks in [200, 20] {
        let together = rig(blocks);
        let running: Vec<_> = requests.iter().map(|r| together.handle.generate(r.clone()).unwrap()).collect();
        for (generation, expected) in running.into_iter().zip(&alone) {
            assert_eq!(&generation.finish().await.unwrap().0, expected);
        }
        let stats = together.handle.stats();
        assert_eq!(stats.preemptions > 0, blocks == 20);
        assert_eq!((stats.kv_blocks_used, stats.running, stats.waiting), (0, 0, 0));
    }
}

#[tokio::test]
async fn a_seed_gives_the_same_answer_alone_and_in_a_batch() {
    let rig = rig(200);
    let seeded = |i: u32| {
        let sampling = SamplingParams { temperature: 1.2, seed: Some(5 + i as u64), ..SamplingParams::default() };
        GenerateRequest { sampling, ..request(&prompt(50, i), 60) }
    };
    let alone = finish(rig.handle.generate(seeded(1))).await.0;
    let running: Vec<_> = (0..4).map(|i| rig.handle.generate(seeded(i)).unwrap()).collect();
    let mut together = Vec::new();
    for generation in running {
        together.push(generation.finish().await.unwrap().0);
    }
    assert_eq!(together[1], alone);
    assert_ne!(together[1], together[2]);
}

#[tokio::test]
async fn a_request_that_breaks_the_decoder_fails_alone() {
    for (bad, words) in [(FAILS, "no such kernel"), (PANICS, "panicked"), (GIVES_NAN, "NaN")] {
        let rig = rig_with(64, true, options());
        let good = rig.handle.generate(request(&prompt(40, 1), 20)).unwrap();
        let broken = rig.handle.generate(request(&[5, bad, 7], 20)).unwrap();
        drop(rig.gate);
        let error = broken.finish().await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert_eq!(good.finish().await.unwrap().2.completion_tokens, 20);
        assert_eq!(finish(rig.handle.generate(request(&prompt(40, 1), 3))).await.2.completion_tokens, 3);
    }
}

#[tokio::test]
async fn dropping_a_generation_frees_its_blocks_before_the_next_step() {
    let rig = rig_with(64, true, options());
    let mut generation = rig.handle.generate(request(&prompt(300, 1), 1000)).unwrap();
    (0..3).for_each(|_| rig.gate.send(()).unwrap());
    assert!(matches!(generation.next().await, Some(GenerationEvent::Text { .. })));
    drop(generation);
    let steps = rig.steps.lock().unwrap().len();
    let other = rig.handle.generate(request(&prompt(10, 2), 1)).unwrap();
    (0..2).for_each(|_| rig.gate.send(()).unwrap());
    assert_eq!(other.finish().await.unwrap().2.prompt_tokens, 10);
    let after: Vec<_> = rig.steps.lock().unwrap()[steps..].to_vec();
    assert!(after.len() <= 2 && after.last() == Some(&vec![10]), "at most the step underway had it: {after:?}");
    let stats = rig.handle.stats();
    assert_eq!((stats.cancelled, stats.kv_blocks_used, stats.running), (1, 0, 0));
}

#[tokio::test]
async fn a_full_queue_refuses_with_the_time_to_wait() {
    let limits = StepLimits { max_running: 1, ..options().limits };
    let rig = rig_with(64, true, EngineOptions { limits, max_waiting: 2, ..options() });
    let running: Vec<_> = (0..3).map(|i| rig.handle.generate(request(&prompt(10, i), 2)).unwrap()).collect();
    let error = rig.handle.generate(request(&prompt(10, 9), 2)).err().unwrap();
    assert!(matches!(error, LlmError::QueueFull { waiting: 2, retry_after_s: 1.. }), "{error}");
    drop(rig.gate);
    for generation in running {
        generation.finish().await.unwrap();
    }
    finish(rig.handle.generate(request(&prompt(10, 9), 2))).await;
}

#[tokio::test]
async fn a_bad_parameter_is_refused_at_once() {
    let rig = rig(64);
    let message = |request| rig.handle.generate(request).err().expect("an error").to_string();
    assert_eq!(message(request(&[], 5)), "the prompt has no tokens");
    assert_eq!(message(request(&[64], 5)), "the prompt has token 64; this model's tokens are 0 to 63");
    assert_eq!(message(request(&[1], 0)), "`max_tokens` is 0; it must be at least 1");
    assert!(message(request(&prompt(1990, 1), 11)).contains("context is 2000 tokens; the prompt has 1990 and 11"));
    assert!(message(GenerateRequest { top_logprobs: Some(21), ..request(&[1], 5) }).contains("between 0 and 20"));
    let sampling = SamplingParams { top_p: 1.5, ..SamplingParams::default() };
    assert!(message(GenerateRequest { sampling, ..request(&[1], 5) }).contains("`top_p` is 1.5"));
}

#[tokio::test]
async fn a_request_larger_than_the_pool_is_refused_and_the_next_one_served() {
    let rig = rig(16);
    let error = rig.handle.generate(request(&prompt(400, 1), 400)).unwrap().finish().await.unwrap_err();
    assert!(error.to_string().contains("need up to 25 KV blocks of 32 tokens; 16 are there"), "{error}");
    finish(rig.handle.generate(request(&prompt(40, 1), 40))).await;
}

#[tokio::test]
async fn an_answer_ends_at_a_stop_string_an_end_token_or_its_length() {
    let rig = rig(64);
    let (whole, reason, usage) = finish(rig.handle.generate(request(&prompt(40, 1), 30))).await;
    assert_eq!((reason, usage.completion_tokens, whole.len()), (FinishReason::Length, 30, 30));
    let stop = whole[10..13].to_string();
    let cut = whole.find(&stop).unwrap();
    let stopped = GenerateRequest { stop: vec![stop], ..request(&prompt(40, 1), 30) };
    let (text, reason, usage) = finish(rig.handle.generate(stopped)).await;
    assert_eq!((text.as_str(), reason, usage.completion_tokens), (&whole[..cut], FinishReason::Stop, cut + 3));
    let sampling = SamplingParams { temperature: 0.0, logit_bias: vec![(END, 100.0)], ..SamplingParams::default() };
    let (text, reason, _) =
        finish(rig.handle.generate(GenerateRequest { sampling, ..request(&prompt(40, 1), 30) })).await;
    assert_eq!((text.as_str(), reason), ("", FinishReason::Stop));
}

#[tokio::test]
async fn logprobs_come_with_the_text_that_they_belong_to() {
    let rig = rig(64);
    let whole = finish(rig.handle.generate(request(&prompt(40, 1), 12))).await.0;
    let stop = vec![whole[5..7].to_string(), format!("{}~", &whole[1..4])];
    let mut generation =
        rig.handle.generate(GenerateRequest { top_logprobs: Some(3), stop, ..request(&prompt(40, 1), 12) }).unwrap();
    let (mut spelled, mut text_of_event) = (String::new(), String::new());
    while let Some(GenerationEvent::Text { text, logprobs }) = generation.next().await {
        text_of_event.push_str(&text);
        for logprob in logprobs {
            assert_eq!((logprob.top.len(), logprob.top[0].token), (3, logprob.token), "greedy takes the likeliest");
            assert!(logprob.logprob < 0.0 && logprob.logprob == logprob.top[0].logprob);
            spelled.push_str(std::str::from_utf8(&logprob.bytes).unwrap());
        }
        assert_eq!(spelled, text_of_event);
    }
    assert!(text_of_event.len() <= 5 && whole.starts_with(&text_of_event));
}

#[tokio::test]
async fn a_pinned_prefix_outlives_any_traffic_and_comes_back_from_its_bytes() {
    let first = rig(32);
    let core = prompt(170, 1);
    first.handle.ask(|reply| Command::Pin { name: "igor".into(), prefix: core.clone().into(), reply }).await.unwrap();
    assert_eq!(first.handle.stats().kv_blocks_pinned, 6);
    let with_core = |seed: u32| {
        let mut tokens = core.clone();
        tokens.extend(prompt(30, seed));
        let cache = CacheScope { shared_tokens: core.len(), salt: seed.to_string() };
        GenerateRequest { cache, ..request(&tokens, 50) }
    };
    for seed in 0..10 {
        finish(first.handle.generate(request(&prompt(600, seed), 5))).await;
    }
    let (answer, _, usage) = finish(first.handle.generate(with_core(3))).await;
    assert_eq!(usage.cached_tokens, 170);
    let mut saved = Vec::new();
    for block in 0..6 {
        let export = |reply| Command::Export { name: "igor".into(), block, reply };
        saved.push(first.handle.ask(export).await.unwrap());
    }

    let folder = tempfile::tempdir().unwrap();
    let settings = crate::config::EngineSettings::default();
    let slot =
        super::super::prefix_store::PrefixSlot::new(folder.path(), "hash", &settings, "igor", &core.clone().into());
    let mut writer = slot.create(6, 128).unwrap();
    saved.iter().for_each(|block| writer.push(block).unwrap());
    writer.commit().unwrap();
    let second = rig(32);
    let saved = slot.read(6).unwrap().unwrap();
    let restore = |reply| Command::Restore { name: "igor".into(), prefix: core.clone().into(), saved, reply };
    second.handle.ask(restore).await.unwrap();
    let (again, _, usage) = finish(second.handle.generate(with_core(3))).await;
    assert_eq!((again, usage.cached_tokens), (answer, 170));
    assert!(second.steps.lock().unwrap().iter().all(|shares| shares[0] <= 30), "nothing of the core was computed");
}

#[tokio::test]
async fn pinning_again_under_a_name_lets_the_older_prefix_go() {
    let rig = rig(32);
    for (seed, blocks) in [(1, 4), (2, 6), (2, 6)] {
        let prefix = prompt(blocks * BLOCK_TOKENS, seed);
        rig.handle.ask(|reply| Command::Pin { name: "igor".into(), prefix: prefix.into(), reply }).await.unwrap();
        assert_eq!(rig.handle.stats().kv_blocks_pinned, blocks);
    }
    let too_long = prompt(26 * BLOCK_TOKENS, 3);
    let error =
        rig.handle.ask(|reply| Command::Pin { name: "max".into(), prefix: too_long.into(), reply }).await.unwrap_err();
    assert!(error.to_string().contains("6 of 32 are pinned already"), "{error}");
}

#[tokio::test]
async fn the_thread_ends_when_all_handles_are_dropped_and_all_is_said() {
    let rig = rig_with(64, true, options());
    let generation = rig.handle.clone().generate(request(&prompt(40, 1), 20)).unwrap();
    drop(rig.handle);
    drop(rig.gate);
    assert_eq!(generation.finish().await.unwrap().2.completion_tokens, 20);
    rig.dropped.recv().unwrap();
}

/// A text that says some things twice.
fn repeating(tokens: usize, seed: u32) -> Vec<u32> {
    let half = prompt(tokens / 2, seed);
    [half.clone(), half].concat()
}

/// Requests of every kind: greedy, sampled, with penalties, stop strings and log-probabilities.
fn many_kinds() -> Vec<GenerateRequest> {
    (0..6)
        .map(|i| {
            let seeded = SamplingParams { temperature: 0.7, seed: Some(3 + i as u64), ..SamplingParams::default() };
            let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
            let sampling = match i {
                1 => seeded,
                2 => SamplingParams { frequency_penalty: 0.3, repetition_penalty: 1.1, ..greedy },
                3 => SamplingParams { presence_penalty: 0.5, top_p: 0.9, ..seeded },
                _ => greedy,
            };
            let stop = if i == 4 { vec!["0".to_string(), "5".to_string()] } else { Vec::new() };
            let top_logprobs = (i == 5).then_some(3);
            GenerateRequest { sampling, stop, top_logprobs, ..request(&repeating(60 + 20 * i, i as u32), 150) }
        })
        .collect()
}

/// All that a generation says: text, tokens' log-probabilities, how it ended and what it cost.
async fn everything(mut generation: Generation) -> (String, Vec<super::super::TokenLogprob>, FinishReason, usize) {
    let (mut whole, mut all) = (String::new(), Vec::new());
    loop {
        match generation.next().await.expect("it ends with a word") {
            GenerationEvent::Text { text, logprobs } => {
                whole.push_str(&text);
                all.extend(logprobs);
            }
            GenerationEvent::Done { reason, usage } => return (whole, all, reason, usage.completion_tokens),
            GenerationEvent::Failed(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn drafts_change_nothing_of_an_answer_but_the_number_of_steps() {
    let plain = copying_rig(200, 0);
    let mut expected = Vec::new();
    for request in many_kinds() {
        expected.push(everything(plain.handle.generate(request).unwrap()).await);
    }
    assert_eq!(plain.handle.stats().drafts, 0);
    for (blocks, together) in [(200, false), (200, true), (26, true)] {
        let rig = copying_rig(blocks, 16);
        let mut steps = 0;
        if together {
            let running: Vec<_> = many_kinds().into_iter().map(|r| rig.handle.generate(r).unwrap()).collect();
            for (generation, expected) in running.into_iter().zip(&expected) {
                assert_eq!(&everything(generation).await, expected);
            }
        } else {
            for (request, expected) in many_kinds().into_iter().zip(&expected) {
                assert_eq!(&everything(rig.handle.generate(request).unwrap()).await, expected);
            }
            steps = rig.handle.stats().steps;
        }
        let stats = rig.handle.stats();
        assert!(stats.accepted_tokens > 100 && stats.accepted_tokens < stats.drafted_tokens, "{stats:?}");
        assert_eq!(stats.preemptions > 0, blocks == 26, "{stats:?}");
        assert_eq!((stats.kv_blocks_used, stats.running, stats.waiting), (0, 0, 0));
        assert!(steps * 3 < stats.generated_tokens * 2, "{steps} steps for {} tokens", stats.generated_tokens);
    }
}
