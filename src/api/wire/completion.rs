//! The answer of `/v1/chat/completions`, whole or in chunks.

use serde_json::{Value, json};

use crate::llm::{Alternative, TokenLogprob, Usage};

/// What all chunks of one answer share.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// `chatcmpl-…`
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    pub model: String,
    /// Changes with the model's file, the program's version and the backend.
    pub fingerprint: String,
}

impl Envelope {
    pub(super) fn object(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "system_fingerprint": self.fingerprint, "choices": choices,
        })
    }

    /// The whole answer.
    pub fn completion(&self, choices: Vec<Value>, usage: &Usage) -> Value {
        let mut answer = self.object("chat.completion", json!(choices));
        answer["usage"] = usage_of(usage);
        answer
    }

    /// One chunk of a stream.
    pub fn chunk(
        &self,
        choice: usize,
        delta: Value,
        finish_reason: Option<&str>,
        logprobs: Option<&[TokenLogprob]>,
    ) -> Value {
        let choice = json!({
            "index": choice, "delta": delta, "logprobs": logprobs.map(logprobs_of), "finish_reason": finish_reason,
        });
        self.object("chat.completion.chunk", json!([choice]))
    }

    /// The last chunk, for `stream_options.include_usage`.
    pub fn usage_chunk(&self, usage: &Usage) -> Value {
        let mut chunk = self.object("chat.completion.chunk", json!([]));
        chunk["usage"] = usage_of(usage);
        chunk
    }
}

pub fn usage_of(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    })
}

fn logprobs_of(tokens: &[TokenLogprob]) -> Value {
    json!({"content": token_logprobs(tokens), "refusal": null})
}

/// Tokens with their probabilities, and those of others in their places.
pub fn token_logprobs(tokens: &[TokenLogprob]) -> Vec<Value> {
    let alternative = |a: &Alternative| json!({"token": a.text, "logprob": a.logprob, "bytes": a.bytes});
    let token = |t: &TokenLogprob| {
        let top: Vec<Value> = t.top.iter().map(alternative).collect();
        json!({"token": t.text, "logprob": t.logprob, "bytes": t.bytes, "top_logprobs": top})
    };
    tokens.iter().map(token).collect()
}

/// One choice of a whole answer, as it is gathered.
#[derive(Debug, Default)]
pub struct Gathered {
    pub text: String,
    pub reasoning: String,
    pub calls: Vec<Value>,
    pub logprobs: Vec<TokenLogprob>,
    pub finish_reason: &'static str,
}

impl Gathered {
    /// More of a call's arguments.
    pub fn add_arguments(&mut self, index: usize, text: &str) {
        if let Some(arguments) = self.calls.get_mut(index).and_then(|call| call.pointer_mut("/function/arguments")) {
            *arguments = Value::from(format!("{}{text}", arguments.as_str().unwrap_or_default()));
        }
    }

    /// The choice on the wire.
    pub fn choice(&self, index: usize, want_logprobs: bool) -> Value {
        let mut message = json!({"role": "assistant", "content": self.text, "refusal": null});
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(self.reasoning);
        }
        if !self.calls.is_empty() {
            if self.text.is_empty() {
                message["content"] = Value::Null;
            }
            message["tool_calls"] = json!(self.calls);
        }
        let logprobs = want_logprobs.then(|| logprobs_of(&self.logprobs));
        json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": self.finish_reason})
    }
}

/// A call of a client's function.
pub fn tool_call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

pub fn new_call_id() -> String {
    format!("call_{}", uuid::Uuid::new_v4().simple())
}

/// A tool call, or more of one, as a stream's delta: the same, with its index.
pub fn tool_call_delta(index: usize, mut call: Value) -> Value {
    call["index"] = json!(index);
    json!({"tool_calls": [call]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_adds_up_and_tells_what_was_cached() {
        let usage = Usage { prompt_tokens: 10, cached_tokens: 8, completion_tokens: 3, ..Usage::default() };
        let value = usage_of(&usage);
        assert_eq!(value["total_tokens"], 13);
        assert_eq!(value["prompt_tokens_details"]["cached_tokens"], 8);
    }
}
