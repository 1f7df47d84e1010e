//! `POST /v1/chat/completions`: the model's id chooses between the support logic (`support`, or an operator's name)
//! and the bare chat model.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::answer::{Answer, Ending, Piece};
use super::auth::{Principal, Scope};
use super::body::JsonBody;
use super::conversation::Asked;
use super::observe::Arrival;
use super::raw::{Choices, RawAnswer, Reading};
use super::state::{Admission, AppState, Loaded};
use super::stream::FIRST_PIECE;
use super::turns::TurnCall;
use super::wire::chat::{ChatRequest, chat_request};
use super::wire::completion::{Envelope, Gathered, new_call_id, tool_call};
use super::wire::error::ApiError;
use super::{conversation, models, stream, turns};
use crate::config::EngineSettings;
use crate::llm::{CacheScope, ChatMessage, GenerateRequest, LlmError, PromptOptions, SamplingParams, ToolChoice};

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
    let begun = begin(&state, &principal, &headers, arrival.0, body, "chatcmpl-").await?;
    let Begun { mut answer, envelope, conversation_id, count, streamed, include_usage, want_logprobs } = begun;
    let mut response = if streamed {
        let first = match tokio::time::timeout(FIRST_PIECE, answer.next()).await {
            Ok(Piece::Failed(error)) => return Err(error),
            Ok(piece) => Some(piece),
            Err(_) => None,
        };
        stream::respond(answer, first, count, envelope, include_usage, want_logprobs)
    } else {
        whole(&mut answer, &envelope, count, want_logprobs).await?
    };
    if let Some((name, value)) = conversation_id {
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// An answer that has begun, and how the client wants it.
pub(super) struct Begun {
    pub answer: Answer,
    pub envelope: Envelope,
    /// The header that names the conversation, for support turns.
    pub conversation_id: Option<(HeaderName, HeaderValue)>,
    pub count: usize,
    pub streamed: bool,
    pub include_usage: bool,
    pub want_logprobs: bool,
}

/// Begins to answer a chat request; the response's id gets `prefix`.
///
/// # Errors
/// All that can be said before the first token.
pub(super) async fn begin(
    state: &AppState,
    principal: &Principal,
    headers: &HeaderMap,
    arrived: Instant,
    body: serde_json::Value,
    prefix: &str,
) -> Result<Begun, ApiError> {
    let request = chat_request(body, state.transcript_limits())?;
    let loaded = state.loaded()?;
    let target = models::chat_target(loaded, &request.model)?;
    principal.require(if matches!(target, models::ChatTarget::Raw) { Scope::Raw } else { Scope::Chat })?;
    let envelope = envelope(state, loaded, &request.model, prefix);
    let call = Call { state, loaded, principal, headers, arrived, response_id: &envelope.id };
    let (want_logprobs, count) = (request.logprobs.is_some(), request.count);
    let (streamed, include_usage) = (request.stream, request.include_usage);
    let answer = in_time(state, arrived, start(&call, target, request)).await?;
    let id = answer.conversation_id().and_then(|id| HeaderValue::from_str(id).ok());
    let conversation_id = id.map(|id| (HeaderName::from_static(conversation::HEADER), id));
    Ok(Begun { answer, envelope, conversation_id, count, streamed, include_usage, want_logprobs })
}

/// A new answer's envelope; its id begins with `prefix`.
pub fn envelope(state: &AppState, loaded: &Loaded, model: &str, prefix: &str) -> Envelope {
    Envelope {
        id: format!("{prefix}{}", uuid::Uuid::new_v4().simple()),
        created: chrono::Utc::now().timestamp(),
        model: model.to_string(),
        fingerprint: fingerprint(loaded.chat.hash(), &state.settings().engine),
    }
}

/// What makes answers differ: the model's file, the program, and how it computes.
pub(super) fn fingerprint(model: &str, engine: &EngineSettings) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let made_by = format!("{model} {version} {} {} {}", engine.backend, engine.device, engine.weights);
    format!("fl-{}", &blake3::hash(made_by.as_bytes()).to_hex()[..12])
}

