//! What all handlers share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::auth::Keys;
use super::conversation::Locks;
use super::desk_state::DeskState;
use super::kb_files::PublicFiles;
use super::responses::KeptResponses;
use super::trace::Traces;
use super::widget::token::Signer;
use super::wire::error::ApiError;
use super::wire::messages::TranscriptLimits;
use crate::config::Settings;
use crate::desk::Teams;
use crate::desk::knowledge::Curator;
use crate::embed::Embedder;
use crate::kb::Knowledge;
use crate::library::Library;
use crate::llm::ChatModel;
use crate::store::Store;
use crate::support::Support;

/// Longer than this no request waits, whatever the settings say: thirty days, so that times can be added.
const LONGEST_S: u64 = 30 * 86_400;

/// The server's state. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    settings: Settings,
    keys: Keys,
    teams: Teams,
    desk: DeskState,
    public_url: String,
    /// Set once, when everything is loaded and warm.
    loaded: OnceLock<Loaded>,
    stopping: AtomicBool,
    /// Chat and embeddings requests that are being served.
    in_flight: AtomicUsize,
    responses: KeptResponses,
}

/// Models, knowledge and database.
pub struct Loaded {
    pub chat: ChatModel,
    pub embedder: Embedder,
    pub support: Support,
    pub knowledge: Knowledge,
    /// Edits the knowledge.
    pub curator: Curator,
    /// Uploaded files and vector stores.
    pub library: Library,
    pub store: Store,
    /// One request of a conversation at a time.
    pub locks: Locks,
    pub traces: Traces,
    /// Signs the widget's tokens.
    pub signer: Signer,
    /// Files of the pack that customers may see.
    pub public_files: PublicFiles,
    /// When the figures in `/metrics` were last counted.
    pub gauges_set: parking_lot::Mutex<Option<std::time::Instant>>,
    /// Seconds since 1970.
    pub since: i64,
    /// One embedding batch of the API at a time: it is the processor's time that is scarce.
    pub embedding_turn: Arc<tokio::sync::Semaphore>,
}

impl AppState {
    pub fn new(settings: Settings, keys: Keys, teams: Teams, public_url: String) -> Self {
        let server = &settings.server;
        let responses =
            KeptResponses::new(server.max_kept_responses, server.kept_responses_mib.saturating_mul(1 << 20));
        Self(Arc::new(Inner {
            responses,
            desk: DeskState::new(&settings.desk),
            settings,
            keys,
            teams,
            public_url,
            loaded: OnceLock::new(),
            stopping: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
        }))
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Responses that later requests may go on from.
    pub fn responses(&self) -> &KeptResponses {
        &self.0.responses
    }

    pub fn keys(&self) -> &Keys {
        &self.0.keys
    }

    /// Teams and when they work.
    pub fn teams(&self) -> &Teams {
        &self.0.teams
    }

    /// What the people's side keeps in memory.
    pub fn desk(&self) -> &DeskState {
        &self.0.desk
    }

    /// Without a slash at its end.
    pub fn public_url(&self) -> &str {
        &self.0.public_url
    }

    /// From here on requests are served.
    pub fn set_loaded(&self, loaded: Loaded) {
        let _ = self.0.loaded.set(loaded);
    }

    /// From here on `/health/ready` says no.
    pub fn set_stopping(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Relaxed)
    }

    /// # Errors
    /// 503 while loading.
    pub fn loaded(&self) -> Result<&Loaded, ApiError> {
        self.0.loaded.get().ok_or_else(|| ApiError::not_ready(self.is_stopping()))
    }

    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.settings().server.request_timeout_s.clamp(1, LONGEST_S))
    }

    pub fn transcript_limits(&self) -> TranscriptLimits {
        let server = &self.settings().server;
        TranscriptLimits { max_messages: server.max_messages, max_message_chars: server.max_message_chars }
    }

    /// A place among the requests being served, given back when dropped.
    ///
    /// # Errors
    /// 429 when as many are served and waiting as the engine's settings allow.
    pub fn admit(&self) -> Result<Admission, ApiError> {
        let engine = &self.settings().engine;
        let most = engine.max_running + engine.max_waiting;
        let admission = Admission(self.clone());
        let before = self.0.in_flight.fetch_add(1, Ordering::AcqRel);
        if before >= most.max(1) {
            Err(ApiError::busy(before.saturating_sub(engine.max_running), 2))
        } else {
            Ok(admission)
        }
    }
}

/// See [`AppState::admit`].
pub struct Admission(AppState);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
