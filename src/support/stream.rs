//! Carrying a plan out: fixed text at once, generated text as checked sentences.
//!
//! Nothing leaves unchecked. Before the first sentence is out a failure may still turn into another answer; after
//! it, a failure can only cut and close.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::check::Sources;
use super::expand::Expander;
use super::filter::readable;
use super::restate::Restatement;
use super::service::common_start;
use super::turn::{Draft, Writing};
use super::{Action, SentenceCheck, SupportError, TurnEvent, TurnOutcome, text, tone};
use crate::compute::cosine;
use crate::embed::{Embedder, Role};
use crate::llm::{Adapter, CacheScope, ChatModel, FinishReason, GenerateRequest, Generation, GenerationEvent, Grammar};

/// Sentences cut in a row, with nothing kept, after which the model is not asked on.
const PATIENCE: usize = 3;
/// Least likeness of the first sentence with the question, by vectors, where they share no rare word.
const ANSWERS: f32 = 0.4;

/// A running turn. Dropping it cancels the generation.
pub struct TurnStream {
    events: mpsc::Receiver<TurnEvent>,
    task: Option<tokio::task::AbortHandle>,
}

impl TurnStream {
    /// The next event; `None` after `Done`.
    pub async fn next(&mut self) -> Option<TurnEvent> {
        self.events.recv().await
    }

    /// Runs to the end: the whole answer and its outcome.
    ///
    /// # Errors
    /// A turn that broke off.
    pub async fn finish(mut self) -> Result<(String, TurnOutcome), SupportError> {
        let mut answer = String::new();
        while let Some(event) = self.next().await {
            match event {
                TurnEvent::Text(text) | TurnEvent::Promise(text) => answer.push_str(&text),
                TurnEvent::Done(outcome) => return Ok((answer, *outcome)),
            }
        }
        Err(SupportError::Knowledge("the turn ended without an outcome".into()))
    }

    /// A turn whose answer is fixed.
    pub fn said(text: String, outcome: TurnOutcome) -> Self {
        let (sender, events) = mpsc::channel(2);
        // Two places for two events: neither send can fail.
        if !text.is_empty() {
            let _ = sender.try_send(text_of(text, &outcome));
        }
        let _ = sender.try_send(TurnEvent::Done(Box::new(outcome)));
        Self { events, task: None }
    }
}

/// The text of a fixed answer.
fn text_of(text: String, outcome: &TurnOutcome) -> TurnEvent {
    match outcome.action {
        Action::Handoff => TurnEvent::Promise(text),
        _ => TurnEvent::Text(text),
    }
}

impl Drop for TurnStream {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Starts the generation of a grounded answer, through the operator's adapter where it has one. `opening`: what all
/// conversations with the operator begin with; none of it is anybody's own.
///
/// # Errors
/// A full queue, or a prompt that is too long for the context, where the model has a free hand.
pub(super) fn write(
    writing: Writing,
    adapter: Option<Adapter>,
    opening: &[u32],
    chat: &ChatModel,
    embedder: Embedder,
) -> Result<TurnStream, SupportError> {
    let begun = begin(&writing, adapter, opening, chat);
    let generation = match (begun, &writing.restatement) {
        (Ok(generation), _) => generation,
        // The passage itself needs no model.
        (Err(error), Some(_)) => {
            let Draft { text, mut outcome } = *writing.fallback;
            outcome.reason = format!("the model writes nothing now: {error}; {}", outcome.reason);
            return Ok(TurnStream::said(text, outcome));
        }
        (Err(error), None) => return Err(error),
    };
    let (sender, events) = mpsc::channel(32);
    let task = tokio::spawn(async move { Writer::new(writing, embedder).run(generation, sender).await });
    Ok(TurnStream { events, task: Some(task.abort_handle()) })
}

fn begin(
    writing: &Writing,
    adapter: Option<Adapter>,
    opening: &[u32],
    chat: &ChatModel,
) -> Result<Generation, SupportError> {
    let along = |restatement: &Restatement| chat.constraint(&Grammar::Lark(restatement.grammar()));
    let constraint = writing.restatement.as_ref().map(along).transpose()?;
    let prompt = chat.prompt(&writing.grounding.messages)?;
    let core = prompt.message_ends.first().copied().unwrap_or(0);
    let shared_tokens = common_start(opening, &prompt.tokens).max(core);
    let request = GenerateRequest {
        cache: CacheScope { shared_tokens, salt: writing.conversation_id.clone() },
        prompt: prompt.tokens,
        sampling: writing.sampling.clone(),
        stop: writing.stop.clone(),
        max_tokens: writing.max_tokens,
        constraint,
        adapter,
        ..GenerateRequest::default()
    };
    Ok(chat.generate(request)?)
}

/// A grounded answer while it is being written.
struct Writer {
    writing: Writing,
    sources: Arc<Sources>,
    embedder: Embedder,
    /// Generated and not yet a sentence.
    pending: String,
    kept: Vec<String>,
    checks: Vec<SentenceCheck>,
    cut_in_a_row: usize,
}

impl Writer {
    fn new(mut writing: Writing, embedder: Embedder) -> Self {
        let sources = Arc::new(writing.sources.take().unwrap_or_else(|| Sources::new(&[], "", "", "", "en")));
        Self {
            writing,
            sources,
            embedder,
            pending: String::new(),
            kept: Vec::new(),
            checks: Vec::new(),
            cut_in_a_row: 0,
        }
    }

