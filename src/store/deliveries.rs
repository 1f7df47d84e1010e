//! Webhooks to be sent: made from the feed exactly once, tried until the other side has taken them.

use serde::Serialize;

use super::append::now_ms;
use super::{Store, StoreError};

/// A webhook to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// The endpoint's name in the settings.
    pub endpoint: String,
    pub kind: String,
    pub conversation_id: Option<String>,
    /// JSON
    pub payload: String,
}

/// A delivery that is due.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Due {
    pub id: String,
    pub endpoint: String,
    pub payload: String,
    /// Attempts so far.
    pub attempts: i64,
}

/// A line of the delivery log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct DeliveryLine {
    pub id: String,
    pub endpoint: String,
    pub kind: String,
    pub conversation_id: Option<String>,
    pub created_ms: i64,
    /// `waiting`, `delivered`, `given_up`
    pub state: String,
    pub attempts: i64,
    pub next_ms: i64,
    pub status: Option<i64>,
    pub error: Option<String>,
    pub done_ms: Option<i64>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Delivered {
        status: u16,
    },
    /// Another one at `next_ms`; `None`: given up.
    Failed {
        status: Option<u16>,
        error: String,
        next_ms: Option<i64>,
    },
}

impl Store {
    /// How far the feed was turned into deliveries. Where nothing was relayed yet: its end now, so that a webhook that
    /// is set up today does not send what happened before.
    pub async fn relayed(&self, name: &str) -> Result<i64, StoreError> {
        sqlx::query(
            "INSERT INTO relay (name, seq) VALUES ($1, (SELECT COALESCE(MAX(seq), 0) FROM changes))
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(name)
        .execute(&self.pool)
        .await?;
        Ok(sqlx::query_scalar("SELECT seq FROM relay WHERE name = $1").bind(name).fetch_one(&self.pool).await?)
    }

    /// Keeps the deliveries of the feed up to `seq`, together with that number.
    pub async fn relay(&self, name: &str, seq: i64, deliveries: &[NewDelivery]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for delivery in deliveries {
            sqlx::query(
                "INSERT INTO deliveries (id, endpoint, kind, conversation_id, created_ms, payload, state, attempts, next_ms)
                 VALUES ($1, $2, $3, $4, $5, $6, 'waiting', 0, $5)",
            )
            .bind(format!("msg_{}", uuid::Uuid::now_v7().simple()))
            .bind(&delivery.endpoint)
            .bind(&delivery.kind)
            .bind(&delivery.conversation_id)
            .bind(now_ms())
            .bind(&delivery.payload)
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query("UPDATE relay SET seq = $2 WHERE name = $1").bind(name).bind(seq).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// What is due now at an endpoint, oldest first.
    pub async fn due(&self, endpoint: &str, limit: i64) -> Result<Vec<Due>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT id, endpoint, payload, attempts FROM deliveries
              WHERE state = 'waiting' AND endpoint = $1 AND next_ms <= $2 ORDER BY created_ms, id LIMIT $3",
        )
        .bind(endpoint)
        .bind(now_ms())
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Notes how an attempt ended. What was delivered, or given up, keeps no words.
    pub async fn attempted(&self, id: &str, attempt: &Attempt) -> Result<(), StoreError> {
        let (state, status, error, next) = match attempt {
            Attempt::Delivered { status } => ("delivered", Some(*status), None, None),
            Attempt::Failed { status, error, next_ms: None } => ("given_up", *status, Some(error), None),
            Attempt::Failed { status, error, next_ms } => ("waiting", *status, Some(error), *next_ms),
        };
        sqlx::query(
            "UPDATE deliveries SET state = $2, attempts = attempts + 1, status = $3, error = $4,
                    next_ms = COALESCE($5, next_ms), done_ms = CASE WHEN $2 = 'waiting' THEN NULL ELSE $6 END,
                    payload = CASE WHEN $2 = 'delivered' THEN '' ELSE payload END
              WHERE id = $1",
        )
        .bind(id)
        .bind(state)
        .bind(status.map(i64::from))
        .bind(error)
        .bind(next)
        .bind(now_ms())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The log, latest first.
    pub async fn deliveries(&self, before: Option<&str>, limit: i64) -> Result<Vec<DeliveryLine>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT id, endpoint, kind, conversation_id, created_ms, state, attempts, next_ms, status, error, done_ms
               FROM deliveries WHERE $1 IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
        )
        .bind(before)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }
}
