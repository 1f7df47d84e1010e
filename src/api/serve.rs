//! The server's life: bind, load in the background, serve, stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::auth::Keys;
use super::listen::{Socket, cors};
use super::state::{AppState, Loaded};
use super::webhooks::Webhooks;
use super::widget::token::Signer;
use super::{ModelFiles, ServeError, Startup, router};
use crate::config::{RetentionSettings, Settings};
use crate::desk;
use crate::desk::Teams;
use crate::desk::knowledge::Curator;
use crate::embed::{Embedder, Reranker};
use crate::kb::{self, Knowledge, WatchGuard};
use crate::library::{self, Library};
use crate::llm::{ChatModel, PackedCache};
use crate::store::{StateLock, Store};
use crate::support::Support;

type Report = Arc<Mutex<dyn FnMut(Startup) + Send>>;

/// Binds, loads models and pack in the background, serves until SIGINT or SIGTERM, lets running answers finish
/// (`server.shutdown_grace_s`).
///
/// # Errors
/// At once for settings that cannot work (keys, address); later when a model or the pack cannot be loaded.
pub async fn serve(
    settings: Settings,
    models: ModelFiles,
    report: impl FnMut(Startup) + Send + 'static,
) -> Result<(), ServeError> {
    let started = Instant::now();
    let report: Report = Arc::new(Mutex::new(report));
    let keys = Keys::new(&settings.server).map_err(ServeError::Settings)?;
    let teams = Teams::read(&settings.desk).map_err(ServeError::Settings)?;
    let webhooks = Webhooks::read(&settings.desk).map_err(ServeError::Settings)?;
    super::widget::check(&settings.desk).map_err(ServeError::Settings)?;
    let cors = cors(&settings.server.cors_origins)?;
    let _in_use = StateLock::shared(&settings.store.state_dir)?;
    let socket = Socket::open(&settings.server).await?;
    let public_url = settings.server.public_url_at(socket.port());
    let base = socket.base();
    tokio::spawn(crate::telemetry::keep_metrics_small());
    let state = AppState::new(settings, keys, teams, public_url);
    let router = match cors {
        Some(cors) => router(state.clone()).layer(cors),
        None => router(state.clone()),
    };
    let mut server = socket.serve(router)?;
    (report.lock())(Startup::Listening { base });

    let mut loading = tokio::spawn(load(state.clone(), models, webhooks, report, started));
    let mut loaded = false;
    // Watches the pack until the server ends.
    let mut _guard = None;
    let mut signal = std::pin::pin!(shutdown_signal());
    loop {
        tokio::select! {
            ended = &mut server.task => return ended.map_err(std::io::Error::other)?.map_err(ServeError::from),
            outcome = &mut loading, if !loaded => {
                _guard = outcome.map_err(std::io::Error::other)??;
                loaded = true;
            }
            () = &mut signal => break,
        }
    }
    state.set_stopping();
    let grace = Duration::from_secs(state.settings().server.shutdown_grace_s);
    tracing::info!(grace_s = grace.as_secs(), "stopping; running answers may finish");
    server.stop();
    tokio::select! {
        ended = tokio::time::timeout(grace, &mut server.task) => {
            if ended.is_err() {
                tracing::warn!("some answers were cut off at the end of server.shutdown_grace_s");
            }
        }
        () = shutdown_signal() => tracing::warn!("a second signal: stopping at once"),
    }
    server.cut_off();
    if let Ok(loaded) = state.loaded() {
        loaded.store.close().await;
    }
    Ok(())
}

