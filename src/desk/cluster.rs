//! Questions that ask the same, put together: leader clustering by meaning, or by words where the embedding model does
//! not read the language. One pass in the given order: each text joins the nearest group whose first member is near
//! enough, or founds its own. A group's first member never changes, so that it can name the group.

use std::collections::HashSet;

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
    /// Content stems.
    pub stems: HashSet<String>,
}

impl Question {
    /// How near two questions are: 1 is the threshold.
    fn nearness(&self, other: &Self) -> f32 {
        if self.lang != other.lang {
            return 0.0;
        }
        let common = self.stems.intersection(&other.stems).count() as f32;
        let all = (self.stems.len() + other.stems.len()) as f32 - common;
        let words = if all > 0.0 { common / all / SAME_WORDS } else { 0.0 };
        if self.vector.is_empty() || other.vector.is_empty() {
            return words;
        }
        let cosine: f32 = self.vector.iter().zip(&other.vector).map(|(a, b)| a * b).sum();
        words.max(cosine / SAME_MEANING)
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
        let stems = text.split_whitespace().map(str::to_string).collect();
        Question { text: text.into(), lang: lang.into(), vector: vector.to_vec(), stems }
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
