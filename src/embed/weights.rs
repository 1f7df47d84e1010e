//! Takes an encoder's weights out of a safetensors file, or a GGUF file.

use std::path::Path;

use candle_core::safetensors::Load;
use candle_core::{DType, Device};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::EmbedError;
use super::encoder::{Encoder, Layer, Mlp};
use super::folder::{EncoderConfig, fault};
use super::gguf::tensor_name;
use super::pooling::Pooling;
use crate::compute::encoder::{AttendShape, Dense, Gate, LayerNorm, Precision, add_norm, gate_with};
use crate::compute::widened;
use crate::model::Gguf;

/// Reads and packs the weights.
///
/// # Errors
/// Names the tensor that is missing or has another shape than `config.json` says.
pub(super) fn load(
    path: &Path,
    bytes: &[u8],
    config: &EncoderConfig,
    precision: Precision,
) -> Result<Encoder, EmbedError> {
    with_weights(path, bytes, precision, |weights| weights.encoder(config))
}

/// An encoder and the head of a cross-encoder, which makes one score of the first token's vector.
///
/// # Errors
/// As [`load`]; where there is no such head, or it gives more than one score.
pub(super) fn load_with_head(
    path: &Path,
    bytes: &[u8],
    config: &EncoderConfig,
    precision: Precision,
) -> Result<(Encoder, Head), EmbedError> {
    with_weights(path, bytes, precision, |weights| Ok((weights.encoder(config)?, weights.head(config)?)))
}

fn with_weights<T>(
    path: &Path,
    bytes: &[u8],
    precision: Precision,
    read: impl FnOnce(Weights<'_>) -> Result<T, EmbedError>,
) -> Result<T, EmbedError> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| {
        let reason = format!("is not a whole safetensors file ({e:?}; {} bytes); fetch it again", bytes.len());
        fault(path, &reason)
    })?;
    let names = file.names();
    let words = ["embeddings.word_embeddings.weight", "embeddings.tok_embeddings.weight"];
    let holds = |prefix: &str| names.iter().any(|name| name.strip_prefix(prefix).is_some_and(|n| words.contains(&n)));
    let prefix = ["", "bert.", "roberta.", "model.", "nomic_bert."]
        .into_iter()
        .find(|prefix| holds(prefix))
        .ok_or_else(|| fault(path, "has no tensor `embeddings.word_embeddings.weight`: not a BERT-family encoder"))?;
    read(Weights {
        path,
        tensors: Tensors::Safetensors(&file, prefix),
        precision: precision.available(),
        biasless: false,
    })
}

/// The same from a GGUF file.
///
/// # Errors
/// As [`load`].
pub(super) fn load_gguf(
    path: &Path,
    gguf: &Gguf,
    config: &EncoderConfig,
    precision: Precision,
) -> Result<Encoder, EmbedError> {
    Weights { path, tensors: Tensors::Gguf(gguf), precision: precision.available(), biasless: false }.encoder(config)
}

/// The same with the head of a reranker.
///
/// # Errors
/// As [`load_with_head`].
pub(super) fn load_gguf_with_head(
    path: &Path,
    gguf: &Gguf,
    config: &EncoderConfig,
    precision: Precision,
) -> Result<(Encoder, Head), EmbedError> {
    let weights = Weights { path, tensors: Tensors::Gguf(gguf), precision: precision.available(), biasless: false };
    Ok((weights.encoder(config)?, weights.head(config)?))
}

/// A dense layer with tanh, then one score (the pooler and classifier of BERT, the classification head of RoBERTa); or
/// with GELU and a norm (ModernBERT).
pub(super) struct Head {
    pooling: Pooling,
    /// `[hidden][hidden]`
    dense: Vec<f32>,
    dense_bias: Vec<f32>,
    /// ModernBERT's.
    norm: Option<LayerNorm>,
    /// `[hidden]`
    score: Vec<f32>,
    score_bias: f32,
}

impl Head {
    /// The score of a text from its tokens' vectors.
    pub fn score(&self, tokens: &[f32]) -> f32 {
        let width = self.score.len();
        let text = self.pooling.pool(tokens, width);
        let dot = |row: &[f32]| row.iter().zip(&text).map(|(w, x)| w * x).sum::<f32>();
        let rows = self.dense.chunks_exact(width).zip(&self.dense_bias);
        let mut hidden: Vec<f32> = rows.map(|(row, bias)| dot(row) + bias).collect();
        match &self.norm {
            Some(norm) => {
                gate_with(Gate::Gelu, &mut hidden, &vec![1.0; width], width);
                add_norm(&mut hidden, &vec![0.0; width], norm);
            }
            None => hidden.iter_mut().for_each(|x| *x = x.tanh()),
        }
        hidden.iter().zip(&self.score).map(|(x, w)| x * w).sum::<f32>() + self.score_bias
    }
}

