//! A running answer, from the bare model or from the support logic, as one stream of pieces; what ends it, ends here:
//! the time limit, the record, the figures. Dropping it cancels the generation.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::conversation::{self, Place};
use super::state::{Admission, AppState};
use super::wire::error::ApiError;
use super::wire::support::{finish_reason, handoff_call, support_of};
use crate::desk::notice;
use crate::llm::{FinishReason, Generation, GenerationEvent, TokenLogprob, Usage};
use crate::store::{Beside, NewHandoff, StoreError, TurnRecord};
use crate::support::{Action, TurnEvent, TurnOutcome, TurnStream};
use crate::telemetry::name;

/// A part of an answer.
pub enum Piece {
    Text { text: String, logprobs: Vec<TokenLogprob> },
    Done(Box<Ending>),
    Failed(ApiError),
}

/// How an answer ended.
pub struct Ending {
    pub finish_reason: &'static str,
    pub usage: Usage,
    /// The `support` field, and the action for its header.
    pub support: Option<(Value, Action)>,
    /// A call of `transfer_to_human`.
    pub tool_call: Option<Value>,
}

/// A running answer.
pub struct Answer {
    state: AppState,
    source: Source,
    arrived: Instant,
    end: End,
    _admission: Admission,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Failed,
    Done,
}

enum Source {
    Raw(Generation),
    Support(Box<SupportTurn>),
}

/// A support turn with all that its record needs.
pub struct SupportTurn {
    pub stream: TurnStream,
    /// A fresh UUID.
    pub turn_id: String,
    pub place: Place,
    /// What its record brings along: the accepted message that it answers, who the customer is.
    pub beside: Beside,
    /// `false`: for staff's own questions.
    pub recorded: bool,
    pub customer_text: String,
    pub response_id: String,
    /// A handoff is to be a call of the client's tool.
    pub handoff_tool: bool,
    /// The client wants the trace in the `support` field.
    pub with_trace: bool,
    pub pack_version: String,
    /// All text so far.
    pub text: String,
    pub first_text_ms: Option<i64>,
    /// Text that may be said once the turn is recorded.
    pub promise: Option<String>,
    /// The ending, while the turn is being recorded.
    pub recording: Option<(Recording, Box<Ending>)>,
}

/// A turn on its way into the database; already there where nothing is recorded.
pub enum Recording {
    Running(JoinHandle<Result<(), StoreError>>),
    Over(bool),
}

impl Answer {
    pub fn raw(state: AppState, admission: Admission, arrived: Instant, generation: Generation) -> Self {
        Self { state, source: Source::Raw(generation), arrived, end: End::NotYet, _admission: admission }
    }

    pub fn support(state: AppState, admission: Admission, arrived: Instant, turn: SupportTurn) -> Self {
        Self { state, source: Source::Support(Box::new(turn)), arrived, end: End::NotYet, _admission: admission }
    }

    /// The conversation's id, for support turns.
    pub fn conversation_id(&self) -> Option<&str> {
        match &self.source {
            Source::Raw(_) => None,
            Source::Support(turn) => Some(&turn.place.conversation.id),
        }
    }

    /// The next piece; the last is `Done` or `Failed`.
    pub async fn next(&mut self) -> Piece {
        let limit = self.state.request_timeout();
        let deadline = tokio::time::Instant::from_std(self.arrived + limit);
        let piece = match tokio::time::timeout_at(deadline, self.next_of_source()).await {
            Ok(piece) => piece,
            Err(_) => Piece::Failed(ApiError::timeout(limit.as_secs())),
        };
        match &piece {
            Piece::Text { .. } => {}
            Piece::Done(_) => self.end = End::Done,
            Piece::Failed(_) => self.end = End::Failed,
        }
        piece
    }

    async fn next_of_source(&mut self) -> Piece {
        match &mut self.source {
            Source::Raw(generation) => match generation.next().await {
                Some(GenerationEvent::Text { text, logprobs }) => Piece::Text { text, logprobs },
                Some(GenerationEvent::Done { reason, usage }) => {
                    let finish_reason = match reason {
                        FinishReason::Stop => "stop",
                        FinishReason::Length => "length",
                    };
                    count_generation(&self.state, &usage, finish_reason);
                    Piece::Done(Box::new(Ending { finish_reason, usage, support: None, tool_call: None }))
                }
                Some(GenerationEvent::Failed(error)) => Piece::Failed(error.into()),
                None => broke_off(),
            },
            Source::Support(turn) => turn.next(&self.state, self.arrived).await,
        }
    }
}

