//! Tools: how a model is told of them, in which format it calls them, and how its calls are read.
//!
//! Four formats are known, told apart by how the model's own chat template spells a call: Hermes' (also Qwen's;
//! `<tool_call>` marks), Llama 3's (a bare JSON object), Mistral's (`[TOOL_CALLS]` and a list) and that of its newer models
//! (`[TOOL_CALLS]name[ARGS]{…}`). A model whose template knows no tools, or spells calls in another way, is told of them in
//! the system message, in Hermes' words, and its calls are bound to that format: so any model can call.
//!
//! A call is written under a grammar: the name is one of the declared, the arguments are what its JSON schema takes.

mod parse;

use serde::Serialize;
use serde_json::{Value, json};

use super::constraint::{Grammar, Marker, prepared};
use super::template::python_json;
use super::{LlmError, PromptMessage};
pub use parse::{ToolParser, ToolPart};

/// Before a call's id, in some of Mistral's templates.
const CALL_ID: &str = "[CALL_ID]";

/// Most calls in one answer, beside the first: a weak model would go on calling.
const MORE_CALLS: usize = 7;

/// A function that the client declares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    /// JSON schema of the arguments.
    pub parameters: Value,
}

/// A call that the assistant made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub arguments: Value,
}

/// Whether tools are to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    Auto,
    /// At least one call.
    Required,
    /// A call of this one.
    Named(String),
}

/// How a model writes its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolFormat {
    Hermes,
    Llama,
    Mistral,
    /// Mistral's from its tokenizer's version 11 on: the name stands before its arguments; with `ids` (version 11), the
    /// call's id between them.
    MistralNamed {
        ids: bool,
    },
}

impl ToolFormat {
    /// The format in which a chat template wrote a call: the one whose reader finds it in `text`, what the template wrote
    /// between the messages before and after it.
    pub fn of_call(text: &str, name: &str, arguments: &Value) -> Option<Self> {
        let ids = text.contains(CALL_ID);
        [Self::MistralNamed { ids }, Self::Mistral, Self::Hermes, Self::Llama].into_iter().find(|format| {
            // A bare object begins its message, whose head is not part of it.
            let from = if *format == Self::Llama { text.find('{').unwrap_or(0) } else { 0 };
            let call = parse::first_call(*format, &text[from..]);
            call.is_some_and(|call| call.0 == name && call.1 == *arguments)
        })
    }

    /// Marks around calls; they may be control tokens, and then the text shows them all the same.
    pub fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Hermes => &["<tool_call>", "</tool_call>"],
            Self::Llama => &["<|python_tag|>"],
            Self::Mistral => &["[TOOL_CALLS]"],
            Self::MistralNamed { .. } => &["[TOOL_CALLS]", "[ARGS]", CALL_ID],
        }
    }

    /// The field that holds a call's arguments.
    fn arguments(self) -> &'static str {
        if self == Self::Llama { "parameters" } else { "arguments" }
    }

    /// The form of an answer that may (or must) call `tools`. `control(spelling)`: the control token spelled so;
    /// `bounded`: texts that a pattern leaves open get a longest length.
    ///
    /// # Errors
    /// [`LlmError::Schema`]: a tool's parameters cannot be served; the place begins with the tool's number.
    pub fn grammar(
        self,
        tools: &[ToolSpec],
        choice: &ToolChoice,
        parallel: bool,
        control: impl Fn(&str) -> Option<u32>,
        bounded: bool,
    ) -> Result<Grammar, LlmError> {
        let callable: Vec<(usize, &ToolSpec)> = match choice {
            ToolChoice::Named(name) => tools.iter().enumerate().filter(|(_, tool)| tool.name == *name).collect(),
            _ => tools.iter().enumerate().collect(),
        };
        let literal = |text: &str| Value::from(text).to_string();
        let mark = |spelling: &str| match control(spelling) {
            Some(token) => format!("<[{token}]>"),
            None => literal(spelling),
        };
        let mut rules = String::new();
        for (n, tool) in &callable {
            let schema = prepared(&tool.parameters, bounded).map_err(|error| match error {
                LlmError::Schema { at, message } => {
                    let dot = if at.is_empty() { "" } else { "." };
                    LlmError::Schema { at: format!("tools[{n}].function.parameters{dot}{at}"), message }
                }
                error => error,
            })?;
            let head = format!("{{\"name\": {}, \"{}\": ", literal(&tool.name), self.arguments());
            rules.push_str(&match self {
                Self::MistralNamed { ids } => {
                    let id = if ids { format!("{} ID ", mark(CALL_ID)) } else { String::new() };
                    format!("call_{n}: {} {id}{} args_{n}\n", literal(&tool.name), mark("[ARGS]"))
                }
                Self::Mistral => {
                    format!("call_{n}: {} args_{n} (\", \\\"id\\\": \\\"\" ID \"\\\"\")? \"}}\"\n", literal(&head))
                }
                Self::Hermes | Self::Llama => format!("call_{n}: {} args_{n} \"}}\"\n", literal(&head)),
            });
            rules.push_str(&format!("args_{n}: %json {schema}\n"));
        }
        if matches!(self, Self::Mistral | Self::MistralNamed { ids: true }) {
            rules.push_str("ID: /[a-zA-Z0-9]{9}/\n");
        }
        let calls: Vec<String> = callable.iter().map(|(n, _)| format!("call_{n}")).collect();
        let one = calls.join(" | ");
        let (begin, start) = match self {
            Self::Hermes => {
                let (open, close) = (mark("<tool_call>"), mark("</tool_call>"));
                let repeat = if parallel {
                    format!(" (\"\\n\" {open} \"\\n\" call \"\\n\" {close}){{0,{MORE_CALLS}}}")
                } else {
                    String::new()
                };
                ("<tool_call>", format!("{open} \"\\n\" call \"\\n\" {close}{repeat}"))
            }
            Self::Llama => ("{", "call".to_string()),
            Self::Mistral => {
                let repeat = if parallel { format!(" (\", \" call){{0,{MORE_CALLS}}}") } else { String::new() };
                ("[TOOL_CALLS]", format!("{} \" \"? \"[\" call{repeat} \"]\"", mark("[TOOL_CALLS]")))
            }
            Self::MistralNamed { .. } => {
                let open = mark("[TOOL_CALLS]");
                let repeat = if parallel { format!(" ({open} call){{0,{MORE_CALLS}}}") } else { String::new() };
                ("[TOOL_CALLS]", format!("{open} call{repeat}"))
            }
        };
        let lark = format!("start: {start}\ncall: {one}\n{rules}");
        let marker = match (self, control(begin)) {
            (Self::Llama, _) => Marker::Start(begin.into()),
            (_, Some(token)) => Marker::Token(token),
            (_, None) => Marker::Text(begin.into()),
        };
        Ok(match choice {
            ToolChoice::Auto => Grammar::After { marker, lark },
            _ => Grammar::Lark(lark),
        })
    }
}

