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
    fn object(&self, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model,
            "system_fingerprint": self.fingerprint, "choices": choices,
        })
    }

    /// The whole answer.
    pub fn completion(
        &self,
        message: Value,
        finish_reason: &str,
        logprobs: Option<&[TokenLogprob]>,
        usage: &Usage,
    ) -> Value {
        let choice = json!({
            "index": 0, "message": message, "logprobs": logprobs.map(logprobs_of), "finish_reason": finish_reason,
        });
        let mut answer = self.object("chat.completion", json!([choice]));
        answer["usage"] = usage_of(usage);
        answer
    }

    /// One chunk of a stream.
    pub fn chunk(&self, delta: Value, finish_reason: Option<&str>, logprobs: Option<&[TokenLogprob]>) -> Value {
        let choice = json!({
            "index": 0, "delta": delta, "logprobs": logprobs.map(logprobs_of), "finish_reason": finish_reason,
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
    })
}

fn logprobs_of(tokens: &[TokenLogprob]) -> Value {
    let alternative = |a: &Alternative| json!({"token": a.text, "logprob": a.logprob, "bytes": a.bytes});
    let token = |t: &TokenLogprob| {
        let top: Vec<Value> = t.top.iter().map(alternative).collect();
        json!({"token": t.text, "logprob": t.logprob, "bytes": t.bytes, "top_logprobs": top})
    };
    json!({"content": tokens.iter().map(token).collect::<Vec<_>>(), "refusal": null})
}

/// The assistant's message of a whole answer.
pub fn message_of(text: &str, tool_call: Option<&Value>) -> Value {
    let mut message = json!({"role": "assistant", "content": text, "refusal": null});
    if let Some(call) = tool_call {
        if text.is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = json!([call]);
    }
    message
}

/// A tool call as a stream's delta: the same, with its index.
pub fn tool_call_delta(call: &Value) -> Value {
    let mut call = call.clone();
    call["index"] = json!(0);
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
