//! The model file's own chat template, rendered so that message contents can never become control tokens.
//!
//! Contents are rendered with marks (Unicode noncharacters, which are removed from the contents first): one where a
//! content begins, one where it ends, and one inside each spelling of a control token. What is still spelled whole after
//! rendering was written by the template, and only that becomes control tokens; all else is encoded as plain text,
//! without the marks. The first two stand inside a content's outer white space, so that templates that trim still do;
//! they tell which tokens belong to which message.

pub(super) mod python_json;

use aho_corasick::{AhoCorasick, MatchKind};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::json;

use super::reasoning;
use super::tools::{self, ToolFormat};
use super::{ChatMessage, LlmError, Prompt, PromptMessage, PromptOptions, ToolSpec};

const OPEN: char = '\u{FDD0}';
const NUMBERED: char = '\u{FDD1}';
const CLOSE: char = '\u{FDD2}';
const BROKEN: char = '\u{FDD3}';

const ROLES: [&str; 4] = ["system", "user", "assistant", "tool"];
const NAME: &str = "chat_template";

/// What the template needs of a tokenizer.
pub(crate) trait TextEncoder {
    /// Plain text to tokens; with `parse_special` the spelling of a control token becomes that token.
    fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, String>;
}

/// What a template is told about the model.
#[derive(Debug, Clone, Default)]
pub(crate) struct TemplateTokens {
    pub bos: String,
    pub eos: String,
    /// Spellings that must not become tokens in contents.
    pub control: Vec<String>,
    /// The BOS token, where prompts start with it.
    pub leading_bos: Option<u32>,
}

/// A compiled chat template.
pub(crate) struct ChatTemplate {
    env: Environment<'static>,
    tokens: TemplateTokens,
    /// Finds the control tokens that a rendered prompt spells.
    control: AhoCorasick,
    /// Finds every spelling in a content, overlapping ones too.
    anywhere: AhoCorasick,
    /// The template knows no system messages: their text goes in front of the first user message.
    folds_system: bool,
    /// How the model calls tools, if the template tells of them and spells calls in a format that is known.
    tools: Option<ToolFormat>,
    /// The template takes one call a message: several are told one after the other.
    one_call: bool,
    thinks: bool,
}

#[derive(Serialize)]
struct Rendered<'a> {
    messages: Vec<RenderedMessage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<serde_json::Value>,
    add_generation_prompt: bool,
    /// Qwen3 and its like: unless asked for, customers get answers, not trains of thought.
    enable_thinking: bool,
    bos_token: &'a str,
    eos_token: &'a str,
}

#[derive(Debug, Clone, Serialize)]
struct RenderedMessage {
    role: String,
    content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

impl ChatTemplate {
    /// Compiles a template and tries it on a first message.
    ///
    /// # Errors
    /// [`LlmError::Load`] with the template's line.
    pub fn new(source: &str, tokens: TemplateTokens) -> Result<Self, LlmError> {
        let broken = |error: Error| LlmError::Load(format!("the file's chat template is broken: {}", reason(&error)));
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(broken)?;
        env.set_syntax(syntax);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        env.add_function("strftime_now", strftime_now);
        env.add_filter("tojson", python_json::tojson);
        env.add_filter("items", items);
        env.add_filter("length", length);
        env.add_template_owned(NAME, without_generation_tags(source)).map_err(broken)?;
        let matcher = |kind| {
            let spellings = tokens.control.iter().filter(|spelling| spelling.chars().count() > 1);
            AhoCorasick::builder()
                .match_kind(kind)
                .build(spellings)
                .map_err(|e| LlmError::Load(format!("the file's control tokens: {e}")))
        };
        let (control, anywhere) = (matcher(MatchKind::LeftmostLongest)?, matcher(MatchKind::Standard)?);
        let mut template =
            Self { env, tokens, control, anywhere, folds_system: false, tools: None, one_call: false, thinks: false };
        let render = |messages| template.render_text(messages, &[], false);
        render(vec![said("user", "Hello")]).map_err(broken)?;
        let folds_system = match render(vec![said("system", "Be kind."), said("user", "Hello")]) {
            Ok(text) => !text.contains("Be kind."),
            Err(_) => true,
        };
        template.folds_system = folds_system;
        if let Some((format, one_call)) = template.tried_tools() {
            (template.tools, template.one_call) = (Some(format), one_call);
        }
        template.thinks = source.contains(reasoning::CLOSE);
        Ok(template)
    }

