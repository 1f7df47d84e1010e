//! A chat model's tokenizer, built strictly from GGUF metadata.
//!
//! Two kinds: BPE (`tokenizer.ggml.model = gpt2` or `gemma4`), run by the `tokenizers` crate with the pre-tokenizer that
//! `tokenizer.ggml.pre` names ([`pre`]), and SentencePiece-style merging by scores (`llama`, [`spm`]). Both are made to
//! give exactly the tokens that llama.cpp gives, with one deliberate difference: plain text can never become a control
//! token, not even by merging. (WordPiece and unigram vocabularies belong to encoders: `embed::vocabulary`.)
//!
//! Text first is cut at the spellings of special tokens ([`special`]), then each piece is tokenized by itself.

mod bpe;
mod pre;
mod special;
mod spm;

use std::path::Path;

use self::bpe::Bpe;
use self::special::{Piece, SpecialTokens};
use self::spm::Spm;
use super::ModelError;
use super::gguf::{Gguf, printable};

/// What a token is for (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    /// Stands for no text: begin, end, roles.
    Control,
    /// Matched whole in any text.
    UserDefined,
    /// One byte, spelled `<0x0A>`.
    Byte,
    /// Neither written nor read.
    Unused,
}

impl Kind {
    /// ggml's numbering; "unknown" (2) behaves like a control token.
    fn from_number(number: f32) -> Self {
        match number as i64 {
            2 | 3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => Kind::Normal,
        }
    }
}

/// A file's vocabulary.
struct Vocabulary<'a> {
    texts: Vec<&'a str>,
    kinds: Vec<Kind>,
}

/// Tokens that are known to end an answer by their spelling. Files of tuned models often name only one in
/// `eos_token_id`.
const END_SPELLINGS: [&str; 9] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "</s>",
    "<EOT>",
];

/// A chat model's tokenizer, built strictly from GGUF metadata.
pub struct ChatTokenizer {
    splitter: Splitter,
    special: SpecialTokens,
    /// Spelling of every token.
    texts: Vec<String>,
    /// Bytes that every token adds to a text.
    bytes: Vec<Box<[u8]>>,
    bos: Option<u32>,
    adds_bos: bool,
    ends: Vec<u32>,
    chat_template: Option<String>,
}

/// What turns a piece of plain text into tokens.
enum Splitter {
    Bpe(Bpe),
    Spm(Spm),
}

impl ChatTokenizer {
    /// Reads the tokenizer of a model file (which may hold a vocabulary only).
    ///
    /// # Errors
    /// A damaged file, a kind of tokenizer or pre-tokenizer that is not known, lists that contradict each other.
    pub fn from_gguf(path: &Path) -> Result<Self, ModelError> {
        Self::read(&Gguf::open(path)?)
    }

