//! `GET /v1/models`: operators, `support`, and the bare models; and which of them a chat request means.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::auth::{Principal, Scope};
use super::path::PathText;
use super::state::{AppState, Loaded};
use super::wire::error::ApiError;

/// The model id that lets routing choose the operator.
pub const SUPPORT: &str = "support";

/// What a chat request's model id means.
#[derive(Debug, PartialEq, Eq)]
pub enum ChatTarget {
    /// `None`: routing chooses.
    Support {
        operator: Option<String>,
    },
    Raw,
}

/// # Errors
/// 404 for an unknown id, 400 for the embedding model's.
pub fn chat_target(loaded: &Loaded, model: &str) -> Result<ChatTarget, ApiError> {
    if model == SUPPORT {
        return Ok(ChatTarget::Support { operator: None });
    }
    let operators = loaded.support.operators();
    if operators.iter().any(|name| name == model) {
        return Ok(ChatTarget::Support { operator: Some(model.to_string()) });
    }
    if model == loaded.chat.id() {
        return Ok(ChatTarget::Raw);
    }
    if model == loaded.embedder.id() {
        let message = format!("{model:?} is an embedding model; ask it at /v1/embeddings");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "unsupported_value", message).on("model"));
    }
    if loaded.knowledge.reranker().is_some_and(|reranker| reranker.id() == model) {
        let message = format!("{model:?} is a reranker; ask it at /v1/rerank");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "unsupported_value", message).on("model"));
    }
    let names = operators.iter().map(String::as_str);
    let known: Vec<&str> = std::iter::once(SUPPORT).chain(names).chain([loaded.chat.id()]).collect();
    Err(ApiError::model_not_found(model, &known.join(", ")))
}

/// All that this key may use.
pub async fn list(State(state): State<AppState>, principal: Principal) -> Result<Json<Value>, ApiError> {
    let models = visible(state.loaded()?, &principal);
    Ok(Json(json!({"object": "list", "data": models})))
}

/// One of them.
pub async fn get(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
) -> Result<Json<Value>, ApiError> {
    let models = visible(state.loaded()?, &principal);
    match models.iter().find(|model| model["id"] == id.as_str()) {
        Some(model) => Ok(Json(model.clone())),
        None => {
            let known: Vec<&str> = models.iter().filter_map(|model| model["id"].as_str()).collect();
            Err(ApiError::model_not_found(&id, &known.join(", ")))
        }
    }
}

fn visible(loaded: &Loaded, principal: &Principal) -> Vec<Value> {
    let mut models = Vec::new();
    if principal.may(Scope::Chat) {
        models.push(entry(loaded, SUPPORT, "support", "Support: routing chooses the operator"));
        for operator in &loaded.knowledge.snapshot().pack().operators {
            let mut model = entry(loaded, &operator.name, "operator", &operator.name);
            model["display_name"] = json!(operator.display_name);
            models.push(model);
        }
    }
    if principal.may(Scope::Raw) {
        models.push(entry(loaded, loaded.chat.id(), "chat", "The bare chat model"));
    }
    if principal.may(Scope::Embeddings) {
        models.push(entry(loaded, loaded.embedder.id(), "embedding", "The embedding model"));
        if let Some(reranker) = loaded.knowledge.reranker() {
            models.push(entry(loaded, reranker.id(), "rerank", "The reranker"));
        }
    }
    models
}

/// `kind` and `display_name` (an operator's is by language) are ours; the rest is OpenAI's.
fn entry(loaded: &Loaded, id: &str, kind: &str, display_name: &str) -> Value {
    json!({
        "id": id, "object": "model", "created": loaded.since, "owned_by": "firstline",
        "kind": kind, "display_name": display_name,
    })
}
