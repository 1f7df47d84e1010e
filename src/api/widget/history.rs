//! What was said in a visitor's conversation, as it is and as it happens; and the visitor's word on whether it helped.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::response::sse::Event;
use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::render::html;
use super::token::Visitor;
use crate::api::body::JsonBody;
use crate::api::console::typed;
use crate::api::follow::{after, follow};
use crate::api::path::QueryOf;
use crate::api::state::AppState;
use crate::api::wire::error::ApiError;
use crate::store::{Change, Present, Said, Step};

pub async fn history(State(state): State<AppState>, visitor: Visitor) -> Result<Json<Value>, ApiError> {
    let loaded = state.loaded()?;
    let id = &visitor.conversation_id;
    // The number first: what comes between is sent again rather than missed.
    let seq = loaded.store.last_seq().await?;
    let present = loaded.store.present(id).await?;
    let said = loaded.store.timeline(id).await?;
    let shown = said.iter().filter(|said| said.from != "note" && !said.text.is_empty());
    let messages: Vec<Value> = shown.map(|said| said_json(said, state.public_url())).collect();
    let mut value = owner_json(present.as_ref());
    value["conversation_id"] = json!(present.as_ref().map(|p| &p.conversation_id));
    value["messages"] = json!(messages);
    value["seq"] = json!(seq);
    Ok(Json(value))
}

fn owner_json(present: Option<&Present>) -> Value {
    let name = present.and_then(|present| present.staff_name.as_ref());
    let owner = present.map_or("bot", |present| present.owner.as_str());
    json!({"owner": owner, "person": name.map(|name| json!({"name": name}))})
}

fn said_json(said: &Said, public_url: &str) -> Value {
    let mut value = json!({
        "id": said.id, "at_ms": said.at_ms, "from": said.from, "text": said.text, "html": html(&said.text, public_url),
    });
    if let Some(name) = &said.staff_name {
        value["name"] = json!(name);
    }
    value
}

#[derive(Deserialize)]
pub struct After {
    after: Option<String>,
}

pub async fn events(
    State(state): State<AppState>,
    visitor: Visitor,
    QueryOf(query): QueryOf<After>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let seq = after(&headers, query.after.as_deref())?;
    let own = state.clone();
    let render = move |change: Change| {
        let state = own.clone();
        async move { event(&state, &change).await }.boxed()
    };
    follow(&state, Some(visitor.conversation_id), seq, Box::new(render)).await
}

async fn event(state: &AppState, change: &Change) -> Option<Event> {
    let loaded = state.loaded().ok()?;
    let id = change.conversation_id.as_deref()?;
    let word = |name: &str| change.body.get(name).and_then(Value::as_str);
    match change.kind.as_str() {
        "message" if matches!(word("from"), Some("bot" | "person" | "system")) => {
            let said = loaded.store.said(id, word("turn_id").or(word("message_id"))?).await.ok()?;
            // Of a turn: the answer. The customer's own words are in the customer's window already.
            let said = said.into_iter().find(|said| said.from != "customer" && !said.text.is_empty())?;
            Some(Event::default().event("message").data(said_json(&said, state.public_url()).to_string()))
        }
        "owner" => {
            let present = loaded.store.present(id).await.ok()?;
            Some(Event::default().event("owner").data(owner_json(present.as_ref()).to_string()))
        }
        _ => None,
    }
}

#[derive(Deserialize)]
struct Solved {
    solved: bool,
}

/// The customer's own word. Where the bot has the conversation, a yes ends it; writing opens it again.
pub async fn solved(
    State(state): State<AppState>,
    visitor: Visitor,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let Solved { solved } = typed(body)?;
    let decide = |present: &Present| {
        let ends = solved && present.owner == "bot";
        Ok::<_, std::convert::Infallible>(Step {
            owner: if ends { "closed".into() } else { present.owner.clone() },
            staff_id: present.staff_id.clone(),
            closed_as: if ends { Some("solved".into()) } else { present.closed_as.clone() },
            what: "closed",
            solved: Some(solved),
            ..Step::default()
        })
    };
    match state.loaded()?.store.act(&visitor.conversation_id, decide).await? {
        Some(Ok((present, _))) => Ok(Json(owner_json(Some(&present)))),
        Some(Err(never)) => match never {},
        None => {
            let message = "nothing was written in this conversation yet";
            Err(ApiError::new(StatusCode::NOT_FOUND, "conversation_not_found", message))
        }
    }
}
