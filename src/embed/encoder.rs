//! The forward pass of an encoder: BERT with absolute positions and norms behind each part (Devlin et al., arXiv:1810.04805),
//! nomic with rotary positions and a gated MLP (Nussbaum et al., arXiv:2402.01613), ModernBERT with norms before each part and
//! tokens that see only their neighbours in most layers (Warner et al., arXiv:2412.13663).
//!
//! Written over the operations of [`crate::compute::encoder`]. Texts are packed without padding: all tokens are rows of
//! one matrix, and only attention knows where one text ends.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::compute::RopeRows;
use crate::compute::encoder::{
    AttendShape, Dense, Gate, LayerNorm, Operand, Precision, Then, add_norm, attend, gate_with, rotate,
};

pub(super) struct Layer {
    /// Query, key and value in one product; the query is scaled by 1/sqrt(head width) beforehand.
    pub qkv: Dense,
    /// What turns queries and keys at every place, where positions are not added to words.
    pub rotation: Option<Arc<RopeRows>>,
    /// How far a token sees to each side; everything where this is `None`.
    pub reach: Option<usize>,
    pub attention_out: Dense,
    /// Behind attention; before it where [`Encoder::last_norm`] is there (none in ModernBERT's first layer).
    pub attention_norm: Option<LayerNorm>,
    pub mlp: Mlp,
    /// Behind the MLP; before it where [`Encoder::last_norm`] is there.
    pub mlp_norm: LayerNorm,
}

pub(super) enum Mlp {
    /// GELU between two products.
    Plain {
        up: Dense,
        down: Dense,
    },
    Gated {
        kind: Gate,
        gate: Dense,
        up: Dense,
        down: Dense,
        wide: usize,
    },
}

/// Weights, ready to run.
pub(super) struct Encoder {
    /// `[vocabulary][hidden]`
    pub words: Vec<f32>,
    /// `[positions][hidden]`, with the type embedding of a single text added. Empty where positions are rotary.
    pub positions: Vec<f32>,
    /// What the second text of a pair has in place of the first one's type embedding, as a difference: `[hidden]`.
    /// Empty where a model knows one type.
    pub second_type: Vec<f32>,
    pub norm: LayerNorm,
    pub layers: Vec<Layer>,
    /// Behind the last layer, where norms stand before each part.
    pub last_norm: Option<LayerNorm>,
    pub shape: AttendShape,
    pub precision: Precision,
    /// Working memory of earlier calls.
    pub spaces: Mutex<Vec<Space>>,
}

/// One text, or a pair of texts, as the encoder reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a> {
    /// Special tokens included.
    pub ids: &'a [u32],
    /// Where the second text of a pair begins; the length of `ids` where there is none.
    pub second_from: usize,
}

impl<'a> Input<'a> {
    pub fn single(ids: &'a [u32]) -> Self {
        Self { ids, second_from: ids.len() }
    }
}

/// Working memory of one call; all matrices have a row a token.
#[derive(Default)]
pub(super) struct Space {
    /// The stream between layers.
    x: Vec<f32>,
    /// Positions at first, then what is to be added to `x`.
    part: Vec<f32>,
    /// `x` behind a norm, where the stream itself goes on without.
    normed: Vec<f32>,
    /// What the next product reads.
    input: Operand,
    /// Queries, keys and values that are being turned.
    turned: Vec<f32>,
    qkv: Operand,
    attended: Operand,
    wide: Operand,
    /// The two halves of a gated MLP.
    gate: Vec<f32>,
    up: Vec<f32>,
}

impl Encoder {
    /// Width of a token's vector.
    pub fn hidden(&self) -> usize {
        self.shape.heads * self.shape.width
    }