/// A file's tensors, under the names of the family's own code.
pub(super) struct Weights<'a> {
    path: &'a Path,
    tensors: Tensors<'a>,
    pub precision: Precision,
    /// Layers may go without a bias.
    biasless: bool,
}

/// Where tensors are taken from.
#[derive(Clone, Copy)]
enum Tensors<'a> {
    /// With what stands before all names.
    Safetensors(&'a SafeTensors<'a>, &'a str),
    Gguf(&'a Gguf),
}

impl Tensors<'_> {
    /// A tensor's name in the file.
    fn named(&self, name: &str) -> String {
        match self {
            Self::Safetensors(_, prefix) => format!("{prefix}{name}"),
            Self::Gguf(_) => tensor_name(name),
        }
    }

    /// Its shape, outermost first; `None` where there is no such tensor.
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let name = self.named(name);
        match self {
            Self::Safetensors(file, _) => file.tensor(&name).ok().map(|view| view.shape().to_vec()),
            Self::Gguf(gguf) => gguf.dims(&name).map(<[usize]>::to_vec),
        }
    }

    /// Its numbers, row after row. `shape` is its own.
    fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let name = self.named(name);
        match self {
            Self::Safetensors(file, _) => {
                let view: TensorView<'_> = file.tensor(&name).map_err(|e| e.to_string())?;
                let numbers = view.load(&Device::Cpu).and_then(|t| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1());
                numbers.map_err(|e| e.to_string())
            }
            Self::Gguf(gguf) => {
                let packed = match shape {
                    [rows, cols] => gguf.matrix(&name, *rows, *cols),
                    _ => gguf.vector(&name, shape.iter().product()),
                };
                widened(&packed.map_err(|e| e.to_string())?).map_err(|e| e.to_string())
            }
        }
    }
}

