//! Is a message like anything that a company is asked? Learnt from examples of what is in scope alone.
//!
//! Several plain measures of strangeness are taken of a message: cosine with the nearest examples, the distance to the
//! nearest *group* (an intent, or a cluster where none are named) under the groups' common, shrunk covariance, against
//! the distance to all examples at once (Lee et al. 2018; Ren et al. 2021, "relative Mahalanobis"), how much any group
//! claims it (the energy of a classifier of groups), how many of its words any example has, and how much of one
//! example's words and letters it shares. What each is worth is learnt by playing the stranger: whole groups are
//! hidden, and what they ask must look strange to the rest.

use std::collections::HashMap;

use super::stack::Stack;
use base::{Base, DECIDING, DECIDING_WORDS, SIGNS};
use space::numbered;

pub use vocabulary::Vocabulary;

mod base;
mod intents;
mod space;
mod vocabulary;

/// Times that groups are hidden.
const FOLDS: usize = 4;
/// Most rows judged a fold.
const JUDGED: usize = 700;
/// Share of in-scope messages that may be called strange.
const SPARED_SHARE: f32 = 0.05;

/// What is in scope.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Scope {
    base: Base,
    dense: Option<Stack>,
    words: Option<Stack>,
    /// The measures of the examples themselves, each taken while the example was held out.
    held_out: HashMap<String, Vec<f32>>,
    /// Strangeness from which a message is out of scope.
    pub threshold: f32,
}

impl Scope {
    /// Learns from examples: their texts, vectors (empty where a text has none), and groups ("" or missing: none named).
    pub fn learn(texts: &[&str], vectors: &[Vec<f32>], groups: &[&str]) -> Self {
        let groups = numbered(groups, vectors, texts.len());
        let folds: Vec<Vec<Judged>> = std::thread::scope(|threads| {
            let groups = &groups;
            let running: Vec<_> =
                (0..FOLDS).map(|fold| threads.spawn(move || judged(fold, texts, vectors, groups))).collect();
            running.into_iter().map(|fold| fold.join().unwrap_or_default()).collect()
        });
        let rows: Vec<Judged> = folds.into_iter().flatten().collect();
        let learnt = |deciding: &[usize], dense: bool| {
            let seen = rows.iter().filter(|r| !dense || !vectors[r.number].is_empty());
            let rows: Vec<(Vec<f32>, bool)> = seen.map(|r| (chosen(&r.signs, deciding), r.hidden)).collect();
            let rows: Vec<(&[f32], bool)> = rows.iter().map(|(signs, hidden)| (signs.as_slice(), *hidden)).collect();
            Stack::fit(&rows, SPARED_SHARE, 0.3)
        };
        let (dense, words) = (learnt(&DECIDING, true), learnt(&DECIDING_WORDS, false));
        let threshold = dense.as_ref().or(words.as_ref()).map_or(1.0, |d| d.threshold);
        let all: Vec<usize> = (0..texts.len()).collect();
        let base = Base::of(&all, texts, vectors, &groups);
        let held_out = rows.into_iter().filter(|r| !r.hidden).map(|r| (texts[r.number].to_string(), r.signs)).collect();
        Self { base, dense, words, held_out, threshold }
    }

    /// Probability that the message is out of scope: 0..1. `vector`: empty where there is none.
    pub fn strangeness(&self, text: &str, vector: &[f32]) -> f32 {
        self.strangeness_of(&self.signs(text, vector), !vector.is_empty())
    }

    /// The same of the measures that [`Self::signs`] took, of a vector too or of the text alone.
    pub fn strangeness_of(&self, signs: &[f32], has_vector: bool) -> f32 {
        let read = |stack: &Option<Stack>, deciding: &[usize]| {
            stack.as_ref().map_or(0.0, |s| s.probability(&chosen(signs, deciding)))
        };
        match has_vector && self.dense.is_some() {
            true => read(&self.dense, &DECIDING),
            false => read(&self.words, &DECIDING_WORDS),
        }
    }

    /// The measures themselves, for a detector that knows more: each about -1..1; 0 where there is no vector.
    /// An example's own text does not count for itself.
    pub fn signs(&self, text: &str, vector: &[f32]) -> Vec<f32> {
        if let Some(signs) = self.held_out.get(text) {
            return signs.clone();
        }
        let own = self.base.number(text);
        let mut signs = match vector.is_empty() {
            true => self.base.word_signs(text, own),
            false => self.base.signs(text, vector, own),
        };
        signs.resize(SIGNS, 0.0);
        signs
    }
}

