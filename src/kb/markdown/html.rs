//! HTML inside Markdown: its text, images and links.

/// A piece of HTML that means something to a reader.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Image { path: String, alt: String },
    LinkStart(String),
    LinkEnd,
    Break,
}

/// Elements that end a line.
const BLOCKS: [&str; 22] = [
    "p",
    "div",
    "br",
    "tr",
    "li",
    "ul",
    "ol",
    "table",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "summary",
    "details",
    "section",
    "blockquote",
    "pre",
    "hr",
    "dt",
    "dd",
];
/// Elements known by name; anything else in angle brackets is an author's placeholder, as `<TOKEN>`.
const INLINE: [&str; 34] = [
    "a", "abbr", "b", "big", "button", "cite", "code", "del", "em", "font", "i", "iframe", "img", "ins", "kbd",
    "label", "mark", "nobr", "q", "s", "samp", "script", "small", "span", "strong", "style", "sub", "sup", "svg", "td",
    "th", "u", "video", "source",
];
/// Containers that only lay out.
const LAYOUT: [&str; 14] = [
    "tbody",
    "thead",
    "tfoot",
    "colgroup",
    "col",
    "figure",
    "figcaption",
    "center",
    "article",
    "main",
    "nav",
    "header",
    "footer",
    "picture",
];

/// Takes HTML apart. Comments, scripts and styles are dropped; what is not an element is kept as text.
pub(super) fn pieces(html: &str) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut rest = html;
    let mut text = String::new();
    while let Some(start) = rest.find('<') {
        text.push_str(&rest[..start]);
        rest = &rest[start..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.find("-->").map_or("", |end| &comment[end + 3..]);
            continue;
        }
        let Some(tag) = Tag::read(rest) else {
            text.push('<');
            rest = &rest[1..];
            continue;
        };
        let name = tag.name.to_ascii_lowercase();
        let source = &rest[..tag.length];
        rest = &rest[tag.length..];
        if (name == "script" || name == "style") && !tag.closing && !tag.empty {
            let close = format!("</{name}");
            rest = rest.find(&close).map_or("", |end| &rest[end..]);
            continue;
        }
        let known = tag.name == name && [&BLOCKS[..], &INLINE[..], &LAYOUT[..]].iter().any(|set| set.contains(&&*name));
        if !known {
            text.push_str(source);
            continue;
        }
        flush(&mut text, &mut out);
        match name.as_str() {
            "img" => {
                if let Some(path) = tag.attribute("src") {
                    out.push(Piece::Image { path, alt: tag.attribute("alt").unwrap_or_default() });
                }
            }
            "a" if tag.closing => out.push(Piece::LinkEnd),
            "a" => out.extend(tag.attribute("href").map(Piece::LinkStart)),
            "td" | "th" if tag.closing => out.push(Piece::Text(" | ".into())),
            block if BLOCKS.contains(&block) => out.push(Piece::Break),
            _ => {}
        }
    }
    text.push_str(rest);
    flush(&mut text, &mut out);
    out
}

fn flush(text: &mut String, out: &mut Vec<Piece>) {
    if !text.is_empty() {
        out.push(Piece::Text(decoded(text)));
        text.clear();
    }
}

/// The five entities that occur in documentation.
fn decoded(text: &str) -> String {
    match text.contains('&') {
        true => [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&nbsp;", " "), ("&#39;", "'"), ("&amp;", "&")]
            .iter()
            .fold(text.to_string(), |text, (entity, plain)| text.replace(entity, plain)),
        false => text.to_string(),
    }
}

/// A tag at the beginning of a text; also of JSX, with `{…}` as attribute values.
pub(super) struct Tag<'a> {
    pub name: &'a str,
    attributes: &'a str,
    pub closing: bool,
    /// `<br/>`
    pub empty: bool,
    /// Bytes from `<` to `>`.
    pub length: usize,
}

impl<'a> Tag<'a> {
    pub fn read(text: &'a str) -> Option<Self> {
        let inner = text.strip_prefix('<')?;
        let (closing, inner) = inner.strip_prefix('/').map_or((false, inner), |rest| (true, rest));
        let name_length =
            inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-').unwrap_or(inner.len());
        let name = &inner[..name_length];
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let body = &inner[name_length..];
        if !body.starts_with(|c: char| c.is_whitespace() || c == '>' || c == '/') {
            return None;
        }
        let end = end_of_tag(body)?;
        let attributes = body[..end].trim_end();
        let empty = attributes.ends_with('/');
        let length = text.len() - body.len() + end + 1;
        Some(Self { name, attributes: attributes.trim_end_matches('/'), closing, empty, length })
    }

    /// An attribute's value; `{"x"}` of JSX counts as `x`.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let mut rest = self.attributes;
        while let Some(at) = rest.find(name) {
            let before = rest[..at].chars().next_back();
            let after = rest[at + name.len()..].trim_start();
            rest = &rest[at + name.len()..];
            let Some(value) = after.strip_prefix('=').filter(|_| before.is_none_or(char::is_whitespace)) else {
                continue;
            };
            let value = value.trim_start();
            let value = value.strip_prefix('{').map_or(value, str::trim_start);
            let quote = value.chars().next()?;
            return match quote {
                '"' | '\'' | '`' => value[1..].split(quote).next().map(decoded),
                _ => value.split(|c: char| c.is_whitespace() || c == '}').next().map(str::to_string),
            };
        }
        None
    }
}

/// Position of the `>` that ends a tag, outside of quotes and braces.
fn end_of_tag(body: &str) -> Option<usize> {
    let (mut quote, mut braces) = (None, 0usize);
    for (at, c) in body.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{') => braces += 1,
            (None, '}') => braces = braces.saturating_sub(1),
            (None, '>') if braces == 0 => return Some(at),
            (None, '<') if braces == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_images_and_links_are_kept_and_placeholders_are_text() {
        let html =
            r#"<p>Send <b>to</b> <a href="/x">us</a> &amp; bot<TOKEN> <img src={"/a.png"} alt='A' /></p><!-- no -->"#;
        let expected = [
            Piece::Break,
            Piece::Text("Send ".into()),
            Piece::Text("to".into()),
            Piece::Text(" ".into()),
            Piece::LinkStart("/x".into()),
            Piece::Text("us".into()),
            Piece::LinkEnd,
            Piece::Text(" & bot<TOKEN> ".into()),
            Piece::Image { path: "/a.png".into(), alt: "A".into() },
            Piece::Break,
        ];
        assert_eq!(pieces(html), expected);
    }

    #[test]
    fn comparisons_and_broken_tags_stay_text() {
        assert_eq!(pieces("a < b and c <"), [Piece::Text("a < b and c <".into())]);
        assert_eq!(pieces("<img src="), [Piece::Text("<img src=".into())]);
    }
}
