//! The request and the answer of `/v1/completions`: a prompt as it is, without a chat template.

use serde_json::{Value, json};

use super::chat::{max_tokens, sampling, stop, stream_options};
use super::completion::{Envelope, usage_of};
use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use crate::llm::{SamplingWishes, TokenLogprob, Usage};

const REFUSED: [(&str, &str); 1] = [("suffix", "the models here continue a text, they fill no gaps")];

/// Most prompts of one request.
const MOST_PROMPTS: usize = 128;

/// A completions request, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionsRequest {
    pub model: String,
    /// At least one; each gets `count` answers, in this order.
    pub prompts: Vec<PromptText>,
    pub stream: bool,
    pub include_usage: bool,
    pub sampling: SamplingWishes,
    pub max_tokens: usize,
    pub stop: Vec<String>,
    /// `logprobs`: how many alternatives.
    pub logprobs: Option<usize>,
    pub count: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PromptText {
    Text(String),
    Tokens(Vec<u32>),
}

/// Reads and validates a request.
///
/// # Errors
/// Each names the field.
pub fn completions_request(body: Value, max_chars: usize) -> Result<CompletionsRequest, ApiError> {
    let mut fields = Fields::new(body, "")?;
    let model = fields.required_string("model")?;
    let prompts = prompts(fields.take("prompt"), max_chars)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let include_usage = stream_options(&mut fields, stream)?;
    // OpenAI's default here.
    let max_tokens = max_tokens(&mut fields)?.unwrap_or(16);
    let stop = stop(&mut fields)?;
    let logprobs = fields.count("logprobs", 0..=20)?;
    let sampling = sampling(&mut fields)?;
    let count = fields.count("n", 1..=i64::MAX)?.unwrap_or(1);
    if fields.boolean("echo")? == Some(true) {
        return Err(ApiError::unsupported("echo", "\"echo\" is not supported: the prompt is yours already"));
    }
    if fields.integer("best_of", 1..=i64::MAX)?.is_some_and(|best| best > 1) {
        return Err(ApiError::unsupported("best_of", "\"best_of\" is not supported: send \"n\", and choose yourself"));
    }
    fields.refuse(&REFUSED)?;
    fields.ignore(&["user"]);
    fields.end()?;
    Ok(CompletionsRequest { model, prompts, stream, include_usage, sampling, max_tokens, stop, logprobs, count })
}

/// One prompt, or a list of them.
fn prompts(value: Option<Value>, max_chars: usize) -> Result<Vec<PromptText>, ApiError> {
    let list = match value {
        None => return Err(ApiError::missing("prompt")),
        Some(Value::Array(list)) if list.first().is_some_and(|first| !first.is_number()) => list,
        Some(one) => return prompt("prompt".into(), one, max_chars).map(|prompt| vec![prompt]),
    };
    if list.len() > MOST_PROMPTS {
        let message = format!("{} prompts were sent; the limit is {MOST_PROMPTS}", list.len());
        return Err(ApiError::invalid("prompt", message));
    }
    list.into_iter().enumerate().map(|(n, one)| prompt(format!("prompt[{n}]"), one, max_chars)).collect()
}

fn prompt(path: String, value: Value, max_chars: usize) -> Result<PromptText, ApiError> {
    match value {
        Value::String(text) if text.is_empty() => Err(ApiError::invalid(path, "a prompt must not be empty")),
        Value::String(text) => {
            let chars = text.chars().count();
            if chars > max_chars {
                let message = format!("the prompt has {chars} characters; the limit is {max_chars}");
                return Err(ApiError::invalid(path, format!("{message} (server.max_message_chars)")));
            }
            Ok(PromptText::Text(text))
        }
        Value::Array(list) if list.is_empty() => Err(ApiError::invalid(path, "a prompt must not be empty")),
        Value::Array(list) => {
            let token = |(n, value): (usize, &Value)| {
                let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
                id.ok_or_else(|| ApiError::invalid(format!("{path}[{n}]"), format!("{value} is no token's number")))
            };
            Ok(PromptText::Tokens(list.iter().enumerate().map(token).collect::<Result<_, _>>()?))
        }
        other => Err(wrong_type(&path, "a text, a list of token numbers, or a list of these", &other)),
    }
}

impl Envelope {
    /// One choice of a text completion; in a stream `finish_reason` comes with the last.
    pub fn text_choice(
        &self,
        index: usize,
        text: &str,
        logprobs: Option<(&[TokenLogprob], usize)>,
        finish_reason: Option<&str>,
    ) -> Value {
        json!({
            "index": index, "text": text, "finish_reason": finish_reason,
            "logprobs": logprobs.map(|(tokens, from)| text_logprobs(tokens, from)),
        })
    }

    /// A text completion, or a chunk of one.
    pub fn text_completion(&self, choices: Vec<Value>, usage: Option<&Usage>) -> Value {
        let mut body = self.object("text_completion", json!(choices));
        if let Some(usage) = usage {
            body["usage"] = usage_of(usage);
        }
        body
    }
}

/// The old shape: parallel lists. `from`: characters of the answer before these tokens.
fn text_logprobs(tokens: &[TokenLogprob], from: usize) -> Value {
    let mut offset = from;
    let mut offsets = Vec::with_capacity(tokens.len());
    for token in tokens {
        offsets.push(offset);
        offset += token.text.chars().count();
    }
    let top = |token: &TokenLogprob| -> Value {
        token
            .top
            .iter()
            .map(|other| (other.text.clone(), json!(other.logprob)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    json!({
        "tokens": tokens.iter().map(|token| token.text.as_str()).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: Value) -> Result<CompletionsRequest, ApiError> {
        let mut body = json!({"model": "m", "prompt": "Once"});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        completions_request(body, 10)
    }

    #[test]
    fn a_text_or_tokens_are_continued() {
        assert_eq!(read(json!({})).unwrap().max_tokens, 16);
        assert_eq!(read(json!({"prompt": ["a"]})).unwrap().prompts, [PromptText::Text("a".into())]);
        assert_eq!(read(json!({"prompt": [1, 2]})).unwrap().prompts, [PromptText::Tokens(vec![1, 2])]);
        let several = read(json!({"prompt": ["a", "b"]})).unwrap().prompts;
        assert_eq!(several, [PromptText::Text("a".into()), PromptText::Text("b".into())]);
        let several = read(json!({"prompt": [[1], [2, 3]]})).unwrap().prompts;
        assert_eq!(several, [PromptText::Tokens(vec![1]), PromptText::Tokens(vec![2, 3])]);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (extra, param) in [
            (json!({"suffix": "x"}), "suffix"),
            (json!({"echo": true}), "echo"),
            (json!({"best_of": 2}), "best_of"),
            (json!({"prompt": ["a", ""]}), "prompt[1]"),
            (json!({"prompt": [[1], []]}), "prompt[1]"),
            (json!({"prompt": vec!["a"; 129]}), "prompt"),
            (json!({"prompt": {"a": 1}}), "prompt"),
            (json!({"prompt": "more than ten"}), "prompt"),
            (json!({"prompt": [-1]}), "prompt[0]"),
            (json!({"messages": []}), "messages"),
        ] {
            assert_eq!(read(extra).unwrap_err().param.as_deref(), Some(param));
        }
        read(json!({"echo": false, "best_of": 1, "n": 1})).unwrap();
    }
}
