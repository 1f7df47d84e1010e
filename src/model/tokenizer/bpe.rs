//! Byte-level BPE, run by the `tokenizers` crate.

use std::collections::{HashMap, HashSet};

use tokenizers::Tokenizer;
use tokenizers::models::bpe::BPE;

use super::pre::PreTokenizer;
use super::{Kind, Vocabulary};
use crate::model::ModelError;
use crate::model::gguf::{Gguf, printable};

/// A byte-level BPE without special tokens: those are cut out before.
pub(super) struct Bpe {
    tokenizer: Tokenizer,
}

impl Bpe {
    /// Reads merges and pre-tokenizer. Also gives whether prompts start with BOS by default.
    pub(super) fn read(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<(Self, bool), ModelError> {
        // Files from before the key was there: what llama.cpp takes for them.
        let name = gguf.text("tokenizer.ggml.pre")?.unwrap_or_else(|| {
            tracing::warn!(
                "the model file does not name its pre-tokenizer (`tokenizer.ggml.pre`): it may read text badly"
            );
            "default"
        });
        let Some(pre) = PreTokenizer::by_name(name) else {
            return Err(gguf.error(format!(
                "the pre-tokenizer `{}` (`tokenizer.ggml.pre`) is not supported; supported are {} and their aliases",
                printable(name),
                PreTokenizer::names().join(", ")
            )));
        };
        let vocab: HashMap<&str, u32> = vocabulary.writable().map(|(id, text)| (text, id)).collect();
        let merges = read_merges(gguf, vocabulary, &vocab)?;
        let vocab: tokenizers::models::bpe::Vocab =
            vocab.into_iter().map(|(text, id)| (text.to_string(), id)).collect();
        let failed = |e: tokenizers::Error| gguf.error(format!("its tokenizer cannot be built: {e}"));
        let bpe =
            BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(pre.ignore_merges).build().map_err(failed)?;
        let mut tokenizer = Tokenizer::new(bpe);
        tokenizer.with_pre_tokenizer(Some(pre.chain().map_err(failed)?));
        Ok((Self { tokenizer }, pre.adds_bos))
    }

    /// The words that text is cut into.
    #[cfg(test)]
    pub(super) fn pieces(&self, text: &str) -> Vec<String> {
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _};
        let mut words = PreTokenizedString::from(text);
        self.tokenizer.get_pre_tokenizer().unwrap().pre_tokenize(&mut words).unwrap();
        let splits = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.into_iter().map(|(_, (from, to), _)| text[from..to].to_string()).collect()
    }

    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<u32>) -> Result<(), ModelError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|e| ModelError::Compute(format!("the tokenizer failed: {e}")))?;
        tokens.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

/// The merges, in order. A merge whose parts or result are no tokens is an error: the vocabulary belongs to another
/// model. Merges into control tokens are left out, so that plain text cannot become one.
fn read_merges(
    gguf: &Gguf,
    vocabulary: &Vocabulary<'_>,
    vocab: &HashMap<&str, u32>,
) -> Result<Vec<(String, String)>, ModelError> {
    let lines = gguf.need_texts("tokenizer.ggml.merges")?;
    let all: HashSet<&str> = vocabulary.texts.iter().copied().collect();
    let mut merges = Vec::with_capacity(lines.len());
    let mut whole = String::new();
    for (rank, line) in lines.iter().enumerate() {
        // The first part may be a space itself, where a vocabulary is not byte-level.
        let gap = line.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let Some((left, right)) = gap.map(|at| (&line[..at], &line[at + 1..])) else {
            return Err(gguf.error(format!("merge {rank} (`{}`) is not two parts", printable(line))));
        };
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        let parts = [left, right, whole.as_str()];
        if let Some(missing) = parts.iter().find(|part| !all.contains(*part)) {
            return Err(gguf.error(format!(
                "merge {rank} (`{}`) needs the token `{}`, which is not in the vocabulary",
                printable(line),
                printable(missing)
            )));
        }
        if parts.iter().all(|part| vocab.contains_key(part)) {
            merges.push((left.to_string(), right.to_string()));
        }
    }
    Ok(merges)
}

/// GPT-2's alphabet: printable bytes stand for themselves, the others for letters from U+0100 on.
fn alphabet() -> HashMap<char, u8> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 256;
    let mut alphabet = HashMap::new();
    for byte in 0..=255u8 {
        let code = if printable(byte) {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        alphabet.extend(char::from_u32(code).map(|c| (c, byte)));
    }
    alphabet
}

/// Bytes of every token.
pub(super) fn token_bytes(vocabulary: &Vocabulary<'_>) -> Vec<Box<[u8]>> {
    let alphabet = alphabet();
    let decode = |text: &str| -> Box<[u8]> {
        // A token with letters outside the alphabet was added to the vocabulary as plain text.
        let bytes: Option<Vec<u8>> = text.chars().map(|c| alphabet.get(&c).copied()).collect();
        bytes.unwrap_or_else(|| text.as_bytes().to_vec()).into_boxed_slice()
    };
    let both = vocabulary.texts.iter().zip(&vocabulary.kinds);
    both.map(|(text, kind)| match kind {
        Kind::Control | Kind::Unused => Box::default(),
        Kind::UserDefined => text.as_bytes().into(),
        Kind::Byte => super::spm::byte(text).map(|b| vec![b]).unwrap_or_default().into_boxed_slice(),
        Kind::Normal => decode(text),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_covers_every_byte_once() {
        let alphabet = alphabet();
        assert_eq!(alphabet.len(), 256);
        assert_eq!(alphabet[&'Ġ'], b' ');
        assert_eq!(alphabet[&'Ċ'], b'\n');
        assert_eq!(alphabet[&'a'], b'a');
    }
}
