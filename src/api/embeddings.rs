//! `POST /v1/embeddings`.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::auth::{Principal, Scope};
use super::body::JsonBody;
use super::observe::Arrival;
use super::state::{AppState, Loaded};
use super::wire::embeddings::{EmbeddingsRequest, embedding_of, embeddings_request};
use super::wire::error::ApiError;
use crate::embed::{Embedder, Embeddings, Role};
use crate::telemetry::name;

/// Texts embedded between two looks at whether the client is still there.
const BATCH: usize = 64;

/// Serves a request.
pub async fn embeddings(
    State(state): State<AppState>,
    principal: Principal,
    Extension(arrival): Extension<Arrival>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    principal.require(Scope::Embeddings)?;
    let request = embeddings_request(body, state.settings().server.max_embedding_inputs)?;
    let loaded = state.loaded()?;
    check(&request, loaded)?;
    let _admission = state.admit()?;
    let limit = state.request_timeout();
    let deadline = tokio::time::Instant::from_std(arrival.0 + limit);
    let timed_out = |_| ApiError::timeout(limit.as_secs());
    tokio::time::timeout_at(deadline, embed(loaded, request)).await.map_err(timed_out)?.map(Json)
}

fn check(request: &EmbeddingsRequest, loaded: &Loaded) -> Result<(), ApiError> {
    if request.model != loaded.embedder.id() {
        return Err(ApiError::model_not_found(&request.model, loaded.embedder.id()));
    }
    let native = loaded.embedder.dimensions();
    match request.dimensions {
        Some(wanted) if !loaded.embedder.takes_dimensions(wanted) => {
            let message = format!(
                "\"dimensions\": {wanted} is not supported; this model's vectors have {native}, and its config.json does \
                 not say that they may be cut to that (is_matryoshka, matryoshka_dimensions)"
            );
            Err(ApiError::unsupported("dimensions", message))
        }
        _ => Ok(()),
    }
}

async fn embed(loaded: &Loaded, request: EmbeddingsRequest) -> Result<Value, ApiError> {
    let (mut data, mut tokens) = (Vec::with_capacity(request.texts.len()), 0);
    let EmbeddingsRequest { model, texts, base64, role, truncate, dimensions } = request;
    let dimensions = dimensions.unwrap_or(loaded.embedder.dimensions());
    let mut texts = texts.into_iter().peekable();
    while texts.peek().is_some() {
        let batch: Vec<String> = texts.by_ref().take(BATCH).collect();
        let Embeddings { vectors, tokens: read, truncated } = embed_batch(loaded, batch, role).await?;
        tokens += read.iter().sum::<usize>();
        for (vector, truncated) in vectors.into_iter().zip(truncated) {
            let index = data.len();
            if truncated && !truncate {
                return Err(too_long(index, loaded.embedder.max_tokens()));
            }
            data.push(embedding_of(index, &Embedder::cut(vector, dimensions), base64, truncated));
        }
    }
    metrics::counter!(name::EMBEDDED).increment(data.len() as u64);
    Ok(json!({
        "object": "list", "data": data, "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
}

/// The vectors of texts that must be read whole, and their tokens; `param` names them in errors.
///
/// # Errors
/// A text that is longer than the model reads.
pub(super) async fn vectors(
    loaded: &Loaded,
    texts: Vec<String>,
    role: Role,
    param: &str,
) -> Result<(Vec<Vec<f32>>, usize), ApiError> {
    let (mut all, mut tokens) = (Vec::with_capacity(texts.len()), 0);
    for batch in texts.chunks(BATCH) {
        let Embeddings { vectors, tokens: read, truncated } = embed_batch(loaded, batch.to_vec(), role).await?;
        tokens += read.iter().sum::<usize>();
        if let Some(long) = truncated.iter().position(|truncated| *truncated) {
            let place = format!("{param}[{}]", all.len() + long);
            let message =
                format!("{place} is longer than the {} tokens that this model reads", loaded.embedder.max_tokens());
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message).on(place));
        }
        all.extend(vectors);
    }
    Ok((all, tokens))
}

/// One batch, when its turn comes.
async fn embed_batch(loaded: &Loaded, batch: Vec<String>, role: Role) -> Result<Embeddings, ApiError> {
    let turn = loaded.embedding_turn.clone().acquire_owned().await.map_err(ApiError::internal)?;
    let embedder = loaded.embedder.clone();
    let work = move || {
        // A client that leaves does not end this batch: others wait until it is really done.
        let _turn = turn;
        embedder.embed(&batch.iter().map(String::as_str).collect::<Vec<_>>(), role)
    };
    Ok(tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)??)
}

fn too_long(index: usize, max_tokens: usize) -> ApiError {
    let message = format!(
        "input[{index}] is longer than the {max_tokens} tokens that this model reads; split it, or send \
         \"truncate\": true to have it cut"
    );
    ApiError::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message).on(format!("input[{index}]"))
}
