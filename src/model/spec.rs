//! What kind of transformer a file holds.

use super::ModelError;
use super::gguf::Gguf;
use crate::compute::{AttentionShape, Rope, RopeKind};

/// Dense decoder families that the forward pass knows. They differ in which optional parts their files have (biases,
/// norms of queries and keys) and in the rotation's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama and Mistral.
    Llama,
    Qwen2,
    Qwen3,
}

impl Architecture {
    const ALL: [(&'static str, Self); 3] = [("llama", Self::Llama), ("qwen2", Self::Qwen2), ("qwen3", Self::Qwen3)];

    fn rope_kind(self) -> RopeKind {
        match self {
            // The converter permutes llama's query and key weights so that pairs are neighbours.
            Self::Llama => RopeKind::Interleaved,
            Self::Qwen2 | Self::Qwen3 => RopeKind::Halves,
        }
    }
}

/// A decoder's shape, read from a file's metadata and list of tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    pub architecture: Architecture,
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the gated MLP.
    pub ffn: usize,
    pub attention: AttentionShape,
    /// Rows of the embedding table and of the head (may be padded beyond the tokenizer's tokens).
    pub vocab: usize,
    /// Longest sequence that the model was trained for, in tokens.
    pub context: usize,
    /// Added to the mean square in RMS norms.
    pub norm_eps: f32,
    pub rope: Rope,
    /// True where each head of queries and keys is normalised before rotation.
    pub qk_norm: bool,
    /// True where the head is the embedding table.
    pub tied_head: bool,
}

/// Shapes beyond these are a damaged file, not a model.
const MOST: usize = 1 << 24;

impl ModelSpec {
    /// Reads the shape of the model in `gguf`.
    ///
    /// # Errors
    /// An unknown architecture, missing or contradictory metadata, a kind of rotation or layer that is not built.
    pub fn read(gguf: &Gguf) -> Result<Self, ModelError> {
        let name = gguf.need_text("general.architecture")?;
        let Some((_, architecture)) = Architecture::ALL.into_iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = Architecture::ALL.iter().map(|(known, _)| *known).collect();
            return Err(gguf.error(format!(
                "the architecture `{}` is not supported; supported are {}",
                super::gguf::printable(name),
                known.join(", ")
            )));
        };
        let key = |rest: &str| format!("{name}.{rest}");
        let size = |rest: &str| -> Result<usize, ModelError> {
            let key = key(rest);
            match gguf.need_count(&key)? {
                n if (1..=MOST).contains(&n) => Ok(n),
                n => Err(gguf.error(format!("`{key}` is {n}; it must be between 1 and {MOST}"))),
            }
        };
        if gguf.count(&key("expert_count"))?.unwrap_or(0) > 0 {
            return Err(gguf.error("mixtures of experts are not supported"));
        }
        let layers = size("block_count")?;
        let hidden = size("embedding_length")?;
        let attention = read_attention(gguf, name, hidden)?;
        let Some(&[vocab, _]) = gguf.dims("token_embd.weight") else {
            return Err(gguf.error("tensor `token_embd.weight` is missing or not a matrix"));
        };
        let rope = read_rope(gguf, name, architecture, attention.head_dim)?;
        let eps_key = key("attention.layer_norm_rms_epsilon");
        let norm_eps = gguf.need_number(&eps_key)?;
        if !(0.0..1.0).contains(&norm_eps) {
            return Err(gguf.error(format!("`{eps_key}` is {norm_eps}; it must be between 0 and 1")));
        }
        let mut context = size("context_length")?;
        // Early Mistral models see a sliding window only. Within one window both are the same computation.
        if let Some(window) = gguf.count(&key("attention.sliding_window"))?.filter(|window| *window > 0) {
            context = context.min(window);
        }
        Ok(Self {
            architecture,
            layers,
            hidden,
            ffn: size("feed_forward_length")?,
            attention,
            vocab,
            context,
            norm_eps: norm_eps as f32,
            rope,
            qk_norm: gguf.dims("blk.0.attn_q_norm.weight").is_some(),
            tied_head: gguf.dims("output.weight").is_none(),
        })
    }
}

