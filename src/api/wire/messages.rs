//! The `messages` of a chat request.

use serde_json::Value;

use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use crate::llm::{PromptMessage, ToolCall};

/// Bounds on a transcript, from the settings.
#[derive(Debug, Clone, Copy)]
pub struct TranscriptLimits {
    pub max_messages: usize,
    pub max_message_chars: usize,
}

/// Reads the transcript. `developer` becomes `system`; content may be a string or a list of text parts (joined by
/// line breaks); an assistant's refusal is what it said.
pub fn messages(value: Option<Value>, limits: TranscriptLimits) -> Result<Vec<PromptMessage>, ApiError> {
    let list = match value {
        None => return Err(ApiError::missing("messages")),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("messages", "a list", &other)),
    };
    if list.is_empty() {
        return Err(ApiError::invalid("messages", "\"messages\" is empty; send at least one message"));
    }
    if list.len() > limits.max_messages {
        let message = format!("{} messages were sent; the limit is {}", list.len(), limits.max_messages);
        return Err(ApiError::invalid("messages", format!("{message} (server.max_messages)")));
    }
    list.into_iter().enumerate().map(|(n, value)| message(n, value, limits.max_message_chars)).collect()
}

fn message(n: usize, value: Value, max_chars: usize) -> Result<PromptMessage, ApiError> {
    let mut fields = Fields::new(value, format!("messages[{n}]"))?;
    let role = fields.required_string("role")?;
    let role = match role.as_str() {
        "system" | "developer" => "system",
        "user" | "assistant" | "tool" => role.as_str(),
        other => {
            let message = format!("the role {other:?} is none of system, developer, user, assistant, tool");
            return Err(ApiError::invalid(fields.path("role"), message));
        }
    }
    .to_string();
    let path = fields.path("content");
    let (mut tool_calls, mut tool_call_id) = (Vec::new(), None);
    match role.as_str() {
        "assistant" => {
            tool_calls = calls(&mut fields, max_chars)?;
            // What clients send back of an answer, as they got it.
            fields.ignore(&["refusal", "annotations", "reasoning_content", "reasoning", "function_call"]);
            fields.refuse(&[("audio", "this server has text only")])?;
        }
        "tool" => {
            tool_call_id = Some(fields.required_string("tool_call_id")?);
        }
        _ => {}
    }
    fields.ignore(&["name"]);
    let content = match fields.take("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => text_of_parts(parts, &path, &role)?,
        Some(other) => return Err(wrong_type(&path, "a string or a list of text parts", &other)),
        None if !tool_calls.is_empty() => String::new(),
        None => return Err(ApiError::missing(path)),
    };
    fields.end()?;
    let chars = content.chars().count();
    if chars > max_chars {
        let message = format!("this message has {chars} characters; the limit is {max_chars}");
        return Err(ApiError::invalid(path, format!("{message} (server.max_message_chars)")));
    }
    Ok(PromptMessage { role, content, tool_calls, tool_call_id })
}

/// What an assistant's message called.
fn calls(fields: &mut Fields, max_chars: usize) -> Result<Vec<ToolCall>, ApiError> {
    let path = fields.path("tool_calls");
    let list = match fields.take("tool_calls") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type(&path, "a list", &other)),
    };
    let one = |(n, value): (usize, Value)| {
        let mut call = Fields::new(value, format!("{path}[{n}]"))?;
        call.ignore(&["type", "index"]);
        let id = call.required_string("id")?;
        let mut function = call.required_object("function")?;
        call.end()?;
        let name = function.required_string("name")?;
        let at = function.path("arguments");
        let arguments = match function.take("arguments") {
            None => Value::Object(Default::default()),
            Some(Value::String(text)) if text.len() > max_chars.saturating_mul(4) => {
                return Err(ApiError::invalid(at, "the arguments are longer than server.max_message_chars"));
            }
            Some(Value::String(text)) if text.trim().is_empty() => Value::Object(Default::default()),
            Some(Value::String(text)) => serde_json::from_str(&text)
                .map_err(|error| ApiError::invalid(at, format!("the arguments are not JSON: {error}")))?,
            Some(value) => value,
        };
        function.end()?;
        Ok(ToolCall { id, name, arguments })
    };
    list.into_iter().enumerate().map(one).collect()
}

