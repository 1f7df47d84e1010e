//! The change log of the knowledge, and what became of suggestions. `kb/desk.rs` writes the pack's folder from the log.

use serde_json::{Value, json};
use sqlx::{Row, Sqlite, Transaction};

use super::append::now_ms;
use super::{Store, StoreError};

/// A row of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct KnowledgeChange {
    pub seq: i64,
    /// `faq` or `article`.
    pub kind: String,
    pub item: String,
    /// `put` or `delete`.
    pub action: String,
    pub body: Value,
}

/// A change to be made.
#[derive(Debug, Clone)]
pub struct NewChange {
    pub author: String,
    pub kind: &'static str,
    pub item: String,
    pub action: &'static str,
    pub body: Value,
    /// The item's latest change that its author has seen; 0: none.
    pub after_seq: i64,
}

/// How a change went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// Committed, under this number.
    As(i64),
    /// Somebody else was quicker; the item's latest change.
    Stale(i64),
}

/// How a verdict on a suggestion went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    Now(Changed),
    /// There was one already; the change that came of it, if any.
    Before(Option<i64>),
}

impl Store {
    /// The whole log, oldest first.
    pub async fn knowledge_changes(&self) -> Result<Vec<KnowledgeChange>, StoreError> {
        let rows = sqlx::query("SELECT seq, kind, item, action, body FROM knowledge_changes ORDER BY seq")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| {
                let body: String = row.try_get(4)?;
                Ok(KnowledgeChange {
                    seq: row.try_get(0)?,
                    kind: row.try_get(1)?,
                    item: row.try_get(2)?,
                    action: row.try_get(3)?,
                    body: serde_json::from_str(&body).unwrap_or(Value::Null),
                })
            })
            .collect()
    }

    /// Appends a change unless the item has changed since its author looked.
    pub async fn change_knowledge(&self, change: &NewChange) -> Result<Changed, StoreError> {
        let mut tx = self.write().await?;
        let changed = append(&mut tx, change).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Records what a person made of a suggestion, with the change where it was accepted; once, however often it is
    /// asked. Its turns are suggested no more.
    pub async fn judge_suggestion(
        &self,
        id: &str,
        author: &str,
        turns: &[String],
        change: Option<&NewChange>,
    ) -> Result<Judged, StoreError> {
        let mut tx = self.write().await?;
        let before: Option<Option<i64>> =
            sqlx::query_scalar("SELECT change_seq FROM suggestion_verdicts WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut *tx)
                .await?;
        if let Some(seq) = before {
            return Ok(Judged::Before(seq));
        }
        let changed = match change {
            Some(change) => append(&mut tx, change).await?,
            None => Changed::As(0),
        };
        let Changed::As(seq) = changed else { return Ok(Judged::Now(changed)) };
        sqlx::query(
            "INSERT INTO suggestion_verdicts (id, at_ms, author, verdict, change_seq) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(now_ms())
        .bind(author)
        .bind(if change.is_some() { "accepted" } else { "dismissed" })
        .bind((seq > 0).then_some(seq))
        .execute(&mut *tx)
        .await?;
        for turn in turns {
            sqlx::query(
                "INSERT INTO suggestion_turns (turn_id, suggestion_id) VALUES ($1, $2) ON CONFLICT (turn_id) DO NOTHING",
            )
            .bind(turn)
            .bind(id)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(Judged::Now(changed))
    }

    /// True where a verdict on the suggestion is recorded.
    pub async fn is_judged(&self, id: &str) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM suggestion_verdicts WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        Ok(found.is_some())
    }

    /// Records that another version serves from now on.
    pub async fn record_promotion(
        &self,
        operator: &str,
        versions: (&str, &str),
        forced_because: Option<&str>,
        evidence: &Value,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO promotions (id, at_ms, operator, from_version, to_version, forced, reason, evidence)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(uuid::Uuid::now_v7().to_string())
        .bind(now_ms())
        .bind(operator)
        .bind(versions.0)
        .bind(versions.1)
        .bind(i64::from(forced_because.is_some()))
        .bind(forced_because.unwrap_or_default())
        .bind(evidence.to_string())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// All promotions, newest first.
    pub async fn promotions(&self) -> Result<Vec<Value>, StoreError> {
        let rows = sqlx::query(
            "SELECT at_ms, operator, from_version, to_version, forced, reason, evidence FROM promotions
              ORDER BY at_ms DESC LIMIT 200",
        )
        .fetch_all(&self.pool)
        .await?;
        let text = |row: &sqlx::sqlite::SqliteRow, at: usize| row.try_get::<String, _>(at);
        rows.iter()
            .map(|row| {
                Ok(json!({
                    "at_ms": row.try_get::<i64, _>(0)?, "operator": text(row, 1)?, "from": text(row, 2)?,
                    "to": text(row, 3)?, "forced": row.try_get::<i64, _>(4)? != 0, "reason": text(row, 5)?,
                    "evidence": serde_json::from_str::<Value>(&text(row, 6)?).unwrap_or_default(),
                }))
            })
            .collect()
    }
}

async fn append(tx: &mut Transaction<'static, Sqlite>, change: &NewChange) -> Result<Changed, StoreError> {
    let latest: Option<i64> = sqlx::query_scalar("SELECT MAX(seq) FROM knowledge_changes WHERE item = $1")
        .bind(&change.item)
        .fetch_one(&mut **tx)
        .await?;
    let latest = latest.unwrap_or(0);
    if latest != change.after_seq {
        return Ok(Changed::Stale(latest));
    }
    let seq = sqlx::query_scalar(
        "INSERT INTO knowledge_changes (at_ms, author, kind, item, action, body) VALUES ($1, $2, $3, $4, $5, $6)
         RETURNING seq",
    )
    .bind(now_ms())
    .bind(&change.author)
    .bind(change.kind)
    .bind(&change.item)
    .bind(change.action)
    .bind(change.body.to_string())
    .fetch_one(&mut **tx)
    .await?;
    Ok(Changed::As(seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(after_seq: i64) -> NewChange {
        NewChange {
            author: "Ann".into(),
            kind: "faq",
            item: "faq:a".into(),
            action: "put",
            body: json!({"questions": ["How?"]}),
            after_seq,
        }
    }

    #[tokio::test]
    async fn of_two_people_who_edit_the_same_entry_the_second_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), true).await.unwrap();
        assert_eq!(store.change_knowledge(&put(0)).await.unwrap(), Changed::As(1));
        assert_eq!(store.change_knowledge(&put(0)).await.unwrap(), Changed::Stale(1));
        assert_eq!(store.change_knowledge(&put(1)).await.unwrap(), Changed::As(2));
        assert_eq!(store.knowledge_changes().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_suggestion_is_accepted_once_however_often_it_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), true).await.unwrap();
        let turns = ["t1".to_string(), "t2".to_string()];
        let judged = store.judge_suggestion("s-t1", "Ann", &turns, Some(&put(0))).await.unwrap();
        assert_eq!(judged, Judged::Now(Changed::As(1)));
        assert_eq!(
            store.judge_suggestion("s-t1", "Bob", &turns, Some(&put(0))).await.unwrap(),
            Judged::Before(Some(1))
        );
        assert_eq!(store.judge_suggestion("s-t1", "Bob", &turns, None).await.unwrap(), Judged::Before(Some(1)));
        assert_eq!(store.knowledge_changes().await.unwrap().len(), 1);
        store.judge_suggestion("s-t9", "Bob", &["t9".into()], None).await.unwrap();
        assert_eq!(store.judge_suggestion("s-t9", "Bob", &[], None).await.unwrap(), Judged::Before(None));
    }
}
