//! Weights to numbers: GGUF files, tokenizers, model specs and the decoder's forward pass.
//!
//! A decoder knows tokens, positions and KV blocks. It does not know requests, customers or text.
//!
//! From file to logits: [`Gguf`] opens a file and checks it; [`ModelSpec`] reads which transformer it is;
//! [`Decoder`] takes its weights to a [`Backend`](crate::compute::Backend) and runs steps; [`ChatTokenizer`] is built
//! from the same file. A *step* is a mixed batch: any number of sequences, each with some new tokens (one for a
//! decode, many for a chunk of a prompt), each with the table of its KV blocks, and each through its own [`Adapter`] or
//! none. Who owns which block is decided in [`crate::llm`].
//!
//! ```no_run
//! # fn main() -> Result<(), firstline::model::ModelError> {
//! use firstline::model::{ChatTokenizer, Decoder, StepSequence, WantLogits};
//!
//! let path = std::path::Path::new("model.gguf");
//! let tokenizer = ChatTokenizer::from_gguf(path)?;
//! let mut decoder = Decoder::load(path, &Default::default())?;
//! let tokens = tokenizer.encode("The sky is", false)?;
//! let step = StepSequence { tokens: &tokens, start: 0, blocks: &[0], logits: WantLogits::Last, adapter: None };
//! let logits = &decoder.step(&[step])?[0];
//! let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
//! println!("{}", tokenizer.token_text(best.unwrap_or(0) as u32));
//! # Ok(())
//! # }
//! ```

mod adapter;
mod decoder;
mod gguf;
mod layers;
mod packed_cache;
mod scaling;
mod spec;
mod tokenizer;

#[cfg(test)]
pub(crate) mod tests;

pub use adapter::{Adapter, AdapterBase, AdapterFile, ReadAdapters};
pub use decoder::Decoder;
pub use gguf::Gguf;
pub(crate) use gguf::parts;
pub use packed_cache::PackedCache;
pub use spec::{Architecture, ModelSpec};
pub use tokenizer::ChatTokenizer;

use std::path::Path;
use std::sync::Arc;

use self::packed_cache::PackedSlot;
use crate::compute::ComputeError;
use crate::compute::native::PackedWeights;
use crate::config::EngineSettings;

/// A chat model's file, opened once: what tokenizes, what computes, and what is left to do with the file.
pub struct ChatFile {
    pub tokenizer: ChatTokenizer,
    pub decoder: Decoder,
    pub source: Source,
}

/// The file that a model came from.
pub struct Source {
    gguf: Gguf,
    slot: Option<PackedSlot>,
    packed: Arc<PackedWeights>,
}

/// Opens a model file; the tokenizer is built beside the weights. Weights that were packed by an earlier start are taken
/// from `cache`.
///
/// # Errors
/// As [`ChatTokenizer::from_gguf`] and [`Decoder::load`].
pub fn load(path: &Path, settings: &EngineSettings, cache: Option<&PackedCache>) -> Result<ChatFile, ModelError> {
    let gguf = Gguf::open(path)?;
    let slot = cache.map(|cache| cache.slot(&gguf));
    let packed = slot.as_ref().map(PackedSlot::open).unwrap_or_default();
    let (tokenizer, decoder) = std::thread::scope(|scope| {
        let tokenizer = scope.spawn(|| ChatTokenizer::read(&gguf));
        let decoder = ModelSpec::read(&gguf).and_then(|spec| Decoder::build(&gguf, spec, settings, packed.clone()));
        (tokenizer.join(), decoder)
    });
    let tokenizer = tokenizer.map_err(|_| gguf.error("its tokenizer could not be built"))??;
    Ok(ChatFile { tokenizer, decoder: decoder?, source: Source { gguf, slot, packed } })
}

impl Source {
    /// Hash of the whole file (BLAKE3, hex). Reads it, unless an earlier start has.
    pub fn hash(&self) -> String {
        self.packed.note().map_or_else(|| self.gguf.content_hash(), str::to_string)
    }

    /// Keeps packed weights for the next start, where there are some and that has not been done; `hash` is the file's.
    /// Takes as long as the disk does.
    pub fn keep_packed(&self, hash: &str) {
        if let Some(slot) = &self.slot
            && !self.packed.is_saved()
            && self.packed.packed_bytes() > 0
        {
            slot.save(&self.packed, hash);
        }
    }

    /// Numbers of all tensors.
    pub fn parameters(&self) -> u64 {
        self.gguf.parameters()
    }

    /// Bytes that the `native` backend's matrices take, and bytes of the tensors that they were made from.
    pub fn weight_bytes(&self) -> (usize, usize) {
        self.packed.bytes_and_source_bytes()
    }
}

/// Index of one KV block in the pool. The decoder owns the memory; `llm/` decides who uses which block.
pub type BlockId = u32;

/// Tokens in one KV block.
pub const BLOCK_TOKENS: usize = crate::compute::BLOCK_TOKENS;

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
    /// Which rows of logits the step is to give.
    pub logits: WantLogits,
    /// What changes the model for this sequence. All of a sequence's steps, and all that share its blocks, must have the
    /// same one.
    pub adapter: Option<&'a Adapter>,
}

/// What can go wrong with a model file or a step.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A model file is damaged or not supported.
    #[error("{file}: {reason}")]
    File {
        /// The file, as it was named.
        file: String,
        /// What is wrong, and where in the file.
        reason: String,
    },
    /// A step or the backend failed.
    #[error("{0}")]
    Compute(String),
}

impl From<ComputeError> for ModelError {
    fn from(error: ComputeError) -> Self {
        ModelError::Compute(error.to_string())
    }
}