fn read_attention(gguf: &Gguf, name: &str, hidden: usize) -> Result<AttentionShape, ModelError> {
    let (heads_key, kv_key) = (format!("{name}.attention.head_count"), format!("{name}.attention.head_count_kv"));
    let heads = gguf.need_count(&heads_key)?;
    let kv_heads = gguf.count(&kv_key)?.unwrap_or(heads);
    if heads == 0 || kv_heads == 0 || heads > 4096 || heads % kv_heads != 0 {
        return Err(gguf.error(format!("`{heads_key}` is {heads}, which is not a multiple of `{kv_key}`, {kv_heads}")));
    }
    let key_len = gguf.count(&format!("{name}.attention.key_length"))?;
    let value_len = gguf.count(&format!("{name}.attention.value_length"))?;
    let head_dim = match key_len {
        Some(len) => len,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(gguf.error(format!("the width {hidden} does not divide into {heads} heads"))),
    };
    if value_len.is_some_and(|len| len != head_dim) {
        return Err(gguf.error("keys and values of different sizes are not supported"));
    }
    if head_dim < 2 || head_dim > 1024 {
        return Err(gguf.error(format!("heads of {head_dim} numbers are not supported (2 to 1024 are)")));
    }
    Ok(AttentionShape { heads, kv_heads, head_dim })
}

fn read_rope(gguf: &Gguf, name: &str, architecture: Architecture, head_dim: usize) -> Result<Rope, ModelError> {
    let key = |rest: &str| format!("{name}.rope.{rest}");
    let dims = gguf.count(&key("dimension_count"))?.unwrap_or(head_dim);
    if dims < 2 || dims > head_dim || dims % 2 != 0 {
        return Err(gguf.error(format!("`{}` is {dims}, in heads of {head_dim} numbers", key("dimension_count"))));
    }
    let base = gguf.number(&key("freq_base"))?.unwrap_or(10_000.0);
    if !(base.is_finite() && base > 1.0) {
        return Err(gguf.error(format!("`{}` is {base}; it must be above 1", key("freq_base"))));
    }
    let factor = match gguf.number(&key("scaling.factor"))? {
        Some(factor) => Some(factor),
        None => gguf.number(&key("scale_linear"))?,
    };
    let linear = match (gguf.text(&key("scaling.type"))?, factor) {
        (Some("none"), _) | (_, None) => 1.0,
        (None | Some("linear"), Some(factor)) if factor.is_finite() && factor > 0.0 => factor,
        (None | Some("linear"), Some(factor)) => {
            return Err(gguf.error(format!("`{}` is {factor}; it must be above 0", key("scaling.factor"))));
        }
        (Some(kind), _) => {
            return Err(gguf.error(format!(
                "rope scaling of the kind `{}` is not supported; none, linear and llama3 are",
                super::gguf::printable(kind)
            )));
        }
    };
    // Llama 3's scaling is a table of divisors, one for each frequency, which the converter has computed.
    let table = match gguf.dims("rope_freqs.weight") {
        None => None,
        Some(_) => {
            let table = gguf.vector("rope_freqs.weight", dims / 2)?;
            let factors: Vec<f64> = match table.format {
                crate::compute::Format::F32 => {
                    table.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f64).collect()
                }
                _ => return Err(gguf.error("tensor `rope_freqs.weight` is not F32")),
            };
            if factors.iter().any(|f| !(f.is_finite() && *f > 0.0)) {
                return Err(gguf.error("tensor `rope_freqs.weight` holds a factor that is not above 0"));
            }
            Some(factors)
        }
    };
    Ok(Rope::new(architecture.rope_kind(), dims, base, |i| linear * table.as_ref().map_or(1.0, |t| t[i])))
}
