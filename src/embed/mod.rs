//! Embeddings: a batch of texts in, vectors out.
//!
//! A model is a *sentence-transformers folder*: `config.json` (the encoder's shape), `model.safetensors`,
//! `tokenizer.json`, and the small files that say how token vectors become one vector a text (*pooling*), whether it
//! is normalised, how long a text may be and which *prefixes* queries and passages want. Everything is read from
//! there (`folder`), the forward pass is `encoder`, the last step `pooling`.
//!
//! Texts flow through in batches of similar length: prefix, tokens, encoder, pooling, normalisation; results return
//! in the order of the texts. A text that is longer than the model reads is cut, and the answer says so.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection};

mod encoder;
mod folder;
mod gelu;
mod pooling;

use encoder::{Batch, Encoder};
use folder::{FolderConfig, fault};

/// Most texts in one forward pass.
const BATCH_TEXTS: usize = 32;
/// Most tokens in one forward pass, padding included.
const BATCH_TOKENS: usize = 4096;

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
    inner: Arc<Inner>,
}

struct Inner {
    id: String,
    hash: String,
    languages: Vec<String>,
    config: FolderConfig,
    tokenizer: Tokenizer,
    encoder: Encoder,
    pad: u32,
}

impl Embedder {
    /// Loads a sentence-transformers folder. `languages`: what it reads well (ISO 639-1).
    ///
    /// # Errors
    /// Names the file that is missing, broken or of another architecture, and what to do.
    pub fn load(id: &str, dir: &Path, languages: &[String]) -> Result<Self, EmbedError> {
        let config = FolderConfig::read(id, dir)?;
        let tokenizer_path = dir.join("tokenizer.json");
        let tokenizer_bytes = read(&tokenizer_path)?;
        let mut tokenizer = Tokenizer::from_bytes(&tokenizer_bytes)
            .map_err(|e| fault(&tokenizer_path, &format!("is not a tokenizer: {e}")))?;
        // The file's own padding and truncation are those of its training; ours follow each batch.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| fault(&tokenizer_path, &e.to_string()))?;
        let words = tokenizer.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1);
        if words == 0 || words > config.encoder.vocab_size {
            let reason =
                format!("knows {words} tokens, the model {}: they do not belong together", config.encoder.vocab_size);
            return Err(fault(&tokenizer_path, &reason));
        }

        let weights_path = dir.join("model.safetensors");
        if !weights_path.exists() && dir.join("pytorch_model.bin").exists() {
            return Err(fault(&weights_path, "is missing; only pytorch_model.bin is there: convert it to safetensors"));
        }
        let weights = read(&weights_path)?;
        let encoder = Encoder::load(&weights_path, &weights, &config.encoder, &Device::Cpu)?;

        let mut hasher = blake3::Hasher::new();
        hasher.update(&weights).update(&tokenizer_bytes).update(format!("{config:?}").as_bytes());
        let hash = hasher.finalize().to_hex()[..32].to_string();
        let pad = config.encoder.pad_token_id.unwrap_or(0).min(config.encoder.vocab_size as u32 - 1);
        let (id, languages) = (id.to_string(), languages.to_vec());
        Ok(Self { inner: Arc::new(Inner { id, hash, languages, config, tokenizer, encoder, pad }) })
    }

    /// The name it was loaded under.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Hash of the weights and config, hex; part of the index's key.
    pub fn hash(&self) -> &str {
        &self.inner.hash
    }

    pub fn dimensions(&self) -> usize {
        self.inner.config.encoder.hidden_size
    }

    /// Longest text, in tokens.
    pub fn max_tokens(&self) -> usize {
        self.inner.config.max_tokens
    }

    /// Languages (ISO 639-1) that it reads well.
    pub fn languages(&self) -> &[String] {
        &self.inner.languages
    }

    /// True where it reads the language well.
    pub fn reads(&self, language: &str) -> bool {
        self.inner.languages.iter().any(|l| l == language)
    }

    /// Embeds the texts, whatever their number; results are in their order.
    ///
    /// # Errors
    /// `Compute` where the model itself fails (out of memory, say).
    pub fn embed(&self, texts: &[&str], role: Role) -> Result<Embeddings, EmbedError> {
        let inner = &*self.inner;
        let prefix = match role {
            Role::Query => &inner.config.query_prefix,
            Role::Passage => &inner.config.passage_prefix,
        };
        let mut ids: Vec<Vec<u32>> = Vec::with_capacity(texts.len());
        let mut truncated = Vec::with_capacity(texts.len());
        for text in texts {
            let mut input = format!("{prefix}{}", text.trim());
            if inner.config.lowercase {
                input = input.to_lowercase();
            }
            let (text_ids, cut) = inner.tokens(&input)?;
            ids.push(text_ids);
            truncated.push(cut);
        }
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(ids[*at].len()));
        let mut vectors = vec![Vec::new(); texts.len()];
        let mut rest = &order[..];
        while let Some(first) = rest.first() {
            let size = (BATCH_TOKENS / ids[*first].len()).clamp(1, BATCH_TEXTS).min(rest.len());
            let (batch, after) = rest.split_at(size);
            rest = after;
            let members: Vec<&[u32]> = batch.iter().map(|at| &ids[*at][..]).collect();
            for (at, vector) in batch.iter().zip(inner.embed_batch(&members)?) {
                vectors[*at] = vector;
            }
        }
        Ok(Embeddings { vectors, tokens: ids.iter().map(Vec::len).collect(), truncated })
    }
}

impl Inner {
    /// A text's tokens, special ones included, and whether it had to be cut.
    fn tokens(&self, text: &str) -> Result<(Vec<u32>, bool), EmbedError> {
        let failed = |e: tokenizers::Error| EmbedError::Compute(format!("tokenizer: {e}"));
        let mut encoding = self.tokenizer.encode(text, false).map_err(failed)?;
        let special = self.tokenizer.get_post_processor().map_or(0, |post| post.added_tokens(false));
        let room = self.config.max_tokens.saturating_sub(special).max(1);
        let cut = encoding.len() > room;
        if cut {
            encoding.truncate(room, 0, TruncationDirection::Right);
        }
        let encoding = self.tokenizer.post_process(encoding, None, true).map_err(failed)?;
        let mut ids = encoding.get_ids().to_vec();
        // A tokenizer without special tokens gives nothing for an empty text; the encoder wants one token.
        if ids.is_empty() {
            ids.push(self.pad);
        }
        Ok((ids, cut))
    }

    fn embed_batch(&self, ids: &[&[u32]]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let compute = |e: candle_core::Error| EmbedError::Compute(e.to_string());
        let tokens = self.encoder.forward(&Batch { ids, pad: self.pad }).map_err(compute)?;
        let (_, longest, width) = tokens.dims3().map_err(compute)?;
        let tokens: Vec<f32> = tokens.flatten_all().and_then(|t| t.to_vec1()).map_err(compute)?;
        let rows = tokens.chunks_exact(longest * width).zip(ids);
        let pooled = rows.map(|(row, ids)| {
            let mut vector = self.config.pooling.pool(&row[..ids.len() * width], width);
            if self.config.normalize {
                pooling::l2_normalize(&mut vector);
            }
            vector
        });
        Ok(pooled.collect())
    }
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
pub(crate) mod tests;
