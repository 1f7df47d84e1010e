//! The server holds to its own list of parameters; and a cross-encoder answers `/v1/rerank`.

use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::server::{CHAT_MODEL, EMBED_MODEL, Server};

/// A server with all that has parameters: a channel, and a reranker (a small one with random weights).
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let reranker = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/encoders/bert-rerank");
        Server::start(&format!(
            "[models]\nrerank = {reranker:?}\n\
             [[desk.channels]]\nname = \"bridge\"\nurl = \"http://127.0.0.1:9/hook\"\n\
             secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n"
        ))
    })
}

#[test]
fn every_documented_parameter_is_taken_or_refused_by_its_name() {
    let python =
        std::env::var("FIRSTLINE_TEST_PYTHON").expect("FIRSTLINE_TEST_PYTHON; run scripts/test, which sets it");
    let output = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/parameters.py"))
        .args([&server().base, CHAT_MODEL, EMBED_MODEL, "bridge"])
        .output()
        .expect("the client runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    print!("{said}");
}

#[tokio::test]
async fn a_cross_encoder_gives_the_scores_where_one_is_set() {
    let goldens = include_str!("../golden/encoders/goldens.json");
    let goldens: Value = serde_json::from_str(goldens).unwrap();
    let theirs: Vec<f64> =
        goldens["rerankers"]["bert-rerank"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
    let texts = goldens["texts"].as_array().unwrap();
    // A passage that is empty belongs to the goldens of the model, not to a request.
    let asked: Vec<usize> =
        (0..theirs.len()).filter(|n| texts[*n].as_str().is_some_and(|t| !t.trim().is_empty())).collect();
    let documents: Vec<&Value> = asked.iter().map(|n| &texts[*n]).collect();
    let body = json!({"query": texts[0], "documents": documents, "user": "u"});
    let ranked = server().post("/v1/rerank", &body).await.json();
    assert_eq!(ranked["model"], "bert-rerank", "{ranked}");
    let results = ranked["results"].as_array().unwrap();
    assert_eq!(results.len(), asked.len());
    for result in results {
        let logit = theirs[asked[result["index"].as_u64().unwrap() as usize]];
        let expected = 1.0 / (1.0 + (-logit).exp());
        assert!((result["relevance_score"].as_f64().unwrap() - expected).abs() < 1e-3, "{result} for {expected}");
    }
    let scores: Vec<f64> = results.iter().map(|r| r["relevance_score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert!(ranked["usage"]["total_tokens"].as_u64() > Some(results.len() as u64));
    let by_vectors = json!({"model": EMBED_MODEL, "query": "a lid", "documents": ["a lid"]});
    let nearness = server().post("/v1/rerank", &by_vectors).await.json();
    assert!(nearness["results"][0]["relevance_score"].as_f64() > Some(0.99));
    let unknown = json!({"model": "nobody", "query": "a", "documents": ["a"]});
    let error = server().post("/v1/rerank", &unknown).await.error(404, "model_not_found", Some("model"));
    assert!(error["message"].as_str().unwrap().contains("bert-rerank"), "{error}");
    let long = json!({"query": "a", "documents": ["short", "a lid and a kettle ".repeat(100)]});
    server().post("/v1/rerank", &long).await.error(400, "context_length_exceeded", Some("documents[1]"));
    assert!(server().get("/v1/models").await.text().contains("\"bert-rerank\""));
    server().ask("bert-rerank", "hello").await.error(400, "unsupported_value", Some("model"));
}
