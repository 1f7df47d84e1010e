//! The server's life: bind, load in the background, serve, stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::auth::Keys;
use super::state::{AppState, Loaded};
use super::{ModelFiles, ServeError, Startup, router};
use crate::config::Settings;
use crate::embed::Embedder;
use crate::kb::{Knowledge, WatchGuard};
use crate::llm::ChatModel;
use crate::store::Store;
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
    let listener = bind(&settings).await?;
    let address = listener.local_addr()?;
    let public_url = public_url(&settings, address);
    crate::telemetry::prometheus();
    let state = AppState::new(settings, keys, public_url);
    (report.lock())(Startup::Listening(address));

    let (stop, mut stopped) = watch::channel(false);
    let server = axum::serve(listener, router(state.clone())).with_graceful_shutdown(async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    });
    let mut server = tokio::spawn(async move { server.await });
    let mut loading = tokio::spawn(load(state.clone(), models, report, started));
    let mut loaded = false;
    // Watches the pack until the server ends.
    let mut _guard = None;
    let mut signal = std::pin::pin!(shutdown_signal());
    loop {
        tokio::select! {
            ended = &mut server => return ended.map_err(std::io::Error::other)?.map_err(ServeError::from),
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
    let _ = stop.send(true);
    tokio::select! {
        ended = tokio::time::timeout(grace, &mut server) => {
            if ended.is_err() {
                tracing::warn!("some answers were cut off at the end of server.shutdown_grace_s");
            }
        }
        () = shutdown_signal() => tracing::warn!("a second signal: stopping at once"),
    }
    server.abort();
    if let Ok(loaded) = state.loaded() {
        loaded.store.close().await;
    }
    Ok(())
}

async fn bind(settings: &Settings) -> Result<TcpListener, ServeError> {
    let (host, port) = (settings.server.host.trim_matches(['[', ']']), settings.server.port);
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => " (another program listens there; choose another port with --port)",
            _ => "",
        };
        ServeError::Bind { address: format!("{host}:{port}"), reason: format!("{error}{hint}") }
    };
    TcpListener::bind((host, port)).await.map_err(failed)
}

fn public_url(settings: &Settings, address: SocketAddr) -> String {
    match &settings.server.public_url {
        Some(url) => url.trim_end_matches('/').to_string(),
        None if address.ip().is_unspecified() => format!("http://127.0.0.1:{}", address.port()),
        None => format!("http://{address}"),
    }
}

/// Loads everything, then opens the doors.
async fn load(
    state: AppState,
    models: ModelFiles,
    report: Report,
    started: Instant,
) -> Result<Option<WatchGuard>, ServeError> {
    let settings = state.settings().clone();
    let chat_languages = models.chat.languages.clone();
    let blocking = {
        let (settings, report) = (settings.clone(), report.clone());
        on_a_thread("load", move || load_blocking(&settings, &models, &report)).await?
    };
    let (chat, embedder, knowledge, guard) = blocking?;
    let store = Store::open(&settings.store.state_dir, settings.store.keep_text).await?;
    let store = store.masking_personal(settings.store.mask_personal);
    let support = {
        let (settings, chat, embedder) = (settings.support.clone(), chat.clone(), embedder.clone());
        let knowledge = knowledge.clone();
        let make = move || Support::new(&settings, chat, &chat_languages, embedder, knowledge);
        on_a_thread("support", make).await??
    };
    let support = support.with_core_share(settings.knowledge.core_share);
    for (operator, tokens, time) in support.warm_up(&settings.store.state_dir).await? {
        (report.lock())(Startup::Warm { operator, tokens, ms: ms(time) });
    }
    state.set_loaded(Loaded {
        chat,
        embedder,
        support,
        knowledge,
        store,
        locks: Default::default(),
        traces: Default::default(),
        public_files: Default::default(),
        since: chrono::Utc::now().timestamp(),
        embedding_turn: tokio::sync::Semaphore::new(1),
    });
    (report.lock())(Startup::Ready { ms: ms(started.elapsed()) });
    Ok(guard)
}

type Blocking = Result<(ChatModel, Embedder, Knowledge, Option<WatchGuard>), ServeError>;

fn load_blocking(settings: &Settings, models: &ModelFiles, report: &Report) -> Blocking {
    let began = Instant::now();
    let chat = ChatModel::load(&models.chat.id, &models.chat.path, &settings.engine)?;
    let chat_ms = ms(began.elapsed());
    let began = Instant::now();
    let embedder = Embedder::load(&models.embed.id, &models.embed.path, &models.embed.languages)?;
    (report.lock())(Startup::Models { chat_ms, embed_ms: ms(began.elapsed()) });
    let mut progress = |progress| (report.lock())(Startup::Indexing(progress));
    let state_dir = &settings.store.state_dir;
    let (knowledge, indexed) = Knowledge::open(&settings.knowledge, state_dir, embedder.clone(), &mut progress)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_public_url_or_the_bound_address() {
        let mut settings = Settings::default();
        assert_eq!(public_url(&settings, "127.0.0.1:81".parse().unwrap()), "http://127.0.0.1:81");
        assert_eq!(public_url(&settings, "0.0.0.0:81".parse().unwrap()), "http://127.0.0.1:81");
        assert_eq!(public_url(&settings, "[::1]:81".parse().unwrap()), "http://[::1]:81");
        settings.server.public_url = Some("https://help.example/".into());
        assert_eq!(public_url(&settings, "127.0.0.1:81".parse().unwrap()), "https://help.example");
    }

    #[tokio::test]
    async fn a_taken_port_is_told_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = Settings::default();
        settings.server.port = taken.local_addr().unwrap().port();
        let error = bind(&settings).await.unwrap_err().to_string();
        assert!(error.contains("--port"), "{error}");
    }
}
