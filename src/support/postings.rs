//! Which texts have a stem: finds the few that speak most of what is asked without looking at all of them.

use std::collections::{HashMap, HashSet};

use super::near::Terms;

/// Texts by their stems.
#[derive(Default)]
pub struct Postings {
    by_stem: HashMap<String, Vec<u32>>,
}

impl Postings {
    /// Of texts numbered in their order, each given as the set of its stems.
    pub fn of<'a>(texts: impl Iterator<Item = Option<&'a HashSet<String>>>) -> Self {
        let mut by_stem: HashMap<String, Vec<u32>> = HashMap::new();
        for (at, stems) in texts.enumerate() {
            for stem in stems.into_iter().flatten() {
                by_stem.entry(stem.clone()).or_default().push(at as u32);
            }
        }
        Self { by_stem }
    }

    /// Texts by the share of the terms that they cover, best first, equals in their order; at most `limit`.
    pub fn most_covered(&self, terms: &Terms, limit: usize, keep: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut best: HashMap<(u32, usize), f32> = HashMap::new();
        for (stem, covered) in terms.covering() {
            for at in self.by_stem.get(stem).into_iter().flatten() {
                for (term, part) in covered {
                    let known = best.entry((*at, *term)).or_default();
                    *known = known.max(*part);
                }
            }
        }
        let mut shares: HashMap<u32, f32> = HashMap::new();
        for ((at, term), part) in best {
            *shares.entry(at).or_default() += part * terms.weight(term);
        }
        let mut order: Vec<(u32, f32)> = shares.into_iter().filter(|(at, _)| keep(*at as usize)).collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        order.truncate(limit);
        order.into_iter().map(|(at, _)| at as usize).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lexicon::Lexicon;
    use super::*;

    #[test]
    fn the_text_with_most_of_the_words_comes_first() {
        let set = |words: &str| words.split(' ').map(str::to_string).collect::<HashSet<String>>();
        let texts = [set("widget colour"), set("widget"), set("invoice")];
        let postings = Postings::of(texts.iter().map(Some));
        let terms = Terms::of("", &["widget".into(), "colour".into()], &Lexicon::default());
        assert_eq!(postings.most_covered(&terms, 8, |_| true), [0, 1]);
        assert_eq!(postings.most_covered(&terms, 8, |at| at != 0), [1]);
    }
}