fn broke_off() -> Piece {
    Piece::Failed(ApiError::internal("the answer broke off without an end"))
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.end == End::Done {
            return;
        }
        let route = if matches!(self.source, Source::Raw(_)) { "raw" } else { "support" };
        if self.end == End::NotYet {
            metrics::counter!(name::DISCONNECTED, "route" => route).increment(1);
        }
        let Source::Support(turn) = &mut self.source else { return };
        // The client knows the conversation's id already, and the customer what was said: both are kept.
        // An accepted message stays unanswered, and is taken up again.
        if turn.recording.is_none() && turn.recorded && turn.beside.inbound.is_none() {
            let action = if self.end == End::Failed { "failed" } else { "cancelled" };
            let record = turn.broken_off(&self.state, self.arrived, action);
            turn.write(&self.state, record);
        }
    }
}

impl SupportTurn {
    /// The next piece. Safe to be cancelled: what was begun goes on with the next call.
    async fn next(&mut self, state: &AppState, arrived: Instant) -> Piece {
        if self.recording.is_none() {
            match self.stream.next().await {
                Some(TurnEvent::Text(text)) => {
                    self.first_text_ms.get_or_insert(ms_since(arrived));
                    self.text.push_str(&text);
                    return Piece::Text { text, logprobs: Vec::new() };
                }
                Some(TurnEvent::Promise(text)) => {
                    self.promise = Some(text);
                    return Box::pin(self.next(state, arrived)).await;
                }
                Some(TurnEvent::Done(outcome)) => self.end(state, arrived, *outcome),
                None => return broke_off(),
            }
        }
        let Some((recording, _)) = &mut self.recording else { return broke_off() };
        if let Recording::Running(task) = recording {
            let kept = matches!(task.await, Ok(Ok(())));
            *recording = Recording::Over(kept);
        }
        match (&recording, self.promise.take()) {
            (Recording::Over(true), Some(text)) => Piece::Text { text, logprobs: Vec::new() },
            // Nobody is told of a person who does not know; nor is an accepted message answered outside the record.
            (Recording::Over(false), promise) if promise.is_some() || self.beside.inbound.is_some() => {
                Piece::Failed(ApiError::internal("the turn could not be recorded"))
            }
            // The customer gets an answer also where it could not be recorded.
            _ => self.recording.take().map_or_else(broke_off, |(_, ending)| Piece::Done(ending)),
        }
    }

    /// Makes the ending, and begins to record the turn.
    fn end(&mut self, state: &AppState, arrived: Instant, outcome: TurnOutcome) {
        let total_ms = ms_since(arrived);
        if let Some(promise) = &mut self.promise {
            if let Some(notice) = out_of_hours(state, &outcome) {
                promise.push_str(&format!(" {notice}"));
            }
            self.first_text_ms.get_or_insert(total_ms);
            self.text.push_str(promise);
        }
        if !self.recorded {
            let ending = self.ending(&outcome);
            self.recording = Some((Recording::Over(true), Box::new(ending)));
            return;
        }
        let record = self.record(state, &outcome, total_ms);
        count_turn(state, &outcome, self.first_text_ms.unwrap_or(total_ms), total_ms);
        let conversation_id = record.conversation.id.clone();
        if let Ok(loaded) = state.loaded() {
            let support = support_of(&outcome, &conversation_id, true);
            loaded.traces.keep(&self.response_id, &record.conversation.key_name, support);
        }
        let ending = self.ending(&outcome);
        if let Some(recorded) = self.write(state, record) {
            self.recording = Some((Recording::Running(recorded), Box::new(ending)));
        }
    }

    fn ending(&self, outcome: &TurnOutcome) -> Ending {
        let handoff = outcome.handoff.as_ref().filter(|_| self.handoff_tool && outcome.action == Action::Handoff);
        let tool_call = handoff.map(|handoff| handoff_call(handoff, &outcome.reason));
        let mut support = support_of(outcome, &self.place.conversation.id, self.with_trace);
        support["message_id"] = json!(self.turn_id);
        Ending {
            finish_reason: finish_reason(outcome, tool_call.is_some()),
            usage: outcome.usage,
            support: Some((support, outcome.action)),
            tool_call,
        }
    }

