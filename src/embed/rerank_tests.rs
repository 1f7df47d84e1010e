//! Scores beside those of transformers, on small models with random weights (scripts/make-encoder-goldens).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::embed::Embedder;
use crate::embed::rotary::tests::{changed, with_number};

#[derive(Deserialize)]
struct Goldens {
    texts: Vec<String>,
    rerankers: BTreeMap<String, Vec<f32>>,
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoders").join(name)
}

fn goldens() -> Goldens {
    serde_json::from_str(&std::fs::read_to_string(folder("goldens.json")).unwrap()).unwrap()
}

#[test]
fn scores_agree_with_transformers_for_all_families_as_folders_and_as_gguf_files() {
    let goldens = goldens();
    assert_eq!(goldens.rerankers.len(), 3);
    let files = goldens.rerankers.iter().map(|(name, expected)| (format!("{name}.gguf"), expected));
    let folders = goldens.rerankers.iter().map(|(name, expected)| (name.clone(), expected));
    for (name, expected) in files.chain(folders) {
        let reranker = Reranker::load(&name, &folder(&name)).unwrap();
        let passages: Vec<&str> = goldens.texts[..expected.len()].iter().map(String::as_str).collect();
        let logits = reranker.logits(&goldens.texts[0], &passages).unwrap().scores;
        for (at, (ours, theirs)) in logits.iter().zip(expected).enumerate() {
            assert!((ours - theirs).abs() < 1e-3, "{name}, text {at}: {ours} for {theirs}");
        }
        let spread =
            expected.iter().fold(f32::MIN, |a, b| a.max(*b)) - expected.iter().fold(f32::MAX, |a, b| a.min(*b));
        assert!(spread > 0.05, "{name}: the goldens tell nothing apart ({spread})");
        let RerankScores { scores, tokens, cut } = reranker.rerank(&goldens.texts[0], &passages).unwrap();
        assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)) && tokens > passages.len());
        assert!(!cut.contains(&true), "{name}");
    }
}

/// The largest difference from the golden scores.
fn worst(path: &Path) -> f32 {
    let goldens = goldens();
    let expected = &goldens.rerankers["modernbert-rerank"];
    let passages: Vec<&str> = goldens.texts[..expected.len()].iter().map(String::as_str).collect();
    let logits = Reranker::load("r", path).unwrap().logits(&goldens.texts[0], &passages).unwrap().scores;
    logits.iter().zip(expected).map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f32::max)
}

#[test]
fn another_head_window_theta_or_norm_of_a_modernbert_reranker_is_told_apart() {
    let folder =
        |key: &str, value: serde_json::Value| changed("modernbert-rerank", |config| config[key] = value.clone());
    for (key, value) in [
        ("classifier_pooling", json!("cls")),
        ("norm_eps", json!(0.05)),
        ("local_attention", json!(6)),
        ("layer_types", json!(vec!["full_attention"; 4])),
    ] {
        let worst = worst(folder(key, value).path());
        assert!(worst > 1e-3, "{key}: {worst}");
    }
    let file = "modernbert-rerank.gguf";
    for (key, number) in
        [("rope.freq_base", 2000f32), ("rope.freq_base_swa", 30.0), ("attention.layer_norm_epsilon", 0.05)]
    {
        let folder = with_number(file, &format!("modern-bert.{key}"), number.to_le_bytes());
        let worst = worst(&folder.path().join(file));
        assert!(worst > 1e-3, "{key}: {worst}");
    }
    for (key, value) in [("classifier_pooling", json!("max")), ("classifier_activation", json!("silu"))] {
        let said = Reranker::load("r", folder(key, value).path()).err().unwrap().to_string();
        assert!(said.contains(key), "{said}");
    }
}

#[test]
fn a_score_does_not_depend_on_its_company_and_a_long_passage_is_cut() {
    let goldens = goldens();
    let reranker = Reranker::load("r", &folder("bert-rerank")).unwrap();
    let long = goldens.texts[9].repeat(20);
    let passages = [goldens.texts[2].as_str(), &long, ""];
    let together = reranker.rerank(&goldens.texts[0], &passages).unwrap();
    assert_eq!(together.cut, [false, true, false]);
    for (passage, expected) in passages.iter().zip(&together.scores) {
        let alone = reranker.rerank(&goldens.texts[0], &[passage]).unwrap();
        assert_eq!(alone.scores[0], *expected);
        assert!(alone.tokens <= 96);
    }
    assert!(reranker.rerank(&long, &passages).unwrap().cut.iter().all(|cut| *cut));
    assert!(reranker.rerank("x", &[]).unwrap().scores.is_empty());
}

#[test]
fn a_model_without_a_head_is_no_reranker() {
    let said = Reranker::load("x", &folder("bert-mean")).err().unwrap().to_string();
    assert!(said.contains("classifier") || said.contains("pooler"), "{said}");
    let said = Reranker::load("x", &folder("bert-mean.gguf")).err().unwrap().to_string();
    assert!(said.contains("it is no reranker"), "{said}");
    let said = Embedder::load("x", &folder("bert-rerank.gguf"), &[]).err().unwrap().to_string();
    assert!(said.contains("`models.rerank`"), "{said}");
}
