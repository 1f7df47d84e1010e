//! `GET /console/api/events`: what happens at the desk, as it happens.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::response::sse::Event;
use futures::FutureExt;
use serde::Deserialize;
use serde_json::json;

use super::session::Staff;
use crate::api::follow::{after, follow};
use crate::api::path::QueryOf;
use crate::api::state::AppState;
use crate::api::wire::error::ApiError;
use crate::store::Change;

#[derive(Deserialize)]
pub struct After {
    after: Option<String>,
}

pub async fn events(
    State(state): State<AppState>,
    _staff: Staff,
    QueryOf(query): QueryOf<After>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let seq = after(&headers, query.after.as_deref())?;
    follow(&state, None, seq, Box::new(|change: Change| async move { Some(event(change)) }.boxed())).await
}

/// The entry as it is; it holds no customer's words.
fn event(change: Change) -> Event {
    let mut data = json!({
        "seq": change.seq, "at_ms": change.at_ms, "kind": change.kind, "conversation_id": change.conversation_id,
    });
    if let Some(body) = change.body.as_object() {
        for (name, value) in body {
            data[name] = value.clone();
        }
    }
    Event::default().event("change").data(data.to_string())
}
