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

    /// Code, images and tables are content wherever they stand.
    pub fn holds(&self, block: &str) -> bool {
        !self.shared.is_empty()
            && !["[[code:", "[[image:", "[[table:"].iter().any(|asset| block.contains(asset))
            && self.shared.contains(&key(block))
    }
}

/// A paragraph's letters and figures: spaces differ, and so do the numbers of markers, which count by page.
fn key(block: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut in_marker = false;
    for part in block.split_inclusive("[[").flat_map(|part| part.split_inclusive("]]")) {
        let counts = |c: &char| c.is_alphabetic() || (!in_marker && c.is_numeric());
        part.chars().filter(counts).for_each(|c| c.hash(&mut hasher));
        in_marker = part.ends_with("[[");
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::lexicon::tests::article;
    use super::*;

    #[test]
    fn what_five_pages_say_alike_is_boilerplate_and_code_and_tables_never_are() {
        let page = |n: usize| {
            article(
                &format!("{n}.md"),
                &format!("Choose a tool, [[link:{n}]].\n\nPage number {}.\n\n[[code:1]]\n\n[[table:2]]", "x".repeat(n)),
            )
        };
        let chunks: Vec<_> = (1..=5).map(page).collect();
        let known = Boilerplate::of(&chunks);
        assert!(known.holds("Choose a tool, [[link:9]]. "));
        assert!(!known.holds("Page number xx.") && !known.holds("[[code:1]]") && !known.holds("[[table:2]]"));
        let plan = |n: usize| article(&format!("{n}.md"), &format!("It costs {n} euro. See [[link:{n}]].\n\nMore."));
        let plans: Vec<_> = (1..=5).map(plan).collect();
        assert!(!Boilerplate::of(&plans).holds("It costs 3 euro. See [[link:3]]."), "prices differ");
        assert!(!Boilerplate::of(&chunks[..4]).holds("Choose a tool, [[link:1]]."));
    }
}
