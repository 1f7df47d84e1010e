//! Which messages the knowledge should have answered.

use sqlx::Row;

use super::{Store, StoreError};

/// A message without a good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    pub turn_id: String,
    pub conversation_id: String,
    pub since_ms: i64,
    pub reason: WhyUnanswered,
    pub question: String,
    pub lang: Option<String>,
    /// What a person wrote instead.
    pub draft: Option<String>,
}

/// What was wrong, the stronger later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhyUnanswered {
    NoAnswer,
    Handoff,
    MarkedWrong,
}

impl Store {
    /// Such messages since a moment (ms), newest first, without those that a verdict covers. None where texts are not kept.
    pub async fn open_questions(&self, since_ms: i64, limit: i64) -> Result<Vec<Unanswered>, StoreError> {
        let rows =
            sqlx::query(include_str!("suggestions.sql")).bind(since_ms).bind(limit).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                Ok(Unanswered {
                    turn_id: row.try_get(0)?,
                    conversation_id: row.try_get(1)?,
                    since_ms: row.try_get(2)?,
                    reason: match row.try_get::<i64, _>(3)? {
                        3 => WhyUnanswered::MarkedWrong,
                        2 => WhyUnanswered::Handoff,
                        _ => WhyUnanswered::NoAnswer,
                    },
                    question: row.try_get(4)?,
                    lang: row.try_get(5)?,
                    draft: row.try_get(6)?,
                })
            })
            .collect()
    }
}
