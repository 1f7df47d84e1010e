//! Conversations, messages, outcomes and timings, in SQLite. What happens is appended; figures are derived from that.
//!
//! *Conversation*: a row made once and bound to one API key's name. *Turn*: one message of a customer with its answer,
//! outcome, cost and the state it left; the conversation's present is its last turn. *Group*: what figures count as
//! one conversation. An aware client sends its conversation's id and has one record; a plain client sends none, so
//! each of its requests makes a record of its own, and the hash of its transcript links that record to the turn
//! before it (the same group). Linked records never share a state: the id that a client is given is its own alone.
//!
//! [`figures`] are derived from turns and events, and can be derived anew at any time.
//! The people's side: *present* (`desk.rs`): a conversation's owner and what lists show of it, always written with what
//! led to it; *feed* (`feed.rs`): numbered changes that consoles, widgets and webhooks follow; `inbound.rs` and
//! `deliveries.rs`: messages that came in and webhooks that go out, each exactly once kept; `board.rs` and
//! `timeline.rs`: lists of conversations, and one as it was said; `staff.rs`: accounts and sessions.
//!
//! `library.rs`: files that came through the API, with their contents, and vector stores.
//!
//! `db.rs` opens the file and runs `migrations/`, `read.rs` and `append.rs` are the queries. The SQL is plain, so that
//! PostgreSQL can take SQLite's place; what is SQLite's own stands in `db.rs`.

mod append;
mod board;
pub mod care;
#[cfg(test)]
mod care_tests;
mod db;
mod deliveries;
mod desk;
#[cfg(test)]
mod desk_tests;
mod feed;
pub mod figures;
mod inbound;
pub mod knowledge;
pub mod library;
mod read;
mod staff;
pub mod suggestions;
#[cfg(test)]
mod tests;
mod timeline;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use board::{BoardCounts, BoardItem, BoardQuery, View};
pub use db::{StateLock, Store};
pub use deliveries::{Attempt, DeliveryLine, Due, NewDelivery};
pub use desk::{Beside, NewHandoff, NewMessage, Present, Step};
pub use feed::Change;
pub use inbound::{Accepted, Inbound};
pub use staff::{JoinFault, JoinLink, Session, StaffMember};
pub use timeline::{HandoffRow, Mark, OwnerEvent, Said, SaidTurn};

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
#[derive(Debug, Clone)]
pub struct TurnRecord {
    /// A fresh UUID.
    pub id: String,
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
    /// What is written with it, or not at all.
    pub beside: Beside,
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
    #[error("the database is not open")]
    NotOpen,
    /// The message was answered by another turn; nothing was written.
    #[error("this message was answered already")]
    AnsweredAlready,
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
}
