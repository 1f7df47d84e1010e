//! A response as server-sent events, under OpenAI's names, each with its sequence number.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::response::Response;
use axum::response::sse::{Event, Sse};
use serde_json::{Value, json};

use super::super::answer::{Answer, Ending, Piece};
use super::super::state::AppState;
use super::super::stream::as_events;
use super::super::wire::completion::{new_call_id, token_logprobs};
use super::super::wire::error::ApiError;
use super::super::wire::items::{Frame, Output, call_item, message_item, new_id, reasoning_item, text_part};

/// Where to keep a response: the state, the key's name, the transcript before it.
pub type Keep = (AppState, String, Vec<Value>);

struct Streaming {
    /// `None` once it has ended.
    answer: Option<Answer>,
    frame: Frame,
    keep: Option<Keep>,
    output: Output,
    open: Option<Open>,
    finish_reason: Option<&'static str>,
    /// Probabilities of tokens whose text is yet to come.
    logprobs: Vec<Value>,
    sequence: usize,
    queue: VecDeque<(String, String)>,
}

/// The item that is being written.
struct Open {
    id: String,
    text: String,
    logprobs: Vec<Value>,
    kind: Kind,
}

enum Kind {
    Message,
    Reasoning,
    Call { call_id: String, name: String },
}

/// Streams `answer`, of which `first` was read already.
pub fn respond(answer: Answer, first: Option<Piece>, frame: Frame, keep: Option<Keep>) -> Response {
    let mut streaming = Streaming {
        answer: Some(answer),
        frame,
        keep,
        output: Output::default(),
        open: None,
        finish_reason: None,
        logprobs: Vec::new(),
        sequence: 0,
        queue: VecDeque::new(),
    };
    let begun = streaming.frame.response(&streaming.output, None);
    streaming.send("response.created", json!({"response": begun}));
    streaming.send("response.in_progress", json!({"response": begun}));
    if let Some(piece) = first {
        streaming.take(piece);
    }
    let events = futures::stream::unfold(streaming, |mut streaming| async move {
        let (name, data) = streaming.next().await?;
        Some((Ok::<_, Infallible>(Event::default().event(name).data(data)), streaming))
    });
    as_events(Sse::new(events))
}

impl Streaming {
    async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            let piece = self.answer.as_mut()?.next().await;
            self.take(piece);
        }
    }

    fn send(&mut self, name: &str, mut event: Value) {
        event["type"] = json!(name);
        event["sequence_number"] = json!(self.sequence);
        self.sequence += 1;
        self.queue.push_back((name.into(), event.to_string()));
    }

    fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Text { text, logprobs, .. } => {
                self.logprobs.extend(token_logprobs(&logprobs));
                if text.is_empty() {
                    return;
                }
                if !matches!(self.open, Some(Open { kind: Kind::Message, .. })) {
                    self.begin(Kind::Message, "msg");
                }
                self.add("response.output_text.delta", &text);
            }
            Piece::Reasoning { text, .. } => {
                if !matches!(self.open, Some(Open { kind: Kind::Reasoning, .. })) {
                    self.begin(Kind::Reasoning, "rs");
                }
                self.add("response.reasoning_text.delta", &text);
            }
            Piece::Call { name, .. } => self.begin(Kind::Call { call_id: new_call_id(), name }, "fc"),
            Piece::Arguments { text, .. } => self.add("response.function_call_arguments.delta", &text),
            Piece::Ended { finish_reason, .. } => self.finish_reason = Some(finish_reason),
            Piece::Done(ending) => {
                self.answer = None;
                self.end(*ending);
            }
            Piece::Failed(error) => {
                self.answer = None;
                self.fail(&error);
            }
        }
    }

    fn begin(&mut self, kind: Kind, id: &str) {
        self.close();
        let id = new_id(id);
        let at = self.output.items.len();
        let item = match &kind {
            Kind::Message => message_item(&id, "", Vec::new(), "in_progress"),
            Kind::Reasoning => reasoning_item(&id, ""),
            Kind::Call { call_id, name } => call_item(&id, call_id, name, "", "in_progress"),
        };
        self.send("response.output_item.added", json!({"output_index": at, "item": item}));
        if matches!(kind, Kind::Message) {
            let part =
                json!({"item_id": id, "output_index": at, "content_index": 0, "part": text_part("", Vec::new())});
            self.send("response.content_part.added", part);
        }
        self.open = Some(Open { id, text: String::new(), logprobs: Vec::new(), kind });
    }

    /// More of the open item.
    fn add(&mut self, event: &str, text: &str) {
        let at = self.output.items.len();
        let Some(open) = &mut self.open else { return };
        open.text.push_str(text);
        let mut delta = json!({"item_id": open.id, "output_index": at, "delta": text});
        match open.kind {
            Kind::Message => {
                let logprobs = std::mem::take(&mut self.logprobs);
                delta["content_index"] = json!(0);
                delta["logprobs"] = json!(logprobs);
                open.logprobs.extend(logprobs);
            }
            Kind::Reasoning => delta["content_index"] = json!(0),
            Kind::Call { .. } => {}
        }
        self.send(event, delta);
    }

    /// Ends the open item.
    fn close(&mut self) {
        let Some(Open { id, text, mut logprobs, kind }) = self.open.take() else { return };
        let at = self.output.items.len();
        let place = json!({"item_id": id, "output_index": at});
        let with = |extra: Value| {
            let mut event = place.clone();
            extra.as_object().into_iter().flatten().for_each(|(name, value)| event[name] = value.clone());
            event
        };
        let item = match kind {
            Kind::Message => {
                logprobs.append(&mut self.logprobs);
                let done = with(json!({"content_index": 0, "text": text, "logprobs": logprobs}));
                self.send("response.output_text.done", done);
                let part = text_part(&text, logprobs.clone());
                self.send("response.content_part.done", with(json!({"content_index": 0, "part": part})));
                message_item(&id, &text, logprobs, "completed")
            }
            Kind::Reasoning => {
                self.send("response.reasoning_text.done", with(json!({"content_index": 0, "text": text})));
                reasoning_item(&id, &text)
            }
            Kind::Call { call_id, name } => {
                let done = with(json!({"name": name, "arguments": text}));
                self.send("response.function_call_arguments.done", done);
                call_item(&id, &call_id, &name, &text, "completed")
            }
        };
        self.send("response.output_item.done", json!({"output_index": at, "item": item}));
        self.output.push(item);
    }

    fn end(&mut self, mut ending: Ending) {
        if let Some(call) = ending.tool_call.take() {
            let field = |path: &str| call.pointer(path).and_then(Value::as_str).unwrap_or_default().to_string();
            self.begin(Kind::Call { call_id: field("/id"), name: field("/function/name") }, "fc");
            self.add("response.function_call_arguments.delta", &field("/function/arguments"));
        }
        self.close();
        ending.finish_reason = ending.finish_reason.or(self.finish_reason);
        let response = self.frame.response(&self.output, Some(&ending));
        if let Some((state, key, transcript)) = self.keep.take() {
            state.responses().keep(&key, transcript, &self.output, response.clone());
        }
        let name = if response["status"] == "completed" { "response.completed" } else { "response.incomplete" };
        self.send(name, json!({"response": response}));
    }

    fn fail(&mut self, error: &ApiError) {
        let response = self.frame.failed(&self.output, error);
        self.send("response.failed", json!({"response": response}));
    }
}
