//! Writing Markdown that is read back as it was meant: what a reader of some format found, as blocks.
//!
//! Text of authors is escaped, so that nothing in it turns into markup; code stands in a fence that is longer than any
//! in it, byte for byte. An author's own `[[code:1]]` is broken up here, before escapes could hide it.

use serde::{Deserialize, Serialize};

use crate::kb::markdown::clean;

/// How much of each kind a document holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub headings: usize,
    pub code: usize,
    pub tables: usize,
    pub images: usize,
}

/// A document being written.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
    pub counts: Counts,
    /// Columns by which each open list indents what is in it.
    indents: Vec<usize>,
    /// The item whose marker stands at the end of the text and waits for its first block.
    at_item: bool,
    /// Most bytes of text; what would pass them is left out.
    limit: usize,
    /// True once something was left out.
    pub is_full: bool,
}

impl Writer {
    pub fn new(limit: usize) -> Self {
        Self {
            text: String::new(),
            counts: Counts::default(),
            indents: Vec::new(),
            at_item: false,
            limit,
            is_full: false,
        }
    }

    pub fn finish(mut self) -> String {
        self.text.push('\n');
        self.text
    }

    /// The 1-based line on which the next block will begin.
    pub fn next_line(&self) -> usize {
        let lines = self.text.matches('\n').count();
        if self.text.is_empty() { 1 } else { lines + 3 }
    }

    /// `words`: plain text.
    pub fn heading(&mut self, level: usize, words: &str) {
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.is_empty() {
            return;
        }
        self.indents.clear();
        let marks = "#".repeat(level.clamp(1, 6));
        // Braces at a heading's end would be its attributes, a last `#` its end.
        let words = escape(&words).replace('{', "\\{").replace('#', "\\#");
        if self.block(&format!("{marks} {words}")) {
            self.counts.headings += 1;
        }
    }

    /// `inline`: Markdown of [`escape`], [`code_span`], [`link`] and [`image`]; its line breaks stay.
    pub fn paragraph(&mut self, inline: &str) {
        let lines: Vec<String> =
            inline.lines().map(str::trim).filter(|line| !line.is_empty()).map(line_start).collect();
        if !lines.is_empty() {
            self.block(&lines.join("\n"));
        }
    }

    /// Code, byte for byte.
    pub fn code(&mut self, language: &str, code: &str) {
        let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        let language: String =
            language.chars().filter(|c| c.is_alphanumeric() || matches!(c, '+' | '#' | '-' | '_' | '.')).collect();
        if self.block(&format!("{fence}{language}\n{code}\n{fence}")) {
            self.counts.code += 1;
        }
    }