    async fn run(mut self, mut generation: Generation, sender: mpsc::Sender<TurnEvent>) {
        let started = Instant::now();
        let assets = std::mem::take(&mut self.writing.grounding.assets);
        let mut expander = Expander::new(&assets);
        let mut limited = false;
        let mut usage = crate::llm::Usage::default();
        loop {
            let last = match generation.next().await {
                // What still comes after enough was said is not wanted; the end tells what it all cost.
                Some(GenerationEvent::Text { .. }) if self.enough() => continue,
                Some(GenerationEvent::Done { usage: u, .. }) if self.enough() => {
                    usage = u;
                    break;
                }
                Some(GenerationEvent::Text { text, .. }) => {
                    self.pending.push_str(&text);
                    false
                }
                Some(GenerationEvent::Done { reason, usage: u }) => {
                    usage = u;
                    // An answer that broke off at its limit has no last sentence.
                    limited = reason == FinishReason::Length;
                    if limited {
                        self.pending.truncate(text::sentence_end(&self.pending, false).unwrap_or(0));
                    }
                    true
                }
                Some(GenerationEvent::Failed(error)) => {
                    self.checks.push(SentenceCheck {
                        sentence: String::new(),
                        kept: false,
                        reason: format!("the engine failed: {error}"),
                    });
                    self.pending.clear();
                    true
                }
                None => true,
            };
            while let Some(end) = text::sentence_end(&self.pending, last) {
                let sentence: String = self.pending.drain(..end).collect();
                if let Some(shown) = self.judge(sentence).await {
                    let text = expander.push(&shown);
                    if !text.is_empty() && sender.send(TurnEvent::Text(text)).await.is_err() {
                        return;
                    }
                }
                if self.enough() {
                    break;
                }
            }
            if last {
                break;
            }
            if self.enough() {
                generation.stop();
            }
        }
        let generate_ms = started.elapsed().as_secs_f64() * 1e3;
        if self.kept.is_empty() {
            let mut draft = *self.writing.fallback;
            draft.outcome.usage = usage;
            draft.outcome.trace.checks = self.checks;
            draft.outcome.trace.timings_ms.insert("generate".into(), generate_ms);
            draft.outcome.reason = format!("no generated sentence held; {}", draft.outcome.reason);
            if sender.send(text_of(draft.text, &draft.outcome)).await.is_ok() {
                let _ = sender.send(TurnEvent::Done(Box::new(draft.outcome))).await;
            }
            return;
        }
        let mut tail = expander.finish();
        if let Some(restatement) = &self.writing.restatement {
            tail.push_str(&restatement.rest);
        }
        if !self.writing.sign_off.is_empty() {
            tail.push_str("\n\n");
            tail.push_str(&self.writing.sign_off);
        }
        if !tail.is_empty() && sender.send(TurnEvent::Text(tail)).await.is_err() {
            return;
        }
        let mut outcome = self.writing.outcome;
        let judged = self.checks.len().max(1) as f32;
        outcome.confidence *= 0.5 + 0.5 * self.kept.len() as f32 / judged;
        outcome.usage = usage;
        outcome.length_limited = limited && self.cut_in_a_row == 0;
        outcome.trace.checks = self.checks;
        outcome.trace.timings_ms.insert("generate".into(), generate_ms);
        let _ = sender.send(TurnEvent::Done(Box::new(outcome))).await;
    }