/// An example as it looks to others.
struct Judged {
    number: usize,
    /// Its whole group was hidden from them.
    hidden: bool,
    signs: Vec<f32>,
}

fn chosen(signs: &[f32], deciding: &[usize]) -> Vec<f32> {
    deciding.iter().map(|&k| signs[k]).collect()
}

/// What a fold's examples look like to the rest.
fn judged(fold: usize, texts: &[&str], vectors: &[Vec<f32>], groups: &[usize]) -> Vec<Judged> {
    let hidden = |i: usize| scattered(groups[i]) % FOLDS == fold;
    let kept: Vec<usize> = (0..texts.len()).filter(|&i| !hidden(i) && scattered(i) % FOLDS != fold).collect();
    let base = Base::of(&kept, texts, vectors, groups);
    let asked = (0..texts.len()).filter(|&i| hidden(i) || scattered(i) % FOLDS == fold);
    let (strange, usual): (Vec<usize>, Vec<usize>) = asked.partition(|&i| hidden(i));
    let mut rows = Vec::new();
    for (hidden, numbers) in [(true, strange), (false, usual)] {
        for &i in numbers.iter().step_by(numbers.len().div_ceil(JUDGED).max(1)) {
            let mut signs = match vectors[i].is_empty() {
                true => base.word_signs(texts[i], None),
                false => base.signs(texts[i], &vectors[i], None),
            };
            signs.resize(SIGNS, 0.0);
            rows.push(Judged { number: i, hidden, signs });
        }
    }
    rows
}

/// A number that looks drawn by chance but is always the same.
fn scattered(n: usize) -> usize {
    ((n as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::base::stems;
    use super::space::Whitening;
    use super::*;
    use crate::compute::dot;

    /// Vectors of words: a toy embedding in which shared words are near.
    fn vector(text: &str) -> Vec<f32> {
        let mut v = vec![0.0f32; 48];
        for stem in stems(text) {
            let place = stem.bytes().fold(7usize, |h, b| h.wrapping_mul(31).wrapping_add(b as usize)) % 48;
            v[place] += 1.0;
        }
        let norm = dot(&v, &v).sqrt().max(1e-6);
        v.iter().map(|x| x / norm).collect()
    }

    fn examples() -> Vec<String> {
        let things = ["invoice", "widget", "password", "agent", "colour", "sound", "domain", "report"];
        let asks = ["how do i change the", "where is my", "cannot find the", "please show me the", "delete this"];
        things.iter().flat_map(|t| asks.iter().map(move |a| format!("{a} {t}"))).collect()
    }

    fn scope(dense: bool) -> Scope {
        let texts = examples();
        let vectors: Vec<Vec<f32>> = texts.iter().map(|t| if dense { vector(t) } else { Vec::new() }).collect();
        let groups: Vec<&str> = texts.iter().map(|t| t.rsplit(' ').next().unwrap_or("")).collect();
        Scope::learn(&texts.iter().map(|t| t.as_str()).collect::<Vec<_>>(), &vectors, &groups)
    }

    #[test]
    fn a_stranger_is_stranger_than_a_usual_question_with_vectors_and_without() {
        for dense in [true, false] {
            let scope = scope(dense);
            let of = |text: &str| scope.strangeness(text, &if dense { vector(text) } else { Vec::new() });
            assert!(of("where is the invoice") < of("capital city of mongolia and its rivers"), "dense: {dense}");
            assert!(of("where is the invoice") < of("в каком году основан город"), "dense: {dense}");
        }
    }

    #[test]
    fn whitening_makes_the_covariance_a_sphere() {
        let rows: Vec<Vec<f32>> = (0..4000)
            .map(|i| {
                let (a, b) =
                    ((scattered(i) % 2001) as f32 / 1000.0 - 1.0, (scattered(i + 9000) % 2001) as f32 / 1000.0 - 1.0);
                vec![3.0 * a, a + 0.5 * b]
            })
            .collect();
        let whitening = Whitening::of(rows.clone().into_iter(), 2, 0.0);
        let placed: Vec<Vec<f32>> = rows.iter().map(|r| whitening.apply(r)).collect();
        let moment = |i: usize, j: usize| placed.iter().map(|r| r[i] * r[j]).sum::<f32>() / placed.len() as f32;
        assert!((moment(0, 0) - 1.0).abs() < 0.05 && (moment(1, 1) - 1.0).abs() < 0.05 && moment(0, 1).abs() < 0.05);
    }

    #[test]
    fn without_examples_nothing_is_known_and_nothing_breaks() {
        let scope = Scope::learn(&[], &[], &[]);
        assert_eq!(scope.strangeness("anything", &[1.0]), 0.0);
    }
}
