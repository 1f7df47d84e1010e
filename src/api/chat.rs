//! `POST /v1/chat/completions`: the model's id chooses between the support logic (`support`, or an operator's name)
//! and the bare chat model.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::answer::{Answer, Piece};
use super::auth::{Principal, Scope};
use super::body::JsonBody;
use super::conversation::Asked;
use super::observe::Arrival;
use super::state::{Admission, AppState, Loaded};
use super::turns::TurnCall;
use super::wire::chat::{ChatRequest, chat_request};
use super::wire::completion::{Envelope, message_of};
use super::wire::error::ApiError;
use super::{conversation, models, stream, turns};
use crate::config::EngineSettings;
use crate::llm::{CacheScope, ChatMessage, GenerateRequest, SamplingParams};

/// How long a stream's head waits for the first piece: an error that comes before it has its own HTTP status.
const FIRST_PIECE: Duration = Duration::from_secs(5);

/// Who asks for an answer, and when.
struct Call<'a> {
    state: &'a AppState,
    loaded: &'a Loaded,
    principal: &'a Principal,
    headers: &'a HeaderMap,
    arrived: Instant,
    response_id: &'a str,
}

/// Serves a request.
pub async fn completions(
    State(state): State<AppState>,
    principal: Principal,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request = chat_request(body, state.transcript_limits())?;
    let loaded = state.loaded()?;
    let target = models::chat_target(loaded, &request.model)?;
    principal.require(if matches!(target, models::ChatTarget::Raw) { Scope::Raw } else { Scope::Chat })?;
    let envelope = envelope(&state, loaded, &request.model);
    let call = Call {
        state: &state,
        loaded,
        principal: &principal,
        headers: &headers,
        arrived: arrival.0,
        response_id: &envelope.id,
    };
    let want_logprobs = request.logprobs.is_some();
    let (streamed, include_usage) = (request.stream, request.include_usage);
    let mut answer = in_time(&state, arrival.0, start(&call, target, request)).await?;
    let conversation_id = answer.conversation_id().and_then(|id| HeaderValue::from_str(id).ok());
    let mut response = if streamed {
        let first = match tokio::time::timeout(FIRST_PIECE, answer.next()).await {
            Ok(Piece::Failed(error)) => return Err(error),
            Ok(piece) => Some(piece),
            Err(_) => None,
        };
        stream::respond(answer, first, envelope, include_usage, want_logprobs)
    } else {
        whole(&mut answer, &envelope, want_logprobs).await?
    };
    if let Some(id) = conversation_id {
        response.headers_mut().insert(HeaderName::from_static(conversation::HEADER), id);
    }
    Ok(response)
}

/// A new answer's envelope.
pub fn envelope(state: &AppState, loaded: &Loaded, model: &str) -> Envelope {
    Envelope {
        id: format!("chatcmpl-{}", uuid::Uuid::new_v4().simple()),
        created: chrono::Utc::now().timestamp(),
        model: model.to_string(),
        fingerprint: fingerprint(loaded.chat.hash(), &state.settings().engine),
    }
}

/// What makes answers differ: the model's file, the program, and how it computes.
fn fingerprint(model: &str, engine: &EngineSettings) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let made_by = format!("{model} {version} {} {} {}", engine.backend, engine.device, engine.weights);
    format!("fl-{}", &blake3::hash(made_by.as_bytes()).to_hex()[..12])
}

/// Runs `work` within the request's time.
async fn in_time<T>(
    state: &AppState,
    arrived: Instant,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let limit = state.request_timeout();
    let deadline = tokio::time::Instant::from_std(arrived + limit);
    tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| Err(ApiError::timeout(limit.as_secs())))
}

async fn start(call: &Call<'_>, target: models::ChatTarget, request: ChatRequest) -> Result<Answer, ApiError> {
    let admission = call.state.admit()?;
    match target {
        models::ChatTarget::Raw => raw(call, admission, request).await,
        models::ChatTarget::Support { operator } => support(call, admission, operator, request).await,
    }
}

/// Runs an answer to its end.
async fn whole(answer: &mut Answer, envelope: &Envelope, want_logprobs: bool) -> Result<Response, ApiError> {
    let (mut text, mut tokens) = (String::new(), Vec::new());
    let ending = loop {
        match answer.next().await {
            Piece::Text { text: more, logprobs } => {
                text.push_str(&more);
                tokens.extend(logprobs);
            }
            Piece::Done(ending) => break ending,
            Piece::Failed(error) => return Err(error),
        }
    };
    let message = message_of(&text, ending.tool_call.as_ref());
    let logprobs = want_logprobs.then_some(tokens.as_slice());
    let mut body = envelope.completion(message, ending.finish_reason, logprobs, &ending.usage);
    let Some((support, action)) = ending.support else { return Ok(Json(body).into_response()) };
    body["support"] = support;
    Ok(([("x-support-action", action.name())], Json(body)).into_response())
}