/// Tools as OpenAI declares them, which is what templates were written for.
pub(super) fn declared(tools: &[ToolSpec]) -> Vec<Value> {
    tools.iter().map(|tool| json!({"type": "function", "function": tool})).collect()
}

/// Tools, calls and results as plain messages, for templates that know none: what Hermes models were trained on.
pub(super) fn in_words(messages: Vec<PromptMessage>, tools: &[ToolSpec]) -> Vec<PromptMessage> {
    let mut messages = calls_in_words(messages);
    if tools.is_empty() {
        return messages;
    }
    let list: Vec<String> = declared(tools).iter().map(Value::to_string).collect();
    let told = format!(
        "You may call one or more functions to help with the user's request. The functions are, as JSON schemas:\n\
         <tools>\n{}\n</tools>\n\nTo call a function, write its name and its arguments as JSON between these marks:\n\
         <tool_call>\n{{\"name\": <name>, \"arguments\": <arguments>}}\n</tool_call>",
        list.join("\n")
    );
    match messages.first_mut().filter(|first| first.role == "system") {
        Some(system) => system.content = format!("{}\n\n{told}", system.content),
        None => messages.insert(0, PromptMessage { role: "system".into(), content: told, ..PromptMessage::default() }),
    }
    messages
}

/// The results of parallel calls stand in one message: many templates want user and assistant to take turns.
fn calls_in_words(messages: Vec<PromptMessage>) -> Vec<PromptMessage> {
    let mut told: Vec<PromptMessage> = Vec::with_capacity(messages.len());
    let mut after_result = false;
    for message in messages {
        let is_result = message.role == "tool";
        let message = call_in_words(message);
        match told.last_mut().filter(|_| is_result && after_result) {
            Some(results) => results.content = format!("{}\n{}", results.content, message.content),
            None => told.push(message),
        }
        after_result = is_result;
    }
    told
}

fn call_in_words(mut message: PromptMessage) -> PromptMessage {
    if message.role == "tool" {
        let content = format!("<tool_response>\n{}\n</tool_response>", message.content);
        return PromptMessage { role: "user".into(), content, ..PromptMessage::default() };
    }
    for call in std::mem::take(&mut message.tool_calls) {
        // As the grammar has it: a model goes on as it began.
        let spelled = python_json::spelled(&json!({"name": call.name, "arguments": call.arguments}));
        if !message.content.is_empty() {
            message.content.push('\n');
        }
        message.content.push_str(&format!("<tool_call>\n{spelled}\n</tool_call>"));
    }
    message
}

/// Parallel calls one after the other, each before its results, for templates that take one call a message.
pub(super) fn one_by_one(messages: Vec<PromptMessage>) -> Vec<PromptMessage> {
    let mut told = Vec::with_capacity(messages.len());
    let mut messages = messages.into_iter().peekable();
    while let Some(mut message) = messages.next() {
        let calls = std::mem::take(&mut message.tool_calls);
        let mut results = Vec::new();
        if calls.len() > 1 {
            results.extend(std::iter::from_fn(|| messages.next_if(|next| next.role == "tool")));
        }
        if calls.is_empty() {
            told.push(message);
            continue;
        }
        for call in calls {
            let of_call = |result: &PromptMessage| result.tool_call_id.as_deref() == Some(&call.id);
            let (its, others): (Vec<_>, Vec<_>) = results.into_iter().partition(of_call);
            // What was said before the calls stands before the first.
            let content = std::mem::take(&mut message.content);
            told.push(PromptMessage { content, tool_calls: vec![call], ..message.clone() });
            told.extend(its);
            results = others;
        }
        told.extend(results);
    }
    told
}

/// Mistral's templates take ids of nine letters and digits only.
pub(super) fn nine_letters(id: &str) -> String {
    if id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.to_string();
    }
    blake3::hash(id.as_bytes()).to_hex()[..9].to_string()
}

#[cfg(test)]
mod tests;
