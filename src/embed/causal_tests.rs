//! Qwen3-Embedding's kind of model, against llama.cpp's vectors (scripts/make-causal-goldens).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Goldens {
    texts: Vec<String>,
    query: Vec<Vec<f32>>,
    passage: Vec<Vec<f32>>,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/causal").join(name)
}

fn goldens() -> Goldens {
    serde_json::from_slice(&std::fs::read(golden("goldens.json")).unwrap()).unwrap()
}

fn load(name: &str) -> Embedder {
    let path = golden(name);
    let id = path.file_stem().unwrap().to_str().unwrap().to_string();
    Embedder::load(&id, &path, &["en".into()]).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| *x as f64 * *y as f64).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn a_decoders_vectors_are_llama_cpps_from_its_folder_and_from_its_file_in_both_roles() {
    let goldens = goldens();
    let texts: Vec<&str> = goldens.texts.iter().map(String::as_str).collect();
    for name in ["qwen3", "qwen3-embedding.gguf"] {
        let embedder = load(name);
        assert_eq!(embedder.dimensions(), 32);
        for (role, expected) in [(Role::Query, &goldens.query), (Role::Passage, &goldens.passage)] {
            let got = embedder.embed(&texts, role).unwrap();
            let folder = name == "qwen3";
            // The folder says where texts are cut; the file reads all of it.
            let whole = if folder { texts.len() } else { texts.len() - 1 };
            let worst = got.vectors.iter().zip(expected).take(whole).map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
            println!("{name} {role:?}: worst cosine {worst:.7}");
            assert!(worst >= 0.9999, "{name} {role:?}: {worst}");
            let last = texts.len() - 1;
            assert_eq!((got.truncated[last], got.truncated[0]), (folder, false));
            assert_eq!(got.tokens[last] == 700, folder);
            for vector in &got.vectors {
                assert!((cosine(vector, vector) - 1.0).abs() < 1e-6);
                assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
            }
        }
        // The instruction is what tells a query from a passage.
        let [query, passage] =
            [Role::Query, Role::Passage].map(|role| embedder.embed(&texts[..1], role).unwrap().vectors.remove(0));
        assert!(cosine(&query, &passage) < 0.99, "{}", cosine(&query, &passage));
    }
}

#[test]
fn a_decoders_vector_does_not_depend_on_the_texts_beside_it() {
    let goldens = goldens();
    let embedder = load("qwen3");
    let texts: Vec<&str> = goldens.texts.iter().map(String::as_str).chain([""]).collect();
    let together = embedder.embed(&texts, Role::Passage).unwrap().vectors;
    for (text, vector) in texts.iter().zip(&together) {
        assert_eq!(&embedder.embed(&[text], Role::Passage).unwrap().vectors[0], vector, "{text:?}");
    }
    assert!(embedder.embed(&[], Role::Passage).unwrap().vectors.is_empty());
}

#[test]
fn a_decoders_vectors_are_cut_where_it_was_trained_for_it() {
    for name in ["qwen3", "qwen3-embedding.gguf"] {
        let embedder = load(name);
        assert!(embedder.takes_dimensions(16) && !embedder.takes_dimensions(33));
    }
}

#[test]
fn a_chat_model_and_a_broken_folder_are_refused_as_embedders_with_the_reason() {
    let refused = |path: &Path| match Embedder::load("x", path, &[]) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{} was loaded", path.display()),
    };
    let chat = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/qwen3.gguf");
    assert!(refused(&chat).contains("it is a chat model"), "{}", refused(&chat));
    let folder = tempfile::tempdir().unwrap();
    let copy = |change: &dyn Fn(&Path)| {
        let to = tempfile::tempdir_in(folder.path()).unwrap();
        let copied = std::process::Command::new("cp").arg("-r").arg(golden("qwen3")).arg(to.path()).status().unwrap();
        assert!(copied.success());
        let to = to.path().join("qwen3");
        change(&to);
        refused(&to)
    };
    let edited = |from: &str, into: &str| {
        copy(&|dir| {
            let path = dir.join("config.json");
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(path, text.replace(from, into)).unwrap();
        })
    };
    for (from, into, said) in [
        ("\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"yarn\"}", "scaled rotations"),
        ("\"use_sliding_window\": false", "\"use_sliding_window\": true", "use_sliding_window"),
        ("\"hidden_act\": \"silu\"", "\"hidden_act\": \"relu\"", "hidden_act is `relu`"),
        ("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2", "no place in a model"),
        ("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 4", "is missing"),
        ("\"intermediate_size\": 48", "\"intermediate_size\": 47", "has the shape"),
    ] {
        let text = edited(from, into);
        assert!(text.contains(said), "{into}: {text}");
    }
    let cut = copy(&|dir| {
        let path = dir.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
    });
    assert!(cut.contains("model.safetensors") && cut.contains("not a whole safetensors file"), "{cut}");
    assert!(copy(&|dir| std::fs::remove_file(dir.join("model.safetensors")).unwrap()).contains("cannot be read"));
    let reranker = Reranker::load("x", &golden("qwen3"));
    assert!(reranker.err().expect("refused").to_string().contains("no cross-encoder"));
}