    /// The format in which the template spells calls, and whether a message takes one only, tried on a first call. Nothing
    /// if it does not tell of tools, or knows no calls, or spells them in a way that is not known here.
    fn tried_tools(&self) -> Option<(ToolFormat, bool)> {
        let place = json!({"type": "string", "description": "A place."});
        let tool = ToolSpec {
            name: "probe".into(),
            description: "A probing tool.".into(),
            parameters: json!({"type": "object", "properties": {"place": place}, "required": ["place"]}),
        };
        let arguments = json!({"place": "here"});
        let (question, result) = ("A first question.", "Its result.");
        let tried = |calls: usize| {
            let ids: Vec<String> = (0..calls).map(|n| format!("probe000{n}")).collect();
            let function = json!({"name": tool.name, "arguments": arguments});
            let call = |id: &String| json!({"id": id, "type": "function", "function": function});
            let calling = RenderedMessage { tool_calls: ids.iter().map(call).collect(), ..said("assistant", "") };
            let mut messages = vec![said("user", question), calling];
            messages
                .extend(ids.into_iter().map(|id| RenderedMessage { tool_call_id: Some(id), ..said("tool", result) }));
            self.render_text(messages, std::slice::from_ref(&tool), false).ok()
        };
        let text = tried(1).filter(|text| text.contains(&tool.description))?;
        let (_, after) = text.rsplit_once(question)?;
        let (call, _) = after.split_once(result)?;
        let format = ToolFormat::of_call(call, &tool.name, &arguments)?;
        Some((format, tried(2).is_none()))
    }

    /// How the model writes calls; what a template does not say, the system message does.
    pub fn tool_format(&self) -> ToolFormat {
        self.tools.unwrap_or(ToolFormat::Hermes)
    }

    /// True for models that write a train of thought before their answer.
    pub fn thinks(&self) -> bool {
        self.thinks
    }

    /// Messages to tokens, ready for the assistant's answer.
    ///
    /// # Errors
    /// [`LlmError::Template`] if the template refuses the messages, or a role is unknown.
    pub fn prompt(&self, messages: &[ChatMessage], encoder: &dyn TextEncoder) -> Result<Prompt, LlmError> {
        let messages = messages.iter().cloned().map(PromptMessage::from).collect();
        self.prompt_with(messages, &PromptOptions::default(), encoder)
    }

    /// The same with tools, calls and their results.
    ///
    /// # Errors
    /// As [`Self::prompt`].
    pub fn prompt_with(
        &self,
        messages: Vec<PromptMessage>,
        options: &PromptOptions,
        encoder: &dyn TextEncoder,
    ) -> Result<Prompt, LlmError> {
        for (i, message) in messages.iter().enumerate() {
            // A role is template text: it must never come from outside.
            if !ROLES.contains(&message.role.as_str()) {
                let roles = ROLES.join(", ");
                return Err(LlmError::Template(format!(
                    "message {i} has the role `{}`; roles are {roles}",
                    message.role
                )));
            }
        }
        let told = |messages: Vec<PromptMessage>, declared: &[ToolSpec]| {
            let marked = messages.iter().enumerate().map(|(i, m)| self.mark(i, m)).collect();
            let marked = if self.folds_system { fold_system(marked) } else { marked };
            let text = self.render_text(marked, declared, options.thinking)?;
            Ok::<_, Error>((text, messages.len()))
        };
        let by_template = |messages| {
            let messages = if self.one_call { tools::one_by_one(messages) } else { messages };
            told(messages, &options.tools)
        };
        let in_words = |messages| told(tools::in_words(messages, &options.tools), &[]);
        let rendered = match self.tools {
            // What a template cannot tell of a tool (Hermes' own: that a parameter may be null), words can; the calls that
            // they ask for are the same.
            Some(ToolFormat::Hermes) if !options.tools.is_empty() => {
                by_template(messages.clone()).or_else(|_| in_words(messages))
            }
            Some(_) => by_template(messages),
            None => in_words(messages),
        };
        let (text, messages) = rendered.map_err(|e| LlmError::Template(reason(&e)))?;
        self.encode(&text, messages, encoder)
    }

    fn render_text(&self, messages: Vec<RenderedMessage>, tools: &[ToolSpec], thinking: bool) -> Result<String, Error> {
        self.env.get_template(NAME)?.render(Value::from(Serde(Rendered {
            messages,
            tools: tools::declared(tools).into_iter().map(|tool| self.broken(tool)).collect(),
            add_generation_prompt: true,
            enable_thinking: thinking,
            bos_token: &self.tokens.bos,
            eos_token: &self.tokens.eos,
        })))
    }

