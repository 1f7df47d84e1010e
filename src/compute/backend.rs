//! The [`Backend`] trait: what a machine must be able to do to run a decoder.

use std::ops::Range;

use super::{BLOCK_TOKENS, ComputeError, PackedMatrix, RopeRows};

/// One sequence's share of a step.
#[derive(Debug, Clone)]
pub struct Span<'a> {
    /// Its rows in the step.
    pub rows: Range<usize>,
    /// Position of its first row; positions `0..start` are in the KV pool already.
    pub start: usize,
    /// Blocks that hold positions `0..start + rows.len()`.
    pub blocks: &'a [u32],
}

/// One step over several sequences: whose rows are whose, and where they stand.
#[derive(Debug)]
pub struct Plan<'a> {
    pub spans: Vec<Span<'a>>,
    /// Angles of every row.
    pub rope: RopeRows,
    /// Rows of all spans together.
    pub rows: usize,
}

impl Plan<'_> {
    /// Block and slot within it that hold `position` of `span`.
    pub fn place(span: &Span<'_>, position: usize) -> (usize, usize) {
        (span.blocks[position / BLOCK_TOKENS] as usize, position % BLOCK_TOKENS)
    }
}

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads; query head `h` reads head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

/// Size of a KV pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    pub layers: usize,
    pub blocks: usize,
    pub attention: AttentionShape,
}

impl KvShape {
    /// Numbers in one block of one layer, keys alone (values are as many).
    pub fn block_len(&self) -> usize {
        self.attention.kv_heads * self.attention.head_dim * BLOCK_TOKENS
    }
}

/// Freshly projected queries, keys and values of a step, before rotation.
pub struct Qkv<R> {
    /// `[rows][heads * head_dim]`
    pub q: R,
    /// `[rows][kv_heads * head_dim]`
    pub k: R,
    /// `[rows][kv_heads * head_dim]`
    pub v: R,
}

/// The parts of a gated MLP: `down(silu(gate(norm(x))) * up(norm(x)))`.
pub struct GatedMlp<B: Backend + ?Sized> {
    pub norm: B::Norm,
    pub gate: B::Linear,
    pub up: B::Linear,
    pub down: B::Linear,
}

/// A machine that can run decoders. Every method is coarse on purpose, so that a backend may fuse what lies within.
///
/// All numbers given and taken as `f32` slices are in rows of the step's order.
pub trait Backend: Send + Sync + 'static {
    /// Activations of a step, `[rows][width]`.
    type Rows;
    /// A weight matrix with its optional bias.
    type Linear: Send + Sync;
    /// An RMS norm.
    type Norm: Send + Sync;
    /// Embeddings of the vocabulary.
    type Table: Send + Sync;
    /// Keys and values.
    type Kv: Send + Sync;

    /// Takes over a weight matrix.
    fn linear(&self, weight: &PackedMatrix<'_>, bias: Option<&PackedMatrix<'_>>) -> Result<Self::Linear, ComputeError>;
    /// Takes over the weight of an RMS norm (Zhang and Sennrich 2019): `x / sqrt(mean(x²) + eps) * weight`.
    fn norm(&self, weight: &PackedMatrix<'_>, eps: f32) -> Result<Self::Norm, ComputeError>;
    /// Takes over an embedding table, `rows` of the vocabulary.
    fn table(&self, weight: &PackedMatrix<'_>) -> Result<Self::Table, ComputeError>;
    /// The head of a model that shares its embedding table.
    fn tied_head(&self, table: &Self::Table) -> Result<Self::Linear, ComputeError>;
    /// Allocates a KV pool. Memory may be taken only as blocks are first written.
    fn kv_pool(&self, shape: KvShape) -> Result<Self::Kv, ComputeError>;

    /// Bytes of one block of a KV pool, all layers, keys and values.
    fn kv_block_bytes(&self, shape: &KvShape) -> usize;

    /// Rows of the table. Tokens are within the table (the caller has checked).
    fn embed_rows(&self, table: &Self::Table, tokens: &[u32]) -> Result<Self::Rows, ComputeError>;
    /// Normalises once, then projects to queries, keys and values.
    fn norm_qkv(
        &self,
        x: &Self::Rows,
        norm: &Self::Norm,
        linears: [&Self::Linear; 3],
    ) -> Result<Qkv<Self::Rows>, ComputeError>;
    /// Normalises each head of queries and keys where `qk_norm` is given, rotates both, writes keys and values to
    /// their places in the pool, and gives the rotated queries.
    fn rope_and_cache(
        &self,
        qkv: Qkv<Self::Rows>,
        qk_norm: Option<[&Self::Norm; 2]>,
        kv: &mut Self::Kv,
        layer: usize,
        plan: &Plan<'_>,
    ) -> Result<Self::Rows, ComputeError>;
    /// Causal softmax attention with scale `1/sqrt(head_dim)`, each span over its own blocks.
    fn paged_attention(
        &self,
        q: &Self::Rows,
        kv: &Self::Kv,
        layer: usize,
        plan: &Plan<'_>,
    ) -> Result<Self::Rows, ComputeError>;
    /// `residual + linear(x)`.
    fn linear_add(
        &self,
        x: &Self::Rows,
        linear: &Self::Linear,
        residual: Self::Rows,
    ) -> Result<Self::Rows, ComputeError>;
    /// `x + mlp(x)`, see [`GatedMlp`].
    fn gated_mlp(&self, x: Self::Rows, mlp: &GatedMlp<Self>) -> Result<Self::Rows, ComputeError>;
    /// Final norm and head over the chosen rows: their logits, row after row.
    fn head(
        &self,
        x: &Self::Rows,
        rows: &[usize],
        norm: &Self::Norm,
        head: &Self::Linear,
    ) -> Result<Vec<f32>, ComputeError>;

    /// The bytes of one block, all layers, keys and values. Only a pool of the same backend and shape reads them.
    fn export_block(&self, kv: &Self::Kv, block: usize) -> Result<Vec<u8>, ComputeError>;
    /// Puts back what [`Self::export_block`] gave.
    fn import_block(&self, kv: &mut Self::Kv, block: usize, bytes: &[u8]) -> Result<(), ComputeError>;
}
