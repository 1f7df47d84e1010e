//! One chat turn: filter, route, check for handoff, retrieve, answer, check, decide.
//!
//! Knows no HTTP, no tensors, no SQL. A turn goes one way; each step is a plain function with its own file:
//!
//! 1. [`conversation`]: the transcript, its language and state.
//! 2. [`filter`] (with [`rules`], [`attack`] and the examples of [`general`]): spam, gibberish, flood and injection are
//!    refused; off-topic and the wrong company are answered kindly. What was learnt is saved for the next start.
//! 3. [`route`]: which operator serves, and which version of its instruction.
//! 4. [`handoff`] (with [`wish`]): when a person takes over, and what that person gets to read.
//! 5. [`retrieve`]: the query, read as it was meant ([`spelling`], [`script`]); [`fit`]: how well each find *fits*
//!    (0..1), by vectors and by words, related words in part ([`near`], [`thesaurus`], [`postings`]); `fragment`: which
//!    section of a page shows the code asked for; [`quarantine`]: what of a page may be used at all.
//! 6. [`answer`]: the mode: *verbatim* (a FAQ answer as written), *app_map* (the path to a place), *quoted* (a
//!    passage's own words), *grounded* (the model writes; [`prompt`]), a choice to make, or nothing. A weak model writes
//!    along a sentence of the passage only ([`restate`]).
//! 7. [`check`] and [`tone`]: each generated sentence against its sources; [`expand`] puts exact bytes for markers.
//!
//! `turn` and `decide` run steps 1 to 6 into a *plan*, in the words of `wording` and [`phrases`]; `stream` carries it
//! out. [`lexicon`] and `learned` hold what a snapshot of the pack teaches: its vocabulary, its questions, its filters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kb::SourceKind;
use crate::llm::{ChatMessage, LlmError, SamplingWishes, Usage};
use crate::text::{self, actions};

mod adapters;
mod amounts;
pub mod answer;
mod asked;
pub mod attack;
mod boilerplate;
pub mod check;
pub mod conversation;
mod decide;
pub mod expand;
pub mod facts;
pub mod fences;
pub mod filter;
pub mod fit;
mod fragment;
pub mod general;
pub mod handoff;
mod learned;
pub mod lexicon;
pub mod near;
pub mod phrases;
pub mod postings;
pub mod prompt;
pub mod quarantine;
pub mod restate;
pub mod retrieve;
pub mod route;
pub mod rules;
pub mod script;
mod service;
pub mod sound;
pub mod spelling;
mod stream;
pub mod thesaurus;
pub mod tone;
mod turn;
pub mod wish;
mod wording;

pub use service::Support;
pub use stream::TurnStream;

/// A customer's turn.
#[derive(Debug, Clone, Default)]
pub struct TurnRequest {
    /// The transcript, oldest first, ending with the customer's message. `system` messages are extra context.
    pub messages: Vec<ChatMessage>,
    /// `None`: routing chooses.
    pub operator: Option<String>,
    pub channel: Option<String>,
    pub audience: Option<String>,
    /// Salt of the prefix cache, id in records.
    pub conversation_id: String,
    /// What figures count as one conversation: the versions of an instruction are shared out by it.
    pub group_id: String,
    /// State after the last turn; `None`: derive it from the transcript (plain clients).
    pub state: Option<ConversationState>,
    /// Messages of this conversation in the last minute, where known.
    pub messages_last_minute: usize,
    /// The client's own wishes; the operator's settings stand where it says nothing.
    pub sampling: SamplingWishes,
    pub max_tokens: Option<usize>,
    pub stop: Vec<String>,
    /// Base for absolute URLs of images and articles, e.g. `http://127.0.0.1:8080`.
    pub public_url: String,
}

/// What a conversation carries from turn to turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConversationState {
    pub operator: Option<String>,
    pub operator_version: Option<String>,
    pub lang: Option<String>,
    /// Explicit requests for a person so far.
    pub asked_for_person: usize,
    /// Answers in a row that did not help (clarifications, repeats, "that did not work").
    pub failures: usize,
    /// A handoff was made: a person is to take over.
    pub handed_off: bool,
}