    /// A message whose content stands between marks.
    fn mark(&self, index: usize, message: &PromptMessage) -> RenderedMessage {
        let id = |id: &str| match self.tools {
            Some(ToolFormat::Mistral | ToolFormat::MistralNamed { .. }) => tools::nine_letters(id),
            _ => self.broken_text(id),
        };
        let call = |call: &tools::ToolCall| {
            let arguments = self.broken(call.arguments.clone());
            let function = json!({"name": self.broken_text(&call.name), "arguments": arguments});
            json!({"id": id(&call.id), "type": "function", "function": function})
        };
        let rendered = |content: String| RenderedMessage {
            role: message.role.clone(),
            content,
            tool_calls: message.tool_calls.iter().map(call).collect(),
            tool_call_id: message.tool_call_id.as_deref().map(id),
        };
        let clean = without_noncharacters(&message.content);
        let core = clean.trim();
        if core.is_empty() {
            return rendered(clean);
        }
        let start = clean.len() - clean.trim_start().len();
        let mut content = clean[..start].to_string();
        content.push_str(&format!("{OPEN}{index}{NUMBERED}"));
        content.push_str(&self.broken_text(core));
        content.push(CLOSE);
        content.push_str(&clean[start + core.len()..]);
        rendered(content)
    }

    /// A text from outside, with a mark inside each spelling of a control token.
    fn broken_text(&self, text: &str) -> String {
        let text = without_noncharacters(text);
        let second = |start: usize| start + text[start..].chars().next().map_or(1, char::len_utf8);
        let mut breaks: Vec<usize> =
            self.anywhere.find_overlapping_iter(&text).map(|found| second(found.start())).collect();
        breaks.sort_unstable();
        breaks.dedup();
        let (mut broken, mut from) = (String::with_capacity(text.len()), 0);
        for at in breaks {
            broken.push_str(&text[from..at]);
            broken.push(BROKEN);
            from = at;
        }
        broken.push_str(&text[from..]);
        broken
    }

    /// The same for every text within a JSON value.
    fn broken(&self, value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::String(text) => self.broken_text(&text).into(),
            serde_json::Value::Array(list) => list.into_iter().map(|value| self.broken(value)).collect(),
            serde_json::Value::Object(fields) => {
                fields.into_iter().map(|(name, value)| (self.broken_text(&name), self.broken(value))).collect()
            }
            other => other,
        }
    }

    /// A rendered prompt to tokens, and where each message's part of it ends.
    fn encode(&self, text: &str, messages: usize, encoder: &dyn TextEncoder) -> Result<Prompt, LlmError> {
        let encode = |text: &str, special| {
            encoder
                .encode(text, special)
                .map_err(|e| LlmError::Template(format!("the prompt could not be tokenized: {e}")))
        };
        let mut tokens: Vec<u32> = Vec::new();
        let mut parts = Parts::new(messages);
        let mut from = 0;
        for control in self.control.find_iter(text).map(Some).chain([None]) {
            let plain = &text[from..control.map_or(text.len(), |c| c.start())];
            // Encoded apart, the halves of a broken spelling cannot become one token again.
            for part in plain.split(BROKEN) {
                let (plain, marks) = without_marks(part);
                let begin = tokens.len();
                tokens.extend(encode(&plain, false)?);
                for (at, mark) in marks {
                    // A token across the mark belongs to what follows it.
                    let before = encode(&plain[..at], false)?;
                    let common = before.iter().zip(&tokens[begin..]).take_while(|(a, b)| a == b).count();
                    parts.note(mark, begin + common);
                }
            }
            if let Some(control) = control {
                tokens.extend(encode(&text[control.range()], true)?);
                parts.note_control(tokens.len());
                from = control.end();
            }
        }
        let mut message_ends = parts.message_ends(tokens.len());
        if let Some(bos) = self.tokens.leading_bos.filter(|bos| tokens.first() != Some(bos)) {
            tokens.insert(0, bos);
            message_ends.iter_mut().for_each(|end| *end += 1);
        }
        let opens_thought = self.thinks && text.trim_end().ends_with(reasoning::OPEN);
        Ok(Prompt { tokens, message_ends, opens_thought })
    }
}

/// A mark in a rendered prompt.
#[derive(Debug, Clone, Copy)]
enum Mark {
    Begin(usize),
    End,
}

