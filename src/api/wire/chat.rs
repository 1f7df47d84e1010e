//! The request of `/v1/chat/completions`.

use serde_json::Value;

use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use super::messages::{TranscriptLimits, messages};
use super::tools::{Tools, response_format, tools};
use crate::llm::{Grammar, PromptMessage, SamplingWishes, ToolChoice};

/// A client that declares this tool gets a support turn's handoff as a call of it.
pub const HANDOFF_TOOL: &str = "transfer_to_human";

/// Fields of the OpenAI API that mean something which this server does not do.
const REFUSED: [(&str, &str); 8] = [
    ("audio", "this server has text only"),
    ("functions", "declare them in \"tools\" instead"),
    ("function_call", "use \"tool_choice\" instead"),
    ("prediction", "answers are not predicted"),
    ("verbosity", "the length is set with \"max_completion_tokens\""),
    ("web_search_options", "nothing leaves this machine"),
    ("moderation", "the filters are set in the knowledge pack"),
    ("best_of", "send \"n\", and choose yourself"),
];

/// Fields without effect here.
const HARMLESS: [&str; 6] =
    ["user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "service_tier"];

/// A chat request, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    pub model: String,
    pub messages: Vec<PromptMessage>,
    pub stream: bool,
    /// `stream_options.include_usage`
    pub include_usage: bool,
    pub sampling: SamplingWishes,
    pub max_tokens: Option<usize>,
    pub stop: Vec<String>,
    /// `logprobs`, with the number of `top_logprobs`.
    pub logprobs: Option<usize>,
    pub tools: Tools,
    /// `response_format`, where it is not plain text.
    pub format: Option<Grammar>,
    /// How many answers (`n`).
    pub count: usize,
    /// Whether the model is to think first; `None`: as the server does.
    pub thinking: Option<bool>,
    pub metadata: Metadata,
}

impl ChatRequest {
    /// The client declared `transfer_to_human` and did not forbid its use.
    pub fn handoff_tool(&self) -> bool {
        self.tools.choice.is_some() && self.tools.list.iter().any(|tool| tool.name == HANDOFF_TOOL)
    }

    /// Refuses what support turns do not have.
    ///
    /// # Errors
    /// Names the field.
    pub fn for_support(&self) -> Result<(), ApiError> {
        let other = self.tools.list.iter().position(|tool| tool.name != HANDOFF_TOOL);
        let refused = [
            (!self.sampling.logit_bias.is_empty(), "logit_bias".to_string()),
            (self.logprobs.is_some(), "logprobs".into()),
            (self.count > 1, "n".into()),
            (self.format.is_some(), "response_format".into()),
            (self.thinking == Some(true), "reasoning_effort".into()),
            (other.is_some(), format!("tools[{}]", other.unwrap_or(0))),
            // A handoff is the operator's decision.
            (!matches!(self.tools.choice, None | Some(ToolChoice::Auto)), "tool_choice".into()),
        ];
        match refused.into_iter().find(|(sent, _)| *sent) {
            None => Ok(()),
            Some((_, param)) => {
                let why = match param.as_str() {
                    "response_format" => {
                        "an operator's answer is text from the knowledge base, its data are in \"support\"; JSON is \
                         written by the bare model"
                    }
                    "tool_choice" => "an operator decides itself when to hand off; send \"auto\" or \"none\"",
                    tools if tools.starts_with("tools[") => "operators call transfer_to_human, and nothing else",
                    _ => "it works with the bare model only",
                };
                let what = other.filter(|_| param.starts_with("tools[")).map_or(&param, |n| &self.tools.list[n].name);
                let message = format!("{what:?} is not for operators: {why}");
                Err(ApiError::unsupported(param, message))
            }
        }
    }
}

/// What `metadata` may say to support turns; other entries are the client's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    pub conversation_id: Option<String>,
    pub channel: Option<String>,
    pub audience: Option<String>,
    /// Put "why this answer" into the `support` field.
    pub trace: bool,
}

