//! Vectors beside those of transformers, on small models with random weights (scripts/make-encoder-goldens), and what
//! happens to them where a part of the shape is another.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::compute::encoder::Precision;
use crate::embed::tests::cosine;
use crate::embed::{Embedder, Role};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoders").join(name)
}

/// The least cosine with transformers' vectors over all texts that fit.
fn least_cosine(name: &str, precision: Precision, path: &Path) -> f32 {
    let goldens: Value = serde_json::from_str(&std::fs::read_to_string(golden("goldens.json")).unwrap()).unwrap();
    let texts: Vec<&str> =
        goldens["texts"].as_array().unwrap()[..9].iter().map(|text| text.as_str().unwrap()).collect();
    let got = Embedder::load_as(precision, "small", path, &[]).unwrap().embed(&texts, Role::Passage).unwrap();
    let expected = goldens["embedders"][name]["passage"].as_array().unwrap();
    let both = got.vectors.iter().zip(expected);
    both.map(|(ours, theirs)| {
        let theirs: Vec<f32> = theirs.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        cosine(ours, &theirs)
    })
    .fold(1.0, f32::min)
}

/// A copy of a folder whose `config.json` is changed.
pub(in crate::embed) fn changed(name: &str, change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden(name), folder.path());
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&path, config.to_string()).unwrap();
    folder
}

