use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::*;

/// Writes a whole, tiny sentence-transformers folder: one layer, eight dimensions, a vocabulary of bytes. Its vectors
/// mean nothing, but equal texts have equal ones.
pub(crate) fn write_tiny_model(dir: &Path) {
    let (hidden, wide, vocabulary) = (8usize, 16usize, 260usize);
    let mut state = 7u64;
    let mut random = |shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product::<usize>())
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.8
            })
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    let mut tensors: HashMap<String, Tensor> = HashMap::new();
    let mut put = |name: &str, shape: &[usize]| {
        tensors.insert(name.to_string(), random(shape));
    };
    put("embeddings.word_embeddings.weight", &[vocabulary, hidden]);
    put("embeddings.position_embeddings.weight", &[40, hidden]);
    put("embeddings.token_type_embeddings.weight", &[2, hidden]);
    let layer = "encoder.layer.0";
    for norm in ["embeddings", &format!("{layer}.attention.output"), &format!("{layer}.output")] {
        put(&format!("{norm}.LayerNorm.weight"), &[hidden]);
        put(&format!("{norm}.LayerNorm.bias"), &[hidden]);
    }
    for part in ["query", "key", "value"] {
        put(&format!("{layer}.attention.self.{part}.weight"), &[hidden, hidden]);
        put(&format!("{layer}.attention.self.{part}.bias"), &[hidden]);
    }
    for (name, out, inputs) in [
        ("attention.output.dense", hidden, hidden),
        ("intermediate.dense", wide, hidden),
        ("output.dense", hidden, wide),
    ] {
        put(&format!("{layer}.{name}.weight"), &[out, inputs]);
        put(&format!("{layer}.{name}.bias"), &[out]);
    }
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();

    let config = serde_json::json!({
        "model_type": "bert", "vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": wide, "hidden_act": "gelu", "max_position_embeddings": 40,
        "layer_norm_eps": 1e-12, "pad_token_id": 0
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut words: serde_json::Map<String, serde_json::Value> = serde_json::Map::new();
    words.insert("[PAD]".into(), 0.into());
    words.insert("[UNK]".into(), 1.into());
    for (at, c) in ('a'..='z').chain('0'..='9').enumerate() {
        words.insert(c.to_string(), (2 + at).into());
        words.insert(format!("##{c}"), (40 + at).into());
    }
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": words}
    });
    std::fs::write(dir.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let modules = serde_json::json!([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
    ]);
    std::fs::write(dir.join("modules.json"), modules.to_string()).unwrap();
    std::fs::create_dir_all(dir.join("1_Pooling")).unwrap();
    std::fs::write(dir.join("1_Pooling/config.json"), r#"{"pooling_mode_mean_tokens": true}"#).unwrap();
    let prompts = r#"{"prompts": {"query": "q ", "document": "d "}}"#;
    std::fs::write(dir.join("config_sentence_transformers.json"), prompts).unwrap();
}

/// A tiny embedder for tests of what is built on one.
pub(crate) fn tiny_embedder(languages: &[&str]) -> Embedder {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_model(dir.path());
    let languages: Vec<String> = languages.iter().map(|l| l.to_string()).collect();
    Embedder::load("tiny", dir.path(), &languages).unwrap()
}

fn minilm(precision: Precision) -> Embedder {
    let models = std::env::var_os("FIRSTLINE_MODELS")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/firstline/models"));
    let dir = models.join("all-minilm-l6-v2");
    match Embedder::load_as(precision, "all-minilm-l6-v2", &dir, &["en".into()]) {
        Ok(embedder) => embedder,
        Err(e) => panic!("{e}\nThis test wants the starter models; run scripts/fetch-models (or set FIRSTLINE_MODELS)"),
    }
}

#[derive(Deserialize)]
struct Golden {
    text: String,
    /// Little-endian half precision, base64.
    vector: String,
}

pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn vectors_agree_with_sentence_transformers() {
    let goldens: Vec<Golden> =
        serde_json::from_str(include_str!("../../tests/golden/embeddings-all-minilm-l6-v2.json")).unwrap();
    assert!(goldens.len() >= 40);
    let texts: Vec<&str> = goldens.iter().map(|golden| golden.text.as_str()).collect();
    for precision in [Precision::F32, Precision::fastest()] {
        let got = minilm(precision).embed(&texts, Role::Passage).unwrap();
        for (golden, vector) in goldens.iter().zip(&got.vectors) {
            let bytes = base64::engine::general_purpose::STANDARD.decode(&golden.vector).unwrap();
            let expected: Vec<f32> =
                bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect();
            let cosine = cosine(&expected, vector);
            assert!(cosine >= 0.9999, "{precision:?}: {cosine} for {:?}", golden.text);
        }
    }
}

#[test]
fn a_thousand_texts_keep_their_direction_in_every_precision() {
    let words: Vec<&str> = include_str!("../../tests/golden/english.txt").split_whitespace().collect();
    let cut = |i: usize| words.iter().cycle().skip(i * 37 % words.len()).take(1 + i * 53 % 9).copied();
    let texts: Vec<String> = (0..1000).map(|i| cut(i).collect::<Vec<_>>().join(" ")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let exact = minilm(Precision::F32).embed(&texts, Role::Passage).unwrap();
    for precision in [Precision::Bf16, Precision::Int16] {
        let quick = minilm(precision).embed(&texts, Role::Passage).unwrap();
        let least = exact.vectors.iter().zip(&quick.vectors).map(|(a, b)| cosine(a, b)).fold(1.0, f32::min);
        println!("least cosine of a thousand in {precision:?}: {least}");
        assert!(least >= 0.9999, "{precision:?}: {least}");
    }
}

#[test]
fn a_text_longer_than_the_model_reads_is_cut_and_said_to_be() {
    let embedder = tiny_embedder(&["en"]);
    let long = "abc ".repeat(100);
    let got = embedder.embed(&["abc", &long], Role::Passage).unwrap();
    assert_eq!(got.truncated, [false, true]);
    assert_eq!(got.tokens, [4, embedder.max_tokens()]);
}

#[test]
fn a_texts_vector_does_not_depend_on_its_company_in_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_model(dir.path());
    let tiny = |precision| Embedder::load_as(precision, "tiny", dir.path(), &[]).unwrap();
    let texts = ["a", "the quick brown fox", "12 monkeys", "", "zzz zzz zzz zzz zzz", "a a", "lazy dogs"];
    for precision in [Precision::F32, Precision::Bf16, Precision::Int16] {
        for embedder in [tiny(precision), minilm(precision)] {
            let together = embedder.embed(&texts, Role::Passage).unwrap();
            for (text, expected) in texts.iter().zip(&together.vectors) {
                let alone = embedder.embed(&[text], Role::Passage).unwrap();
                assert_eq!(alone.vectors[0], *expected, "{precision:?}: {text}");
            }
        }
    }
    let embedder = tiny(Precision::F32);
    assert!(embedder.embed(&[], Role::Query).unwrap().vectors.is_empty());
}

#[test]
fn queries_and_passages_get_their_own_prefix() {
    let embedder = tiny_embedder(&["en"]);
    let got = |role| embedder.embed(&["abc"], role).unwrap().vectors.remove(0);
    assert!(cosine(&got(Role::Query), &got(Role::Passage)) < 0.9999);
}

/// What `Embedder::load` says of a tiny model that `break_it` has changed.
fn refusal(break_it: impl Fn(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    write_tiny_model(dir.path());
    break_it(dir.path());
    match Embedder::load("tiny", dir.path(), &[]) {
        Ok(_) => panic!("it was loaded"),
        Err(e) => e.to_string(),
    }
}

fn edit_config(dir: &Path, from: &str, to: &str) {
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_broken_model_folder_is_refused_with_the_file_and_the_reason() {
    let said = refusal(|dir| {
        let path = dir.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(said.contains("model.safetensors") && said.contains("not a whole safetensors file"), "{said}");

    let said = refusal(|dir| std::fs::write(dir.join("model.safetensors"), b"oops").unwrap());
    assert!(said.contains("not a whole safetensors file"), "{said}");

    let said = refusal(|dir| std::fs::remove_file(dir.join("tokenizer.json")).unwrap());
    assert!(said.contains("tokenizer.json"), "{said}");

    let said = refusal(|dir| std::fs::write(dir.join("tokenizer.json"), "{}").unwrap());
    assert!(said.contains("is not a tokenizer"), "{said}");

    let said = refusal(|dir| edit_config(dir, "\"bert\"", "\"llama\""));
    assert!(said.contains("config.json") && said.contains("`llama`") && said.contains("bert"), "{said}");

    let said = refusal(|dir| edit_config(dir, "\"intermediate_size\":16", "\"intermediate_size\":32"));
    assert!(said.contains("intermediate.dense.weight") && said.contains("[32, 8]"), "{said}");

    let said = refusal(|dir| edit_config(dir, "\"num_hidden_layers\":1", "\"num_hidden_layers\":2"));
    assert!(said.contains("encoder.layer.1") && said.contains("missing"), "{said}");

    let said = refusal(|dir| edit_config(dir, "\"vocab_size\":260", "\"vocab_size\":20"));
    assert!(said.contains("do not belong together") || said.contains("shape"), "{said}");

    let said = refusal(|dir| std::fs::write(dir.join("config.json"), "{").unwrap());
    assert!(said.contains("config.json"), "{said}");

    assert!(Embedder::load("x", Path::new("/no/such/folder"), &[]).is_err());
}

#[test]
fn vectors_are_those_of_candles_own_bert() {
    use candle_core::DType;
    use candle_transformers::models::bert::{BertModel, Config};

    let dir = tempfile::tempdir().unwrap();
    write_tiny_model(dir.path());
    let texts = ["kitten", "a longer one of 42 words"];
    let ours = Embedder::load_as(Precision::F32, "tiny", dir.path(), &[]).unwrap();
    let ours = ours.embed(&texts, Role::Passage).unwrap();

    let tensors = candle_core::safetensors::load(dir.path().join("model.safetensors"), &Device::Cpu).unwrap();
    let weights = candle_nn::VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let config = Config {
        vocab_size: 260,
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 16,
        max_position_embeddings: 40,
        layer_norm_eps: 1e-12,
        ..Config::default()
    };
    let bert = BertModel::load(weights, &config).unwrap();
    let tokenizer = tokenizers::Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
    for (text, vector) in texts.iter().zip(&ours.vectors) {
        let encoding = tokenizer.encode(format!("d {text}"), true).unwrap();
        let ids = Tensor::new(encoding.get_ids(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let states = bert.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
        let mean: Vec<f32> = states.mean(1).unwrap().squeeze(0).unwrap().to_vec1().unwrap();
        let norm = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        for (theirs, ours) in mean.iter().zip(vector) {
            assert!((theirs / norm - ours).abs() < 1e-5, "{text}: {theirs} / {norm} against {ours}");
        }
    }
}

/// Vectors of transformers for small models with random weights (scripts/make-encoder-goldens).
#[derive(Deserialize)]
struct EncoderGoldens {
    texts: Vec<String>,
    /// Model -> role -> vectors.
    embedders: HashMap<String, HashMap<String, Vec<Vec<f32>>>>,
}

#[test]
fn every_family_of_encoders_agrees_with_transformers_in_both_roles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoders");
    let goldens: EncoderGoldens =
        serde_json::from_str(&std::fs::read_to_string(folder.join("goldens.json")).unwrap()).unwrap();
    assert_eq!(goldens.embedders.len(), 5);
    let texts: Vec<&str> = goldens.texts.iter().map(String::as_str).collect();
    for (name, roles) in &goldens.embedders {
        let embedder = Embedder::load_as(Precision::F32, name, &folder.join(name), &[]).unwrap();
        for (role, expected) in [(Role::Query, &roles["query"]), (Role::Passage, &roles["passage"])] {
            let got = embedder.embed(&texts, role).unwrap();
            for (text, (ours, theirs)) in texts.iter().zip(got.vectors.iter().zip(expected)) {
                let cosine = cosine(ours, theirs);
                assert!(cosine >= 0.9999, "{name}, {role:?}: {cosine} for {text:?}");
            }
            assert_eq!(got.truncated.last(), Some(&true), "{name}: the last text is longer than the model reads");
        }
        let unlike = cosine(&roles["passage"][0], &roles["passage"][2]);
        assert!(unlike < 0.995, "{name}: the goldens tell nothing apart ({unlike})");
    }
}

#[test]
fn a_matryoshka_models_vectors_are_cut_and_of_length_one_again() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoders/bert-mean");
    let folder = tempfile::tempdir().unwrap();
    for file in ["model.safetensors", "tokenizer.json"] {
        std::fs::copy(source.join(file), folder.path().join(file)).unwrap();
    }
    let config = std::fs::read_to_string(source.join("config.json")).unwrap();
    let config = config.replacen('{', r#"{"matryoshka_dimensions": [4, 8],"#, 1);
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let embedder = Embedder::load_as(Precision::F32, "small", folder.path(), &[]).unwrap();
    assert!(embedder.takes_dimensions(8) && embedder.takes_dimensions(16) && !embedder.takes_dimensions(5));
    let whole = embedder.embed(&["How do I install the widget?"], Role::Query).unwrap().vectors.remove(0);
    let cut = Embedder::cut(whole.clone(), 8);
    let norm = whole[..8].iter().map(|x| x * x).sum::<f32>().sqrt();
    assert_eq!(cut.len(), 8);
    assert!(cut.iter().zip(&whole).all(|(cut, whole)| (cut - whole / norm).abs() < 1e-6), "{cut:?}");
    assert_eq!(Embedder::cut(whole.clone(), 16), whole);
}

#[test]
fn gguf_files_of_bert_and_xlm_roberta_give_the_vectors_of_their_folders() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoders");
    let goldens: EncoderGoldens =
        serde_json::from_str(&std::fs::read_to_string(folder.join("goldens.json")).unwrap()).unwrap();
    let texts: Vec<&str> = goldens.texts.iter().map(String::as_str).collect();
    let load = |name: &str| Embedder::load_as(Precision::F32, "small", &folder.join(name), &[]).unwrap();
    for (name, longest) in [("bert-mean", 96), ("xlm-roberta-cls", 98)] {
        let (file, whole) = (load(&format!("{name}.gguf")), load(name));
        let (ours, same) = (file.embed(&texts, Role::Passage).unwrap(), whole.embed(&texts, Role::Passage).unwrap());
        assert_eq!(ours.tokens[..9], same.tokens[..9], "{name}: the vocabulary reads alike");
        for (at, theirs) in goldens.embedders[name]["passage"].iter().take(9).enumerate() {
            let cosine = cosine(&ours.vectors[at], theirs);
            assert!(cosine >= 0.9999, "{name}: {cosine} for {:?}", texts[at]);
        }
        assert_eq!((file.dimensions(), file.max_tokens()), (16, longest), "{name}");
    }
    let error = Embedder::load("x", &folder.join("../models/llama.gguf"), &[]).err().unwrap().to_string();
    assert!(error.contains("llama.gguf: it is a `llama` model"), "{error}");
}

#[test]
fn queries_at_once_get_the_vectors_that_they_get_alone() {
    let embedder = minilm(Precision::fastest());
    let queries: Vec<String> = (0..40).map(|n| format!("how do I change setting number {n} of the widget")).collect();
    let alone: Vec<Vec<f32>> =
        queries.iter().flat_map(|q| embedder.embed(&[q], Role::Query).unwrap().vectors).collect();
    std::thread::scope(|threads| {
        let asked: Vec<_> = (0..8)
            .map(|asker| {
                let (embedder, queries) = (&embedder, &queries);
                let mine = queries.iter().skip(asker).step_by(8);
                threads.spawn(move || mine.flat_map(|q| embedder.embed(&[q], Role::Query).unwrap().vectors).collect())
            })
            .collect();
        for (asker, asked) in asked.into_iter().enumerate() {
            let found: Vec<Vec<f32>> = asked.join().unwrap();
            assert!(found.iter().eq(alone.iter().skip(asker).step_by(8)), "asker {asker}");
        }
    });
}
