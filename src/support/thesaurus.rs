//! Words that customers use for one another: "прикрутить" for "установить", "how much" for "price".
//!
//! The words stand in `thesaurus.txt`, one group a line. A group's words are *related*, not the same: related words
//! lend each other a part of a match ([`RELATED`]), while the concepts of [`super::actions`] are one word for all
//! comparisons. The file is read once; a phrase of several words counts where its words follow each other.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::text;

/// What a related word is worth, against 1 for the word itself.
pub const RELATED: f32 = 0.6;

/// A word or phrase of a group.
struct Member {
    /// Stems of all its words, in order.
    stems: Vec<String>,
    /// Those that carry its subject, as [`text::content_stems`] gives them.
    content: Vec<String>,
    group: usize,
}

struct Thesaurus {
    /// Members by their first stem.
    by_first: HashMap<String, Vec<Member>>,
    /// One-word members of each group, as content stems: what a match lends its weight to.
    lends_to: Vec<Vec<String>>,
    /// Folded words of all groups.
    words: HashSet<String>,
}

static THESAURUS: LazyLock<Thesaurus> = LazyLock::new(|| Thesaurus::read(include_str!("thesaurus.txt")));

impl Thesaurus {
    fn read(file: &str) -> Self {
        let mut thesaurus = Self { by_first: HashMap::new(), lends_to: Vec::new(), words: HashSet::new() };
        for line in file.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let group = thesaurus.lends_to.len();
            let mut lends_to = Vec::new();
            for phrase in line.split(',').map(str::trim).filter(|p| !p.is_empty()) {
                let (stems, content) = (text::stems(phrase), text::content_stems(phrase));
                for word in text::words(&text::fold(phrase)) {
                    thesaurus.words.insert(word.to_string());
                }
                if let [single] = &content[..]
                    && !lends_to.contains(single)
                {
                    lends_to.push(single.clone());
                }
                if let Some(first) = stems.first().cloned().filter(|_| !content.is_empty()) {
                    thesaurus.by_first.entry(first).or_default().push(Member { stems, content, group });
                }
            }
            thesaurus.lends_to.push(lends_to);
        }
        thesaurus
    }
}

/// Folded words that the thesaurus has: real words, whether a pack uses them or not.
pub fn words() -> impl Iterator<Item = &'static str> {
    THESAURUS.words.iter().map(|w| w.as_str())
}

/// Related content stems of a text: (a content stem of the text, a stem related to it), in the order of the text.
///
/// ```
/// let related = firstline::support::thesaurus::related("how do I get rid of it");
/// assert!(related.iter().any(|(_, word)| *word == "@delete"));
/// ```
pub fn related(message: &str) -> Vec<(String, &'static str)> {
    let thesaurus = &*THESAURUS;
    let stems = text::stems(message);
    let mut found = Vec::new();
    for (at, stem) in stems.iter().enumerate() {
        for member in thesaurus.by_first.get(stem).into_iter().flatten() {
            if !stems[at..].starts_with(&member.stems) {
                continue;
            }
            for from in &member.content {
                for to in &thesaurus.lends_to[member.group] {
                    if from != to {
                        found.push((from.clone(), to.as_str()));
                    }
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colloquial_word_is_related_to_the_one_that_manuals_use() {
        let related = related("как прикрутить чат");
        assert!(related.iter().any(|(from, to)| from == "прикрут" && *to == "@install"), "{related:?}");
    }

    #[test]
    fn a_phrase_counts_only_where_its_words_follow_each_other() {
        assert!(related("get rid of it").iter().any(|(_, to)| *to == "@delete"));
        assert!(!related("get it and rid").iter().any(|(_, to)| *to == "@delete"));
    }
}
