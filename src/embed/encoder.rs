//! The forward pass of a BERT encoder: post-norm layers, absolute positions (Devlin et al., arXiv:1810.04805).
//!
//! Written over the operations of [`crate::compute::encoder`]. Texts are packed without padding: all tokens are rows of
//! one matrix, and only attention knows where one text ends.

use std::ops::Range;

use parking_lot::Mutex;

use crate::compute::encoder::{AttendShape, Dense, LayerNorm, Operand, Precision, Then, add_norm, attend};

pub(super) struct Layer {
    /// Query, key and value in one product; the query is scaled by 1/sqrt(head width) beforehand.
    pub qkv: Dense,
    pub attention_out: Dense,
    pub attention_norm: LayerNorm,
    pub up: Dense,
    pub down: Dense,
    pub out_norm: LayerNorm,
}

/// Weights, ready to run.
pub(super) struct Encoder {
    /// `[vocabulary][hidden]`
    pub words: Vec<f32>,
    /// `[positions][hidden]`, with the type embedding of a single text added.
    pub positions: Vec<f32>,
    /// What the second text of a pair has in place of the first one's type embedding, as a difference: `[hidden]`.
    /// Empty where a model knows one type.
    pub second_type: Vec<f32>,
    pub norm: LayerNorm,
    pub layers: Vec<Layer>,
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
    /// `x` as products read it.
    input: Operand,
    qkv: Operand,
    attended: Operand,
    wide: Operand,
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
        let Space { x, part, input, qkv, attended, wide } = &mut space;
        add_norm(x, part, &self.norm);
        for layer in &self.layers {
            input.take(self.precision, x, hidden);
            layer.qkv.product(input, Then::Nothing, qkv);
            attend(qkv, &rows, self.shape, attended);
            layer.attention_out.product_plain(attended, part);
            add_norm(x, part, &layer.attention_norm);
            input.take(self.precision, x, hidden);
            layer.up.product(input, Then::Gelu, wide);
            layer.down.product_plain(wide, part);
            add_norm(x, part, &layer.out_norm);
        }
        for (text, rows) in rows.into_iter().enumerate() {
            each(text, &x[rows.start * hidden..rows.end * hidden]);
        }
        self.spaces.lock().push(space);
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
