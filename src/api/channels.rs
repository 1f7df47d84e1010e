//! `POST /v1/channels/{name}/messages`: a customer's message from a messenger's bridge or a mail gateway. It is accepted
//! once by its id; the replies, the bot's or a person's, go out by signed webhook.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::{Principal, Scope};
use super::body::JsonBody;
use super::console::words;
use super::inbound;
use super::path::PathText;
use super::state::AppState;
use super::wire::error::ApiError;
use super::wire::fields::Fields;
use crate::store::Inbound;

/// Longest id of a message or a customer, in characters.
const ID_CHARS: usize = 200;

struct ChannelMessage {
    id: String,
    customer_id: String,
    customer_name: Option<String>,
    text: String,
    audience: Option<String>,
    operator: Option<String>,
}

impl ChannelMessage {
    /// Reads a message; other entries of `metadata` are the bridge's own.
    fn read(body: Value) -> Result<Self, ApiError> {
        let mut fields = Fields::new(body, "")?;
        let (id, text) = (fields.required_string("id")?, fields.required_string("text")?);
        let mut customer = fields.required_object("customer")?;
        let (customer_id, customer_name) = (customer.required_string("id")?, customer.string("name")?);
        customer.end()?;
        let metadata = fields.take("metadata").unwrap_or_else(|| json!({}));
        let mut metadata = Fields::new(metadata, "metadata")?;
        let (audience, operator) = (metadata.string("audience")?, metadata.string("operator")?);
        fields.end()?;
        Ok(Self { id, customer_id, customer_name, text, audience, operator })
    }
}

pub async fn message(
    State(state): State<AppState>,
    principal: Principal,
    PathText(name): PathText,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    principal.require(Scope::Channel)?;
    let desk = &state.settings().desk;
    let channel = desk.channels.iter().find(|channel| channel.name == name).ok_or_else(|| {
        let known: Vec<&str> = desk.channels.iter().map(|channel| channel.name.as_str()).collect();
        let message = format!("there is no channel {name:?}; [[desk.channels]] has: {}", known.join(", "));
        ApiError::new(StatusCode::NOT_FOUND, "channel_not_found", message)
    })?;
    let sent = ChannelMessage::read(body)?;
    let id = words("id", sent.id.trim(), ID_CHARS)?;
    let customer_id = words("customer.id", sent.customer_id.trim(), ID_CHARS)?;
    let text = words("text", &sent.text, desk.message_chars)?;
    let customer_name = sent.customer_name.map(|name| name.trim().chars().take(ID_CHARS).collect::<String>());
    let audience = sent.audience.or_else(|| channel.audience.clone());
    let operator = sent.operator;
    let loaded = state.loaded()?;
    if let Some(operator) = operator.as_ref().filter(|name| !loaded.support.operators().contains(name)) {
        return Err(ApiError::invalid("metadata.operator", format!("there is no operator {operator:?}")));
    }
    state.desk().answering.room()?;
    let origin = format!("channel:{name}");
    let days = i64::try_from(desk.widget_return_days.clamp(1, 3650)).unwrap_or(30);
    let accepted = loaded
        .store
        .accept(&Inbound {
            origin: origin.clone(),
            message_id: id.clone(),
            customer_id: Some(customer_id),
            conversation_id: String::new(),
            channel: Some(name.clone()),
            since_ms: chrono::Utc::now().timestamp_millis() - days * 86_400_000,
            text,
            context: json!({
                "key_name": format!("@channel:{name}"), "channel": name, "audience": audience, "operator": operator,
                "customer_name": customer_name,
            }),
        })
        .await?;
    if accepted.turn_id.is_none() {
        // Its pieces go out by webhook, from the record.
        drop(inbound::answer(&state, &origin, &id));
    }
    let body = json!({
        "conversation_id": accepted.conversation_id, "accepted": true, "duplicate": accepted.duplicate,
    });
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}
