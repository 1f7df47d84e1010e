//! The request of `/v1/responses`, in the shape of a chat request.

use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::fields::{Fields, wrong_type};

const REFUSED: [(&str, &str); 9] = [
    ("background", "answers are given while the client waits"),
    ("conversation", "send \"previous_response_id\", or metadata.conversation_id to an operator"),
    ("prompt", "there are no stored prompts; send \"instructions\" and \"input\""),
    ("max_tool_calls", "tools are called by the client"),
    ("context_management", "nothing is cut or summed up"),
    ("moderation", "the filters are set in the knowledge pack"),
    ("image", "this server has text only"),
    ("access_programs", "keys and their scopes are set in the server's settings"),
    ("access_policy", "keys and their scopes are set in the server's settings"),
];

/// A responses request, validated as far as it differs from a chat request.
#[derive(Debug, Clone, PartialEq)]
pub struct ResponsesRequest {
    pub previous: Option<String>,
    pub stream: bool,
    pub store: bool,
    pub instructions: Option<String>,
    /// Chat messages: what came before, and the input.
    pub transcript: Vec<Value>,
    /// The other fields, as chat names them.
    chat: Map<String, Value>,
    /// What the answer repeats of the request.
    pub repeated: Value,
}

impl ResponsesRequest {
    /// Puts an earlier conversation in front.
    pub fn go_on_from(&mut self, mut earlier: Vec<Value>) {
        earlier.append(&mut self.transcript);
        self.transcript = earlier;
    }

    /// The same as a request of `/v1/chat/completions`. Instructions are of this request only.
    pub fn chat_body(&self) -> Value {
        let system = self.instructions.iter().map(|text| json!({"role": "system", "content": text}));
        let mut body = self.chat.clone();
        body.insert("messages".into(), system.chain(self.transcript.iter().cloned()).collect());
        Value::Object(body)
    }
}

/// Reads a request.
///
/// # Errors
/// Each names the field.
pub fn responses_request(body: Value) -> Result<ResponsesRequest, ApiError> {
    let mut fields = Fields::new(body, "")?;
    let model = fields.required_string("model")?;
    let instructions = fields.string("instructions")?;
    let transcript = match fields.take("input") {
        None => return Err(ApiError::missing("input")),
        Some(Value::String(text)) => vec![json!({"role": "user", "content": text})],
        Some(Value::Array(items)) => input(items)?,
        Some(other) => return Err(wrong_type("input", "a text or a list of items", &other)),
    };
    let mut chat = Map::new();
    chat.insert("model".into(), json!(model));
    let mut repeated = json!({});
    for name in ["temperature", "top_p", "metadata", "parallel_tool_calls", "user", "seed", "stop", "top_k", "min_p"] {
        if let Some(value) = fields.take(name) {
            repeated[name] = value.clone();
            chat.insert(name.into(), value);
        }
    }
    if let Some(most) = fields.take("max_output_tokens") {
        repeated["max_output_tokens"] = most.clone();
        chat.insert("max_completion_tokens".into(), most);
    }
    if let Some(tools) = fields.take("tools") {
        repeated["tools"] = tools.clone();
        chat.insert("tools".into(), nested_tools(tools)?);
    }
    if let Some(choice) = fields.take("tool_choice") {
        repeated["tool_choice"] = choice.clone();
        chat.insert("tool_choice".into(), nested_choice(choice));
    }
    if let Some(text) = fields.take("text") {
        repeated["text"] = text.clone();
        if let Some(format) = format_of(text)? {
            chat.insert("response_format".into(), format);
        }
    }
    if let Some(reasoning) = fields.take("reasoning") {
        repeated["reasoning"] = reasoning.clone();
        let mut reasoning = Fields::new(reasoning, "reasoning")?;
        if let Some(effort) = reasoning.string("effort")? {
            chat.insert("reasoning_effort".into(), json!(effort));
        }
        reasoning
            .refuse(&[("summary", "the train of thought is given as it is"), ("generate_summary", "as summary")])?;
        reasoning.end()?;
    }
    match fields.string("truncation")?.as_deref() {
        None | Some("disabled") => {}
        Some(other) => {
            let message = format!("\"truncation\" is {other:?}: nothing is cut in silence here; send \"disabled\"");
            return Err(ApiError::unsupported("truncation", message));
        }
    }
    let top_logprobs = fields.count("top_logprobs", 0..=20)?;
    if included_logprobs(fields.take("include"))? || top_logprobs.is_some() {
        chat.insert("logprobs".into(), json!(true));
    }
    if let Some(top) = top_logprobs {
        repeated["top_logprobs"] = json!(top);
        chat.insert("top_logprobs".into(), json!(top));
    }
    let previous = fields.string("previous_response_id")?;
    let stream = fields.boolean("stream")?.unwrap_or(false);
    let store = fields.boolean("store")?.unwrap_or(true);
    if fields.boolean("background")? == Some(true) {
        return Err(ApiError::unsupported("background", "\"background\" is not supported: answers are given at once"));
    }
    fields.refuse(&REFUSED)?;
    fields.ignore(&[
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "stream_options",
    ]);
    fields.end()?;
    repeated["previous_response_id"] = json!(previous);
    repeated["instructions"] = json!(instructions);
    repeated["store"] = json!(store);
    Ok(ResponsesRequest { previous, stream, store, instructions, transcript, chat, repeated })
}

