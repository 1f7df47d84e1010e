//! An answer as server-sent events: the role, the text as it comes, one chunk with `finish_reason` (and `support`),
//! the usage if asked for, `[DONE]`. A comment every few seconds keeps proxies from closing a quiet stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::answer::{Answer, Ending, Piece};
use super::wire::completion::{Envelope, new_call_id, tool_call, tool_call_delta};
use super::wire::error::ApiError;

/// How long a stream's head waits for the first piece: an error that comes before it has its own HTTP status.
pub const FIRST_PIECE: Duration = Duration::from_secs(5);
/// Pause between keep-alive comments.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Where pieces come from.
enum Pieces {
    Answer(Box<Answer>),
    /// An answer that runs on a task of its own.
    Elsewhere(mpsc::Receiver<Piece>),
}

impl Pieces {
    async fn next(&mut self) -> Piece {
        match self {
            Pieces::Answer(answer) => answer.next().await,
            Pieces::Elsewhere(pieces) => pieces
                .recv()
                .await
                .unwrap_or_else(|| Piece::Failed(ApiError::internal("the answer broke off; it will be tried again"))),
        }
    }
}

struct Streaming {
    /// `None` once it has ended.
    answer: Option<Pieces>,
    envelope: Envelope,
    include_usage: bool,
    want_logprobs: bool,
    queue: VecDeque<String>,
}

/// Streams `answer`, of which `first` was read already.
pub fn respond(
    answer: Answer,
    first: Option<Piece>,
    choices: usize,
    envelope: Envelope,
    include_usage: bool,
    want_logprobs: bool,
) -> Response {
    let pieces = Pieces::Answer(Box::new(answer));
    let streaming = Streaming { answer: Some(pieces), envelope, include_usage, want_logprobs, queue: VecDeque::new() };
    begin(streaming, first, choices)
}

/// Streams the pieces of an answer that runs elsewhere.
pub fn respond_pieces(pieces: mpsc::Receiver<Piece>, envelope: Envelope) -> Response {
    let answer = Some(Pieces::Elsewhere(pieces));
    begin(Streaming { answer, envelope, include_usage: false, want_logprobs: false, queue: VecDeque::new() }, None, 1)
}

fn begin(mut streaming: Streaming, first: Option<Piece>, choices: usize) -> Response {
    for choice in 0..choices {
        let role = json!({"role": "assistant", "content": ""});
        streaming.chunk(streaming.envelope.chunk(choice, role, None, None));
    }
    if let Some(piece) = first {
        streaming.take(piece);
    }
    let events = futures::stream::unfold(streaming, |mut streaming| async move {
        let data = streaming.next().await?;
        Some((Ok::<_, Infallible>(Event::default().data(data)), streaming))
    });
    as_events(Sse::new(events))
}

/// A stream's response: kept alive, and passed on by proxies as it comes.
pub fn as_events<S>(events: Sse<S>) -> Response
where
    S: futures::Stream<Item = Result<Event, Infallible>> + Send + 'static,
{
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("still working");
    let mut response = events.keep_alive(keep_alive).into_response();
    // nginx would hold the events back.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

impl Streaming {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.queue.pop_front() {
                return Some(data);
            }
            let piece = self.answer.as_mut()?.next().await;
            self.take(piece);
        }
    }

    fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Text { choice, text, logprobs } => {
                let logprobs = self.want_logprobs.then_some(logprobs.as_slice());
                self.chunk(self.envelope.chunk(choice, json!({"content": text}), None, logprobs));
            }
            Piece::Reasoning { choice, text } => {
                self.chunk(self.envelope.chunk(choice, json!({"reasoning_content": text}), None, None));
            }
            Piece::Call { choice, index, name } => {
                let call = tool_call(&new_call_id(), &name, "");
                self.chunk(self.envelope.chunk(choice, tool_call_delta(index, call), None, None));
            }
            Piece::Arguments { choice, index, text } => {
                let more = json!({"function": {"arguments": text}});
                self.chunk(self.envelope.chunk(choice, tool_call_delta(index, more), None, None));
            }
            Piece::Ended { choice, finish_reason, .. } => {
                self.chunk(self.envelope.chunk(choice, json!({}), Some(finish_reason), None));
            }
            Piece::Done(ending) => {
                self.answer = None;
                self.end(*ending);
            }
            Piece::Failed(error) => {
                self.answer = None;
                self.queue.push_back(error.body().to_string());
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        if let Some(call) = ending.tool_call {
            self.chunk(self.envelope.chunk(0, tool_call_delta(0, call), None, None));
        }
        if let Some(finish_reason) = ending.finish_reason {
            let mut last = self.envelope.chunk(0, json!({}), Some(finish_reason), None);
            if let Some((support, _)) = ending.support {
                last["support"] = support;
            }
            self.chunk(last);
        }
        if self.include_usage {
            self.queue.push_back(self.envelope.usage_chunk(&ending.usage).to_string());
        }
        self.queue.push_back("[DONE]".into());
    }

    /// With usage asked for, every chunk but the last says that it has none.
    fn chunk(&mut self, mut chunk: Value) {
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        self.queue.push_back(chunk.to_string());
    }
}
