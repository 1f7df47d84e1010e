//! Chat generation: template, scheduler, KV blocks, sampler.
//!
//! Words: a *sequence* is one request's prompt and answer; a *block* is the cache memory for [`BLOCK_TOKENS`] tokens; a
//! *step* is one pass through the decoder over a mixed batch; a *share* is a sequence's part of a step; a *pin* keeps an
//! operator's instruction in the cache.
//!
//! How a request flows:
//!
//! 1. `template.rs` renders messages to tokens, on the caller's thread; message contents never become control tokens.
//! 2. `handle.rs` checks the request and the queue's length and passes it to the engine thread.
//! 3. `scheduler.rs` (pure data) decides each step: all decodes, then prompt chunks; `block_pool.rs` (pure data) says who
//!    uses which block and finds common prefixes, `prefix_ends.rs` (pure data) what is copied of a pin's last block; `pacer.rs` sizes chunks so that running streams do not stutter;
//!    `draft.rs` (pure data) guesses tokens that a sequence repeats, so that one step may give several.
//! 4. `engine.rs` runs the step on the decoder, which only this thread owns.
//! 5. `constraint.rs` says which tokens keep a promised form (a JSON schema, a tool's call); `answer.rs` draws a token with `sampler.rs` and turns it into text with `detokenize.rs`; `generation.rs` is the
//!    caller's end of the channel. Dropping a [`Generation`] frees its blocks before the next step.
//!
//! `tools.rs` knows how models are told of tools and how they call them, `reasoning.rs` where a train of thought ends.
//! `prefix_store.rs` saves pins in the state directory; `chat_model.rs` puts all together:
//!
//! ```no_run
//! use firstline::config::EngineSettings;
//! use firstline::llm::{ChatMessage, ChatModel, GenerateRequest};
//!
//! # async fn example() -> Result<(), firstline::llm::LlmError> {
//! let model = ChatModel::load("starter", "model.gguf".as_ref(), &EngineSettings::default(), None)?;
//! let question = ChatMessage { role: "user".into(), content: "Hello!".into() };
//! let prompt = model.prompt(&[question])?.tokens;
//! let request = GenerateRequest { prompt, max_tokens: 50, ..GenerateRequest::default() };
//! let (text, reason, usage) = model.generate(request)?.finish().await?;
//! println!("{text} ({reason:?}, {} tokens)", usage.completion_tokens);
//! # Ok(())
//! # }
//! ```
//!
//! [`BLOCK_TOKENS`]: crate::model::BLOCK_TOKENS

mod answer;
mod block_pool;
mod chat_model;
mod constraint;
mod detokenize;
mod draft;
mod engine;
mod generation;
mod handle;
mod pacer;
mod prefix_ends;
mod prefix_store;
mod reasoning;
mod sampler;
mod scheduler;
mod template;
mod tools;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use crate::model::{Adapter, PackedCache};
pub use chat_model::ChatModel;
pub use constraint::{Constraint, Grammar};
pub use prefix_store::PrefixStats;
pub use reasoning::ReasoningSplit;
pub use tools::{ToolCall, ToolChoice, ToolParser, ToolPart, ToolSpec};

/// One message of a conversation, as chat templates know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    pub content: String,
}

/// How tokens are chosen. Defaults are OpenAI's where it has one, else "off".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingParams {
    /// 0 is greedy.
    pub temperature: f32,
    pub top_p: f32,
    /// 0: off.
    pub top_k: usize,
    pub min_p: f32,
    /// 1: off. Applied to all tokens of prompt and answer.
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub logit_bias: Vec<(u32, f32)>,
    pub seed: Option<u64>,
}

/// What the client said about sampling; `None`: nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingWishes {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<usize>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub logit_bias: Vec<(u32, f32)>,
    pub seed: Option<u64>,
}

impl SamplingWishes {
    /// The wishes over `base`.
    pub fn over(&self, base: SamplingParams) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature.unwrap_or(base.temperature),
            top_p: self.top_p.unwrap_or(base.top_p),
            top_k: self.top_k.unwrap_or(base.top_k),
            min_p: self.min_p.unwrap_or(base.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(base.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(base.frequency_penalty),
            logit_bias: if self.logit_bias.is_empty() { base.logit_bias } else { self.logit_bias.clone() },
            seed: self.seed.or(base.seed),
        }
    }
}

/// Who may share a prompt's cached blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheScope {
    /// The first so many tokens (an operator's core) may be shared by everybody.
    pub shared_tokens: usize,
    /// What follows is shared only with requests that carry the same salt (conversation, or API key).
    pub salt: String,
}

