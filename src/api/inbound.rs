//! Answering accepted messages, of the widget and of channels: each runs on a task of its own, whoever listens, so that a
//! customer who closes the window or a program that is killed loses nothing. At the start of the program what was
//! accepted and not answered is taken up again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;

use super::answer::Piece;
use super::conversation::Asked;
use super::state::AppState;
use super::turns::{self, TurnCall};
use super::wire::error::ApiError;
use crate::llm::ChatMessage;
use crate::store::{Beside, Inbound};

/// Most messages that wait for their turns at once; further ones are not accepted.
const MOST_WAITING: usize = 1000;
/// Between attempts.
const PAUSE: Duration = Duration::from_secs(2);
/// While the engine's queue is full.
const BUSY_PAUSE: Duration = Duration::from_millis(300);
/// Pieces that wait for a slow listener.
const PIECES: usize = 256;

/// The messages that are being answered: (origin, message id).
#[derive(Default)]
pub struct Answering(Mutex<HashSet<(String, String)>>);

struct Place {
    state: AppState,
    key: (String, String),
}

impl Drop for Place {
    fn drop(&mut self) {
        self.state.desk().answering.0.lock().remove(&self.key);
    }
}

impl Answering {
    /// # Errors
    /// 429 where too many wait.
    pub fn room(&self) -> Result<(), ApiError> {
        match self.0.lock().len() {
            waiting if waiting >= MOST_WAITING => Err(ApiError::busy(waiting, 5)),
            _ => Ok(()),
        }
    }
}

/// Takes up what an earlier run of the program left unanswered.
pub fn resume(state: &AppState) {
    let state = state.clone();
    tokio::spawn(async move {
        let Ok(loaded) = state.loaded() else { return };
        match loaded.store.unanswered().await {
            Ok(left) => {
                if !left.is_empty() {
                    tracing::info!(messages = left.len(), "answering what was accepted before the start");
                }
                for (origin, message_id) in left {
                    // In their order; one after the other is slow enough for live customers.
                    if let Some(place) = enter(&state, &origin, &message_id) {
                        run(place, None).await;
                    }
                }
            }
            Err(error) => tracing::error!(%error, "what was accepted before the start cannot be read"),
        }
    });
}

/// Where texts are not kept: forgets, hour by hour, the words that were only needed to deliver answers.
pub fn forget_words(state: &AppState) {
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY_MS: i64 = 86_400_000;
    let state = state.clone();
    tokio::spawn(async move {
        let Ok(loaded) = state.loaded() else { return };
        loop {
            let before = chrono::Utc::now().timestamp_millis() - DAY_MS;
            if let Err(error) = loaded.store.forget_words(before).await {
                tracing::error!(%error, "words that are not to be kept could not be forgotten; trying again in an hour");
            }
            tokio::time::sleep(HOUR).await;
        }
    });
}

/// Starts to answer an accepted message; its pieces. `None`: it is being answered already.
pub fn answer(state: &AppState, origin: &str, message_id: &str) -> Option<mpsc::Receiver<Piece>> {
    let place = enter(state, origin, message_id)?;
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::spawn(run(place, Some(sender)));
    Some(receiver)
}

fn enter(state: &AppState, origin: &str, message_id: &str) -> Option<Place> {
    let key = (origin.to_string(), message_id.to_string());
    let fresh = state.desk().answering.0.lock().insert(key.clone());
    fresh.then(|| Place { state: state.clone(), key })
}

/// Attempts until the turn is recorded, or the message was tried too often.
async fn run(place: Place, mut listener: Option<mpsc::Sender<Piece>>) {
    let (state, (origin, message_id)) = (&place.state, &place.key);
    let Ok(loaded) = state.loaded() else { return };
    loop {
        match loaded.store.take_up(origin, message_id).await {
            Ok(Some(message)) => {
                if attempt(state, &message, &mut listener).await {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => tracing::error!(%error, origin, "an accepted message cannot be read"),
        }
        if state.is_stopping() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One turn; `true` where it came to its end.
async fn attempt(state: &AppState, message: &Inbound, listener: &mut Option<mpsc::Sender<Piece>>) -> bool {
    let admission = loop {
        match state.admit() {
            Ok(admission) => break admission,
            Err(_) if state.is_stopping() => return false,
            Err(_) => tokio::time::sleep(BUSY_PAUSE).await,
        }
    };
    let mut answer = match turns::begin(state, admission, Instant::now(), call(message)).await {
        Ok(answer) => answer,
        Err(error) => return failed(error, message, listener).await,
    };
    loop {
        let piece = answer.next().await;
        let done = match piece {
            Piece::Failed(error) => return failed(error, message, listener).await,
            Piece::Done(_) => true,
            Piece::Text { .. } => false,
        };
        let gone = match listener {
            Some(sender) => sender.send(piece).await.is_err(),
            None => false,
        };
        if gone {
            *listener = None;
        }
        if done {
            return true;
        }
    }
}

async fn failed(error: ApiError, message: &Inbound, listener: &mut Option<mpsc::Sender<Piece>>) -> bool {
    tracing::warn!(error = error.message, origin = message.origin, "an accepted message could not be answered yet");
    // What the client did wrong does not get better.
    let hopeless = error.status.is_client_error() && error.status != StatusCode::TOO_MANY_REQUESTS;
    if let Some(sender) = listener.take() {
        let _ = sender.send(Piece::Failed(error)).await;
    }
    hopeless
}

fn call(message: &Inbound) -> TurnCall {
    let of = |name: &str| message.context.get(name).and_then(Value::as_str).map(str::to_string);
    TurnCall {
        key_name: of("key_name").unwrap_or_default(),
        asked: Asked::Issued(message.conversation_id.clone()),
        channel: of("channel"),
        audience: of("audience"),
        operator: of("operator"),
        messages: vec![ChatMessage { role: "user".into(), content: message.text.clone() }],
        response_id: format!("msg-{}", uuid::Uuid::new_v4().simple()),
        beside: Beside {
            handoff: None,
            inbound: Some((message.origin.clone(), message.message_id.clone())),
            customer_id: message.customer_id.clone(),
            customer_name: of("customer_name"),
        },
        ..TurnCall::default()
    }
}