/// Reads and validates a request.
///
/// # Errors
/// Each names the field in `param`, the refused value and what would be accepted.
pub fn chat_request(body: Value, limits: TranscriptLimits) -> Result<ChatRequest, ApiError> {
    let mut fields = Fields::new(body, "")?;
    let model = fields.required_string("model")?;
    let messages = messages(fields.take("messages"), limits)?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let include_usage = stream_options(&mut fields, stream)?;
    let (max_tokens, stop) = (max_tokens(&mut fields)?, stop(&mut fields)?);
    let logprobs = logprobs(&mut fields)?;
    let sampling = sampling(&mut fields)?;
    let metadata = metadata(&mut fields)?;
    let tools = tools(&mut fields)?;
    let format = response_format(&mut fields)?;
    if format.is_some() && matches!(tools.choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
        let message = "\"response_format\" and a \"tool_choice\" that demands a call exclude each other";
        return Err(ApiError::invalid("response_format", message));
    }
    let count = fields.count("n", 1..=i64::MAX)?.unwrap_or(1);
    let thinking = thinking(&mut fields)?;
    text_only(&mut fields)?;
    if fields.boolean("store")? == Some(true) {
        let message = "\"store\": true is not supported: conversations are kept as the server's settings say";
        return Err(ApiError::unsupported("store", message));
    }
    fields.refuse(&REFUSED)?;
    fields.ignore(&HARMLESS);
    fields.end()?;
    Ok(ChatRequest {
        model,
        messages,
        stream,
        include_usage,
        sampling,
        max_tokens,
        stop,
        logprobs,
        tools,
        format,
        count,
        thinking,
        metadata,
    })
}

pub(super) fn stream_options(fields: &mut Fields, stream: bool) -> Result<bool, ApiError> {
    let Some(value) = fields.take("stream_options") else { return Ok(false) };
    if !stream {
        let message = "\"stream_options\" is allowed only with \"stream\": true";
        return Err(ApiError::invalid("stream_options", message));
    }
    let mut options = Fields::new(value, "stream_options")?;
    let include_usage = options.boolean("include_usage")?.unwrap_or(false);
    options.ignore(&["include_obfuscation"]);
    options.end()?;
    Ok(include_usage)
}

pub(super) fn max_tokens(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let old = fields.count("max_tokens", 1..=i64::MAX)?;
    let new = fields.count("max_completion_tokens", 1..=i64::MAX)?;
    match (old, new) {
        (Some(old), Some(new)) if old != new => {
            let message = format!("\"max_tokens\" is {old} and \"max_completion_tokens\" is {new}; send one of them");
            Err(ApiError::invalid("max_tokens", message))
        }
        (old, new) => Ok(new.or(old)),
    }
}

pub(super) fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let list = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![Value::String(text)],
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("stop", "a string or a list of strings", &other)),
    };
    if list.len() > 4 {
        return Err(ApiError::invalid("stop", format!("at most 4 stop strings, not {}", list.len())));
    }
    let one = |(n, value): (usize, Value)| match value {
        Value::String(text) if text.is_empty() => {
            Err(ApiError::invalid(format!("stop[{n}]"), "a stop string must not be empty"))
        }
        Value::String(text) => Ok(text),
        other => Err(wrong_type(&format!("stop[{n}]"), "a string", &other)),
    };
    list.into_iter().enumerate().map(one).collect()
}

fn logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    match (wanted, fields.count("top_logprobs", 0..=20)?) {
        (false, Some(_)) => {
            Err(ApiError::invalid("top_logprobs", "\"top_logprobs\" is allowed only with \"logprobs\": true"))
        }
        (false, None) => Ok(None),
        (true, top) => Ok(Some(top.unwrap_or(0))),
    }
}

