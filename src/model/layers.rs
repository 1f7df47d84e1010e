//! A decoder's weights, taken from a file to a backend.

use std::collections::HashSet;

use super::ModelError;
use super::gguf::{Gguf, printable};
use super::spec::{ExpertShape, ModelSpec};
use crate::compute::{Backend, Experts, Gated, Join, Mlp, MlpKind, PackedMatrix};

/// One layer's weights.
pub(super) struct Layer<B: Backend> {
    pub norm: B::Norm,
    pub q: B::Linear,
    pub k: B::Linear,
    pub v: B::Linear,
    pub qk_norm: Option<[B::Norm; 2]>,
    pub out: B::Linear,
    pub join: Join<B>,
    pub mlp: Mlp<B>,
}

/// All weights.
pub(super) struct Weights<B: Backend> {
    pub table: B::Table,
    pub layers: Vec<Layer<B>>,
    pub norm: B::Norm,
    pub head: B::Linear,
}

impl<B: Backend> Weights<B> {
    /// Takes over all tensors of the file.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape, or has no place in this model.
    pub(super) fn load(backend: &B, gguf: &Gguf, spec: &ModelSpec) -> Result<Self, ModelError> {
        let mut reader = Reader { gguf, backend, eps: spec.norm_eps, used: HashSet::new() };
        let table_name = reader.used("token_embd.weight".into());
        let table = backend.table(&gguf.matrix(&table_name, spec.vocab, spec.hidden)?)?;
        gguf.give_back(&table_name);
        let layers = (0..spec.layers.len()).map(|number| reader.layer(number, spec)).collect::<Result<_, _>>()?;
        let norm = reader.norm("output_norm.weight".into(), spec.hidden)?;
        let head = match spec.tied_head {
            true => backend.tied_head(&table)?,
            false => reader.linear("output", spec.vocab, spec.hidden)?,
        };
        reader.nothing_left()?;
        Ok(Self { table, layers, norm, head })
    }
}

/// Takes tensors from a file to a backend, and remembers which.
struct Reader<'a, B: Backend> {
    gguf: &'a Gguf,
    backend: &'a B,
    eps: f32,
    used: HashSet<String>,
}

/// Tables of rotations, which belong to the spec.
const ROTATIONS: [&str; 3] = ["rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"];

