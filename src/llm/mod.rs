//! Chat generation: template, scheduler, KV blocks, sampler.
//!
//! One engine thread owns the weights and the KV pool. Requests come in by a bounded channel; text leaves by one
//! channel per sequence. Dropping a [`Generation`] cancels its sequence at the next step.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::EngineSettings;

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
}

/// A token's log-probability and the best alternatives.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLogprob {
    pub token: u32,
    pub text: String,
    pub bytes: Vec<u8>,
    pub logprob: f32,
    pub top: Vec<(u32, String, f32)>,
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
pub struct Generation {}

impl Generation {
    /// The next event; `None` after `Done` or `Failed`.
    pub async fn next(&mut self) -> Option<GenerationEvent> {
        todo!()
    }
    /// Runs to the end: whole text, reason, usage.
    pub async fn finish(self) -> Result<(String, FinishReason, Usage), LlmError> {
        todo!()
    }
}

/// A prompt ready for the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub tokens: Vec<u32>,
    /// Where each message's text ends, in tokens (the system message's end is what an operator's core shares).
    pub message_ends: Vec<usize>,
}

/// A chat model with its engine thread. Cheap to clone.
#[derive(Clone)]
pub struct ChatModel {}

impl ChatModel {
    /// Loads the model and starts its engine thread. Blocking.
    pub fn load(_id: &str, _path: &Path, _settings: &EngineSettings) -> Result<Self, LlmError> {
        todo!()
    }
    pub fn id(&self) -> &str {
        todo!()
    }
    /// Hash of the model file, hex.
    pub fn hash(&self) -> &str {
        todo!()
    }
    /// Longest prompt plus answer, in tokens.
    pub fn context_tokens(&self) -> usize {
        todo!()
    }
    /// Renders the file's chat template and tokenizes it. Spellings of control tokens inside messages stay plain text.
    pub fn prompt(&self, _messages: &[ChatMessage]) -> Result<Prompt, LlmError> {
        todo!()
    }
    pub fn count_tokens(&self, _text: &str) -> usize {
        todo!()
    }
    /// Queues a request. Errors at once when the queue is full or the prompt is too long for the context.
    pub fn generate(&self, _request: GenerateRequest) -> Result<Generation, LlmError> {
        todo!()
    }
    /// Computes (or maps from `state_dir`) the blocks of a shared prefix and keeps them.
    pub async fn pin(&self, _name: &str, _prefix: Vec<u32>, _state_dir: &Path) -> Result<PinReport, LlmError> {
        todo!()
    }
    /// Numbers for `/metrics` and `doctor`.
    pub fn stats(&self) -> EngineStats {
        todo!()
    }
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
    #[error("the model could not be loaded: {0}")]
    Load(String),
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
