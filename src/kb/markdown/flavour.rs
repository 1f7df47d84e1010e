//! What site builders add to Markdown. Tags go, what they hold stays: titles of notes, tabs and cards become bold
//! lines, indentation inside components (which Markdown would take for code) is removed. Fenced code is already gone.

use std::sync::LazyLock;

use regex::Regex;

use super::builders;
use super::html::Tag;
use crate::kb::documents;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// CommonMark with tables, and the tags of Diplodoc (YFM).
    Markdown,
    /// JSX components besides.
    Mdx,
    Plain,
    /// What a reader of another format wrote: CommonMark with tables, and nothing besides.
    Converted,
}

impl Flavour {
    /// By the file's extension; Markdown where there is none.
    pub fn of(path: &str) -> Self {
        match documents::extension(path).as_str() {
            "mdx" => Self::Mdx,
            "txt" => Self::Plain,
            _ if documents::Format::of(path).is_some() => Self::Converted,
            _ => Self::Markdown,
        }
    }
}

/// Components that are known also where a file does not say it is MDX.
const COMPONENTS: [&str; 22] = [
    "Accordion",
    "AccordionGroup",
    "Callout",
    "Card",
    "CardGroup",
    "Check",
    "CodeGroup",
    "Columns",
    "Details",
    "Frame",
    "Image",
    "Info",
    "Note",
    "Snippet",
    "Step",
    "Steps",
    "Tab",
    "TabItem",
    "Tabs",
    "Tip",
    "Update",
    "Warning",
];

static IMAGE_SIZE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(\]\([^()\n]*?)\s+=\d*%?x\d*%?\s*\)").expect("a constant pattern"));
static ATTRIBUTES: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(\]\([^()\n]*\))\{[^{}\n]*\}").expect("a constant pattern"));
static QUOTED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#""([^"]*)""#).expect("a constant pattern"));
static FILE_TAG: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"src="([^"]*)"(?:\s+name="([^"]*)")?"#).expect("a constant pattern"));

/// The text without the builder's tags; it keeps its number of lines.
pub(super) fn strip(text: &str, flavour: Flavour) -> String {
    let yfm: Vec<String> = builders::strip(text).split('\n').map(yfm_line).collect();
    components(&yfm.join("\n"), flavour)
}

/// A line without YFM tags.
fn yfm_line(line: &str) -> String {
    let mut out = line.to_string();
    if line.contains("](") {
        out = IMAGE_SIZE.replace_all(&out, "$1)").into_owned();
        out = ATTRIBUTES.replace_all(&out, "$1").into_owned();
    }
    let trimmed = out.trim();
    // Rows of YFM's own tables.
    if trimmed == "#|" || trimmed == "|#" || trimmed == "||" {
        return String::new();
    }
    if let Some(cells) = trimmed.strip_prefix("||") {
        let cells = cells.strip_suffix("||").unwrap_or(cells);
        return cells.trim().to_string();
    }
    if !out.contains("{%") {
        return out;
    }
    let indent = &out[..out.len() - out.trim_start().len()];
    if trimmed.starts_with("{%") && trimmed.ends_with("%}") && trimmed.matches("{%").count() == 1 {
        return match block_tag(trimmed[2..trimmed.len() - 2].trim()) {
            Some(kept) => format!("{indent}{kept}  "),
            None => String::new(),
        };
    }
    outside_code_spans(&out, |plain| {
        let mut kept = String::new();
        let mut rest = plain;
        while let Some((before, after)) = rest.split_once("{%") {
            kept.push_str(before);
            rest = match after.split_once("%}") {
                Some((_, after)) => after,
                None => after,
            };
        }
        kept + rest
    })
}

/// What of a tag on a line of its own is worth keeping: a title, a file's link.
fn block_tag(tag: &str) -> Option<String> {
    let name = tag.split_whitespace().next()?;
    match name {
        "note" | "cut" => {
            let title = QUOTED.captures(tag)?.get(1)?.as_str().trim();
            (!title.is_empty()).then(|| format!("**{title}**"))
        }
        "file" => {
            let found = FILE_TAG.captures(tag)?;
            let source = found.get(1)?.as_str();
            Some(format!("[{}]({source})", found.get(2).map_or(source, |name| name.as_str())))
        }
        _ => None,
    }
}

/// Applies `change` to the parts of a line that are not between backticks.
fn outside_code_spans(line: &str, change: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].chars().take_while(|c| *c == '`').count();
        let after = start + ticks;
        let Some(length) = rest[after..].find(&rest[start..after]) else { break };
        out.push_str(&change(&rest[..start]));
        out.push_str(&rest[start..after + length + ticks]);
        rest = &rest[after + length + ticks..];
    }
    out + &change(rest)
}

