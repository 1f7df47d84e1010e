//! One answer in the making: its sampler, its text, and the channel on which it leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::mpsc;

use super::constraint::Constraint;
use super::detokenize::TextStream;
use super::handle::InFlight;
use super::sampler::{Logprobs, Sampler};
use super::scheduler::Sequence;
use super::{Alternative, FinishReason, GenerationEvent, LlmError, TokenLogprob, Usage};

/// What the engine must know of a vocabulary.
pub(crate) trait TokenTable: Send + Sync + 'static {
    /// The bytes that a token adds to the text; none for control tokens.
    fn token_bytes(&self, token: u32) -> Vec<u8>;
    fn token_text(&self, token: u32) -> String;
    fn ends_answer(&self, token: u32) -> bool;
}

pub(crate) struct Answer {
    events: mpsc::UnboundedSender<GenerationEvent>,
    sampler: Sampler,
    constraint: Option<Constraint>,
    /// The constraint takes no further token.
    complete: bool,
    shown: Arc<[u32]>,
    text: TextStream,
    max_tokens: usize,
    drawn: usize,
    /// The listener has heard enough.
    enough: Arc<AtomicBool>,
    /// Log-probabilities of tokens whose text was not sent yet, with where that text begins.
    logprobs: Vec<(usize, TokenLogprob)>,
    arrived: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    in_flight: InFlight,
}

impl Answer {
    pub fn new(
        events: mpsc::UnboundedSender<GenerationEvent>,
        sampler: Sampler,
        form: (Option<Constraint>, Arc<[u32]>),
        stop: &[String],
        max_tokens: usize,
        in_flight: InFlight,
    ) -> Self {
        let (constraint, shown) = form;
        Self {
            events,
            sampler,
            constraint,
            complete: false,
            shown,
            text: TextStream::new(stop),
            max_tokens,
            drawn: 0,
            enough: Arc::default(),
            logprobs: Vec::new(),
            arrived: Instant::now(),
            started: None,
            first_token: None,
            in_flight,
        }
    }

    /// Shared with the listener, which sets it to end the answer.
    pub fn enough(&self) -> Arc<AtomicBool> {
        self.enough.clone()
    }

    /// True once nobody listens any more.
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Notes that the sequence takes part in a step.
    pub fn start(&mut self) {
        self.started.get_or_insert_with(Instant::now);
    }

    pub fn has_tokens(&self) -> bool {
        self.first_token.is_some()
    }

    /// Draws the next token.
    ///
    /// # Errors
    /// Logits that give no token.
    pub fn draw(&mut self, logits: &mut [f32], table: &dyn TokenTable) -> Result<u32, LlmError> {
        let room = self.max_tokens.saturating_sub(self.drawn);
        let allowed = match &mut self.constraint {
            Some(constraint) => constraint.allowed(room, self.max_tokens)?,
            None => None,
        };
        let sample = self.sampler.sample(logits, allowed.as_ref())?;
        self.drawn += 1;
        if let Some(constraint) = self.constraint.as_mut().filter(|_| !table.ends_answer(sample.token)) {
            self.complete = constraint.accept(sample.token)?;
        }
        self.first_token.get_or_insert_with(Instant::now);
        if let Some(logprobs) = sample.logprobs.filter(|_| !table.ends_answer(sample.token)) {
            self.logprobs.push((self.text.position(), token_logprob(sample.token, logprobs, table)));
        }
        Ok(sample.token)
    }

    /// Sends what can be said now that the answer's `length`-th token is known; the reason, if it was the last.
    pub fn say(&mut self, token: u32, length: usize, table: &dyn TokenTable) -> Option<FinishReason> {
        let ends = table.ends_answer(token);
        let mut text = match ends {
            true => String::new(),
            false if self.shown.contains(&token) => self.text.push(table.token_text(token).as_bytes()),
            false => self.text.push(&table.token_bytes(token)),
        };
        let reason = match () {
            () if ends || self.complete || self.text.stopped() || self.enough.load(Ordering::Relaxed) => {
                Some(FinishReason::Stop)
            }
            () if length >= self.max_tokens => Some(FinishReason::Length),
            () => None,
        };
        if reason.is_some() {
            text.push_str(&self.text.finish());
        }
        let reason = if self.text.stopped() { Some(FinishReason::Stop) } else { reason };
        self.send(text, reason.is_some());
        reason
    }

    fn send(&mut self, text: String, last: bool) {
        // Tokens go with the text that they belong to; those of a stop string go nowhere.
        let released = self.text.released();
        let sent = match last && !self.text.stopped() {
            true => self.logprobs.len(),
            false => self.logprobs.partition_point(|(start, _)| *start < released),
        };
        let logprobs: Vec<_> = self.logprobs.drain(..sent).map(|(_, logprob)| logprob).collect();
        if !text.is_empty() || !logprobs.is_empty() {
            // A listener that went away is noticed before the next step.
            let _ = self.events.send(GenerationEvent::Text { text, logprobs });
        }
    }

    /// The last event of a sequence that came to its end, and where to send it once its blocks are free.
    pub fn done(self, reason: FinishReason, sequence: &Sequence) -> Farewell {
        let since_arrival = |at: Option<Instant>| at.map_or_else(|| self.arrived.elapsed(), |at| at - self.arrived);
        let usage = Usage {
            prompt_tokens: sequence.prompt_tokens,
            cached_tokens: sequence.cached,
            completion_tokens: sequence.tokens.len() - sequence.prompt_tokens,
            reasoning_tokens: 0,
            queue_time: since_arrival(self.started),
            first_token_time: since_arrival(self.first_token),
            total_time: self.arrived.elapsed(),
        };
        if let Some(started) = self.started {
            self.in_flight.took(started.elapsed());
        }
        Farewell { events: self.events, event: GenerationEvent::Done { reason, usage } }
    }

    pub fn failed(self, error: LlmError) -> Farewell {
        Farewell { events: self.events, event: GenerationEvent::Failed(error) }
    }
}

/// A last event that is yet to be sent.
pub(crate) struct Farewell {
    events: mpsc::UnboundedSender<GenerationEvent>,
    event: GenerationEvent,
}

impl Farewell {
    pub fn send(self) {
        let _ = self.events.send(self.event);
    }
}

fn token_logprob(token: u32, logprobs: Logprobs, table: &dyn TokenTable) -> TokenLogprob {
    let alternative = |(token, logprob)| Alternative {
        token,
        text: table.token_text(token),
        bytes: table.token_bytes(token),
        logprob,
    };
    TokenLogprob {
        token,
        text: table.token_text(token),
        bytes: table.token_bytes(token),
        logprob: logprobs.chosen,
        top: logprobs.top.into_iter().map(alternative).collect(),
    }
}
