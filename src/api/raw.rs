//! An answer of the bare model: one or several choices, of one or several prompts, their thoughts and calls told apart from
//! their words.

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

/// How many choices there are, and how many of them run at once.
#[derive(Debug, Clone, Copy)]
pub struct Choices {
    pub of_each_prompt: usize,
    pub at_once: usize,
}

/// The choices of one request, as they come: those of the first prompt first.
pub struct RawAnswer {
    chat: ChatModel,
    requests: Vec<GenerateRequest>,
    number: Choices,
    reading: Reading,
    /// Those that were begun.
    choices: Vec<Choice>,
    ready: VecDeque<Piece>,
    /// Of each prompt, once a choice of it has ended.
    usage: Vec<Option<Usage>>,
}

struct Choice {
    /// `None` once it has ended.
    generation: Option<Generation>,
    thought: Option<ReasoningSplit>,
    calls: Option<ToolParser>,
    /// The whole train of thought.
    thoughts: String,
}

impl RawAnswer {
    /// Queues answers to these requests; each answer to one of them has a seed of its own.
    ///
    /// # Errors
    /// As [`ChatModel::generate`], of any of them.
    pub fn start(
        chat: &ChatModel,
        requests: Vec<GenerateRequest>,
        number: Choices,
        reading: Reading,
    ) -> Result<Self, LlmError> {
        requests.iter().try_for_each(|request| chat.check(request))?;
        let usage = vec![None; requests.len()];
        let (choices, ready) = (Vec::new(), VecDeque::new());
        let mut answer = Self { chat: chat.clone(), requests, number, reading, choices, ready, usage };
        answer.begin_more()?;
        Ok(answer)
    }

    /// Begins further choices, as many as may run at once.
    fn begin_more(&mut self) -> Result<(), LlmError> {
        let all = self.requests.len() * self.number.of_each_prompt;
        let mut running = self.choices.iter().filter(|choice| choice.generation.is_some()).count();
        while self.choices.len() < all && running < self.number.at_once {
            let (prompt, n) = (self.choices.len() / self.number.of_each_prompt, self.choices.len());
            let mut request = self.requests[prompt].clone();
            let of_prompt = (n % self.number.of_each_prompt) as u64;
            request.sampling.seed = request.sampling.seed.map(|seed| seed.wrapping_add(of_prompt));
            self.choices.push(Choice {
                generation: Some(self.chat.generate(request)?),
                thought: self.reading.thought.map(ReasoningSplit::new),
                calls: self.reading.calls.then(|| self.chat.tool_parser()),
                thoughts: String::new(),
            });
            running += 1;
        }
        Ok(())
    }

    /// Of all choices together, once they have ended; each prompt counts once.
    pub fn usage(&self) -> Usage {
        let add = |total: Usage, usage: &Usage| Usage {
            prompt_tokens: total.prompt_tokens + usage.prompt_tokens,
            cached_tokens: total.cached_tokens + usage.cached_tokens,
            completion_tokens: total.completion_tokens + usage.completion_tokens,
            reasoning_tokens: total.reasoning_tokens + usage.reasoning_tokens,
            ..total
        };
        self.usage.iter().flatten().fold(Usage::default(), add)
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
            if self.choices[choice].generation.is_none()
                && let Err(error) = self.begin_more()
            {
                return Some(Piece::Failed(error.into()));
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

    fn end(&mut self, n: usize, reason: FinishReason, mut usage: Usage) {
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
        usage.reasoning_tokens = self.chat.count_tokens(&self.choices[n].thoughts).min(usage.completion_tokens);
        let finish_reason = match reason {
            FinishReason::Length => "length",
            FinishReason::Stop if called => "tool_calls",
            FinishReason::Stop => "stop",
        };
        let of_prompt = &mut self.usage[n / self.number.of_each_prompt];
        *of_prompt = Some(match of_prompt {
            None => usage,
            Some(before) => Usage {
                cached_tokens: before.cached_tokens.min(usage.cached_tokens),
                completion_tokens: before.completion_tokens + usage.completion_tokens,
                reasoning_tokens: before.reasoning_tokens + usage.reasoning_tokens,
                ..*before
            },
        });
        self.ready.push_back(Piece::Ended { choice: n, finish_reason, usage });
    }

    fn queue(&mut self, choice: usize, thought: String, parts: Vec<ToolPart>, logprobs: Vec<TokenLogprob>) {
        if !thought.is_empty() {
            self.choices[choice].thoughts.push_str(&thought);
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