/// Text without its marks, and where in it contents begin and end.
fn without_marks(text: &str) -> (String, Vec<(usize, Mark)>) {
    let mut plain = String::with_capacity(text.len());
    let mut marks = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find([OPEN, NUMBERED, CLOSE]) {
        plain.push_str(&rest[..at]);
        let mark = rest[at..].chars().next().unwrap_or(OPEN);
        rest = &rest[at + mark.len_utf8()..];
        match mark {
            // A number whose mark a template cut away cannot be told from text, and a template does not do that.
            OPEN => {
                if let Some((message, after)) =
                    rest.split_once(NUMBERED).and_then(|(n, after)| Some((n.parse().ok()?, after)))
                {
                    marks.push((plain.len(), Mark::Begin(message)));
                    rest = after;
                }
            }
            CLOSE => marks.push((plain.len(), Mark::End)),
            _ => {}
        }
    }
    plain.push_str(rest);
    (plain, marks)
}

/// Where messages' contents begin and where their parts of the prompt end, in tokens.
struct Parts {
    begins: Vec<Option<usize>>,
    ends: Vec<Option<usize>>,
    /// The message whose content is being passed.
    inside: Option<usize>,
    /// The message whose content has ended and whose end mark, a control token, may follow.
    closing: Option<usize>,
}

impl Parts {
    fn new(messages: usize) -> Self {
        Self { begins: vec![None; messages], ends: vec![None; messages], inside: None, closing: None }
    }

    fn note(&mut self, mark: Mark, at: usize) {
        match mark {
            Mark::Begin(message) => {
                self.closing = None;
                self.inside = Some(message);
                if let Some(begin) = self.begins.get_mut(message) {
                    begin.get_or_insert(at);
                }
            }
            Mark::End => {
                if let Some(message) = self.inside.take() {
                    self.ends[message] = Some(at);
                    self.closing = Some(message);
                }
            }
        }
    }

    fn note_control(&mut self, end: usize) {
        if let Some(message) = self.closing.take() {
            self.ends[message] = Some(end);
        }
    }

    fn message_ends(&self, total: usize) -> Vec<usize> {
        let mut previous = 0;
        let end_of = |message: usize| {
            // A template may move contents (a system message into the last user message): what precedes the end of a
            // message must not hold a word of a later one.
            let later = self.begins[message + 1..].iter().flatten().min().copied().unwrap_or(total);
            let end = self.ends[message].unwrap_or(previous).min(later);
            previous = previous.max(end);
            end
        };
        (0..self.ends.len()).map(end_of).collect()
    }
}

fn said(role: &str, content: &str) -> RenderedMessage {
    RenderedMessage { role: role.into(), content: content.into(), tool_calls: Vec::new(), tool_call_id: None }
}

fn without_noncharacters(text: &str) -> String {
    text.chars().map(|c| if (OPEN..=BROKEN).contains(&c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Puts system messages in front of the first user message, for templates that know no system role.
fn fold_system(messages: Vec<RenderedMessage>) -> Vec<RenderedMessage> {
    let (system, mut rest): (Vec<_>, Vec<_>) = messages.into_iter().partition(|m| m.role == "system");
    if system.is_empty() {
        return rest;
    }
    let mut text = system.into_iter().map(|m| m.content).collect::<Vec<_>>().join("\n\n");
    match rest.iter_mut().find(|m| m.role == "user") {
        Some(user) => {
            text.push_str("\n\n");
            user.content.insert_str(0, &text);
        }
        None => {
            rest.insert(0, said("user", &text));
        }
    }
    rest
}

/// Removes `{% generation %}` marks, which only training needs.
fn without_generation_tags(source: &str) -> String {
    static TAG: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
        regex::Regex::new(r"\{%[-+]?\s*(end)?generation\s*[-+]?%\}").expect("a constant pattern")
    });
    TAG.replace_all(source, "").into_owned()
}

/// The pairs of a mapping; of what is not there none, as in Jinja2 (a tool whose parameters have no properties).
fn items(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() { Ok(Value::from(Vec::<Value>::new())) } else { minijinja::filters::items(value) }
}

/// How long a value is; what is not there has no length, as in Jinja2.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() { Ok(0) } else { minijinja::filters::length(value) }
}

/// An error's words and its line in the template.
fn reason(error: &Error) -> String {
    let words = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    match error.line() {
        Some(line) => format!("{words} (line {line} of the template)"),
        None => words,
    }
}

/// The local date and time in C's notation, as the reference implementation gives it to templates.
fn strftime_now(format: &str) -> Result<String, Error> {
    use std::fmt::Write;
    let mut text = String::new();
    write!(text, "{}", chrono::Local::now().format(format))
        .map(|()| text)
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: `{format}` is no date format")))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tool_tests;
