//! `POST /widget/api/messages`: what a visitor writes. Accepted once by the browser's own id, answered as a stream; while
//! a person has the conversation only accepted.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::token::Visitor;
use super::{CHANNEL, KEY_NAME};
use crate::api::answer::{Ending, Piece};
use crate::api::body::JsonBody;
use crate::api::console::{typed, words};
use crate::api::desk_state::{ClientAddress, too_often};
use crate::api::state::{AppState, Loaded};
use crate::api::wire::error::ApiError;
use crate::api::{chat, inbound, stream};
use crate::desk::Owner;
use crate::store::Inbound;

#[derive(Deserialize)]
struct Message {
    id: String,
    text: String,
}

pub async fn message(
    State(state): State<AppState>,
    visitor: Visitor,
    address: ClientAddress,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let message: Message = typed(body)?;
    if uuid::Uuid::parse_str(&message.id).is_err() {
        return Err(ApiError::invalid(
            "id",
            "\"id\" must be a UUID of the browser's own, the same when it tries again",
        ));
    }
    let text = words("text", &message.text, state.settings().desk.message_chars)?;
    state.desk().visitors.attempt(&visitor.id).map_err(too_often)?;
    state.desk().addresses.attempt(&address.0).map_err(too_often)?;
    state.desk().answering.room()?;
    let loaded = state.loaded()?;
    let origin = format!("widget:{}", visitor.id);
    let accepted = loaded
        .store
        .accept(&Inbound {
            origin: origin.clone(),
            message_id: message.id.clone(),
            customer_id: Some(visitor.id.clone()),
            conversation_id: visitor.conversation_id.clone(),
            channel: None,
            since_ms: 0,
            text,
            context: json!({"key_name": KEY_NAME, "channel": CHANNEL, "operator": visitor.operator}),
        })
        .await?;
    let with_person = matches!(owner(loaded, &visitor).await?, Owner::Person);
    let envelope = chat::envelope(&state, loaded, visitor.operator.as_deref().unwrap_or("support"));
    let pieces = match &accepted.turn_id {
        Some(turn) => Some(again(loaded, &visitor, turn).await?),
        None => inbound::answer(&state, &origin, &message.id),
    };
    match pieces {
        Some(pieces) if !with_person => Ok(stream::respond_pieces(pieces, envelope)),
        // A person answers, by the events; or the answer is on its way already, and comes there too.
        _ => Ok(only_accepted()),
    }
}

async fn owner(loaded: &Loaded, visitor: &Visitor) -> Result<Owner, ApiError> {
    let present = loaded.store.present(&visitor.conversation_id).await?;
    Ok(present.and_then(|present| Owner::parse(&present.owner)).unwrap_or_default())
}

/// The recorded answer to a message that is sent again.
async fn again(loaded: &Loaded, visitor: &Visitor, turn: &str) -> Result<mpsc::Receiver<Piece>, ApiError> {
    let said = loaded.store.said(&visitor.conversation_id, turn).await?;
    let answer = said.into_iter().find(|said| said.from == "bot");
    let (sender, receiver) = mpsc::channel(2);
    if let Some(answer) = answer {
        let _ = sender.try_send(Piece::Text { text: answer.text, logprobs: Vec::new() });
    }
    let support = json!({"v": 1, "conversation_id": visitor.conversation_id, "message_id": turn, "repeated": true});
    let _ = sender.try_send(Piece::Done(Box::new(Ending {
        finish_reason: "stop",
        usage: Default::default(),
        support: Some((support, crate::support::Action::Answer)),
        tool_call: None,
    })));
    Ok(receiver)
}

fn only_accepted() -> Response {
    let event = Event::default().data(json!({"accepted": true}).to_string());
    Sse::new(futures::stream::once(async move { Ok::<_, Infallible>(event) })).into_response()
}
