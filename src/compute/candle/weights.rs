//! How the candle backend holds weights.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Storage, Tensor};
use candle_nn::ops::rms_norm;

use crate::compute::panels::Panels;
use crate::compute::{ComputeError, Format, PackedMatrix, norm};

/// How weights are held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightPolicy {
    /// As in the file, with candle's quantized products (activations are quantized to 8 bits there).
    Quantized,
    /// Widened to `f32` at load, 4 bytes a weight; exact products with kernels of our own. CPU only.
    Dense,
    /// `Dense` on CPUs for formats that candle multiplies slowly, as long as the widened weights take at most a
    /// quarter of the machine's memory; otherwise `Quantized`.
    Auto,
}

impl WeightPolicy {
    /// Reads the setting `engine.weights`.
    ///
    /// # Errors
    /// Names the refused value and those that there are.
    pub fn from_setting(name: &str) -> Result<Self, ComputeError> {
        match name {
            "quantized" => Ok(Self::Quantized),
            "dense" => Ok(Self::Dense),
            "auto" => Ok(Self::Auto),
            _ => Err(ComputeError::Unsupported(format!(
                "engine.weights is `{name}`; it can be `auto`, `quantized` or `dense`"
            ))),
        }
    }

    /// `Auto` decided: `Quantized` where `widened_bytes` of `f32` weights are more than a quarter of `memory` bytes.
    pub(super) fn within(self, widened_bytes: u64, memory: Option<u64>) -> Self {
        match self {
            Self::Auto if memory.is_none_or(|memory| widened_bytes > memory / 4) => Self::Quantized,
            policy => policy,
        }
    }

    /// True where a matrix of this format and width is to be widened.
    fn widens(self, device: &Device, format: Format, cols: usize) -> bool {
        if !device.is_cpu() {
            return false;
        }
        match self {
            Self::Quantized => false,
            Self::Dense => true,
            Self::Auto => !candle_is_fast(format, cols),
        }
    }
}

/// Memory that this program may use, in bytes: the machine's, or its control group's where that is less. `None` where
/// the system does not say.
pub(super) fn memory_bytes() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|max| max.trim().parse().ok());
    Some(group.map_or(machine, |group: u64| machine.min(group)))
}

/// True for formats that candle 0.11 multiplies in tiles on x86 (`quantized/repack_x86.rs`).
fn candle_is_fast(format: Format, cols: usize) -> bool {
    cols.is_multiple_of(256) && matches!(format, Format::Q4K | Format::Q6K | Format::Q8_0)
}

/// A weight matrix with its bias.
pub struct Linear {
    weight: Weight,
}

enum Weight {
    /// candle's product.
    Candle { product: QMatMul, bias: Option<Tensor> },
    /// Our product over widened weights.
    Dense(Panels),
}

impl Linear {
    pub(super) fn load(
        weight: &PackedMatrix<'_>,
        bias: Option<&PackedMatrix<'_>>,
        device: &Device,
        policy: WeightPolicy,
    ) -> Result<Self, ComputeError> {
        let weight = if policy.widens(device, weight.format, weight.cols) {
            let bias = bias.map(widen).transpose()?;
            Weight::Dense(Panels::pack(weight.rows, weight.cols, bias, |first, to| widen_rows(weight, first, to))?)
        } else {
            let bias = bias.map(|bias| Ok::<_, ComputeError>(vector(bias)?.to_device(device)?)).transpose()?;
            Weight::Candle { product: QMatMul::from_qtensor(packed(weight, device)?)?, bias }
        };
        Ok(Self { weight })
    }

    /// The head that shares an embedding table.
    pub(super) fn tied(table: &Table, policy: WeightPolicy) -> Result<Self, ComputeError> {
        let (rows, cols) = table.packed.shape().dims2()?;
        let weight = if policy.widens(&table.packed.device(), table.format, cols) {
            let bytes = table.packed.data()?;
            let matrix = PackedMatrix { name: "the tied head", format: table.format, rows, cols, bytes: &bytes };
            Weight::Dense(Panels::pack(rows, cols, None, |first, to| widen_rows(&matrix, first, to))?)
        } else {
            Weight::Candle { product: QMatMul::from_arc(table.packed.clone())?, bias: None }
        };
        Ok(Self { weight })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor, ComputeError> {
        match &self.weight {
            Weight::Candle { product, bias } => {
                let y = product.forward(x)?;
                Ok(match bias {
                    Some(bias) => y.broadcast_add(bias)?,
                    None => y,
                })
            }
            Weight::Dense(panels) => {
                if x.dim(1)? != panels.inputs() {
                    return Err(ComputeError::Step(format!(
                        "a product takes rows of {}, not of {}",
                        panels.inputs(),
                        x.dim(1)?
                    )));
                }
                let y = with_slice(x, |x| Ok(panels.product(x)))?;
                Ok(Tensor::from_vec(y, (x.dim(0)?, panels.outputs()), x.device())?)
            }
        }
    }
}

/// An RMS norm.
pub struct Norm {
    weight: Tensor,
    eps: f32,
}

impl Norm {
    pub(super) fn load(weight: &PackedMatrix<'_>, eps: f32, device: &Device) -> Result<Self, ComputeError> {
        Ok(Self { weight: vector(weight)?.to_device(device)?, eps })
    }

    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor, ComputeError> {
        if !x.device().is_cpu() {
            return Ok(rms_norm(x, &self.weight, self.eps)?);
        }
        let shape = x.shape().clone();
        let out = with_slice(x, |x| with_slice(&self.weight, |weight| Ok(norm::rms_norm(x, weight, self.eps))))?;
        Ok(Tensor::from_vec(out, shape, x.device())?)
    }