/// Takes JSX components, MDX comments and imports out, and the indentation of what stands inside components.
fn components(text: &str, flavour: Flavour) -> String {
    let is_mdx = flavour == Flavour::Mdx;
    let mut out = String::with_capacity(text.len());
    // (line, +1 opened or -1 closed)
    let mut nesting: Vec<(usize, bool)> = Vec::new();
    let mut rest = text;
    let mut line = 0;
    while let Some(at) = rest.find(['<', '`', '{']) {
        line += rest[..at].matches('\n').count();
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = if rest.starts_with('`') {
            let span = code_span(rest);
            out.push_str(&rest[..span]);
            span
        } else if is_mdx && rest.starts_with("{/*") {
            let end = rest.find("*/}").map_or(rest.len(), |end| end + 3);
            out.extend(rest[..end].chars().filter(|c| *c == '\n'));
            end
        } else if let Some(tag) = Tag::read(rest).filter(|tag| is_component(tag.name, is_mdx)) {
            if !tag.empty && starts_line(&out) {
                nesting.push((line, !tag.closing));
            }
            let breaks = rest[..tag.length].matches('\n').count();
            if let Some(title) = title_of(&tag) {
                out.push_str(&title);
            }
            out.push_str(&"\n".repeat(breaks));
            tag.length
        } else {
            let first = rest.chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..first]);
            first
        };
        line += rest[..taken].matches('\n').count();
        rest = &rest[taken..];
    }
    out.push_str(rest);
    let lines = dedented(&out, &nesting);
    match is_mdx {
        true => lines.map(|line| if is_import(&line) { String::new() } else { line }).collect::<Vec<_>>().join("\n"),
        false => lines.collect::<Vec<_>>().join("\n"),
    }
}

fn is_component(name: &str, is_mdx: bool) -> bool {
    let camel = name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().any(|c| c.is_ascii_lowercase());
    COMPONENTS.contains(&name) || (is_mdx && camel)
}

fn title_of(tag: &Tag<'_>) -> Option<String> {
    if tag.closing {
        return None;
    }
    if let Some(image) = tag.attribute("src").filter(|_| tag.name == "Image") {
        return Some(format!("![{}]({image})", tag.attribute("alt").unwrap_or_default()));
    }
    let title = tag.attribute("title").or_else(|| tag.attribute("label")).filter(|title| !title.trim().is_empty())?;
    // Two spaces: a line break of its own, also where text follows directly.
    Some(match tag.attribute("href") {
        Some(href) => format!("**[{title}]({href})**  "),
        None => format!("**{title}**  "),
    })
}

fn starts_line(text: &str) -> bool {
    text.rsplit('\n').next().is_none_or(|line| line.trim().is_empty())
}

fn is_import(line: &str) -> bool {
    (line.starts_with("import ") && (line.contains(" from ") || line.contains(['"', '\''])))
        || line.starts_with("export const ")
        || line.starts_with("export default ")
}

/// Length of the code span that a text begins with, or of its backticks where it never closes in this paragraph.
fn code_span(text: &str) -> usize {
    let ticks = text.chars().take_while(|c| *c == '`').count();
    let paragraph = &text[ticks..text.find("\n\n").unwrap_or(text.len()).max(ticks)];
    let mut from = 0;
    while let Some(at) = paragraph[from..].find('`') {
        let run = paragraph[from + at..].chars().take_while(|c| *c == '`').count();
        if run == ticks {
            return ticks + from + at + run;
        }
        from += at + run;
    }
    ticks
}

/// Lines without the indentation that they have only because they stand inside components.
fn dedented<'a>(text: &'a str, nesting: &'a [(usize, bool)]) -> impl Iterator<Item = String> + 'a {
    let mut stack: Vec<Option<usize>> = Vec::new();
    let mut events = nesting.iter().peekable();
    text.split('\n').enumerate().map(move |(at, line)| {
        let mut is_tag_line = false;
        while let Some((_, opened)) = events.next_if(|(line, _)| *line == at) {
            is_tag_line = true;
            match opened {
                true => stack.push(None),
                false => drop(stack.pop()),
            }
        }
        let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
        if !line.trim().is_empty()
            && !is_tag_line
            && let Some(top @ None) = stack.last_mut()
        {
            *top = Some(indent);
        }
        let inside = stack.iter().flatten().max().copied().unwrap_or(0);
        let cut = if is_tag_line { indent } else { inside.min(indent) };
        line[cut..].to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yfm_tags_go_and_their_titles_stay() {
        let text = "{% note tip \"Mind\" %}\n\nText\n\n{% endnote %}\n{% list tabs %}\n- A\n";
        assert_eq!(strip(text, Flavour::Markdown), "**Mind**  \n\nText\n\n\n\n- A\n");
        assert_eq!(strip("a {% if x %}b{% endif %} `{% note %}`", Flavour::Markdown), "a b `{% note %}`");
        assert_eq!(strip("![x](a.png \"t\" =100x20){.c}", Flavour::Markdown), "![x](a.png \"t\")");
    }

    #[test]
    fn components_go_with_the_indentation_that_they_brought() {
        let text = "import X from 'x'\n<Tabs>\n  <Tab title=\"One\">\n    1. first\n       more\n  </Tab>\n</Tabs>\nend `<Tab>`";
        assert_eq!(strip(text, Flavour::Mdx), "\n\n**One**  \n1. first\n   more\n\n\nend `<Tab>`");
    }

    #[test]
    fn a_card_becomes_its_link_and_keeps_the_number_of_lines() {
        let text = "<Card\n  title=\"Go\"\n  href=\"/go\"\n>\n  Deploy {/* no */}\n</Card>";
        assert_eq!(strip(text, Flavour::Mdx), "**[Go](/go)**  \n\n\n\nDeploy \n");
    }

    #[test]
    fn an_authors_placeholder_in_angle_brackets_stays() {
        assert_eq!(strip("bot<TOKEN>/x", Flavour::Markdown), "bot<TOKEN>/x");
    }
}
