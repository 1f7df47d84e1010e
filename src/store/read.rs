//! What is asked of the database.

use serde_json::Value;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Continuation, Conversation, Store, StoreError};

impl Store {
    /// A conversation that belongs to this key; another key's is `None`.
    pub async fn conversation(&self, id: &str, key_name: &str) -> Result<Option<Conversation>, StoreError> {
        let row = sqlx::query(
            "SELECT c.id, c.key_name, c.group_id, c.channel, c.started_ms,
                    t.at_ms, t.inferred, t.operator, t.operator_version, t.state
               FROM conversations c JOIN turns t ON t.conversation_id = c.id
              WHERE c.id = $1 AND c.key_name = $2
              ORDER BY t.number DESC LIMIT 1",
        )
        .bind(id)
        .bind(key_name)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| conversation_of(&row)).transpose()
    }

    /// The turn that left this chain hash, within one key; the latest where there are several.
    pub async fn by_chain_hash(&self, hash: &str, key_name: &str) -> Result<Option<Continuation>, StoreError> {
        let row = sqlx::query(
            "SELECT t.id, c.group_id
               FROM turns t JOIN conversations c ON c.id = t.conversation_id
              WHERE t.chain_hash = $1 AND c.key_name = $2
              ORDER BY t.at_ms DESC, t.id DESC LIMIT 1",
        )
        .bind(hash)
        .bind(key_name)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| Ok(Continuation { turn_id: row.try_get(0)?, group_id: row.try_get(1)? })).transpose()
    }

    /// Customer messages of this conversation in the last minute.
    pub async fn messages_last_minute(&self, conversation: &str) -> Result<usize, StoreError> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM turns WHERE conversation_id = $1 AND at_ms > $2")
            .bind(conversation)
            .bind(super::append::now_ms() - 60_000)
            .fetch_one(&self.pool)
            .await?;
        Ok(usize::try_from(count).unwrap_or_default())
    }
}

fn conversation_of(row: &SqliteRow) -> Result<Conversation, StoreError> {
    let state: String = row.try_get(9)?;
    Ok(Conversation {
        id: row.try_get(0)?,
        key_name: row.try_get(1)?,
        group_id: row.try_get(2)?,
        channel: row.try_get(3)?,
        started_ms: row.try_get(4)?,
        updated_ms: row.try_get(5)?,
        inferred: row.try_get::<i64, _>(6)? != 0,
        operator: row.try_get(7)?,
        operator_version: row.try_get(8)?,
        state: serde_json::from_str(&state).unwrap_or(Value::Null),
    })
}
