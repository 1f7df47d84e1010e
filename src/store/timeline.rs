//! A conversation as it was said, by customer, bot and people, in one order; and what staff say of answers.

use serde_json::{Value, json};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::append::now_ms;
use super::feed::{announce, note};
use super::{Store, StoreError};

/// Most turns, and most other messages, of a conversation that are read: the last ones.
const MOST: i64 = 500;

/// Something that was said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said {
    /// The id that the widget or channel gave a customer's message, else ours.
    pub id: String,
    pub at_ms: i64,
    /// `customer`, `bot`, `person`, `system`, `note`
    pub from: String,
    pub text: String,
    pub staff_name: Option<String>,
    /// A customer's message that is accepted and not yet answered.
    pub pending: bool,
    /// What made a bot's answer.
    pub turn: Option<SaidTurn>,
}

/// What is known of the turn that an answer came from.
#[derive(Debug, Clone, PartialEq)]
pub struct SaidTurn {
    pub id: String,
    pub action: String,
    pub kind: Option<String>,
    pub reason: Option<String>,
    pub confidence: f64,
    pub operator: Option<String>,
    pub operator_version: Option<String>,
    /// `[{"id","score","title","url"}]`
    pub sources: Value,
    pub first_token_ms: i64,
    pub total_ms: i64,
    pub mark: Option<Mark>,
}

/// What staff said of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub wrong: bool,
    pub right: Option<String>,
    pub by: String,
}

/// A handoff as it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct HandoffRow {
    pub id: String,
    pub at_ms: i64,
    pub queue: String,
    pub kind: String,
    pub reason: String,
    pub summary: String,
    pub tags: Value,
}

/// An event of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OwnerEvent {
    pub at_ms: i64,
    pub from_owner: String,
    pub to_owner: String,
    pub what: String,
    pub staff_name: Option<String>,
}

const PAST: &str = "WITH RECURSIVE past (id, previous_id, depth) AS (
                 SELECT id, previous_id, 0 FROM turns
                  WHERE conversation_id = $1
                    AND number = (SELECT MAX(number) FROM turns WHERE conversation_id = $1)
                 UNION ALL
                 SELECT t.id, t.previous_id, past.depth + 1
                   FROM turns t JOIN past ON t.id = past.previous_id
                  WHERE past.depth + 1 < $2)";

impl Store {
    /// All that was said, oldest first.
    pub async fn timeline(&self, conversation: &str) -> Result<Vec<Said>, StoreError> {
        // One view of the database: a message that is answered between two reads would be in neither.
        let mut view = self.pool.begin().await?;
        let sql = format!(
            "{PAST} SELECT t.id, t.at_ms, t.total_ms, t.action, t.kind, t.reason, t.confidence, t.operator,
                    t.operator_version, t.sources, t.first_token_ms, COALESCE(x.customer, ''), COALESCE(x.answer, ''),
                    i.message_id, m.wrong, m.right_answer, s.name
               FROM past JOIN turns t ON t.id = past.id
               LEFT JOIN texts x ON x.turn_id = t.id
               LEFT JOIN inbound i ON i.turn_id = t.id
               LEFT JOIN marks m ON m.id = (SELECT id FROM marks WHERE turn_id = t.id ORDER BY at_ms DESC, id DESC LIMIT 1)
               LEFT JOIN staff s ON s.id = m.staff_id
              ORDER BY past.depth DESC"
        );
        let turns = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(conversation).bind(MOST).fetch_all(&mut *view).await?;
        let mut said = Vec::new();
        for row in &turns {
            turn_said(row, &mut said)?;
        }
        let messages = sqlx::query(
            "SELECT m.id, m.at_ms, m.sender, m.text, s.name FROM messages m LEFT JOIN staff s ON s.id = m.staff_id
              WHERE m.conversation_id = $1 ORDER BY m.at_ms DESC, m.id DESC LIMIT $2",
        )
        .bind(conversation)
        .bind(MOST)
        .fetch_all(&mut *view)
        .await?;
        for row in messages.iter().rev() {
            said.push(Said {
                id: row.try_get(0)?,
                at_ms: row.try_get(1)?,
                from: row.try_get(2)?,
                text: row.try_get(3)?,
                staff_name: row.try_get(4)?,
                pending: false,
                turn: None,
            });
        }
        // Accepted and not yet answered.
        let waiting = sqlx::query(
            "SELECT message_id, at_ms, text FROM inbound WHERE conversation_id = $1 AND turn_id IS NULL ORDER BY at_ms",
        )
        .bind(conversation)
        .fetch_all(&mut *view)
        .await?;
        for row in &waiting {
            said.push(Said {
                id: row.try_get(0)?,
                at_ms: row.try_get(1)?,
                from: "customer".into(),
                text: row.try_get(2)?,
                staff_name: None,
                pending: true,
                turn: None,
            });
        }
        view.commit().await?;
        said.sort_by_key(|said| said.at_ms);
        Ok(said)
    }

