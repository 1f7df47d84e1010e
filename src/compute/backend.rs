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

/// How a layer's queries see the keys before them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attend {
    /// Factor of every score; `1/sqrt(head_dim)` in most models.
    pub scale: f32,
    /// A query sees this many positions at most, its own the last of them. `None`: all positions up to its own.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)` (Gemma 2).
    pub softcap: Option<f32>,
}

impl Attend {
    /// Scale `1/sqrt(head_dim)`, all positions.
    pub fn plain(head_dim: usize) -> Self {
        Self { scale: 1.0 / (head_dim as f32).sqrt(), window: None, softcap: None }
    }

    /// The first position that a query at `position` sees.
    pub fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
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

/// Rows of a step that an adapter changes, and what it adds to one matrix's product for them.
pub struct Beside<'a, B: Backend + ?Sized> {
    pub rows: Range<usize>,
    pub product: &'a B::LowRank,
}

/// What a gate's numbers go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// The tangent form of GELU (Hendrycks and Gimpel 2016), as Gemma has it.
    Gelu,
}

/// How what a branch computed joins the residual stream: `residual + scale * norm(x)`.
pub struct Join<B: Backend + ?Sized> {
    /// Only Gemma's branches end in a norm.
    pub norm: Option<B::Norm>,
    /// 1 in all families but Granite.
    pub scale: f32,
}

impl<B: Backend + ?Sized> Join<B> {
    /// True where the branch is simply added.
    pub fn is_plain(&self) -> bool {
        self.norm.is_none() && self.scale == 1.0
    }
}

/// `down(activation(gate(x)) * up(x))`.
pub struct Gated<B: Backend + ?Sized> {
    pub gate: B::Linear,
    pub up: B::Linear,
    pub down: B::Linear,
    pub activation: Activation,
}

/// The MLP of a layer, from the residual stream to the residual stream.
pub struct Mlp<B: Backend + ?Sized> {
    pub norm: B::Norm,
    pub kind: MlpKind<B>,
    pub join: Join<B>,
}

/// What an MLP computes of normalised rows.
pub enum MlpKind<B: Backend + ?Sized> {
    Gated(Gated<B>),
    Experts(Experts<B>),
}

/// A mixture of experts: each row goes to the `used` experts that the router likes best, and their results are added
/// with the router's softmax probabilities, which are scaled to a sum of 1 (Qwen3).
pub struct Experts<B: Backend + ?Sized> {
    /// One output for each expert.
    pub router: B::Linear,
    pub all: Vec<Gated<B>>,
    pub used: usize,
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
    /// What an adapter adds to a matrix: `scale * B(A x)`.
    type LowRank: Send + Sync;

    /// Takes over a weight matrix.
    fn linear(&self, weight: &PackedMatrix<'_>, bias: Option<&PackedMatrix<'_>>) -> Result<Self::Linear, ComputeError>;
    /// Takes over the weight of an RMS norm (Zhang and Sennrich 2019): `x / sqrt(mean(x²) + eps) * weight`.
    fn norm(&self, weight: &PackedMatrix<'_>, eps: f32) -> Result<Self::Norm, ComputeError>;
    /// Takes over an embedding table, `rows` of the vocabulary.
    fn table(&self, weight: &PackedMatrix<'_>) -> Result<Self::Table, ComputeError>;
    /// The head of a model that shares its embedding table.
    fn tied_head(&self, table: &Self::Table) -> Result<Self::Linear, ComputeError>;
    /// Takes over an adapter's pair: `a` is `[rank][inputs]`, `b` is `[outputs][rank]`.
    fn low_rank(&self, a: &PackedMatrix<'_>, b: &PackedMatrix<'_>, scale: f32) -> Result<Self::LowRank, ComputeError>;
    /// Bytes that it takes.
    fn low_rank_bytes(&self, product: &Self::LowRank) -> usize;
    /// Allocates a KV pool. Memory may be taken only as blocks are first written.
    fn kv_pool(&self, shape: KvShape) -> Result<Self::Kv, ComputeError>;

    /// Bytes of one block of a KV pool, all layers, keys and values.
    fn kv_block_bytes(&self, shape: &KvShape) -> usize;

    /// Rows of the table, times `scale`. Tokens are within the table (the caller has checked).
    fn embed_rows(&self, table: &Self::Table, tokens: &[u32], scale: f32) -> Result<Self::Rows, ComputeError>;
    /// Normalises once, then projects to queries, keys and values, each with what is `beside` it.
    fn norm_qkv(
        &self,
        x: &Self::Rows,
        norm: &Self::Norm,
        linears: [&Self::Linear; 3],
        beside: [&[Beside<'_, Self>]; 3],
    ) -> Result<Qkv<Self::Rows>, ComputeError>;
    /// Normalises each head of queries and keys where `qk_norm` is given, rotates both, writes keys and values to
    /// their places in the pool, and gives the rotated queries.
    fn rope_and_cache(
        &self,
        qkv: Qkv<Self::Rows>,
        qk_norm: Option<[&Self::Norm; 2]>,
        rope: &RopeRows,
        kv: &mut Self::Kv,
        layer: usize,
        plan: &Plan<'_>,
    ) -> Result<Self::Rows, ComputeError>;
    /// Causal softmax attention, each span over its own blocks.
    fn paged_attention(
        &self,
        q: &Self::Rows,
        kv: &Self::Kv,
        layer: usize,
        attend: &Attend,
        plan: &Plan<'_>,
    ) -> Result<Self::Rows, ComputeError>;
    /// `linear(x)`, with what is `beside` it, joined to the residual.
    fn linear_add(
        &self,
        x: &Self::Rows,
        linear: &Self::Linear,
        beside: &[Beside<'_, Self>],
        join: &Join<Self>,
        residual: Self::Rows,
    ) -> Result<Self::Rows, ComputeError>;
    /// The MLP of `x`, joined to `x`, with what is beside its gate, up and down matrices (nothing, for a mixture of
    /// experts).
    fn mlp(&self, x: Self::Rows, mlp: &Mlp<Self>, beside: [&[Beside<'_, Self>]; 3])
    -> Result<Self::Rows, ComputeError>;
    /// Final norm of the chosen rows: their numbers, row after row.
    fn normed(&self, x: &Self::Rows, rows: &[usize], norm: &Self::Norm) -> Result<Vec<f32>, ComputeError>;
    /// Final norm and head over the chosen rows: their logits, row after row. Rows of `beside` count the chosen ones.
    fn head(
        &self,
        x: &Self::Rows,
        rows: &[usize],
        norm: &Self::Norm,
        head: &Self::Linear,
        beside: &[Beside<'_, Self>],
    ) -> Result<Vec<f32>, ComputeError>;

    /// The bytes of one block, all layers, keys and values. Only a pool of the same backend and shape reads them.
    fn export_block(&self, kv: &Self::Kv, block: usize) -> Result<Vec<u8>, ComputeError>;
    /// Puts back what [`Self::export_block`] gave.
    fn import_block(&self, kv: &mut Self::Kv, block: usize, bytes: &[u8]) -> Result<(), ComputeError>;
}
