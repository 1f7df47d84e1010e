//! `GET /health/live` (the process answers) and `/health/ready` (it serves).

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::state::AppState;
use super::wire::error::ApiError;

pub async fn live() -> Json<Value> {
    Json(json!({"status": "live"}))
}

/// 503 until models and index are loaded and operators are warm, and again while stopping.
pub async fn ready(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    if state.is_stopping() {
        return Err(ApiError::not_ready(true));
    }
    let loaded = state.loaded()?;
    if !loaded.chat.is_alive() {
        return Err(ApiError::internal("the chat engine has ended; restart the server"));
    }
    Ok(Json(json!({"status": "ready", "pack_version": loaded.knowledge.snapshot().version()})))
}
