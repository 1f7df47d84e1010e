//! Paragraphs that many pages share (a note on versions, "choose a tool …") say nothing about the page they stand on,
//! so a quote leaves them out where the page has something of its own to say.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::kb::{Chunk, SourceKind};

/// Pages that must hold a paragraph for it to be shared.
const PAGES: usize = 5;

/// The paragraphs that a snapshot's articles share.
#[derive(Debug, Default)]
pub struct Boilerplate {
    shared: HashSet<u64>,
}

impl Boilerplate {
    pub fn of(chunks: &[Arc<Chunk>]) -> Self {
        let mut pages: HashMap<u64, HashSet<&str>> = HashMap::new();
        for chunk in chunks.iter().filter(|c| c.kind == SourceKind::Article) {
            for block in chunk.text.split("\n\n") {
                pages.entry(key(block)).or_default().insert(&chunk.path);
            }
        }
        Self { shared: pages.into_iter().filter(|(_, on)| on.len() >= PAGES).map(|(block, _)| block).collect() }
    }

    /// Code and images are content wherever they stand.
    pub fn holds(&self, block: &str) -> bool {
        !self.shared.is_empty()
            && !block.contains("[[code:")
            && !block.contains("[[image:")
            && self.shared.contains(&key(block))
    }
}

/// A paragraph's letters: markers are numbered by page, and spaces differ.
fn key(block: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    block.chars().filter(|c| c.is_alphabetic()).for_each(|c| c.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::lexicon::tests::article;
    use super::*;

    #[test]
    fn what_five_pages_say_alike_is_boilerplate_and_code_never_is() {
        let page = |n: usize| {
            article(
                &format!("{n}.md"),
                &format!("Choose a tool, [[link:{n}]].\n\nPage number {}.\n\n[[code:1]]", "x".repeat(n)),
            )
        };
        let chunks: Vec<_> = (1..=5).map(page).collect();
        let known = Boilerplate::of(&chunks);
        assert!(known.holds("Choose a tool, [[link:9]]. "));
        assert!(!known.holds("Page number xx.") && !known.holds("[[code:1]]"));
        assert!(!Boilerplate::of(&chunks[..4]).holds("Choose a tool, [[link:1]]."));
    }
}
