//! How the native backend holds weights: quantized ones as [`Packed`] tiles, whole numbers' twins; float ones as
//! [`Panels`] of their own precision.

use std::sync::Arc;

use half::{bf16, f16};

use super::packed::Packed;
use crate::compute::panels::Panels;
use crate::compute::{ComputeError, Format, PackedMatrix};

/// A matrix.
pub(super) enum Weight {
    Packed(Packed),
    Panels(Panels),
}

/// A weight matrix with its bias.
pub struct Linear {
    pub(super) weight: Arc<Weight>,
    pub(super) bias: Option<Vec<f32>>,
}

/// An RMS norm.
pub struct Norm {
    pub(super) weight: Vec<f32>,
    pub(super) eps: f32,
}

/// An embedding table.
pub struct Table {
    pub(super) weight: Arc<Weight>,
}

impl Weight {
    /// True where the native backend can hold a matrix of this format.
    pub(super) fn takes(format: Format) -> bool {
        Packed::takes(format) || matches!(format, Format::F32 | Format::F16 | Format::BF16)
    }

    pub(super) fn new(matrix: &PackedMatrix<'_>) -> Result<Self, ComputeError> {
        if Packed::takes(matrix.format) {
            return Ok(Self::Packed(Packed::new(matrix)?));
        }
        let row_bytes = matrix.cols * matrix.format.block_bytes();
        let fill = |first: usize, to: &mut [f32]| {
            let rows = to.len() / matrix.cols;
            widen(matrix, &matrix.bytes[first * row_bytes..][..rows * row_bytes], to)
        };
        check(matrix)?;
        match matrix.format {
            Format::F16 => return Ok(Self::Panels(Panels::pack_halves(matrix.rows, matrix.cols, matrix.bytes))),
            Format::BF16 => return Ok(Self::Panels(Panels::pack_bfloats(matrix.rows, matrix.cols, matrix.bytes))),
            _ => {}
        }
        Ok(Self::Panels(Panels::pack(matrix.rows, matrix.cols, None, fill)?))
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.bytes().len(),
            Self::Panels(panels) => panels.bytes(),
        }
    }

    pub(super) fn outputs(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.outputs,
            Self::Panels(panels) => panels.outputs(),
        }
    }

    pub(super) fn inputs(&self) -> usize {
        match self {
            Self::Packed(packed) => packed.inputs,
            Self::Panels(panels) => panels.inputs(),
        }
    }

    /// The numbers of one output.
    pub(super) fn row(&self, output: usize, to: &mut [f32]) {
        match self {
            Self::Packed(packed) => packed.row(output, to),
            Self::Panels(panels) => panels.row(output, to),
        }
    }
}

impl Linear {
    /// The packed matrix, where the weights are quantized.
    pub(super) fn packed(&self) -> Option<&Packed> {
        match &*self.weight {
            Weight::Packed(packed) => Some(packed),
            Weight::Panels(_) => None,
        }
    }
}

/// All numbers of a vector of a model file.
pub(super) fn vector(weight: &PackedMatrix<'_>) -> Result<Vec<f32>, ComputeError> {
    check(weight)?;
    let mut numbers = vec![0.0; weight.rows * weight.cols];
    widen(weight, weight.bytes, &mut numbers)?;
    Ok(numbers)
}

fn check(weight: &PackedMatrix<'_>) -> Result<(), ComputeError> {
    let PackedMatrix { format, rows, cols, bytes, .. } = *weight;
    match format.matrix_bytes(rows, cols) == Some(bytes.len()) && rows > 0 {
        true => Ok(()),
        false => Err(ComputeError::Weight {
            name: weight.name.into(),
            reason: format!("{} bytes do not make {rows} rows of {cols} in {format:?}", bytes.len()),
        }),
    }
}

/// Widens float weights.
fn widen(weight: &PackedMatrix<'_>, bytes: &[u8], to: &mut [f32]) -> Result<(), ComputeError> {
    let two = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]);
    match weight.format {
        Format::F32 => {
            let numbers = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            to.iter_mut().zip(numbers).for_each(|(to, x)| *to = x);
        }
        Format::F16 => {
            to.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(to, x)| *to = f16::from_bits(two(x)).to_f32());
        }
        Format::BF16 => {
            to.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(to, x)| *to = bf16::from_bits(two(x)).to_f32());
        }
        other => {
            return Err(ComputeError::Weight {
                name: weight.name.into(),
                reason: format!("the native backend does not read {other:?} here; set engine.backend to `candle`"),
            });
        }
    }
    Ok(())
}
