//! Embeddings: a batch of texts in, vectors out.
//!
//! A model is a GGUF file of a BERT (`gguf`), or a *sentence-transformers folder*: `config.json` (the encoder's shape), `model.safetensors`,
//! `tokenizer.json`, and the small files that say how token vectors become one vector a text (*pooling*), whether it
//! is normalised, how long a text may be and which *prefixes* queries and passages want. Everything is read from
//! there (`folder`, `weights`), the forward pass is `encoder`, the last step `pooling`.
//!
//! Texts flow through in groups of similar length, packed without padding: prefix, tokens, encoder, pooling,
//! normalisation; results return in the order of the texts. Each core takes whole groups; a single group (a query)
//! is spread over the cores within. Queries that come at once share a group (`together`). A text that is longer than
//! the model reads is cut, and the answer says so.
//!
//! Qwen3-Embedding is a chat model's decoder (`causal`), which runs as such, in a folder or a GGUF file.
//!
//! A *reranker* (`rerank`) is such an encoder that reads a question and a passage together and gives one score.
//!
//! Weights and the activations before each product are rounded to bfloat16 on CPUs with AMX, and to integers of 12 to 14
//! bits on others with AVX2: several times faster, and the cosine with the `f32` vectors stays above 0.9999. Elsewhere
//! everything is `f32`.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokenizers::TruncationDirection;

mod causal;
mod charsmap;
mod encoder;
mod folder;
mod gguf;
mod modern;
mod pooling;
mod rerank;
mod rotary;
mod together;
mod vocabulary;
mod weights;

pub use rerank::{RerankScores, Reranker};

use crate::compute::encoder::Precision;
use crate::compute::for_each_index;
use crate::text::glossary;
use causal::Causal;
use encoder::{Encoder, Input};
use folder::{EncoderConfig, FolderConfig, Shorter, fault};
use together::Together;
use vocabulary::Words;

/// Tokens in a group, unless a single text is longer: its activations stay in a core's second-level cache.
const GROUP_TOKENS: usize = 256;
/// Tokens of a call up to which it shares a pass with others that come at the same time.
const SHORT_TOKENS: usize = 96;

/// What a text is for; models with prefixes ("query: ", "passage: ") tell the two apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Query,
    Passage,
}

/// One batch's vectors, in the order of its texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// L2-normalised where the model's own config says so; `[texts][dimensions]`.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens read of each text, special tokens included.
    pub tokens: Vec<usize>,
    /// True where a text was longer than the model reads.
    pub truncated: Vec<bool>,
}

/// An embedding model. Cheap to clone; calls block (use `spawn_blocking` from async code).
#[derive(Clone)]
pub struct Embedder {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Encoder(Arc<Inner>),
    Decoder(Arc<Causal>),
}

struct Inner {
    id: String,
    hash: String,
    languages: Vec<String>,
    config: FolderConfig,
    words: Words,
    encoder: Encoder,
    pad: u32,
    shorter: Shorter,
    /// Short calls at once, each its texts, and their vectors.
    together: Together<Vec<Text>, Vec<Vec<f32>>>,
}

impl Embedder {
    /// Loads a sentence-transformers folder, or a GGUF file. `languages`: what it reads well (ISO 639-1).
    ///
    /// # Errors
    /// Names the file that is missing, broken or of another architecture, and what to do.
    pub fn load(id: &str, dir: &Path, languages: &[String]) -> Result<Self, EmbedError> {
        Self::load_as(Precision::fastest(), id, dir, languages)
    }

    fn load_as(precision: Precision, id: &str, dir: &Path, languages: &[String]) -> Result<Self, EmbedError> {
        if dir.extension().is_some_and(|end| end == "gguf") {
            return Self::load_gguf(precision, id, dir, languages);
        }
        let config = FolderConfig::read(id, dir)?;
        if config.encoder.is_decoder() {
            return Ok(Self { kind: Kind::Decoder(Arc::new(Causal::of_folder((id, languages), dir, config)?)) });
        }
        let (words, tokenizer_bytes) = load_words(dir, &config.encoder)?;
        let (weights_path, weights) = read_weights(dir)?;
        let encoder = weights::load(&weights_path, &weights, &config.encoder, precision)?;

        let mut hasher = blake3::Hasher::new();
        hasher.update(&weights).update(&tokenizer_bytes).update(format!("{config:?}").as_bytes());
        let shorter = Shorter::read(dir)?;
        Ok(Self::of((id, languages), hasher, config, words, encoder, shorter))
    }

