//! The feed of changes, which consoles, widgets and webhooks follow, and the events that figures are derived from.

use serde::Serialize;
use serde_json::Value;
use sqlx::{Row, Sqlite, Transaction};
use tokio::sync::watch;

use super::append::now_ms;
use super::{Store, StoreError};

/// An entry of the feed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub seq: i64,
    pub at_ms: i64,
    /// `message`, `owner`, `queue`, `suggestion`, `knowledge`
    pub kind: String,
    pub conversation_id: Option<String>,
    pub body: Value,
}

impl Store {
    /// Becomes ready whenever something was added to the feed.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.fed.subscribe()
    }

    /// Wakes all who follow the feed. Called after each commit that added to it.
    pub(super) fn tell(&self) {
        self.fed.send_modify(|commits| *commits += 1);
    }

    /// Adds an entry by itself.
    pub async fn announce(&self, kind: &str, conversation: Option<&str>, body: &Value) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        announce(&mut tx, kind, conversation, body, now_ms()).await?;
        tx.commit().await?;
        self.tell();
        Ok(())
    }

    /// Entries after `seq`, oldest first, at most `limit`; of one conversation or of all.
    pub async fn changes_after(
        &self,
        seq: i64,
        conversation: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Change>, StoreError> {
        let rows = match conversation {
            None => sqlx::query(
                "SELECT seq, at_ms, kind, conversation_id, body FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2",
            )
            .bind(seq)
            .bind(limit),
            Some(conversation) => sqlx::query(
                "SELECT seq, at_ms, kind, conversation_id, body FROM changes
                  WHERE seq > $1 AND conversation_id = $3 ORDER BY seq LIMIT $2",
            )
            .bind(seq)
            .bind(limit)
            .bind(conversation),
        };
        let rows = rows.fetch_all(&self.pool).await?;
        let change = |row: &sqlx::sqlite::SqliteRow| -> Result<Change, StoreError> {
            let body: String = row.try_get(4)?;
            Ok(Change {
                seq: row.try_get(0)?,
                at_ms: row.try_get(1)?,
                kind: row.try_get(2)?,
                conversation_id: row.try_get(3)?,
                body: serde_json::from_str(&body).unwrap_or_default(),
            })
        };
        rows.iter().map(change).collect()
    }

    /// The feed's last number; 0 where it is empty.
    pub async fn last_seq(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT COALESCE(MAX(seq), 0) FROM changes").fetch_one(&self.pool).await?)
    }
}

/// Adds to the feed within a transaction. `body` holds no customer's words: the feed is kept.
pub(super) async fn announce(
    tx: &mut Transaction<'static, Sqlite>,
    kind: &str,
    conversation: Option<&str>,
    body: &Value,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO changes (at_ms, kind, conversation_id, body) VALUES ($1, $2, $3, $4)")
        .bind(now)
        .bind(kind)
        .bind(conversation)
        .bind(body.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Appends an event within a transaction.
pub(super) async fn note(
    tx: &mut Transaction<'static, Sqlite>,
    conversation: Option<&str>,
    kind: &str,
    body: &Value,
    now: i64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO events (id, conversation_id, at_ms, kind, body) VALUES ($1, $2, $3, $4, $5)")
        .bind(uuid::Uuid::now_v7().to_string())
        .bind(conversation)
        .bind(now)
        .bind(kind)
        .bind(body.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