impl<B: Backend> Reader<'_, B> {
    fn used(&mut self, name: String) -> String {
        self.used.insert(name.clone());
        name
    }

    fn norm(&mut self, name: String, len: usize) -> Result<B::Norm, ModelError> {
        let name = self.used(name);
        Ok(self.backend.norm(&self.gguf.vector(&name, len)?, self.eps)?)
    }

    /// A matrix `name.weight`, with `name.bias` where the file has one.
    fn linear(&mut self, name: &str, rows: usize, cols: usize) -> Result<B::Linear, ModelError> {
        self.part(name, rows, cols, 0, rows)
    }

    /// Rows `from..from + rows` of a matrix of `of` rows: some files hold several matrices as one.
    fn part(&mut self, name: &str, of: usize, cols: usize, from: usize, rows: usize) -> Result<B::Linear, ModelError> {
        let (weight, bias) = (self.used(format!("{name}.weight")), format!("{name}.bias"));
        let bias: Option<PackedMatrix<'_>> = match self.gguf.dims(&bias) {
            None => None,
            Some(_) => {
                self.used.insert(bias.clone());
                Some(self.gguf.vector_part(&bias, of, from, rows)?)
            }
        };
        let linear = self.backend.linear(&self.gguf.rows(&weight, of, cols, from, rows)?, bias.as_ref())?;
        if from + rows == of {
            self.gguf.give_back(&weight);
        }
        Ok(linear)
    }

    /// Queries, keys and values, each by itself or all in one matrix.
    fn qkv(&mut self, number: usize, spec: &ModelSpec) -> Result<[B::Linear; 3], ModelError> {
        let name = |part: &str| format!("blk.{number}.{part}");
        let (wide, narrow) =
            (spec.attention.heads * spec.attention.head_dim, spec.attention.kv_heads * spec.attention.head_dim);
        let hidden = spec.hidden;
        let fused = name("attn_qkv");
        if self.gguf.dims(&format!("{fused}.weight")).is_none() {
            return Ok([
                self.linear(&name("attn_q"), wide, hidden)?,
                self.linear(&name("attn_k"), narrow, hidden)?,
                self.linear(&name("attn_v"), narrow, hidden)?,
            ]);
        }
        let of = wide + 2 * narrow;
        Ok([
            self.part(&fused, of, hidden, 0, wide)?,
            self.part(&fused, of, hidden, wide, narrow)?,
            self.part(&fused, of, hidden, wide + narrow, narrow)?,
        ])
    }

    fn gated(&mut self, number: usize, spec: &ModelSpec) -> Result<Gated<B>, ModelError> {
        let name = |part: &str| format!("blk.{number}.{part}");
        let (gate, up, hidden, ffn) = (name("ffn_gate"), name("ffn_up"), spec.hidden, spec.ffn);
        let [gate, up] = match self.gguf.dims(&format!("{gate}.weight")) {
            Some(_) => [self.linear(&gate, ffn, hidden)?, self.linear(&up, ffn, hidden)?],
            // Phi's gate is the upper half of one matrix.
            None => [self.part(&up, 2 * ffn, hidden, 0, ffn)?, self.part(&up, 2 * ffn, hidden, ffn, ffn)?],
        };
        Ok(Gated { gate, up, down: self.linear(&name("ffn_down"), hidden, ffn)?, activation: spec.activation })
    }

    fn experts(&mut self, number: usize, spec: &ModelSpec, shape: ExpertShape) -> Result<Experts<B>, ModelError> {
        let router = self.linear(&format!("blk.{number}.ffn_gate_inp"), shape.count, spec.hidden)?;
        let [gates, ups, downs] =
            ["gate", "up", "down"].map(|part| self.used(format!("blk.{number}.ffn_{part}_exps.weight")));
        let mut all = Vec::new();
        for expert in 0..shape.count {
            let matrix = |name, rows, cols| -> Result<B::Linear, ModelError> {
                Ok(self.backend.linear(&self.gguf.matrix_of(name, shape.count, expert, rows, cols)?, None)?)
            };
            all.push(Gated {
                gate: matrix(&gates, spec.ffn, spec.hidden)?,
                up: matrix(&ups, spec.ffn, spec.hidden)?,
                down: matrix(&downs, spec.hidden, spec.ffn)?,
                activation: spec.activation,
            });
        }
        [gates, ups, downs].iter().for_each(|name| self.gguf.give_back(name));
        Ok(Experts { router, all, used: shape.used })
    }

    /// How a branch joins the residual stream; `norm` is its norm where this family has one.
    fn join(&mut self, norm: String, spec: &ModelSpec) -> Result<Join<B>, ModelError> {
        let norm = match spec.post_norms {
            true => Some(self.norm(norm, spec.hidden)?),
            false => None,
        };
        Ok(Join { norm, scale: spec.scales.branch })
    }

    fn layer(&mut self, number: usize, spec: &ModelSpec) -> Result<Layer<B>, ModelError> {
        let name = |part: &str| format!("blk.{number}.{part}");
        let (hidden, head_dim) = (spec.hidden, spec.attention.head_dim);
        let [q, k, v] = self.qkv(number, spec)?;
        Ok(Layer {
            norm: self.norm(name("attn_norm.weight"), hidden)?,
            q,
            k,
            v,
            qk_norm: match spec.qk_norm {
                true => Some([
                    self.norm(name("attn_q_norm.weight"), head_dim)?,
                    self.norm(name("attn_k_norm.weight"), head_dim)?,
                ]),
                false => None,
            },
            out: self.linear(&name("attn_output"), hidden, spec.attention.heads * head_dim)?,
            join: self.join(name("post_attention_norm.weight"), spec)?,
            mlp: Mlp {
                norm: self.norm(name("ffn_norm.weight"), hidden)?,
                kind: match spec.experts {
                    None => MlpKind::Gated(self.gated(number, spec)?),
                    Some(shape) => MlpKind::Experts(self.experts(number, spec, shape)?),
                },
                join: self.join(name("post_ffw_norm.weight"), spec)?,
            },
        })
    }

    /// A tensor that nothing has read belongs to a kind of model that this is not: refuse it, rather than compute
    /// something else.
    fn nothing_left(&self) -> Result<(), ModelError> {
        let left =
            self.gguf.tensor_names().filter(|name| !self.used.contains(*name) && !ROTATIONS.contains(name)).min();
        match left {
            None => Ok(()),
            Some(name) => Err(self
                .gguf
                .error(format!("tensor `{}` has no place in a model of this architecture", printable(name)))),
        }
    }
}
