//! Weights to numbers: GGUF files, tokenizers, model specs and the decoder's forward pass.
//!
//! A decoder knows tokens, positions and KV blocks. It does not know requests, customers or text.

use std::path::Path;

use crate::config::EngineSettings;

/// Index of one KV block in the pool. The decoder owns the memory; `llm/` decides who uses which block.
pub type BlockId = u32;

/// Tokens in one KV block.
pub const BLOCK_TOKENS: usize = 32;

/// For which of its tokens a sequence wants logits from a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantLogits {
    /// A prompt chunk that is not the last.
    No,
    /// The last token only (decode, and the end of a prompt).
    Last,
    /// Every token (scoring).
    All,
}

/// One sequence's share of a mixed batch step.
#[derive(Debug, Clone)]
pub struct StepSequence<'a> {
    /// New tokens, in order.
    pub tokens: &'a [u32],
    /// Position of `tokens[0]`; positions `0..start` are already in the cache.
    pub start: usize,
    /// Block table that covers positions `0..start + tokens.len()`.
    pub blocks: &'a [BlockId],
    pub logits: WantLogits,
}

/// A loaded decoder: weights and the KV pool.
pub struct Decoder {}

impl Decoder {
    /// Loads a GGUF file and allocates `kv_mib` of KV blocks.
    pub fn load(_path: &Path, _settings: &EngineSettings) -> Result<Self, ModelError> {
        todo!()
    }
    /// Number of KV blocks in the pool.
    pub fn kv_blocks(&self) -> usize {
        todo!()
    }
    pub fn vocab(&self) -> usize {
        todo!()
    }
    /// The longest sequence the model was trained for.
    pub fn trained_context(&self) -> usize {
        todo!()
    }
    /// Runs one mixed batch. For each sequence: rows of `vocab` logits (none, one, or one per token).
    pub fn step(&mut self, _batch: &[StepSequence<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        todo!()
    }
    /// The bytes of one block over all layers, keys and values (for saved prefixes).
    pub fn export_block(&self, _block: BlockId) -> Result<Vec<u8>, ModelError> {
        todo!()
    }
    /// Puts back what [`Self::export_block`] gave.
    pub fn import_block(&mut self, _block: BlockId, _bytes: &[u8]) -> Result<(), ModelError> {
        todo!()
    }
}

/// A chat model's tokenizer, built strictly from GGUF metadata.
pub struct ChatTokenizer {}

impl ChatTokenizer {
    pub fn from_gguf(_path: &Path) -> Result<Self, ModelError> {
        todo!()
    }
    /// Plain text to tokens. With `parse_special`, the spelling of a control token (`<|im_start|>`) becomes that
    /// token: for templates only, never for customers' words. Adds no BOS.
    pub fn encode(&self, _text: &str, _parse_special: bool) -> Result<Vec<u32>, ModelError> {
        todo!()
    }
    /// The bytes that a token adds to the text (may be part of a UTF-8 character; control tokens give none).
    pub fn token_bytes(&self, _token: u32) -> Vec<u8> {
        todo!()
    }
    /// The spelling of a control token, or of any token, for templates and logprobs.
    pub fn token_text(&self, _token: u32) -> String {
        todo!()
    }
    pub fn bos(&self) -> Option<u32> {
        todo!()
    }
    /// True where the file says that prompts start with BOS.
    pub fn adds_bos(&self) -> bool {
        todo!()
    }
    /// Tokens that end an answer (`eos`, `eot`, `eom` of the file).
    pub fn end_tokens(&self) -> &[u32] {
        todo!()
    }
    /// The file's Jinja chat template.
    pub fn chat_template(&self) -> Option<&str> {
        todo!()
    }
    pub fn vocab(&self) -> usize {
        todo!()
    }
}

/// What can go wrong with a model file or a step.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("{file}: {reason}")]
    File { file: String, reason: String },
    #[error("{0}")]
    Compute(String),
}
