//! Tests against llama.cpp's numbers (made by scripts/make-goldens), and of damaged files.

mod adapters;
mod damaged;
mod logits;
mod lora_file;
mod split;
mod steps;
pub(crate) mod tokens;

use std::path::{Path, PathBuf};

use crate::config::EngineSettings;

/// A file that scripts/make-goldens made.
pub(super) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub(crate) fn golden_json(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(golden(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The starter chat model.
pub(super) fn starter() -> PathBuf {
    let dir = std::env::var_os("FIRSTLINE_MODELS")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/firstline/models"));
    let path = dir.join("smollm2-135m-instruct-q4_1/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "{} is missing; run scripts/fetch-models", path.display());
    path
}

/// Settings for a small model on the CPU: the `native` backend, or `candle` with `dense` or `quantized` weights.
pub(super) fn settings(backend: &str) -> EngineSettings {
    let (backend, weights) = match backend {
        "native" | "auto" => (backend, "auto"),
        weights => ("candle", weights),
    };
    EngineSettings {
        backend: backend.into(),
        weights: weights.into(),
        device: "cpu".into(),
        kv_mib: 256,
        ..Default::default()
    }
}
