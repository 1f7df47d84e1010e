//! Encoders with rotary positions and gated MLPs: ModernBERT (its configuration: [`modern`](super::modern)) and nomic; their
//! weights.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::EmbedError;
use super::encoder::{Encoder, Layer, Mlp};
use super::folder::EncoderConfig;
use super::pooling::Pooling;
use super::weights::Weights;
use crate::compute::encoder::{AttendShape, Dense, Gate};
use crate::compute::{Rope, RopeKind, RopeRows};
use crate::model::{Gguf, ModelError};

/// What sets these encoders apart.
#[derive(Debug, Clone)]
pub(super) struct Rotary {
    pub(super) family: Family,
    pub(super) gate: Gate,
    /// Of every layer: the base of its angles, and how far a token sees to each side where that is not everything.
    pub(super) layers: Vec<(f32, Option<usize>)>,
    /// Of a ModernBERT's reranker, what its head takes in; or why there is none that is known.
    pub(super) head: Result<Pooling, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Norms before each part; activation and gate in one matrix.
    Modern,
    /// Norms behind each part.
    Nomic,
}

#[derive(Deserialize, Clone)]
pub(super) struct RopeConfig {
    #[serde(default)]
    pub rope_type: Option<String>,
    #[serde(default)]
    pub rope_theta: Option<f32>,
}

/// A file may claim any number of layers; [`Rotary::check`] refuses more.
pub(super) const MOST_LAYERS: usize = 1024;

/// nomic's `config.json`: that of its own code, or of transformers.
#[derive(Deserialize)]
struct NomicConfig {
    vocab_size: usize,
    #[serde(alias = "n_embd")]
    hidden_size: usize,
    #[serde(alias = "n_inner")]
    intermediate_size: Option<usize>,
    #[serde(alias = "n_layer")]
    num_hidden_layers: usize,
    #[serde(alias = "n_head")]
    num_attention_heads: usize,
    #[serde(alias = "n_positions")]
    max_position_embeddings: usize,
    #[serde(default)]
    max_trained_positions: Option<usize>,
    #[serde(alias = "layer_norm_epsilon")]
    layer_norm_eps: f64,
    #[serde(alias = "activation_function")]
    hidden_act: String,
    #[serde(default)]
    pad_token_id: Option<u32>,
    #[serde(default)]
    rotary_emb_base: Option<f32>,
    #[serde(default)]
    rotary_emb_fraction: Option<f32>,
    #[serde(default)]
    rope_parameters: Option<RopeConfig>,
    #[serde(default)]
    num_experts: Option<usize>,
    /// Switches that are off in every nomic embedder.
    #[serde(default)]
    prenorm: bool,
    #[serde(default)]
    use_rms_norm: bool,
    #[serde(default)]
    rotary_emb_interleaved: bool,
    #[serde(default)]
    parallel_block: bool,
    #[serde(default)]
    causal: bool,
}

/// # Errors
/// What is missing, or not known.
pub(super) fn nomic(json: Value) -> Result<EncoderConfig, String> {
    let config: NomicConfig = serde_json::from_value(json).map_err(|e| e.to_string())?;
    for (name, on) in [
        ("prenorm", config.prenorm),
        ("use_rms_norm", config.use_rms_norm),
        ("rotary_emb_interleaved", config.rotary_emb_interleaved),
        ("parallel_block", config.parallel_block),
        ("causal", config.causal),
        ("num_experts", config.num_experts.is_some_and(|experts| experts > 0)),
    ] {
        if on {
            return Err(format!("`{name}` is on, which is not supported"));
        }
    }
    if config.rotary_emb_fraction.is_some_and(|fraction| fraction != 1.0) {
        return Err("rotary_emb_fraction must be 1".into());
    }
    if !matches!(config.hidden_act.as_str(), "swiglu" | "silu") {
        return Err(format!("the activation is `{}`; `swiglu` is known", config.hidden_act));
    }
    let rope = config.rope_parameters.as_ref();
    if let Some(other) = rope.and_then(|rope| rope.rope_type.as_deref()).filter(|kind| *kind != "default") {
        return Err(format!("rope_type is `{other}`; only `default` is known for encoders"));
    }
    let theta = rope.and_then(|rope| rope.rope_theta).or(config.rotary_emb_base).unwrap_or(1000.0);
    let wide = config.intermediate_size.unwrap_or(4 * config.hidden_size);
    // Longer texts than it was trained with would need its angles stretched.
    let positions = config.max_position_embeddings.min(config.max_trained_positions.unwrap_or(usize::MAX));
    let shape = [config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads];
    Ok(Rotary::nomic(theta, config.num_hidden_layers).config(
        "nomic_bert",
        shape,
        wide,
        positions,
        config.layer_norm_eps,
        config.pad_token_id,
    ))
}

