//! `GET /v1/support/trace/{response id}`: why this answer.
//!
//! The last traces are kept in memory, each for the key that asked. A client that wants the trace with the answer
//! sends `metadata.trace`.

use std::collections::VecDeque;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;

use super::auth::{Principal, Scope};
use super::path::PathText;
use super::state::AppState;
use super::wire::error::ApiError;

/// Most traces that are kept for a key.
const KEPT: usize = 256;

/// The last traces, newest at the end.
#[derive(Default)]
pub struct Traces(Mutex<VecDeque<Kept>>);

struct Kept {
    response_id: String,
    key_name: String,
    support: Value,
}

impl Traces {
    /// Keeps a response's `support` field with its trace.
    pub fn keep(&self, response_id: &str, key_name: &str, support: Value) {
        let mut kept = self.0.lock();
        let mut own = kept.iter().enumerate().filter(|(_, k)| k.key_name == key_name).map(|(at, _)| at);
        if let (Some(oldest), true) = (own.next(), own.count() + 1 >= KEPT) {
            kept.remove(oldest);
        }
        kept.push_back(Kept { response_id: response_id.into(), key_name: key_name.into(), support });
    }

    fn find(&self, response_id: &str, key_name: &str) -> Option<Value> {
        let kept = self.0.lock();
        kept.iter().find(|k| k.response_id == response_id && k.key_name == key_name).map(|k| k.support.clone())
    }
}

/// The `support` field of an earlier response, with its trace.
pub async fn get(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
) -> Result<Json<Value>, ApiError> {
    principal.require(Scope::Chat)?;
    let loaded = state.loaded()?;
    let mut found = loaded.traces.find(&id, &principal.key_name);
    // What was forgotten in the database is forgotten here.
    if let Some(conversation) = found.as_ref().and_then(|support| support["conversation_id"].as_str())
        && loaded.store.conversation(conversation, &principal.key_name).await?.is_none()
    {
        found = None;
    }
    found.map(Json).ok_or_else(|| {
        let message = format!("there is no trace of {id:?}; the last {KEPT} of this key are kept");
        ApiError::new(StatusCode::NOT_FOUND, "trace_not_found", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_trace_is_found_by_its_own_key_alone_until_many_have_followed() {
        let traces = Traces::default();
        traces.keep("r0", "shop", json!(0));
        assert_eq!(traces.find("r0", "shop"), Some(json!(0)));
        assert_eq!(traces.find("r0", "other"), None);
        for n in 1..=KEPT {
            traces.keep(&format!("r{n}"), "shop", json!(n));
        }
        assert_eq!(traces.find("r0", "shop"), None);
        assert_eq!(traces.find("r1", "shop"), Some(json!(1)));
        traces.keep("o", "other", json!("o"));
        assert_eq!(traces.find("r1", "shop"), Some(json!(1)), "a busy key does not push others' traces out");
    }
}
