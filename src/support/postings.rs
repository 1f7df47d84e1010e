//! Which texts have a stem: finds the few that speak most of what is asked without looking at all of them.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::near::Terms;

/// Texts by their stems.
#[derive(Default)]
pub struct Postings {
    by_stem: HashMap<String, Vec<u32>>,
    texts: usize,
}

impl Postings {
    /// Of texts numbered in their order, each given as the set of its stems.
    pub fn of<'a>(texts: impl Iterator<Item = Option<&'a HashSet<String>>>) -> Self {
        let mut by_stem: HashMap<String, Vec<u32>> = HashMap::new();
        let mut count = 0;
        for (at, stems) in texts.enumerate() {
            count = at + 1;
            for stem in stems.into_iter().flatten() {
                by_stem.entry(stem.clone()).or_default().push(at as u32);
            }
        }
        Self { by_stem, texts: count }
    }

    /// Texts by the share of the terms that they cover, best first, equals in their order; at most `limit`.
    ///
    /// Term by term, its best covering stem first: whoever holds that one needs no second look. Costs the length of the
    /// covering stems' lists, and an array over all texts.
    pub fn most_covered(&self, terms: &Terms, limit: usize, keep: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut covering: Vec<(usize, f32, &str)> = Vec::new();
        for (stem, covered) in terms.covering() {
            covering.extend(covered.iter().map(|(term, part)| (*term, *part, stem)));
        }
        covering.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(b.2)));
        let mut shares = vec![0.0f32; self.texts];
        // The last term that a text was counted for, plus one.
        let mut counted = vec![0u32; self.texts];
        let mut touched: Vec<u32> = Vec::new();
        for (term, part, stem) in covering {
            let (worth, now) = (part * terms.weight(term), term as u32 + 1);
            for at in self.by_stem.get(stem).into_iter().flatten() {
                let last = &mut counted[*at as usize];
                if *last == 0 {
                    touched.push(*at);
                }
                if *last != now {
                    *last = now;
                    shares[*at as usize] += worth;
                }
            }
        }
        touched.retain(|at| keep(*at as usize));
        let order =
            |a: &u32, b: &u32| -> Ordering { shares[*b as usize].total_cmp(&shares[*a as usize]).then(a.cmp(b)) };
        if touched.len() > limit && limit > 0 {
            touched.select_nth_unstable_by(limit - 1, order);
        }
        touched.truncate(limit);
        touched.sort_by(order);
        touched.into_iter().map(|at| at as usize).collect()
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