/// A GGUF file of nomic.
///
/// # Errors
/// What is missing.
pub(super) fn nomic_file(gguf: &Gguf) -> Result<EncoderConfig, ModelError> {
    let layers = gguf.need_count("nomic-bert.block_count")?;
    let theta = gguf.number("nomic-bert.rope.freq_base")?.unwrap_or(1000.0) as f32;
    let shape = [
        gguf.need_texts("tokenizer.ggml.tokens")?.len(),
        gguf.need_count("nomic-bert.embedding_length")?,
        layers,
        gguf.need_count("nomic-bert.attention.head_count")?,
    ];
    Ok(Rotary::nomic(theta, layers).config(
        "nomic_bert",
        shape,
        gguf.need_count("nomic-bert.feed_forward_length")?,
        gguf.need_count("nomic-bert.context_length")?,
        gguf.number("nomic-bert.attention.layer_norm_epsilon")?.unwrap_or(1e-12),
        gguf.count("tokenizer.ggml.padding_token_id")?.map(|id| id as u32),
    ))
}

impl Rotary {
    fn nomic(theta: f32, layers: usize) -> Self {
        Self {
            family: Family::Nomic,
            gate: Gate::Silu,
            layers: vec![(theta, None); layers.min(MOST_LAYERS)],
            head: Err("a reranker of the family `nomic_bert` is not supported".into()),
        }
    }

    pub(super) fn config(
        self,
        model_type: &str,
        [vocab_size, hidden_size, num_hidden_layers, num_attention_heads]: [usize; 4],
        intermediate_size: usize,
        max_position_embeddings: usize,
        layer_norm_eps: f64,
        pad_token_id: Option<u32>,
    ) -> EncoderConfig {
        EncoderConfig {
            model_type: model_type.into(),
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            hidden_act: "gelu".into(),
            max_position_embeddings,
            layer_norm_eps,
            pad_token_id,
            position_embedding_type: None,
            rotary: Some(self),
        }
    }

    /// # Errors
    /// Shapes that rotation cannot have.
    pub fn check(&self, layers: usize, width: usize, positions: usize) -> Result<(), String> {
        if self.layers.len() != layers {
            return Err(format!("num_hidden_layers is {layers}"));
        }
        if !width.is_multiple_of(2) {
            return Err(format!("heads of {width} numbers cannot be turned in pairs"));
        }
        if self.layers.iter().any(|(theta, _)| !(theta.is_finite() && *theta > 0.0)) {
            return Err("a rope theta must be a positive number".into());
        }
        match positions.checked_mul(width) {
            Some(numbers) if numbers <= 1 << 28 => Ok(()),
            _ => Err(format!("max_position_embeddings is {positions}")),
        }
    }

