//! Puts the exact bytes of code, images, links and tables where an answer says `[[code:3]]`, also in streams that
//! are cut anywhere. What a marker stands for never passes through the sampler.

use std::collections::HashMap;

use crate::kb::{Asset, Chunk};

/// Longest marker; a longer run of `[[` is plain text.
const MARKER_BYTES: usize = 24;

/// What each marker of one answer stands for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assets {
    by_marker: HashMap<String, String>,
    /// Blocks (code, tables) stand on lines of their own.
    blocks: std::collections::HashSet<String>,
}

impl Assets {
    /// The assets of one chunk under their own numbers.
    pub fn of(chunk: &Chunk, public_url: &str) -> Self {
        let mut assets = Self::default();
        for asset in &chunk.assets {
            assets.insert(marker(asset, number(asset)), asset, public_url);
        }
        assets
    }

    fn insert(&mut self, marker: String, asset: &Asset, public_url: &str) {
        if matches!(asset, Asset::Code { .. } | Asset::Table { .. }) {
            self.blocks.insert(marker.clone());
        }
        self.by_marker.insert(marker, markdown(asset, public_url));
    }

    /// Adds a further chunk's assets under new numbers; returns its text with the markers renumbered.
    pub fn add(&mut self, chunk: &Chunk, public_url: &str) -> String {
        let mut text = chunk.text.clone();
        let base = self.by_marker.len();
        for (i, asset) in chunk.assets.iter().enumerate() {
            let (old, new) = (marker(asset, number(asset)), marker(asset, base + i + 1));
            // Two steps, so that a new number never meets an old one that is still to be renumbered.
            text = text.replace(&old, &new.replace("[[", "[[\u{1}"));
            self.insert(new, asset, public_url);
        }
        text.replace('\u{1}', "")
    }

    pub fn is_empty(&self) -> bool {
        self.by_marker.is_empty()
    }
}

fn number(asset: &Asset) -> usize {
    match asset {
        Asset::Code { n, .. } | Asset::Image { n, .. } | Asset::Link { n, .. } | Asset::Table { n, .. } => *n,
    }
}

fn marker(asset: &Asset, n: usize) -> String {
    let kind = match asset {
        Asset::Code { .. } => "code",
        Asset::Image { .. } => "image",
        Asset::Link { .. } => "link",
        Asset::Table { .. } => "table",
    };
    format!("[[{kind}:{n}]]")
}

/// An asset as Markdown for the customer. Code is byte-exact between its fences.
pub fn markdown(asset: &Asset, public_url: &str) -> String {
    match asset {
        Asset::Code { language, text, .. } => {
            let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
            let fence = "`".repeat((longest + 1).max(3));
            let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
            format!("{fence}{language}\n{text}{end}{fence}")
        }
        Asset::Image { path, alt, .. } => format!("![{alt}]({})", absolute(path, public_url)),
        Asset::Link { text, target, .. } if leads_outside(target) => text.clone(),
        Asset::Link { text, target, .. } => format!("[{text}]({})", absolute(target, public_url)),
        Asset::Table { text, .. } => text.clone(),
    }
}

/// A link to a page beside the folder that became the pack: nobody can follow it from here.
fn leads_outside(target: &str) -> bool {
    target.trim_start_matches("./").trim_start_matches('/').starts_with("../")
}

/// A path inside the pack as the URL under which the server gives it out; absolute URLs stay.
pub fn absolute(path: &str, public_url: &str) -> String {
    let scheme = path.split(':').next().unwrap_or("");
    if path.contains("://") || matches!(scheme, "mailto" | "tel") || path.starts_with('#') {
        return path.to_string();
    }
    let escaped: String = path
        .trim_start_matches("./")
        .trim_start_matches('/')
        .chars()
        .map(|c| match c {
            ' ' => "%20".to_string(),
            '(' => "%28".to_string(),
            ')' => "%29".to_string(),
            c => c.to_string(),
        })
        .collect();
    format!("{}/kb/{escaped}", public_url.trim_end_matches('/'))
}

/// Markdown as the pack's author wrote it, with its relative image and link targets made absolute. Code stays.
pub fn absolute_targets(markdown: &str, public_url: &str) -> String {
    let mut out = String::with_capacity(markdown.len());
    for (i, part) in markdown.split("```").enumerate() {
        if i > 0 {
            out.push_str("```");
        }
        if i % 2 == 1 {
            out.push_str(part);
            continue;
        }
        let mut rest = part;
        while let Some(at) = rest.find("](") {
            let (before, after) = rest.split_at(at + 2);
            out.push_str(before);
            let end = after.find([')', ' ']).unwrap_or(after.len());
            let target = &after[..end];
            out.push_str(&if target.is_empty() { String::new() } else { absolute(target, public_url) });
            rest = &after[end..];
        }
        out.push_str(rest);
    }
    out
}

/// Expands a stream.
pub struct Expander<'a> {
    assets: &'a Assets,
    held: String,
    /// The last character that left, so that blocks begin on a line of their own.
    last: Option<char>,
    /// The last piece was a block: what follows begins on a new line.
    after_block: bool,
}

impl<'a> Expander<'a> {
    pub fn new(assets: &'a Assets) -> Self {
        Self { assets, held: String::new(), last: None, after_block: false }
    }

