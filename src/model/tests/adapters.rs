//! LoRA adapters: logits against llama.cpp's, mixed batches, and files that are refused.

use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::logits::{family, relative_error, with_half_a_tensor_larger};
use super::{golden, golden_json, lora_file, settings, starter};
use crate::model::{Adapter, AdapterBase, AdapterFile, Decoder, Gguf, ModelSpec, StepSequence, WantLogits};

const BASES: [&str; 5] = ["llama", "qwen2", "gemma2", "phi3", "qwen3moe"];
const RELATIVE_ERROR: f64 = 1e-3;

fn adapter_of(name: &str) -> PathBuf {
    golden(&format!("adapters/{name}.gguf"))
}

fn scale_of(name: &str) -> f32 {
    golden_json("adapters.json")[name]["scale"].as_f64().unwrap() as f32
}

fn load(decoder: &Decoder, path: &Path, scale: f32) -> Adapter {
    decoder.adapters().read(&AdapterFile::open(path).unwrap(), scale).unwrap()
}

/// The largest relative error of a position's logits over the golden's 200 positions.
fn worst_error(name: &str, backend: &str, adapter: &Path, scale: f32) -> f64 {
    let mut decoder = Decoder::load(&family(name), &settings(backend)).unwrap();
    let adapter = load(&decoder, adapter, scale);
    relative_error(&golden_json("adapters.json")[name], &mut decoder, Some(&adapter))
}

#[test]
fn logits_of_an_adapted_model_equal_llama_cpps_on_every_backend() {
    for name in BASES {
        for backend in ["native", "dense", "quantized"] {
            let error = worst_error(name, backend, &adapter_of(name), scale_of(name));
            println!("{name} {backend}: relative error {error:.2e}");
            assert!(error < RELATIVE_ERROR, "{name} {backend}: {error}");
        }
    }
}

#[test]
fn another_scale_alpha_or_number_of_an_adapter_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    for name in BASES {
        let error = worst_error(name, "native", &adapter_of(name), scale_of(name) * 1.02);
        assert!(error > RELATIVE_ERROR, "{name}: the scale changed, and the error is only {error}");
        let pairs: Vec<String> = {
            let file = Gguf::open(&adapter_of(name)).unwrap();
            file.tensor_names()
                .filter(|name| name.starts_with("blk.1.") || name.starts_with("output"))
                .map(str::to_string)
                .collect()
        };
        for tensor in pairs {
            let path = with_half_a_tensor_larger(&adapter_of(name), &tensor, folder.path());
            let error = worst_error(name, "native", &path, scale_of(name));
            assert!(error > RELATIVE_ERROR, "{name}: {tensor} changed, and the error is only {error}");
        }
    }
    // A file without an alpha is not scaled by its ranks; one with another alpha is another adapter.
    for (name, alpha) in [("llama", 6.1f32), ("qwen3moe", 3.9)] {
        let mut bytes = std::fs::read(adapter_of(name)).unwrap();
        let key = b"adapter.lora.alpha";
        let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() + 4;
        bytes[at..at + 4].copy_from_slice(&alpha.to_le_bytes());
        let path = folder.path().join("alpha.gguf");
        std::fs::write(&path, bytes).unwrap();
        let error = worst_error(name, "native", &path, scale_of(name));
        assert!(error > RELATIVE_ERROR, "{name}: the alpha changed, and the error is only {error}");
    }
}

/// Writes an adapter of random pairs for the named matrices, `[outputs][inputs]` each.
fn write_adapter(path: &Path, kinds: [&str; 3], rank: usize, matrices: &[(&str, usize, usize)], seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut random = |rows: usize, cols: usize| -> Vec<f32> {
        let spread = 1.0 / (cols as f32).sqrt();
        (0..rows * cols).map(|_| spread * rng.random_range(-1.0f32..1.0)).collect()
    };
    let mut pairs = Vec::new();
    for (name, outputs, inputs) in matrices {
        pairs.push((format!("{name}.lora_a"), (rank, *inputs), random(rank, *inputs)));
        pairs.push((format!("{name}.lora_b"), (*outputs, rank), random(*outputs, rank)));
    }
    lora_file::write(path, kinds, 2.0 * rank as f32, pairs);
}

const LORA: [&str; 3] = ["llama", "adapter", "lora"];

#[test]
fn a_sequence_gives_the_same_bits_alone_and_beside_others_with_other_adapters() {
    let folder = tempfile::tempdir().unwrap();
    // The starter: packed weights, rounded activations, fused gates.
    let (first, second) = (folder.path().join("first.gguf"), folder.path().join("second.gguf"));
    let attention =
        [("blk.0.attn_q.weight", 576, 576), ("blk.3.attn_v.weight", 192, 576), ("blk.5.attn_output.weight", 576, 576)];
    let gated = [
        ("blk.0.ffn_gate.weight", 1536, 576),
        ("blk.2.ffn_up.weight", 1536, 576),
        ("blk.9.ffn_down.weight", 576, 1536),
    ];
    write_adapter(&first, LORA, 8, &[&attention[..], &gated[..]].concat(), 1);
    write_adapter(&second, LORA, 3, &gated, 2);
    mixed_batches_equal(&starter(), &[&first, &second]);
    // Exact weights, an adapter of everything and of the head.
    mixed_batches_equal(&family("llama"), &[&adapter_of("llama"), &adapter_of("llama")]);
}

