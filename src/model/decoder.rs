//! The forward pass of a decoder, over mixed batches.
//!
//! A step takes any number of sequences, each with some new tokens. All new tokens are one matrix for the linear
//! operations; attention works sequence by sequence over KV blocks. The same code runs every family in
//! [`ModelSpec`](super::ModelSpec) on every [`Backend`].

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::adapter::{AdapterBase, AdapterReader, AdapterWeights, ReadAdapters, Slot};
use super::gguf::Gguf;
use super::layers::Weights;
use super::spec::{ModelSpec, Scales};
use super::{BLOCK_TOKENS, BlockId, ModelError, StepSequence, WantLogits};
use crate::compute::candle::CandleBackend;
use crate::compute::native::{KvPrecision, NativeBackend, PackedWeights};
use crate::compute::{Backend, Beside, Format, KvShape, Plan, RopeRows, Span};
use crate::config::EngineSettings;

/// A loaded decoder: weights and the KV pool.
pub struct Decoder {
    transformer: Box<dyn Forward>,
    adapters: Arc<dyn ReadAdapters>,
    spec: ModelSpec,
    kv_blocks: usize,
    repeats_rows: bool,
}

impl Decoder {
    /// Loads a GGUF file and allocates `kv_mib` of KV blocks (but no more than `max_running` sequences of the full
    /// context can use).
    ///
    /// # Errors
    /// A file that is damaged or not supported; a backend, device or weight policy that does not exist; a KV pool of
    /// less than one block.
    pub fn load(path: &Path, settings: &EngineSettings) -> Result<Self, ModelError> {
        Self::open(&Gguf::open(path)?, settings)
    }