/// Items to chat messages.
fn input(items: Vec<Value>) -> Result<Vec<Value>, ApiError> {
    let mut messages: Vec<Value> = Vec::with_capacity(items.len());
    for (n, item) in items.into_iter().enumerate() {
        let at = format!("input[{n}]");
        let mut fields = Fields::new(item, at.as_str())?;
        fields.ignore(&["id", "status"]);
        match fields.string("type")?.as_deref() {
            None | Some("message") => {
                let role = fields.required_string("role")?;
                let content = match fields.take("content") {
                    Some(Value::Array(parts)) => parts
                        .into_iter()
                        .enumerate()
                        .map(|(p, part)| part_of(part, &format!("{at}.content[{p}]")))
                        .collect::<Result<Value, _>>()?,
                    Some(other) => other,
                    None => return Err(ApiError::missing(format!("{at}.content"))),
                };
                messages.push(json!({"role": role, "content": content}));
            }
            Some("function_call") => {
                let (name, arguments) = (fields.required_string("name")?, fields.required_string("arguments")?);
                let call = super::completion::tool_call(&fields.required_string("call_id")?, &name, &arguments);
                match messages.last_mut().and_then(|last| last.get_mut("tool_calls")).and_then(Value::as_array_mut) {
                    Some(calls) => calls.push(call),
                    None => messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]})),
                }
            }
            Some("function_call_output") => {
                let id = fields.required_string("call_id")?;
                let output = match fields.take("output") {
                    Some(Value::String(text)) => text,
                    Some(other) => other.to_string(),
                    None => return Err(ApiError::missing(format!("{at}.output"))),
                };
                messages.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
            }
            // A client sends back what it got; the model does not read its old thoughts.
            Some("reasoning") => fields.ignore(&["summary", "content", "encrypted_content"]),
            Some(other) => {
                let message = format!("input items of type {other:?} are not supported");
                return Err(ApiError::unsupported(format!("{at}.type"), message));
            }
        }
        fields.end()?;
    }
    Ok(messages)
}

fn part_of(part: Value, at: &str) -> Result<Value, ApiError> {
    let mut fields = Fields::new(part, at)?;
    let kind = fields.required_string("type")?;
    if !["input_text", "output_text", "text"].contains(&kind.as_str()) {
        let message = format!("content of type {kind:?} is not supported; this server reads text only");
        return Err(ApiError::unsupported(fields.path("type"), message));
    }
    let text = fields.required_string("text")?;
    fields.ignore(&["annotations", "logprobs"]);
    fields.end()?;
    Ok(json!({"type": "text", "text": text}))
}

/// Reads `include`: whether log-probabilities are asked for. A train of thought is given as it is in any case, so
/// `reasoning.encrypted_content` adds nothing.
fn included_logprobs(include: Option<Value>) -> Result<bool, ApiError> {
    let list = match include {
        None => return Ok(false),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("include", "a list", &other)),
    };
    let known = ["message.output_text.logprobs", "reasoning.encrypted_content"];
    match list.iter().find(|wanted| !known.iter().any(|known| *wanted == known)) {
        Some(other) => Err(ApiError::unsupported("include", format!("{other} cannot be included"))),
        None => Ok(list.iter().any(|wanted| wanted == known[0])),
    }
}

/// A choice of tools is flat here, and nested in chat.
fn nested_choice(choice: Value) -> Value {
    let nested = |choice: &Value| json!({"type": "function", "function": {"name": choice["name"]}});
    match choice["type"].as_str() {
        Some("function") => nested(&choice),
        Some("allowed_tools") => {
            let mut allowed = json!({"mode": choice["mode"], "tools": choice["tools"]});
            for tool in allowed["tools"].as_array_mut().into_iter().flatten().filter(|tool| tool["type"] == "function")
            {
                *tool = nested(tool);
            }
            json!({"type": "allowed_tools", "allowed_tools": allowed})
        }
        _ => choice,
    }
}

