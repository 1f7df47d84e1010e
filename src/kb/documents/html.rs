//! HTML into Markdown: headings, paragraphs, lists, tables, links, images, and code byte for byte.
//!
//! `readable` has said before which part of the page is its content and which parts in it are not. Here the rest is
//! walked once, in order.

use ego_tree::NodeRef;
use scraper::{ElementRef, Html, Node, Selector};

use super::readable::{self, Readable};
use super::writer::{Writer, code_span, escape, image, link};
use super::{Limits, Reading};

/// Elements nested deeper than this are read as one text.
const MAX_DEPTH: usize = 400;

/// Elements without anything to read.
const SILENT: [&str; 21] = [
    "script", "style", "noscript", "template", "svg", "math", "iframe", "object", "embed", "canvas", "audio", "video",
    "select", "input", "textarea", "button", "head", "map", "dialog", "frameset", "progress",
];
/// Elements that stand in a line of text.
const INLINE: [&str; 36] = [
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "br", "cite", "code", "data", "del", "dfn", "em", "font", "i",
    "img", "ins", "kbd", "label", "mark", "nobr", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup",
    "time", "tt", "u", "var", "wbr",
];
/// Parts of a listing that are no code: the gutter, the copy button.
const GUTTERS: [&str; 9] = [
    "linenos",
    "lineno",
    "linenumber",
    "gutter",
    "line-numbers-rows",
    "hljs-ln-numbers",
    "line-number",
    "copybtn",
    "clipboard-copy",
];

/// Reads a page.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Reading {
    read_text(&decoded(bytes), limits)
}

/// Reads a page whose encoding is known.
pub(super) fn read_text(text: &str, limits: &Limits) -> Reading {
    let page = Html::parse_document(text);
    let readable = readable::of(&page);
    let mut walker = Walker::new(&readable, limits);
    walker.children(*readable.root, 0);
    walker.flush();
    let mut reading = Reading { title: title_of(&page, &readable), ..Reading::default() };
    if readable.dropped > 0 {
        let parts = super::counted(readable.dropped, "part");
        reading.skipped.push(format!("{parts} around the text (menus, footers, what is hidden)"));
    }
    if walker.data_images > 0 {
        let images = super::counted(walker.data_images, "image");
        reading.skipped.push(format!("{images} written into the page itself"));
    }
    reading.take(walker.out, limits);
    reading
}