    /// The same of an opened file or folder.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn open(gguf: &Gguf, settings: &EngineSettings) -> Result<Self, ModelError> {
        Self::build(gguf, ModelSpec::read(gguf)?, settings, Arc::default())
    }

    /// Builds a decoder of the given shape from the file's tensors, or from what `packed` has of them.
    pub(super) fn build(
        gguf: &Gguf,
        spec: ModelSpec,
        settings: &EngineSettings,
        packed: Arc<PackedWeights>,
    ) -> Result<Self, ModelError> {
        // The device and the weight policy are checked whatever backend runs.
        let candle = || CandleBackend::open(&settings.device, &settings.weights, gguf.widened_bytes());
        let exact = gguf.formats().all(|format| format == Format::F32);
        let kv = kv_precision(&settings.kv, exact)?;
        let native = || {
            let decoder = Self::on(NativeBackend::new(kv).with_weights(packed), gguf, spec.clone(), settings)?;
            Ok(Self { repeats_rows: true, ..decoder })
        };
        match settings.backend.as_str() {
            "candle" => Self::on(candle()?, gguf, spec, settings),
            "native" => {
                if !candle()?.on_cpu() {
                    let device = &settings.device;
                    return Err(ModelError::Compute(format!(
                        "engine.backend is `native`, which runs on the CPU, and engine.device is `{device}`; set \
                         engine.device to `cpu` or engine.backend to `auto`"
                    )));
                }
                native()
            }
            // The device decides, and then whether all weights are in formats that the native backend takes.
            "auto" => {
                let candle = candle()?;
                let foreign = gguf.formats().find(|format| !NativeBackend::takes(*format));
                match foreign {
                    None if candle.on_cpu() => native(),
                    foreign => {
                        if let Some(format) = foreign {
                            tracing::info!("the model has weights in {format:?}: running on the candle backend");
                        }
                        Self::on(candle, gguf, spec, settings)
                    }
                }
            }
            other => {
                Err(ModelError::Compute(format!("engine.backend is `{other}`; it can be `auto`, `native` or `candle`")))
            }
        }
    }

    fn on<B: Backend>(backend: B, gguf: &Gguf, spec: ModelSpec, settings: &EngineSettings) -> Result<Self, ModelError> {
        let kv_blocks = kv_blocks(&spec, settings, &backend)?;
        let longest = match settings.context_tokens {
            0 => spec.context,
            wanted => wanted,
        };
        let spec = spec.for_sequences_of(longest.min(kv_blocks * BLOCK_TOKENS));
        let weights = Weights::load(&backend, gguf, &spec)?;
        let kv =
            backend.kv_pool(KvShape { layers: spec.layers.len(), blocks: kv_blocks, attention: spec.attention })?;
        let backend = Arc::new(backend);
        let adapters = Arc::new(AdapterReader { backend: backend.clone(), base: AdapterBase::of(gguf, &spec)? });
        let transformer = Box::new(Transformer { backend, weights, kv });
        Ok(Self { transformer, adapters, spec, kv_blocks, repeats_rows: false })
    }

    /// What takes adapters of this model to its backend, on any thread.
    pub fn adapters(&self) -> Arc<dyn ReadAdapters> {
        self.adapters.clone()
    }

    /// Number of KV blocks in the pool.
    pub fn kv_blocks(&self) -> usize {
        self.kv_blocks
    }

    /// True where a token's logits are the same bits whatever is computed in the same step. (candle takes other ways for
    /// one row than for several, which round otherwise.)
    pub fn repeats_rows(&self) -> bool {
        self.repeats_rows
    }

    /// Logits in a row: rows of the model's head. May exceed the tokenizer's vocabulary by padding.
    pub fn vocab(&self) -> usize {
        self.spec.vocab
    }

    /// The longest sequence the model was trained for, in tokens.
    pub fn trained_context(&self) -> usize {
        self.spec.context
    }

    /// Runs one mixed batch. For each sequence: rows of `vocab` logits (none, one, or one per token).
    ///
    /// # Errors
    /// A token outside the vocabulary, a block outside the pool, a block table too short for its positions; then
    /// nothing has been computed. A failure of the backend; then the blocks of this step's sequences are undefined.
    pub fn step(&mut self, batch: &[StepSequence<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        check(batch, self.spec.vocab, self.kv_blocks)?;
        self.transformer.step(&self.spec, batch)
    }

    /// As [`Self::step`], without the head: for the same rows, what the last layer says after the final norm, `hidden`
    /// numbers each.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn last_layer(&mut self, batch: &[StepSequence<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        check(batch, self.spec.vocab, self.kv_blocks)?;
        self.transformer.last_layer(&self.spec, batch)
    }

    /// Width of the stream between layers.
    pub fn hidden(&self) -> usize {
        self.spec.hidden
    }

    /// The bytes of one block over all layers, keys and values (for saved prefixes). Only a decoder of the same file,
    /// settings and build can read them.
    ///
    /// # Errors
    /// A block outside the pool, or a failure of the backend.
    pub fn export_block(&self, block: BlockId) -> Result<Vec<u8>, ModelError> {
        self.transformer.export_block(block)
    }

    /// Puts back what [`Self::export_block`] gave.
    ///
    /// # Errors
    /// A block outside the pool, bytes of another length, or a failure of the backend.
    pub fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), ModelError> {
        self.transformer.import_block(block, bytes)
    }
}

/// What the setting `engine.kv` names; `exact` where all weights of the model are.
fn kv_precision(name: &str, exact: bool) -> Result<KvPrecision, ModelError> {
    match name {
        "auto" if exact => Ok(KvPrecision::Single),
        "auto" | "q8" => Ok(KvPrecision::Bytes),
        "f16" => Ok(KvPrecision::Half),
        "f32" => Ok(KvPrecision::Single),
        other => Err(ModelError::Compute(format!("engine.kv is `{other}`; it can be `auto`, `q8`, `f16` or `f32`"))),
    }
}

/// How many blocks fit in the memory that the settings give.
fn kv_blocks(spec: &ModelSpec, settings: &EngineSettings, backend: &impl Backend) -> Result<usize, ModelError> {
    let shape = KvShape { layers: spec.layers.len(), blocks: 1, attention: spec.attention };
    let block_bytes = backend.kv_block_bytes(&shape);
    let fit = settings.kv_mib.saturating_mul(1 << 20) / block_bytes;
    let most = spec.context.div_ceil(BLOCK_TOKENS).saturating_mul(settings.max_running.max(1));
    match fit.min(most) {
        0 => Err(ModelError::Compute(format!(
            "engine.kv_mib is {}; one block of {BLOCK_TOKENS} tokens of this model takes {} MiB",
            settings.kv_mib,
            block_bytes.div_ceil(1 << 20)
        ))),
        blocks => Ok(blocks),
    }
}

