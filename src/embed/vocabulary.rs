//! Tokenizers of encoders: `tokenizer.json` of a folder, or a GGUF file's vocabulary (WordPiece, unigram, ModernBERT's
//! byte-level BPE).
//!
//! WordPiece reads text as the models' own tokenizers do. llama.cpp differs there for scripts with vowel signs and for Korean:
//! it drops letters that the models were trained with.

use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::models::unigram::Unigram;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{Encoding, PostProcessor, Tokenizer};

use super::EmbedError;
use super::charsmap::Charsmap;
use super::folder::fault;
use crate::model::{Gguf, ModelError};

/// Marks the beginning of a word in llama.cpp's form of a vocabulary; WordPiece marks what goes on within one.
const WORD: char = '\u{2581}';
const WITHIN: &str = "##";
/// llama.cpp's numbers of kinds of tokens.
const UNKNOWN: f32 = 2.0;
const CONTROL: f32 = 3.0;
const USER_DEFINED: f32 = 4.0;
const UNUSED: f32 = 5.0;

/// Turns texts into tokens, and adds what stands around them.
pub(super) struct Words {
    tokenizer: Tokenizer,
    /// What changes a text before, where the tokenizer does not do that itself.
    charsmap: Option<Charsmap>,
}

impl Words {
    /// From what stands in a `tokenizer.json` at `path`, for a model that knows `vocabulary` tokens. Padding and truncation
    /// of its training are left out.
    ///
    /// # Errors
    /// What is no tokenizer, or one with more tokens than the model has.
    pub fn from_json(path: &Path, bytes: &[u8], vocabulary: usize) -> Result<Self, EmbedError> {
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| fault(path, &format!("is not a tokenizer: {e}")))?;
        let words = tokenizer.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1);
        if words == 0 || words > vocabulary {
            let reason = format!("knows {words} tokens, the model {vocabulary}: they do not belong together");
            return Err(fault(path, &reason));
        }
        Self::of(tokenizer, None).map_err(|e| fault(path, &e.to_string()))
    }

    /// From a GGUF file.
    ///
    /// # Errors
    /// A kind of vocabulary that is not known, or lists that contradict each other.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, EmbedError> {
        let built = |made: tokenizers::Result<Self>| -> Result<Self, EmbedError> {
            made.map_err(|e| gguf.error(format!("its tokenizer cannot be built: {e}")).into())
        };
        match gguf.need_text("tokenizer.ggml.model")? {
            "bert" => {
                let json = word_piece(gguf)?;
                built(Tokenizer::from_bytes(&json).and_then(|tokenizer| Self::of(tokenizer, None)))
            }
            "t5" => {
                let (tokenizer, charsmap) = unigram(gguf)?;
                built(Self::of(tokenizer, Some(charsmap)))
            }
            "gpt2" => {
                let json = byte_level(gguf)?;
                built(Tokenizer::from_bytes(&json).and_then(|tokenizer| Self::of(tokenizer, None)))
            }
            other => {
                let reason = format!(
                    "its vocabulary is of the kind `{other}`; WordPiece (`bert`), unigram (`t5`) and ModernBERT's (`gpt2`) \
                     are read"
                );
                Err(gguf.error(reason).into())
            }
        }
    }

    fn of(mut tokenizer: Tokenizer, charsmap: Option<Charsmap>) -> tokenizers::Result<Self> {
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        Ok(Self { tokenizer, charsmap })
    }

    /// A text's own tokens.
    ///
    /// # Errors
    /// Where the `tokenizers` crate fails.
    pub fn encode(&self, text: &str) -> Result<Encoding, EmbedError> {
        let encoding = match &self.charsmap {
            Some(charsmap) => self.tokenizer.encode_fast(charsmap.normalize(text), false),
            None => self.tokenizer.encode_fast(text, false),
        };
        encoding.map_err(failed)
    }

    /// How many tokens are put around a text, or around a pair of texts.
    pub fn added(&self, pair: bool) -> usize {
        self.tokenizer.get_post_processor().map_or(0, |post| post.added_tokens(pair))
    }

    /// Puts them there.
    ///
    /// # Errors
    /// Where the `tokenizers` crate fails.
    pub fn complete(&self, text: Encoding, second: Option<Encoding>) -> Result<Encoding, EmbedError> {
        self.tokenizer.post_process(text, second, true).map_err(failed)
    }
}

fn failed(e: tokenizers::Error) -> EmbedError {
    EmbedError::Compute(format!("tokenizer: {e}"))
}

/// A token that the file names by one of these keys: its number and spelling.
fn special<'a>(gguf: &Gguf, tokens: &[&'a str], names: [&str; 2]) -> Result<(usize, &'a str), ModelError> {
    for name in names {
        if let Some(id) = gguf.count(&format!("tokenizer.ggml.{name}_token_id"))? {
            let text = tokens.get(id).ok_or_else(|| gguf.error(format!("`{name}_token_id` is no token")))?;
            return Ok((id, text.trim_start_matches(WORD)));
        }
    }
    Err(gguf.error(format!("`tokenizer.ggml.{}_token_id` is missing", names[0])))
}