    /// The last handoff.
    pub async fn last_handoff(&self, conversation: &str) -> Result<Option<HandoffRow>, StoreError> {
        let row = sqlx::query(
            "SELECT id, at_ms, queue, kind, reason, summary, tags FROM handoffs
              WHERE id = (SELECT handoff_id FROM desk WHERE conversation_id = $1)",
        )
        .bind(conversation)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let tags: String = row.try_get(6)?;
            Ok(HandoffRow {
                id: row.try_get(0)?,
                at_ms: row.try_get(1)?,
                queue: row.try_get(2)?,
                kind: row.try_get(3)?,
                reason: row.try_get(4)?,
                summary: row.try_get(5)?,
                tags: serde_json::from_str(&tags).unwrap_or_else(|_| json!([])),
            })
        })
        .transpose()
    }

    /// Changes of ownership, oldest first.
    pub async fn owner_events(&self, conversation: &str) -> Result<Vec<OwnerEvent>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT o.at_ms, o.from_owner, o.to_owner, o.what, s.name AS staff_name
               FROM owner_changes o LEFT JOIN staff s ON s.id = o.staff_id
              WHERE o.conversation_id = $1 ORDER BY o.at_ms, o.id LIMIT $2",
        )
        .bind(conversation)
        .bind(MOST)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Marks an answer; `false`: there is no such turn.
    pub async fn mark(&self, turn: &str, staff: &str, wrong: bool, right: Option<&str>) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let conversation: Option<String> = sqlx::query_scalar("SELECT conversation_id FROM turns WHERE id = $1")
            .bind(turn)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(conversation) = conversation else { return Ok(false) };
        let now = now_ms();
        // A person's own words: they become knowledge, and are kept also where customers' are not.
        sqlx::query(
            "INSERT INTO marks (id, turn_id, at_ms, staff_id, wrong, right_answer) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(uuid::Uuid::now_v7().to_string())
        .bind(turn)
        .bind(now)
        .bind(staff)
        .bind(i64::from(wrong))
        .bind(right)
        .execute(&mut *tx)
        .await?;
        note(&mut tx, Some(&conversation), "marked", &json!({"turn_id": turn, "wrong": wrong, "right": right}), now)
            .await?;
        let body = json!({"turn_id": turn, "marked": wrong});
        announce(&mut tx, "message", Some(&conversation), &body, now).await?;
        tx.commit().await?;
        self.tell();
        Ok(true)
    }

    /// What a turn or another message said: of a turn the customer's words, then the answer. Empty where it is gone.
    pub async fn said(&self, conversation: &str, id: &str) -> Result<Vec<Said>, StoreError> {
        let rows = sqlx::query(
            "SELECT m.id, m.at_ms, m.sender, m.text, s.name, 2 AS place FROM messages m LEFT JOIN staff s ON s.id = m.staff_id
              WHERE m.id = $1 AND m.conversation_id = $2
             UNION ALL
             SELECT COALESCE(i.message_id, t.id || '.customer'), t.at_ms - t.total_ms, 'customer', x.customer, NULL, 0
               FROM turns t JOIN texts x ON x.turn_id = t.id LEFT JOIN inbound i ON i.turn_id = t.id
              WHERE t.id = $1 AND t.conversation_id = $2
             UNION ALL
             SELECT t.id, t.at_ms, 'bot', x.answer, NULL, 1 FROM turns t JOIN texts x ON x.turn_id = t.id
              WHERE t.id = $1 AND t.conversation_id = $2
              ORDER BY place",
        )
        .bind(id)
        .bind(conversation)
        .fetch_all(&self.pool)
        .await?;
        let said = |row: &SqliteRow| -> Result<Said, StoreError> {
            Ok(Said {
                id: row.try_get(0)?,
                at_ms: row.try_get(1)?,
                from: row.try_get(2)?,
                text: row.try_get(3)?,
                staff_name: row.try_get(4)?,
                pending: false,
                turn: None,
            })
        };
        rows.iter().map(said).collect()
    }
}

fn turn_said(row: &SqliteRow, said: &mut Vec<Said>) -> Result<(), StoreError> {
    let id: String = row.try_get(0)?;
    let (at_ms, total_ms): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    let sources: String = row.try_get(9)?;
    let (customer, answer): (String, String) = (row.try_get(11)?, row.try_get(12)?);
    let sent_id: Option<String> = row.try_get(13)?;
    // Clocks are set back at times; what was said first stands first.
    let asked_ms = said.last().map_or(i64::MIN, |before| before.at_ms).max(at_ms - total_ms);
    said.push(Said {
        id: sent_id.unwrap_or_else(|| format!("{id}.customer")),
        at_ms: asked_ms,
        from: "customer".into(),
        text: customer,
        staff_name: None,
        pending: false,
        turn: None,
    });
    let action: String = row.try_get(3)?;
    if action == "human" && answer.is_empty() {
        return Ok(());
    }
    let mark = match row.try_get::<Option<bool>, _>(14)? {
        Some(wrong) => {
            Some(Mark { wrong, right: row.try_get(15)?, by: row.try_get::<Option<String>, _>(16)?.unwrap_or_default() })
        }
        None => None,
    };
    let turn = SaidTurn {
        id: id.clone(),
        action,
        kind: row.try_get(4)?,
        reason: row.try_get(5)?,
        confidence: row.try_get(6)?,
        operator: row.try_get(7)?,
        operator_version: row.try_get(8)?,
        sources: serde_json::from_str(&sources).unwrap_or_else(|_| json!([])),
        first_token_ms: row.try_get(10)?,
        total_ms,
        mark: mark.filter(|mark| mark.wrong),
    };
    said.push(Said { id, at_ms, from: "bot".into(), text: answer, staff_name: None, pending: false, turn: Some(turn) });
    Ok(())
}
