//! What is appended to the database.

use serde_json::Value;

use super::desk::present;
use super::{Store, StoreError, TurnRecord};

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

impl Store {
    /// Appends a turn (and its conversation, where it is new), in one transaction; returns its number, from 1.
    ///
    /// # Errors
    /// [`StoreError::AnsweredAlready`] where another turn has answered the accepted message;
    /// also where the conversation's id is bound to another key: nothing is written then.
    pub async fn append(&self, turn: &TurnRecord) -> Result<i64, StoreError> {
        let conversation = &turn.conversation;
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO conversations (id, key_name, group_id, channel, started_ms)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING",
        )
        .bind(&conversation.id)
        .bind(&conversation.key_name)
        .bind(&conversation.group_id)
        .bind(&conversation.channel)
        .bind(conversation.started_ms)
        .execute(&mut *tx)
        .await?;
        let owner: String = sqlx::query_scalar("SELECT key_name FROM conversations WHERE id = $1")
            .bind(&conversation.id)
            .fetch_one(&mut *tx)
            .await?;
        if owner != conversation.key_name {
            return Err(StoreError::Sql(sqlx::Error::RowNotFound));
        }
        let last: Option<(i64, String)> =
            sqlx::query_as("SELECT number, id FROM turns WHERE conversation_id = $1 ORDER BY number DESC LIMIT 1")
                .bind(&conversation.id)
                .fetch_optional(&mut *tx)
                .await?;
        let (number, previous) = match last {
            Some((number, id)) => (number + 1, Some(id)),
            None => (1, turn.continues.clone()),
        };
        let id = &turn.id;
        if let Some((origin, message)) = &turn.beside.inbound {
            // What is answered needs its words here no more.
            let done = sqlx::query(
                "UPDATE inbound SET turn_id = $3, text = '', context = '{}'
                  WHERE origin = $1 AND message_id = $2 AND turn_id IS NULL",
            )
            .bind(origin)
            .bind(message)
            .bind(id)
            .execute(&mut *tx)
            .await?;
            if done.rows_affected() == 0 {
                return Err(StoreError::AnsweredAlready);
            }
        }
        let before = present(&mut tx, &conversation.id).await?;
        let with_person = before.as_ref().is_some_and(|present| matches!(present.owner.as_str(), "waiting" | "person"));
        sqlx::query(
            "INSERT INTO turns (id, conversation_id, number, previous_id, at_ms, inferred, operator, operator_version,
                                state, action, kind, reason, confidence, sources, model_hash, pack_version,
                                prompt_tokens, cached_tokens, completion_tokens, first_token_ms, total_ms, chain_hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)",
        )
        .bind(id)
        .bind(&conversation.id)
        .bind(number)
        .bind(previous)
        .bind(conversation.updated_ms)
        .bind(i64::from(conversation.inferred))
        .bind(&conversation.operator)
        .bind(&conversation.operator_version)
        .bind(conversation.state.to_string())
        .bind(&turn.action)
        .bind(&turn.kind)
        // A reason may quote the customer.
        .bind(turn.reason.as_ref().filter(|_| self.keep_text).map(|reason| self.kept(reason)))
        .bind(f64::from(turn.confidence))
        .bind(turn.sources.to_string())
        .bind(&turn.model_hash)
        .bind(&turn.pack_version)
        .bind(turn.prompt_tokens)
        .bind(turn.cached_tokens)
        .bind(turn.completion_tokens)
        .bind(turn.first_token_ms)
        .bind(turn.total_ms)
        .bind(&turn.chain_hash)
        .execute(&mut *tx)
        .await?;
        if self.keep_text || with_person || turn.beside.handoff.is_some() || turn.beside.inbound.is_some() {
            // A person needs a customer's words as they are; they are masked when that person is done.
            let customer =
                if with_person { turn.customer_text.as_str().into() } else { self.kept(&turn.customer_text) };
            sqlx::query("INSERT INTO texts (turn_id, customer, answer) VALUES ($1, $2, $3)")
                .bind(id)
                .bind(customer)
                .bind(self.kept(&turn.answer_text))
                .execute(&mut *tx)
                .await?;
        }
        self.desk_of_turn(&mut tx, turn, before.as_ref()).await?;
        tx.commit().await?;
        self.tell();
        Ok(number)
    }

    /// Appends something that is no turn, e.g. `cancelled`; `body` must hold no customer's words.
    pub async fn append_event(&self, conversation: Option<&str>, kind: &str, body: &Value) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO events (id, conversation_id, at_ms, kind, body) VALUES ($1, $2, $3, $4, $5)")
            .bind(uuid::Uuid::now_v7().to_string())
            .bind(conversation)
            .bind(now_ms())
            .bind(kind)
            .bind(body.to_string())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}
