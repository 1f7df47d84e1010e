//! Boxes, tabs and shortcodes of site builders, line by line: `:::note` of Docusaurus, VitePress and MyST, `!!! note`
//! and `=== "Tab"` of MkDocs Material, shortcodes of Hugo, `> [!NOTE]` of GitHub, `{: .class}` of kramdown.
//!
//! As everywhere here, what they hold stays, their titles become bold lines, and lines keep their number. MkDocs
//! indents what stands in a box by four columns, which Markdown would take for code: that indentation goes.

use std::sync::LazyLock;

use regex::Regex;

macro_rules! pattern {
    ($name:ident, $pattern:expr) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("a constant pattern"));
    };
}

pattern!(COLONS, r"^(\s*):{3,}\s*(?:\{?([A-Za-z][\w-]*)\}?\s*(?:\[([^\]]*)\]|(\{[^}]*\})|([^\[{].*))?)?\s*$");
pattern!(MARKS, r#"^(\s*)(?:!!!|\?\?\?\+?)\s+[\w -]+?(?:\s+"([^"]*)")?\s*$"#);
pattern!(TAB, r#"^(\s*)===[!+]?\s+"([^"]+)"\s*$"#);
pattern!(ALERT, r"^(\s*>\s*)\[!(?i:note|tip|important|warning|caution|info|danger)\][+-]?[ \t]*(.*)$");
pattern!(ATTRIBUTES, r"^\s*\{:[^{}]*\}\s*$");
pattern!(SHORTCODE, r"\{\{[<%]\s*(/?[\w/.-]*)([^>%]*)[>%]\}\}");
pattern!(FIGURE, r#"(src|alt|caption|title|name|header)\s*=\s*"([^"]*)""#);

/// Columns by which MkDocs indents.
const INDENT: usize = 4;

/// The text without what builders added.
pub(super) fn strip(text: &str) -> String {
    // Columns to take off, one entry for each open box: its own indentation.
    let mut boxes: Vec<usize> = Vec::new();
    let mut out: Vec<String> = Vec::new();
    for line in text.split('\n') {
        let indent = line.chars().take_while(|c| *c == ' ').count();
        if !line.trim().is_empty() {
            while boxes.last().is_some_and(|own| indent < own + INDENT) {
                boxes.pop();
            }
        }
        let line = &line[(boxes.len() * INDENT).min(indent)..];
        let opened = MARKS.captures(line).map(|c| c.get(2).map_or("", |t| t.as_str()));
        let opened = opened.or_else(|| TAB.captures(line).and_then(|c| c.get(2)).map(|title| title.as_str()));
        match opened {
            Some(title) => {
                boxes.push(indent);
                out.push(bold(&line[..line.len() - line.trim_start().len()], title));
            }
            None => out.push(plain(line)),
        }
    }
    out.join("\n")
}

fn bold(indent: &str, title: &str) -> String {
    match title.trim() {
        "" => String::new(),
        // Two spaces: a line break of its own, also where text follows directly.
        title => format!("{indent}**{title}**  "),
    }
}

fn plain(line: &str) -> String {
    if line.contains(":::")
        && let Some(found) = COLONS.captures(line)
    {
        let title = found.get(3).or(found.get(5)).map_or("", |title| title.as_str());
        return bold(&found[1], title);
    }
    if line.contains("[!")
        && let Some(found) = ALERT.captures(line)
    {
        return match found[2].trim() {
            "" => found[1].trim_end().to_string(),
            title => format!("{}**{title}**  ", &found[1]),
        };
    }
    if line.contains("{:") && ATTRIBUTES.is_match(line) {
        return String::new();
    }
    if line.contains("{{<") || line.contains("{{%") {
        return SHORTCODE.replace_all(line, |found: &regex::Captures<'_>| shortcode(&found[1], &found[2])).into_owned();
    }
    line.to_string()
}

/// What of a shortcode is worth keeping: a figure's image, a tab's title.
fn shortcode(name: &str, arguments: &str) -> String {
    let named = |wanted: &[&str]| {
        FIGURE.captures_iter(arguments).find(|found| wanted.contains(&&found[1])).map(|found| found[2].to_string())
    };
    match named(&["src"]).filter(|_| matches!(name, "figure" | "img" | "image")) {
        Some(src) => format!("![{}]({src})", named(&["alt", "caption", "title"]).unwrap_or_default()),
        None if matches!(name, "tab" | "details" | "expand") => {
            named(&["name", "title", "header"]).map(|title| format!("**{title}**")).unwrap_or_default()
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_go_and_their_titles_stay() {
        let text = ":::note[Mind this]\nText\n:::\n::: tip WATCH OUT\nMore\n:::\n:::{warning}\nx\n:::";
        assert_eq!(strip(text), "**Mind this**  \nText\n\n**WATCH OUT**  \nMore\n\n\nx\n");
        assert_eq!(strip("> [!NOTE]\n> Text\n{: .lead}"), ">\n> Text\n");
    }

    #[test]
    fn what_stands_in_a_box_of_mkdocs_loses_its_indentation() {
        let text = "!!! warning \"Stop\"\n    Text\n\n    === \"Linux\"\n        1. run\n            deep\n\nend\n??? note\n    Hidden";
        assert_eq!(strip(text), "**Stop**  \nText\n\n**Linux**  \n1. run\n    deep\n\nend\n\nHidden");
    }

    #[test]
    fn shortcodes_go_and_figures_stay() {
        let text = "{{< tabs >}}{{% tab name=\"One\" %}}\n{{< figure src=\"/a.png\" alt=\"A\" >}} {{ value }}";
        assert_eq!(strip(text), "**One**\n![A](/a.png) {{ value }}");
    }

    #[test]
    fn text_that_only_looks_like_it_stays() {
        for text in ["a ::: b", "!!!", "=== x", "std::fmt", "[!x](y)", "    code"] {
            assert_eq!(strip(text), text);
        }
    }
}
