//! What kind of transformer a file holds.

use super::ModelError;
use super::gguf::Gguf;
use super::scaling::{LongRope, RopeReader};
use crate::compute::{Activation, Attend, AttentionShape, Rope, RopeKind};

/// Decoder families that the forward pass knows. They differ in which optional parts their files have (biases, norms of
/// queries and keys), in the rotation's layout, and in what [`ModelSpec`] says of scales, windows and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama and Mistral.
    Llama,
    Qwen2,
    Qwen3,
    /// Qwen3 with a mixture of experts.
    Qwen3Moe,
    Gemma2,
    Gemma3,
    Phi3,
    Granite,
}

impl Architecture {
    const ALL: [(&'static str, Self); 8] = [
        ("llama", Self::Llama),
        ("qwen2", Self::Qwen2),
        ("qwen3", Self::Qwen3),
        ("qwen3moe", Self::Qwen3Moe),
        ("gemma2", Self::Gemma2),
        ("gemma3", Self::Gemma3),
        ("phi3", Self::Phi3),
        ("granite", Self::Granite),
    ];

    pub(super) fn rope_kind(self) -> RopeKind {
        match self {
            // The converter permutes these families' query and key weights so that pairs are neighbours.
            Self::Llama | Self::Granite => RopeKind::Interleaved,
            Self::Qwen2 | Self::Qwen3 | Self::Qwen3Moe | Self::Gemma2 | Self::Gemma3 | Self::Phi3 => RopeKind::Halves,
        }
    }

    fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }
}

/// A decoder's shape, read from a file's metadata and list of tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    pub architecture: Architecture,
    pub layers: Vec<LayerSpec>,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the gated MLP, or of one expert's.
    pub ffn: usize,
    pub experts: Option<ExpertShape>,
    pub activation: Activation,
    pub attention: AttentionShape,
    /// Rows of the embedding table and of the head (may be padded beyond the tokenizer's tokens).
    pub vocab: usize,
    /// Longest sequence that the model was trained for, in tokens.
    pub context: usize,
    /// Added to the mean square in RMS norms.
    pub norm_eps: f32,
    /// The rotations that layers name.
    pub ropes: Vec<Rope>,
    /// Takes the place of the first rotation where contexts are long.
    pub long_rope: Option<LongRope>,
    /// True where each head of queries and keys is normalised before rotation.
    pub qk_norm: bool,
    /// True where what attention and MLP computed is normalised before it joins the residual stream.
    pub post_norms: bool,
    /// True where the head is the embedding table.
    pub tied_head: bool,
    pub scales: Scales,
}

/// How one layer attends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpec {
    pub attend: Attend,
    /// Its rotation, an index into [`ModelSpec::ropes`].
    pub rope: usize,
}

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertShape {
    pub count: usize,
    /// Experts that each token goes to.
    pub used: usize,
}

/// Factors here and there, 1 in most families.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    pub embedding: f32,
    /// Of what attention and MLP computed, before it joins the residual stream.
    pub branch: f32,
    pub logits: f32,
    /// Logits become `cap * tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
}

