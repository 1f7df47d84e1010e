//! Messages of the widget and of channels: accepted once by the sender's id, kept until a turn has answered them.

use serde_json::Value;
use sqlx::{Row, Sqlite, Transaction};

use super::append::now_ms;
use super::{Store, StoreError};

/// After so many broken attempts a message is left alone (a turn that takes the program down must not do so for ever).
const MOST_ATTEMPTS: i64 = 5;

/// A message to be accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Inbound {
    /// `widget:VISITOR` or `channel:NAME`
    pub origin: String,
    /// The sender's own id.
    pub message_id: String,
    /// Who writes, by the sender's own name for them.
    pub customer_id: Option<String>,
    /// Empty: the customer's latest in this channel that is not closed, else a new one.
    pub conversation_id: String,
    pub channel: Option<String>,
    /// A conversation in which nothing happened since then is not gone on with.
    pub since_ms: i64,
    pub text: String,
    /// What its turn needs besides.
    pub context: Value,
}

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    pub conversation_id: String,
    /// It was here before.
    pub duplicate: bool,
    /// The turn that answered it.
    pub turn_id: Option<String>,
}

impl Store {
    /// Accepts a message, once: another one with its id changes nothing.
    pub async fn accept(&self, message: &Inbound) -> Result<Accepted, StoreError> {
        let mut tx = self.write().await?;
        let before: Option<(String, Option<String>)> =
            sqlx::query_as("SELECT conversation_id, turn_id FROM inbound WHERE origin = $1 AND message_id = $2")
                .bind(&message.origin)
                .bind(&message.message_id)
                .fetch_optional(&mut *tx)
                .await?;
        if let Some((conversation_id, turn_id)) = before {
            return Ok(Accepted { conversation_id, duplicate: true, turn_id });
        }
        let conversation_id = match message.conversation_id.as_str() {
            "" => going_on(&mut tx, message).await?.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
            id => id.to_string(),
        };
        sqlx::query(
            "INSERT INTO inbound (origin, message_id, customer_id, conversation_id, at_ms, text, context, attempts)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 0)",
        )
        .bind(&message.origin)
        .bind(&message.message_id)
        .bind(&message.customer_id)
        .bind(&conversation_id)
        .bind(now_ms())
        .bind(&message.text)
        .bind(message.context.to_string())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Accepted { conversation_id, duplicate: false, turn_id: None })
    }

    /// Takes a message up for its turn, counting the attempt; `None`: answered already, or tried too often.
    pub async fn take_up(&self, origin: &str, message_id: &str) -> Result<Option<Inbound>, StoreError> {
        let row = sqlx::query(
            "UPDATE inbound SET attempts = attempts + 1
              WHERE origin = $1 AND message_id = $2 AND turn_id IS NULL AND attempts < $3
             RETURNING conversation_id, text, context, customer_id",
        )
        .bind(origin)
        .bind(message_id)
        .bind(MOST_ATTEMPTS)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let context: String = row.try_get(2)?;
            Ok(Inbound {
                origin: origin.into(),
                message_id: message_id.into(),
                customer_id: row.try_get(3)?,
                conversation_id: row.try_get(0)?,
                channel: None,
                since_ms: 0,
                text: row.try_get(1)?,
                context: serde_json::from_str(&context).unwrap_or_default(),
            })
        })
        .transpose()
    }

    /// Accepted messages without an answer, oldest first: (origin, message id).
    pub async fn unanswered(&self) -> Result<Vec<(String, String)>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT origin, message_id FROM inbound WHERE turn_id IS NULL AND attempts < $1 ORDER BY at_ms, message_id LIMIT 10000",
        )
        .bind(MOST_ATTEMPTS)
        .fetch_all(&self.pool)
        .await?)
    }
}

/// The conversation that a channel's customer goes on with: that of a message which is not yet answered, else the latest
/// that is not closed.
async fn going_on(tx: &mut Transaction<'static, Sqlite>, message: &Inbound) -> Result<Option<String>, StoreError> {
    let waiting = sqlx::query_scalar(
        "SELECT conversation_id FROM inbound
          WHERE origin = $1 AND customer_id = $2 AND turn_id IS NULL ORDER BY at_ms DESC LIMIT 1",
    )
    .bind(&message.origin)
    .bind(&message.customer_id)
    .fetch_optional(&mut **tx)
    .await?;
    if waiting.is_some() {
        return Ok(waiting);
    }
    Ok(sqlx::query_scalar(
        "SELECT d.conversation_id FROM desk d JOIN conversations c ON c.id = d.conversation_id
          WHERE d.channel = $1 AND d.customer_id = $2 AND d.owner <> 'closed' AND d.updated_ms > $3 AND c.key_name = $4
          ORDER BY d.updated_ms DESC LIMIT 1",
    )
    .bind(&message.channel)
    .bind(&message.customer_id)
    .bind(message.since_ms)
    .bind(message.context["key_name"].as_str())
    .fetch_optional(&mut **tx)
    .await?)
}
