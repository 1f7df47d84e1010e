//! How much of a question a chunk speaks of: shares of stems weighted by their rarity, and likeness of chunks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::kb::Chunk;
use crate::kb::chunk::{code_text, readable_text};
use crate::kb::words::{Stems, is_stop, words};

/// Chunks that share this much of their words are told once.
const SAME: f32 = 0.9;

/// The stems of every chunk, numbered.
pub(super) struct Vocabulary {
    numbers: HashMap<String, u32>,
    /// Chunks that hold the stem, by its number.
    frequency: Vec<u32>,
    /// Sorted stems of each chunk.
    chunks: Vec<Vec<u32>>,
    stems: BTreeMap<String, Stems>,
}

/// A query's content words as stems of one language, with their weights; a stem that no chunk has counts too.
pub(super) struct QueryStems {
    by_lang: BTreeMap<String, Vec<(Option<u32>, String, f32)>>,
}

impl Vocabulary {
    pub fn of(chunks: &[Arc<Chunk>]) -> Self {
        let langs: BTreeSet<&String> = chunks.iter().map(|chunk| &chunk.lang).collect();
        let stems = langs.into_iter().map(|lang| (lang.clone(), Stems::of(lang))).collect();
        let mut vocabulary = Self { numbers: HashMap::new(), frequency: Vec::new(), chunks: Vec::new(), stems };
        for chunk in chunks {
            let text = format!(
                "{}\n{}\n{}\n{}\n{}\n{}",
                chunk.title,
                chunk.headings.join("\n"),
                chunk.questions.join("\n"),
                chunk.tags.join("\n"),
                readable_text(chunk),
                code_text(chunk)
            );
            // A word is stemmed once however often it occurs.
            let distinct: BTreeSet<String> = words(&text).into_iter().collect();
            let stems = &vocabulary.stems[&chunk.lang];
            let mut numbers: Vec<u32> = Vec::with_capacity(distinct.len());
            for word in distinct {
                let stem = stems.stem(&word);
                let next = vocabulary.numbers.len() as u32;
                let number = *vocabulary.numbers.entry(stem).or_insert(next);
                numbers.push(number);
            }
            numbers.sort_unstable();
            numbers.dedup();
            vocabulary.frequency.resize(vocabulary.numbers.len(), 0);
            numbers.iter().for_each(|number| vocabulary.frequency[*number as usize] += 1);
            vocabulary.chunks.push(numbers);
        }
        vocabulary
    }

    /// The content words of a text, ready to be compared with chunks of any language.
    pub fn query(&self, text: &str) -> QueryStems {
        let all = words(text);
        let content: Vec<&String> = all.iter().filter(|word| !is_stop(word)).collect();
        let chosen: Vec<&String> = if content.is_empty() { all.iter().collect() } else { content };
        let of_lang = |stems: &Stems| {
            let distinct: BTreeSet<String> = chosen.iter().map(|word| stems.stem(word)).collect();
            let weighed = distinct.into_iter().map(|stem| {
                let number = self.numbers.get(&stem).copied();
                (number, stem, self.rarity(number))
            });
            weighed.collect::<Vec<_>>()
        };
        QueryStems { by_lang: self.stems.iter().map(|(lang, stems)| (lang.clone(), of_lang(stems))).collect() }
    }

    /// Inverse document frequency as BM25 has it, smoothed to stay positive.
    fn rarity(&self, number: Option<u32>) -> f32 {
        let n = self.chunks.len() as f32;
        let df = number.map_or(0.0, |number| self.frequency[number as usize] as f32);
        (1.0 + (n - df + 0.5) / (df + 0.5)).ln()
    }

    /// Share of the query's weight that occurs in the chunk, 0..1.
    pub fn coverage(&self, query: &QueryStems, at: u32, lang: &str) -> f32 {
        let own = &self.chunks[at as usize];
        share(query, lang, |number, _| number.is_some_and(|number| own.binary_search(&number).is_ok()))
    }

    /// The same for the nearest of a chunk's questions.
    pub fn question_coverage(&self, query: &QueryStems, chunk: &Chunk) -> f32 {
        let Some(stems) = self.stems.get(&chunk.lang) else { return 0.0 };
        let of = |question: &String| {
            let own: BTreeSet<String> = stems.all(question).into_iter().collect();
            share(query, &chunk.lang, |_, stem| own.contains(stem))
        };
        chunk.questions.iter().map(of).fold(0.0, f32::max)
    }

    /// True where two chunks say the same in nearly the same words.
    pub fn are_alike(&self, a: u32, b: u32) -> bool {
        let (a, b) = (&self.chunks[a as usize], &self.chunks[b as usize]);
        // The shorter one holds too few: most pairs end here.
        if (a.len().min(b.len()) as f32) < SAME * a.len().max(b.len()) as f32 {
            return false;
        }
        let common = a.iter().filter(|number| b.binary_search(number).is_ok()).count();
        let either = a.len() + b.len() - common;
        either > 0 && common as f32 >= SAME * either as f32
    }
}

fn share(query: &QueryStems, lang: &str, has: impl Fn(Option<u32>, &str) -> bool) -> f32 {
    let Some(stems) = query.by_lang.get(lang) else { return 0.0 };
    let total: f32 = stems.iter().map(|(_, _, weight)| weight).sum();
    let found: f32 = stems.iter().filter(|(number, stem, _)| has(*number, stem)).map(|(_, _, weight)| weight).sum();
    if total > 0.0 { found / total } else { 0.0 }
}
