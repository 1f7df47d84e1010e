//! ModernBERT's shape (Warner et al., arXiv:2412.13663): what `config.json` or a GGUF file says of it.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::folder::EncoderConfig;
use super::pooling::Pooling;
use super::rotary::{Family, MOST_LAYERS, RopeConfig, Rotary};
use crate::compute::encoder::Gate;
use crate::model::{Gguf, ModelError};

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// Every so many layers one sees everything, the first among them.
const FULL_EVERY: usize = 3;

/// ModernBERT's `config.json`, in the dialects of transformers 4 and 5.
#[derive(Deserialize)]
struct ModernConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    #[serde(default)]
    hidden_activation: Option<String>,
    max_position_embeddings: usize,
    #[serde(default)]
    norm_eps: Option<f64>,
    #[serde(default)]
    pad_token_id: Option<u32>,
    #[serde(default)]
    local_attention: Option<usize>,
    #[serde(default)]
    global_attn_every_n_layers: Option<usize>,
    #[serde(default)]
    layer_types: Option<Vec<String>>,
    #[serde(default)]
    rope_parameters: Option<HashMap<String, RopeConfig>>,
    #[serde(default)]
    rope_scaling: Option<Value>,
    #[serde(default)]
    global_rope_theta: Option<f32>,
    #[serde(default)]
    local_rope_theta: Option<f32>,
    #[serde(default)]
    classifier_pooling: Option<String>,
    #[serde(default)]
    classifier_activation: Option<String>,
}

/// # Errors
/// What is missing, or not known.
pub(super) fn of_folder(json: Value) -> Result<EncoderConfig, String> {
    let config: ModernConfig = serde_json::from_value(json).map_err(|e| e.to_string())?;
    if config.rope_scaling.is_some_and(|scaling| !scaling.is_null()) {
        return Err("rope_scaling is not supported for encoders".into());
    }
    let theta = |kind: &str, own: Option<f32>, default: f32| -> Result<f32, String> {
        let rope = config.rope_parameters.as_ref().and_then(|all| all.get(kind));
        if let Some(other) = rope.and_then(|rope| rope.rope_type.as_deref()).filter(|kind| *kind != "default") {
            return Err(format!("rope_type is `{other}`; only `default` is known for encoders"));
        }
        Ok(rope.and_then(|rope| rope.rope_theta).or(own).unwrap_or(default))
    };
    let global = theta(FULL, config.global_rope_theta, 160_000.0)?;
    let local = theta(SLIDING, config.local_rope_theta, 10_000.0)?;
    let every = config.global_attn_every_n_layers.unwrap_or(FULL_EVERY).max(1);
    let reach = config.local_attention.unwrap_or(128) / 2;
    let layers = (0..config.num_hidden_layers.min(MOST_LAYERS)).map(|n| {
        let sliding = match config.layer_types.as_ref().map(|types| types.get(n).map(String::as_str)) {
            None => n % every != 0,
            Some(Some(SLIDING)) => true,
            Some(Some(FULL)) => false,
            Some(other) => return Err(format!("layer_types has {other:?} for layer {n}")),
        };
        Ok(if sliding { (local, Some(reach)) } else { (global, None) })
    });
    let gate = match config.hidden_activation.as_deref().unwrap_or("gelu") {
        "gelu" => Gate::Gelu,
        "silu" => Gate::Silu,
        other => return Err(format!("hidden_activation is `{other}`; gelu and silu are known")),
    };
    let head = match (config.classifier_pooling.as_deref(), config.classifier_activation.as_deref()) {
        (_, Some(other)) if other != "gelu" => Err(format!("classifier_activation is `{other}`; gelu is known")),
        (None | Some("cls"), _) => Ok(Pooling::Cls),
        (Some("mean"), _) => Ok(Pooling::Mean),
        (Some(other), _) => Err(format!("classifier_pooling is `{other}`; cls and mean are known")),
    };
    let rotary = Rotary { family: Family::Modern, gate, layers: layers.collect::<Result<_, _>>()?, head };
    let shape = [config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads];
    let (wide, positions) = (config.intermediate_size, config.max_position_embeddings);
    Ok(rotary.config("modernbert", shape, wide, positions, config.norm_eps.unwrap_or(1e-5), config.pad_token_id))
}

/// A GGUF file. Rerankers among them take the mean of all tokens, as llama.cpp does.
///
/// # Errors
/// What is missing.
pub(super) fn of_file(gguf: &Gguf) -> Result<EncoderConfig, ModelError> {
    let key = |name: &str| format!("modern-bert.{name}");
    let layers = gguf.need_count(&key("block_count"))?;
    let global = gguf.number(&key("rope.freq_base"))?.unwrap_or(160_000.0) as f32;
    let local = gguf.number(&key("rope.freq_base_swa"))?.unwrap_or(10_000.0) as f32;
    let window = gguf.count(&key("attention.sliding_window"))?.filter(|window| *window > 0);
    let pattern = key("attention.sliding_window_pattern");
    let flags = gguf.flags(&pattern)?;
    let every = if flags.is_some() { None } else { gguf.count(&pattern)? }.unwrap_or(FULL_EVERY);
    let is_local = |n: usize| match &flags {
        Some(flags) => flags.get(n).copied().unwrap_or(false),
        None => every != 0 && !n.is_multiple_of(every),
    };
    let layer = |n: usize| match window.filter(|_| is_local(n)) {
        Some(window) => (local, Some(window / 2)),
        None => (global, None),
    };
    let rotary = Rotary {
        family: Family::Modern,
        gate: Gate::Gelu,
        layers: (0..layers.min(MOST_LAYERS)).map(layer).collect(),
        head: Ok(Pooling::Mean),
    };
    let shape = [
        gguf.need_texts("tokenizer.ggml.tokens")?.len(),
        gguf.need_count(&key("embedding_length"))?,
        layers,
        gguf.need_count(&key("attention.head_count"))?,
    ];
    Ok(rotary.config(
        "modernbert",
        shape,
        gguf.need_count(&key("feed_forward_length"))?,
        gguf.need_count(&key("context_length"))?,
        gguf.number(&key("attention.layer_norm_epsilon"))?.unwrap_or(1e-5),
        gguf.count("tokenizer.ggml.padding_token_id")?.map(|id| id as u32),
    ))
}