    /// Runs whole texts and calls `each` with the number of a text and its tokens' vectors, `[tokens][hidden]`.
    ///
    /// Ids are within the vocabulary, texts no longer than the positions (the caller has checked).
    pub fn forward(&self, texts: &[Input<'_>], mut each: impl FnMut(usize, &[f32])) {
        let mut space = self.spaces.lock().pop().unwrap_or_default();
        let hidden = self.hidden();
        let rows: Vec<Range<usize>> = texts
            .iter()
            .scan(0, |next, text| {
                let from = *next;
                *next += text.ids.len();
                Some(from..*next)
            })
            .collect();
        self.embed(texts, &mut space);
        add_norm(&mut space.x, &space.part, &self.norm);
        space.part.fill(0.0);
        for layer in &self.layers {
            self.read(layer.attention_norm.as_ref(), &mut space);
            self.attention(layer, &rows, &mut space);
            self.add(layer.attention_norm.as_ref(), &mut space);
            self.read(Some(&layer.mlp_norm), &mut space);
            self.mlp(&layer.mlp, &mut space);
            self.add(Some(&layer.mlp_norm), &mut space);
        }
        if let Some(last) = &self.last_norm {
            add_norm(&mut space.x, &space.part, last);
        }
        for (text, rows) in rows.into_iter().enumerate() {
            each(text, &space.x[rows.start * hidden..rows.end * hidden]);
        }
        self.spaces.lock().push(space);
    }

    /// Before a part: makes the stream what its products read.
    fn read(&self, norm: Option<&LayerNorm>, space: &mut Space) {
        let Space { x, part, normed, input, .. } = space;
        if self.last_norm.is_none() {
            return input.take(self.precision, x, self.hidden());
        }
        normed.clone_from(x);
        x.iter_mut().zip(&*part).for_each(|(x, part)| *x += part);
        match norm {
            Some(norm) => add_norm(normed, part, norm),
            None => normed.copy_from_slice(x),
        }
        input.take(self.precision, normed, self.hidden());
    }

    /// Behind a part: adds it to the stream. Where norms stand before parts, the next one does that.
    fn add(&self, norm: Option<&LayerNorm>, space: &mut Space) {
        if let (None, Some(norm)) = (&self.last_norm, norm) {
            add_norm(&mut space.x, &space.part, norm);
        }
    }

    fn attention(&self, layer: &Layer, rows: &[Range<usize>], space: &mut Space) {
        let Space { x, part, input, turned, qkv, attended, .. } = space;
        match &layer.rotation {
            None => layer.qkv.product(input, Then::Nothing, qkv),
            Some(rotation) => {
                turned.resize(3 * x.len(), 0.0);
                layer.qkv.product_plain(input, turned);
                rotate(turned, rows, self.shape, rotation);
                // Attention reads what a product in this precision leaves behind.
                let form = if self.precision == Precision::Bf16 { Precision::Bf16 } else { Precision::F32 };
                qkv.take(form, turned, 3 * self.hidden());
            }
        }
        attend(qkv, rows, AttendShape { reach: layer.reach, ..self.shape }, attended);
        layer.attention_out.product_plain(attended, part);
    }

    fn mlp(&self, mlp: &Mlp, space: &mut Space) {
        let Space { x, part, input, wide, gate, up, .. } = space;
        match mlp {
            Mlp::Plain { up, down } => {
                up.product(input, Then::Gelu, wide);
                down.product_plain(wide, part);
            }
            Mlp::Gated { kind, gate: gate_weights, up: up_weights, down, wide: width } => {
                let numbers = x.len() / self.hidden() * width;
                gate.resize(numbers, 0.0);
                up.resize(numbers, 0.0);
                gate_weights.product_plain(input, gate);
                up_weights.product_plain(input, up);
                gate_with(*kind, gate, up, *width);
                wide.take(self.precision, gate, *width);
                down.product_plain(wide, part);
            }
        }
    }

    /// Looks the tokens up: words in `x`, positions in `part`.
    fn embed(&self, texts: &[Input<'_>], space: &mut Space) {
        let hidden = self.hidden();
        space.x.clear();
        space.part.clear();
        for text in texts {
            for id in text.ids {
                space.x.extend_from_slice(&self.words[*id as usize * hidden..][..hidden]);
            }
            if self.positions.is_empty() {
                space.part.resize(space.x.len(), 0.0);
                continue;
            }
            let first = space.part.len();
            space.part.extend_from_slice(&self.positions[..text.ids.len() * hidden]);
            if !self.second_type.is_empty() {
                for row in space.part[first..].chunks_exact_mut(hidden).skip(text.second_from) {
                    row.iter_mut().zip(&self.second_type).for_each(|(x, kind)| *x += kind);
                }
            }
        }
    }
}