fn mixed_batches_equal(model: &Path, adapters: &[&Path; 2]) {
    let mut decoder = Decoder::load(model, &settings("native")).unwrap();
    let adapters = [load(&decoder, adapters[0], 1.0), load(&decoder, adapters[1], 0.5)];
    let tokens = |seed: u64, len: usize| -> Vec<u32> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..len).map(|_| rng.random_range(0..300)).collect()
    };
    let sequences = [
        (tokens(1, 70), Some(&adapters[0])),
        (tokens(2, 40), None),
        (tokens(3, 64), Some(&adapters[1])),
        (tokens(4, 33), Some(&adapters[1])),
        // The same tokens as the first's: only the adapter tells them apart.
        (tokens(1, 70), None),
    ];
    let all =
        |tokens, start, blocks, adapter| StepSequence { tokens, start, blocks, logits: WantLogits::Last, adapter };
    let alone: Vec<Vec<f32>> = sequences
        .iter()
        .map(|(tokens, adapter)| decoder.step(&[all(tokens, 0, &[30, 31, 32], *adapter)]).unwrap().remove(0))
        .collect();
    assert_ne!(alone[0], alone[4]);
    let tables: Vec<[u32; 3]> = (0..5).map(|n| [3 * n, 3 * n + 1, 3 * n + 2]).collect();
    let batch: Vec<_> =
        sequences.iter().zip(&tables).map(|((tokens, adapter), table)| all(tokens, 0, table, *adapter)).collect();
    assert_eq!(decoder.step(&batch).unwrap(), alone);
    // In chunks: the last token of each comes in a step of its own, after the others' chunks.
    let chunks = sequences.iter().zip(&tables).map(|((tokens, adapter), table)| {
        let (tokens, table) = (&tokens[..tokens.len() - 1], &table[..]);
        StepSequence { tokens, start: 0, blocks: table, logits: WantLogits::No, adapter: *adapter }
    });
    decoder.step(&chunks.rev().collect::<Vec<_>>()).unwrap();
    let last = sequences.iter().zip(&tables).map(|((tokens, adapter), table)| {
        let (before, token) = tokens.split_at(tokens.len() - 1);
        all(token, before.len(), table, *adapter)
    });
    assert_eq!(decoder.step(&last.collect::<Vec<_>>()).unwrap(), alone);
}

#[test]
fn an_adapter_of_another_model_or_of_unsupported_parts_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.gguf");
    let opened = |path: &Path| AdapterFile::open(path).err().expect("an error").to_string();
    let base = |name: &str| {
        let gguf = Gguf::open(&family(name)).unwrap();
        AdapterBase::of(&gguf, &ModelSpec::read(&gguf).unwrap()).unwrap()
    };
    let refused =
        |name: &str, adapter: &Path| base(name).check(&AdapterFile::open(adapter).unwrap()).unwrap_err().to_string();
    assert!(opened(&family("llama")).contains("is a model, not an adapter"));
    assert!(opened(&folder.path().join("missing.gguf")).contains("cannot be read"));
    write_adapter(&path, ["llama", "adapter", "ia3"], 2, &[("blk.0.attn_q.weight", 72, 32)], 1);
    assert!(opened(&path).contains("`ia3` are not supported; `lora` is"));
    for (matrix, rank, said) in [
        ("token_embd.weight", 2, "the embedding table"),
        ("blk.0.ffn_up_exps.weight", 2, "adapters of experts"),
        ("blk.0.attn_q.weight", 1025, "rank 1025; 1 to 1024"),
    ] {
        write_adapter(&path, LORA, rank, &[(matrix, 72, 32)], 1);
        assert!(opened(&path).contains(said), "{}", opened(&path));
    }
    // A pair with a half missing, and a tensor of another kind.
    write_adapter(&path, LORA, 2, &[("blk.0.attn_q.weight", 72, 32)], 1);
    let good = std::fs::read(&path).unwrap();
    for (from, to, said) in [
        ("q.weight.lora_b", "k.weight.lora_b", "its `.lora_a` is missing"),
        ("q.weight.lora_b", "q.weight.dora_m", "nor `….lora_b`"),
        ("blk.0.attn_q.weight.lora_b", "blk.10000.attn_norm.weight", "a whole norm"),
    ] {
        let at = good.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        std::fs::write(&path, bytes).unwrap();
        assert!(opened(&path).contains(said), "{}", opened(&path));
    }
    assert!(base("llama").check(&AdapterFile::open(&adapter_of("llama")).unwrap()).is_ok());
    let said = refused("qwen2", &adapter_of("llama"));
    assert!(said.contains("for the architecture `llama`") && said.contains("is `qwen2`"), "{said}");
    let said = refused("yarn", &adapter_of("qwen2"));
    assert!(said.contains("made for another model") && said.contains("blk.0.attn_v.weight"), "{said}");
    write_adapter(&path, LORA, 2, &[("blk.9.attn_q.weight", 72, 32)], 1);
    let said = refused("llama", &path);
    assert!(said.contains("no such matrix") && said.contains("blk.9.attn_q.weight"), "{said}");
    // A model's file that ends early, as a copy that broke off leaves it.
    std::fs::write(&path, &good[..good.len() - 40]).unwrap();
    assert!(opened(&path).contains("cut short"), "{}", opened(&path));
}

#[test]
fn an_adapter_is_known_by_its_file_and_its_scale() {
    let decoder = Decoder::load(&family("llama"), &settings("native")).unwrap();
    let key = |scale| *load(&decoder, &adapter_of("llama"), scale).key();
    assert_eq!(key(1.0), key(1.0));
    assert_ne!(key(1.0), key(0.5));
    let other = Decoder::load(&family("llama"), &settings("dense")).unwrap();
    let foreign = load(&other, &adapter_of("llama"), 1.0);
    let mut decoder = decoder;
    let step = StepSequence { tokens: &[1], start: 0, blocks: &[0], logits: WantLogits::Last, adapter: Some(&foreign) };
    assert!(decoder.step(&[step]).unwrap_err().to_string().contains("another backend"));
}
