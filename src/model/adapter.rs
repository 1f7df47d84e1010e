//! LoRA adapters (Hu et al. 2021) in GGUF files, as llama.cpp's `convert_lora_to_gguf.py` writes them.
//!
//! An adapter changes a model by adding `scale * alpha / rank * B(A x)` to the product `W x` of some of its matrices. The
//! model's own weights stay as they are, so one model serves sequences with different adapters, and with none, in the
//! same step. [`AdapterFile`] opens a file and says what is in it; [`AdapterBase`] says whether it fits a model;
//! [`ReadAdapters`] takes it to the backend that runs the model, as an [`Adapter`].
//!
//! A tensor `blk.0.attn_q.weight.lora_a` is `A`, `[rank][inputs]`; `….lora_b` is `B`, `[outputs][rank]`. Where the model's
//! file holds several matrices as one (Phi's queries, keys and values), so does the adapter's, and `B` is cut in the same
//! places.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::ModelError;
use super::gguf::{Gguf, printable};
use super::spec::ModelSpec;
use crate::compute::Backend;

/// Beyond this rank a pair is no smaller than the matrices of most models: a damaged file, or not an adapter.
const MOST_RANK: usize = 1024;

/// An adapter, ready to compute. Cheap to clone.
#[derive(Clone)]
pub struct Adapter(Arc<Loaded>);

struct Loaded {
    file: String,
    key: [u8; 32],
    bytes: usize,
    /// [`AdapterWeights`] of the backend that runs the model.
    weights: Box<dyn Any + Send + Sync>,
}

impl Adapter {
    /// Names what it does to a model: a hash of its file and scale.
    pub fn key(&self) -> &[u8; 32] {
        &self.0.key
    }

    /// The file that it came from.
    pub fn file(&self) -> &str {
        &self.0.file
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        self.0.bytes
    }

    pub(super) fn weights<B: Backend>(&self) -> Result<&AdapterWeights<B>, ModelError> {
        self.0.weights.downcast_ref().ok_or_else(|| ModelError::File {
            file: self.0.file.clone(),
            reason: "was loaded for a model on another backend".into(),
        })
    }
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter").field("file", &self.0.file).field("bytes", &self.0.bytes).finish()
    }
}

/// The matrices of a layer that an adapter can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Q,
    K,
    V,
    Out,
    Gate,
    Up,
    Down,
}

impl Slot {
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::Out, Self::Gate, Self::Up, Self::Down];
}

/// An adapter's products, where a backend wants them.
pub(super) struct AdapterWeights<B: Backend> {
    layers: Vec<[Option<B::LowRank>; Slot::ALL.len()]>,
    pub head: Option<B::LowRank>,
}

impl<B: Backend> AdapterWeights<B> {
    pub fn of(&self, layer: usize, slot: Slot) -> Option<&B::LowRank> {
        self.layers.get(layer)?[slot as usize].as_ref()
    }
}

/// An opened adapter file.
pub struct AdapterFile {
    gguf: Gguf,
    architecture: String,
    /// 0: the products are not scaled by their rank.
    alpha: f32,
    /// Rank of each pair, by the name of the matrix that it changes.
    pairs: BTreeMap<String, usize>,
}

impl AdapterFile {
    /// # Errors
    /// A file that cannot be read, is no LoRA adapter, or has parts that are not supported; all are named.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let gguf = Gguf::open(path)?;
        let kind = gguf.text("general.type")?.unwrap_or("model");
        if kind != "adapter" {
            let kind = printable(kind);
            return Err(gguf.error(format!("is a {kind}, not an adapter: its `general.type` is `{kind}`")));
        }
        let method = gguf.need_text("adapter.type")?;
        if method != "lora" {
            return Err(
                gguf.error(format!("adapters of the type `{}` are not supported; `lora` is", printable(method)))
            );
        }
        if gguf.numbers("adapter.alora.invocation_tokens")?.is_some() {
            return Err(gguf.error("an adapter that waits for its own tokens (aLoRA) is not supported"));
        }
        let architecture = gguf.need_text("general.architecture")?.to_string();
        let alpha = gguf.number("adapter.lora.alpha")?.unwrap_or(0.0) as f32;
        if !alpha.is_finite() {
            return Err(gguf.error(format!("`adapter.lora.alpha` is {alpha}")));
        }
        let pairs = pairs(&gguf)?;
        Ok(Self { gguf, architecture, alpha, pairs })
    }

    /// The architecture that it was made for.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The highest rank among its pairs.
    pub fn rank(&self) -> usize {
        self.pairs.values().copied().max().unwrap_or(0)
    }

    /// How many matrices it changes.
    pub fn matrices(&self) -> usize {
        self.pairs.len()
    }

    /// Bytes of its numbers in the file. In memory they take about as many: half-precision ones stay as they are.
    pub fn stored_bytes(&self) -> u64 {
        self.gguf.tensor_bytes()
    }
}

