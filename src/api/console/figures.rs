//! `GET /console/api/figures` and `figures.csv`: the same as `/v1/support/figures`, for staff; versions and promotions.

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::session::Staff;
use crate::api::figures::{Asked, answer, csv};
use crate::api::state::AppState;
use crate::api::wire::error::ApiError;

pub fn router() -> Router<AppState> {
    Router::new().route("/figures", get(rows)).route("/figures.csv", get(rows_csv)).route("/versions", get(versions))
}

async fn rows(State(state): State<AppState>, _staff: Staff, asked: Asked) -> Result<Response, ApiError> {
    answer(&state, asked).await
}

async fn rows_csv(State(state): State<AppState>, _staff: Staff, asked: Asked) -> Result<Response, ApiError> {
    csv(&state, asked).await
}

/// Each operator's versions with their shares, and the promotions so far.
async fn versions(State(state): State<AppState>, _staff: Staff) -> Result<Json<Value>, ApiError> {
    let loaded = state.loaded()?;
    let snapshot = loaded.knowledge.snapshot();
    let operators = snapshot.pack().operators.iter().map(|operator| {
        let versions = operator.versions.values().map(|version| {
            let share = match operator.shares.is_empty() {
                true => f32::from(u8::from(version.version == operator.active_version)),
                false => operator.shares.get(&version.version).copied().unwrap_or(0.0),
            };
            json!({"version": version.version, "share": share, "lines": version.lines,
                   "active": version.version == operator.active_version})
        });
        json!({"operator": operator.name, "versions": versions.collect::<Vec<_>>()})
    });
    let promotions = loaded.store.promotions().await.map_err(ApiError::internal)?;
    Ok(Json(json!({"items": operators.collect::<Vec<_>>(), "promotions": promotions})))
}
