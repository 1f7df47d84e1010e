//! SentencePiece-style tokenization: merge neighbours by the score of what they make.
//!
//! Kudo and Richardson 2018, "SentencePiece". The pair that makes the token with the highest score merges first, the
//! leftmost of equals; what is no token in the end becomes byte tokens. The `tokenizers` crate would need the merges as
//! a ranked list, which cannot express equal scores; this is the same loop over scores.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::{Kind, Vocabulary};
use crate::model::ModelError;
use crate::model::gguf::Gguf;

/// SentencePiece's mark for a space, U+2581.
pub(super) const SPACE: &str = "\u{2581}";

/// Tokens with their scores.
pub(super) struct Spm {
    tokens: HashMap<String, (u32, f32)>,
    bytes: [u32; 256],
    add_space_prefix: bool,
}

/// A run of characters in the text being merged.
#[derive(Clone, Copy)]
struct Symbol {
    from: usize,
    len: usize,
    prev: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that make a token.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Length of both together when the pair was found: it is stale once one of them has grown.
    len: usize,
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl Spm {
    pub(super) fn read(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Self, ModelError> {
        let Some(scores) = gguf.numbers("tokenizer.ggml.scores")? else {
            return Err(gguf.error("`tokenizer.ggml.scores` is missing"));
        };
        if scores.len() != vocabulary.texts.len() {
            return Err(gguf.error(format!(
                "`tokenizer.ggml.scores` has {} entries for {} tokens",
                scores.len(),
                vocabulary.texts.len()
            )));
        }
        if gguf.flag("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false) {
            return Err(gguf.error("a SentencePiece tokenizer that removes extra spaces is not supported"));
        }
        let mut bytes = [None; 256];
        for ((id, text), kind) in (0u32..).zip(&vocabulary.texts).zip(&vocabulary.kinds) {
            if let (Kind::Byte, Some(value)) = (kind, byte(text)) {
                bytes[value as usize] = Some(id);
            }
        }
        let bytes: Option<Vec<u32>> = bytes.into_iter().collect();
        let Some(bytes) = bytes.and_then(|bytes| bytes.try_into().ok()) else {
            return Err(gguf.error("the vocabulary lacks some of the 256 byte tokens (`<0x00>` and so on)"));
        };
        let tokens = vocabulary.writable().map(|(id, text)| (text.to_string(), (id, scores[id as usize]))).collect();
        let add_space_prefix = gguf.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        Ok(Self { tokens, bytes, add_space_prefix })
    }

    /// Appends the tokens of `text`. `at_start`: it begins the prompt or follows a special token.
    pub(super) fn encode(&self, text: &str, at_start: bool, tokens: &mut Vec<u32>) {
        let mut marked = String::with_capacity(text.len() + 3);
        if at_start && self.add_space_prefix {
            marked.push_str(SPACE);
        }
        for c in text.chars() {
            match c {
                ' ' => marked.push_str(SPACE),
                c => marked.push(c),
            }
        }
        for symbol in self.merge(&marked) {
            let text = &marked[symbol.from..symbol.from + symbol.len];
            match self.tokens.get(text) {
                Some((id, _)) => tokens.push(*id),
                None => tokens.extend(text.bytes().map(|b| self.bytes[b as usize])),
            }
        }
    }

    /// What is left of the text's characters when nothing more can merge.
    fn merge(&self, text: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::new();
        for (number, (from, c)) in text.char_indices().enumerate() {
            symbols.push(Symbol { from, len: c.len_utf8(), prev: number.checked_sub(1), next: Some(number + 1) });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = None;
        }
        let mut pairs = BinaryHeap::new();
        let pair = |symbols: &[Symbol], left: usize, right: usize| -> Option<Pair> {
            let len = symbols[left].len + symbols[right].len;
            let from = symbols[left].from;
            self.tokens.get(&text[from..from + len]).map(|(_, score)| Pair { score: *score, left, right, len })
        };
        for right in 1..symbols.len() {
            pairs.extend(pair(&symbols, right - 1, right));
        }
        while let Some(Pair { left, right, len, .. }) = pairs.pop() {
            if symbols[left].len == 0 || symbols[right].len == 0 || symbols[left].len + symbols[right].len != len {
                continue;
            }
            symbols[left].len = len;
            symbols[right].len = 0;
            symbols[left].next = symbols[right].next;
            if let Some(next) = symbols[right].next {
                symbols[next].prev = Some(left);
                pairs.extend(pair(&symbols, left, next));
            }
            if let Some(prev) = symbols[left].prev {
                pairs.extend(pair(&symbols, prev, left));
            }
        }
        symbols.retain(|symbol| symbol.len > 0);
        symbols
    }
}

/// The byte that `<0x0A>` stands for.
pub(super) fn byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let well_formed = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    well_formed.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// Bytes of every token.
pub(super) fn token_bytes(vocabulary: &Vocabulary<'_>) -> Vec<Box<[u8]>> {
    let both = vocabulary.texts.iter().zip(&vocabulary.kinds);
    both.map(|(text, kind)| -> Box<[u8]> {
        match kind {
            Kind::Control | Kind::Unused => Box::default(),
            Kind::UserDefined => text.as_bytes().into(),
            Kind::Byte => byte(text).map(|b| vec![b]).unwrap_or_default().into_boxed_slice(),
            Kind::Normal => text.replace(SPACE, " ").into_bytes().into_boxed_slice(),
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spm(tokens: &[(&str, f32)]) -> Spm {
        let tokens = (1000u32..).zip(tokens).map(|(id, (text, score))| (text.to_string(), (id, *score))).collect();
        Spm { tokens, bytes: std::array::from_fn(|b| b as u32), add_space_prefix: true }
    }

    fn encode(spm: &Spm, text: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        spm.encode(text, false, &mut tokens);
        tokens
    }

    #[test]
    fn the_highest_score_merges_first_and_the_leftmost_of_equals() {
        let by_score = spm(&[("ab", 1.0), ("bc", 2.0), ("a", 0.0), ("c", 0.0)]);
        assert_eq!(encode(&by_score, "abc"), [1002, 1001]);
        let equals = spm(&[("aa", 1.0), ("a", 0.0)]);
        assert_eq!(encode(&equals, "aaa"), [1000, 1001]);
    }

    #[test]
    fn characters_outside_the_vocabulary_become_bytes() {
        assert_eq!(encode(&spm(&[("a", 0.0)]), "aя"), [1000, 0xD1, 0x8F]);
    }

    #[test]
    fn a_space_is_put_before_the_first_piece_only() {
        let spm = spm(&[(SPACE, 0.0), ("a", 0.0)]);
        let mut tokens = Vec::new();
        spm.encode("a", true, &mut tokens);
        spm.encode("a", false, &mut tokens);
        assert_eq!(tokens, [1000, 1001, 1001]);
    }

    #[test]
    fn only_well_formed_byte_tokens_are_bytes() {
        assert_eq!(byte("<0x0A>"), Some(10));
        assert_eq!([byte("<0x0>"), byte("<0xZZ>"), byte("x"), byte("<0x+1>")], [None; 4].map(|_: Option<u8>| None));
    }
}