    /// Loads a GGUF file.
    fn load_gguf(precision: Precision, id: &str, path: &Path, languages: &[String]) -> Result<Self, EmbedError> {
        if let Some(file) = gguf::decoder(path)? {
            return Ok(Self { kind: Kind::Decoder(Arc::new(Causal::of_gguf((id, languages), &file, path)?)) });
        }
        let (file, config, words) = gguf::read(id, path)?;
        let encoder = weights::load_gguf(path, &file, &config.encoder, precision)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(file.content_hash().as_bytes()).update(format!("{config:?}").as_bytes());
        Ok(Self::of((id, languages), hasher, config, words, encoder, Shorter::Never))
    }

    fn of(
        (id, languages): (&str, &[String]),
        hasher: blake3::Hasher,
        config: FolderConfig,
        words: Words,
        encoder: Encoder,
        shorter: Shorter,
    ) -> Self {
        let hash = hasher.finalize().to_hex()[..32].to_string();
        let pad = config.encoder.pad_token_id.unwrap_or(0).min(config.encoder.vocab_size as u32 - 1);
        let (id, languages) = (id.to_string(), languages.to_vec());
        let together = Together::new(GROUP_TOKENS);
        let inner = Inner { id, hash, languages, config, words, encoder, pad, shorter, together };
        Self { kind: Kind::Encoder(Arc::new(inner)) }
    }

    /// The name it was loaded under.
    pub fn id(&self) -> &str {
        match &self.kind {
            Kind::Encoder(inner) => &inner.id,
            Kind::Decoder(causal) => &causal.id,
        }
    }

    /// Hash of the weights and config, hex; part of the index's key.
    pub fn hash(&self) -> &str {
        match &self.kind {
            Kind::Encoder(inner) => &inner.hash,
            Kind::Decoder(causal) => &causal.hash,
        }
    }

    pub fn dimensions(&self) -> usize {
        match &self.kind {
            Kind::Encoder(inner) => inner.config.encoder.hidden_size,
            Kind::Decoder(causal) => causal.dimensions(),
        }
    }

    /// True where its vectors may be cut to so many numbers: it was trained for that (Matryoshka), and says so.
    pub fn takes_dimensions(&self, wanted: usize) -> bool {
        let shorter = match &self.kind {
            Kind::Encoder(inner) => &inner.shorter,
            Kind::Decoder(causal) => &causal.shorter,
        };
        shorter.takes(wanted, self.dimensions())
    }

    /// A vector cut to so many numbers, of length 1 again.
    pub fn cut(mut vector: Vec<f32>, dimensions: usize) -> Vec<f32> {
        if dimensions < vector.len() {
            vector.truncate(dimensions);
            pooling::l2_normalize(&mut vector);
        }
        vector
    }

    /// Longest text, in tokens.
    pub fn max_tokens(&self) -> usize {
        match &self.kind {
            Kind::Encoder(inner) => inner.config.max_tokens,
            Kind::Decoder(causal) => causal.max_tokens,
        }
    }

    /// Languages (ISO 639-1) that it reads well.
    pub fn languages(&self) -> &[String] {
        match &self.kind {
            Kind::Encoder(inner) => &inner.languages,
            Kind::Decoder(causal) => &causal.languages,
        }
    }

    /// True where it reads the language well.
    pub fn reads(&self, language: &str) -> bool {
        self.languages().iter().any(|l| l == language)
    }

    /// The text as the model can read it: itself where it reads the language, else rough English where it reads that and
    /// there is a [`glossary`]; `None` where it can read neither.
    pub fn readable<'a>(&self, lang: &str, text: &'a str) -> Option<Cow<'a, str>> {
        match self.reads(lang) {
            true => Some(Cow::Borrowed(text)),
            false => self.reads_by_glossary(lang).then(|| glossary::in_english(lang, text)).flatten().map(Cow::Owned),
        }
    }

    /// True where texts of the language are put into rough English for it.
    pub fn reads_by_glossary(&self, lang: &str) -> bool {
        !self.reads(lang) && self.reads("en") && glossary::has(lang)
    }

    /// Embeds the texts, whatever their number; results are in their order.
    ///
    /// # Errors
    /// `Compute` where the model itself fails (out of memory, say).
    pub fn embed(&self, texts: &[&str], role: Role) -> Result<Embeddings, EmbedError> {
        let inner = match &self.kind {
            Kind::Encoder(inner) => &**inner,
            Kind::Decoder(causal) => return causal.embed(texts, role),
        };
        let prefix = match role {
            Role::Query => &inner.config.query_prefix,
            Role::Passage => &inner.config.passage_prefix,
        };
        let read: Vec<OnceLock<Result<Text, EmbedError>>> = texts.iter().map(|_| OnceLock::new()).collect();
        for_each_index(texts.len(), |at| {
            read[at].get_or_init(|| inner.read(prefix, texts[at]));
        });
        let read = read.into_iter().filter_map(OnceLock::into_inner).collect::<Result<Vec<Text>, _>>()?;

        let tokens: Vec<usize> = read.iter().map(|text| text.ids.len()).collect();
        let truncated = read.iter().map(|text| text.cut).collect();
        let all: usize = tokens.iter().sum();
        let vectors = match all <= SHORT_TOKENS && !read.is_empty() {
            true => inner.together.through(read, all, |calls| inner.vectors_of_calls(calls)),
            false => Some(inner.vectors(&read)),
        };
        let broke_off = || EmbedError::Compute("the pass that this text shared with others broke off".into());
        Ok(Embeddings { vectors: vectors.ok_or_else(broke_off)?, tokens, truncated })
    }
}