/// Runs `work` within the request's time.
pub(super) async fn in_time<T>(
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
async fn whole(
    answer: &mut Answer,
    envelope: &Envelope,
    count: usize,
    want_logprobs: bool,
) -> Result<Response, ApiError> {
    let (mut choices, ending) = gather(answer, count).await?;
    if let (Some(call), Some(only)) = (&ending.tool_call, choices.first_mut()) {
        only.calls.push(call.clone());
    }
    let choices = choices.iter().enumerate().map(|(n, choice)| choice.choice(n, want_logprobs)).collect();
    let mut body = envelope.completion(choices, &ending.usage);
    let Some((support, action)) = ending.support else { return Ok(Json(body).into_response()) };
    body["support"] = support;
    Ok(([("x-support-action", action.name())], Json(body)).into_response())
}

/// All of an answer's choices, once they have ended.
///
/// # Errors
/// The first failure of any of them.
pub(super) async fn gather(answer: &mut Answer, count: usize) -> Result<(Vec<Gathered>, Ending), ApiError> {
    let mut choices: Vec<Gathered> = (0..count).map(|_| Gathered::default()).collect();
    let mut ending = loop {
        match answer.next().await {
            Piece::Text { choice, text, logprobs } => {
                choices[choice].text.push_str(&text);
                choices[choice].logprobs.extend(logprobs);
            }
            Piece::Reasoning { choice, text } => choices[choice].reasoning.push_str(&text),
            Piece::Call { choice, name, .. } => choices[choice].calls.push(tool_call(&new_call_id(), &name, "")),
            Piece::Arguments { choice, index, text } => choices[choice].add_arguments(index, &text),
            Piece::Ended { choice, finish_reason, .. } => choices[choice].finish_reason = finish_reason,
            Piece::Done(ending) => break *ending,
            Piece::Failed(error) => return Err(error),
        }
    };
    match (ending.finish_reason, choices.first_mut()) {
        (Some(reason), Some(only)) => only.finish_reason = reason,
        (_, first) => ending.finish_reason = first.map(|first| first.finish_reason),
    }
    Ok((choices, ending))
}

async fn raw(call: &Call<'_>, admission: Admission, request: ChatRequest) -> Result<Answer, ApiError> {
    let Call { state, loaded, principal, arrived, .. } = *call;
    let most = state.settings().engine.max_running;
    if request.count > most {
        let message =
            format!("\"n\" is {}; this server runs {most} answers at once (engine.max_running)", request.count);
        return Err(ApiError::invalid("n", message));
    }
    let thinks = loaded.chat.thinks();
    if request.thinking == Some(true) && !thinks {
        let message = "this model was not trained to think before it answers; leave \"reasoning_effort\" out";
        return Err(ApiError::unsupported("reasoning_effort", message));
    }
    let bound =
        request.format.is_some() || matches!(request.tools.choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
    if request.thinking == Some(true) && bound {
        let message = "an answer that keeps a form has no train of thought; leave \"reasoning_effort\" out";
        return Err(ApiError::invalid("reasoning_effort", message));
    }
    let reads_calls = request.tools.choice.is_some() && request.format.is_none();
    let options = PromptOptions {
        // Not to be called, they are not spoken of either.
        tools: if reads_calls { request.tools.list } else { Vec::new() },
        thinking: request.thinking == Some(true),
    };
    let chat = loaded.chat.clone();
    let (messages, format) = (request.messages, request.format);
    let (choice, parallel) = (request.tools.choice, request.tools.parallel);
    // A long transcript takes a while to tokenize, a large schema to compile.
    let prepare = move || {
        let constraint = match (format, choice) {
            (Some(format), _) => Some(chat.constraint(&format).map_err(in_format)?),
            (None, Some(choice)) => Some(chat.tool_constraint(&options.tools, &choice, parallel).map_err(in_tools)?),
            (None, None) => None,
        };
        Ok::<_, ApiError>((chat.prompt_with(messages, &options)?, constraint))
    };
    let (prompt, constraint) = tokio::task::spawn_blocking(prepare).await.map_err(ApiError::internal)??;
    let room = loaded.chat.context_tokens().saturating_sub(prompt.tokens.len());
    let default = state.settings().engine.default_max_tokens.min(room.max(1));
    let reading = Reading { thought: (thinks && !bound).then_some(prompt.opens_thought), calls: reads_calls };
    let generation = GenerateRequest {
        prompt: prompt.tokens,
        sampling: request.sampling.over(SamplingParams::default()),
        stop: request.stop,
        max_tokens: request.max_tokens.unwrap_or(default),
        cache: CacheScope { shared_tokens: 0, salt: format!("key:{}", principal.key_name) },
        top_logprobs: request.logprobs,
        constraint,
        shown: if reading.calls || reading.thought.is_some() { loaded.chat.shown_marks() } else { Arc::default() },
        adapter: None,
    };
    let number = Choices { of_each_prompt: request.count, at_once: most };
    let answer = RawAnswer::start(&loaded.chat, vec![generation], number, reading)?;
    Ok(Answer::raw(state.clone(), admission, arrived, answer))
}

/// A fault in the schema of `response_format`, with its place in the request.
fn in_format(error: LlmError) -> ApiError {
    match &error {
        LlmError::Schema { at, .. } => {
            let dot = if at.is_empty() { "" } else { "." };
            let param = format!("response_format.json_schema.schema{dot}{at}");
            ApiError::from(error).on(param)
        }
        _ => error.into(),
    }
}

/// A fault in a tool's schema, which says its place in the request itself.
fn in_tools(error: LlmError) -> ApiError {
    match &error {
        LlmError::Schema { at, .. } => {
            let param = if at.is_empty() { "tools".to_string() } else { at.clone() };
            ApiError::from(error).on(param)
        }
        _ => error.into(),
    }
}

async fn support(
    call: &Call<'_>,
    admission: Admission,
    operator: Option<String>,
    request: ChatRequest,
) -> Result<Answer, ApiError> {
    let Call { state, principal, headers, arrived, response_id, .. } = *call;
    request.for_support()?;
    let handoff_tool = request.handoff_tool();
    let id = conversation::requested_id(headers, &request.metadata)?;
    let after_tool = request.messages.last().is_some_and(|m| m.role == "tool");
    let said = request.messages.into_iter().map(|m| ChatMessage { role: m.role, content: m.content }).collect();
    let metadata = request.metadata;
    let turn = TurnCall {
        key_name: principal.key_name.clone(),
        asked: id.map_or(Asked::Plain, Asked::Known),
        channel: metadata.channel,
        audience: metadata.audience,
        operator,
        messages: customers_turn(said)?,
        sampling: request.sampling,
        max_tokens: request.max_tokens,
        stop: request.stop,
        response_id: response_id.to_string(),
        // A client that has just run the tool wants words now.
        handoff_tool: handoff_tool && !after_tool,
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
