//! `/v1/embeddings`.

use base64::Engine;
use serde_json::{Value, json};

use super::server::{EMBED_MODEL, Reply, Server};

async fn embed(input: Value, extra: Value) -> Reply {
    let mut body = json!({"model": EMBED_MODEL, "input": input});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    Server::shared().post("/v1/embeddings", &body).await
}

fn vector(entry: &Value) -> Vec<f32> {
    entry["embedding"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[tokio::test]
async fn a_list_of_texts_gives_a_vector_each_in_order() {
    let body = embed(json!(["a kettle", "a boiling kettle", "the stock exchange"]), json!({})).await.json();
    assert_eq!(body["object"], "list", "{body}");
    assert_eq!(body["data"][2]["index"], 2);
    let vectors: Vec<Vec<f32>> = body["data"].as_array().unwrap().iter().map(vector).collect();
    assert_eq!(vectors[0].len(), 384);
    assert!(cosine(&vectors[0], &vectors[1]) > cosine(&vectors[0], &vectors[2]));
    assert!(body["usage"]["prompt_tokens"].as_u64().unwrap() >= 9, "{}", body["usage"]);
}

#[tokio::test]
async fn base64_holds_the_same_numbers() {
    let floats = embed(json!("a kettle"), json!({"encoding_format": "float"})).await.json();
    let encoded = embed(json!("a kettle"), json!({"encoding_format": "base64"})).await.json();
    let bytes =
        base64::engine::general_purpose::STANDARD.decode(encoded["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let decoded: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let difference = decoded.iter().zip(vector(&floats["data"][0])).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(decoded.len() == 384 && difference < 1e-6, "{difference}");
}

#[tokio::test]
async fn what_cannot_be_embedded_is_refused_by_name() {
    embed(json!([1, 2, 3]), json!({})).await.error(400, "unsupported_parameter", Some("input"));
    embed(json!([]), json!({})).await.error(400, "invalid_value", Some("input"));
    embed(json!(["a", ""]), json!({})).await.error(400, "invalid_value", Some("input[1]"));
    embed(json!("a"), json!({"dimensions": 64})).await.error(400, "unsupported_parameter", Some("dimensions"));
    embed(json!("a"), json!({"encoding_format": "hex"})).await.error(400, "invalid_value", Some("encoding_format"));
    let many: Vec<&str> = vec!["a"; 2049];
    embed(json!(many), json!({})).await.error(400, "invalid_value", Some("input"));
}

#[tokio::test]
async fn a_text_that_is_too_long_is_refused_unless_it_may_be_cut() {
    let long = "kettle ".repeat(2000);
    let input = json!(["short", long]);
    embed(input.clone(), json!({})).await.error(400, "context_length_exceeded", Some("input[1]"));
    let body = embed(input, json!({"truncate": true})).await.json();
    assert_eq!(body["data"][1]["truncated"], true, "{}", body["usage"]);
    assert!(body["data"][0].get("truncated").is_none());
}
