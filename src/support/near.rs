//! How much of what is asked a text speaks of, where related words count in part.
//!
//! A question's content stems (its *terms*) are weighted by how rare they are in the pack. Each stem of another text
//! that is a term, or related to one ([`super::thesaurus`]), covers that term by 1 or by a part.

use std::collections::{HashMap, HashSet};

use super::lexicon::Lexicon;
use super::text;
use super::thesaurus::{self, RELATED};

/// A question's terms, ready to be compared with many texts.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    stems: Vec<String>,
    weights: Vec<f32>,
    total: f32,
    /// Some term is neither a word of the pack nor related to one.
    unknown: bool,
    /// Stem of another text -> terms that it covers (index, part).
    covers: HashMap<String, Vec<(usize, f32)>>,
}

/// Weight of a term whose word the pack never uses: it tells little of what is asked.
const UNKNOWN: f32 = 0.2;
/// The same where the pack uses related words: the customer has a word of their own for it.
const UNKNOWN_RELATED: f32 = 0.3;

impl Terms {
    /// The terms of `stems` (content stems of `words`, some left out perhaps).
    pub fn of(words: &str, stems: &[String], lexicon: &Lexicon) -> Self {
        let mut terms = Self::default();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for stem in stems {
            if !places.contains_key(stem.as_str()) {
                places.insert(stem, terms.stems.len());
                terms.stems.push(stem.clone());
            }
        }
        for (at, stem) in terms.stems.iter().enumerate() {
            terms.covers.insert(stem.clone(), vec![(at, 1.0)]);
        }
        let mut kin: Vec<Vec<f32>> = vec![Vec::new(); terms.stems.len()];
        let of_thesaurus = thesaurus::related(words).into_iter().map(|(from, to)| (from, to.to_string()));
        for (from, to) in of_thesaurus.chain(of_one_sense(words, lexicon)) {
            let Some(&at) = places.get(from.as_str()).filter(|_| from != to) else { continue };
            let covered = terms.covers.entry(to.clone()).or_default();
            if !covered.iter().any(|(term, _)| *term == at) {
                covered.push((at, RELATED));
                if lexicon.has_stem(&to) {
                    kin[at].push(lexicon.rarity(&to));
                }
            }
        }
        for (stem, kin) in terms.stems.iter().zip(kin) {
            terms.unknown |= !lexicon.has_stem(stem) && kin.is_empty();
            terms.weights.push(match (lexicon.has_stem(stem), kin.len()) {
                (true, _) => lexicon.rarity(stem),
                (false, 0) => UNKNOWN,
                (false, n) => (kin.iter().sum::<f32>() / n as f32).max(UNKNOWN_RELATED),
            });
        }
        terms.total = terms.weights.iter().sum();
        terms
    }

    /// True where a term is neither a word of the pack nor related to one.
    pub fn has_unknown(&self) -> bool {
        self.unknown
    }

    /// Weight of a term: how rare its word is.
    pub fn weight(&self, term: usize) -> f32 {
        self.weights.get(term).copied().unwrap_or(0.0)
    }

    /// The stems that cover any term.
    pub fn covering(&self) -> impl Iterator<Item = (&str, &[(usize, f32)])> {
        self.covers.iter().map(|(stem, terms)| (stem.as_str(), terms.as_slice()))
    }

