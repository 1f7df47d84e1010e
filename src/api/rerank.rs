//! `POST /v1/rerank`, in the shape of Cohere and Jina: documents in the order in which they answer a query.
//!
//! With a reranker (`models.rerank`) the score is that of the cross-encoder, which reads query and document together; else,
//! or where `model` names the embedding model, it is the cosine of its vectors (0 for opposite or unrelated, 1 for the same).

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::auth::{Principal, Scope};
use super::body::JsonBody;
use super::embeddings::vectors;
use super::observe::Arrival;
use super::state::{AppState, Loaded};
use super::wire::error::ApiError;
use super::wire::fields::{Fields, wrong_type};
use crate::compute::cosine;
use crate::embed::{RerankScores, Reranker, Role};

/// Documents that the cross-encoder reads between two looks at whether the client is still there.
const BATCH: usize = 16;

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
    let (embedder, reranker) = (loaded.embedder.id(), loaded.knowledge.reranker());
    let model = request.model.unwrap_or_else(|| reranker.map_or(embedder, Reranker::id).to_string());
    let reranker = reranker.filter(|reranker| reranker.id() == model);
    if reranker.is_none() && model != embedder {
        let known = loaded.knowledge.reranker().map(Reranker::id).into_iter().chain([embedder]);
        return Err(ApiError::model_not_found(&model, &known.collect::<Vec<_>>().join(", ")));
    }
    let _admission = state.admit()?;
    let limit = state.request_timeout();
    let deadline = tokio::time::Instant::from_std(arrival.0 + limit);
    let work = async {
        match reranker {
            Some(reranker) => read_together(loaded, reranker, &request.query, &request.documents).await,
            None => cosines(loaded, &request.query, &request.documents).await,
        }
    };
    let timed_out = |_| ApiError::timeout(limit.as_secs());
    let (scores, tokens) = tokio::time::timeout_at(deadline, work).await.map_err(timed_out)??;
    let mut ranked: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
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

/// The cross-encoder's scores, and the tokens that it read.
async fn read_together(
    loaded: &Loaded,
    reranker: &Reranker,
    query: &str,
    documents: &[String],
) -> Result<(Vec<f32>, usize), ApiError> {
    let (mut all, mut read) = (Vec::with_capacity(documents.len()), 0);
    for batch in documents.chunks(BATCH) {
        let turn = loaded.embedding_turn.clone().acquire_owned().await.map_err(ApiError::internal)?;
        let (model, query, batch) = (reranker.clone(), query.to_string(), batch.to_vec());
        let work = move || {
            let _turn = turn;
            model.rerank(&query, &batch.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let RerankScores { scores, tokens, cut } =
            tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)??;
        if let Some(long) = cut.iter().position(|cut| *cut) {
            let place = format!("documents[{}]", all.len() + long);
            let most = reranker.max_tokens();
            let message =
                format!("{place} and the query are longer than the {most} tokens that this model reads of both");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message).on(place));
        }
        all.extend(scores);
        read += tokens;
    }
    Ok((all, read))
}

/// How near the documents' vectors are to the query's, and the tokens read.
async fn cosines(loaded: &Loaded, query: &str, documents: &[String]) -> Result<(Vec<f32>, usize), ApiError> {
    let (query, query_tokens) = vectors(loaded, vec![query.to_string()], Role::Query, "query").await?;
    let (documents, tokens) = vectors(loaded, documents.to_vec(), Role::Passage, "documents").await?;
    let query = query.concat();
    // What points away counts as unrelated.
    let near = documents.iter().map(|vector| cosine(&query, vector).max(0.0)).collect();
    Ok((near, query_tokens + tokens))
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
