//! Embeddings: a batch of texts in, vectors out.

use std::path::Path;

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
pub struct Embedder {}

impl Embedder {
    /// Loads a sentence-transformers folder. `languages`: what it reads well (ISO 639-1).
    pub fn load(_id: &str, _dir: &Path, _languages: &[String]) -> Result<Self, EmbedError> {
        todo!()
    }
    pub fn id(&self) -> &str {
        todo!()
    }
    /// Hash of the weights and config, hex; part of the index's key.
    pub fn hash(&self) -> &str {
        todo!()
    }
    pub fn dimensions(&self) -> usize {
        todo!()
    }
    /// Longest text, in tokens.
    pub fn max_tokens(&self) -> usize {
        todo!()
    }
    pub fn languages(&self) -> &[String] {
        todo!()
    }
    pub fn embed(&self, _texts: &[&str], _role: Role) -> Result<Embeddings, EmbedError> {
        todo!()
    }
}

/// What can go wrong with an embedding model.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    #[error("{file}: {reason}")]
    File { file: String, reason: String },
    #[error("the embedding model failed: {0}")]
    Compute(String),
}