/// A token that is found in texts as it is written, as `tokenizer.json` has it.
fn added((id, content): &(usize, &str), is_special: bool) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
           "special": is_special})
}

/// What stands around one text or two; `second` is the type of the second one's tokens.
fn around(cls: &(usize, &str), sep: &(usize, &str), second: usize) -> Value {
    let piece = |(_, content): &(usize, &str), kind: usize| json!({"SpecialToken": {"id": content, "type_id": kind}});
    let text = |name: &str, kind: usize| json!({"Sequence": {"id": name, "type_id": kind}});
    let known =
        |(id, content): &(usize, &str)| (content.to_string(), json!({"id": content, "ids": [id], "tokens": [content]}));
    let specials: Map<String, Value> = [cls, sep].into_iter().map(known).collect();
    json!({"type": "TemplateProcessing", "single": [piece(cls, 0), text("A", 0), piece(sep, 0)],
           "pair": [piece(cls, 0), text("A", 0), piece(sep, 0), text("B", second), piece(sep, second)],
           "special_tokens": specials})
}

/// ModernBERT's vocabulary, byte-level BPE, as `tokenizer.json`.
fn byte_level(gguf: &Gguf) -> Result<Vec<u8>, ModelError> {
    let pre = gguf.need_text("tokenizer.ggml.pre")?;
    if pre != "modern-bert" {
        let reason = format!("its byte-level vocabulary is cut as `{pre}`; for encoders only `modern-bert` is known");
        return Err(gguf.error(reason));
    }
    let tokens = gguf.need_texts("tokenizer.ggml.tokens")?;
    let kinds = gguf.numbers("tokenizer.ggml.token_type")?.unwrap_or_default();
    let (cls, sep) = (special(gguf, &tokens, ["cls", "bos"])?, special(gguf, &tokens, ["seperator", "eos"])?);
    let whole = tokens.iter().copied().enumerate().filter(|(id, _)| kinds.get(*id) == Some(&USER_DEFINED));
    let mut all: Vec<Value> = [&cls, &sep].map(|token| added(token, true)).to_vec();
    all.extend(whole.map(|token| added(&token, false)));
    let vocabulary: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.to_string(), json!(id))).collect();
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": all,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": around(&cls, &sep, 0),
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocabulary, "merges": gguf.need_texts("tokenizer.ggml.merges")?},
    });
    Ok(whole.to_string().into_bytes())
}

