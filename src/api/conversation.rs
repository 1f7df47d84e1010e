//! Which conversation a request belongs to, and with which history and state its turn runs.
//!
//! With an id (`metadata.conversation_id`, or the header `X-Conversation-Id`) the server holds the state: the stored
//! turns are the history where the client sends only its new message, else the client's transcript is. Without an id
//! the transcript is the whole state; the request gets a record, and an id, of its own, which the hash of the
//! transcript links to the turn before it, for the figures alone.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use axum::http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::state::Loaded;
use super::wire::chat::Metadata;
use super::wire::error::ApiError;
use crate::llm::ChatMessage;
use crate::store::{Conversation, Said};
use crate::support::ConversationState;

/// The header that carries a conversation's id, both ways.
pub const HEADER: &str = "x-conversation-id";

/// A request's place in its conversation.
pub struct Place {
    pub conversation: Conversation,
    /// The turn that this one continues in another record.
    pub continues: Option<String>,
    /// The transcript with what the server knows of it.
    pub messages: Vec<ChatMessage>,
    pub state: Option<ConversationState>,
    pub messages_last_minute: usize,
    /// Held until the turn is recorded.
    pub turn_lock: Option<OwnedMutexGuard<()>>,
}

/// The id that the client sent, if any.
pub fn requested_id(headers: &HeaderMap, metadata: &Metadata) -> Result<Option<String>, ApiError> {
    let header = match headers.get(HEADER) {
        None => None,
        Some(value) => Some(value.to_str().map_err(|_| unknown("?"))?.trim().to_string()).filter(|id| !id.is_empty()),
    };
    match (header, &metadata.conversation_id) {
        (Some(header), Some(metadata)) if header != *metadata => {
            let message = "the header X-Conversation-Id and metadata.conversation_id name two conversations";
            Err(ApiError::invalid("metadata.conversation_id", message))
        }
        (header, metadata) => Ok(header.or_else(|| metadata.clone())),
    }
}

/// Which conversation is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Asked {
    /// None: a plain client's transcript is all there is.
    #[default]
    Plain,
    /// One that the server has issued.
    Known(String),
    /// One that the server has issued and that perhaps has no turn yet.
    Issued(String),
}

/// Finds or makes the place of a request.
///
/// # Errors
/// 404 for an id that this key does not own.
pub async fn place(
    loaded: &Loaded,
    key_name: &str,
    asked: Asked,
    channel: Option<String>,
    messages: Vec<ChatMessage>,
) -> Result<Place, ApiError> {
    match asked {
        Asked::Known(id) => known(loaded, key_name, &id, messages).await,
        Asked::Plain => plain(loaded, key_name, channel, messages).await,
        Asked::Issued(id) => {
            let turn_lock = loaded.locks.lock(&id).await;
            if loaded.store.conversation(&id, key_name).await?.is_some() {
                drop(turn_lock);
                return known(loaded, key_name, &id, messages).await;
            }
            let conversation = begun(id.clone(), id, key_name, channel, false);
            let state = Some(ConversationState::default());
            let turn_lock = Some(turn_lock);
            Ok(Place { conversation, continues: None, messages, state, messages_last_minute: 0, turn_lock })
        }
    }
}

/// A conversation without a turn.
fn begun(id: String, group_id: String, key_name: &str, channel: Option<String>, inferred: bool) -> Conversation {
    let now = chrono::Utc::now().timestamp_millis();
    Conversation {
        id,
        key_name: key_name.to_string(),
        group_id,
        inferred,
        channel,
        operator: None,
        operator_version: None,
        state: Value::Null,
        started_ms: now,
        updated_ms: now,
    }
}

async fn known(loaded: &Loaded, key_name: &str, id: &str, messages: Vec<ChatMessage>) -> Result<Place, ApiError> {
    // Looked up before the lock, so that made-up ids leave nothing behind, and again under it, for the latest state.
    loaded.store.conversation(id, key_name).await?.ok_or_else(|| unknown(id))?;
    let turn_lock = loaded.locks.lock(id).await;
    let conversation = loaded.store.conversation(id, key_name).await?.ok_or_else(|| unknown(id))?;
    let messages = match is_only_the_new_message(&messages) {
        true => with_history(loaded.store.timeline(id).await?, messages),
        false => messages,
    };
    Ok(Place {
        state: Some(serde_json::from_value(conversation.state.clone()).unwrap_or_default()),
        messages_last_minute: loaded.store.messages_last_minute(id).await?,
        conversation: Conversation { inferred: false, ..conversation },
        continues: None,
        messages,
        turn_lock: Some(turn_lock),
    })
}

async fn plain(
    loaded: &Loaded,
    key_name: &str,
    channel: Option<String>,
    messages: Vec<ChatMessage>,
) -> Result<Place, ApiError> {
    let id = uuid::Uuid::new_v4().to_string();
    let earlier = match before_the_new_message(&messages) {
        [] => None,
        said => loaded.store.by_chain_hash(&chain_hash(said), key_name).await?,
    };
    let (group_id, continues) = match earlier {
        Some(earlier) => (earlier.group_id, Some(earlier.turn_id)),
        None => (id.clone(), None),
    };
    let conversation = begun(id, group_id, key_name, channel, true);
    Ok(Place { conversation, continues, messages, state: None, messages_last_minute: 0, turn_lock: None })
}

