//! A file's rotations: their bases, and how they were stretched to longer contexts.
//!
//! Four ways to stretch: *linear* (positions divided by a factor), Llama 3's (a table of divisors in the file), *YaRN* (Peng
//! et al. 2023: slow pairs divided, fast ones kept, attention sharpened) and *LongRoPE* (Ding et al. 2024: one table of
//! divisors for contexts within the original length, another one beyond it).

use super::ModelError;
use super::gguf::{Gguf, printable};
use super::spec::Architecture;
use crate::compute::{Format, Rope};

/// LongRoPE's second table: the rotation of a context that is longer than the original one.
#[derive(Debug, Clone, PartialEq)]
pub struct LongRope {
    /// The original context, in tokens.
    pub beyond: usize,
    pub rope: Rope,
}

/// Reads metadata and tables of one file.
pub(super) struct RopeReader<'a> {
    pub gguf: &'a Gguf,
    /// The architecture's name in the file's keys.
    pub name: &'a str,
    pub architecture: Architecture,
    pub head_dim: usize,
    /// Longest sequence that the model was trained for.
    pub context: usize,
}

impl RopeReader<'_> {
    fn key(&self, rest: &str) -> String {
        format!("{}.rope.{rest}", self.name)
    }

    fn above(&self, key: &str, value: f64, least: f64) -> Result<f64, ModelError> {
        match value.is_finite() && value > least {
            true => Ok(value),
            false => Err(self.gguf.error(format!("`{key}` is {value}; it must be above {least}"))),
        }
    }

    fn number(&self, rest: &str, least: f64, default: f64) -> Result<f64, ModelError> {
        let key = self.key(rest);
        match self.gguf.number(&key)? {
            None => Ok(default),
            Some(value) => self.above(&key, value, least),
        }
    }

    fn dims(&self) -> Result<usize, ModelError> {
        let key = self.key("dimension_count");
        let dims = self.gguf.count(&key)?.unwrap_or(self.head_dim);
        match dims >= 2 && dims <= self.head_dim && dims % 2 == 0 {
            true => Ok(dims),
            false => Err(self.gguf.error(format!("`{key}` is {dims}, in heads of {} numbers", self.head_dim))),
        }
    }

    /// The rotation of windowed layers that have one of their own, which is never stretched (Gemma 3).
    pub(super) fn windowed(&self) -> Result<Rope, ModelError> {
        let base = self.number("freq_base_swa", 1.0, 10_000.0)?;
        Ok(Rope::new(self.architecture.rope_kind(), self.dims()?, base, |_| 1.0))
    }

    /// The model's rotation, and LongRoPE's other one.
    pub(super) fn read(&self) -> Result<(Rope, Option<LongRope>), ModelError> {
        let dims = self.dims()?;
        let base = self.number("freq_base", 1.0, 10_000.0)?;
        let factor = match self.gguf.number(&self.key("scaling.factor"))? {
            None => self.number("scale_linear", 0.0, 1.0)?,
            // Some converters write 0 for none.
            Some(0.0) => 1.0,
            Some(factor) => self.above(&self.key("scaling.factor"), factor, 0.0)?,
        };
        let amplitude = self.number("scaling.attn_factor", 0.0, 1.0)?;
        let kind = self.gguf.text(&self.key("scaling.type"))?;
        let original = self.gguf.count(&self.key("scaling.original_context_length"))?.unwrap_or(self.context);
        // Granite switches rotations off so.
        if self.architecture == Architecture::Granite && self.gguf.flag(&self.key("scaling.finetuned"))? == Some(false)
        {
            return Err(self.gguf.error("a Granite model without rotations is not supported"));
        }
        let stretched = |divisor: &dyn Fn(usize) -> f64, amplitude: f64| {
            let mut rope = Rope::new(self.architecture.rope_kind(), dims, base, divisor);
            rope.amplitude = amplitude;
            rope
        };
        let table = self.table("rope_freqs.weight", dims / 2)?;
        let plain = |i: usize| table.as_ref().map_or(1.0, |table| table[i]);
        match kind {
            Some("none") => Ok((stretched(&plain, amplitude), None)),
            None | Some("linear" | "longrope" | "su" | "llama3") => {
                let short = self.table("rope_factors_short.weight", dims / 2)?;
                let long = self.table("rope_factors_long.weight", dims / 2)?;
                let (Some(short), Some(long)) = (short, long) else {
                    return Ok((stretched(&|i| factor * plain(i), amplitude), None));
                };
                let rope = stretched(&|i| factor * long[i], amplitude);
                Ok((stretched(&|i| factor * short[i], amplitude), Some(LongRope { beyond: original, rope })))
            }
            Some("yarn") => {
                if self.gguf.number(&self.key("scaling.yarn_log_multiplier"))?.is_some_and(|x| x != 0.0) {
                    return Err(self.gguf.error("YaRN with a log multiplier is not supported"));
                }
                let share = self.yarn_shares(dims, base, original)?;
                let sharper = if factor > 1.0 { 1.0 + 0.1 * factor.ln() } else { 1.0 };
                let divisor = |i: usize| plain(i) / ((1.0 - share[i]) / factor + share[i]);
                Ok((stretched(&divisor, amplitude * sharper), None))
            }
            Some(kind) => Err(self.gguf.error(format!(
                "rope scaling of the kind `{}` is not supported; none, linear, llama3, yarn and longrope are",
                printable(kind)
            ))),
        }
    }

    /// How far each pair keeps its own frequency: 1 for those that turn often within the original context, 0 for those
    /// that never come round.
    fn yarn_shares(&self, dims: usize, base: f64, original: usize) -> Result<Vec<f64>, ModelError> {
        let fast = self.number("scaling.yarn_beta_fast", 0.0, 32.0)?;
        let slow = self.number("scaling.yarn_beta_slow", 0.0, 1.0)?;
        let pair =
            |turns: f64| dims as f64 * (original as f64 / (turns * std::f64::consts::TAU)).ln() / (2.0 * base.ln());
        let low = pair(fast).floor().max(0.0);
        let high = pair(slow).ceil().min(dims as f64 - 1.0);
        let ramp = |i: usize| ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
        Ok((0..dims / 2).map(|i| 1.0 - ramp(i)).collect())
    }

    /// A table of divisors.
    fn table(&self, name: &str, pairs: usize) -> Result<Option<Vec<f64>>, ModelError> {
        if self.gguf.dims(name).is_none() {
            return Ok(None);
        }
        let table = self.gguf.vector(name, pairs)?;
        if table.format != Format::F32 {
            return Err(self.gguf.error(format!("tensor `{name}` is not F32")));
        }
        let factors: Vec<f64> =
            table.bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f64).collect();
        match factors.iter().all(|f| f.is_finite() && *f > 0.0) {
            true => Ok(Some(factors)),
            false => Err(self.gguf.error(format!("tensor `{name}` holds a factor that is not above 0"))),
        }
    }
}