/// A text as the model sees it.
struct Text {
    /// Special tokens included; at least one.
    ids: Vec<u32>,
    /// True where it was longer than the model reads.
    cut: bool,
}

/// Cuts `order` into runs of about [`GROUP_TOKENS`] tokens.
fn groups(order: &[usize], tokens: impl Fn(usize) -> usize) -> Vec<&[usize]> {
    let mut groups = Vec::new();
    let (mut from, mut size) = (0, 0);
    for (at, text) in order.iter().enumerate() {
        if at > from && size + tokens(*text) > GROUP_TOKENS {
            groups.push(&order[from..at]);
            (from, size) = (at, 0);
        }
        size += tokens(*text);
    }
    if from < order.len() {
        groups.push(&order[from..]);
    }
    groups
}

impl Inner {
    /// The texts' vectors, in their order.
    fn vectors(&self, texts: &[Text]) -> Vec<Vec<f32>> {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(texts[*at].ids.len()));
        let groups = groups(&order, |at| texts[at].ids.len());
        let vectors: Vec<OnceLock<Vec<f32>>> = texts.iter().map(|_| OnceLock::new()).collect();
        for_each_index(groups.len(), |group| {
            let members = groups[group];
            let ids: Vec<Input<'_>> = members.iter().map(|at| Input::single(&texts[*at].ids)).collect();
            self.encoder.forward(&ids, |member, tokens| {
                vectors[members[member]].get_or_init(|| self.pooled(tokens));
            });
        });
        vectors.into_iter().filter_map(OnceLock::into_inner).collect()
    }

    /// The same for the texts of several calls.
    fn vectors_of_calls(&self, calls: Vec<Vec<Text>>) -> Vec<Vec<Vec<f32>>> {
        let sizes: Vec<usize> = calls.iter().map(Vec::len).collect();
        let texts: Vec<Text> = calls.into_iter().flatten().collect();
        let mut vectors = self.vectors(&texts).into_iter();
        sizes.into_iter().map(|size| vectors.by_ref().take(size).collect()).collect()
    }

    fn read(&self, prefix: &str, text: &str) -> Result<Text, EmbedError> {
        let mut text = format!("{prefix}{}", text.trim());
        if self.config.lowercase {
            text = text.to_lowercase();
        }
        let mut encoding = self.words.encode(&text)?;
        let room = self.config.max_tokens.saturating_sub(self.words.added(false)).max(1);
        let cut = encoding.len() > room;
        if cut {
            encoding.truncate(room, 0, TruncationDirection::Right);
        }
        let encoding = self.words.complete(encoding, None)?;
        let mut ids = encoding.get_ids().to_vec();
        // A tokenizer without special tokens gives nothing for an empty text; the encoder wants one token.
        if ids.is_empty() {
            ids.push(self.pad);
        }
        Ok(Text { ids, cut })
    }

    /// The text's vector from those of its tokens.
    fn pooled(&self, tokens: &[f32]) -> Vec<f32> {
        let mut vector = self.config.pooling.pool(tokens, self.encoder.hidden());
        if self.config.normalize {
            pooling::l2_normalize(&mut vector);
        }
        vector
    }
}

/// `tokenizer.json`, and its bytes.
fn load_words(dir: &Path, config: &EncoderConfig) -> Result<(Words, Vec<u8>), EmbedError> {
    let path = dir.join("tokenizer.json");
    let bytes = read(&path)?;
    Ok((Words::from_json(&path, &bytes, config.vocab_size)?, bytes))
}

/// `model.safetensors`: its path and bytes.
fn read_weights(dir: &Path) -> Result<(PathBuf, Vec<u8>), EmbedError> {
    let path = dir.join("model.safetensors");
    if !path.exists() && dir.join("pytorch_model.bin").exists() {
        return Err(fault(&path, "is missing; only pytorch_model.bin is there: convert it to safetensors"));
    }
    let bytes = read(&path)?;
    Ok((path, bytes))
}

fn read(path: &Path) -> Result<Vec<u8>, EmbedError> {
    std::fs::read(path).map_err(|e| fault(path, &e.to_string()))
}

/// What can go wrong with an embedding model.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    #[error("{file}: {reason}")]
    File { file: String, reason: String },
    #[error("the embedding model failed: {0}")]
    Compute(String),
}

#[cfg(test)]
mod causal_tests;
#[cfg(test)]
pub(crate) mod tests;
