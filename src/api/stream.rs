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
use super::wire::completion::{Envelope, tool_call_delta};
use super::wire::error::ApiError;

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
    envelope: Envelope,
    include_usage: bool,
    want_logprobs: bool,
) -> Response {
    let pieces = Pieces::Answer(Box::new(answer));
    let streaming = Streaming { answer: Some(pieces), envelope, include_usage, want_logprobs, queue: VecDeque::new() };
    begin(streaming, first)
}

/// Streams the pieces of an answer that runs elsewhere.
pub fn respond_pieces(pieces: mpsc::Receiver<Piece>, envelope: Envelope) -> Response {
    let answer = Some(Pieces::Elsewhere(pieces));
    begin(Streaming { answer, envelope, include_usage: false, want_logprobs: false, queue: VecDeque::new() }, None)
}

fn begin(mut streaming: Streaming, first: Option<Piece>) -> Response {
    streaming.chunk(streaming.envelope.chunk(json!({"role": "assistant", "content": ""}), None, None));
    if let Some(piece) = first {
        streaming.take(piece);
    }
    let events = futures::stream::unfold(streaming, |mut streaming| async move {
        let data = streaming.next().await?;
        Some((Ok::<_, Infallible>(Event::default().data(data)), streaming))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("still working");
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
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
            Piece::Text { text, logprobs } => {
                let logprobs = self.want_logprobs.then_some(logprobs.as_slice());
                self.chunk(self.envelope.chunk(json!({"content": text}), None, logprobs));
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
        if let Some(call) = &ending.tool_call {
            self.chunk(self.envelope.chunk(tool_call_delta(call), None, None));
        }
        let mut last = self.envelope.chunk(json!({}), Some(ending.finish_reason), None);
        if let Some((support, _)) = ending.support {
            last["support"] = support;
        }
        self.chunk(last);
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