/// A WordPiece vocabulary as `tokenizer.json`.
fn word_piece(gguf: &Gguf) -> Result<Vec<u8>, EmbedError> {
    let tokens = gguf.need_texts("tokenizer.ggml.tokens")?;
    let kinds = gguf.numbers("tokenizer.ggml.token_type")?.unwrap_or_default();
    // llama.cpp spells it so.
    let (cls, sep) = (special(gguf, &tokens, ["cls", "bos"])?, special(gguf, &tokens, ["seperator", "eos"])?);
    let unknown = special(gguf, &tokens, ["unknown", "unknown"])?;
    // Files from before these keys were there: llama.cpp lowercases all texts.
    let lowercase = gguf.flag("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
    let strip_accents = gguf.flag("tokenizer.ggml.normalizer.strip_accents")?;
    let mut vocabulary = Map::new();
    for (id, token) in tokens.iter().enumerate() {
        let is_special = kinds.get(id) == Some(&CONTROL) || [cls.0, sep.0, unknown.0].contains(&id);
        let word = match token.strip_prefix(WORD) {
            Some(word) => word.to_string(),
            None if is_special => token.to_string(),
            None => format!("{WITHIN}{token}"),
        };
        vocabulary.insert(word, json!(id));
    }
    let whole = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(&unknown, true), added(&cls, true), added(&sep, true)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": strip_accents, "lowercase": lowercase},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": around(&cls, &sep, 1),
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": unknown.1, "continuing_subword_prefix": WITHIN,
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    Ok(whole.to_string().into_bytes())
}

/// A unigram vocabulary (XLM-RoBERTa's), and its normalisation.
fn unigram(gguf: &Gguf) -> Result<(Tokenizer, Charsmap), EmbedError> {
    let tokens = gguf.need_texts("tokenizer.ggml.tokens")?;
    let list = |key: &str| -> Result<Vec<f32>, ModelError> {
        let key = format!("tokenizer.ggml.{key}");
        let numbers = gguf.numbers(&key)?.ok_or_else(|| gguf.error(format!("`{key}` is missing")))?;
        match numbers.len() == tokens.len() {
            true => Ok(numbers),
            false => Err(gguf.error(format!("`{key}` has {} entries for {} tokens", numbers.len(), tokens.len()))),
        }
    };
    let (scores, kinds) = (list("scores")?, list("token_type")?);
    for (key, default) in [("add_space_prefix", false), ("remove_extra_whitespaces", false)] {
        if !gguf.flag(&format!("tokenizer.ggml.{key}"))?.unwrap_or(default) {
            return Err(gguf.error(format!("a unigram vocabulary without `{key}` is not supported")).into());
        }
    }
    if kinds.contains(&USER_DEFINED) {
        return Err(gguf.error("a unigram vocabulary with tokens of its user's own is not supported").into());
    }
    let bytes: Vec<u8> = match gguf.numbers("tokenizer.ggml.precompiled_charsmap")? {
        // Some converters write signed bytes.
        Some(numbers) => numbers.into_iter().map(|number| number as i32 as u8).collect(),
        None => Vec::new(),
    };
    let charsmap = Charsmap::read(&bytes)
        .map_err(|reason| gguf.error(format!("`tokenizer.ggml.precompiled_charsmap` {reason}")))?;
    // No text may spell a control token: after normalisation it holds no space. Scores of such tokens mean nothing (those of
    // unused ones are far below all others, and would make every unknown letter cost as much).
    let all = tokens.iter().zip(&kinds).zip(&scores);
    let vocabulary = all.map(|((token, kind), score)| match [CONTROL, UNKNOWN, UNUSED].contains(kind) {
        true => (format!(" {token}"), 0.0),
        false => (token.to_string(), *score as f64),
    });
    let vocabulary = vocabulary.collect();
    let (cls, sep) = (special(gguf, &tokens, ["cls", "bos"])?, special(gguf, &tokens, ["seperator", "eos"])?);
    let unknown = special(gguf, &tokens, ["unknown", "unknown"])?;
    let build = || -> tokenizers::Result<Tokenizer> {
        let mut tokenizer = Tokenizer::new(Unigram::from(vocabulary, Some(unknown.0), false)?);
        let around = TemplateProcessing::builder()
            .try_single("<s> $A </s>")?
            .try_pair("<s> $A </s> </s> $B </s>")?
            .special_tokens(vec![("<s>", cls.0 as u32), ("</s>", sep.0 as u32)])
            .build()?;
        tokenizer.with_post_processor(Some(around));
        Ok(tokenizer)
    };
    let tokenizer = build().map_err(|e| gguf.error(format!("its tokenizer cannot be built: {e}")))?;
    Ok((tokenizer, charsmap))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::golden_json;
    use crate::model::tests::tokens::{assert_equal_lines, assert_equal_test_file};

    fn golden(name: &str) -> Words {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoders").join(name);
        Words::from_gguf(&Gguf::open(&path).unwrap()).unwrap()
    }

    fn ids(words: &Words, text: &str) -> Vec<u32> {
        words.encode(text).unwrap().get_ids().to_vec()
    }

    /// Where the vocabularies are from: `model::tests::tokens`.
    #[test]
    #[ignore = "needs the vocabularies of llama.cpp's source: set LLAMA_VOCABULARIES to their folder"]
    fn every_encoders_vocabulary_that_llama_cpp_ships_gives_its_tokens_on_ten_thousand_lines() {
        let folder = std::env::var_os("LLAMA_VOCABULARIES").expect("LLAMA_VOCABULARIES is not set");
        let golden = golden_json("vocabularies.json");
        for (name, apart) in [
            ("ggml-vocab-nomic-bert-moe", &[][..]),
            // llama.cpp's WordPiece drops letters of these, which the models' own tokenizers keep, and takes U+0085 for a
            // space and U+2581 for a beginning of a word.
            ("ggml-vocab-bert-bge", &["हिन्दी", "한국어", "\u{20E3}", "\u{85}", "\u{2581}"][..]),
        ] {
            let path = Path::new(&folder).join(format!("{name}.gguf"));
            let words = Words::from_gguf(&Gguf::open(&path).unwrap()).unwrap();
            assert_equal_lines(name, &golden[name]["encoder"], apart, |line| ids(&words, line));
            if golden[name]["own"].is_array() {
                assert_equal_lines(name, &golden[name]["own"], &[], |line| ids(&words, line));
            }
            let texts = assert_equal_test_file(&path, |text| ids(&words, text));
            println!("{name}: equal, {texts} texts of its test file too");
        }
    }

    #[test]
    fn a_unigram_vocabulary_is_normalised_and_no_text_becomes_a_control_token() {
        let words = golden("xlm-roberta-cls.gguf");
        assert_eq!(ids(&words, "\u{2116}5\u{A0} x "), ids(&words, "No5 x"));
        let spelled = ids(&words, "<s> a </s><pad><mask>");
        assert!(spelled.iter().all(|id| ![0, 1, 2, 4].contains(id)), "{spelled:?}");
        let whole = words.complete(words.encode("x").unwrap(), Some(words.encode("x").unwrap())).unwrap();
        assert_eq!((whole.get_ids().first(), whole.get_ids().last()), (Some(&0), Some(&2)));
        assert_eq!(whole.get_ids().iter().filter(|id| **id == 2).count(), 3, "two ends stand between a pair");
        assert_eq!((words.added(false), words.added(true)), (2, 4));
    }

    #[test]
    fn a_vocabulary_of_another_kind_is_refused_by_its_name() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizers/spm.gguf");
        let said = Words::from_gguf(&Gguf::open(&path).unwrap()).err().unwrap().to_string();
        assert!(said.contains("`llama`") && said.contains("unigram"), "{said}");
    }
}