/// The text of a page by its byte order mark, its own word (`<meta charset>`), as UTF-8, or as Windows-1252.
pub(super) fn decoded(bytes: &[u8]) -> String {
    if let Some((encoding, _)) = encoding_rs::Encoding::for_bom(bytes) {
        return encoding.decode(bytes).0.into_owned();
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(2048)]).to_ascii_lowercase();
    let named = head.find("charset=").map(|at| {
        let value = head[at + 8..].trim_start_matches(['"', '\'', ' ']);
        value.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_')).next().unwrap_or_default()
    });
    let named = named.and_then(|name| encoding_rs::Encoding::for_label(name.as_bytes()));
    match (named, std::str::from_utf8(bytes)) {
        (_, Ok(text)) => text.to_string(),
        (Some(encoding), _) if encoding != encoding_rs::UTF_8 => encoding.decode(bytes).0.into_owned(),
        (None, _) => encoding_rs::WINDOWS_1252.decode(bytes).0.into_owned(),
        (_, _) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// The first heading of the content, else the page's title without the site's name.
fn title_of(page: &Html, readable: &Readable<'_>) -> Option<String> {
    let heading = Selector::parse("h1").ok().and_then(|h1| {
        let inside = readable.root.select(&h1).find(|e| !readable.is_noise(**e));
        inside.or_else(|| page.select(&h1).next()).map(heading_text)
    });
    let heading = heading.filter(|text| !text.is_empty());
    let whole = Selector::parse("title").ok().and_then(|title| page.select(&title).next());
    let whole = whole.map(|title| words(&title.text().collect::<String>())).filter(|text| !text.is_empty());
    heading.or_else(|| {
        let whole = whole?;
        let named =
            [" | ", " — ", " – ", " · ", " - "].iter().find_map(|at| whole.split_once(at)).map(|(page, _)| page);
        Some(named.unwrap_or(&whole).trim().to_string())
    })
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A heading's words, without the sign that links to it.
fn heading_text(heading: ElementRef<'_>) -> String {
    let mut text = String::new();
    for node in heading.descendants() {
        let Node::Text(piece) = node.value() else { continue };
        let in_anchor = node.ancestors().take_while(|above| above.id() != heading.id()).any(|above| {
            ElementRef::wrap(above).is_some_and(|e| {
                let name = e.value().name();
                SILENT.contains(&name) || (name == "a" && words(&e.text().collect::<String>()).chars().all(is_sign))
            })
        });
        if !in_anchor {
            text.push_str(piece);
        }
    }
    words(&text).trim_end_matches(['¶', '\u{200b}']).trim().to_string()
}

/// A character of which permalinks are made, never a word.
fn is_sign(c: char) -> bool {
    !c.is_alphanumeric()
}

struct List {
    /// The next number, of an ordered list.
    number: Option<usize>,
}

struct Walker<'a> {
    readable: &'a Readable<'a>,
    out: Writer,
    /// Inline Markdown of the block under way.
    line: String,
    lists: Vec<List>,
    data_images: usize,
}

impl<'a> Walker<'a> {
    fn new(readable: &'a Readable<'a>, limits: &Limits) -> Self {
        let out = Writer::new(limits.max_text_bytes);
        Self { readable, out, line: String::new(), lists: Vec::new(), data_images: 0 }
    }

    fn children(&mut self, node: NodeRef<'_, Node>, depth: usize) {
        for child in node.children() {
            self.node(child, depth + 1);
        }
    }

    fn node(&mut self, node: NodeRef<'_, Node>, depth: usize) {
        match node.value() {
            Node::Text(text) => self.push(text),
            Node::Element(_) => {
                if let Some(element) = ElementRef::wrap(node).filter(|_| !self.readable.is_noise(node)) {
                    self.element(element, depth);
                }
            }
            _ => {}
        }
    }

    fn element(&mut self, element: ElementRef<'_>, depth: usize) {
        let name = element.value().name();
        if SILENT.contains(&name) || element.value().classes().any(|class| GUTTERS.contains(&class)) {
            return;
        }
        if depth > MAX_DEPTH {
            self.push(&element.text().collect::<String>());
            return;
        }
        match name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.flush();
                self.lists.clear();
                self.out.heading(usize::from(name.as_bytes()[1] - b'0'), &heading_text(element));
            }
            "br" => self.line.push('\n'),
            "hr" => self.flush(),
            "pre" | "listing" | "xmp" => {
                self.flush();
                self.code(element);
            }
            "code" | "kbd" | "samp" | "tt" => self.line.push_str(&code_span(&element.text().collect::<String>())),
            "strong" | "b" => self.emphasised(element, depth, "**"),
            "em" | "i" => self.emphasised(element, depth, "*"),
            "a" => self.link(element, depth),
            "img" => self.image(element),
            "ul" | "ol" | "menu" | "dir" => self.list(element, depth),
            "li" => self.item(element, depth),
            "dt" | "summary" | "legend" => {
                self.flush();
                self.emphasised(element, depth, "**");
                self.flush();
            }
            "table" => self.table(element, depth),
            _ if INLINE.contains(&name) => self.children(*element, depth),
            _ => {
                self.flush();
                self.children(*element, depth);
                self.flush();
            }
        }
    }

    /// Text of the page: runs of whitespace are one space.
    fn push(&mut self, text: &str) {
        let mut collapsed = String::with_capacity(text.len());
        for c in text.chars() {
            match c.is_whitespace() && c != '\u{a0}' {
                true if collapsed.ends_with(' ') => {}
                true => collapsed.push(' '),
                false => collapsed.push(if c == '\u{a0}' { ' ' } else { c }),
            }
        }
        let after_space = self.line.is_empty() || self.line.ends_with([' ', '\n']);
        self.line.push_str(&escape(if after_space { collapsed.trim_start() } else { &collapsed }));
    }

    /// Ends the block under way.
    fn flush(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.trim().is_empty() {
            self.out.leave_lists(self.lists.len());
            self.out.paragraph(&line);
        }
    }

    fn emphasised(&mut self, element: ElementRef<'_>, depth: usize, mark: &str) {
        let before = std::mem::take(&mut self.line);
        self.children(*element, depth);
        let inner = std::mem::replace(&mut self.line, before);
        let trimmed = inner.trim();
        // Marks hold only within one line, and around something to read.
        if trimmed.is_empty() || trimmed.contains(['\n', '*']) {
            self.line.push_str(&inner);
            return;
        }
        let (front, back) = (inner.starts_with(' '), inner.ends_with(' '));
        self.line.push_str(if front { " " } else { "" });
        self.line.push_str(&format!("{mark}{trimmed}{mark}"));
        self.line.push_str(if back { " " } else { "" });
    }

    fn link(&mut self, element: ElementRef<'_>, depth: usize) {
        let target = element.value().attr("href").unwrap_or_default().trim();
        let scheme = target.split([':', '/']).next().unwrap_or_default().to_ascii_lowercase();
        let leads_nowhere = target.is_empty() || target.starts_with('#') || ["javascript", "data"].contains(&&*scheme);
        let holds_blocks = element.descendants().filter_map(ElementRef::wrap).any(|e| {
            matches!(e.value().name(), "p" | "div" | "pre" | "table" | "ul" | "h1" | "h2" | "h3" | "h4" | "img")
        });
        if leads_nowhere || holds_blocks {
            self.children(*element, depth);
            return;
        }
        let before = std::mem::take(&mut self.line);
        self.children(*element, depth);
        let inner = std::mem::replace(&mut self.line, before);
        let trimmed = words(&inner);
        if trimmed.chars().any(char::is_alphanumeric) {
            self.line.push_str(if inner.starts_with(' ') { " " } else { "" });
            self.line.push_str(&link(&trimmed, target));
            self.line.push_str(if inner.ends_with(' ') { " " } else { "" });
        }
    }

    fn image(&mut self, element: ElementRef<'_>) {
        let attribute = |name: &str| element.value().attr(name).map(str::trim).filter(|value: &&str| !value.is_empty());
        let is_data = |path: &&str| path.starts_with("data:");
        let lazy = ["data-src", "data-lazy-src", "data-original"].iter().find_map(|name| attribute(name));
        let Some(path) = lazy.or(attribute("src")) else { return };
        if is_data(&path) {
            self.data_images += 1;
            return;
        }
        // A pixel that counts visitors.
        if attribute("width") == Some("1") || attribute("height") == Some("1") {
            return;
        }
        self.out.counts.images += 1;
        self.line.push_str(&image(attribute("alt").unwrap_or_default(), path));
    }

    fn list(&mut self, element: ElementRef<'_>, depth: usize) {
        self.flush();
        let first = element.value().attr("start").and_then(|n| n.parse().ok()).unwrap_or(1usize);
        let number = (element.value().name() == "ol").then_some(first.min(1_000_000));
        self.lists.push(List { number });
        self.children(*element, depth);
        self.flush();
        self.lists.pop();
        self.out.leave_lists(self.lists.len());
    }

    fn item(&mut self, element: ElementRef<'_>, depth: usize) {
        self.flush();
        let Some(list) = self.lists.last_mut() else {
            self.children(*element, depth);
            self.flush();
            return;
        };
        let number = list.number;
        list.number = number.map(|n| n + 1);
        self.out.item(self.lists.len() - 1, number);
        self.children(*element, depth);
        self.flush();
    }

    fn code(&mut self, element: ElementRef<'_>) {
        let mut code = String::new();
        code_text(*element, &mut code, 0);
        let code = code.strip_suffix('\n').unwrap_or(&code);
        if !code.trim().is_empty() {
            self.out.leave_lists(self.lists.len());
            self.out.code(&language_of(element).unwrap_or_default(), code);
        }
    }

    fn table(&mut self, element: ElementRef<'_>, depth: usize) {
        self.flush();
        let holds = |name: &str| {
            let inside = element.descendants().skip(1).filter_map(ElementRef::wrap);
            inside.filter(|e| e.value().name() == name).count()
        };
        // A table that only lays out, or shows code beside its line numbers.
        if ["table", "pre", "h1", "h2", "h3", "ul", "ol"].iter().any(|name| holds(name) > 0) {
            self.children(*element, depth);
            self.flush();
            return;
        }
        let mut rows: Vec<Vec<String>> = Vec::new();
        for row in element.descendants().filter_map(ElementRef::wrap) {
            match row.value().name() {
                "caption" => self.children(*row, depth),
                "tr" => rows.push(Vec::new()),
                "td" | "th" => {
                    let before = std::mem::take(&mut self.line);
                    for child in row.children() {
                        self.cell_node(child, depth);
                    }
                    let cell = std::mem::replace(&mut self.line, before);
                    let span = row.value().attr("colspan").and_then(|n| n.parse().ok()).unwrap_or(1usize).clamp(1, 50);
                    if rows.is_empty() {
                        rows.push(Vec::new());
                    }
                    if let Some(row) = rows.last_mut() {
                        row.push(cell);
                        row.extend(std::iter::repeat_n(String::new(), span - 1));
                    }
                }
                _ => {}
            }
        }
        self.flush();
        rows.retain(|row| row.iter().any(|cell| !cell.trim().is_empty()));
        if rows.len() == 1 && rows[0].len() == 1 {
            self.out.paragraph(&rows[0][0]);
        } else {
            self.out.leave_lists(self.lists.len());
            self.out.table(&rows);
        }
    }

    /// What stands in a cell, blocks as words in a row.
    fn cell_node(&mut self, node: NodeRef<'_, Node>, depth: usize) {
        match ElementRef::wrap(node) {
            Some(e) if !INLINE.contains(&e.value().name()) && !SILENT.contains(&e.value().name()) => {
                self.line.push(' ');
                for child in e.children() {
                    if depth < MAX_DEPTH {
                        self.cell_node(child, depth + 1);
                    }
                }
                self.line.push(' ');
            }
            _ => self.node(node, depth),
        }
    }
}