/// What the customer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Answer,
    Clarify,
    Handoff,
    Filtered,
    /// A person owns the conversation; the model is silent.
    Human,
}

impl Action {
    /// Its word on the wire and in a pack's expectations.
    pub fn name(self) -> &'static str {
        match self {
            Action::Answer => "answer",
            Action::Clarify => "clarify",
            Action::Handoff => "handoff",
            Action::Filtered => "filtered",
            Action::Human => "human",
        }
    }
}

/// Text as it may be shown, then the outcome.
#[derive(Debug)]
pub enum TurnEvent {
    /// Checked text, in order; concatenated it is the whole answer.
    Text(String),
    /// Text like any other, that promises a person: it may be shown once the handoff, in the outcome that follows, is
    /// recorded.
    Promise(String),
    Done(Box<TurnOutcome>),
}

/// A source of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub id: String,
    pub title: String,
    /// Absolute.
    pub url: String,
    pub score: f32,
}

/// What a person needs to take over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handoff {
    pub id: String,
    pub queue: String,
    pub summary: String,
    pub tags: Vec<String>,
}

/// A source that speaks of a question, with its fit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    pub id: String,
    pub kind: SourceKind,
    pub title: String,
    /// 0..1
    pub fit: f32,
    /// What the fit was made of; `None` for places of the app.
    pub evidence: Option<fit::Evidence>,
}

/// The outcome of a turn: what the wire's `support` field, the record and the trace are made of.
#[derive(Debug, Clone, Serialize)]
pub struct TurnOutcome {
    pub action: Action,
    /// `verbatim`, `grounded`, `quoted`, `app_map`, `greeting`, `off_topic`, `wrong_company`, `spam`, `gibberish`,
    /// `flood`, `injection`, `wants_person`, `anger`, `reserved`, `repeated_failure`, `no_answer`, `ambiguous`, ...
    pub kind: String,
    /// One plain sentence for staff.
    pub reason: String,
    pub operator: String,
    pub operator_version: String,
    pub lang: String,
    /// 0..1
    pub confidence: f32,
    pub sources: Vec<Source>,
    pub handoff: Option<Handoff>,
    pub usage: Usage,
    /// True where the answer stopped at `max_tokens`.
    pub length_limited: bool,
    pub state: ConversationState,
    pub trace: Trace,
}

/// "Why this answer": everything that was weighed, for the test-chat page and evals.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Trace {
    /// Each filter's verdict: name, score 0..1, threshold, reason.
    pub filters: Vec<Verdict>,
    pub route: String,
    pub query: String,
    pub passages: Vec<TracePassage>,
    /// `verbatim`, `grounded`, ...
    pub mode: String,
    /// The checked sentences of generated text, kept or cut, and why.
    pub checks: Vec<SentenceCheck>,
    /// Step -> milliseconds.
    pub timings_ms: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub name: String,
    pub score: f32,
    pub threshold: f32,
    pub fired: bool,
    pub reason: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct TracePassage {
    pub id: String,
    pub title: String,
    pub score: f32,
    pub cosine: Option<f32>,
    pub bm25: Option<f32>,
    pub coverage: f32,
    pub used: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct SentenceCheck {
    pub sentence: String,
    pub kept: bool,
    pub reason: String,
}

/// What can go wrong with a turn.
#[derive(Debug, thiserror::Error)]
pub enum SupportError {
    #[error("there is no operator {name:?}; there are: {known}")]
    UnknownOperator { name: String, known: String },
    #[error("{0}")]
    InvalidRequest(String),
    #[error(transparent)]
    Llm(#[from] LlmError),
    #[error("the knowledge base failed: {0}")]
    Knowledge(String),
    #[error("the pack's filter examples cannot be learnt: {0}")]
    Filters(String),
    /// An operator's adapter cannot be used.
    #[error("{path}: adapter = {file:?}: {reason}")]
    Adapter { path: String, file: String, reason: String },
    /// The instruction's core is too long for the model's context.
    #[error(
        "{path}: the instruction's core has {tokens} tokens; this model's limit is {limit} (knowledge.core_share of its context)"
    )]
    CoreTooLong { path: String, tokens: usize, limit: usize },
}