    /// Takes a piece of text; returns what can be shown now.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let mut out = String::new();
        loop {
            let Some(at) = self.held.find('[') else {
                let all = std::mem::take(&mut self.held);
                self.emit(&mut out, &all);
                return out;
            };
            let before: String = self.held.drain(..at).collect();
            self.emit(&mut out, &before);
            if self.held == "[" {
                return out;
            }
            if !self.held.starts_with("[[") {
                let bracket: String = self.held.drain(..1).collect();
                self.emit(&mut out, &bracket);
                continue;
            }
            match self.held.find("]]") {
                Some(end) if end + 2 <= MARKER_BYTES => {
                    let marker: String = self.held.drain(..end + 2).collect();
                    self.emit_marker(&mut out, &marker);
                }
                None if self.held.len() < MARKER_BYTES => return out,
                _ => {
                    let brackets: String = self.held.drain(..2).collect();
                    self.emit(&mut out, &brackets);
                }
            }
        }
    }

    /// The rest, at the end of the stream. An unfinished marker is dropped.
    pub fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.held);
        if rest.starts_with("[[") { String::new() } else { rest }
    }

    fn emit(&mut self, out: &mut String, text: &str) {
        if text.is_empty() {
            return;
        }
        if std::mem::take(&mut self.after_block) && !text.starts_with('\n') {
            out.push('\n');
        }
        out.push_str(text);
        self.last = text.chars().next_back();
    }

    fn emit_marker(&mut self, out: &mut String, marker: &str) {
        let Some(content) = self.assets.by_marker.get(marker) else {
            // An invented marker of a known kind vanishes; other double brackets are somebody's text (`[[ -f x ]]`).
            let inner = marker.trim_matches(['[', ']']);
            if !["code:", "image:", "link:", "table:"].iter().any(|k| inner.starts_with(k)) {
                self.emit(out, marker);
            }
            return;
        };
        let block = self.assets.blocks.contains(marker);
        if block && self.last.is_some_and(|c| c != '\n') {
            self.emit(out, "\n");
        }
        let content = content.clone();
        self.emit(out, &content);
        self.after_block = block;
    }
}

/// Expands a complete text.
pub fn expand(text: &str, assets: &Assets) -> String {
    let mut expander = Expander::new(assets);
    let mut out = expander.push(text);
    out.push_str(&expander.finish());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kb::SourceKind;

    fn chunk() -> Chunk {
        Chunk {
            id: "a".into(),
            kind: SourceKind::Article,
            path: "articles/en/a.md".into(),
            line: 1,
            title: "A".into(),
            headings: vec![],
            text: "Add this: [[code:1]] then look:\n[[image:2]]".into(),
            assets: vec![
                Asset::Code { n: 1, language: "html".into(), text: "<a>\n\t[[x]] ``` é\n".into() },
                Asset::Image { n: 2, path: "articles/en/images/a b.png".into(), alt: "A".into() },
            ],
            lang: "en".into(),
            operator: None,
            questions: vec![],
            tags: vec![],
        }
    }

    #[test]
    fn a_link_that_leads_out_of_the_pack_is_its_words() {
        let link = |target: &str| markdown(&Asset::Link { n: 1, text: "a".into(), target: target.into() }, "http://h");
        assert_eq!((link("../../b.md").as_str(), link("/../b.md").as_str()), ("a", "a"));
        assert_eq!(link("articles/b.md"), "[a](http://h/kb/articles/b.md)");
    }

    #[test]
    fn code_is_exact_however_the_stream_is_cut() {
        let assets = Assets::of(&chunk(), "http://h:1");
        let text = &chunk().text;
        let whole = expand(text, &assets);
        assert!(whole.contains("````html\n<a>\n\t[[x]] ``` é\n````\n then look"), "{whole}");
        assert!(whole.ends_with("![A](http://h:1/kb/articles/en/images/a%20b.png)"));
        for cut in 1..5 {
            let chars: Vec<char> = text.chars().collect();
            let mut expander = Expander::new(&assets);
            let mut streamed = String::new();
            for piece in chars.chunks(cut) {
                streamed.push_str(&expander.push(&piece.iter().collect::<String>()));
            }
            streamed.push_str(&expander.finish());
            assert_eq!(streamed, whole, "cut every {cut}");
        }
    }

    #[test]
    fn an_invented_marker_vanishes_and_other_brackets_stay() {
        let assets = Assets::of(&chunk(), "");
        assert_eq!(expand("see [[code:9]]here [1] [[ -f x ]] a[0]", &assets), "see here [1] [[ -f x ]] a[0]");
    }

    #[test]
    fn several_passages_get_numbers_of_their_own() {
        let mut assets = Assets::default();
        let first = assets.add(&chunk(), "");
        let second = assets.add(&chunk(), "");
        assert!(first.contains("[[code:1]]") && second.contains("[[code:3]]") && second.contains("[[image:4]]"));
    }

    #[test]
    fn relative_targets_become_absolute_outside_code() {
        let written = "![a](articles/x.png) [b](https://e.x) ```\n[c](y)\n```";
        assert_eq!(
            absolute_targets(written, "http://h"),
            "![a](http://h/kb/articles/x.png) [b](https://e.x) ```\n[c](y)\n```"
        );
    }
}
