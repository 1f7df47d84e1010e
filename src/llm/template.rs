//! The model file's own chat template, rendered so that message contents can never become control tokens.
//!
//! Contents are rendered between marks (Unicode noncharacters, which are removed from the contents first). The marks
//! stand inside a content's outer white space, so that templates that trim still do. After rendering, the text between
//! two marks is encoded as plain text and only the template's own words as control tokens. As a second wall, every
//! spelling of a control token inside a content is broken by a mark, for templates that cut contents into pieces.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde};
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;

use super::{ChatMessage, LlmError, Prompt};

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
    fn is_control(&self, token: u32) -> bool;
}

/// What a template is told about the model.
#[derive(Debug, Clone, Default)]
pub(crate) struct TemplateTokens {
    pub bos: String,
    pub eos: String,
    /// Spellings of all control tokens.
    pub control: Vec<String>,
    /// The BOS token, where prompts start with it.
    pub leading_bos: Option<u32>,
}

/// A compiled chat template.
pub(crate) struct ChatTemplate {
    env: Environment<'static>,
    tokens: TemplateTokens,
    control: aho_corasick::AhoCorasick,
    /// The template knows no system messages: their text goes in front of the first user message.
    folds_system: bool,
}

/// A piece of a rendered prompt.
#[derive(Debug, PartialEq)]
enum Piece {
    Template(String),
    Content { message: usize, text: String },
}

#[derive(Serialize)]
struct Rendered<'a> {
    messages: Vec<ChatMessage>,
    add_generation_prompt: bool,
    /// Qwen3 and its like: customers get answers, not trains of thought.
    enable_thinking: bool,
    bos_token: &'a str,
    eos_token: &'a str,
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
        env.add_filter("tojson", tojson);
        env.add_template_owned(NAME, without_generation_tags(source)).map_err(broken)?;
        let control = aho_corasick::AhoCorasick::builder()
            .match_kind(aho_corasick::MatchKind::LeftmostLongest)
            .build(tokens.control.iter().filter(|spelling| spelling.chars().count() > 1))
            .map_err(|e| LlmError::Load(format!("the file's control tokens: {e}")))?;
        let mut template = Self { env, tokens, control, folds_system: false };
        let user = ChatMessage { role: "user".into(), content: "Hello".into() };
        let system = ChatMessage { role: "system".into(), content: "Be kind.".into() };
        template.render_text(vec![user.clone()]).map_err(broken)?;
        template.folds_system = match template.render_text(vec![system, user]) {
            Ok(text) => !text.contains("Be kind."),
            Err(_) => true,
        };
        Ok(template)
    }

    /// Messages to tokens, ready for the assistant's answer.
    ///
    /// # Errors
    /// [`LlmError::Template`] if the template refuses the messages, or a role is unknown.
    pub fn prompt(&self, messages: &[ChatMessage], encoder: &dyn TextEncoder) -> Result<Prompt, LlmError> {
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
        let marked = messages.iter().enumerate().map(|(i, m)| self.mark(i, m)).collect();
        let marked = if self.folds_system { fold_system(marked) } else { marked };
        let text = self.render_text(marked).map_err(|e| LlmError::Template(reason(&e)))?;
        self.encode(&pieces(&text), messages.len(), encoder)
    }

    fn render_text(&self, messages: Vec<ChatMessage>) -> Result<String, Error> {
        self.env.get_template(NAME)?.render(Value::from(Serde(Rendered {
            messages,
            add_generation_prompt: true,
            enable_thinking: false,
            bos_token: &self.tokens.bos,
            eos_token: &self.tokens.eos,
        })))
    }

    /// A message whose content stands between marks.
    fn mark(&self, index: usize, message: &ChatMessage) -> ChatMessage {
        let clean: String = message
            .content
            .chars()
            .map(|c| if (OPEN..=BROKEN).contains(&c) { char::REPLACEMENT_CHARACTER } else { c })
            .collect();
        let core = clean.trim();
        if core.is_empty() {
            return ChatMessage { role: message.role.clone(), content: clean };
        }
        let start = clean.len() - clean.trim_start().len();
        let mut content = clean[..start].to_string();
        content.push_str(&format!("{OPEN}{index}{NUMBERED}"));
        let mut from = 0;
        for found in self.control.find_iter(core) {
            let second = found.start() + core[found.start()..].chars().next().map_or(1, char::len_utf8);
            content.push_str(&core[from..second]);
            content.push(BROKEN);
            from = second;
        }
        content.push_str(&core[from..]);
        content.push(CLOSE);
        content.push_str(&clean[start + core.len()..]);
        ChatMessage { role: message.role.clone(), content }
    }

    fn encode(&self, pieces: &[Piece], messages: usize, encoder: &dyn TextEncoder) -> Result<Prompt, LlmError> {
        let encode = |text: &str, special| {
            encoder
                .encode(text, special)
                .map_err(|e| LlmError::Template(format!("the prompt could not be tokenized: {e}")))
        };
        let mut tokens: Vec<u32> = Vec::new();
        // Where each message's content begins and where its part of the prompt ends.
        let mut starts: Vec<Option<usize>> = vec![None; messages];
        let mut ends: Vec<Option<usize>> = vec![None; messages];
        let mut open: Option<usize> = None;
        for piece in pieces {
            match piece {
                Piece::Content { message, text } => {
                    if let Some(previous) = open.replace(*message) {
                        ends[previous] = Some(tokens.len());
                    }
                    starts[*message].get_or_insert(tokens.len());
                    tokens.extend(encode(text, false)?);
                }
                Piece::Template(text) => {
                    for part in text.split(BROKEN) {
                        let from = tokens.len();
                        tokens.extend(encode(part, true)?);
                        if tokens.len() == from {
                            continue;
                        }
                        if let Some(message) = open.take() {
                            // The first control token after the content is its end mark.
                            let mark = tokens[from..].iter().position(|t| encoder.is_control(*t));
                            ends[message] = Some(mark.map_or(from, |at| from + at + 1));
                        }
                    }
                }
            }
        }
        if let Some(message) = open {
            ends[message] = Some(tokens.len());
        }
        let shift = match self.tokens.leading_bos {
            Some(bos) if tokens.first() != Some(&bos) => {
                tokens.insert(0, bos);
                1
            }
            _ => 0,
        };
        let total = tokens.len();
        let mut message_ends = vec![0; messages];
        let mut previous = 0;
        for i in 0..messages {
            // A template may move contents (a system message into the last user message): what precedes the end of
            // message i must not hold a word of a later one.
            let later = starts[i + 1..].iter().flatten().min().map_or(total, |start| start + shift);
            let end = ends[i].map_or(previous, |end| end + shift);
            message_ends[i] = end.min(later);
            previous = message_ends[i].max(previous);
        }
        Ok(Prompt { tokens, message_ends })
    }
}