/// Refuses batches that would read or write outside the model.
fn check(batch: &[StepSequence<'_>], vocab: usize, kv_blocks: usize) -> Result<(), ModelError> {
    for sequence in batch {
        if let Some(token) = sequence.tokens.iter().find(|token| **token as usize >= vocab) {
            return Err(ModelError::Compute(format!("token {token} is not in the vocabulary of {vocab}")));
        }
        if let Some(block) = sequence.blocks.iter().find(|block| **block as usize >= kv_blocks) {
            return Err(ModelError::Compute(format!("KV block {block} is not in the pool of {kv_blocks}")));
        }
        let covered = sequence.blocks.len().saturating_mul(BLOCK_TOKENS);
        if sequence.tokens.len() > covered.saturating_sub(sequence.start) {
            return Err(ModelError::Compute(format!(
                "{} KV blocks cover {covered} positions; the step ends at {}",
                sequence.blocks.len(),
                sequence.start.saturating_add(sequence.tokens.len())
            )));
        }
    }
    Ok(())
}

/// A transformer on whatever backend.
trait Forward: Send {
    fn step(&mut self, spec: &ModelSpec, batch: &[StepSequence<'_>]) -> Result<Vec<Vec<f32>>, ModelError>;
    fn last_layer(&mut self, spec: &ModelSpec, batch: &[StepSequence<'_>]) -> Result<Vec<Vec<f32>>, ModelError>;
    fn export_block(&self, block: BlockId) -> Result<Vec<u8>, ModelError>;
    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), ModelError>;
}

/// Weights and KV pool on a backend.
struct Transformer<B: Backend> {
    backend: Arc<B>,
    weights: Weights<B>,
    kv: B::Kv,
}

impl<B: Backend> Transformer<B> {
    /// Runs all layers over a batch, which has at least one token.
    fn layers(
        &mut self,
        spec: &ModelSpec,
        batch: &[StepSequence<'_>],
    ) -> Result<(B::Rows, Vec<Range<usize>>), ModelError> {
        let (plan, ropes, tokens) = plan(spec, batch);
        let (backend, weights) = (&self.backend, &self.weights);
        let adapted = adapted::<B>(batch, plan.spans.iter().map(|span| span.rows.clone()))?;
        let mut x = backend.embed_rows(&weights.table, &tokens, spec.scales.embedding)?;
        for (number, (layer, how)) in weights.layers.iter().zip(&spec.layers).enumerate() {
            let [q, k, v, out, gate, up, down] = Slot::ALL.map(|slot| beside(&adapted, |a| a.of(number, slot)));
            let qkv = backend.norm_qkv(&x, &layer.norm, [&layer.q, &layer.k, &layer.v], [&q, &k, &v])?;
            let qk_norm = layer.qk_norm.as_ref().map(|[q, k]| [q, k]);
            let q = backend.rope_and_cache(qkv, qk_norm, &ropes[how.rope], &mut self.kv, number, &plan)?;
            let mixed = backend.paged_attention(&q, &self.kv, number, &how.attend, &plan)?;
            x = backend.linear_add(&mixed, &layer.out, &out, &layer.join, x)?;
            x = backend.mlp(x, &layer.mlp, [&gate, &up, &down])?;
        }
        let wanted = plan.spans.iter().zip(batch).map(|(span, s)| wanted_rows(span, s.logits)).collect();
        Ok((x, wanted))
    }
}

impl<B: Backend> Forward for Transformer<B> {
    fn step(&mut self, spec: &ModelSpec, batch: &[StepSequence<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        if batch.iter().all(|sequence| sequence.tokens.is_empty()) {
            return Ok(vec![Vec::new(); batch.len()]);
        }
        let (x, wanted) = self.layers(spec, batch)?;
        let (backend, weights) = (&self.backend, &self.weights);
        let rows: Vec<usize> = wanted.iter().cloned().flatten().collect();
        let mut given = 0;
        let places = wanted.iter().map(|rows| {
            given += rows.len();
            given - rows.len()..given
        });
        let of_head = adapted::<B>(batch, places)?;
        let of_head = beside(&of_head, |adapter| adapter.head.as_ref());
        let mut logits = backend.head(&x, &rows, &weights.norm, &weights.head, &of_head)?;
        finish(&mut logits, &spec.scales);
        if let [_] = &wanted[..] {
            return Ok(vec![logits]);
        }
        Ok(shared_out(&logits, &wanted, spec.vocab))
    }

    fn last_layer(&mut self, spec: &ModelSpec, batch: &[StepSequence<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        if batch.iter().all(|sequence| sequence.tokens.is_empty()) {
            return Ok(vec![Vec::new(); batch.len()]);
        }
        let (x, wanted) = self.layers(spec, batch)?;
        let rows: Vec<usize> = wanted.iter().cloned().flatten().collect();
        Ok(shared_out(&self.backend.normed(&x, &rows, &self.weights.norm)?, &wanted, spec.hidden))
    }

    fn export_block(&self, block: BlockId) -> Result<Vec<u8>, ModelError> {
        Ok(self.backend.export_block(&self.kv, block as usize)?)
    }

    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), ModelError> {
        Ok(self.backend.import_block(&mut self.kv, block as usize, bytes)?)
    }
}

/// To each sequence its rows of `width` numbers.
fn shared_out(numbers: &[f32], wanted: &[Range<usize>], width: usize) -> Vec<Vec<f32>> {
    let mut rest = numbers;
    let mine = |rows: &Range<usize>| {
        let (mine, others) = rest.split_at(rows.len() * width);
        rest = others;
        mine.to_vec()
    };
    wanted.iter().map(mine).collect()
}

/// Rows with an adapter: neighbours with the same one together.
fn adapted<'a, B: Backend>(
    batch: &[StepSequence<'a>],
    rows: impl Iterator<Item = Range<usize>>,
) -> Result<Vec<(Range<usize>, &'a AdapterWeights<B>)>, ModelError> {
    let mut all: Vec<(Range<usize>, &AdapterWeights<B>)> = Vec::new();
    for (rows, adapter) in rows.zip(batch).filter_map(|(rows, s)| Some((rows, s.adapter?))) {
        let weights = adapter.weights::<B>()?;
        match all.last_mut() {
            _ if rows.is_empty() => {}
            Some((before, same)) if before.end == rows.start && std::ptr::eq(*same, weights) => before.end = rows.end,
            _ => all.push((rows, weights)),
        }
    }
    Ok(all)
}

/// What adapters add to one matrix.
fn beside<'a, B: Backend>(
    adapted: &[(Range<usize>, &'a AdapterWeights<B>)],
    product: impl Fn(&'a AdapterWeights<B>) -> Option<&'a B::LowRank>,
) -> Vec<Beside<'a, B>> {
    let of = |(rows, adapter): &(Range<usize>, &'a AdapterWeights<B>)| {
        Some(Beside { rows: rows.clone(), product: product(adapter)? })
    };
    adapted.iter().filter_map(of).collect()
}

/// Scales and caps logits, where this family does.
fn finish(logits: &mut [f32], scales: &Scales) {
    if scales.logits != 1.0 {
        logits.iter_mut().for_each(|x| *x *= scales.logits);
    }
    if let Some(cap) = scales.logit_cap {
        logits.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
    }
}

/// Lays the sequences' new tokens end to end; also gives their angles for each of the model's rotations.
fn plan<'a>(spec: &ModelSpec, batch: &[StepSequence<'a>]) -> (Plan<'a>, Vec<RopeRows>, Vec<u32>) {
    let mut tokens = Vec::new();
    let mut spans = Vec::with_capacity(batch.len());
    for sequence in batch {
        let first = tokens.len();
        tokens.extend_from_slice(sequence.tokens);
        spans.push(Span { rows: first..tokens.len(), start: sequence.start, blocks: sequence.blocks });
    }
    let positions = || spans.iter().flat_map(|span: &Span<'_>| span.start..span.start + span.rows.len());
    let ropes = spec.ropes.iter().map(|rope| rope.rows(positions())).collect();
    let plan = Plan { rows: tokens.len(), spans };
    (plan, ropes, tokens)
}

/// Rows of the step whose logits a sequence asked for.
fn wanted_rows(span: &Span<'_>, want: WantLogits) -> Range<usize> {
    match want {
        WantLogits::No => span.rows.end..span.rows.end,
        WantLogits::Last => span.rows.end.saturating_sub(1).max(span.rows.start)..span.rows.end,
        WantLogits::All => span.rows.clone(),
    }
}
