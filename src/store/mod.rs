//! Conversations, messages, outcomes and timings, in SQLite. Append-only events; figures are derived from them.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {}

/// A conversation as its turns left it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    pub id: String,
    /// Name of the API key it is bound to ("" without keys).
    pub key_name: String,
    /// Grouped by the hash chain of a plain client's messages, not by an id that the client sent.
    pub inferred: bool,
    pub channel: Option<String>,
    pub operator: Option<String>,
    pub operator_version: Option<String>,
    /// The support logic's state after the last turn (`support::ConversationState`), as JSON.
    pub state: Value,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    pub updated_ms: i64,
}

/// One turn, to be appended: the customer's message, the answer and all that was decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TurnRecord {
    pub conversation: Conversation,
    pub customer_text: String,
    pub answer_text: String,
    pub action: String,
    pub kind: Option<String>,
    pub reason: Option<String>,
    pub confidence: f32,
    /// `[{"id","score"}]`
    pub sources: Value,
    pub model_hash: String,
    pub pack_version: String,
    pub prompt_tokens: i64,
    pub cached_tokens: i64,
    pub completion_tokens: i64,
    /// Milliseconds from the request to the first byte of text, and to the end.
    pub first_token_ms: i64,
    pub total_ms: i64,
    /// Hash chain over the plain client's messages after this turn (see DESIGN.md section 3, step 1).
    pub chain_hash: Option<String>,
}

impl Store {
    /// Opens or creates `state_dir/firstline.db` and runs its migrations.
    pub async fn open(_state_dir: &Path, _keep_text: bool) -> Result<Self, StoreError> {
        todo!()
    }
    /// A conversation that belongs to this key; another key's is `None`.
    pub async fn conversation(&self, _id: &str, _key_name: &str) -> Result<Option<Conversation>, StoreError> {
        todo!()
    }
    /// The conversation whose last turn left this chain hash, within one key.
    pub async fn by_chain_hash(&self, _hash: &str, _key_name: &str) -> Result<Option<Conversation>, StoreError> {
        todo!()
    }
    /// Earlier turns as (customer, answer), oldest first; empty texts where texts are not kept.
    pub async fn turns(&self, _conversation: &str) -> Result<Vec<(String, String)>, StoreError> {
        todo!()
    }
    /// Appends a turn, in one transaction; returns its number in the conversation, from 1.
    pub async fn append(&self, _turn: &TurnRecord) -> Result<i64, StoreError> {
        todo!()
    }
    /// Customer messages of this conversation in the last minute.
    pub async fn messages_last_minute(&self, _conversation: &str) -> Result<usize, StoreError> {
        todo!()
    }
}

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database {path} cannot be opened: {reason}")]
    Open { path: String, reason: String },
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
}