/// Cuts a rendered prompt at its marks.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        push_template(&mut pieces, before);
        let parsed = after.split_once(NUMBERED).and_then(|(number, after)| Some((number.parse().ok()?, after)));
        match parsed {
            Some((message, after)) => {
                // A content that was cut before its closing mark ends where the next one begins; its control spellings
                // are broken, so that it is safe as template text.
                let end = after.find([OPEN, CLOSE]);
                match end {
                    Some(end) if after[end..].starts_with(CLOSE) => {
                        let text = after[..end].replace(BROKEN, "");
                        pieces.push(Piece::Content { message, text });
                        rest = &after[end + CLOSE.len_utf8()..];
                    }
                    _ => rest = after,
                }
            }
            None => rest = after,
        }
    }
    push_template(&mut pieces, rest);
    pieces
}

fn push_template(pieces: &mut Vec<Piece>, text: &str) {
    let text: String = text.chars().filter(|c| ![OPEN, NUMBERED, CLOSE].contains(c)).collect();
    if !text.is_empty() {
        pieces.push(Piece::Template(text));
    }
}

/// Puts system messages in front of the first user message, for templates that know no system role.
fn fold_system(messages: Vec<ChatMessage>) -> Vec<ChatMessage> {
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
        None => rest.insert(0, ChatMessage { role: "user".into(), content: text }),
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

/// JSON as Python writes it (`", "` and `": "`, nothing escaped for HTML): models were trained on that.
fn tojson(value: &Value, args: Rest<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = match args.first() {
        Some(first) => usize::try_from(first.clone()).ok(),
        None => kwargs.get("indent")?,
    };
    for ignored in ["ensure_ascii", "sort_keys", "separators"] {
        let _: Option<Value> = kwargs.get(ignored)?;
    }
    kwargs.assert_all_used()?;
    let mut out = Vec::new();
    let written = match indent {
        Some(width) => {
            let spaces = vec![b' '; width];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, PythonJson)),
    };
    written.map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("tojson: {e}")))?;
    Ok(Value::from(String::from_utf8_lossy(&out).into_owned()))
}

struct PythonJson;

impl serde_json::ser::Formatter for PythonJson {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }
    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }
    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }
}

#[cfg(test)]
mod tests;