/// A prompt to continue.
#[derive(Debug, Clone, Default)]
pub struct GenerateRequest {
    pub prompt: Vec<u32>,
    pub sampling: SamplingParams,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    pub max_tokens: usize,
    pub cache: CacheScope,
    /// How many alternatives' log-probabilities to report with each token; `None`: no log-probabilities.
    pub top_logprobs: Option<usize>,
    /// The form that the answer keeps, from [`ChatModel::constraint`].
    pub constraint: Option<Constraint>,
    /// Control tokens whose spelling is told as text: the marks of tool calls and of reasoning.
    pub shown: Arc<[u32]>,
    /// What changes the model for this request, from [`ChatModel::adapter`]. Cached blocks are shared only among requests
    /// with the same one.
    pub adapter: Option<Adapter>,
}

/// Tokens, and the adapter through which they are computed.
#[derive(Debug, Clone, Default)]
pub struct AdaptedTokens {
    pub tokens: Vec<u32>,
    pub adapter: Option<Adapter>,
}

impl From<Vec<u32>> for AdaptedTokens {
    fn from(tokens: Vec<u32>) -> Self {
        Self { tokens, adapter: None }
    }
}

impl AdaptedTokens {
    /// What their blocks' names begin with, so that no adapter finds another's.
    pub(crate) fn root(&self) -> [u8; 32] {
        self.adapter.as_ref().map_or([0; 32], |adapter| *adapter.key())
    }
}

/// A message with what tools add to it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromptMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    pub content: String,
    /// What the assistant called.
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool's message answers.
    pub tool_call_id: Option<String>,
}

impl From<ChatMessage> for PromptMessage {
    fn from(ChatMessage { role, content }: ChatMessage) -> Self {
        Self { role, content, ..Self::default() }
    }
}

/// What a prompt says beside its messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PromptOptions {
    pub tools: Vec<ToolSpec>,
    /// Ask a model that can for a train of thought before its answer.
    pub thinking: bool,
}

/// A token's log-probability and the best alternatives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLogprob {
    pub token: u32,
    pub text: String,
    pub bytes: Vec<u8>,
    pub logprob: f32,
    /// The most likely tokens, best first.
    pub top: Vec<Alternative>,
}

/// A token that could have been drawn.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alternative {
    pub token: u32,
    pub text: String,
    pub bytes: Vec<u8>,
    pub logprob: f32,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    Stop,
    Length,
}

/// What a generation cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub cached_tokens: usize,
    pub completion_tokens: usize,
    /// Of these, the ones of a train of thought, where somebody told them apart.
    pub reasoning_tokens: usize,
    /// From the request's arrival in the queue to its first step.
    pub queue_time: Duration,
    /// From arrival to the first token.
    pub first_token_time: Duration,
    pub total_time: Duration,
}

/// What a running generation says.
#[derive(Debug)]
pub enum GenerationEvent {
    /// Valid UTF-8; never a part of a stop string.
    Text {
        text: String,
        logprobs: Vec<TokenLogprob>,
    },
    Done {
        reason: FinishReason,
        usage: Usage,
    },
    Failed(LlmError),
}

/// A running generation. Dropping it cancels the sequence.
pub struct Generation {
    events: mpsc::UnboundedReceiver<GenerationEvent>,
    /// Set where nothing more is wanted; the engine ends the answer with its next token.
    enough: Arc<AtomicBool>,
    ended: bool,
}

/// A prompt ready for the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub tokens: Vec<u32>,
    /// Where each message's part ends, in tokens, its end mark included. What precedes it depends on this message and
    /// those before it only, so two prompts with the same first messages are equal up to there.
    pub message_ends: Vec<usize>,
    /// The answer begins within a train of thought: the template opened it.
    pub opens_thought: bool,
}

/// How a prefix came to be pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinReport {
    pub tokens: usize,
    /// True if it was read from the state directory.
    pub restored: bool,
}

/// The engine's state, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct EngineStats {
    pub running: usize,
    pub waiting: usize,
    pub kv_blocks: usize,
    pub kv_blocks_used: usize,
    pub kv_blocks_pinned: usize,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub generated_tokens: u64,
    pub preemptions: u64,
    pub cancelled: u64,
    pub steps: u64,
    /// Steps of a sequence that carried a draft, tokens drafted, and those of them that were drawn.
    pub drafts: u64,
    pub drafted_tokens: u64,
    pub accepted_tokens: u64,
}

/// What can go wrong with a generation.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LlmError {
    #[error(
        "this model's context is {context} tokens; the prompt has {prompt} and {max_tokens} were asked for the answer"
    )]
    ContextLength { context: usize, prompt: usize, max_tokens: usize },
    #[error("{waiting} requests are waiting already; try again in {retry_after_s} s")]
    QueueFull { waiting: usize, retry_after_s: u64 },
    #[error("the chat template refused the messages: {0}")]
    Template(String),
    #[error("{0}")]
    InvalidParameter(String),
    #[error("{}{message}", if at.is_empty() { String::new() } else { format!("{at}: ") })]
    Schema { at: String, message: String },
    #[error("the model could not be loaded: {0}")]
    Load(String),
    /// An adapter cannot be used with this model; the text names the file and the reason.
    #[error("{0}")]
    Adapter(String),
    #[error("the engine failed: {0}")]
    Engine(String),
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}