/// Loads everything, then opens the doors.
async fn load(
    state: AppState,
    models: ModelFiles,
    webhooks: Webhooks,
    report: Report,
    started: Instant,
) -> Result<Option<WatchGuard>, ServeError> {
    let settings = state.settings().clone();
    let chat_languages = models.chat.languages.clone();
    let store = Store::open(&settings.store.state_dir, settings.store.keep_text).await?;
    let store = store.masking_personal(settings.store.mask_personal);
    // What was committed before a crash comes into the pack before the pack is read.
    if let Err(error) = desk::knowledge::restore(&store, &settings).await {
        tracing::error!(%error, "what people changed at the console cannot be written to the pack");
    }
    if let Err(error) = library::restore(&store, &settings).await {
        tracing::error!(%error, "files that were uploaded to the pack cannot be laid beside it");
    }
    let blocking = {
        let (settings, report) = (settings.clone(), report.clone());
        on_a_thread("load", move || load_blocking(&settings, &models, &report)).await?
    };
    let (chat, embedder, knowledge, guard) = blocking?;
    let signer = Signer::open(&settings.store.state_dir)?;
    let support = {
        let (chat, embedder, knowledge) = (chat.clone(), embedder.clone(), knowledge.clone());
        let settings = settings.clone();
        let make =
            move || Support::new(&settings, chat, &chat_languages, embedder, knowledge, &settings.store.state_dir);
        on_a_thread("support", make).await??
    };
    for (operator, tokens, time) in support.warm_up(&settings.store.state_dir).await? {
        (report.lock())(Startup::Warm { operator, tokens, ms: ms(time) });
    }
    tokio::spawn(support.clone().follow_changes());
    tokio::spawn(retain(store.clone(), settings.retention.clone()));
    let library = Library::new(store.clone(), knowledge.clone(), &settings);
    tokio::spawn(library.clone().keep_up());
    let curator = Curator::new(store.clone(), knowledge.clone(), embedder.clone(), &settings);
    tokio::spawn(curator.clone().read_ahead());
    state.set_loaded(Loaded {
        chat,
        curator,
        library,
        embedder,
        support,
        knowledge,
        store: store.clone(),
        signer,
        locks: Default::default(),
        traces: Default::default(),
        public_files: Default::default(),
        gauges_set: Default::default(),
        since: chrono::Utc::now().timestamp(),
        embedding_turn: Arc::new(tokio::sync::Semaphore::new(1)),
    });
    if let Some(url) = super::console::first_link(&store, state.public_url()).await? {
        (report.lock())(Startup::JoinLink { url });
    }
    super::inbound::resume(&state);
    super::inbound::forget_words(&state);
    super::webhooks::start(&state, webhooks);
    (report.lock())(Startup::Ready { ms: ms(started.elapsed()) });
    Ok(guard)
}

/// Deletes what is older than it may be, now and every hour.
async fn retain(store: Store, settings: RetentionSettings) {
    if settings.text_days == 0 && settings.conversation_days == 0 {
        return;
    }
    let mut hours = tokio::time::interval(Duration::from_secs(3600));
    loop {
        hours.tick().await;
        match store.retain(&settings).await {
            Ok(deleted) if deleted.rows > 0 => {
                tracing::info!(deleted.conversations, deleted.rows, deleted.log_is_clean, "deleted what is old");
            }
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "what is old could not be deleted"),
        }
    }
}

type Blocking = Result<(ChatModel, Embedder, Knowledge, Option<WatchGuard>), ServeError>;

fn load_blocking(settings: &Settings, models: &ModelFiles, report: &Report) -> Blocking {
    let began = Instant::now();
    let chat =
        ChatModel::load(&models.chat.id, &models.chat.path, &settings.engine, PackedCache::new(settings).as_ref())?;
    let chat_ms = ms(began.elapsed());
    let began = Instant::now();
    let embedder = Embedder::load(&models.embed.id, &models.embed.path, &models.embed.languages)?;
    (report.lock())(Startup::Models { chat_ms, embed_ms: ms(began.elapsed()) });
    let mut progress = |progress| (report.lock())(Startup::Indexing(progress));
    let state_dir = &settings.store.state_dir;
    let reranker = models.rerank.as_ref().map(|model| Reranker::load(&model.id, &model.path)).transpose()?;
    let readers = kb::Models { embedder: embedder.clone(), reranker };
    let (knowledge, indexed) = Knowledge::open(&settings.knowledge, state_dir, readers, &mut progress)?;
    (report.lock())(Startup::Indexed(indexed));
    let guard = match settings.knowledge.watch {
        true => watch(&knowledge),
        false => None,
    };
    Ok((chat, embedder, knowledge, guard))
}

/// A pack that cannot be watched is still served.
fn watch(knowledge: &Knowledge) -> Option<WatchGuard> {
    let watching = knowledge.watch();
    watching.inspect_err(|error| tracing::warn!(%error, "changes of the pack will not be noticed")).ok()
}

/// Runs blocking work on a thread of its own, which the end of the program does not wait for.
async fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, std::io::Error> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new().name(name.into()).spawn(move || {
        let _ = done.send(work());
    })?;
    result.await.map_err(|_| std::io::Error::other(format!("the thread {name:?} died")))
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// SIGINT or SIGTERM.
async fn shutdown_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    {
        let _ = tokio::signal::ctrl_c().await;
    }
}
