//! `/v1/responses`: the newer shape of the same answers.
//!
//! A request is put into the shape of a chat request ([`super::wire::responses`]) and goes the same way; the answer comes
//! back as *items* (a message, calls of functions, a train of thought), whole or as events under OpenAI's names
//! ([`events`]). Responses are kept in memory, so that the next request can go on from one (`previous_response_id`).

mod events;
mod kept;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::answer::Piece;
use super::auth::Principal;
use super::body::JsonBody;
use super::chat::{Begun, begin, gather};
use super::observe::Arrival;
use super::path::{NamedQuery, NoQuery, PathText};
use super::state::AppState;
use super::stream::FIRST_PIECE;
use super::wire::error::ApiError;
use super::wire::items::{Frame, output_of};
use super::wire::responses::responses_request;
pub use kept::KeptResponses;

/// Serves a request.
pub async fn create(
    State(state): State<AppState>,
    principal: Principal,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let mut request = responses_request(body)?;
    if let Some(previous) = &request.previous {
        let earlier = state.responses().transcript(previous, &principal.key_name).ok_or_else(|| {
            let message = format!("there is no response {previous:?} of this key (any more); send the whole \"input\"");
            ApiError::new(StatusCode::NOT_FOUND, "response_not_found", message).on("previous_response_id")
        })?;
        request.go_on_from(earlier);
    }
    let (chat, transcript) = (request.chat_body(), request.transcript.clone());
    let begun = begin(&state, &principal, &headers, arrival.0, chat, "resp_").await.map_err(as_input)?;
    let Begun { mut answer, envelope, conversation_id, .. } = begun;
    let frame = Frame::new(&envelope, &request);
    let keep = request.store.then(|| (state.clone(), principal.key_name.clone(), transcript));
    let mut response = if request.stream {
        let first = match tokio::time::timeout(FIRST_PIECE, answer.next()).await {
            Ok(Piece::Failed(error)) => return Err(error),
            Ok(piece) => Some(piece),
            Err(_) => None,
        };
        events::respond(answer, first, frame, keep)
    } else {
        let (choices, ending) = gather(&mut answer, 1).await?;
        let output = output_of(choices.into_iter().next().unwrap_or_default(), &ending);
        let body = frame.response(&output, Some(&ending));
        if let Some((state, key, transcript)) = keep {
            state.responses().keep(&key, transcript, &output, body.clone());
        }
        Json(body).into_response()
    };
    if let Some((name, value)) = conversation_id {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// What chat calls messages is the input here.
fn as_input(error: ApiError) -> ApiError {
    let param = error.param.as_deref().map(|param| match param.strip_prefix("messages") {
        Some(rest) => format!("input{rest}"),
        None => param
            .replace("response_format.json_schema", "text.format")
            .replace("logprobs", "include")
            .replace("top_include", "top_logprobs")
            .replace("].function.", "].")
            .replace("reasoning_effort", "reasoning.effort")
            .replace("max_completion_tokens", "max_output_tokens"),
    });
    ApiError { param, ..error }
}

/// A response that is kept.
pub async fn get(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
    _: NamedQuery<NoQuery>,
) -> Result<Json<Value>, ApiError> {
    state.responses().get(&id, &principal.key_name).map(Json).ok_or_else(|| not_kept(&id))
}

/// Forgets a response.
pub async fn delete(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
) -> Result<Json<Value>, ApiError> {
    match state.responses().forget(&id, &principal.key_name) {
        true => Ok(Json(json!({"id": id, "object": "response", "deleted": true}))),
        false => Err(not_kept(&id)),
    }
}

fn not_kept(id: &str) -> ApiError {
    let message = format!("there is no response {id:?} of this key (any more)");
    ApiError::new(StatusCode::NOT_FOUND, "response_not_found", message)
}
