//! `POST /v1/completions`: the bare model continues a text.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};

use super::answer::{Answer, Piece};
use super::auth::{Principal, Scope};
use super::body::JsonBody;
use super::chat::{fingerprint, gather, in_time};
use super::models::{ChatTarget, chat_target};
use super::observe::Arrival;
use super::raw::{Choices, RawAnswer, Reading};
use super::state::{AppState, Loaded};
use super::stream::as_events;
use super::wire::completion::Envelope;
use super::wire::completions::{CompletionsRequest, PromptText, completions_request};
use super::wire::error::ApiError;
use crate::llm::{CacheScope, GenerateRequest, LlmError, SamplingParams};

/// Serves a request.
pub async fn completions(
    State(state): State<AppState>,
    principal: Principal,
    Extension(arrival): Extension<Arrival>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request = completions_request(body, state.settings().server.max_message_chars)?;
    let loaded = state.loaded()?;
    if chat_target(loaded, &request.model)? != ChatTarget::Raw {
        let message = format!("{:?} answers in conversations; ask it at /v1/chat/completions", request.model);
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "unsupported_value", message).on("model"));
    }
    principal.require(Scope::Raw)?;
    let envelope = Envelope {
        id: format!("cmpl-{}", uuid::Uuid::new_v4().simple()),
        created: chrono::Utc::now().timestamp(),
        model: request.model.clone(),
        fingerprint: fingerprint(loaded.chat.hash(), &state.settings().engine),
    };
    let (streamed, want_logprobs) = (request.stream, request.logprobs.is_some());
    let include_usage = request.include_usage;
    let most = state.settings().engine.max_running;
    if request.count > most {
        let message =
            format!("\"n\" is {}; this server runs {most} answers at once (engine.max_running)", request.count);
        return Err(ApiError::invalid("n", message));
    }
    let count = request.prompts.len() * request.count;
    let admission = state.admit()?;
    let raw = in_time(&state, arrival.0, start(loaded, &principal, request, most)).await?;
    let mut answer = Answer::raw(state.clone(), admission, arrival.0, raw);
    if streamed {
        return Ok(respond(answer, envelope, count, include_usage, want_logprobs));
    }
    let (choices, ending) = gather(&mut answer, count).await?;
    let choices = choices.iter().enumerate().map(|(n, choice)| {
        let logprobs = want_logprobs.then_some((choice.logprobs.as_slice(), 0));
        envelope.text_choice(n, &choice.text, logprobs, Some(choice.finish_reason))
    });
    Ok(Json(envelope.text_completion(choices.collect(), Some(&ending.usage))).into_response())
}

async fn start(
    loaded: &Loaded,
    principal: &Principal,
    request: CompletionsRequest,
    at_once: usize,
) -> Result<RawAnswer, ApiError> {
    let CompletionsRequest { prompts, sampling, stop, max_tokens, logprobs, count, .. } = request;
    let chat = loaded.chat.clone();
    let one = move |prompt: PromptText| match prompt {
        PromptText::Tokens(tokens) => Ok(tokens),
        PromptText::Text(text) => {
            let tokens = chat.tokenize(&text)?;
            Ok(chat.leading_bos().into_iter().chain(tokens).collect::<Vec<u32>>())
        }
    };
    let tokenize = move || prompts.into_iter().map(one).collect::<Result<Vec<_>, LlmError>>();
    let tokens = tokio::task::spawn_blocking(tokenize).await.map_err(ApiError::internal)?;
    let tokens = tokens.map_err(|error| ApiError::from(error).on("prompt"))?;
    let generation = |prompt: Vec<u32>| GenerateRequest {
        prompt,
        sampling: sampling.clone().over(SamplingParams::default()),
        stop: stop.clone(),
        max_tokens,
        cache: CacheScope { shared_tokens: 0, salt: format!("key:{}", principal.key_name) },
        top_logprobs: logprobs,
        constraint: None,
        shown: Arc::default(),
        adapter: None,
    };
    let number = Choices { of_each_prompt: count, at_once };
    let requests = tokens.into_iter().map(generation).collect();
    // What chat calls messages is a prompt here.
    let of_prompt = |error| match ApiError::from(error) {
        error if error.param.as_deref() == Some("messages") => error.on("prompt"),
        error => error,
    };
    RawAnswer::start(&loaded.chat, requests, number, Reading::default()).map_err(of_prompt)
}

struct Streaming {
    answer: Option<Answer>,
    envelope: Envelope,
    include_usage: bool,
    want_logprobs: bool,
    /// Characters sent of each choice.
    sent: Vec<usize>,
    queue: VecDeque<String>,
}

fn respond(answer: Answer, envelope: Envelope, count: usize, include_usage: bool, want_logprobs: bool) -> Response {
    let sent = vec![0; count];
    let streaming =
        Streaming { answer: Some(answer), envelope, include_usage, want_logprobs, sent, queue: VecDeque::new() };
    let events = futures::stream::unfold(streaming, |mut streaming| async move {
        let data = streaming.next().await?;
        Some((Ok::<_, Infallible>(Event::default().data(data)), streaming))
    });
    as_events(Sse::new(events))
}

impl Streaming {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.queue.pop_front() {
                return Some(data);
            }
            let piece = self.answer.as_mut()?.next().await;
            self.take(piece);
        }
    }

    fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Text { choice, text, logprobs } => {
                let logprobs = self.want_logprobs.then_some((logprobs.as_slice(), self.sent[choice]));
                let chunk = self.envelope.text_choice(choice, &text, logprobs, None);
                self.sent[choice] += text.chars().count();
                self.queue.push_back(self.envelope.text_completion(vec![chunk], None).to_string());
            }
            Piece::Ended { choice, finish_reason, .. } => {
                let chunk = self.envelope.text_choice(choice, "", None, Some(finish_reason));
                self.queue.push_back(self.envelope.text_completion(vec![chunk], None).to_string());
            }
            Piece::Done(ending) => {
                self.answer = None;
                if self.include_usage {
                    let last = self.envelope.text_completion(Vec::new(), Some(&ending.usage));
                    self.queue.push_back(last.to_string());
                }
                self.queue.push_back("[DONE]".into());
            }
            Piece::Failed(error) => {
                self.answer = None;
                self.queue.push_back(error.body().to_string());
            }
            // A text is continued as it is: nothing is read out of it.
            Piece::Reasoning { .. } | Piece::Call { .. } | Piece::Arguments { .. } => {}
        }
    }
}