fn unknown(id: &str) -> ApiError {
    let message = format!("there is no conversation {id:?} for this key; leave the id out to begin a new one");
    ApiError::new(StatusCode::NOT_FOUND, "conversation_not_found", message).on("metadata.conversation_id")
}

fn is_only_the_new_message(messages: &[ChatMessage]) -> bool {
    let mut said = messages.iter().filter(|m| m.role != "system");
    said.next().is_some_and(|m| m.role == "user") && said.next().is_none()
}

/// People's words stand among the bot's: to the customer both are our side.
fn with_history(said: Vec<Said>, messages: Vec<ChatMessage>) -> Vec<ChatMessage> {
    let (mut all, new): (Vec<_>, Vec<_>) = messages.into_iter().partition(|m| m.role == "system");
    for said in said.into_iter().filter(|said| !said.pending && !said.text.is_empty()) {
        let role = match said.from.as_str() {
            "customer" => "user",
            "bot" | "person" => "assistant",
            _ => continue,
        };
        all.push(ChatMessage { role: role.into(), content: said.text });
    }
    all.extend(new);
    all
}

/// What was said before the customer's newest words.
fn before_the_new_message(messages: &[ChatMessage]) -> &[ChatMessage] {
    let end = messages.iter().rposition(|m| m.role == "assistant").map_or(0, |n| n + 1);
    &messages[..end]
}

/// Hash over a transcript's own words: system messages and surrounding blanks do not count, since clients vary them.
pub fn chain_hash(messages: &[ChatMessage]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("firstline 2026 transcript chain");
    for message in messages.iter().filter(|m| m.role == "user" || m.role == "assistant") {
        let text = message.content.trim();
        if text.is_empty() {
            continue;
        }
        hasher.update(message.role.as_bytes());
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// Locks by conversation; a lock that nobody holds or awaits is forgotten.
#[derive(Default)]
pub struct Locks(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Locks {
    /// Waits until no other request of this conversation runs.
    pub async fn lock(&self, id: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock();
            if locks.len() >= 1024 {
                locks.retain(|_, lock| lock.strong_count() > 0);
            }
            let entry = locks.entry(id.to_string()).or_default();
            match entry.upgrade() {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    *entry = Arc::downgrade(&lock);
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: &str, content: &str) -> ChatMessage {
        ChatMessage { role: role.into(), content: content.into() }
    }

    #[test]
    fn the_chain_knows_a_transcript_by_its_words() {
        let a = [said("user", "hi"), said("assistant", "hello")];
        let b = [said("system", "now: 12:00"), said("user", "hi "), said("assistant", "hello\n")];
        assert_eq!(chain_hash(&a), chain_hash(&b));
        let c = [said("user", "hihello")];
        assert_ne!(chain_hash(&a), chain_hash(&c));
    }

    #[test]
    fn only_what_came_before_the_last_answer_is_looked_up() {
        let t = [said("user", "a"), said("assistant", "b"), said("user", "c"), said("user", "d")];
        assert_eq!(before_the_new_message(&t).len(), 2);
        assert!(before_the_new_message(&t[2..]).is_empty());
    }

    #[test]
    fn stored_turns_stand_before_a_lone_new_message() {
        let messages = vec![said("system", "s"), said("user", "new")];
        assert!(is_only_the_new_message(&messages));
        let heard = |from: &str, text: &str| Said { from: from.into(), text: text.into(), ..Said::default() };
        let pending = Said { pending: true, ..heard("customer", "new") };
        let turns = vec![heard("customer", "q"), heard("bot", "a"), heard("note", "n"), heard("person", "p"), pending];
        let all: Vec<String> = with_history(turns, messages).into_iter().map(|m| m.content).collect();
        assert_eq!(all, ["s", "q", "a", "p", "new"]);
        assert!(!is_only_the_new_message(&[said("user", "a"), said("assistant", "b"), said("user", "c")]));
    }

    #[test]
    fn two_ids_in_one_request_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, "a".parse().unwrap());
        let metadata = Metadata { conversation_id: Some("b".into()), ..Metadata::default() };
        assert_eq!(requested_id(&headers, &metadata).unwrap_err().status, StatusCode::BAD_REQUEST);
        assert_eq!(requested_id(&headers, &Metadata::default()).unwrap().as_deref(), Some("a"));
    }

    #[tokio::test]
    async fn one_conversation_is_served_one_request_at_a_time() {
        let locks = Arc::new(Locks::default());
        let first = locks.lock("c").await;
        let waiting = tokio::spawn({
            let locks = locks.clone();
            async move { locks.lock("c").await }
        });
        let _other = locks.lock("d").await;
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
    }
}