    /// Appends a turn on a task of its own, which a client that leaves does not end; the conversation's next request
    /// waits for it.
    fn write(&mut self, state: &AppState, record: TurnRecord) -> Option<JoinHandle<Result<(), StoreError>>> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let (state, turn_lock) = (state.clone(), self.place.turn_lock.take());
        Some(runtime.spawn(async move {
            let Ok(loaded) = state.loaded() else { return Err(StoreError::NotOpen) };
            let id = record.conversation.id.clone();
            let written = loaded.store.append(&record).await.map(|_| ());
            if let Err(error) = &written {
                metrics::counter!(name::STORE_FAILED).increment(1);
                tracing::error!(%error, conversation = %id, "a turn was not recorded");
            }
            drop(turn_lock);
            written
        }))
    }

    /// A turn that came to no outcome: the conversation stays as it was.
    fn broken_off(&self, state: &AppState, arrived: Instant, action: &str) -> TurnRecord {
        let total_ms = ms_since(arrived);
        let mut conversation = self.place.conversation.clone();
        conversation.updated_ms = chrono::Utc::now().timestamp_millis();
        TurnRecord {
            id: self.turn_id.clone(),
            conversation,
            continues: self.place.continues.clone(),
            customer_text: self.customer_text.clone(),
            answer_text: self.text.clone(),
            action: action.into(),
            kind: None,
            reason: None,
            confidence: 0.0,
            sources: json!([]),
            model_hash: state.loaded().map(|loaded| loaded.chat.hash().to_string()).unwrap_or_default(),
            pack_version: self.pack_version.clone(),
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            first_token_ms: self.first_text_ms.unwrap_or(total_ms),
            total_ms,
            chain_hash: None,
            beside: self.beside.clone(),
        }
    }

    fn record(&self, state: &AppState, outcome: &TurnOutcome, total_ms: i64) -> TurnRecord {
        let mut conversation = self.place.conversation.clone();
        conversation.operator = Some(outcome.operator.clone());
        conversation.operator_version = Some(outcome.operator_version.clone());
        conversation.state = serde_json::to_value(&outcome.state).unwrap_or_default();
        conversation.updated_ms = chrono::Utc::now().timestamp_millis();
        let chain_hash = conversation.inferred.then(|| {
            let mut transcript = self.place.messages.clone();
            transcript.push(crate::llm::ChatMessage { role: "assistant".into(), content: self.text.clone() });
            conversation::chain_hash(&transcript)
        });
        let sources = outcome
            .sources
            .iter()
            .map(|s| json!({"id": s.id, "score": s.score, "title": s.title, "url": s.url}))
            .collect();
        TurnRecord {
            id: self.turn_id.clone(),
            conversation,
            continues: self.place.continues.clone(),
            customer_text: self.customer_text.clone(),
            answer_text: self.text.clone(),
            action: outcome.action.name().into(),
            kind: Some(outcome.kind.clone()),
            reason: Some(outcome.reason.clone()),
            confidence: outcome.confidence,
            sources,
            model_hash: state.loaded().map(|loaded| loaded.chat.hash().to_string()).unwrap_or_default(),
            pack_version: self.pack_version.clone(),
            prompt_tokens: count(outcome.usage.prompt_tokens),
            cached_tokens: count(outcome.usage.cached_tokens),
            completion_tokens: count(outcome.usage.completion_tokens),
            first_token_ms: self.first_text_ms.unwrap_or(total_ms),
            total_ms,
            chain_hash,
            beside: Beside { handoff: handoff_of(outcome), ..self.beside.clone() },
        }
    }
}

/// The handoff of an outcome, as the queue gets it.
fn handoff_of(outcome: &TurnOutcome) -> Option<NewHandoff> {
    let handoff = outcome.handoff.as_ref().filter(|_| outcome.action == Action::Handoff)?;
    Some(NewHandoff {
        id: handoff.id.clone(),
        queue: handoff.queue.clone(),
        kind: outcome.kind.clone(),
        reason: outcome.reason.clone(),
        summary: handoff.summary.clone(),
        tags: handoff.tags.clone(),
    })
}

/// What a customer is told where the team that gets the handoff is not at work.
fn out_of_hours(state: &AppState, outcome: &TurnOutcome) -> Option<String> {
    let queue = &outcome.handoff.as_ref()?.queue;
    let opening = state.teams().closed_until(queue, chrono::Utc::now())?;
    Some(notice::out_of_hours(&outcome.lang, &opening))
}

fn count(tokens: usize) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

fn ms_since(start: Instant) -> i64 {
    i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX)
}

fn count_generation(state: &AppState, usage: &Usage, finish_reason: &'static str) {
    let Ok(loaded) = state.loaded() else { return };
    let model = loaded.chat.id().to_string();
    metrics::histogram!(name::FIRST_TOKEN, "model_name" => model.clone()).record(usage.first_token_time);
    metrics::histogram!(name::QUEUE_TIME, "model_name" => model.clone()).record(usage.queue_time);
    metrics::histogram!(name::LATENCY, "model_name" => model.clone()).record(usage.total_time);
    metrics::counter!(name::SUCCESS, "model_name" => model, "finished_reason" => finish_reason).increment(1);
}

fn count_turn(state: &AppState, outcome: &TurnOutcome, first_text_ms: i64, total_ms: i64) {
    // Many turns need no generation.
    if outcome.usage.completion_tokens > 0 {
        count_generation(state, &outcome.usage, if outcome.length_limited { "length" } else { "stop" });
    }
    let operator = outcome.operator.clone();
    metrics::histogram!(name::FIRST_TEXT, "operator" => operator.clone()).record(first_text_ms as f64 / 1000.0);
    metrics::histogram!(name::TURN_TIME, "operator" => operator.clone()).record(total_ms as f64 / 1000.0);
    let (action, kind) = (outcome.action.name(), outcome.kind.clone());
    metrics::counter!(name::TURNS, "action" => action, "kind" => kind, "operator" => operator).increment(1);
}