/// The ranks of all pairs.
fn pairs(gguf: &Gguf) -> Result<BTreeMap<String, usize>, ModelError> {
    let halves = |name| str::rsplit_once(name, '.').filter(|(_, half)| matches!(*half, "lora_a" | "lora_b"));
    if let Some(foreign) = gguf.tensor_names().filter(|name| halves(name).is_none()).min() {
        let why = match foreign.ends_with("_norm.weight") {
            true => "is a whole norm beside the low-rank pairs, which is not supported",
            false => "is neither `….lora_a` nor `….lora_b`",
        };
        let foreign = printable(foreign);
        return Err(gguf.error(format!("tensor `{foreign}` {why}; train without saving whole modules")));
    }
    let mut pairs = BTreeMap::new();
    let mut names: Vec<&str> = gguf.tensor_names().collect();
    names.sort_unstable();
    for (base, half) in names.into_iter().filter_map(halves) {
        let other = if half == "lora_a" { "lora_b" } else { "lora_a" };
        if gguf.dims(&format!("{base}.{other}")).is_none() {
            let shown = printable(base);
            return Err(gguf.error(format!("`{shown}.{half}` is there and its `.{other}` is missing")));
        }
        if half == "lora_a" {
            pairs.insert(base.to_string(), rank(gguf, base)?);
        }
    }
    match pairs.is_empty() {
        true => Err(gguf.error("has no tensors: an adapter of nothing")),
        false => Ok(pairs),
    }
}

/// The rank of the pair for `base`.
fn rank(gguf: &Gguf, base: &str) -> Result<usize, ModelError> {
    let shown = printable(base);
    if base == "token_embd.weight" {
        return Err(gguf.error(format!("changes `{shown}`: adapters of the embedding table are not supported")));
    }
    if base.contains("_exps.") {
        return Err(gguf.error(format!("changes `{shown}`: adapters of experts are not supported")));
    }
    let part = |part: &str| gguf.dims(&format!("{base}.{part}")).unwrap_or_default();
    match (part("lora_a"), part("lora_b")) {
        (&[rank, _], &[_, same]) if rank == same && (1..=MOST_RANK).contains(&rank) => Ok(rank),
        (&[rank, _], &[_, same]) if rank == same => {
            Err(gguf.error(format!("`{shown}` has an adapter of rank {rank}; 1 to {MOST_RANK} are supported")))
        }
        (a, b) => Err(gguf.error(format!(
            "`{shown}.lora_a` has the shape {a:?} and `.lora_b` {b:?}: they must be [rank, inputs] and [outputs, rank]"
        ))),
    }
}

/// What an adapter must know of the model that it changes.
#[derive(Debug, Clone)]
pub struct AdapterBase {
    file: String,
    architecture: String,
    layers: usize,
    places: HashMap<String, Place>,
}

/// A matrix of a model's file, and the matrices that a decoder makes of it.
#[derive(Debug, Clone)]
struct Place {
    outputs: usize,
    inputs: usize,
    /// Where each part goes (`None`: the head), its first output, and how many it has.
    parts: Vec<(Option<(usize, Slot)>, usize, usize)>,
}

impl AdapterBase {
    /// The model in `gguf`, of the shape `spec`.
    ///
    /// # Errors
    /// Metadata that cannot be read.
    pub fn of(gguf: &Gguf, spec: &ModelSpec) -> Result<Self, ModelError> {
        let shape = spec.attention;
        let (wide, narrow) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
        let (hidden, ffn) = (spec.hidden, spec.ffn);
        let mut places = HashMap::new();
        let has = |name: &str| gguf.dims(name).is_some();
        for layer in 0..spec.layers.len() {
            let mut add = |name: &str, inputs: usize, parts: &[(Slot, usize)]| {
                let mut outputs = 0;
                let parts = parts.iter().map(|(slot, len)| {
                    outputs += len;
                    (Some((layer, *slot)), outputs - len, *len)
                });
                let parts = parts.collect();
                places.insert(format!("blk.{layer}.{name}.weight"), Place { outputs, inputs, parts });
            };
            match has(&format!("blk.{layer}.attn_qkv.weight")) {
                true => add("attn_qkv", hidden, &[(Slot::Q, wide), (Slot::K, narrow), (Slot::V, narrow)]),
                false => {
                    add("attn_q", hidden, &[(Slot::Q, wide)]);
                    add("attn_k", hidden, &[(Slot::K, narrow)]);
                    add("attn_v", hidden, &[(Slot::V, narrow)]);
                }
            }
            add("attn_output", wide, &[(Slot::Out, hidden)]);
            if spec.experts.is_some() {
                continue;
            }
            match has(&format!("blk.{layer}.ffn_gate.weight")) {
                true => {
                    add("ffn_gate", hidden, &[(Slot::Gate, ffn)]);
                    add("ffn_up", hidden, &[(Slot::Up, ffn)]);
                }
                false => add("ffn_up", hidden, &[(Slot::Gate, ffn), (Slot::Up, ffn)]),
            }
            add("ffn_down", ffn, &[(Slot::Down, hidden)]);
        }
        if !spec.tied_head {
            let head = Place { outputs: spec.vocab, inputs: hidden, parts: vec![(None, 0, spec.vocab)] };
            places.insert("output.weight".into(), head);
        }
        let architecture = gguf.need_text("general.architecture")?.to_string();
        Ok(Self { file: gguf.file().to_string(), architecture, layers: spec.layers.len(), places })
    }

