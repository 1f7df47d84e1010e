//! An answer of the bare model: one or several choices, their thoughts and calls told apart from their words.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::Poll;

use super::answer::Piece;
use crate::llm::{
    ChatModel, FinishReason, GenerateRequest, Generation, GenerationEvent, LlmError, ReasoningSplit, TokenLogprob,
    ToolParser, ToolPart, Usage,
};

/// How an answer's text is to be read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// A train of thought may come first; `Some(true)`: the prompt has opened it.
    pub thought: Option<bool>,
    /// Calls of tools may stand in it.
    pub calls: bool,
}

/// The choices of one request, as they come.
pub struct RawAnswer {
    choices: Vec<Choice>,
    ready: VecDeque<Piece>,
    usage: Usage,
}

struct Choice {
    /// `None` once it has ended.
    generation: Option<Generation>,
    thought: Option<ReasoningSplit>,
    calls: Option<ToolParser>,
}

impl RawAnswer {
    /// Queues `count` answers to one request; each has a seed of its own.
    ///
    /// # Errors
    /// As [`ChatModel::generate`].
    pub fn start(chat: &ChatModel, request: GenerateRequest, count: usize, reading: Reading) -> Result<Self, LlmError> {
        let choice = |n: usize| {
            let mut request = request.clone();
            request.sampling.seed = request.sampling.seed.map(|seed| seed.wrapping_add(n as u64));
            Ok(Choice {
                generation: Some(chat.generate(request)?),
                thought: reading.thought.map(ReasoningSplit::new),
                calls: reading.calls.then(|| chat.tool_parser()),
            })
        };
        let choices = (0..count).map(choice).collect::<Result<_, LlmError>>()?;
        Ok(Self { choices, ready: VecDeque::new(), usage: Usage::default() })
    }

    /// Of all choices together, once they have ended; the prompt counts once.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The next piece; `None` once all choices have ended. Safe to be cancelled.
    pub async fn next(&mut self) -> Option<Piece> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            if self.choices.iter().all(|choice| choice.generation.is_none()) {
                return None;
            }
            let (choice, event) = next_event(&mut self.choices).await;
            match event {
                Some(GenerationEvent::Text { text, logprobs }) => self.read(choice, &text, logprobs),
                Some(GenerationEvent::Done { reason, usage }) => self.end(choice, reason, usage),
                Some(GenerationEvent::Failed(error)) => return Some(Piece::Failed(error.into())),
                None => self.choices[choice].generation = None,
            }
        }
    }

    /// Tells a text's parts apart.
    fn read(&mut self, n: usize, text: &str, logprobs: Vec<TokenLogprob>) {
        let choice = &mut self.choices[n];
        let (thought, words) = match &mut choice.thought {
            Some(split) => split.push(text),
            None => (String::new(), text.to_string()),
        };
        let parts = match &mut choice.calls {
            Some(parser) => parser.push(&words),
            None => vec![ToolPart::Text(words)],
        };
        self.queue(n, thought, parts, logprobs);
    }

    fn end(&mut self, n: usize, reason: FinishReason, usage: Usage) {
        let choice = &mut self.choices[n];
        choice.generation = None;
        let (thought, words) = choice.thought.as_mut().map(ReasoningSplit::finish).unwrap_or_default();
        let mut parts = match &mut choice.calls {
            Some(parser) => parser.push(&words),
            None => vec![ToolPart::Text(words)],
        };
        parts.extend(choice.calls.as_mut().map(ToolParser::finish).unwrap_or_default());
        let called = choice.calls.as_ref().is_some_and(ToolParser::has_calls);
        self.queue(n, thought, parts, Vec::new());
        let finish_reason = match reason {
            FinishReason::Length => "length",
            FinishReason::Stop if called => "tool_calls",
            FinishReason::Stop => "stop",
        };
        let total = &mut self.usage;
        let first = total.prompt_tokens == 0;
        total.completion_tokens += usage.completion_tokens;
        total.prompt_tokens = usage.prompt_tokens;
        total.cached_tokens = if first { usage.cached_tokens } else { total.cached_tokens.min(usage.cached_tokens) };
        self.ready.push_back(Piece::Ended { choice: n, finish_reason, usage });
    }

    fn queue(&mut self, choice: usize, thought: String, parts: Vec<ToolPart>, logprobs: Vec<TokenLogprob>) {
        if !thought.is_empty() {
            self.ready.push_back(Piece::Reasoning { choice, text: thought });
        }
        // Log-probabilities are of tokens, whatever becomes of their text.
        let mut logprobs = Some(logprobs).filter(|logprobs| !logprobs.is_empty());
        for part in parts {
            match part {
                ToolPart::Text(text) if text.is_empty() => {}
                ToolPart::Text(text) => {
                    let logprobs = logprobs.take().unwrap_or_default();
                    self.ready.push_back(Piece::Text { choice, text, logprobs });
                }
                ToolPart::Call { index, name } => self.ready.push_back(Piece::Call { choice, index, name }),
                ToolPart::Arguments { index, text } => {
                    self.ready.push_back(Piece::Arguments { choice, index, text });
                }
            }
        }
        if let Some(logprobs) = logprobs {
            self.ready.push_back(Piece::Text { choice, text: String::new(), logprobs });
        }
    }
}

/// The next event of any choice that has not ended.
async fn next_event(choices: &mut [Choice]) -> (usize, Option<GenerationEvent>) {
    std::future::poll_fn(|context| {
        for (n, choice) in choices.iter_mut().enumerate() {
            let Some(generation) = &mut choice.generation else { continue };
            if let Poll::Ready(event) = pin!(generation.next()).poll(context) {
                return Poll::Ready((n, event));
            }
        }
        Poll::Pending
    })
    .await
}