    pub(super) fn read(gguf: &Gguf) -> Result<Self, ModelError> {
        let vocabulary = Vocabulary::read(gguf)?;
        let model = gguf.need_text("tokenizer.ggml.model")?;
        let (splitter, bytes, adds_bos) = match model {
            "gpt2" | "gemma4" => {
                let pre = Bpe::pre(gguf)?;
                let spelled = if pre.byte_level { bpe::token_bytes } else { spm::token_bytes };
                // Merges take most of the time: the rest is made beside them.
                let (bpe, bytes) = std::thread::scope(|scope| {
                    let bytes = scope.spawn(|| spelled(&vocabulary));
                    (Bpe::read(gguf, &vocabulary, pre), bytes.join())
                });
                let bytes = bytes.map_err(|_| gguf.error("the bytes of its tokens could not be computed"))?;
                (Splitter::Bpe(bpe?), bytes, pre.adds_bos)
            }
            "llama" => (Splitter::Spm(Spm::read(gguf, &vocabulary)?), spm::token_bytes(&vocabulary), true),
            other => {
                return Err(gguf.error(format!(
                    "the tokenizer `{}` is not supported; supported are gpt2 and gemma4 (BPE) and llama (SentencePiece)",
                    printable(other)
                )));
            }
        };
        let id = |name: &str| -> Result<Option<u32>, ModelError> {
            let key = format!("tokenizer.ggml.{name}_token_id");
            match gguf.count(&key)? {
                Some(id) if id < vocabulary.texts.len() => Ok(Some(id as u32)),
                // Some converters write the largest number for "none".
                Some(id) if id == u32::MAX as usize => Ok(None),
                Some(id) => {
                    Err(gguf.error(format!("`{key}` is {id}, outside the vocabulary of {}", vocabulary.texts.len())))
                }
                None => Ok(None),
            }
        };
        let bos = id("bos")?;
        let mut ends: Vec<u32> = [id("eos")?, id("eot")?, id("eom")?].into_iter().flatten().collect();
        let spelled = (0..).zip(&vocabulary.texts).zip(&vocabulary.kinds);
        ends.extend(
            spelled
                .filter(|((_, text), kind)| **kind == Kind::Control && END_SPELLINGS.contains(*text))
                .map(|((id, _), _)| id),
        );
        ends.sort_unstable();
        ends.dedup();
        let adds_bos = gguf.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos);
        if adds_bos && bos.is_none() {
            return Err(gguf.error("prompts are to start with BOS, but `tokenizer.ggml.bos_token_id` is missing"));
        }
        Ok(Self {
            splitter,
            special: SpecialTokens::new(gguf, &vocabulary)?,
            bytes,
            bos,
            adds_bos,
            ends,
            chat_template: gguf.text("tokenizer.chat_template")?.map(str::to_string),
            texts: vocabulary.texts.iter().map(|text| text.to_string()).collect(),
        })
    }

    /// Plain text to tokens. With `parse_special`, the spelling of a control token (`<|im_start|>`) becomes that
    /// token: for templates only, never for customers' words. Adds no BOS.
    ///
    /// # Errors
    /// Where the `tokenizers` crate fails.
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, ModelError> {
        let mut tokens = Vec::new();
        let mut after_special = true;
        for piece in self.special.cut(text, parse_special) {
            match piece {
                Piece::Token(token) => {
                    tokens.push(token);
                    after_special = true;
                }
                Piece::Text(text) => {
                    match &self.splitter {
                        Splitter::Bpe(bpe) => bpe.encode(text, &mut tokens)?,
                        Splitter::Spm(spm) => spm.encode(text, after_special, &mut tokens),
                    }
                    after_special = false;
                }
            }
        }
        Ok(tokens)
    }

    /// The words that plain text is cut into before merges.
    #[cfg(test)]
    pub(super) fn pieces(&self, text: &str) -> Vec<String> {
        match &self.splitter {
            Splitter::Bpe(bpe) => bpe.pieces(text),
            Splitter::Spm(_) => vec![text.to_string()],
        }
    }

    /// The bytes that a token adds to the text (may be part of a UTF-8 character; control tokens and numbers outside
    /// the vocabulary give none).
    pub fn token_bytes(&self, token: u32) -> Vec<u8> {
        self.bytes.get(token as usize).map(|bytes| bytes.to_vec()).unwrap_or_default()
    }

    /// The spelling of a control token, or of any token, for templates and logprobs. Empty for numbers outside the
    /// vocabulary (a model's head may be padded beyond it).
    pub fn token_text(&self, token: u32) -> String {
        let Some(text) = self.texts.get(token as usize) else {
            return String::new();
        };
        match self.token_bytes(token) {
            bytes if bytes.is_empty() => text.clone(),
            bytes => String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// The token that begins a text, where the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// True where the file says that prompts start with BOS.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Tokens that end an answer: `eos`, `eot`, `eom` of the file, and tokens that are known by their
    /// spelling. In ascending order.
    pub fn end_tokens(&self) -> &[u32] {
        &self.ends
    }

    /// The file's Jinja chat template.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Tokens in the vocabulary.
    pub fn vocab(&self) -> usize {
        self.texts.len()
    }
}

impl<'a> Vocabulary<'a> {
    fn read(gguf: &'a Gguf) -> Result<Self, ModelError> {
        let texts = gguf.need_texts("tokenizer.ggml.tokens")?;
        if texts.is_empty() || texts.len() > u32::MAX as usize / 2 {
            return Err(gguf.error(format!("`tokenizer.ggml.tokens` has {} entries", texts.len())));
        }
        let mut seen = std::collections::HashSet::with_capacity(texts.len());
        if let Some(twice) = texts.iter().find(|text| !text.is_empty() && !seen.insert(**text)) {
            return Err(gguf.error(format!("`tokenizer.ggml.tokens` has `{}` twice", printable(twice))));
        }
        let mut kinds = match gguf.numbers("tokenizer.ggml.token_type")? {
            None => vec![Kind::Normal; texts.len()],
            Some(types) if types.len() == texts.len() => types.into_iter().map(Kind::from_number).collect(),
            Some(types) => {
                return Err(gguf.error(format!(
                    "`tokenizer.ggml.token_type` has {} entries for {} tokens",
                    types.len(),
                    texts.len()
                )));
            }
        };
        // Some files call the end of an answer plain text; then it would be shown, and customers could write it. Gemma 4's
        // `</s>` is plain text indeed: a tag of HTML.
        let tag = gguf.text("tokenizer.ggml.model")? == Some("gemma4");
        for (text, kind) in texts.iter().zip(&mut kinds) {
            if END_SPELLINGS.contains(text) && !(tag && *text == "</s>" && *kind == Kind::Normal) {
                *kind = Kind::Control;
            }
        }
        Ok(Self { texts, kinds })
    }

    /// Tokens that plain text may become, with their spelling.
    fn writable(&self) -> impl Iterator<Item = (u32, &'a str)> + '_ {
        let all = (0..).zip(&self.texts).zip(&self.kinds);
        all.filter(|((_, text), kind)| **kind != Kind::Control && !text.is_empty()).map(|((id, text), _)| (id, *text))
    }
}
