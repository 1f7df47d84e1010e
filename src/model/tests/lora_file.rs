//! LoRA adapters written as GGUF files, for the tests in here and for those of the whole program.

use std::fs::File;
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

/// A pair's matrix: its name, its rows and columns, and its numbers.
pub type Matrix = (String, (usize, usize), Vec<f32>);

/// Writes the matrices in F32. `kinds`: the architecture, the type of the file, and of the adapter.
pub fn write(path: &Path, kinds: [&str; 3], alpha: f32, matrices: Vec<Matrix>) {
    let tensors: Vec<(String, QTensor)> = matrices
        .into_iter()
        .map(|(name, shape, numbers)| {
            let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap();
            (name, QTensor::quantize(&tensor, GgmlDType::F32).unwrap())
        })
        .collect();
    let [architecture, kind, method] = kinds.map(|text| Value::String(text.into()));
    let alpha = Value::F32(alpha);
    let metadata = [
        ("general.architecture", &architecture),
        ("general.type", &kind),
        ("adapter.type", &method),
        ("adapter.lora.alpha", &alpha),
    ];
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
}
