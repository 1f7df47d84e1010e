//! HTTP: the OpenAI wire types, streaming, authentication, errors, and the test-chat page.
//!
//! A request goes one way: [`observe`] (arrival, id, count) → [`auth`] (which key, which scopes) → [`body`] (size,
//! UTF-8, JSON) → [`wire`] (every field's type and range; what is not supported is refused by name) → the handler
//! ([`chat`], [`completions`], [`embeddings`], [`rerank`], [`models`], …) → [`answer`] (a running answer, of the bare model or of a support turn, as
//! one stream of pieces) → a whole JSON answer, or [`stream`] (server-sent events). Every refusal, also of an unknown
//! path, is a [`wire::error::ApiError`] and looks the same.
//!
//! *Principal*: who asks, by API key. *Place*: a request's conversation with its history and state ([`conversation`]).
//! *Loaded*: models, knowledge and database; absent while starting, and then requests are answered 503 ([`state`]).
//! [`serve`] binds first ([`listen`]: TLS, CORS, slow clients), loads in the background, and lets running answers finish when it stops.

mod answer;
pub mod assets;
mod auth;
mod body;
mod channels;
mod chat;
mod completions;
mod console;
mod conversation;
mod desk_state;
mod embeddings;
mod figures;
mod files;
mod follow;
mod health;
mod inbound;
mod kb_files;
mod listen;
mod listing;
mod metrics;
mod models;
mod observe;
mod openapi;
mod page;
mod path;
mod raw;
mod rerank;
mod responses;
mod serve;
mod state;
mod stream;
mod tokenize;
mod trace;
mod turns;
mod vector_stores;
mod webhooks;
mod widget;
mod wire;

use std::path::PathBuf;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{delete, get, post};

use crate::kb::{IndexProgress, IndexReport};
pub use serve::serve;
use state::AppState;
use wire::error::ApiError;

/// A model file as the catalog (or a path in the settings) resolved it.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// The model's id on the wire.
    pub id: String,
    /// A GGUF file for chat, a folder for embeddings.
    pub path: PathBuf,
    /// What it writes or reads well, ISO 639-1.
    pub languages: Vec<String>,
}

/// What a server needs beside its settings; the command line resolves it from the catalog.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    pub chat: ModelFile,
    pub embed: ModelFile,
    /// A cross-encoder, where one is set.
    pub rerank: Option<ModelFile>,
}

/// How far a starting server is; for a progress bar and the line that names its address.
#[derive(Debug)]
pub enum Startup {
    /// The socket is open: `/health/live` answers, `/health/ready` is 503.
    Listening {
        /// `http://address` or `https://address`.
        base: String,
    },
    /// Models are loaded; milliseconds each.
    Models {
        chat_ms: u64,
        embed_ms: u64,
    },
    Indexing(IndexProgress),
    Indexed(IndexReport),
    /// There is no staff yet: who opens this link becomes the first lead.
    JoinLink {
        url: String,
    },
    /// An operator's core is in the prefix cache.
    Warm {
        operator: String,
        tokens: usize,
        ms: u64,
    },
    /// Requests are served; milliseconds since the start.
    Ready {
        ms: u64,
    },
}

/// Why a server does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{0}")]
    Settings(String),
    #[error("cannot listen on {address}: {reason}")]
    Bind { address: String, reason: String },
    #[error(transparent)]
    Llm(#[from] crate::llm::LlmError),
    #[error(transparent)]
    Embed(#[from] crate::embed::EmbedError),
    #[error(transparent)]
    Knowledge(#[from] crate::kb::KbError),
    #[error(transparent)]
    Support(#[from] crate::support::SupportError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error("the server failed: {0}")]
    Io(#[from] std::io::Error),
}

/// All routes.
fn router(state: AppState) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/responses", post(responses::create))
        .route("/v1/responses/{id}", get(responses::get).delete(responses::delete))
        .route("/v1/tokenize", post(tokenize::tokenize))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/rerank", post(rerank::rerank))
        .route("/v1/files", post(files::create).get(files::list_files))
        .route("/v1/files/{id}", get(files::get).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/v1/vector_stores", post(vector_stores::create).get(vector_stores::list_stores))
        .route("/v1/vector_stores/{id}", get(vector_stores::get).post(vector_stores::update))
        .route("/v1/vector_stores/{id}", delete(vector_stores::delete))
        .route("/v1/vector_stores/{id}/search", post(vector_stores::search))
        .route("/v1/vector_stores/{id}/files", post(vector_stores::attach).get(vector_stores::list_files))
        .route("/v1/vector_stores/{id}/files/{file}", get(vector_stores::get_file).post(vector_stores::update_file))
        .route("/v1/vector_stores/{id}/files/{file}", delete(vector_stores::detach))
        .route("/v1/vector_stores/{id}/files/{file}/content", get(vector_stores::file_content))
        .route("/v1/vector_stores/{id}/file_batches", post(vector_stores::create_batch))
        .route("/v1/vector_stores/{id}/file_batches/{batch}", get(vector_stores::get_batch))
        .route("/v1/vector_stores/{id}/file_batches/{batch}/cancel", post(vector_stores::cancel_batch))
        .route("/v1/vector_stores/{id}/file_batches/{batch}/files", get(vector_stores::list_batch))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::get))
        .route("/v1/support/trace/{id}", get(trace::get))
        .route("/openapi.json", get(openapi::document))
        .route("/v1/support/figures", get(figures::get))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::render))
        .route("/kb/{*path}", get(kb_files::get))
        .route("/", get(page::index))
        .route("/page/about", get(page::about))
        .route("/page/{name}", get(page::file))
        .route("/v1/channels/{name}/messages", post(channels::message))
        .merge(console::router())
        .merge(widget::router())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn(observe::observe))
        .with_state(state)
}

async fn not_found() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
}

async fn unknown_path(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError { message: format!("there is nothing at {method} {path}"), ..not_found().await }
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
