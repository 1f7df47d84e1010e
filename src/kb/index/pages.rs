//! Whole pages for a long message: a customer's story, an e-mail, a case that several procedures speak of.
//!
//! A short question wants the section that answers it; a story of many matters wants all the pages that it takes, and
//! no single section has its words. So pages are scored as wholes, by three things:
//! - BM25 (Robertson and Zaragoza 2009) in which a word counts as often as the story says it, for what it keeps coming
//!   back to is its subject;
//! - the same over pairs of neighbouring words: "silver card" is not a silver one and a card (Metzler and Croft, "A
//!   Markov random field model for term dependencies", SIGIR 2005);
//! - the share of a page's title that the story speaks of.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use crate::kb::chunk::{code_text, readable_text};
use crate::kb::words::{Stems, is_stop, words};
use crate::kb::{Chunk, SourceKind};

const K1: f32 = 2.0;
const B: f32 = 0.75;
/// Worth of a title that the story speaks of in full, and of the best page's pairs, beside the best page's words.
const TITLE: f32 = 0.3;
const PAIRS: f32 = 0.5;

/// The pages of one index.
pub(super) struct Pages {
    by_lang: BTreeMap<String, Shelf>,
}

/// The pages of one language.
struct Shelf {
    stems: Stems,
    numbers: HashMap<String, u32>,
    rarity: Vec<f32>,
    words: Postings<u32>,
    pairs: Postings<(u32, u32)>,
    pages: Vec<Page>,
}

struct Page {
    path: String,
    /// Positions of its chunks.
    chunks: Vec<u32>,
    title: Vec<u32>,
}

/// By term: pages that have it, with what one mention in a story is worth.
struct Postings<T>(HashMap<T, Vec<(u32, f32)>>);

/// A page with its score against the best one's 1, and its chunks.
pub(super) struct Ranked<'p> {
    pub chunks: &'p [u32],
    pub score: f32,
}

impl Pages {
    pub fn of(chunks: &[Arc<Chunk>]) -> Self {
        let mut of_lang: BTreeMap<&str, BTreeMap<&str, Vec<u32>>> = BTreeMap::new();
        // An operator's instruction is no page: it is for that operator's own turns.
        let is_page = |chunk: &Chunk| chunk.kind == SourceKind::Article && chunk.operator.is_none();
        for (at, chunk) in chunks.iter().enumerate().filter(|(_, c)| is_page(c)) {
            of_lang.entry(&chunk.lang).or_default().entry(&chunk.path).or_default().push(at as u32);
        }
        let by_lang = of_lang.into_iter().map(|(lang, pages)| (lang.to_string(), Shelf::of(lang, pages, chunks)));
        Self { by_lang: by_lang.collect() }
    }

    /// The pages that a story speaks of, best first.
    pub fn rank(&self, story: &str, lang: &str, limit: usize) -> Vec<Ranked<'_>> {
        self.by_lang.get(lang).map(|shelf| shelf.rank(story, limit)).unwrap_or_default()
    }
}

impl Shelf {
    fn of(lang: &str, pages: BTreeMap<&str, Vec<u32>>, chunks: &[Arc<Chunk>]) -> Self {
        let stems = Stems::of(lang);
        let mut numbers: HashMap<String, u32> = HashMap::new();
        let mut rows: Vec<Vec<u32>> = Vec::new();
        let mut shelved: Vec<Page> = Vec::new();
        for (path, members) in pages {
            let chunk = |at: &u32| &chunks[*at as usize];
            let title = members.first().map(|at| chunk(at).title.clone()).unwrap_or_default();
            let mut text = title.clone();
            for chunk in members.iter().map(chunk) {
                let own = chunk.headings.last().map_or("", String::as_str);
                text.push_str(&format!("\n{own}\n{}\n{}", readable_text(chunk), code_text(chunk)));
            }
            let mut row = Vec::new();
            for stem in content(&text, &stems) {
                let next = numbers.len() as u32;
                row.push(*numbers.entry(stem).or_insert(next));
            }
            let mut title: Vec<u32> = content(&title, &stems).iter().filter_map(|s| numbers.get(s).copied()).collect();
            title.sort_unstable();
            title.dedup();
            rows.push(row);
            shelved.push(Page { path: path.into(), chunks: members, title });
        }
        let words = Postings::of(&rows.iter().map(|row| counted(row.iter().copied())).collect::<Vec<_>>());
        let pairs = Postings::of(&rows.iter().map(|row| counted(paired(row))).collect::<Vec<_>>());
        let rarity = (0..numbers.len() as u32).map(|n| rarity(words.0.get(&n).map_or(0, Vec::len), rows.len()));
        Self { rarity: rarity.collect(), stems, numbers, words, pairs, pages: shelved }
    }

