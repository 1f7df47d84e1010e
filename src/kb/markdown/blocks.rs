//! Prepared Markdown into blocks, with pulldown-cmark.

use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::fences::Code;
use super::html::{self, Piece};
use super::{Block, Document, Flavour, MARK_OPEN, mark, replace_marks};
use crate::kb::Asset;

/// Reads `text`, whose fenced code stands as marks into `codes`. `original` is the file's text, line for line.
pub(super) fn read(text: &str, original: &str, codes: Vec<Code>, flavour: Flavour) -> Document {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_HEADING_ATTRIBUTES;
    let mut document = Document::default();
    for code in codes {
        document.assets.push(Asset::Code { n: 0, language: code.language, text: code.text });
        document.asset_lines.push(code.line);
    }
    let mut starts = vec![0];
    starts.extend(text.match_indices('\n').map(|(at, _)| at + 1));
    let mut reader = Reader {
        original: original.lines().collect(),
        starts,
        flavour,
        document,
        buffer: String::new(),
        line: 1,
        lists: Vec::new(),
        heading: None,
        links: Vec::new(),
        image: None,
        html: None,
        indented: None,
        table: None,
    };
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        reader.take(event, range);
    }
    reader.finish_block();
    reader.document
}

struct Reader<'a> {
    original: Vec<&'a str>,
    /// Byte offset of each line.
    starts: Vec<usize>,
    flavour: Flavour,
    document: Document,
    /// The block being written, and its line.
    buffer: String,
    line: usize,
    /// Open lists: the next number, or `None` for bullets.
    lists: Vec<Option<u64>>,
    heading: Option<usize>,
    /// Open links: target, and where their text begins in the buffer.
    links: Vec<(String, usize)>,
    /// Open image: target and alternative text.
    image: Option<(String, String)>,
    /// Open HTML block.
    html: Option<String>,
    /// Open indented code block.
    indented: Option<String>,
    /// Open table: the marks of its images. Its text is taken from the source.
    table: Option<String>,
}