/// The least cosine of such a folder.
fn least_cosine_with(name: &str, change: impl Fn(&mut Value)) -> f32 {
    least_cosine(name, Precision::F32, changed(name, change).path())
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn modernbert_and_nomic_agree_with_transformers_as_folders_and_as_gguf_files() {
    for (name, path) in [
        ("modernbert-cls", "modernbert-cls"),
        ("modernbert-cls", "modernbert-cls.gguf"),
        ("nomic-mean", "nomic-mean"),
        ("nomic-mean", "nomic-mean.gguf"),
    ] {
        let least = least_cosine(name, Precision::F32, &golden(path));
        println!("{path}: least cosine {least}");
        assert!(least >= 0.9999, "{path}: {least}");
    }
}

#[test]
fn fast_precisions_keep_the_direction_of_every_vector() {
    for name in ["modernbert-cls", "nomic-mean"] {
        let least = least_cosine(name, Precision::Int16, &golden(name));
        assert!(least >= 0.9999, "{name}, integers: {least}");
        // Rows of 16 numbers do not average bfloat16's rounding out as wide models do.
        let least = least_cosine(name, Precision::Bf16, &golden(name));
        assert!(least >= 0.99, "{name}, bfloat16: {least}");
    }
}

#[test]
fn another_window_theta_norm_or_order_of_layers_is_told_apart() {
    let changes: [(&str, &str, fn(&mut Value)); 9] = [
        ("modernbert-cls", "narrower window", |c| c["local_attention"] = json!(6)),
        ("modernbert-cls", "wider window", |c| c["local_attention"] = json!(10)),
        ("modernbert-cls", "no windows", |c| c["layer_types"] = json!(vec!["full_attention"; 4])),
        ("modernbert-cls", "global theta", |c| c["rope_parameters"]["full_attention"]["rope_theta"] = json!(2000.0)),
        ("modernbert-cls", "local theta", |c| c["rope_parameters"]["sliding_attention"]["rope_theta"] = json!(30.0)),
        ("modernbert-cls", "norm", |c| c["norm_eps"] = json!(0.05)),
        ("modernbert-cls", "activation", |c| c["hidden_activation"] = json!("silu")),
        ("nomic-mean", "theta", |c| c["rope_parameters"]["rope_theta"] = json!(500.0)),
        ("nomic-mean", "norm", |c| c["layer_norm_eps"] = json!(0.05)),
    ];
    for (name, what, change) in changes {
        let least = least_cosine_with(name, change);
        assert!(least < 0.9999, "{name} with another {what}: {least}");
    }
}

/// A copy of a GGUF file in which the number (of 4 bytes) under a key is another one.
pub(in crate::embed) fn with_number(file: &str, key: &str, number: [u8; 4]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(golden(file)).unwrap();
    let at = bytes.windows(key.len()).position(|part| part == key.as_bytes()).unwrap();
    // The key's length stands before it, the number's type behind it.
    assert_eq!(bytes[at - 8..at], (key.len() as u64).to_le_bytes());
    let from = at + key.len() + 4;
    assert_ne!(bytes[from..from + 4], number);
    bytes[from..from + 4].copy_from_slice(&number);
    std::fs::write(folder.path().join(file), bytes).unwrap();
    folder
}

#[test]
fn another_window_theta_or_norm_of_a_modernbert_file_is_told_apart() {
    for (key, number) in [
        ("rope.freq_base", 2000f32.to_le_bytes()),
        ("rope.freq_base_swa", 30f32.to_le_bytes()),
        ("attention.sliding_window", 6u32.to_le_bytes()),
        ("attention.sliding_window", 0u32.to_le_bytes()),
        ("attention.layer_norm_epsilon", 0.05f32.to_le_bytes()),
        ("attention.head_count", 1u32.to_le_bytes()),
    ] {
        let folder = with_number("modernbert-cls.gguf", &format!("modern-bert.{key}"), number);
        let least = least_cosine("modernbert-cls", Precision::F32, &folder.path().join("modernbert-cls.gguf"));
        assert!(least < 0.9999, "{key}: {least}");
    }
}

#[test]
fn configurations_of_older_transformers_and_of_nomics_own_code_mean_the_same() {
    let modern = least_cosine_with("modernbert-cls", |config| {
        let config = config.as_object_mut().unwrap();
        config.remove("rope_parameters");
        config.remove("layer_types");
        config.insert("global_rope_theta".into(), json!(3000.0));
        config.insert("local_rope_theta".into(), json!(40.0));
        config.insert("global_attn_every_n_layers".into(), json!(3));
    });
    assert!(modern >= 0.9999, "{modern}");
    let nomic = least_cosine_with("nomic-mean", |config| {
        *config = json!({
            "model_type": "nomic_bert", "vocab_size": 264, "n_embd": 16, "n_inner": 32, "n_layer": 4, "n_head": 2,
            "n_positions": 8192, "max_trained_positions": 96, "layer_norm_epsilon": 1e-12, "activation_function": "swiglu",
            "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": false, "prenorm": false,
            "rotary_scaling_factor": null, "use_rms_norm": false, "qkv_proj_bias": false
        });
    });
    assert!(nomic >= 0.9999, "{nomic}");
}

#[test]
fn what_is_not_known_is_refused_by_its_name() {
    for (name, key, value, reason) in [
        ("modernbert-cls", "hidden_activation", json!("relu"), "`relu`"),
        ("modernbert-cls", "rope_scaling", json!({"type": "yarn"}), "rope_scaling"),
        ("modernbert-cls", "layer_types", json!(["other"]), "layer_types"),
        ("modernbert-cls", "intermediate_size", json!(33), "mlp.Wi.weight"),
        ("modernbert-cls", "num_hidden_layers", json!(5), "layers.4"),
        ("nomic-mean", "num_experts", json!(8), "`num_experts`"),
        ("nomic-mean", "prenorm", json!(true), "`prenorm`"),
        ("nomic-mean", "hidden_act", json!("gelu"), "`gelu`"),
        ("nomic-mean", "rope_parameters", json!({"rope_type": "dynamic"}), "`dynamic`"),
        ("nomic-mean", "num_attention_heads", json!(16), "heads of 1"),
        ("nomic-mean", "max_position_embeddings", json!(1u64 << 40), "max_position_embeddings"),
    ] {
        let folder = changed(name, |config| {
            if key == "layer_types" || key == "num_hidden_layers" {
                config.as_object_mut().unwrap().remove("layer_types");
            }
            config[key] = value.clone();
        });
        let said = Embedder::load("x", folder.path(), &[]).err().unwrap().to_string();
        assert!(said.contains(reason), "{name}, {key}: {said}");
    }
}
