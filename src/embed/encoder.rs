//! The BERT encoder over candle tensors: post-norm layers, absolute positions (Devlin et al., arXiv:1810.04805).

use std::path::Path;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Result, Tensor};
use safetensors::SafeTensors;

use super::EmbedError;
use super::folder::{EncoderConfig, fault};
use super::gelu::AddBias;

struct Norm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        candle_nn::ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

struct Linear {
    /// `[in, out]`: a view of the file's `[out, in]`.
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn forward(&self, x: &Tensor, gelu: bool) -> Result<Tensor> {
        AddBias { gelu }.apply(x.matmul(&self.weight)?, &self.bias)
    }
}

struct Layer {
    /// Query, key and value in one product; the query is scaled by 1/sqrt(head width) beforehand.
    qkv: Linear,
    attention_out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    out_norm: Norm,
}

/// Weights in f32, ready to run.
pub(super) struct Encoder {
    words: Tensor,
    /// Positions with the type embedding of a single text added.
    positions: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
    heads: usize,
    hidden: usize,
    device: Device,
}

/// One batch of token ids, padded to the longest.
pub(super) struct Batch<'a> {
    pub ids: &'a [&'a [u32]],
    pub pad: u32,
}

impl Encoder {
    /// Takes the weights out of a safetensors file's bytes.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape than `config.json` says.
    pub fn load(
        path: &Path,
        bytes: &[u8],
        config: &EncoderConfig,
        device: &Device,
    ) -> std::result::Result<Self, EmbedError> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| {
            let reason = format!("is not a whole safetensors file ({e:?}; {} bytes); fetch it again", bytes.len());
            fault(path, &reason)
        })?;
        let names = file.names();
        let prefix = ["", "bert.", "roberta.", "model."]
            .into_iter()
            .find(|prefix| names.iter().any(|name| **name == *format!("{prefix}embeddings.word_embeddings.weight")))
            .ok_or_else(|| {
                fault(path, "has no tensor `embeddings.word_embeddings.weight`: not a BERT-family encoder")
            })?;
        let weights = Weights { path, file: &file, prefix, device };
        weights.encoder(config)
    }

    /// Token vectors `[texts, longest, hidden]`; rows of padding hold nothing of use.
    pub fn forward(&self, batch: &Batch<'_>) -> Result<Tensor> {
        let texts = batch.ids.len();
        let longest = batch.ids.iter().map(|ids| ids.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(texts * longest);
        for text in batch.ids {
            ids.extend_from_slice(text);
            ids.resize(ids.len() + longest - text.len(), batch.pad);
        }
        let ids = Tensor::from_vec(ids, texts * longest, &self.device)?;
        let words = self.words.index_select(&ids, 0)?.reshape((texts, longest, self.hidden))?;
        let x = words.broadcast_add(&self.positions.narrow(0, 0, longest)?)?;
        let mut x = self.norm.forward(&x.reshape((texts * longest, self.hidden))?)?;
        let mask = self.mask(batch, longest)?;
        for layer in &self.layers {
            let attended = self.attention(layer, &x, texts, longest, mask.as_ref())?;
            x = layer.attention_norm.forward(&(layer.attention_out.forward(&attended, false)? + x)?)?;
            let wide = layer.up.forward(&x, true)?;
            x = layer.out_norm.forward(&(layer.down.forward(&wide, false)? + x)?)?;
        }
        x.reshape((texts, longest, self.hidden))
    }

    fn attention(
        &self,
        layer: &Layer,
        x: &Tensor,
        texts: usize,
        longest: usize,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let width = self.hidden / self.heads;
        let qkv = layer.qkv.forward(x, false)?.reshape((texts, longest, 3, self.heads, width))?;
        let part = |n: usize| qkv.narrow(2, n, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let mut scores = q.matmul(&k.transpose(2, 3)?)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        let probabilities = candle_nn::ops::softmax_last_dim(&scores)?;
        probabilities.matmul(&v)?.transpose(1, 2)?.reshape((texts * longest, self.hidden))
    }

    /// 0 over tokens, a large negative number over padding: `[texts, 1, 1, longest]`. `None` where nothing is padded.
    fn mask(&self, batch: &Batch<'_>, longest: usize) -> Result<Option<Tensor>> {
        if batch.ids.iter().all(|ids| ids.len() == longest) {
            return Ok(None);
        }
        let row = |ids: &&[u32]| (0..longest).map(|at| if at < ids.len() { 0.0 } else { f32::MIN }).collect::<Vec<_>>();
        let mask: Vec<f32> = batch.ids.iter().flat_map(row).collect();
        Tensor::from_vec(mask, (batch.ids.len(), 1, 1, longest), &self.device).map(Some)
    }
}

struct Weights<'a> {
    path: &'a Path,
    file: &'a SafeTensors<'a>,
    prefix: &'a str,
    device: &'a Device,
}