    pub(super) fn len(&self) -> usize {
        self.weight.elem_count()
    }
}

/// An embedding table, as in the file: rows are widened as they are read.
pub struct Table {
    packed: Arc<QTensor>,
    format: Format,
}

impl Table {
    pub(super) fn load(weight: &PackedMatrix<'_>, device: &Device) -> Result<Self, ComputeError> {
        Ok(Self { packed: Arc::new(packed(weight, device)?), format: weight.format })
    }

    pub(super) fn rows(&self, tokens: &[u32], device: &Device) -> Result<Tensor, ComputeError> {
        let ids = Tensor::new(tokens, device)?;
        Ok(self.packed.embedding(&ids)?)
    }
}

fn ggml(format: Format) -> GgmlDType {
    match format {
        Format::F32 => GgmlDType::F32,
        Format::F16 => GgmlDType::F16,
        Format::BF16 => GgmlDType::BF16,
        Format::Q4_0 => GgmlDType::Q4_0,
        Format::Q4_1 => GgmlDType::Q4_1,
        Format::Q5_0 => GgmlDType::Q5_0,
        Format::Q5_1 => GgmlDType::Q5_1,
        Format::Q8_0 => GgmlDType::Q8_0,
        Format::Q2K => GgmlDType::Q2K,
        Format::Q3K => GgmlDType::Q3K,
        Format::Q4K => GgmlDType::Q4K,
        Format::Q5K => GgmlDType::Q5K,
        Format::Q6K => GgmlDType::Q6K,
    }
}

/// Copies a weight to the device as it is packed.
fn packed(weight: &PackedMatrix<'_>, device: &Device) -> Result<QTensor, ComputeError> {
    let expected = weight.format.matrix_bytes(weight.rows, weight.cols);
    if expected != Some(weight.bytes.len()) {
        return Err(ComputeError::Weight {
            name: weight.name.into(),
            reason: format!(
                "{} bytes do not make {} rows of {} in {:?}",
                weight.bytes.len(),
                weight.rows,
                weight.cols,
                weight.format
            ),
        });
    }
    // candle reads the bytes as the block's type, which wants them aligned; a file's data may lie anywhere.
    let aligned = weight.bytes.as_ptr().align_offset(align_of::<u64>()) == 0;
    let copy: Vec<u64>;
    let bytes: &[u8] = if aligned {
        weight.bytes
    } else {
        copy = weight
            .bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0u8; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                u64::from_ne_bytes(word)
            })
            .collect();
        // SAFETY: any bytes are `u8`s, and the vector holds at least as many as the weight.
        unsafe { std::slice::from_raw_parts(copy.as_ptr().cast(), weight.bytes.len()) }
    };
    let storage = QStorage::from_data(Cow::Borrowed(bytes), device, ggml(weight.format))?;
    Ok(QTensor::new(storage, (weight.rows, weight.cols))?)
}

/// All numbers of a weight.
pub(in crate::compute) fn widen(weight: &PackedMatrix<'_>) -> Result<Vec<f32>, ComputeError> {
    Ok(packed(weight, &Device::Cpu)?.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?)
}

fn vector(weight: &PackedMatrix<'_>) -> Result<Tensor, ComputeError> {
    let numbers = widen(weight)?;
    let len = numbers.len();
    Ok(Tensor::from_vec(numbers, len, &Device::Cpu)?)
}

/// The numbers of rows from `first`, as many as `to` holds.
fn widen_rows(weight: &PackedMatrix<'_>, first: usize, to: &mut [f32]) -> Result<(), ComputeError> {
    let rows = to.len() / weight.cols;
    let row_bytes = weight.bytes.len() / weight.rows;
    let part = PackedMatrix { rows, bytes: &weight.bytes[first * row_bytes..][..rows * row_bytes], ..*weight };
    let numbers = packed(&part, &Device::Cpu)?.dequantize(&Device::Cpu)?;
    with_slice(&numbers, |numbers| {
        to.copy_from_slice(numbers);
        Ok(())
    })
}

/// Lends the numbers of a contiguous CPU tensor.
pub(super) fn with_slice<T>(x: &Tensor, f: impl FnOnce(&[f32]) -> Result<T, ComputeError>) -> Result<T, ComputeError> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(ComputeError::Step("these activations are not in main memory".into()));
    };
    let from = layout.start_offset();
    f(&storage.as_slice::<f32>()?[from..from + layout.shape().elem_count()])
}
