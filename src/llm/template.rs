//! The model file's own chat template, rendered so that message contents can never become control tokens.
//!
//! Contents are rendered with marks (Unicode noncharacters, which are removed from the contents first): one where a
//! content begins, one where it ends, and one inside each spelling of a control token. What is still spelled whole after
//! rendering was written by the template, and only that becomes control tokens; all else is encoded as plain text,
//! without the marks. The first two stand inside a content's outer white space, so that templates that trim still do;
//! they tell which tokens belong to which message.

use aho_corasick::{AhoCorasick, MatchKind};
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
        let matcher = |kind| {
            let spellings = tokens.control.iter().filter(|spelling| spelling.chars().count() > 1);
            AhoCorasick::builder()
                .match_kind(kind)
                .build(spellings)
                .map_err(|e| LlmError::Load(format!("the file's control tokens: {e}")))
        };
        let (control, anywhere) = (matcher(MatchKind::LeftmostLongest)?, matcher(MatchKind::Standard)?);
        let mut template = Self { env, tokens, control, anywhere, folds_system: false };
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
        self.encode(&text, messages.len(), encoder)
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
        let second = |start: usize| start + core[start..].chars().next().map_or(1, char::len_utf8);
        let mut breaks: Vec<usize> =
            self.anywhere.find_overlapping_iter(core).map(|found| second(found.start())).collect();
        breaks.sort_unstable();
        breaks.dedup();
        let mut from = 0;
        for at in breaks {
            content.push_str(&core[from..at]);
            content.push(BROKEN);
            from = at;
        }
        content.push_str(&core[from..]);
        content.push(CLOSE);
        content.push_str(&clean[start + core.len()..]);
        ChatMessage { role: message.role.clone(), content }
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
        Ok(Prompt { tokens, message_ends })
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