impl Weights<'_> {
    fn encoder(&self, config: &EncoderConfig) -> std::result::Result<Encoder, EmbedError> {
        let hidden = config.hidden_size;
        let types = self.any_rows("embeddings.token_type_embeddings.weight", hidden)?;
        let positions =
            self.tensor("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?;
        let first = config.first_position();
        let positions = positions
            .narrow(0, first, config.max_position_embeddings - first)
            .and_then(|p| p.broadcast_add(&types.narrow(0, 0, 1)?))
            .map_err(|e| EmbedError::Compute(e.to_string()))?;
        Ok(Encoder {
            words: self.tensor("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?,
            positions,
            norm: self.norm("embeddings.LayerNorm", config)?,
            layers: (0..config.num_hidden_layers)
                .map(|n| self.layer(n, config))
                .collect::<std::result::Result<_, _>>()?,
            heads: config.num_attention_heads,
            hidden,
            device: self.device.clone(),
        })
    }

    fn layer(&self, n: usize, config: &EncoderConfig) -> std::result::Result<Layer, EmbedError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let at = |name: &str| format!("encoder.layer.{n}.{name}");
        let scale = 1.0 / ((hidden / config.num_attention_heads) as f64).sqrt();
        let stacked = |kind: &str, shape: &[usize]| {
            let part = |name: &str| self.tensor(&at(&format!("attention.self.{name}.{kind}")), shape);
            let (q, k, v) = (part("query")?, part("key")?, part("value")?);
            (q * scale).and_then(|q| Tensor::cat(&[q, k, v], 0)).map_err(|e| EmbedError::Compute(e.to_string()))
        };
        let qkv = Linear {
            weight: stacked("weight", &[hidden, hidden])?.t().map_err(|e| EmbedError::Compute(e.to_string()))?,
            bias: stacked("bias", &[hidden])?,
        };
        Ok(Layer {
            qkv,
            attention_out: self.linear(&at("attention.output.dense"), hidden, hidden)?,
            attention_norm: self.norm(&at("attention.output.LayerNorm"), config)?,
            up: self.linear(&at("intermediate.dense"), hidden, wide)?,
            down: self.linear(&at("output.dense"), wide, hidden)?,
            out_norm: self.norm(&at("output.LayerNorm"), config)?,
        })
    }

    fn linear(&self, name: &str, inputs: usize, outputs: usize) -> std::result::Result<Linear, EmbedError> {
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs])?;
        Ok(Linear {
            weight: weight.t().map_err(|e| EmbedError::Compute(e.to_string()))?,
            bias: self.tensor(&format!("{name}.bias"), &[outputs])?,
        })
    }

    fn norm(&self, name: &str, config: &EncoderConfig) -> std::result::Result<Norm, EmbedError> {
        Ok(Norm {
            weight: self.tensor(&format!("{name}.weight"), &[config.hidden_size])?,
            bias: self.tensor(&format!("{name}.bias"), &[config.hidden_size])?,
            eps: config.layer_norm_eps as f32,
        })
    }

    fn any_rows(&self, name: &str, columns: usize) -> std::result::Result<Tensor, EmbedError> {
        let rows = self.view(name)?.shape().first().copied().unwrap_or(0).max(1);
        self.tensor(name, &[rows, columns])
    }

    fn view(&self, name: &str) -> std::result::Result<safetensors::tensor::TensorView<'_>, EmbedError> {
        let full = format!("{}{name}", self.prefix);
        self.file.tensor(&full).map_err(|_| fault(self.path, &format!("the tensor `{full}` is missing")))
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> std::result::Result<Tensor, EmbedError> {
        let view = self.view(name)?;
        if view.shape() != shape {
            let reason =
                format!("the tensor `{name}` has the shape {:?}; config.json asks for {shape:?}", view.shape());
            return Err(fault(self.path, &reason));
        }
        let tensor = view.load(self.device).and_then(|t| t.to_dtype(DType::F32));
        tensor.map_err(|e| fault(self.path, &format!("the tensor `{name}` cannot be read: {e}")))
    }
}
