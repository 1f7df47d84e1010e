//! Conversations, messages, outcomes and timings, in SQLite. Append-only; figures are derived from what was appended.
//!
//! *Conversation*: a row made once and bound to one API key's name. *Turn*: one message of a customer with its answer,
//! outcome, cost and the state it left; the conversation's present is its last turn. *Group*: what figures count as
//! one conversation. An aware client sends its conversation's id and has one record; a plain client sends none, so
//! each of its requests makes a record of its own, and the hash of its transcript links that record to the turn
//! before it (the same group). Linked records never share a state: the id that a client is given is its own alone.
//!
//! [`figures`] are derived from turns and events, and can be derived anew at any time.
//!
//! `db.rs` opens the file and runs `migrations/`, `read.rs` and `append.rs` are the queries. The SQL is plain, so that
//! PostgreSQL can take SQLite's place; what is SQLite's own stands in `db.rs`.

mod append;
pub mod care;
mod db;
pub mod figures;
pub mod knowledge;
mod read;
pub mod suggestions;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use db::{StateLock, Store};

/// A conversation as its turns left it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    pub id: String,
    /// Name of the API key it is bound to ("" without keys).
    pub key_name: String,
    /// What figures count as one conversation; its own id unless it continues a plain client's earlier record.
    pub group_id: String,
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

/// Where a plain client's transcript was last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    pub group_id: String,
    pub turn_id: String,
}

/// One turn, to be appended: the customer's message, the answer and all that was decided.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TurnRecord {
    /// Its operator, version, state and `updated_ms` are those after this turn.
    pub conversation: Conversation,
    /// The turn that this one continues in another record; `None`: the conversation's last, if any.
    pub continues: Option<String>,
    pub customer_text: String,
    pub answer_text: String,
    /// The outcome's action, or `cancelled` (the client left) or `failed` where the turn came to no outcome.
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

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database {path} cannot be opened: {reason}")]
    Open { path: String, reason: String },
    #[error("the state directory {0} is in use by another firstline")]
    InUse(String),
    #[error("the database is damaged: {0}")]
    Damaged(String),
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
}