/// Shapes beyond these are a damaged file, not a model.
const MOST: usize = 1 << 24;
const MOST_LAYERS: usize = 4096;
const MOST_EXPERTS: usize = 4096;

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
        let reader = Reader { gguf, name, architecture };
        let count = reader.size("block_count", MOST_LAYERS)?;
        let hidden = reader.size("embedding_length", MOST)?;
        let attention = reader.attention(hidden)?;
        let Some(&[vocab, _]) = gguf.dims("token_embd.weight") else {
            return Err(gguf.error("tensor `token_embd.weight` is missing or not a matrix"));
        };
        let norm_eps = match reader.number("attention.layer_norm_rms_epsilon")? {
            Some(eps) if (0.0..1.0).contains(&eps) => eps,
            eps => {
                let (key, eps) = (reader.key("attention.layer_norm_rms_epsilon"), eps.unwrap_or(f32::NAN));
                return Err(gguf.error(format!("`{key}` is {eps}; it must be between 0 and 1")));
            }
        };
        let mut context = reader.size("context_length", MOST)?;
        let rotations = RopeReader { gguf, name, architecture, head_dim: attention.head_dim, context };
        let (rope, long_rope) = rotations.read()?;
        let mut ropes = vec![rope];
        if architecture == Architecture::Gemma3 {
            ropes.push(rotations.windowed()?);
        }
        let windows = reader.windows(count)?;
        if matches!(architecture, Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Qwen3Moe) {
            // Their files may name a window that the model does not use. Within one window both are the same.
            context =
                gguf.count(&reader.key("attention.sliding_window"))?.filter(|w| *w > 0).unwrap_or(context).min(context);
        }
        let scale = reader.attention_scale(count, hidden, &attention)?;
        let softcap = match architecture {
            Architecture::Gemma2 => Some(reader.cap("attn_logit_softcapping")?.unwrap_or(50.0)),
            _ => None,
        };
        let layer = |window: Option<usize>| LayerSpec {
            attend: Attend { scale, window, softcap },
            rope: (window.is_some() && ropes.len() > 1) as usize,
        };
        let experts = reader.experts()?;
        let ffn = match experts {
            None => reader.size("feed_forward_length", MOST)?,
            Some(_) => reader.size("expert_feed_forward_length", MOST)?,
        };
        Ok(Self {
            architecture,
            layers: windows.into_iter().map(layer).collect(),
            hidden,
            ffn,
            experts,
            activation: if architecture.is_gemma() { Activation::Gelu } else { Activation::Silu },
            attention,
            vocab,
            context,
            norm_eps,
            ropes,
            long_rope,
            qk_norm: gguf.dims("blk.0.attn_q_norm.weight").is_some(),
            post_norms: architecture.is_gemma(),
            tied_head: gguf.dims("output.weight").is_none(),
            scales: reader.scales(hidden)?,
        })
    }

    /// The spec for sequences of at most `longest` tokens: LongRoPE's second table where they exceed the first one's.
    pub(super) fn for_sequences_of(mut self, longest: usize) -> Self {
        if let Some(long) = self.long_rope.take_if(|long| longest > long.beyond) {
            self.ropes[0] = long.rope;
        }
        self
    }
}

/// Reads the metadata of one architecture.
struct Reader<'a> {
    gguf: &'a Gguf,
    name: &'a str,
    architecture: Architecture,
}

