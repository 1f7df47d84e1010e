//! `POST /v1/rerank`, in the shape of Cohere and Jina: documents in the order in which they answer a query.
//!
//! The score is the cosine of the embedding model's vectors (0 for opposite or unrelated, 1 for the same).

use axum::Json;
use axum::extract::{Extension, State};
use serde_json::{Value, json};

use super::auth::{Principal, Scope};
use super::body::JsonBody;
use super::embeddings::vectors;
use super::observe::Arrival;
use super::state::AppState;
use super::wire::error::ApiError;
use super::wire::fields::{Fields, wrong_type};
use crate::embed::Role;

/// A rerank request, validated.
#[derive(Debug, PartialEq)]
struct RerankRequest {
    model: Option<String>,
    query: String,
    documents: Vec<String>,
    top_n: Option<usize>,
    return_documents: bool,
}

fn rerank_request(body: Value, max_inputs: usize) -> Result<RerankRequest, ApiError> {
    let mut fields = Fields::new(body, "")?;
    let model = fields.string("model")?;
    let query = fields.required_string("query")?;
    if query.trim().is_empty() {
        return Err(ApiError::invalid("query", "\"query\" is empty"));
    }
    let documents = match fields.take("documents") {
        None => return Err(ApiError::missing("documents")),
        Some(Value::Array(list)) if list.is_empty() => {
            return Err(ApiError::invalid("documents", "\"documents\" is an empty list"));
        }
        Some(Value::Array(list)) if list.len() > max_inputs => {
            let message = format!("{} documents were sent; the limit is {max_inputs}", list.len());
            return Err(ApiError::invalid("documents", format!("{message} (server.max_embedding_inputs)")));
        }
        Some(Value::Array(list)) => list.into_iter().enumerate().map(document).collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong_type("documents", "a list of texts", &other)),
    };
    let top_n = fields.count("top_n", 1..=i64::MAX)?;
    let return_documents = fields.boolean("return_documents")?.unwrap_or(false);
    fields.refuse(&[
        ("max_chunks_per_doc", "documents are not cut; send passages"),
        ("max_tokens_per_doc", "documents are not cut; send passages"),
        ("rank_fields", "documents are plain texts"),
    ])?;
    fields.ignore(&["user"]);
    fields.end()?;
    Ok(RerankRequest { model, query, documents, top_n, return_documents })
}

/// A text, or an object with one.
fn document((n, value): (usize, Value)) -> Result<String, ApiError> {
    let path = format!("documents[{n}]");
    let text = match value {
        Value::String(text) => text,
        Value::Object(_) => {
            let mut fields = Fields::new(value, path.as_str())?;
            let text = fields.required_string("text")?;
            fields.end()?;
            text
        }
        other => return Err(wrong_type(&path, "a text", &other)),
    };
    if text.trim().is_empty() { Err(ApiError::invalid(path, "a document must not be empty")) } else { Ok(text) }
}

/// Serves a request.
pub async fn rerank(
    State(state): State<AppState>,
    principal: Principal,
    Extension(arrival): Extension<Arrival>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    principal.require(Scope::Embeddings)?;
    let request = rerank_request(body, state.settings().server.max_embedding_inputs)?;
    let loaded = state.loaded()?;
    let model = request.model.unwrap_or_else(|| loaded.embedder.id().to_string());
    if model != loaded.embedder.id() {
        return Err(ApiError::model_not_found(&model, loaded.embedder.id()));
    }
    let _admission = state.admit()?;
    let limit = state.request_timeout();
    let deadline = tokio::time::Instant::from_std(arrival.0 + limit);
    let work = async {
        let (query, query_tokens) = vectors(loaded, vec![request.query], Role::Query, "query").await?;
        let (documents, tokens) = vectors(loaded, request.documents.clone(), Role::Passage, "documents").await?;
        Ok::<_, ApiError>((query.concat(), documents, query_tokens + tokens))
    };
    let timed_out = |_| ApiError::timeout(limit.as_secs());
    let (query, documents, tokens) = tokio::time::timeout_at(deadline, work).await.map_err(timed_out)??;
    let mut ranked: Vec<(usize, f32)> = documents.iter().map(|vector| cosine(&query, vector)).enumerate().collect();
    ranked.sort_by(|(a_index, a), (b_index, b)| b.total_cmp(a).then(a_index.cmp(b_index)));
    ranked.truncate(request.top_n.unwrap_or(usize::MAX));
    let result = |(index, score): (usize, f32)| {
        let mut result = json!({"index": index, "relevance_score": score});
        if request.return_documents {
            result["document"] = json!({"text": request.documents[index]});
        }
        result
    };
    Ok(Json(json!({
        "id": format!("rerank-{}", uuid::Uuid::new_v4().simple()), "object": "list", "model": model,
        "results": ranked.into_iter().map(result).collect::<Vec<_>>(),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })))
}

/// Vectors have length 1; what points away counts as unrelated.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>().clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_objects_with_a_text_are_documents() {
        let body = json!({"query": "lid", "documents": ["a", {"text": "b"}], "top_n": 1});
        let got = rerank_request(body, 3).unwrap();
        assert_eq!((got.documents, got.top_n), (vec!["a".to_string(), "b".into()], Some(1)));
    }

    #[test]
    fn faults_are_named() {
        for (body, param) in [
            (json!({"documents": ["a"]}), "query"),
            (json!({"query": "a", "documents": []}), "documents"),
            (json!({"query": "a", "documents": ["a", " "]}), "documents[1]"),
            (json!({"query": "a", "documents": ["a", "b", "c", "d"]}), "documents"),
            (json!({"query": "a", "documents": ["a"], "top_n": 0}), "top_n"),
            (json!({"query": "a", "documents": ["a"], "rank_fields": ["x"]}), "rank_fields"),
        ] {
            assert_eq!(rerank_request(body.clone(), 3).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }
}
