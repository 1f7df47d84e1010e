//! The answer of `/v1/responses`: its items, and the frame that they stand in.

use serde_json::{Value, json};

use super::super::answer::Ending;
use super::completion::{Envelope, Gathered, token_logprobs, tool_call};
use super::error::ApiError;
use super::responses::ResponsesRequest;
use crate::llm::Usage;

/// An answer's items.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    pub items: Vec<Value>,
    text: String,
    calls: Vec<Value>,
}

impl Output {
    /// Adds an item that is complete.
    pub fn push(&mut self, item: Value) {
        match item["type"].as_str() {
            Some("message") => self.text = item["content"][0]["text"].as_str().unwrap_or_default().to_string(),
            Some("function_call") => {
                let field = |name: &str| item[name].as_str().unwrap_or_default();
                self.calls.push(tool_call(field("call_id"), field("name"), field("arguments")));
            }
            _ => {}
        }
        self.items.push(item);
    }

    /// The answer as a chat message, for the next request.
    pub fn as_message(&self) -> Value {
        let mut message = json!({"role": "assistant", "content": self.text});
        if !self.calls.is_empty() {
            message["tool_calls"] = json!(self.calls);
        }
        message
    }
}

/// A whole answer as items: the thought, the words, the calls.
pub fn output_of(answer: Gathered, ending: &Ending) -> Output {
    let mut output = Output::default();
    if !answer.reasoning.is_empty() {
        output.push(reasoning_item(&new_id("rs"), &answer.reasoning));
    }
    let calls = answer.calls.into_iter().chain(ending.tool_call.clone()).collect::<Vec<_>>();
    if !answer.text.is_empty() || calls.is_empty() {
        let logprobs = token_logprobs(&answer.logprobs);
        output.push(message_item(&new_id("msg"), &answer.text, logprobs, "completed"));
    }
    for call in calls {
        let field = |path: &str| call.pointer(path).and_then(Value::as_str).unwrap_or_default();
        output.push(call_item(
            &new_id("fc"),
            field("/id"),
            field("/function/name"),
            field("/function/arguments"),
            "completed",
        ));
    }
    output
}

pub fn new_id(kind: &str) -> String {
    format!("{kind}_{}", uuid::Uuid::new_v4().simple())
}

pub fn message_item(id: &str, text: &str, logprobs: Vec<Value>, status: &str) -> Value {
    let content = if status == "completed" { json!([text_part(text, logprobs)]) } else { json!([]) };
    json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
}

pub fn text_part(text: &str, logprobs: Vec<Value>) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
}

pub fn call_item(id: &str, call_id: &str, name: &str, arguments: &str, status: &str) -> Value {
    json!({
        "id": id, "type": "function_call", "status": status, "call_id": call_id, "name": name, "arguments": arguments,
    })
}

pub fn reasoning_item(id: &str, text: &str) -> Value {
    json!({
        "id": id, "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}],
    })
}

/// What all states of one response share.
#[derive(Debug, Clone)]
pub struct Frame {
    id: String,
    created: i64,
    model: String,
    repeated: Value,
}

impl Frame {
    pub fn new(envelope: &Envelope, request: &ResponsesRequest) -> Self {
        Self {
            id: envelope.id.clone(),
            created: envelope.created,
            model: envelope.model.clone(),
            repeated: request.repeated.clone(),
        }
    }

    /// The response: in progress without an ending, else completed or incomplete.
    pub fn response(&self, output: &Output, ending: Option<&Ending>) -> Value {
        let cut = ending.and_then(|ending| ending.finish_reason).and_then(|reason| match reason {
            "length" => Some("max_output_tokens"),
            "content_filter" => Some("content_filter"),
            _ => None,
        });
        let status = match (ending, cut) {
            (None, _) => "in_progress",
            (Some(_), None) => "completed",
            (Some(_), Some(_)) => "incomplete",
        };
        let mut response = json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status, "error": null,
            "incomplete_details": cut.map(|reason| json!({"reason": reason})), "model": self.model,
            "output": output.items, "usage": ending.map(|ending| usage_of(&ending.usage)), "truncation": "disabled",
        });
        for (name, default) in [
            ("instructions", Value::Null),
            ("metadata", json!({})),
            ("previous_response_id", Value::Null),
            ("store", json!(true)),
            ("temperature", json!(1.0)),
            ("top_p", json!(1.0)),
            ("top_logprobs", json!(0)),
            ("max_output_tokens", Value::Null),
            ("tools", json!([])),
            ("tool_choice", json!("auto")),
            ("parallel_tool_calls", json!(true)),
            ("text", json!({"format": {"type": "text"}})),
            ("reasoning", json!({"effort": null, "summary": null})),
        ] {
            response[name] = self.repeated.get(name).cloned().unwrap_or(default);
        }
        if let Some((support, _)) = ending.and_then(|ending| ending.support.as_ref()) {
            response["support"] = support.clone();
        }
        response
    }

    /// A response that failed on its way.
    pub fn failed(&self, output: &Output, error: &ApiError) -> Value {
        let mut response = self.response(output, None);
        response["status"] = json!("failed");
        response["error"] = json!({"code": error.code, "message": error.message});
        response
    }
}

fn usage_of(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.prompt_tokens, "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens, "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}
