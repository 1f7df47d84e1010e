//! The operations that models are written in, and the machines they run on.
//!
//! A model in [`crate::model`] is a list of coarse steps: embed these tokens, normalise and project, rotate and
//! store keys and values, attend, run the gated MLP, give the head's logits. Each step is one method of the
//! [`Backend`] trait. A backend chooses how its weights lie in memory and where activations live; the model never
//! sees either.
//!
//! Words:
//! - *rows*: a matrix of activations, one row per token of the step, in step order ([`Backend::Rows`]).
//! - *packed matrix*: a weight as it lies in a model file ([`PackedMatrix`]): bytes in one of the [`Format`]s.
//! - *span*: one sequence's share of a step ([`Span`]); the linear operations see all spans' rows as one matrix,
//!   attention works span by span.
//! - *beside*: what an adapter adds to a matrix's product for some of the rows ([`Beside`]); the matrix stays as it is.
//! - *KV pool*: keys and values of all sequences, in blocks of [`BLOCK_TOKENS`] tokens. The caller says which block
//!   holds which positions; the pool knows no sequences.
//!
//! There are two backends. [`native::NativeBackend`] is the fast one on CPUs: packed weights and kernels of our own.
//! [`candle::CandleBackend`] is the reference, and the way to CUDA: candle's tensors and quantized products, on CPUs with
//! exact products over widened weights if so set.
//!
//! All results are deterministic: a row's numbers do not depend on which rows share its step (with candle's own products
//! up to the rounding of the matrix product, with ours to the last bit).
//!
//! Embedding models have operations of their own ([`encoder`]), over plain slices; [`limits`] measures what the machine
//! can do at most.

mod backend;
pub mod candle;
mod dot;
pub mod encoder;
mod experts;
mod gate;
mod lanes;
pub mod limits;
mod low_rank;
mod mapped;
pub mod native;
mod norm;
mod paged;
mod panels;
mod parallel;
mod rope;
mod softcap;
mod weights;

pub use backend::{
    Activation, Attend, AttentionShape, Backend, Beside, Experts, Gated, Join, KvShape, Mlp, MlpKind, Plan, Qkv, Span,
};
pub(crate) use dot::{cosine, distance_of_units, dot, dot_of_halves};
pub use low_rank::LowRank;
pub use mapped::MappedFile;
pub(crate) use parallel::for_each_index;
pub use rope::{Rope, RopeKind, RopeRows};
pub use weights::{Format, PackedMatrix};

/// All numbers of a weight, in `f32`.
pub(crate) fn widened(weight: &PackedMatrix<'_>) -> Result<Vec<f32>, ComputeError> {
    candle::widen(weight)
}

/// Tokens in one KV block.
pub const BLOCK_TOKENS: usize = 32;

/// What can go wrong in a backend.
#[derive(Debug, thiserror::Error)]
pub enum ComputeError {
    /// The settings ask for something that this build or machine does not have.
    #[error("{0}")]
    Unsupported(String),
    /// A weight does not have the shape or format that the operation needs.
    #[error("{name}: {reason}")]
    Weight { name: String, reason: String },
    /// A step that cannot be run: a block out of range, a wrong length.
    #[error("{0}")]
    Step(String),
    /// The tensor library failed (out of device memory, say).
    #[error("the tensor library failed: {0}")]
    Tensor(#[from] candle_core::Error),
}