    /// Rows of cells (inline Markdown), the first one the header.
    pub fn table(&mut self, rows: &[Vec<String>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        if columns == 0 {
            return;
        }
        let line = |row: &[String]| {
            let cells = (0..columns).map(|at| row.get(at).map_or(String::new(), |cell| cell_text(cell)));
            format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
        };
        let mut lines = vec![line(&rows[0]), format!("|{}", "---|".repeat(columns))];
        lines.extend(rows[1..].iter().map(|row| line(row)));
        if self.block(&lines.join("\n")) {
            self.counts.tables += 1;
        }
    }

    /// Opens an item of the list at `depth` (0 is the outermost); its blocks follow. `number`: of an ordered list.
    pub fn item(&mut self, depth: usize, number: Option<usize>) {
        let begins = self.indents.is_empty();
        self.indents.truncate(depth);
        let marker = number.map_or("- ".to_string(), |n| format!("{n}. "));
        if self.text.len() + marker.len() > self.limit {
            self.is_full = true;
            return;
        }
        if !self.text.is_empty() && !self.at_item {
            self.text.push_str(if begins { "\n\n" } else { "\n" });
        }
        if self.at_item {
            // The outer item holds nothing but this list.
            self.text.push('\n');
        }
        let indent: usize = self.indents.iter().sum();
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(&marker);
        self.indents.push(marker.len());
        self.at_item = true;
    }

    /// What follows belongs to `depth` lists only.
    pub fn leave_lists(&mut self, depth: usize) {
        if self.indents.len() > depth {
            self.indents.truncate(depth);
            if self.at_item {
                let empty =
                    self.text.trim_end_matches([' ', '-', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
                if empty.is_empty() || empty.ends_with('\n') {
                    self.text.truncate(empty.trim_end_matches('\n').len());
                }
                self.at_item = false;
            }
        }
    }

    /// Adds a block with an empty line before it; false where there was no room.
    fn block(&mut self, block: &str) -> bool {
        let indent = " ".repeat(self.indents.iter().sum());
        if self.text.len() + block.len() + indent.len() * block.matches('\n').count() + 2 > self.limit {
            self.is_full = true;
            return false;
        }
        let continues = self.at_item;
        if !continues && !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        for (at, line) in block.split('\n').enumerate() {
            if at > 0 {
                self.text.push('\n');
            }
            if !line.is_empty() && !(at == 0 && continues) {
                self.text.push_str(&indent);
            }
            self.text.push_str(line);
        }
        self.at_item = false;
        true
    }
}

/// A cell on one line, with its bars escaped.
fn cell_text(cell: &str) -> String {
    cell.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Plain text with what Markdown would read as markup escaped. Whitespace stays.
pub(super) fn escape(text: &str) -> String {
    let text = clean(text);
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let after = rest.peek().copied().unwrap_or(' ');
        let special = match c {
            '\\' | '`' | '*' | '[' | ']' | '<' => true,
            // Within a word an underscore means nothing.
            '_' => !(before.is_alphanumeric() && after.is_alphanumeric()),
            '~' => before == '~' || after == '~',
            '&' => after.is_alphanumeric() || after == '#',
            '!' => after == '[',
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(c);
        before = c;
    }
    out
}

/// A line of inline Markdown whose beginning cannot be read as a heading, a list, a quote, a rule or a table.
fn line_start(line: &str) -> String {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let first = line.chars().next();
    if digits > 0 && line[digits..].starts_with(['.', ')']) {
        return format!("{}\\{}", &line[..digits], &line[digits..]);
    }
    match first {
        Some('#' | '>' | '-' | '+' | '=' | '|' | '~' | ':') => format!("\\{line}"),
        _ => line.to_string(),
    }
}

/// Inline code. Line breaks become spaces.
pub(super) fn code_span(code: &str) -> String {
    let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let code = clean(&code);
    if code.is_empty() {
        return String::new();
    }
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let ticks = "`".repeat(longest + 1);
    let space = if code.starts_with('`') || code.ends_with('`') { " " } else { "" };
    format!("{ticks}{space}{code}{space}{ticks}")
}

/// `inline`: the link's words as Markdown.
pub(super) fn link(inline: &str, target: &str) -> String {
    format!("[{inline}]({})", destination(target))
}

pub(super) fn image(alt: &str, path: &str) -> String {
    let alt = alt.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("![{}]({})", escape(&alt), destination(path))
}

fn destination(target: &str) -> String {
    let encoded: String = target
        .trim()
        .chars()
        .map(|c| match c {
            '<' => "%3C".into(),
            '>' => "%3E".into(),
            '\\' => "%5C".into(),
            c if c.is_control() => String::new(),
            c => c.to_string(),
        })
        .collect();
    let encoded = clean(&encoded);
    match encoded.contains([' ', '(', ')']) || encoded.is_empty() {
        true => format!("<{encoded}>"),
        false => encoded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kb::Asset;
    use crate::kb::markdown::{Block, Flavour, parse, replace_marks};

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::new(1 << 20);
        write(&mut writer);
        writer.finish()
    }

    fn read_back(markdown: &str) -> Vec<String> {
        let document = parse(markdown, Flavour::Converted);
        let text = |block: Block| match block {
            Block::Heading { level, text, .. } => format!("{} {text}", "#".repeat(level)),
            Block::Body { text, .. } => replace_marks(&text, |n| match &document.assets[n] {
                Asset::Code { text, .. } => format!("<{text}>"),
                _ => "<>".into(),
            }),
        };
        document.blocks.into_iter().map(text).collect()
    }

    #[test]
    fn whatever_an_author_writes_is_read_back_as_text() {
        let lines = [
            "# no heading",
            "1. no item",
            "- no item",
            "> no quote",
            "a * b * c",
            "**x** _y_ snake_case",
            "`tick`",
            "[a](b) ![c](d)",
            "<b>&amp; &lt;",
            "{% if x %} {{ y }}",
            "| a | b |",
            "~~~",
            "```",
            "a \\ b",
            "====",
            "use <Tabs> here",
            "!important [x]: y",
        ];
        for line in lines {
            let markdown = written(|w| w.paragraph(&escape(line)));
            assert_eq!(read_back(&markdown), [line], "{markdown}");
        }
        let forged = read_back(&written(|w| w.paragraph(&escape("write [[code:1]]"))));
        assert!(!forged[0].contains("[[code:1]]"));
    }

    #[test]
    fn code_keeps_every_byte_also_in_a_list() {
        let code = "a\n\n\tb ```\n  c  \n# d\n{% e %}";
        let markdown = written(|w| {
            w.code("sh", code);
            w.item(0, Some(10));
            w.paragraph("run");
            w.code("", code);
            w.leave_lists(0);
            w.paragraph("end");
        });
        let document = parse(&markdown, Flavour::Converted);
        let codes = document.assets.iter().filter(|a| matches!(a, Asset::Code { text, .. } if text == code));
        assert_eq!(codes.count(), 2, "{markdown}");
        assert_eq!(read_back(&markdown).last().map(String::as_str), Some("end"));
    }

    #[test]
    fn lists_nest_and_headings_keep_their_words() {
        let markdown = written(|w| {
            w.heading(2, "What is {#this}? #");
            w.item(0, None);
            w.paragraph("one");
            w.item(1, Some(1));
            w.paragraph("deep");
            w.item(0, None);
            w.paragraph("two");
        });
        assert_eq!(read_back(&markdown), ["## What is {#this}? #", "- one\n  1. deep", "- two"], "{markdown}");
    }
}