    /// # Errors
    /// Where the adapter was made for another model: what it has that this one has not.
    pub fn check(&self, adapter: &AdapterFile) -> Result<(), ModelError> {
        let gguf = &adapter.gguf;
        if adapter.architecture != self.architecture {
            return Err(gguf.error(format!(
                "is an adapter for the architecture `{}`; the model {} is `{}`",
                printable(&adapter.architecture),
                self.file,
                self.architecture
            )));
        }
        for base in adapter.pairs.keys() {
            let shown = printable(base);
            let Some(place) = self.places.get(base) else {
                return Err(gguf.error(format!(
                    "changes `{shown}`, and the model {} has no such matrix that an adapter could change: the adapter was \
                     made for another model",
                    self.file
                )));
            };
            let end = |part: &str, which: usize| gguf.dims(&format!("{base}.{part}")).map_or(0, |dims| dims[which]);
            let (outputs, inputs) = (end("lora_b", 0), end("lora_a", 1));
            if (outputs, inputs) != (place.outputs, place.inputs) {
                return Err(gguf.error(format!(
                    "changes `{shown}` as a matrix of {inputs} to {outputs}; in the model {} it is {} to {}: the adapter \
                     was made for another model",
                    self.file, place.inputs, place.outputs
                )));
            }
        }
        Ok(())
    }
}

/// Takes adapters to the backend that runs a model. Blocking; may be called from any thread.
pub trait ReadAdapters: Send + Sync {
    /// `scale` comes on top of the file's own (1: as it was trained).
    ///
    /// # Errors
    /// As [`AdapterBase::check`], a scale that is not a number, or a failure of the backend.
    fn read(&self, file: &AdapterFile, scale: f32) -> Result<Adapter, ModelError>;
}

/// [`ReadAdapters`] of one backend.
pub(super) struct AdapterReader<B: Backend> {
    pub backend: Arc<B>,
    pub base: AdapterBase,
}

impl<B: Backend> ReadAdapters for AdapterReader<B> {
    fn read(&self, file: &AdapterFile, scale: f32) -> Result<Adapter, ModelError> {
        let AdapterFile { gguf, alpha, pairs, .. } = file;
        self.base.check(file)?;
        if !scale.is_finite() {
            return Err(gguf.error(format!("is to be used with the scale {scale}, which is not a number")));
        }
        let mut weights: AdapterWeights<B> = AdapterWeights {
            layers: (0..self.base.layers).map(|_| [const { None }; Slot::ALL.len()]).collect(),
            head: None,
        };
        let mut bytes = 0;
        for (base, rank) in pairs {
            let (a, b) = (format!("{base}.lora_a"), format!("{base}.lora_b"));
            let Some(Place { outputs, inputs, parts }) = self.base.places.get(base) else { continue };
            let scale = if *alpha == 0.0 { scale } else { scale * alpha / *rank as f32 };
            for (place, first, len) in parts {
                let matrices = (gguf.matrix(&a, *rank, *inputs)?, gguf.rows(&b, *outputs, *rank, *first, *len)?);
                let product = self.backend.low_rank(&matrices.0, &matrices.1, scale)?;
                bytes += self.backend.low_rank_bytes(&product);
                match place {
                    Some((layer, slot)) => weights.layers[*layer][*slot as usize] = Some(product),
                    None => weights.head = Some(product),
                }
            }
            gguf.give_back(&a);
            gguf.give_back(&b);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(gguf.content_hash().as_bytes()).update(&scale.to_le_bytes());
        let (file, key) = (gguf.file().to_string(), *hasher.finalize().as_bytes());
        Ok(Adapter(Arc::new(Loaded { file, key, bytes, weights: Box::new(weights) })))
    }
}