pub(super) fn sampling(fields: &mut Fields) -> Result<SamplingWishes, ApiError> {
    Ok(SamplingWishes {
        temperature: fields.number("temperature", 0.0..=2.0)?,
        top_p: fields.number("top_p", 0.0..=1.0)?,
        top_k: fields.count("top_k", 0..=1_000_000)?,
        min_p: fields.number("min_p", 0.0..=1.0)?,
        repetition_penalty: fields.number("repetition_penalty", 0.01..=10.0)?,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?,
        logit_bias: logit_bias(fields)?,
        // Two's complement: every 64-bit seed is a different one.
        seed: fields.integer("seed", i64::MIN..=i64::MAX)?.map(i64::cast_unsigned),
    })
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, ApiError> {
    let entries = match fields.take("logit_bias") {
        None => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(other) => return Err(wrong_type("logit_bias", "an object of token ids and numbers", &other)),
    };
    let one = |(token, bias): (String, Value)| {
        let path = format!("logit_bias.{token}");
        let id = token.parse::<u32>().map_err(|_| ApiError::invalid(&path, format!("{token:?} is not a token id")))?;
        match bias.as_f64() {
            Some(value) if (-100.0..=100.0).contains(&value) => Ok((id, value as f32)),
            Some(value) => Err(ApiError::invalid(&path, format!("a bias must be between -100 and 100, not {value}"))),
            None => Err(wrong_type(&path, "a number", &bias)),
        }
    };
    entries.into_iter().map(one).collect()
}

fn metadata(fields: &mut Fields) -> Result<Metadata, ApiError> {
    let Some(value) = fields.take("metadata") else { return Ok(Metadata::default()) };
    let mut entries = Fields::new(value, "metadata")?;
    let trace = match entries.take("trace") {
        None => false,
        Some(Value::Bool(flag)) => flag,
        Some(Value::String(word)) if word == "true" || word == "false" => word == "true",
        Some(other) => return Err(wrong_type("metadata.trace", "true or false", &other)),
    };
    Ok(Metadata {
        conversation_id: short(&mut entries, "conversation_id")?,
        channel: short(&mut entries, "channel")?,
        audience: short(&mut entries, "audience")?,
        trace,
    })
}

/// A word of `metadata`, within OpenAI's length.
fn short(entries: &mut Fields, name: &str) -> Result<Option<String>, ApiError> {
    match entries.string(name)? {
        Some(text) if text.chars().count() > 512 => {
            Err(ApiError::invalid(entries.path(name), format!("{name:?} is longer than 512 characters")))
        }
        Some(text) if text.is_empty() => Ok(None),
        text => Ok(text),
    }
}

/// `reasoning_effort`, or the switch that vLLM and others have for it.
fn thinking(fields: &mut Fields) -> Result<Option<bool>, ApiError> {
    let effort = match fields.string("reasoning_effort")?.as_deref() {
        None => None,
        Some("none") => Some(false),
        Some("minimal" | "low" | "medium" | "high" | "xhigh") => Some(true),
        Some(other) => {
            let message = format!("{other:?} is none of none, minimal, low, medium, high, xhigh");
            return Err(ApiError::invalid("reasoning_effort", message));
        }
    };
    let Some(value) = fields.take("chat_template_kwargs") else { return Ok(effort) };
    let mut options = Fields::new(value, "chat_template_kwargs")?;
    let enabled = options.boolean("enable_thinking")?;
    options.end()?;
    Ok(effort.or(enabled))
}

fn text_only(fields: &mut Fields) -> Result<(), ApiError> {
    match fields.take("modalities") {
        Some(Value::Array(list)) if list.iter().any(|m| m != "text") => {
            Err(ApiError::unsupported("modalities", "of \"modalities\" only \"text\" is supported"))
        }
        Some(Value::Array(_)) | None => Ok(()),
        Some(other) => Err(wrong_type("modalities", "a list", &other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(extra: Value) -> Result<ChatRequest, ApiError> {
        let mut body = json!({"model": "support", "messages": [{"role": "user", "content": "hi"}]});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        chat_request(body, TranscriptLimits { max_messages: 10, max_message_chars: 100 })
    }

    fn param_of(extra: Value) -> String {
        read(extra).unwrap_err().param.unwrap()
    }

    #[test]
    fn a_request_of_an_ordinary_client_is_read() {
        let got = read(json!({
            "stream": true, "stream_options": {"include_usage": true}, "temperature": 0, "top_p": 1, "seed": -1,
            "max_completion_tokens": 7, "stop": "END", "user": "u1", "store": false, "service_tier": "auto", "n": 1,
            "metadata": {"conversation_id": "c", "trace": "true", "own": "thing"}, "response_format": {"type": "text"},
            "tools": [{"type": "function", "function": {"name": "transfer_to_human", "parameters": {}}}],
        }))
        .unwrap();
        assert!(got.stream && got.include_usage && got.handoff_tool() && got.metadata.trace);
        assert_eq!((got.max_tokens, got.stop, got.sampling.seed), (Some(7), vec!["END".to_string()], Some(u64::MAX)));
        assert_eq!(got.metadata.conversation_id.as_deref(), Some("c"));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (extra, param) in [
            (json!({"audio": {"voice": "x"}}), "audio"),
            (json!({"modalities": ["text", "audio"]}), "modalities"),
            (json!({"response_format": {"type": "xml"}}), "response_format.type"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
            (json!({"functions": []}), "functions"),
            (json!({"store": true}), "store"),
            (json!({"web_search_options": {}}), "web_search_options"),
        ] {
            let error = read(extra).unwrap_err();
            assert_eq!((error.param.as_deref(), error.code), (Some(param), "unsupported_parameter"));
        }
        assert_eq!(read(json!({"frobnicate": 1})).unwrap_err().code, "unknown_parameter");
    }

    #[test]
    fn ranges_and_types_are_checked() {
        assert_eq!(param_of(json!({"temperature": 2.5})), "temperature");
        assert_eq!(param_of(json!({"temperature": "hot"})), "temperature");
        assert_eq!(param_of(json!({"top_p": -0.1})), "top_p");
        assert_eq!(param_of(json!({"max_tokens": 0})), "max_tokens");
        assert_eq!(param_of(json!({"max_tokens": 1, "max_completion_tokens": 2})), "max_tokens");
        assert_eq!(param_of(json!({"stop": ["a", "b", "c", "d", "e"]})), "stop");
        assert_eq!(param_of(json!({"stop": [""]})), "stop[0]");
        assert_eq!(param_of(json!({"top_logprobs": 2})), "top_logprobs");
        assert_eq!(param_of(json!({"logprobs": true, "top_logprobs": 21})), "top_logprobs");
        assert_eq!(param_of(json!({"logit_bias": {"x": 1}})), "logit_bias.x");
        assert_eq!(param_of(json!({"logit_bias": {"5": 101}})), "logit_bias.5");
        assert_eq!(param_of(json!({"stream_options": {"include_usage": true}})), "stream_options");
        assert_eq!(param_of(json!({"metadata": {"conversation_id": 5}})), "metadata.conversation_id");
        assert_eq!(param_of(json!({"model": null})), "model");
    }

    #[test]
    fn tool_choice_none_forbids_the_handoff_call() {
        let tool = json!([{"type": "function", "function": {"name": "transfer_to_human"}}]);
        assert!(!read(json!({"tools": tool, "tool_choice": "none"})).unwrap().handoff_tool());
    }

    #[test]
    fn what_only_the_bare_model_does_is_refused_by_name_in_support_turns() {
        let weather = json!({"type": "function", "function": {"name": "weather"}});
        let handoff = json!({"type": "function", "function": {"name": "transfer_to_human"}});
        for (extra, param) in [
            (json!({"n": 2}), "n"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"response_format": {"type": "json_object"}}), "response_format"),
            (json!({"tools": [handoff, weather]}), "tools[1]"),
            (json!({"tools": [handoff], "tool_choice": "required"}), "tool_choice"),
            (json!({"reasoning_effort": "high"}), "reasoning_effort"),
        ] {
            let error = read(extra).unwrap().for_support().unwrap_err();
            assert_eq!((error.param.as_deref(), error.code), (Some(param), "unsupported_parameter"));
        }
        read(json!({"tools": [handoff], "reasoning_effort": "none"})).unwrap().for_support().unwrap();
    }
}