    /// By how much each term is covered by a text's stems.
    pub fn parts<'a>(&self, stems: impl IntoIterator<Item = &'a String>) -> Vec<f32> {
        let mut parts = vec![0.0f32; self.stems.len()];
        for (term, part) in stems.into_iter().filter_map(|s| self.covers.get(s)).flatten() {
            parts[*term] = parts[*term].max(*part);
        }
        parts
    }

    /// The same for a set of stems; costs the number of covering stems, not of the set's.
    pub fn parts_in(&self, set: &HashSet<String>) -> Vec<f32> {
        let mut parts = vec![0.0f32; self.stems.len()];
        for (_, terms) in self.covers.iter().filter(|(stem, _)| set.contains(*stem)) {
            for (term, part) in terms {
                parts[*term] = parts[*term].max(*part);
            }
        }
        parts
    }

    /// True where a term that weighs at least `share` of the heaviest is covered by one of the stems.
    pub fn touched_by(&self, set: &HashSet<String>, share: f32) -> bool {
        let least = share * self.weights.iter().copied().fold(0.0, f32::max);
        let heavy = |terms: &[(usize, f32)]| terms.iter().any(|(term, _)| self.weight(*term) >= least);
        self.covers.iter().any(|(stem, terms)| heavy(terms) && set.contains(stem))
    }

    /// Share of the terms, by weight, that is covered: 0..1.
    pub fn share(&self, parts: &[f32]) -> f32 {
        if self.total <= 0.0 {
            return 0.0;
        }
        self.weights.iter().zip(parts).map(|(weight, part)| weight * part).sum::<f32>() / self.total
    }

    /// Weight of the heaviest term that is covered by less than a related word: what is asked and not spoken of.
    pub fn heaviest_missing(&self, parts: &[f32]) -> f32 {
        let missing = self.weights.iter().zip(parts).filter(|(_, part)| **part < RELATED);
        missing.map(|(weight, _)| *weight).fold(0.0, f32::max)
    }

    /// Share of another text's stems, by rarity, that the question speaks of: 0..1.
    pub fn share_of_other(&self, other: &[String], lexicon: &Lexicon) -> f32 {
        let (mut found, mut all) = (0.0, 0.0);
        for (i, stem) in other.iter().enumerate().filter(|(i, stem)| !other[..*i].contains(stem)) {
            let weight = lexicon.rarity(&other[i]);
            all += weight;
            let best = self.covers.get(stem).into_iter().flatten().map(|(_, part)| *part).fold(0.0, f32::max);
            found += weight * best;
        }
        if all > 0.0 { found / all } else { 0.0 }
    }
}

/// Pairs of stems that mean the same in English: one of the text's, one of the pack's.
fn of_one_sense(words: &str, lexicon: &Lexicon) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (run, english) in text::glossary::senses(words) {
        let said: Vec<String> = run.iter().flat_map(|word| text::content_stems(word)).collect();
        for from in &said {
            // A phrase's words together mean it: each of them stands for it.
            pairs.extend(lexicon.of_sense(english).iter().map(|to| (from.clone(), to.clone())));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::super::lexicon::tests::faq;
    use super::*;
    use crate::kb::pack::Pack;

    fn terms(words: &str) -> (Terms, Lexicon) {
        let chunks = vec![
            faq("a", "ru", &["Как установить виджет?"], "Скопируйте код."),
            faq("b", "ru", &["Сколько стоит подписка?"], "Цены на странице."),
        ];
        let lexicon = Lexicon::build(&chunks, &Pack::default());
        (Terms::of(words, &text::content_stems(words), &lexicon), lexicon)
    }

    #[test]
    fn a_related_word_covers_a_term_in_part() {
        let (terms, _) = terms("как прикрутить виджет");
        let said = |t: &str| terms.share(&terms.parts(&text::content_stems(t)));
        assert!(said("установить виджет") > 0.7 && said("установить виджет") < 1.0);
        assert_eq!(said("прикрутить виджет"), 1.0);
        assert_eq!(said("сколько стоит"), 0.0);
    }

    #[test]
    fn the_heaviest_missing_term_tells_what_a_text_does_not_speak_of() {
        let (terms, _) = terms("сколько стоит виджет");
        let parts = terms.parts(&text::content_stems("виджет"));
        assert!(terms.heaviest_missing(&parts) > 0.0);
        assert_eq!(terms.heaviest_missing(&terms.parts(&text::content_stems("сколько стоит виджет"))), 0.0);
    }
}