impl Weights<'_> {
    fn encoder(&self, config: &EncoderConfig) -> Result<Encoder, EmbedError> {
        if let Some(rotary) = &config.rotary {
            return rotary.encoder(&Self { biasless: true, ..*self }, config);
        }
        let hidden = config.hidden_size;
        let types = "embeddings.token_type_embeddings.weight";
        let kinds = self.shape(types)?.first().copied().unwrap_or(0).max(1);
        let types = self.numbers(types, &[kinds, hidden])?;
        let second_type = match kinds {
            1 => Vec::new(),
            _ => types[hidden..2 * hidden].iter().zip(&types).map(|(second, first)| second - first).collect(),
        };
        let every = self.numbers("embeddings.position_embeddings.weight", &[config.max_position_embeddings, hidden])?;
        let mut positions = every[config.first_position() * hidden..].to_vec();
        for row in positions.chunks_exact_mut(hidden) {
            row.iter_mut().zip(&types).for_each(|(x, kind)| *x += kind);
        }
        let layers = (0..config.num_hidden_layers).map(|n| self.layer(n, config));
        Ok(Encoder {
            words: self.numbers("embeddings.word_embeddings.weight", &[config.vocab_size, hidden])?,
            positions,
            second_type,
            norm: self.norm("embeddings.LayerNorm", config)?,
            layers: layers.collect::<Result<_, _>>()?,
            last_norm: None,
            shape: AttendShape {
                heads: config.num_attention_heads,
                width: hidden / config.num_attention_heads,
                reach: None,
            },
            precision: self.precision,
            spaces: Default::default(),
        })
    }

    fn head(&self, config: &EncoderConfig) -> Result<Head, EmbedError> {
        let hidden = config.hidden_size;
        let modern = config.rotary.as_ref().map(|rotary| rotary.head.clone()).transpose();
        let modern = modern.map_err(|reason| fault(self.path, &reason))?;
        // The names of BERT, of RoBERTa, or of ModernBERT; llama.cpp has one for all.
        let (bare, dense, score) = match self.tensors {
            Tensors::Gguf(_) => {
                if self.tensors.shape("cls.weight").is_none() && self.tensors.shape("cls.output.weight").is_some() {
                    let reason = "the head's dense layer (`cls.weight`) is missing: llama.cpp's converter leaves it out for some \
                                  models, and scores would not be the model's own; use the folder of safetensors";
                    return Err(fault(self.path, reason));
                }
                (Weights { biasless: modern.is_some(), ..*self }, "cls".to_string(), "cls.output")
            }
            Tensors::Safetensors(file, prefix) => {
                let bare = Weights { tensors: Tensors::Safetensors(file, ""), biasless: modern.is_some(), ..*self };
                match bare.tensors.shape("classifier.out_proj.weight").is_some() {
                    true => (bare, "classifier.dense".to_string(), "classifier.out_proj"),
                    false if modern.is_some() => (bare, "head.dense".to_string(), "classifier"),
                    false => (bare, format!("{prefix}pooler.dense"), "classifier"),
                }
            }
        };
        if let Some(shape) = bare.tensors.shape(&format!("{score}.weight"))
            && shape.first() != Some(&1)
        {
            let scores = shape.first().copied().unwrap_or(0);
            let reason = format!("`{score}.weight` gives {scores} scores; a reranker gives one");
            return Err(fault(self.path, &reason));
        }
        let norm = if dense == "cls" { "cls.norm" } else { "head.norm" };
        Ok(Head {
            dense: bare.numbers(&format!("{dense}.weight"), &[hidden, hidden])?,
            dense_bias: bare.bias(&dense, hidden)?,
            norm: modern.is_some().then(|| bare.norm(norm, config)).transpose()?,
            pooling: modern.unwrap_or(Pooling::Cls),
            score: bare.numbers(&format!("{score}.weight"), &[1, hidden])?,
            score_bias: bare.bias(score, 1)?[0],
        })
    }

    fn layer(&self, n: usize, config: &EncoderConfig) -> Result<Layer, EmbedError> {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let at = |name: &str| format!("encoder.layer.{n}.{name}");
        let scale = 1.0 / ((hidden / config.num_attention_heads) as f32).sqrt();
        let stacked = |kind: &str, shape: &[usize]| -> Result<Vec<f32>, EmbedError> {
            let part = |name: &str| self.numbers(&at(&format!("attention.self.{name}.{kind}")), shape);
            let mut all = part("query")?;
            all.iter_mut().for_each(|x| *x *= scale);
            all.extend(part("key")?);
            all.extend(part("value")?);
            Ok(all)
        };
        let qkv = (stacked("weight", &[hidden, hidden])?, stacked("bias", &[hidden])?);
        Ok(Layer {
            qkv: Dense::pack(self.precision, hidden, &qkv.0, &qkv.1),
            rotation: None,
            reach: None,
            attention_out: self.dense(&at("attention.output.dense"), hidden, hidden)?,
            attention_norm: Some(self.norm(&at("attention.output.LayerNorm"), config)?),
            mlp: Mlp::Plain {
                up: self.dense(&at("intermediate.dense"), hidden, wide)?,
                down: self.dense(&at("output.dense"), wide, hidden)?,
            },
            mlp_norm: self.norm(&at("output.LayerNorm"), config)?,
        })
    }

    /// A dense layer, with or without a bias.
    pub fn dense(&self, name: &str, inputs: usize, outputs: usize) -> Result<Dense, EmbedError> {
        let weights = self.numbers(&format!("{name}.weight"), &[outputs, inputs])?;
        let bias = self.bias(name, outputs)?;
        Ok(Dense::pack(self.precision, inputs, &weights, &bias))
    }

    /// A norm, with or without a bias.
    pub fn norm(&self, name: &str, config: &EncoderConfig) -> Result<LayerNorm, EmbedError> {
        Ok(LayerNorm {
            weight: self.numbers(&format!("{name}.weight"), &[config.hidden_size])?,
            bias: self.bias(name, config.hidden_size)?,
            eps: config.layer_norm_eps as f32,
        })
    }

    /// A layer's bias; zeros where ModernBERT and nomic have none.
    pub fn bias(&self, name: &str, len: usize) -> Result<Vec<f32>, EmbedError> {
        let name = format!("{name}.bias");
        match self.biasless && self.has(&name).is_none() {
            true => Ok(vec![0.0; len]),
            false => self.numbers(&name, &[len]),
        }
    }

    /// A tensor's shape, where there is one of that name.
    pub fn has(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.shape(name)
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, EmbedError> {
        let missing = || fault(self.path, &format!("the tensor `{}` is missing", self.tensors.named(name)));
        self.tensors.shape(name).ok_or_else(missing)
    }

    /// A tensor's numbers, row after row.
    pub fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EmbedError> {
        let own = self.shape(name)?;
        if own != shape {
            let reason = format!("the tensor `{name}` has the shape {own:?}; the configuration asks for {shape:?}");
            return Err(fault(self.path, &reason));
        }
        let unreadable = |e: String| fault(self.path, &format!("the tensor `{name}` cannot be read: {e}"));
        self.tensors.numbers(name, shape).map_err(unreadable)
    }
}