/// The bytes of a listing: line elements that sites put around each line count as lines.
fn code_text(node: NodeRef<'_, Node>, code: &mut String, depth: usize) {
    for child in node.children() {
        match child.value() {
            Node::Text(text) => code.push_str(text),
            Node::Element(element) => {
                let name = element.name();
                let is_gutter = element.classes().any(|class| GUTTERS.contains(&class));
                match name {
                    "br" => code.push('\n'),
                    _ if SILENT.contains(&name) || is_gutter || depth > MAX_DEPTH => {}
                    _ => {
                        let before = code.len();
                        code_text(child, code, depth + 1);
                        let is_line = matches!(name, "div" | "li" | "tr" | "p");
                        if is_line && !code[before..].ends_with('\n') && child.next_sibling().is_some() {
                            code.push('\n');
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

/// The language of a listing, as its classes or attributes name it, on it, in it or right above it.
fn language_of(pre: ElementRef<'_>) -> Option<String> {
    let inside = pre.children().filter_map(ElementRef::wrap).filter(|e| e.value().name() == "code");
    let above = pre.ancestors().take(6).filter_map(ElementRef::wrap);
    std::iter::once(pre).chain(inside).chain(above).find_map(|element| {
        let value = element.value();
        if let Some(named) = ["data-lang", "data-language"].iter().find_map(|name| value.attr(name)) {
            return Some(named.to_string());
        }
        let known = ["language-", "lang-", "highlight-source-", "highlight-", "brush:"];
        let class = value.attr("class").unwrap_or_default();
        let named = class
            .split_whitespace()
            .find_map(|class| known.iter().find_map(|front| class.strip_prefix(front)).filter(|rest| !rest.is_empty()));
        let pandoc = || class.strip_prefix("sourceCode ").and_then(|rest| rest.split_whitespace().next());
        let named = named.or_else(pandoc)?;
        (!["default", "none", "plaintext", "notranslate"].contains(&named)).then(|| named.to_string())
    })
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
