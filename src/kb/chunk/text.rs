//! A chunk's words as the two legs of the search read them.

use crate::kb::{Asset, Chunk};

/// What of a chunk is embedded: title, headings and readable text. Code says little to an embedding model.
pub(crate) fn embedded_text(chunk: &Chunk) -> String {
    let mut out = String::new();
    if chunk.questions.is_empty() {
        out.push_str(&chunk.title);
        for heading in &chunk.headings {
            out.push_str(" > ");
            out.push_str(heading);
        }
        out.push('\n');
    }
    out.push_str(&readable_text(chunk));
    out
}

/// The text without Markdown's marks, an image as its alternative text, a table as its cells.
pub(crate) fn readable_text(chunk: &Chunk) -> String {
    let mut text = chunk.text.clone();
    for asset in &chunk.assets {
        match asset {
            Asset::Code { n, .. } => text = text.replace(&format!("[[code:{n}]]"), ""),
            Asset::Image { n, alt, .. } => text = text.replace(&format!("[[image:{n}]]"), alt),
            Asset::Table { n, text: table } => {
                let cells = table.lines().filter(|row| row.chars().any(char::is_alphanumeric));
                let cells: Vec<String> = cells.map(|row| row.trim_matches('|').replace('|', ", ")).collect();
                text = text.replace(&format!("[[table:{n}]]"), &cells.join("\n"));
            }
            Asset::Link { text: words, target, .. } => text = text.replace(&format!("[{words}]({target})"), words),
        }
    }
    text.replace("**", "").replace('`', "")
}

/// The text with its code, tables and images in their places, as Markdown.
pub(crate) fn whole_text(chunk: &Chunk) -> String {
    let mut text = chunk.text.clone();
    for asset in &chunk.assets {
        let (mark, whole) = match asset {
            Asset::Code { n, language, text } => {
                (format!("[[code:{n}]]"), format!("```{language}\n{}\n```", text.trim_end_matches('\n')))
            }
            Asset::Table { n, text } => (format!("[[table:{n}]]"), text.clone()),
            Asset::Image { n, path, alt } => (format!("[[image:{n}]]"), format!("![{alt}]({path})")),
            Asset::Link { .. } => continue,
        };
        text = text.replace(&mark, &whole);
    }
    text
}

/// All code of a chunk.
pub(crate) fn code_text(chunk: &Chunk) -> String {
    let mut out = String::new();
    for asset in &chunk.assets {
        if let Asset::Code { language, text, .. } = asset {
            out.push_str(language);
            out.push('\n');
            out.push_str(text);
            out.push('\n');
        }
    }
    out
}
