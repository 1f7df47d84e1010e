//! The baseline that retrieval is measured against: BM25 over stems, as any search engine gives it (Robertson and
//! Zaragoza 2009, k1 = 1.2, b = 0.75). Shares nothing with the index.

use std::collections::{BTreeMap, HashMap};

use crate::kb::words::{Stems, is_stop, words};

const K1: f32 = 1.2;
const B: f32 = 0.75;

/// Documents ready to be ranked.
pub struct Bm25 {
    documents: Vec<(BTreeMap<String, f32>, f32)>,
    frequency: HashMap<String, f32>,
    mean_length: f32,
    stems: Stems,
}

impl Bm25 {
    pub fn of(texts: &[String], lang: &str) -> Self {
        let stems = Stems::of(lang);
        let mut frequency: HashMap<String, f32> = HashMap::new();
        let mut documents = Vec::with_capacity(texts.len());
        for text in texts {
            let mut counts: BTreeMap<String, f32> = BTreeMap::new();
            for word in words(text).into_iter().filter(|w| !is_stop(w)) {
                *counts.entry(stems.stem(&word)).or_default() += 1.0;
            }
            counts.keys().for_each(|stem| *frequency.entry(stem.clone()).or_default() += 1.0);
            let length = counts.values().sum();
            documents.push((counts, length));
        }
        let mean_length = documents.iter().map(|d| d.1).sum::<f32>() / documents.len().max(1) as f32;
        Self { documents, frequency, mean_length, stems }
    }

    /// Documents that share a word with the query, best first.
    pub fn rank(&self, query: &str) -> Vec<usize> {
        let n = self.documents.len() as f32;
        let mut stems: Vec<String> =
            words(query).iter().filter(|w| !is_stop(w)).map(|word| self.stems.stem(word)).collect();
        stems.sort();
        stems.dedup();
        let score = |(counts, length): &(BTreeMap<String, f32>, f32)| -> f32 {
            let of = |stem: &String| {
                let (tf, df) = (*counts.get(stem)?, *self.frequency.get(stem)?);
                let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
                Some(idf * tf * (K1 + 1.0) / (tf + K1 * (1.0 - B + B * length / self.mean_length)))
            };
            stems.iter().filter_map(of).sum()
        };
        let mut ranked: Vec<(usize, f32)> =
            self.documents.iter().map(score).enumerate().filter(|(_, s)| *s > 0.0).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.into_iter().map(|(at, _)| at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_with_the_rare_word_comes_first() {
        let texts = ["the widget page".to_string(), "the widget and the invoices".into(), "widget".into()];
        assert_eq!(Bm25::of(&texts, "en").rank("invoice of a widget")[0], 1);
    }
}