impl Reader<'_> {
    fn key(&self, rest: &str) -> String {
        format!("{}.{rest}", self.name)
    }

    fn size(&self, rest: &str, most: usize) -> Result<usize, ModelError> {
        let key = self.key(rest);
        match self.gguf.need_count(&key)? {
            n if (1..=most).contains(&n) => Ok(n),
            n => Err(self.gguf.error(format!("`{key}` is {n}; it must be between 1 and {most}"))),
        }
    }

    fn number(&self, rest: &str) -> Result<Option<f32>, ModelError> {
        Ok(self.gguf.number(&self.key(rest))?.map(|x| x as f32))
    }

    /// A factor other than 0; `None` where there is none, or 0 stands for none.
    fn factor(&self, rest: &str) -> Result<Option<f32>, ModelError> {
        match self.number(rest)? {
            None | Some(0.0) => Ok(None),
            Some(x) if x.is_finite() && x.abs() < 1e6 => Ok(Some(x)),
            Some(x) => Err(self.gguf.error(format!("`{}` is {x}, which cannot be a factor", self.key(rest)))),
        }
    }

    fn cap(&self, rest: &str) -> Result<Option<f32>, ModelError> {
        match self.factor(rest)? {
            Some(cap) if cap < 1e-3 => Err(self.gguf.error(format!("`{}` is {cap}; a cap is above 0", self.key(rest)))),
            cap => Ok(cap),
        }
    }

    /// How many positions each layer sees.
    fn windows(&self, layers: usize) -> Result<Vec<Option<usize>>, ModelError> {
        let window = self.gguf.count(&self.key("attention.sliding_window"))?.filter(|window| *window > 0);
        let pattern = |every: usize| -> Result<Vec<Option<usize>>, ModelError> {
            let key = self.key("attention.sliding_window_pattern");
            // Either which layers have the window, or that every n-th has not.
            if let Some(flags) = self.gguf.flags(&key)? {
                if flags.len() < layers {
                    return Err(self.gguf.error(format!("`{key}` has {} entries for {layers} layers", flags.len())));
                }
                return Ok(flags[..layers].iter().map(|flag| window.filter(|_| *flag)).collect());
            }
            let every = self.gguf.count(&key)?.unwrap_or(every);
            Ok((0..layers).map(|i| window.filter(|_| every == 0 || i % every + 1 < every)).collect())
        };
        match self.architecture {
            // Early Mistral and Phi models: all layers.
            Architecture::Llama | Architecture::Phi3 => Ok(vec![window; layers]),
            Architecture::Gemma2 if window.is_none() => {
                Err(self.gguf.error(format!("`{}` is missing", self.key("attention.sliding_window"))))
            }
            Architecture::Gemma2 => pattern(2),
            Architecture::Gemma3 => pattern(6),
            Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Qwen3Moe | Architecture::Granite => {
                Ok(vec![None; layers])
            }
        }
    }

    fn attention_scale(&self, layers: usize, hidden: usize, shape: &AttentionShape) -> Result<f32, ModelError> {
        let of = |numbers: usize| 1.0 / (numbers as f32).sqrt();
        Ok(match (self.architecture, layers) {
            // The 27B models of both generations, which their files tell only by the number of layers.
            (Architecture::Gemma2, 46) | (Architecture::Gemma3, 62) => of(hidden / shape.heads),
            (Architecture::Granite, _) => self.factor("attention.scale")?.unwrap_or(of(shape.head_dim)),
            _ => of(shape.head_dim),
        })
    }

    fn scales(&self, hidden: usize) -> Result<Scales, ModelError> {
        let plain = Scales { embedding: 1.0, branch: 1.0, logits: 1.0, logit_cap: None };
        Ok(match self.architecture {
            Architecture::Gemma2 => Scales {
                embedding: (hidden as f32).sqrt(),
                logit_cap: Some(self.cap("final_logit_softcapping")?.unwrap_or(30.0)),
                ..plain
            },
            Architecture::Gemma3 => {
                Scales { embedding: (hidden as f32).sqrt(), logit_cap: self.cap("final_logit_softcapping")?, ..plain }
            }
            Architecture::Granite => Scales {
                embedding: self.factor("embedding_scale")?.unwrap_or(1.0),
                branch: self.factor("residual_scale")?.unwrap_or(1.0),
                // The file has the divisor.
                logits: 1.0 / self.factor("logit_scale")?.unwrap_or(1.0),
                logit_cap: None,
            },
            _ => plain,
        })
    }

    fn experts(&self) -> Result<Option<ExpertShape>, ModelError> {
        let count = self.gguf.count(&self.key("expert_count"))?.unwrap_or(0);
        if self.architecture != Architecture::Qwen3Moe {
            return match count {
                0 => Ok(None),
                _ => {
                    Err(self.gguf.error(format!("mixtures of experts of the `{}` family are not supported", self.name)))
                }
            };
        }
        let used = self.size("expert_used_count", MOST_EXPERTS)?;
        let count = self.size("expert_count", MOST_EXPERTS)?;
        if used > count {
            return Err(self.gguf.error(format!("`{}` is {used} of {count} experts", self.key("expert_used_count"))));
        }
        if self.factor("expert_weights_scale")?.is_some_and(|scale| scale != 1.0) {
            return Err(self.gguf.error("experts with a scale of their weights are not supported"));
        }
        Ok(Some(ExpertShape { count, used }))
    }

    fn attention(&self, hidden: usize) -> Result<AttentionShape, ModelError> {
        let Self { gguf, name, .. } = self;
        let (heads_key, kv_key) = (format!("{name}.attention.head_count"), format!("{name}.attention.head_count_kv"));
        let heads = gguf.need_count(&heads_key)?;
        let kv_heads = gguf.count(&kv_key)?.unwrap_or(heads);
        if heads == 0 || kv_heads == 0 || heads > 4096 || heads % kv_heads != 0 {
            return Err(
                gguf.error(format!("`{heads_key}` is {heads}, which is not a multiple of `{kv_key}`, {kv_heads}"))
            );
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
}