impl Reader<'_> {
    fn take(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(tag) => self.start(tag, range),
            Event::End(tag) => self.end(tag, range),
            Event::Text(text) => self.text(&text, range.start),
            Event::Code(code) => {
                let ticks = if code.contains('`') { "``" } else { "`" };
                self.push(&format!("{ticks}{code}{ticks}"), range.start);
            }
            Event::Html(html) | Event::InlineHtml(html) => match &mut self.html {
                Some(block) => block.push_str(&html),
                None => self.html(&html, range.start),
            },
            Event::SoftBreak => self.soft_break(),
            Event::HardBreak => self.new_line(),
            Event::Rule => self.finish_block(),
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>, range: Range<usize>) {
        match tag {
            Tag::Heading { level, .. } => {
                self.finish_block();
                self.heading = Some(level as usize);
                self.line = self.line_of(range.start);
            }
            Tag::List(first) => {
                if self.lists.is_empty() {
                    self.finish_block();
                }
                self.lists.push(first);
            }
            Tag::Item => {
                if self.lists.len() == 1 {
                    self.finish_block();
                }
                self.new_line();
                let marker = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "- ".to_string(),
                };
                self.push(&marker, range.start);
            }
            Tag::Paragraph if !self.at_item_start() => self.new_line(),
            Tag::Strong => self.push("**", range.start),
            Tag::Emphasis => self.push("*", range.start),
            Tag::Link { dest_url, .. } => self.links.push((dest_url.to_string(), self.buffer.len())),
            Tag::Image { dest_url, .. } => self.image = Some((dest_url.to_string(), String::new())),
            Tag::HtmlBlock => self.html = Some(String::new()),
            Tag::CodeBlock(CodeBlockKind::Indented) => self.indented = Some(String::new()),
            Tag::Table(_) => {
                self.new_line();
                self.table = Some(String::new());
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd, range: Range<usize>) {
        match tag {
            TagEnd::Heading(_) => {
                let text = replace_marks(&std::mem::take(&mut self.buffer), |_| String::new());
                let text = text.replace(['*', '`'], "").split_whitespace().collect::<Vec<_>>().join(" ");
                if let Some(level) = self.heading.take().filter(|_| !text.is_empty()) {
                    self.document.blocks.push(Block::Heading { level, text, line: self.line });
                }
            }
            TagEnd::Paragraph | TagEnd::BlockQuote(_) if self.lists.is_empty() => self.finish_block(),
            TagEnd::Item if self.lists.len() == 1 => self.finish_block(),
            TagEnd::List(_) => {
                self.lists.pop();
            }
            TagEnd::Strong => self.push("**", range.start),
            TagEnd::Emphasis => self.push("*", range.start),
            TagEnd::Link => self.end_link(range.start),
            TagEnd::Image => {
                if let Some((path, alt)) = self.image.take() {
                    self.add_image(path, alt, range.start);
                }
            }
            TagEnd::HtmlBlock => {
                if let Some(html) = self.html.take() {
                    self.new_line();
                    self.html(&html, range.start);
                    self.new_line();
                    if self.lists.is_empty() {
                        self.finish_block();
                    }
                }
            }
            TagEnd::CodeBlock => self.end_indented(range),
            TagEnd::Table => self.end_table(range),
            _ => {}
        }
    }

    fn text(&mut self, text: &str, at: usize) {
        if let Some((_, alt)) = &mut self.image {
            alt.push_str(text);
        } else if let Some(code) = &mut self.indented {
            code.push_str(text);
        } else if text.contains(MARK_OPEN) {
            // A fragment of code stands on a line of its own.
            self.new_line();
            self.push(text.trim(), at);
            self.new_line();
        } else {
            self.push(text, at);
        }
    }

    fn push(&mut self, text: &str, at: usize) {
        if self.table.is_some() {
            return;
        }
        if self.buffer.trim().is_empty() && self.heading.is_none() {
            self.line = self.line_of(at);
        }
        self.buffer.push_str(text);
    }

    /// A line break of the source that Markdown reads as a space. FAQ answers come through here too, and their
    /// authors mean the break, so it stays one.
    fn soft_break(&mut self) {
        match &mut self.image {
            Some((_, alt)) => alt.push(' '),
            None if self.heading.is_some() => self.buffer.push(' '),
            None => self.new_line(),
        }
    }

    /// Ends the line, and indents the next as deep as the list.
    fn new_line(&mut self) {
        if self.table.is_some() {
            return;
        }
        let written = self.buffer.trim_end_matches([' ', '\n']).len();
        self.buffer.truncate(written);
        if written > 0 {
            self.buffer.push('\n');
            let depth = self.lists.len().saturating_sub(1);
            self.buffer.push_str(&"  ".repeat(depth));
        }
    }

    fn at_item_start(&self) -> bool {
        let line = self.buffer.rsplit('\n').next().unwrap_or_default().trim_start();
        line == "- " || (line.ends_with(". ") && line[..line.len() - 2].bytes().all(|b| b.is_ascii_digit()))
    }

    fn finish_block(&mut self) {
        let text = std::mem::take(&mut self.buffer);
        let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        let text = text.trim_matches('\n');
        if !text.trim().is_empty() && text.trim() != "-" {
            let is_item = !self.lists.is_empty();
            self.document.blocks.push(Block::Body { text: text.to_string(), line: self.line, is_item });
        }
    }

    fn end_link(&mut self, at: usize) {
        let Some((target, start)) = self.links.pop() else { return };
        let text = self.buffer.get(start..).unwrap_or_default();
        let text = replace_marks(text, |_| String::new()).replace("**", "").trim().to_string();
        if !target.is_empty() {
            let mark = self.add_asset(Asset::Link { n: 0, text, target }, at);
            self.push(&mark, at);
        }
    }

    fn add_image(&mut self, path: String, alt: String, at: usize) {
        let mark = self.add_asset(Asset::Image { n: 0, path, alt: alt.trim().to_string() }, at);
        match &mut self.table {
            Some(marks) => marks.push_str(&mark),
            None => self.push(&mark, at),
        }
    }

    fn add_asset(&mut self, asset: Asset, at: usize) -> String {
        self.document.assets.push(asset);
        self.document.asset_lines.push(self.line_of(at));
        mark(self.document.assets.len() - 1)
    }

    fn html(&mut self, html: &str, at: usize) {
        for piece in html::pieces(html) {
            match piece {
                Piece::Text(text) => {
                    let is_one_line = !text.contains('\n');
                    for (line, part) in text.split('\n').enumerate() {
                        if line > 0 {
                            self.new_line();
                        }
                        self.text(if is_one_line { part } else { part.trim() }, at);
                    }
                }
                Piece::Image { path, alt } => self.add_image(path, alt, at),
                Piece::LinkStart(target) => self.links.push((target, self.buffer.len())),
                Piece::LinkEnd => self.end_link(at),
                Piece::Break => self.new_line(),
            }
        }
    }

    /// Indented text is code in Markdown, but in MDX, and where a fence was indented by mistake, it is text.
    fn end_indented(&mut self, range: Range<usize>) {
        let Some(code) = self.indented.take() else { return };
        if self.flavour == Flavour::Mdx || code.contains(MARK_OPEN) {
            for line in code.lines() {
                self.new_line();
                self.push(line.trim(), range.start);
            }
        } else {
            let text = code.strip_suffix('\n').unwrap_or(&code).to_string();
            let mark = self.add_asset(Asset::Code { n: 0, language: String::new(), text }, range.start);
            self.new_line();
            self.push(&mark, range.start);
        }
        self.new_line();
        if self.lists.is_empty() {
            self.finish_block();
        }
    }

    fn end_table(&mut self, range: Range<usize>) {
        let first = self.line_of(range.start);
        let last = self.line_of(range.end.saturating_sub(1).max(range.start));
        let rows = self.original.get(first - 1..last.min(self.original.len())).unwrap_or_default();
        let text = rows.iter().map(|row| row.trim()).collect::<Vec<_>>().join("\n").trim().to_string();
        let mark = self.add_asset(Asset::Table { n: 0, text }, range.start);
        let images = self.table.take().unwrap_or_default();
        self.new_line();
        self.push(&format!("{mark}\n{images}"), range.start);
        self.new_line();
        if self.lists.is_empty() {
            self.finish_block();
        }
    }

    /// 1-based line of a byte offset.
    fn line_of(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Flavour, parse};
    use super::*;

    fn body(text: &str) -> Vec<String> {
        let blocks = parse(text, Flavour::Markdown).blocks.into_iter();
        blocks
            .map(|block| match block {
                Block::Heading { level, text, .. } => format!("{} {text}", "#".repeat(level)),
                Block::Body { text, .. } => replace_marks(&text, |n| format!("<{n}>")),
            })
            .collect()
    }

    #[test]
    fn text_keeps_its_words_lists_and_emphasis() {
        let text = "# A `b` {#c}\n\nOne **two** `three`\nfour.\n\n1. x\n2. y\n   - z\n\n     more\n";
        assert_eq!(body(text), ["# A b", "One **two** `three`\nfour.", "1. x", "2. y\n  - z\n  more"]);
    }

    #[test]
    fn code_images_tables_and_links_become_assets() {
        let text = "See [the *page*](/p) ![shot](a.png).\n\n| a | b |\n|---|---|\n| 1 | ![i](c.png) |\n\n- item\n\n  ```sh\n  ls\n  ```\n";
        assert_eq!(body(text), ["See the *page*<1> <2>.", "<4>\n<3>", "- item\n<0>"]);
        let document = parse(text, Flavour::Markdown);
        let table = Asset::Table { n: 0, text: "| a | b |\n|---|---|\n| 1 | ![i](c.png) |".into() };
        assert_eq!(document.assets[4], table);
        assert_eq!(document.assets[0], Asset::Code { n: 0, language: "sh".into(), text: "ls".into() });
        assert_eq!(document.assets[1], Asset::Link { n: 0, text: "the *page*".into(), target: "/p".into() });
        assert_eq!(document.asset_lines[2], 1);
    }

    #[test]
    fn html_gives_its_text_and_its_images() {
        let text = "<div>\n<p>Hello</p>\n<img src=\"x.png\" alt=\"X\"/>\n</div>\n\nUse <kbd>Enter</kbd> and <TOKEN>.\n";
        assert_eq!(body(text), ["Hello\n<0>", "Use Enter and <TOKEN>."]);
    }
}
