//! The staff's own questions to the bot: the same knowledge and the same answers as customers get. Nothing is recorded.

use axum::extract::{Extension, State};
use axum::response::Response;
use serde::Deserialize;

use super::session::Staff;
use super::{typed, words};
use crate::api::body::JsonBody;
use crate::api::observe::Arrival;
use crate::api::state::AppState;
use crate::api::turns::{self, TurnCall};
use crate::api::wire::error::ApiError;
use crate::api::{chat, stream};
use crate::llm::ChatMessage;

/// Most earlier messages of a question.
const MOST_HISTORY: usize = 40;

#[derive(Deserialize)]
struct Ask {
    question: String,
    operator: Option<String>,
    #[serde(default)]
    history: Vec<Earlier>,
}

#[derive(Deserialize)]
struct Earlier {
    role: String,
    content: String,
}

pub async fn ask(
    State(state): State<AppState>,
    staff: Staff,
    Extension(arrival): Extension<Arrival>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let ask: Ask = typed(body)?;
    let loaded = state.loaded()?;
    let most = state.settings().server.max_message_chars;
    let question = words("question", &ask.question, most)?;
    if ask.history.len() > MOST_HISTORY {
        let message = format!("{} earlier messages are too many; the most is {MOST_HISTORY}", ask.history.len());
        return Err(ApiError::invalid("history", message));
    }
    let mut messages = Vec::new();
    for (n, earlier) in ask.history.into_iter().enumerate() {
        let param = format!("history[{n}]");
        if !matches!(earlier.role.as_str(), "user" | "assistant") {
            return Err(ApiError::invalid(format!("{param}.role"), "the role must be \"user\" or \"assistant\""));
        }
        let content = words(&format!("{param}.content"), &earlier.content, most)?;
        messages.push(ChatMessage { role: earlier.role, content });
    }
    messages.push(ChatMessage { role: "user".into(), content: question });
    let envelope = chat::envelope(&state, loaded, ask.operator.as_deref().unwrap_or("support"));
    let call = TurnCall {
        key_name: format!("@console:{}", staff.id),
        operator: ask.operator,
        messages,
        response_id: envelope.id.clone(),
        with_trace: true,
        unrecorded: true,
        ..TurnCall::default()
    };
    let answer = turns::begin(&state, state.admit()?, arrival.0, call).await?;
    Ok(stream::respond(answer, None, envelope, false, false))
}
