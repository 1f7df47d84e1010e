//! HTTP: the OpenAI wire types, streaming, authentication, errors, and the test-chat page.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::Settings;
use crate::kb::{IndexProgress, IndexReport};

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
}

/// How far a starting server is; for a progress bar and the line that names its address.
#[derive(Debug)]
pub enum Startup {
    /// The socket is open: `/health/live` answers, `/health/ready` is 503.
    Listening(SocketAddr),
    /// Models are loaded; `ms` each.
    Models {
        chat_ms: u64,
        embed_ms: u64,
    },
    Indexing(IndexProgress),
    Indexed(IndexReport),
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

/// Binds, loads models and pack in the background, serves until SIGINT or SIGTERM, lets running answers finish.
///
/// # Errors
/// At once for settings that cannot work (keys, address); later when a model or the pack cannot be loaded.
pub async fn serve(
    _settings: Settings,
    _models: ModelFiles,
    _report: impl FnMut(Startup) + Send + 'static,
) -> Result<(), ServeError> {
    todo!()
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