fn text_of_parts(parts: Vec<Value>, path: &str, role: &str) -> Result<String, ApiError> {
    let mut texts = Vec::with_capacity(parts.len());
    for (n, part) in parts.into_iter().enumerate() {
        let mut fields = Fields::new(part, format!("{path}[{n}]"))?;
        let kind = fields.required_string("type")?;
        if kind != "text" && (kind != "refusal" || role != "assistant") {
            let message = format!("content parts of type {kind:?} are not supported; this server reads text only");
            return Err(ApiError::unsupported(fields.path("type"), message));
        }
        texts.push(fields.required_string(&kind)?);
        fields.end()?;
    }
    Ok(texts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LIMITS: TranscriptLimits = TranscriptLimits { max_messages: 3, max_message_chars: 10 };

    fn read(value: Value) -> Result<Vec<PromptMessage>, ApiError> {
        messages(Some(value), LIMITS)
    }

    #[test]
    fn parts_are_joined_and_developer_is_system() {
        let got = read(json!([
            {"role": "developer", "content": "be kind"},
            {"role": "user", "name": "ann", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ]))
        .unwrap();
        assert_eq!((got[0].role.as_str(), got[1].content.as_str()), ("system", "a\nb"));
    }

    #[test]
    fn what_an_assistant_refused_stands_in_its_transcript() {
        let part = json!([{"type": "refusal", "refusal": "no"}]);
        assert_eq!(read(json!([{"role": "assistant", "content": part}])).unwrap()[0].content, "no");
        let error = read(json!([{"role": "user", "content": part}])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("messages[0].content[0].type"));
    }

    #[test]
    fn an_image_part_is_refused_by_name() {
        let parts = json!([{"type": "image_url", "image_url": {"url": "data:"}}]);
        let error = read(json!([{"role": "user", "content": parts}])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("messages[0].content[0].type"));
        assert!(error.message.contains("image_url"), "{}", error.message);
    }

    #[test]
    fn a_tool_call_and_its_result_may_stand_in_a_transcript() {
        let got = read(json!([
            {"role": "assistant", "content": null,
             "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "done"},
        ]))
        .unwrap();
        assert_eq!((got[0].tool_calls[0].name.as_str(), &got[0].tool_calls[0].arguments), ("f", &json!({"a": 1})));
        assert_eq!((got[1].content.as_str(), got[1].tool_call_id.as_deref()), ("done", Some("c")));
        let broken =
            json!([{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]}]);
        let error = read(broken).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("messages[0].tool_calls[0].function.arguments"));
    }

    #[test]
    fn limits_are_told_with_the_numbers() {
        let one = json!({"role": "user", "content": "hello"});
        let error = read(json!([one, one, one, one])).unwrap_err();
        assert!(error.message.contains('4') && error.message.contains('3'), "{}", error.message);
        let error = read(json!([{"role": "user", "content": "ы".repeat(11)}])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("messages[0].content"));
        assert!(error.message.contains("11"), "{}", error.message);
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(messages(None, LIMITS).unwrap_err().param.as_deref(), Some("messages"));
        assert_eq!(read(json!([])).unwrap_err().param.as_deref(), Some("messages"));
        assert_eq!(read(json!([{"content": "a"}])).unwrap_err().param.as_deref(), Some("messages[0].role"));
        assert_eq!(read(json!([{"role": "user"}])).unwrap_err().param.as_deref(), Some("messages[0].content"));
        assert_eq!(read(json!([{"role": "boss", "content": ""}])).unwrap_err().code, "invalid_value");
    }
}