    /// Reads and packs the weights.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape.
    pub fn encoder(&self, weights: &Weights<'_>, config: &EncoderConfig) -> Result<Encoder, EmbedError> {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let shape = AttendShape { heads, width: hidden / heads, reach: None };
        let mut rotations: Vec<(f32, Arc<RopeRows>)> = Vec::new();
        let mut layers = Vec::new();
        for (n, (theta, reach)) in self.layers.iter().enumerate() {
            let known = rotations.iter().find(|(base, _)| base == theta).map(|(_, rotation)| rotation.clone());
            let rotation = known.unwrap_or_else(|| {
                let rope = Rope::new(RopeKind::Halves, shape.width, *theta as f64, |_| 1.0);
                let rotation = Arc::new(rope.rows(0..config.max_position_embeddings));
                rotations.push((*theta, rotation.clone()));
                rotation
            });
            layers.push(match self.family {
                Family::Modern => self.modern_layer(weights, n, config, rotation, *reach)?,
                Family::Nomic => self.nomic_layer(weights, n, config, rotation)?,
            });
        }
        let (mut words, norm, last_norm) = match self.family {
            Family::Modern => (
                weights.numbers("embeddings.tok_embeddings.weight", &[config.vocab_size, hidden])?,
                weights.norm("embeddings.norm", config)?,
                Some(weights.norm("final_norm", config)?),
            ),
            Family::Nomic => (
                weights.numbers("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?,
                weights.norm("emb_ln", config)?,
                None,
            ),
        };
        let types = "embeddings.token_type_embeddings.weight";
        if let Some(kinds) = weights.has(types).and_then(|shape| shape.first().copied()) {
            let types = weights.numbers(types, &[kinds, hidden])?;
            for row in words.chunks_exact_mut(hidden) {
                row.iter_mut().zip(&types).for_each(|(x, kind)| *x += kind);
            }
        }
        Ok(Encoder {
            words,
            positions: Vec::new(),
            second_type: Vec::new(),
            norm,
            layers,
            last_norm,
            shape,
            precision: weights.precision,
            spaces: Default::default(),
        })
    }

    fn modern_layer(
        &self,
        weights: &Weights<'_>,
        n: usize,
        config: &EncoderConfig,
        rotation: Arc<RopeRows>,
        reach: Option<usize>,
    ) -> Result<Layer, EmbedError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let at = |name: &str| format!("layers.{n}.{name}");
        // The first layer may go without: its input has just been normalised.
        let first = n == 0 && weights.has(&format!("{}.weight", at("attn_norm"))).is_none();
        let both = weights.numbers(&at("mlp.Wi.weight"), &[2 * wide, hidden])?;
        let bias = weights.bias(&at("mlp.Wi"), 2 * wide)?;
        let half = |from: usize| {
            let rows = from * wide..(from + 1) * wide;
            Dense::pack(weights.precision, hidden, &both[rows.start * hidden..rows.end * hidden], &bias[rows])
        };
        Ok(Layer {
            qkv: stacked(weights, &at("attn.Wqkv"), config)?,
            rotation: Some(rotation),
            reach,
            attention_out: weights.dense(&at("attn.Wo"), hidden, hidden)?,
            attention_norm: if first { None } else { Some(weights.norm(&at("attn_norm"), config)?) },
            mlp: Mlp::Gated {
                kind: self.gate,
                gate: half(0),
                up: half(1),
                down: weights.dense(&at("mlp.Wo"), wide, hidden)?,
                wide,
            },
            mlp_norm: weights.norm(&at("mlp_norm"), config)?,
        })
    }

    fn nomic_layer(
        &self,
        weights: &Weights<'_>,
        n: usize,
        config: &EncoderConfig,
        rotation: Arc<RopeRows>,
    ) -> Result<Layer, EmbedError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let at = |name: &str| format!("encoder.layers.{n}.{name}");
        Ok(Layer {
            qkv: stacked(weights, &at("attn.Wqkv"), config)?,
            rotation: Some(rotation),
            reach: None,
            attention_out: weights.dense(&at("attn.out_proj"), hidden, hidden)?,
            attention_norm: Some(weights.norm(&at("norm1"), config)?),
            mlp: Mlp::Gated {
                kind: self.gate,
                gate: weights.dense(&at("mlp.fc12"), hidden, wide)?,
                up: weights.dense(&at("mlp.fc11"), hidden, wide)?,
                down: weights.dense(&at("mlp.fc2"), wide, hidden)?,
                wide,
            },
            mlp_norm: weights.norm(&at("norm2"), config)?,
        })
    }
}

/// Query, key and value that lie in one matrix; the query is scaled by 1/sqrt(head width).
fn stacked(weights: &Weights<'_>, name: &str, config: &EncoderConfig) -> Result<Dense, EmbedError> {
    let hidden = config.hidden_size;
    let scale = 1.0 / ((hidden / config.num_attention_heads) as f32).sqrt();
    let mut all = weights.numbers(&format!("{name}.weight"), &[3 * hidden, hidden])?;
    let mut bias = weights.bias(name, 3 * hidden)?;
    all[..hidden * hidden].iter_mut().chain(&mut bias[..hidden]).for_each(|x| *x *= scale);
    Ok(Dense::pack(weights.precision, hidden, &all, &bias))
}

#[cfg(test)]
#[path = "rotary_tests.rs"]
pub(super) mod tests;
