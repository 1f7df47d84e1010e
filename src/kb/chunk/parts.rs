//! Cutting what stands under one heading into parts of a readable size.

use crate::kb::markdown::replace_marks;

/// A last part shorter than this joins the part before it.
pub(super) const SHORT_PART_CHARS: usize = 200;

/// Packs blocks into parts of at most `limit` characters: (text, line).
pub(super) fn parts(bodies: &[(&str, usize, bool)], limit: usize) -> Vec<(String, usize)> {
    let mut parts: Vec<(String, usize, bool)> = Vec::new();
    let pieces = bodies.iter().flat_map(|(text, line, is_item)| {
        split_long(text, limit).into_iter().map(move |piece| (piece, *line, *is_item))
    });
    for (text, line, is_item) in pieces {
        let size = visible_chars(&text);
        match parts.last_mut() {
            Some((part, _, was_item)) if visible_chars(part) + size <= limit => {
                part.push_str(if *was_item && is_item { "\n" } else { "\n\n" });
                part.push_str(&text);
                *was_item = is_item;
            }
            _ => parts.push((text, line, is_item)),
        }
    }
    if let [.., before, last] = &mut parts[..]
        && visible_chars(&last.0) < SHORT_PART_CHARS
    {
        before.0.push_str("\n\n");
        before.0.push_str(&last.0);
        parts.pop();
    }
    parts.into_iter().map(|(text, line, _)| (text, line)).collect()
}

fn visible_chars(text: &str) -> usize {
    replace_marks(text, |_| String::new()).chars().count()
}

/// Splits one block that is too long at line ends, then at sentence ends, then at spaces.
fn split_long(text: &str, limit: usize) -> Vec<String> {
    if visible_chars(text) <= limit {
        return vec![text.to_string()];
    }
    let mut out: Vec<String> = Vec::new();
    let mut current = String::new();
    let mut length = 0;
    for sentence in text.split_inclusive(['\n', '.', '!', '?', ';']).flat_map(|s| hard_split(s, limit)) {
        let size = visible_chars(sentence);
        let at_boundary = current.ends_with(char::is_whitespace) || sentence.starts_with(char::is_whitespace);
        if length + size > limit && length > 0 && (at_boundary || length > limit * 3 / 2) {
            out.push(std::mem::take(&mut current).trim().to_string());
            length = 0;
        }
        current.push_str(sentence);
        length += size;
    }
    out.push(current.trim().to_string());
    out.retain(|part| !part.is_empty());
    out
}

/// Cuts a run without any sentence end at spaces, never inside a mark.
fn hard_split(text: &str, limit: usize) -> Vec<&str> {
    if text.chars().count() <= limit {
        return vec![text];
    }
    let mut out = Vec::new();
    let (mut start, mut count) = (0, 0);
    for (at, c) in text.char_indices() {
        count += 1;
        if count >= limit && c.is_whitespace() {
            out.push(&text[start..at]);
            (start, count) = (at, 0);
        }
    }
    out.push(&text[start..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_sentences_is_cut_at_spaces() {
        let words = "word ".repeat(1000);
        assert!(split_long(&words, 300).iter().all(|part| part.chars().count() <= 300));
        assert_eq!(split_long(&words, 300).join(" ").split_whitespace().count(), 1000);
    }
}