/// Tools are flat here, and nested in chat.
fn nested_tools(tools: Value) -> Result<Value, ApiError> {
    let list = match tools {
        Value::Array(list) => list,
        other => return Err(wrong_type("tools", "a list", &other)),
    };
    let nested = |(n, tool): (usize, Value)| match tool {
        Value::Object(mut function) if function.get("type") == Some(&json!("function")) => {
            function.remove("type");
            function.retain(|_, value| !value.is_null());
            Ok(json!({"type": "function", "function": function}))
        }
        Value::Object(other) => {
            let kind = other.get("type").cloned().unwrap_or_default();
            let message = format!("tools of type {kind} are not supported; only functions are");
            Err(ApiError::unsupported(format!("tools[{n}].type"), message))
        }
        other => Err(wrong_type(&format!("tools[{n}]"), "an object", &other)),
    };
    list.into_iter().enumerate().map(nested).collect()
}

/// `text.format` as a `response_format`.
fn format_of(text: Value) -> Result<Option<Value>, ApiError> {
    let mut fields = Fields::new(text, "text")?;
    fields.refuse(&[("verbosity", "the length is set with \"max_output_tokens\"")])?;
    let format = fields.take("format");
    fields.end()?;
    Ok(match format {
        Some(Value::Object(mut format)) if format.get("type") == Some(&json!("json_schema")) => {
            format.remove("type");
            Some(json!({"type": "json_schema", "json_schema": format}))
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::super::items::{Output, call_item, message_item};
    use super::*;

    fn read(extra: Value) -> Result<ResponsesRequest, ApiError> {
        let mut body = json!({"model": "m", "input": "hi"});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        responses_request(body)
    }

    #[test]
    fn a_request_becomes_a_chat_request() {
        let chat = read(json!({
            "instructions": "Be kind.", "max_output_tokens": 9, "tool_choice": {"type": "function", "name": "f"},
            "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": null}],
            "include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 2,
            "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}},
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_1", "status": "completed"},
                {"type": "function_call_output", "call_id": "c", "output": "done"},
            ],
        }))
        .unwrap()
        .chat_body();
        assert_eq!(chat["messages"][0], json!({"role": "system", "content": "Be kind."}));
        assert_eq!(chat["messages"][1]["content"][0]["text"], "hi");
        assert_eq!(chat["messages"][2]["tool_calls"][0]["function"]["name"], "f");
        assert_eq!(chat["messages"][3], json!({"role": "tool", "tool_call_id": "c", "content": "done"}));
        assert_eq!(
            (&chat["max_completion_tokens"], &chat["tool_choice"]["function"]["name"]),
            (&json!(9), &json!("f"))
        );
        assert_eq!(chat["tools"][0], json!({"type": "function", "function": {"name": "f", "parameters": {}}}));
        assert_eq!(chat["response_format"]["json_schema"]["name"], "x");
        assert_eq!((&chat["logprobs"], &chat["top_logprobs"]), (&json!(true), &json!(2)));
        let allowed = json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]});
        let choice = read(json!({"tool_choice": allowed})).unwrap().chat_body()["tool_choice"].clone();
        assert_eq!(choice["allowed_tools"]["tools"][0]["function"]["name"], "f");
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (extra, param) in [
            (json!({"background": true}), "background"),
            (json!({"truncation": "auto"}), "truncation"),
            (json!({"include": ["file_search_call.results"]}), "include"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
            (json!({"input": [{"type": "item_reference", "id": "x"}]}), "input[0].type"),
            (json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}), "input[0].content[0].type"),
            (json!({"input": null}), "input"),
            (json!({"colour": 1}), "colour"),
            (json!({"reasoning": {"summary": "auto"}}), "reasoning.summary"),
        ] {
            assert_eq!(read(extra.clone()).unwrap_err().param.as_deref(), Some(param), "{extra}");
        }
    }

    #[test]
    fn an_answer_goes_on_where_the_earlier_one_ended() {
        let mut output = Output::default();
        output.push(message_item("m", "Hello", Vec::new(), "completed"));
        output.push(call_item("f", "c", "now", "{}", "completed"));
        let mut next = read(json!({})).unwrap();
        next.go_on_from(vec![json!({"role": "user", "content": "first"}), output.as_message()]);
        let chat = next.chat_body();
        assert_eq!(chat["messages"][1]["content"], "Hello");
        assert_eq!(chat["messages"][1]["tool_calls"][0]["id"], "c");
        assert_eq!(chat["messages"][2]["content"], "hi");
    }
}
