//! Cutting text at the spellings of special tokens.

use aho_corasick::{AhoCorasick, MatchKind};

use super::{Kind, Vocabulary};
use crate::model::ModelError;
use crate::model::gguf::Gguf;

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    Token(u32),
}

/// Finds special tokens in text.
pub(super) struct SpecialTokens {
    /// User-defined tokens: part of any text.
    plain: Matcher,
    /// User-defined and control tokens: for templates.
    all: Matcher,
}

/// Spellings and the tokens that they stand for.
struct Matcher {
    automaton: Option<AhoCorasick>,
    tokens: Vec<u32>,
}

impl SpecialTokens {
    pub(super) fn new(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Self, ModelError> {
        let matcher = |kinds: &[Kind]| {
            let all = (0..).zip(&vocabulary.texts).zip(&vocabulary.kinds);
            let chosen = all.filter(|((_, text), kind)| kinds.contains(kind) && !text.is_empty());
            Matcher::new(chosen.map(|((id, text), _)| (id, *text)).collect())
                .map_err(|e| gguf.error(format!("its special tokens are too many: {e}")))
        };
        Ok(Self { plain: matcher(&[Kind::UserDefined])?, all: matcher(&[Kind::UserDefined, Kind::Control])? })
    }

    /// Cuts `text` at special tokens, the longest of those that begin first.
    pub(super) fn cut<'a>(&self, text: &'a str, parse_special: bool) -> Vec<Piece<'a>> {
        let matcher = if parse_special { &self.all } else { &self.plain };
        let mut pieces = Vec::new();
        let mut from = 0;
        if let Some(automaton) = &matcher.automaton {
            for found in automaton.find_iter(text) {
                if found.start() > from {
                    pieces.push(Piece::Text(&text[from..found.start()]));
                }
                pieces.push(Piece::Token(matcher.tokens[found.pattern().as_usize()]));
                from = found.end();
            }
        }
        if from < text.len() {
            pieces.push(Piece::Text(&text[from..]));
        }
        pieces
    }
}

impl Matcher {
    fn new(spellings: Vec<(u32, &str)>) -> Result<Self, aho_corasick::BuildError> {
        let automaton = match spellings.is_empty() {
            true => None,
            false => Some(
                AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(spellings.iter().map(|(_, text)| text))?,
            ),
        };
        Ok(Self { automaton, tokens: spellings.into_iter().map(|(id, _)| id).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials() -> SpecialTokens {
        let control = vec![(0, "<s>"), (1, "<s>x"), (2, "</s>")];
        let user = vec![(3, "<tool>")];
        SpecialTokens {
            plain: Matcher::new(user.clone()).unwrap(),
            all: Matcher::new(control.into_iter().chain(user).collect()).unwrap(),
        }
    }

    #[test]
    fn control_spellings_in_plain_text_stay_text() {
        let pieces = specials().cut("a <s> b<tool>", false);
        assert_eq!(pieces, [Piece::Text("a <s> b"), Piece::Token(3)]);
    }

    #[test]
    fn templates_find_control_tokens_the_longest_first() {
        let pieces = specials().cut("<s>xя</s>", true);
        assert_eq!(pieces, [Piece::Token(1), Piece::Text("я"), Piece::Token(2)]);
        assert_eq!(specials().cut("", true), []);
    }
}
