//! An answer's text, piece by piece, to words and calls.
//!
//! Calls are written under a grammar (`tools.rs`), so their spelling is known to the letter; only where pieces end is not.

use serde_json::Value;

use super::{CALL_ID, ToolFormat};

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolPart {
    Text(String),
    /// A call begins; calls are numbered from 0.
    Call {
        index: usize,
        name: String,
    },
    /// More of a call's arguments: a piece of JSON.
    Arguments {
        index: usize,
        text: String,
    },
}

/// Reads calls out of an answer.
#[derive(Debug)]
pub struct ToolParser {
    format: ToolFormat,
    state: State,
    /// Text that is not read yet.
    held: String,
    calls: usize,
    /// Nothing but white space came so far.
    fresh: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Words, in which a mark may begin.
    Words,
    /// Before a call's arguments: its name is to come.
    Head,
    /// Within a call's arguments.
    Arguments { depth: usize, quoted: bool, escaped: bool },
    /// After a call: its end, or another call.
    After,
}

impl ToolParser {
    pub(crate) fn new(format: ToolFormat) -> Self {
        Self { format, state: State::Words, held: String::new(), calls: 0, fresh: true }
    }

    /// True once a call has begun.
    pub fn has_calls(&self) -> bool {
        self.calls > 0
    }

    /// What is known now that `text` came.
    pub fn push(&mut self, text: &str) -> Vec<ToolPart> {
        self.held.push_str(text);
        let mut parts = Vec::new();
        while self.advance(&mut parts) {}
        parts
    }

    /// The rest, at the answer's end: a call that never got a name is words after all.
    pub fn finish(&mut self) -> Vec<ToolPart> {
        let rest = std::mem::take(&mut self.held);
        match self.state {
            State::Words | State::Head if !rest.is_empty() => vec![ToolPart::Text(rest)],
            _ => Vec::new(),
        }
    }

    /// Reads on by a step; false if more text is needed.
    fn advance(&mut self, parts: &mut Vec<ToolPart>) -> bool {
        match self.state {
            State::Words => self.words(parts),
            State::Head => self.head(parts),
            State::Arguments { depth, quoted, escaped } => self.arguments(parts, depth, quoted, escaped),
            State::After => match self.held.find(self.next_call()) {
                Some(at) => {
                    self.held.drain(..at);
                    self.state = State::Head;
                    true
                }
                None => false,
            },
        }
    }

    /// What the next of several calls begins with.
    fn next_call(&self) -> &'static str {
        if matches!(self.format, ToolFormat::MistralNamed { .. }) { self.format.marks()[0] } else { "{" }
    }

    fn words(&mut self, parts: &mut Vec<ToolPart>) -> bool {
        let mark = self.format.marks()[0];
        let bare = self.format == ToolFormat::Llama && self.fresh;
        let begun = self.held.trim_start();
        if bare && (begun.is_empty() || begun.starts_with('{')) {
            self.state = State::Head;
            return !begun.is_empty() || self.back_to_words();
        }
        if let Some(at) = self.held.find(mark) {
            let words = self.held[..at].trim_end().to_string();
            if !words.is_empty() {
                parts.push(ToolPart::Text(words));
            }
            self.fresh = false;
            self.state = State::Head;
            return true;
        }
        // White space before a mark belongs to the mark.
        let kept = partial(&self.held, mark);
        let words = self.held[..self.held.len() - kept].trim_end().len();
        if words > 0 {
            self.fresh = false;
            parts.push(ToolPart::Text(self.held.drain(..words).collect()));
        }
        false
    }

    fn back_to_words(&mut self) -> bool {
        self.state = State::Words;
        false
    }

    fn head(&mut self, parts: &mut Vec<ToolPart>) -> bool {
        if matches!(self.format, ToolFormat::MistralNamed { .. }) {
            return self.named_head(parts);
        }
        let end = format!("\", \"{}\": ", self.format.arguments());
        let (name_at, name_mark) = (self.held.find("{\"name\": \""), "{\"name\": \"".len());
        let Some((from, to)) = name_at.zip(self.held.find(&end)).filter(|(from, to)| from + name_mark <= *to) else {
            return false;
        };
        let name = self.held[from + name_mark..to].to_string();
        self.held.drain(..to + end.len());
        self.begin(parts, name)
    }

    /// A name, perhaps an id, and arguments, with marks between them.
    fn named_head(&mut self, parts: &mut Vec<ToolPart>) -> bool {
        let [open, between, ..] = self.format.marks() else { return false };
        let Some(at) = self.held.find('{') else { return false };
        let head = &self.held[..at];
        // A mark before which nothing was called belongs to nothing.
        let head = head.rsplit_once(open).map_or(head, |(_, last)| last);
        let end = [CALL_ID, between].iter().filter_map(|mark| head.find(mark)).min().unwrap_or(head.len());
        let name = head[..end].trim().to_string();
        self.held.drain(..at);
        self.begin(parts, name)
    }

    fn begin(&mut self, parts: &mut Vec<ToolPart>, name: String) -> bool {
        parts.push(ToolPart::Call { index: self.calls, name });
        self.calls += 1;
        self.state = State::Arguments { depth: 0, quoted: false, escaped: false };
        true
    }

    fn arguments(&mut self, parts: &mut Vec<ToolPart>, mut depth: usize, mut quoted: bool, mut escaped: bool) -> bool {
        let mut end = None;
        for (at, c) in self.held.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '{' | '[' if !quoted => depth += 1,
                '}' | ']' if !quoted => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && !quoted && (c == '}' || c == ']') {
                end = Some(at + 1);
                break;
            }
        }
        let text: String = self.held.drain(..end.unwrap_or(self.held.len())).collect();
        if !text.is_empty() {
            parts.push(ToolPart::Arguments { index: self.calls - 1, text });
        }
        self.state = if end.is_some() { State::After } else { State::Arguments { depth, quoted, escaped } };
        end.is_some()
    }
}

/// The first call in a whole answer, if its arguments are JSON.
pub(super) fn first_call(format: ToolFormat, text: &str) -> Option<(String, Value)> {
    let (mut called, mut written) = (None, String::new());
    for part in ToolParser::new(format).push(text) {
        match part {
            ToolPart::Call { index: 0, name } => called = Some(name),
            ToolPart::Arguments { index: 0, text } => written.push_str(&text),
            _ => {}
        }
    }
    Some((called?, serde_json::from_str(&written).ok()?))
}

/// Length of the longest end of `text` with which `mark` begins.
fn partial(text: &str, mark: &str) -> usize {
    text.char_indices().map(|(at, _)| &text[at..]).find(|tail| mark.starts_with(tail)).map_or(0, str::len)
}