async fn raw(call: &Call<'_>, admission: Admission, request: ChatRequest) -> Result<Answer, ApiError> {
    let Call { state, loaded, principal, arrived, .. } = *call;
    if request.handoff_tool {
        return Err(ApiError::unsupported(
            "tools",
            "\"tools\" work with \"support\" and operators, not with the bare model",
        ));
    }
    let chat = loaded.chat.clone();
    let messages = request.messages;
    // A long transcript takes a while to tokenize.
    let prompt = tokio::task::spawn_blocking(move || chat.prompt(&messages)).await.map_err(ApiError::internal)??;
    let room = loaded.chat.context_tokens().saturating_sub(prompt.tokens.len());
    let default = state.settings().engine.default_max_tokens.min(room.max(1));
    let generation = loaded.chat.generate(GenerateRequest {
        prompt: prompt.tokens,
        sampling: request.sampling.over(SamplingParams::default()),
        stop: request.stop,
        max_tokens: request.max_tokens.unwrap_or(default),
        cache: CacheScope { shared_tokens: 0, salt: format!("key:{}", principal.key_name) },
        top_logprobs: request.logprobs,
    })?;
    Ok(Answer::raw(state.clone(), admission, arrived, generation))
}

async fn support(
    call: &Call<'_>,
    admission: Admission,
    operator: Option<String>,
    request: ChatRequest,
) -> Result<Answer, ApiError> {
    let Call { state, principal, headers, arrived, response_id, .. } = *call;
    if !request.sampling.logit_bias.is_empty() {
        return Err(ApiError::unsupported("logit_bias", "\"logit_bias\" works with the bare model only"));
    }
    if request.logprobs.is_some() {
        return Err(ApiError::unsupported("logprobs", "\"logprobs\" works with the bare model only"));
    }
    let id = conversation::requested_id(headers, &request.metadata)?;
    let after_tool = request.messages.last().is_some_and(|m| m.role == "tool");
    let metadata = request.metadata;
    let turn = TurnCall {
        key_name: principal.key_name.clone(),
        asked: id.map_or(Asked::Plain, Asked::Known),
        channel: metadata.channel,
        audience: metadata.audience,
        operator,
        messages: customers_turn(request.messages)?,
        sampling: request.sampling,
        max_tokens: request.max_tokens,
        stop: request.stop,
        response_id: response_id.to_string(),
        // A client that has just run the tool wants words now.
        handoff_tool: request.handoff_tool && !after_tool,
        with_trace: metadata.trace,
        ..TurnCall::default()
    };
    turns::begin(state, admission, arrived, turn).await
}

/// The transcript as a support turn reads it: no tool traffic, and the customer has the last word.
fn customers_turn(mut messages: Vec<ChatMessage>) -> Result<Vec<ChatMessage>, ApiError> {
    let silent = |m: &ChatMessage| m.role == "assistant" && m.content.trim().is_empty();
    if messages.last().is_some_and(|m| m.role == "tool") {
        let last_user = messages.iter().rposition(|m| m.role == "user").map_or(0, |n| n + 1);
        messages.truncate(last_user);
    }
    messages.retain(|m| m.role != "tool" && !silent(m));
    // Context that the client sent after the customer's words stands before them.
    let (context, said): (Vec<_>, Vec<_>) = messages.into_iter().partition(|m| m.role == "system");
    match said.last() {
        Some(last) if last.role == "user" => Ok(context.into_iter().chain(said).collect()),
        _ => Err(ApiError::invalid("messages", "the last message must be the customer's (role \"user\")")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: &str, content: &str) -> ChatMessage {
        ChatMessage { role: role.into(), content: content.into() }
    }

    #[test]
    fn a_tools_result_leads_back_to_the_customers_words() {
        let transcript = vec![said("user", "a person please"), said("assistant", ""), said("tool", "done")];
        assert_eq!(customers_turn(transcript).unwrap(), [said("user", "a person please")]);
    }

    #[test]
    fn the_customer_must_have_the_last_word() {
        assert!(customers_turn(vec![said("user", "a"), said("assistant", "b")]).is_err());
        assert!(customers_turn(vec![said("system", "s")]).is_err());
        let got = customers_turn(vec![said("user", "a"), said("system", "s")]).unwrap();
        assert_eq!(got, [said("system", "s"), said("user", "a")]);
    }
}
