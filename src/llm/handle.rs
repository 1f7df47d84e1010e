//! The threads' side of the engine: checks a request, counts it, and passes it on.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc as events, oneshot};

use super::answer::Answer;
use super::generation::stopped;
use super::prefix_store::SavedPrefix;
use super::sampler::{MAX_TOP_LOGPROBS, Sampler};
use super::scheduler::{Sequence, SequenceId};
use super::{AdaptedTokens, EngineStats, GenerateRequest, Generation, LlmError};

/// What the engine thread is asked for.
pub(crate) enum Command {
    Generate {
        sequence: Sequence,
        answer: Box<Answer>,
    },
    /// Compute a prefix (whole blocks) and keep it under a name.
    Pin {
        name: String,
        prefix: AdaptedTokens,
        reply: Reply<()>,
    },
    /// Take a prefix from a file and keep it under a name.
    Restore {
        name: String,
        prefix: AdaptedTokens,
        saved: SavedPrefix,
        reply: Reply<()>,
    },
    /// Is this very prefix kept under this name?
    Holds {
        name: String,
        prefix: AdaptedTokens,
        reply: Reply<bool>,
    },
    /// Let go what is kept under any other name.
    KeepOnly {
        names: Vec<String>,
        reply: Reply<()>,
    },
    /// The bytes of one block of a pinned prefix.
    Export {
        name: String,
        block: usize,
        reply: Reply<Vec<u8>>,
    },
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, LlmError>>;

/// What the engine thread and its handles both see.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    stats: Mutex<EngineStats>,
    /// Requests accepted and not yet ended.
    in_flight: AtomicUsize,
    /// How long a request lately took from its first step to its end, in milliseconds.
    service_ms: AtomicU64,
    next_id: AtomicU64,
    /// The engine thread has ended: nothing will be answered any more.
    ended: AtomicBool,
}

/// Marks the engine as ended when the thread ends, in whatever way.
pub(crate) struct EndMark(pub Arc<Shared>);

impl Drop for EndMark {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Release);
    }
}

impl Shared {
    pub fn publish(&self, stats: EngineStats) {
        *self.stats.lock() = stats;
    }
}

/// Counts a request as in flight for as long as it lives.
pub(crate) struct InFlight(Arc<Shared>);

impl InFlight {
    /// Notes how long the request took from its first step.
    pub fn took(&self, time: Duration) {
        let new = time.as_millis() as u64;
        let old = self.0.service_ms.load(Ordering::Relaxed);
        let mean = if old == 0 { new.max(1) } else { (3 * old + new) / 4 };
        self.0.service_ms.store(mean, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What a handle checks requests against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestLimits {
    pub vocab: usize,
    pub context_tokens: usize,
    pub max_running: usize,
    pub max_waiting: usize,
}

/// Passes requests to the engine thread. The thread ends when the last handle is dropped and all is said.
#[derive(Clone)]
pub(crate) struct EngineHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) shared: Arc<Shared>,
    pub limits: RequestLimits,
}

impl EngineHandle {
    /// False once the engine thread has ended, which it does only by a fault.
    pub fn is_alive(&self) -> bool {
        !self.shared.ended.load(Ordering::Acquire)
    }

    /// Checks and queues a request.
    ///
    /// # Errors
    /// A parameter out of range, a prompt too long for the context, or a full queue.
    pub fn generate(&self, request: GenerateRequest) -> Result<Generation, LlmError> {
        self.check(&request)?;
        let in_flight = self.enter()?;
        let (sender, receiver) = events::unbounded_channel();
        let sampler = Sampler::new(request.sampling, request.top_logprobs, &request.prompt);
        let form = (request.constraint, request.shown);
        let answer = Answer::new(sender, sampler, form, &request.stop, request.max_tokens, in_flight);
        let prompt = AdaptedTokens { tokens: request.prompt, adapter: request.adapter };
        let sequence = Sequence::new(self.next_id(), prompt, request.max_tokens, request.cache);
        let enough = answer.enough();
        let command = Command::Generate { sequence, answer: Box::new(answer) };
        self.commands.send(command).map_err(|_| stopped())?;
        Ok(Generation::new(receiver, enough))
    }

    /// What [`Self::generate`] checks before it queues a request.
    ///
    /// # Errors
    /// A parameter out of range, or a prompt too long for the context.
    pub fn check(&self, request: &GenerateRequest) -> Result<(), LlmError> {
        let RequestLimits { vocab, context_tokens: context, .. } = self.limits;
        let refuse = |message: String| Err(LlmError::InvalidParameter(message));
        if request.prompt.is_empty() {
            return refuse("the prompt has no tokens".into());
        }
        if let Some(token) = request.prompt.iter().find(|t| **t as usize >= vocab) {
            return refuse(format!("the prompt has token {token}; this model's tokens are 0 to {}", vocab - 1));
        }
        if request.max_tokens == 0 {
            return refuse("`max_tokens` is 0; it must be at least 1".into());
        }
        if let Some(top) = request.top_logprobs.filter(|top| *top > MAX_TOP_LOGPROBS) {
            return refuse(format!("`top_logprobs` is {top}; it must lie between 0 and {MAX_TOP_LOGPROBS}"));
        }
        request.sampling.validate(vocab)?;
        let (prompt, max_tokens) = (request.prompt.len(), request.max_tokens);
        if prompt.saturating_add(max_tokens) > context {
            return Err(LlmError::ContextLength { context, prompt, max_tokens });
        }
        Ok(())
    }

    /// Takes a place among the requests in flight.
    fn enter(&self) -> Result<InFlight, LlmError> {
        let RequestLimits { max_running, max_waiting, .. } = self.limits;
        let enter = |n: usize| (n < max_running + max_waiting).then_some(n + 1);
        match self.shared.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter) {
            Ok(_) => Ok(InFlight(self.shared.clone())),
            Err(in_flight) => {
                let waiting = in_flight.saturating_sub(max_running);
                let service_ms = self.shared.service_ms.load(Ordering::Relaxed);
                Err(LlmError::QueueFull { waiting, retry_after_s: retry_after_s(service_ms, max_running) })
            }
        }
    }

    pub(super) fn next_id(&self) -> SequenceId {
        self.shared.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a command that is answered once.
    pub async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, LlmError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    pub fn stats(&self) -> EngineStats {
        let stats = *self.shared.stats.lock();
        let in_flight = self.shared.in_flight.load(Ordering::Acquire);
        EngineStats { waiting: in_flight.saturating_sub(stats.running), ..stats }
    }
}

/// When a place is likely to be free: requests lately took `service_ms`, and `max_running` go on at once.
fn retry_after_s(service_ms: u64, max_running: usize) -> u64 {
    service_ms.div_ceil(1000 * max_running.max(1) as u64).clamp(1, 120)
}
