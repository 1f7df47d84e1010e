//! Suggestions at the console: list, accept, dismiss.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::knowledge::written;
use super::session::Staff;
use super::typed;
use crate::api::body::JsonBody;
use crate::api::path::PathText;
use crate::api::state::AppState;
use crate::api::wire::error::ApiError;
use crate::desk::knowledge::Edit;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/suggestions", get(list))
        .route("/suggestions/{id}/accept", post(accept))
        .route("/suggestions/{id}/dismiss", post(dismiss))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptBody {
    question: String,
    answer: String,
    #[serde(default)]
    lang: Option<String>,
}

async fn list(State(state): State<AppState>, _staff: Staff) -> Result<Json<Value>, ApiError> {
    let items = state.loaded()?.curator.suggestions().await?;
    Ok(Json(json!({"items": items, "next": null})))
}

async fn accept(
    State(state): State<AppState>,
    staff: Staff,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let AcceptBody { question, answer, lang } = typed(body)?;
    let edit = Edit { question: Some(question), answer: Some(answer), lang, ..Edit::default() };
    let made = state.loaded()?.curator.accept(&staff.name, &id, edit).await?;
    told(&state, &id).await?;
    written(&state, made).await
}

async fn dismiss(State(state): State<AppState>, staff: Staff, PathText(id): PathText) -> Result<Json<Value>, ApiError> {
    state.loaded()?.curator.dismiss(&staff.name, &id).await?;
    told(&state, &id).await?;
    Ok(Json(json!({"dismissed": true})))
}

/// The list has changed.
async fn told(state: &AppState, id: &str) -> Result<(), ApiError> {
    if let Err(error) = state.loaded()?.store.announce("suggestion", None, &json!({"id": id})).await {
        tracing::warn!(%error, "a verdict on a suggestion was not announced");
    }
    Ok(())
}
