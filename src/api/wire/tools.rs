//! `tools`, `tool_choice` and `response_format` of a request.

use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::{Fields, wrong_type};
use crate::llm::{Grammar, ToolChoice, ToolSpec};

/// Most tools of one request (OpenAI's limit).
const MOST_TOOLS: usize = 128;

/// What a client declares of tools.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tools {
    pub list: Vec<ToolSpec>,
    /// `None`: none is to be called.
    pub choice: Option<ToolChoice>,
    /// Several calls in one answer.
    pub parallel: bool,
}

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`.
///
/// # Errors
/// Each names the field.
pub fn tools(fields: &mut Fields) -> Result<Tools, ApiError> {
    let list = match fields.take("tools") {
        None => Vec::new(),
        Some(Value::Array(list)) if list.len() > MOST_TOOLS => {
            let message = format!("{} tools were declared; the limit is {MOST_TOOLS}", list.len());
            return Err(ApiError::invalid("tools", message));
        }
        Some(Value::Array(list)) => list.into_iter().enumerate().map(tool).collect::<Result<Vec<_>, _>>()?,
        Some(other) => return Err(wrong_type("tools", "a list", &other)),
    };
    for (n, tool) in list.iter().enumerate() {
        if list[..n].iter().any(|other| other.name == tool.name) {
            let message = format!("the function {:?} is declared twice", tool.name);
            return Err(ApiError::invalid(format!("tools[{n}].function.name"), message));
        }
    }
    let parallel = fields.boolean("parallel_tool_calls")?.unwrap_or(true);
    let mut list = list;
    let choice = match fields.take("tool_choice") {
        Some(value) if value["type"] == "allowed_tools" => allowed(value, &mut list)?,
        value => choice(value, &list)?,
    };
    Ok(Tools { list, choice, parallel })
}

/// A choice that leaves some of the tools, and says whether one of them must be called.
fn allowed(value: Value, list: &mut Vec<ToolSpec>) -> Result<Option<ToolChoice>, ApiError> {
    let mut fields = Fields::new(value, "tool_choice")?;
    fields.ignore(&["type"]);
    let inner = fields.required_object("allowed_tools")?;
    fields.end()?;
    let mut fields = inner;
    let mode = fields.required_string("mode")?;
    let at = fields.path("tools");
    let tools = fields.take("tools").ok_or_else(|| ApiError::missing(&at))?;
    let Value::Array(tools) = tools else { return Err(wrong_type(&at, "a list", &tools)) };
    let mut names = Vec::with_capacity(tools.len());
    for (n, tool) in tools.iter().enumerate() {
        match tool["function"]["name"].as_str().filter(|_| tool["type"] == "function") {
            Some(name) if list.iter().any(|tool| tool.name == name) => names.push(name),
            Some(name) => {
                return Err(ApiError::invalid(
                    format!("{at}[{n}]"),
                    format!("the function {name:?} is not among \"tools\""),
                ));
            }
            None => return Err(ApiError::unsupported(format!("{at}[{n}]"), "only functions can be allowed")),
        }
    }
    if names.is_empty() {
        return Err(ApiError::invalid(at, "no tool is allowed; send \"tool_choice\": \"none\""));
    }
    list.retain(|tool| names.contains(&tool.name.as_str()));
    match mode.as_str() {
        "auto" => Ok(Some(ToolChoice::Auto)),
        "required" => Ok(Some(ToolChoice::Required)),
        other => Err(ApiError::invalid(fields.path("mode"), format!("{other:?} is neither \"auto\" nor \"required\""))),
    }
}

fn tool((n, value): (usize, Value)) -> Result<ToolSpec, ApiError> {
    let mut fields = Fields::new(value, format!("tools[{n}]"))?;
    let kind = fields.required_string("type")?;
    if kind != "function" {
        let message = format!("tools of type {kind:?} are not supported; only functions are");
        return Err(ApiError::unsupported(fields.path("type"), message));
    }
    let function = fields.required_object("function")?;
    fields.end()?;
    let mut fields = function;
    let name = fields.required_string("name")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
    if name.is_empty() || name.len() > 64 || !name.chars().all(legal) {
        let message = format!("a function's name has 1 to 64 letters, digits, '_' and '-', which {name:?} has not");
        return Err(ApiError::invalid(fields.path("name"), message));
    }
    let description = fields.string("description")?.unwrap_or_default();
    let parameters = match fields.take("parameters") {
        Some(Value::Object(schema)) if !schema.is_empty() => Value::Object(schema),
        Some(Value::Object(_)) | None => json!({"type": "object", "properties": {}, "additionalProperties": false}),
        Some(other) => return Err(wrong_type(&fields.path("parameters"), "a JSON schema (an object)", &other)),
    };
    if parameters.get("type").is_some_and(|kind| kind != "object") {
        let message = "a function's parameters are an object; \"type\" must be \"object\"";
        return Err(ApiError::invalid(fields.path("parameters.type"), message));
    }
    // Arguments always keep to their schema here.
    fields.boolean("strict")?;
    fields.end()?;
    let mut parameters = parameters;
    parameters["type"] = json!("object");
    Ok(ToolSpec { name, description, parameters })
}

fn choice(value: Option<Value>, list: &[ToolSpec]) -> Result<Option<ToolChoice>, ApiError> {
    let auto = (!list.is_empty()).then_some(ToolChoice::Auto);
    let choice = match value {
        None => return Ok(auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => return Ok(auto),
            "none" => return Ok(None),
            "required" | "any" => ToolChoice::Required,
            other => {
                let message =
                    format!("\"tool_choice\" is {other:?}; it may be \"auto\", \"none\", \"required\" or a function");
                return Err(ApiError::invalid("tool_choice", message));
            }
        },
        Some(value @ Value::Object(_)) => match (value["type"].as_str(), value["function"]["name"].as_str()) {
            (Some("function"), Some(name)) if list.iter().any(|tool| tool.name == name) => {
                ToolChoice::Named(name.to_string())
            }
            (Some("function"), Some(name)) => {
                let message = format!("the function {name:?} is not among \"tools\"");
                return Err(ApiError::invalid("tool_choice", message));
            }
            _ => {
                let message = "only {\"type\": \"function\", \"function\": {\"name\": …}} can be chosen";
                return Err(ApiError::unsupported("tool_choice", message));
            }
        },
        Some(other) => return Err(wrong_type("tool_choice", "a word or an object", &other)),
    };
    if list.is_empty() {
        return Err(ApiError::invalid("tool_choice", "\"tool_choice\" is allowed only with \"tools\""));
    }
    Ok(Some(choice))
}

/// Reads `response_format`; `None`: plain text.
///
/// # Errors
/// Each names the field.
pub fn response_format(fields: &mut Fields) -> Result<Option<Grammar>, ApiError> {
    let Some(value) = fields.take("response_format") else { return Ok(None) };
    let mut format = Fields::new(value, "response_format")?;
    let kind = format.required_string("type")?;
    let grammar = match kind.as_str() {
        "text" => None,
        "json_object" => Some(Grammar::JsonObject),
        "json_schema" => {
            let mut inner = format.required_object("json_schema")?;
            inner.required_string("name")?;
            inner.string("description")?;
            // Answers always keep to their schema here.
            inner.boolean("strict")?;
            let at = inner.path("schema");
            let Some(schema) = inner.take("schema") else { return Err(ApiError::missing(at)) };
            inner.end()?;
            Some(Grammar::JsonSchema(schema))
        }
        other => {
            let message = format!("{other:?} is none of \"text\", \"json_object\" and \"json_schema\"");
            return Err(ApiError::unsupported("response_format.type", message));
        }
    };
    format.end()?;
    Ok(grammar)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<Tools, ApiError> {
        tools(&mut Fields::new(body, "").unwrap())
    }

    fn format(value: Value) -> Result<Option<Grammar>, ApiError> {
        response_format(&mut Fields::new(json!({"response_format": value}), "").unwrap())
    }

    #[test]
    fn tools_and_the_choice_among_them_are_read() {
        let list =
            json!([{"type": "function", "function": {"name": "now", "description": "the time", "strict": true}}]);
        let got = read(json!({"tools": list})).unwrap();
        assert_eq!((got.list[0].name.as_str(), got.choice, got.parallel), ("now", Some(ToolChoice::Auto), true));
        let named = json!({"type": "function", "function": {"name": "now"}});
        for (choice, wanted) in [
            (json!("none"), None),
            (json!("required"), Some(ToolChoice::Required)),
            (named, Some(ToolChoice::Named("now".into()))),
        ] {
            assert_eq!(read(json!({"tools": list, "tool_choice": choice})).unwrap().choice, wanted);
        }
        assert_eq!(read(json!({})).unwrap(), Tools { parallel: true, ..Tools::default() });
    }

    #[test]
    fn of_the_declared_tools_only_the_allowed_are_left() {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
        let allow = |mode: &str, name: &str| {
            let allowed = json!({"mode": mode, "tools": [tool(name)]});
            read(
                json!({"tools": [tool("a"), tool("b")], "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}),
            )
        };
        let got = allow("required", "b").unwrap();
        assert_eq!((got.list.len(), got.list[0].name.as_str(), got.choice), (1, "b", Some(ToolChoice::Required)));
        assert_eq!(allow("auto", "a").unwrap().choice, Some(ToolChoice::Auto));
        for (mode, name, param) in [("any", "a", "mode"), ("auto", "c", "tools[0]")] {
            let param = format!("tool_choice.allowed_tools.{param}");
            assert_eq!(allow(mode, name).unwrap_err().param, Some(param));
        }
    }

    #[test]
    fn a_fault_is_told_with_its_place() {
        let function = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
        for (body, param) in [
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
            (function(json!({"name": "a b"})), "tools[0].function.name"),
            (function(json!({"name": "a", "parameters": {"type": "array"}})), "tools[0].function.parameters.type"),
            (function(json!({"name": "a", "colour": 1})), "tools[0].function.colour"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"tools": [], "tool_choice": "perhaps"}), "tool_choice"),
            (json!({"tool_choice": {"type": "function", "function": {"name": "b"}}}), "tool_choice"),
        ] {
            assert_eq!(read(body.clone()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
        for (value, param) in [
            (json!({"type": "xml"}), "response_format.type"),
            (json!({"type": "json_schema"}), "response_format.json_schema"),
            (json!({"type": "json_schema", "json_schema": {"name": "a"}}), "response_format.json_schema.schema"),
            (json!({"type": "json_object", "schema": {}}), "response_format.schema"),
        ] {
            assert_eq!(format(value).unwrap_err().param.as_deref(), Some(param));
        }
        assert_eq!(format(json!({"type": "json_object"})).unwrap(), Some(Grammar::JsonObject));
    }
}
