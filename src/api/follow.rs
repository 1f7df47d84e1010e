//! The feed of changes as server-sent events, for consoles and widgets: nothing between two events is lost, since each
//! carries its number and a client that comes back says the last one it saw (`Last-Event-ID`).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::state::AppState;
use super::wire::error::ApiError;
use crate::store::Change;

/// Entries read at once.
const BATCH: i64 = 200;
/// A stream ends after this time; the browser comes back by itself, and its right to listen is checked again.
const LONGEST: Duration = Duration::from_secs(600);
/// How often a quiet stream looks whether the server stops.
const LOOK: Duration = Duration::from_millis(500);

/// What an entry becomes; `None`: nothing for this listener.
pub type Render = Box<dyn Fn(Change) -> BoxFuture<'static, Option<Event>> + Send + Sync>;

struct Following {
    state: AppState,
    conversation: Option<String>,
    seq: i64,
    queue: VecDeque<Change>,
    changed: watch::Receiver<u64>,
    render: Render,
    until: Instant,
    _place: OwnedSemaphorePermit,
}

/// The number after which a client wants to hear, by header or by query; `None`: from now on.
///
/// # Errors
/// What is no number.
pub fn after(headers: &HeaderMap, query: Option<&str>) -> Result<Option<i64>, ApiError> {
    let header = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let Some(text) = header.or(query).filter(|text| !text.is_empty()) else { return Ok(None) };
    let seq = text.parse().map_err(|_| ApiError::invalid("after", format!("{text:?} is no number of an event")))?;
    Ok(Some(seq))
}

/// Follows the feed after `seq` (`None`: its end now), of one conversation or of all.
///
/// # Errors
/// 503 while loading, 429 where too many follow.
pub async fn follow(
    state: &AppState,
    conversation: Option<String>,
    seq: Option<i64>,
    render: Render,
) -> Result<Response, ApiError> {
    let loaded = state.loaded()?;
    let place = state.desk().stream()?;
    let changed = loaded.store.changed();
    let seq = match seq {
        Some(seq) => seq,
        None => loaded.store.last_seq().await?,
    };
    let following = Following {
        state: state.clone(),
        conversation,
        seq,
        queue: VecDeque::new(),
        changed,
        render,
        until: Instant::now() + LONGEST,
        _place: place,
    };
    // A comment at once, so that the client knows that it listens, and from where.
    let first = futures::stream::once(async move {
        Ok::<_, Infallible>(Event::default().event("listening").id(seq.to_string()).data(format!("{{\"seq\":{seq}}}")))
    });
    let rest = futures::stream::unfold(following, |mut following| async move {
        let event = following.next().await?;
        Some((Ok::<_, Infallible>(event), following))
    });
    let events = futures::StreamExt::chain(first, rest);
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15)).text("still here");
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // nginx would hold the events back.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

impl Following {
    /// The next event; `None` at the stream's end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(change) = self.queue.pop_front() {
                self.seq = change.seq;
                if let Some(event) = (self.render)(change).await {
                    return Some(event.id(self.seq.to_string()));
                }
            }
            if self.state.is_stopping() || Instant::now() >= self.until {
                return None;
            }
            self.changed.mark_unchanged();
            let store = &self.state.loaded().ok()?.store;
            match store.changes_after(self.seq, self.conversation.as_deref(), BATCH).await {
                Ok(changes) if changes.is_empty() => {
                    // An error would be the end of the store, and then of the program.
                    if let Ok(Err(_)) = tokio::time::timeout(LOOK, self.changed.changed()).await {
                        return None;
                    }
                }
                Ok(changes) => self.queue.extend(changes),
                Err(error) => {
                    tracing::warn!(%error, "the feed cannot be read; the listener may come back");
                    return None;
                }
            }
        }
    }
}
