//! Cutting text at the spellings of special tokens.

use std::collections::HashSet;

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
    /// Tokens that take along the white space behind them.
    greedy: HashSet<u32>,
}

/// Phi-3's special tokens take along the white space behind them, all but these. Files do not say so.
const PHI3_MODEST: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// Spellings and the tokens that they stand for.
struct Matcher {
    automaton: Option<AhoCorasick>,
    tokens: Vec<u32>,
}

/// What C takes for white space.
const SPACES: [char; 6] = [' ', '\t', '\n', '\u{B}', '\u{C}', '\r'];

impl SpecialTokens {
    pub(super) fn new(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Self, ModelError> {
        let matcher = |kinds: &[Kind]| {
            let all = (0..).zip(&vocabulary.texts).zip(&vocabulary.kinds);
            let chosen = all.filter(|((_, text), kind)| kinds.contains(kind) && !text.is_empty());
            Matcher::new(chosen.map(|((id, text), _)| (id, *text)).collect())
                .map_err(|e| gguf.error(format!("its special tokens are too many: {e}")))
        };
        let phi3 =
            gguf.text("general.architecture")? == Some("phi3") && gguf.text("tokenizer.ggml.model")? == Some("llama");
        let all = (0..).zip(&vocabulary.texts).zip(&vocabulary.kinds).filter(|_| phi3);
        let greedy = all.filter(|((_, text), kind)| {
            matches!(kind, Kind::UserDefined | Kind::Control) && !PHI3_MODEST.contains(text)
        });
        Ok(Self {
            plain: matcher(&[Kind::UserDefined])?,
            all: matcher(&[Kind::UserDefined, Kind::Control])?,
            greedy: greedy.map(|((id, _), _)| id).collect(),
        })
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
                let token = matcher.tokens[found.pattern().as_usize()];
                pieces.push(Piece::Token(token));
                from = found.end();
                if self.greedy.contains(&token) {
                    from = text.len() - text[from..].trim_start_matches(SPACES).len();
                }
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
            greedy: HashSet::from([2]),
        }
    }

    #[test]
    fn control_spellings_in_plain_text_stay_text() {
        let pieces = specials().cut("a <s> b<tool>", false);
        assert_eq!(pieces, [Piece::Text("a <s> b"), Piece::Token(3)]);
    }

    #[test]
    fn a_greedy_token_takes_the_space_behind_it_along() {
        let pieces = specials().cut("</s> \n a </s>\t<s> b", true);
        let expected = [Piece::Token(2), Piece::Text("a "), Piece::Token(2), Piece::Token(0), Piece::Text(" b")];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn templates_find_control_tokens_the_longest_first() {
        let pieces = specials().cut("<s>xя</s>", true);
        assert_eq!(pieces, [Piece::Token(1), Piece::Text("я"), Piece::Token(2)]);
        assert_eq!(specials().cut("", true), []);
    }
}
