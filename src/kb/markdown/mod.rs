//! Markdown as documentation sites write it, read into blocks and assets.
//!
//! A text goes through three steps. `fences` cuts fenced code out by lines, so that no later step can touch a byte of
//! it. `builders` and `flavour` take off what a site builder adds to Markdown (boxes, tabs, shortcodes; YFM tags of
//! Diplodoc; JSX components of MDX) and keep what stands between. `blocks` reads the rest with pulldown-cmark. Each step keeps the number of lines, so
//! that a block's line is the file's line.
//!
//! While on its way an asset stands in the text as a *mark*: its number between two private-use characters.

mod blocks;
mod builders;
pub(crate) mod fences;
mod flavour;
mod html;

use crate::kb::Asset;

pub(crate) use flavour::Flavour;

const MARK_OPEN: char = '\u{e000}';
const MARK_CLOSE: char = '\u{e001}';

/// A document, read.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub blocks: Vec<Block>,
    /// In the order of their marks; `n` is not yet set.
    pub assets: Vec<Asset>,
    /// 1-based line of each asset.
    pub asset_lines: Vec<usize>,
}

/// A heading or a piece of text between headings.
#[derive(Debug, PartialEq)]
pub(crate) enum Block {
    Heading {
        level: usize,
        text: String,
        line: usize,
    },
    /// A paragraph, a list item or a table, with marks for its assets. Items stay close to one another.
    Body {
        text: String,
        line: usize,
        is_item: bool,
    },
}

/// Reads a document.
pub(crate) fn parse(text: &str, flavour: Flavour) -> Document {
    if flavour == Flavour::Plain {
        return plain(text);
    }
    let (without_code, codes) = fences::cut(text);
    let prepared = match flavour {
        Flavour::Converted => without_code,
        _ => flavour::strip(&without_code, flavour),
    };
    blocks::read(&prepared, text, codes, flavour)
}

/// Plain text: paragraphs between blank lines.
fn plain(text: &str) -> Document {
    let mut document = Document::default();
    let mut paragraph = String::new();
    let mut start = 1;
    for (at, line) in text.lines().chain([""]).enumerate() {
        if line.trim().is_empty() {
            if !paragraph.is_empty() {
                let text = clean(std::mem::take(&mut paragraph).trim_end());
                document.blocks.push(Block::Body { text, line: start, is_item: false });
            }
            continue;
        }
        if paragraph.is_empty() {
            start = at + 1;
        }
        paragraph.push_str(line.trim_end());
        paragraph.push('\n');
    }
    document
}

/// A mark for asset `n`.
fn mark(n: usize) -> String {
    format!("{MARK_OPEN}{n}{MARK_CLOSE}")
}

/// The text with each mark replaced by what `put` says for its asset.
pub(crate) fn replace_marks(text: &str, mut put: impl FnMut(usize) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(MARK_OPEN) {
        out.push_str(&rest[..start]);
        rest = &rest[start + MARK_OPEN.len_utf8()..];
        let Some(end) = rest.find(MARK_CLOSE) else { break };
        if let Ok(n) = rest[..end].parse() {
            out.push_str(&put(n));
        }
        rest = &rest[end + MARK_CLOSE.len_utf8()..];
    }
    out.push_str(rest);
    out
}

/// A text of an author in which nothing can be taken for a mark or a placeholder of ours.
pub(crate) fn clean(text: &str) -> String {
    let plain = text.replace([MARK_OPEN, MARK_CLOSE], " ");
    match plain.contains("[[") {
        // A zero-width space keeps an author's own `[[code:1]]` from being taken for a fragment of the chunk.
        true => ["code:", "image:", "table:", "link:"]
            .iter()
            .fold(plain, |text, kind| text.replace(&format!("[[{kind}"), &format!("[\u{200b}[{kind}"))),
        false => plain,
    }
}
