//! The words that a company's texts are written in, beside how people write elsewhere: a stranger's question is put in
//! words that the company never uses. Needs no model of the language, so it speaks where no vector does.

use std::collections::HashMap;

use super::base::stems;

/// Measures that [`Vocabulary::signs`] gives.
pub const VOCABULARY_SIGNS: usize = 3;
/// Shortest word that says anything of a subject.
const SHORTEST: usize = 3;
/// Most telling words that are averaged.
const TELLING: usize = 2;
/// Times that a word that nobody used counts as used.
const UNSEEN: f32 = 0.2;
/// Likelihood, in logarithms, at which a word is all the company's or all the others'.
const MOST: f32 = 3.0;

/// Beginnings of words, with the number of texts that have them.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub struct Vocabulary {
    company: Counted,
    elsewhere: Counted,
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Counted {
    texts: HashMap<String, u32>,
    count: u32,
}

impl Vocabulary {
    /// `company`: what it has written itself (pages, answers), a paragraph or so each; `elsewhere`: messages to others.
    pub fn of<'a>(company: impl Iterator<Item = &'a str>, elsewhere: impl Iterator<Item = &'a str>) -> Self {
        Self { company: Counted::of(company), elsewhere: Counted::of(elsewhere) }
    }

    /// What a message's words say, each about -1..1: the share that the company never uses, and how much more its
    /// most telling word, and its few most telling ones, are used by others than by the company.
    pub fn signs(&self, message: &str) -> [f32; VOCABULARY_SIGNS] {
        let stems: Vec<String> = stems(message).into_iter().filter(|s| s.chars().count() >= SHORTEST).collect();
        if stems.is_empty() || self.company.count == 0 {
            return [0.0; VOCABULARY_SIGNS];
        }
        let unused = stems.iter().filter(|s| self.company.of_stem(s) == 0.0).count() as f32 / stems.len() as f32;
        let mut foreign: Vec<f32> = stems.iter().map(|s| self.foreign(s)).collect();
        foreign.sort_by(f32::total_cmp);
        foreign.truncate(TELLING);
        let telling = foreign.iter().sum::<f32>() / foreign.len() as f32;
        [2.0 * unused - 1.0, foreign[0], telling]
    }

    /// -1 (a word of the company's) to 1 (of the others'); 0 where nobody used it.
    fn foreign(&self, stem: &str) -> f32 {
        let (ours, theirs) = (self.company.of_stem(stem), self.elsewhere.of_stem(stem));
        if ours + theirs == 0.0 {
            return 0.0;
        }
        let share = |n: f32, of: &Counted| ((n + UNSEEN) / (of.count as f32 + 1.0)).ln();
        ((share(theirs, &self.elsewhere) - share(ours, &self.company)) / MOST).clamp(-1.0, 1.0)
    }
}

impl Counted {
    fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut it = Self::default();
        for text in texts.filter(|t| !t.trim().is_empty()) {
            it.count += 1;
            for stem in stems(text) {
                *it.texts.entry(stem).or_default() += 1;
            }
        }
        it
    }

    fn of_stem(&self, stem: &str) -> f32 {
        self.texts.get(stem).map_or(0.0, |n| *n as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let pages =
            ["Виджет чата ставится на сайт.", "Оператор видит диалог во входящих.", "The widget shows a button."];
        let others = ["кто написал роман", "какая погода на сайте", "who wrote the novel"];
        Vocabulary::of(pages.into_iter(), others.into_iter())
    }

    #[test]
    fn words_that_the_company_never_uses_are_foreign_and_endings_do_not_matter() {
        let vocabulary = vocabulary();
        let ([ours, best, _], [theirs, worst, _]) =
            (vocabulary.signs("диалоги виджета"), vocabulary.signs("кто написал этот роман"));
        assert!(ours < theirs && best < worst, "{ours} {best} {theirs} {worst}");
        assert_eq!(theirs, 1.0);
    }

    #[test]
    fn nothing_is_said_of_a_message_without_words_or_by_a_company_without_texts() {
        assert_eq!(vocabulary().signs("?!"), [0.0; VOCABULARY_SIGNS]);
        assert_eq!(Vocabulary::default().signs("кто написал роман"), [0.0; VOCABULARY_SIGNS]);
    }
}