    /// True where nothing more is wanted of the model.
    fn enough(&self) -> bool {
        self.kept.len() >= self.writing.max_sentences
            || (self.kept.is_empty() && self.cut_in_a_row >= PATIENCE)
            || (!self.kept.is_empty() && self.cut_in_a_row >= 2)
    }

    /// Checks a sentence; returns what is shown of it, with the white space that parts it from the one before.
    async fn judge(&mut self, raw: String) -> Option<String> {
        let restatement = self.writing.restatement.as_ref();
        let sentence = match restatement {
            Some(_) => raw.trim().to_string(),
            None => tone::without_opener(raw.trim()),
        };
        if sentence.is_empty() || tone::is_filler(&sentence) {
            return None;
        }
        let checked = match tone::banned(&sentence, &self.writing.tone) {
            Some(phrase) => {
                super::check::Checked { kept: false, reason: format!("holds the banned phrase “{phrase}”") }
            }
            None => {
                let (sources, embedder, kept) = (self.sources.clone(), self.embedder.clone(), self.kept.clone());
                let (question, checked) = (self.writing.question.clone(), sentence.clone());
                // Of a passage that was chosen it is known to answer.
                let must_answer = self.kept.is_empty() && restatement.is_none();
                let judged = tokio::task::spawn_blocking(move || {
                    let similarity = |a: &str, b: &str| {
                        let (a, b) = (readable(&embedder, a)?, readable(&embedder, b)?);
                        let vectors = embedder.embed(&[&a, &b], Role::Query).ok()?.vectors;
                        Some(cosine(vectors.first()?, vectors.get(1)?))
                    };
                    let verdict = sources.check(&checked, &kept, &similarity);
                    if verdict.kept && must_answer && !answers(&question, &checked, &similarity) {
                        return super::check::Checked { kept: false, reason: "does not answer the question".into() };
                    }
                    verdict
                });
                judged.await.unwrap_or(super::check::Checked { kept: false, reason: "the check broke off".into() })
            }
        };
        self.checks.push(SentenceCheck { sentence: sentence.clone(), kept: checked.kept, reason: checked.reason });
        if !checked.kept {
            self.cut_in_a_row += 1;
            return None;
        }
        self.cut_in_a_row = 0;
        let gap = match (self.kept.is_empty(), raw.starts_with('\n')) {
            (true, _) => "",
            (false, true) => "\n",
            (false, false) => " ",
        };
        let line = if raw.ends_with('\n') { "\n" } else { "" };
        self.kept.push(sentence.clone());
        let shown = match &self.writing.restatement {
            Some(restatement) => format!("{}{}", restatement.lead, restatement.linked(&sentence)),
            None => sentence,
        };
        Some(format!("{gap}{shown}{}", line.trim_end_matches(' ')).trim_end_matches('\n').to_string())
    }
}

/// True where the sentence shares something of the question's subject.
fn answers(question: &str, sentence: &str, similarity: &dyn Fn(&str, &str) -> Option<f32>) -> bool {
    let asked = text::content_stems(question);
    let said = text::content_stems(sentence);
    let shared = asked.iter().filter(|s| said.contains(s)).count();
    shared * 3 >= asked.len().max(1) || similarity(question, sentence).is_none_or(|s| s >= ANSWERS)
}