    fn rank(&self, story: &str, limit: usize) -> Vec<Ranked<'_>> {
        let row: Vec<u32> =
            content(story, &self.stems).iter().filter_map(|stem| self.numbers.get(stem).copied()).collect();
        let asked = counted(row.iter().copied());
        let by_words = self.words.scores(&asked, self.pages.len());
        let by_pairs = self.pairs.scores(&counted(paired(&row)), self.pages.len());
        let mut ranked: Vec<(f32, &Page)> = Vec::new();
        for ((words, pairs), page) in by_words.iter().zip(&by_pairs).zip(&self.pages).filter(|((w, _), _)| **w > 0.0) {
            ranked.push((words + PAIRS * pairs + TITLE * self.share(&page.title, &asked), page));
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.path.cmp(&b.1.path)));
        ranked.truncate(limit);
        let most = ranked.first().map_or(1.0, |(score, _)| *score);
        ranked.into_iter().map(|(score, page)| Ranked { chunks: &page.chunks, score: score / most }).collect()
    }

    /// Share of a title, by rarity, that the story speaks of.
    fn share(&self, title: &[u32], asked: &BTreeMap<u32, f32>) -> f32 {
        let rarity = |n: &u32| self.rarity[*n as usize];
        let all: f32 = title.iter().map(rarity).sum();
        let spoken: f32 = title.iter().filter(|n| asked.contains_key(*n)).map(rarity).sum();
        if all > 0.0 { spoken / all } else { 0.0 }
    }
}

impl<T: Copy + Ord + Hash> Postings<T> {
    /// `pages`: how often each page has each term.
    fn of(pages: &[BTreeMap<T, f32>]) -> Self {
        let mut frequency: HashMap<T, usize> = HashMap::new();
        pages.iter().flat_map(BTreeMap::keys).for_each(|term| *frequency.entry(*term).or_default() += 1);
        let mean = pages.iter().flat_map(BTreeMap::values).sum::<f32>() / pages.len().max(1) as f32;
        let mut postings: HashMap<T, Vec<(u32, f32)>> = HashMap::new();
        for (at, page) in pages.iter().enumerate() {
            let length: f32 = page.values().sum();
            let damping = K1 * (1.0 - B + B * length / mean.max(1.0));
            for (term, times) in page {
                let worth = rarity(frequency[term], pages.len()) * times * (K1 + 1.0) / (times + damping);
                postings.entry(*term).or_default().push((at as u32, worth));
            }
        }
        Self(postings)
    }

    /// Score of each page for what is asked so often, against the best one's 1.
    fn scores(&self, asked: &BTreeMap<T, f32>, pages: usize) -> Vec<f32> {
        let mut scores = vec![0f32; pages];
        for (term, times) in asked {
            for (at, worth) in self.0.get(term).into_iter().flatten() {
                scores[*at as usize] += worth * times;
            }
        }
        let most = scores.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        scores.iter_mut().for_each(|score| *score /= most);
        scores
    }
}

/// Inverse document frequency as BM25 has it, smoothed to stay positive.
fn rarity(with: usize, all: usize) -> f32 {
    let (with, all) = (with as f32, all as f32);
    (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
}

/// How often each term comes.
fn counted<T: Ord>(terms: impl Iterator<Item = T>) -> BTreeMap<T, f32> {
    let mut counts = BTreeMap::new();
    terms.for_each(|term| *counts.entry(term).or_default() += 1.0);
    counts
}

/// Neighbours among the words that say something.
fn paired(row: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    row.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Stems of the words that say what a text is about.
fn content(text: &str, stems: &Stems) -> Vec<String> {
    words(text).iter().filter(|word| !is_stop(word)).map(|word| stems.stem(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, title: &str, text: &str) -> Arc<Chunk> {
        Arc::new(Chunk {
            id: path.into(),
            kind: SourceKind::Article,
            path: path.into(),
            line: 1,
            title: title.into(),
            headings: vec![],
            text: text.into(),
            assets: vec![],
            lang: "en".into(),
            operator: None,
            questions: vec![],
            tags: vec![],
        })
    }

    #[test]
    fn an_operators_instruction_is_never_found_as_a_page() {
        let mut instruction =
            Chunk::clone(&page("operators/ann/v1.md", "Refund of a parcel", "Refund broken parcels."));
        instruction.operator = Some("ann".into());
        let chunks = vec![Arc::new(instruction), page("refund", "Refund", "A broken parcel is refunded.")];
        let pages = Pages::of(&chunks);
        let found: Vec<&[u32]> = pages.rank("refund of a broken parcel", "en", 10).iter().map(|r| r.chunks).collect();
        assert_eq!(found, [[1]]);
    }

    #[test]
    fn a_story_finds_the_pages_of_all_its_matters_before_others() {
        let chunks = vec![
            page("refund", "Refund of a parcel", "A parcel that arrives broken is refunded within a week."),
            page("refund-form", "Refund form", "The form for a parcel refund asks for a photo of the broken parcel."),
            page("invoice", "Invoices", "An invoice is sent by mail each month."),
            page("jobs", "Jobs", "We look for drivers in the north."),
            page("colour", "Colours", "Paint comes in red and in blue."),
        ];
        let pages = Pages::of(&chunks);
        let story = "My parcel came broken on Monday. I want my money back for the parcel.\nAlso the invoice of May never came.";
        let found: Vec<&str> =
            pages.rank(story, "en", 10).iter().map(|r| chunks[r.chunks[0] as usize].path.as_str()).collect();
        let first: std::collections::BTreeSet<&str> = found[..3].iter().copied().collect();
        assert_eq!(first, ["invoice", "refund", "refund-form"].into_iter().collect());
        assert!(pages.rank(story, "ru", 10).is_empty() && pages.rank("", "en", 10).is_empty());
    }
}
