//! Questions that ask the same, put together: leader clustering by meaning, or by words where the embedding model does
//! not read the language. One pass in the given order: each text joins the nearest group whose first member is near
//! enough, or founds its own. A group's first member never changes, so that it can name the group.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::compute::cosine;

/// Cosine from which two questions of a language that the model reads ask the same.
const SAME_MEANING: f32 = 0.72;
/// Share of common content words (Jaccard) from which two questions ask the same.
const SAME_WORDS: f32 = 0.5;
/// Members that are compared to find the one that speaks for all.
const COMPARED: usize = 40;

/// A question with what it is compared by.
#[derive(Debug, Clone, Default)]
pub struct Question {
    pub text: String,
    pub lang: String,
    /// Of length 1; empty where the embedding model does not read the language.
    pub vector: Vec<f32>,
    pub stems: Stems,
}

/// The content stems of a text, each as a number, in order: a thousand texts are compared with each other at each look.
#[derive(Debug, Clone, Default)]
pub struct Stems(Vec<u64>);

impl<S: AsRef<str>> FromIterator<S> for Stems {
    fn from_iter<I: IntoIterator<Item = S>>(stems: I) -> Self {
        let number = |stem: S| {
            let mut hasher = DefaultHasher::new();
            stem.as_ref().hash(&mut hasher);
            hasher.finish()
        };
        let mut numbers: Vec<u64> = stems.into_iter().map(number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Self(numbers)
    }
}

impl Stems {
    /// Share of common stems (Jaccard): 0 to 1.
    fn likeness(&self, other: &Self) -> f32 {
        let (mut a, mut b, mut common) = (self.0.as_slice(), other.0.as_slice(), 0);
        while let (Some((x, after_x)), Some((y, after_y))) = (a.split_first(), b.split_first()) {
            common += usize::from(x == y);
            (a, b) = (if x <= y { after_x } else { a }, if y <= x { after_y } else { b });
        }
        let all = self.0.len() + other.0.len() - common;
        common as f32 / all.max(1) as f32
    }
}

impl Question {
    /// How near two questions are: 1 is the threshold.
    fn nearness(&self, other: &Self) -> f32 {
        if self.lang != other.lang {
            return 0.0;
        }
        let words = self.stems.likeness(&other.stems) / SAME_WORDS;
        if self.vector.is_empty() || other.vector.is_empty() {
            return words;
        }
        words.max(cosine(&self.vector, &other.vector) / SAME_MEANING)
    }
}

/// Groups of indices, the founder first; the largest group first, older founders before younger.
pub fn groups(questions: &[Question]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (at, question) in questions.iter().enumerate() {
        let nearness = groups.iter().map(|group| questions[group[0]].nearness(question));
        let nearest = nearness.enumerate().filter(|(_, n)| *n >= 1.0).max_by(|a, b| a.1.total_cmp(&b.1));
        match nearest {
            Some((group, _)) => groups[group].push(at),
            None => groups.push(vec![at]),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    groups
}

/// The member that is nearest to the others.
pub fn spokesman(group: &[usize], questions: &[Question]) -> Option<usize> {
    let compared = &group[..group.len().min(COMPARED)];
    let nearness = |at: usize| compared.iter().map(|other| questions[at].nearness(&questions[*other])).sum::<f32>();
    compared.iter().copied().rev().max_by(|a, b| nearness(*a).total_cmp(&nearness(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(text: &str, lang: &str, vector: &[f32]) -> Question {
        let stems = text.split_whitespace().collect();
        Question { text: text.into(), lang: lang.into(), vector: vector.to_vec(), stems }
    }

    #[test]
    fn likeness_counts_each_common_stem_once() {
        let stems = |text: &str| text.split(' ').collect::<Stems>();
        assert_eq!(stems("pay card card").likeness(&stems("card bank pay cash")), 0.5);
        assert_eq!(stems("pay").likeness(&stems("bank")), 0.0);
        assert_eq!(Stems::default().likeness(&Stems::default()), 0.0);
    }

    #[test]
    fn the_same_question_in_other_words_joins_and_another_does_not() {
        let questions = [
            question("pay crypto", "en", &[1.0, 0.0]),
            question("bitcoin accepted", "en", &[0.9, 0.436]),
            question("delete workspace", "en", &[0.0, 1.0]),
            question("платить криптой", "ru", &[]),
            question("платить криптой можно", "ru", &[]),
            question("crypto pay now", "en", &[0.99, 0.141]),
        ];
        let groups = groups(&questions);
        assert_eq!(groups, [vec![0, 1, 5], vec![3, 4], vec![2]]);
        assert_eq!(spokesman(&groups[0], &questions), Some(5));
    }
}
