//! BPE, run by the `tokenizers` crate: byte-level, or over text with U+2581 for spaces (Gemma 4).

use std::collections::HashSet;

use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::Replace;

use super::pre::PreTokenizer;
use super::spm::SPACE;
use super::{Kind, Vocabulary};
use crate::model::ModelError;
use crate::model::gguf::{Gguf, printable};

/// A BPE without special tokens: those are cut out before.
pub(super) struct Bpe {
    tokenizer: Tokenizer,
}

impl Bpe {
    /// How the file's words are cut.
    pub(super) fn pre(gguf: &Gguf) -> Result<PreTokenizer, ModelError> {
        let name = match gguf.text("tokenizer.ggml.model")? {
            Some("gemma4") => "gemma4",
            // Files from before the key was there: what llama.cpp takes for them.
            _ => gguf.text("tokenizer.ggml.pre")?.unwrap_or_else(|| {
                tracing::warn!(
                    "the model file does not name its pre-tokenizer (`tokenizer.ggml.pre`): it may read text badly"
                );
                "default"
            }),
        };
        PreTokenizer::by_name(name).ok_or_else(|| {
            gguf.error(format!(
                "the pre-tokenizer `{}` (`tokenizer.ggml.pre`) is not supported; supported are {} and their aliases",
                printable(name),
                PreTokenizer::names().join(", ")
            ))
        })
    }

    /// Reads the merges.
    pub(super) fn read(gguf: &Gguf, vocabulary: &Vocabulary<'_>, pre: PreTokenizer) -> Result<Self, ModelError> {
        let lines = gguf.need_texts("tokenizer.ggml.merges")?;
        let longest = vocabulary.writable().map(|(_, text)| text.len()).max().unwrap_or(0);
        let failed = |e: tokenizers::Error| gguf.error(format!("its tokenizer cannot be built: {e}"));
        let build = |merges: Vec<(String, String)>| {
            let mut vocab = Vocab::with_capacity(vocabulary.texts.len());
            vocab.extend(vocabulary.writable().map(|(id, text)| (text.to_string(), id)));
            let builder = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(pre.ignore_merges);
            builder.byte_fallback(!pre.byte_level).build()
        };
        // Nearly always every merge is of tokens that text may become; the builder sees that on its way. (It counts on
        // merges that are no longer than tokens.)
        let simple: Option<Vec<_>> = lines
            .iter()
            .filter(|line| line.len() <= longest + 1)
            .map(|line| parts(line).map(|(left, right)| (left.to_string(), right.to_string())))
            .collect();
        let built = simple.filter(|merges| merges.len() == lines.len()).and_then(|merges| build(merges).ok());
        let bpe = match built {
            Some(bpe) => bpe,
            None => build(read_merges(gguf, vocabulary, &lines)?).map_err(failed)?,
        };
        let mut tokenizer = Tokenizer::new(bpe);
        tokenizer.with_pre_tokenizer(Some(pre.chain().map_err(failed)?));
        if !pre.byte_level {
            tokenizer.with_normalizer(Some(Replace::new(" ", SPACE).map_err(failed)?)).map_err(failed)?;
        }
        Ok(Self { tokenizer })
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

/// The two parts of a merge. The first may be a space itself, where a vocabulary is not byte-level.
fn parts(line: &str) -> Option<(&str, &str)> {
    let gap = line.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at)?;
    Some((&line[..gap], &line[gap + 1..]))
}

/// The merges, in order. A merge whose parts or result are no tokens is an error: the vocabulary belongs to another
/// model. Merges into control tokens are left out, so that plain text cannot become one.
fn read_merges(gguf: &Gguf, vocabulary: &Vocabulary<'_>, lines: &[&str]) -> Result<Vec<(String, String)>, ModelError> {
    let all: HashSet<&str> = vocabulary.texts.iter().copied().collect();
    let writable: HashSet<&str> = vocabulary.writable().map(|(_, text)| text).collect();
    let mut merges = Vec::with_capacity(lines.len());
    for (rank, line) in lines.iter().enumerate() {
        let Some((left, right)) = parts(line) else {
            return Err(gguf.error(format!("merge {rank} (`{}`) is not two parts", printable(line))));
        };
        let whole = format!("{left}{right}");
        let parts = [left, right, whole.as_str()];
        if let Some(missing) = parts.iter().find(|part| !all.contains(*part)) {
            return Err(gguf.error(format!(
                "merge {rank} (`{}`) needs the token `{}`, which is not in the vocabulary",
                printable(line),
                printable(missing)
            )));
        }
        if parts.iter().all(|part| writable.contains(part)) {
            merges.push((left.to_string(), right.to_string()));
        }
    }
    Ok(merges)
}

/// GPT-2's alphabet, by code points: printable bytes stand for themselves, the others for letters from U+0100 on.
fn alphabet() -> [Option<u8>; 512] {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 256;
    let mut alphabet = [None; 512];
    for byte in 0..=255u8 {
        let code = if printable(byte) {
            byte as usize
        } else {
            next += 1;
            next - 1
        };
        alphabet[code] = Some(byte);
    }
    alphabet
}

/// Bytes of every token.
pub(super) fn token_bytes(vocabulary: &Vocabulary<'_>) -> Vec<Box<[u8]>> {
    let alphabet = alphabet();
    let decode = |text: &str| -> Box<[u8]> {
        // A token with letters outside the alphabet was added to the vocabulary as plain text.
        let bytes: Option<Vec<u8>> = text.chars().map(|c| alphabet.get(c as usize).copied().flatten()).collect();
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
        let bytes: HashSet<u8> = alphabet.into_iter().flatten().collect();
        assert_eq!((bytes.len(), alphabet.iter().flatten().count()), (256, 256));
        let letter = |letter: char| alphabet[letter as usize];
        assert_eq!([letter('Ġ'), letter('Ċ'), letter('a')], [Some(b' '), Some(b'\n'), Some(b'a')]);
    }
}
