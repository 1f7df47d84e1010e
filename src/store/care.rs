//! Care of the data, on the running database: a copy of it, what is deleted by age, and all that is known of somebody.
//! SQLite's own in part; PostgreSQL has its own tools for the first.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use sqlx::{AssertSqlSafe, Row, Sqlite, Transaction};

use super::append::now_ms;
use super::{Store, StoreError};
use crate::config::RetentionSettings;

const DAY_MS: i64 = 86_400_000;
/// Conversations that are deleted in one transaction, so that customers never wait long for the lock.
const BATCH: i64 = 200;
/// How often the log is tried to be emptied while others read.
const CHECKPOINTS: usize = 50;

/// Conversations `c` in which nobody has said anything since $1.
const SILENT_SINCE: &str = "c.started_ms < $1
    AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.conversation_id = c.id AND t.at_ms >= $1)
    AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.conversation_id = c.id AND m.at_ms >= $1)";

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Deleted {
    pub conversations: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Whether nothing of it is left in the database's log file. False while somebody reads for long; the next
    /// checkpoint clears it.
    pub log_is_clean: bool,
}

impl Store {
    /// Copies the whole database, as it is at this moment, to a file that is not there yet. Others go on reading and
    /// writing.
    ///
    /// # Errors
    /// The file is there already, or cannot be written.
    pub async fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let to = to.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO $1").bind(to).execute(&self.pool).await?;
        Ok(())
    }

    /// Conversations and turns that are recorded.
    pub async fn counts(&self) -> Result<(i64, i64), StoreError> {
        let row = sqlx::query("SELECT (SELECT COUNT(*) FROM conversations), (SELECT COUNT(*) FROM turns)")
            .fetch_one(&self.pool)
            .await?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// The same after a look at the whole file.
    ///
    /// # Errors
    /// The file is damaged.
    pub async fn checked_counts(&self) -> Result<(i64, i64), StoreError> {
        let found: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&self.pool).await?;
        if found != "ok" {
            return Err(StoreError::Damaged(found));
        }
        self.counts().await
    }

    /// Deletes all that is recorded of a customer or of a conversation, overwritten with zeros, from the log file too.
    pub async fn forget(&self, customer_or_conversation: &str) -> Result<Deleted, StoreError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM conversations
              WHERE group_id IN (SELECT group_id FROM conversations WHERE id = $1 OR group_id = $1
                                 UNION
                                 SELECT c.group_id FROM conversations c JOIN desk d ON d.conversation_id = c.id
                                  WHERE d.customer_id = $1)",
        )
        .bind(customer_or_conversation)
        .fetch_all(&self.pool)
        .await?;
        let mut deleted = Deleted { conversations: ids.len() as u64, ..Deleted::default() };
        if !ids.is_empty() {
            deleted.rows = self.delete(&ids, true).await?;
        }
        // Also where nothing was found: an earlier run may have been interrupted before this.
        deleted.log_is_clean = self.empty_log().await?;
        Ok(deleted)
    }

    /// Deletes what is older than the settings allow. Figures stay.
    pub async fn retain(&self, settings: &RetentionSettings) -> Result<Deleted, StoreError> {
        let mut deleted = Deleted::default();
        let before = |days: u32| now_ms() - i64::from(days) * DAY_MS;
        if settings.conversation_days > 0 {
            loop {
                let sql =
                    format!("SELECT c.id FROM conversations c WHERE {SILENT_SINCE} ORDER BY c.started_ms LIMIT $2");
                let ids: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
                    .bind(before(settings.conversation_days))
                    .bind(BATCH)
                    .fetch_all(&self.pool)
                    .await?;
                if ids.is_empty() {
                    break;
                }
                // Before their turns go.
                self.refresh_figures().await?;
                deleted.rows += self.delete(&ids, false).await?;
                deleted.conversations += ids.len() as u64;
            }
        }
        if settings.text_days > 0 {
            deleted.rows += self.delete_words(before(settings.text_days)).await?;
        }
        if deleted.rows > 0 {
            deleted.log_is_clean = self.empty_log().await?;
        }
        Ok(deleted)
    }

    /// Deletes conversations from every table that names them, in one transaction.
    async fn delete(&self, ids: &[String], figures_too: bool) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("PRAGMA defer_foreign_keys = ON").execute(&mut *tx).await?;
        sqlx::query("CREATE TEMP TABLE IF NOT EXISTS leaving (id TEXT NOT NULL PRIMARY KEY)").execute(&mut *tx).await?;
        sqlx::query("DELETE FROM temp.leaving").execute(&mut *tx).await?;
        for id in ids {
            sqlx::query("INSERT INTO temp.leaving (id) VALUES ($1) ON CONFLICT DO NOTHING")
                .bind(id)
                .execute(&mut *tx)
                .await?;
        }
        let mut rows = 0;
        if figures_too {
            for table in ["conversation_figures", "filtered_figures", "figures_stale"] {
                let sql = format!(
                    "DELETE FROM {table} WHERE group_id IN
                     (SELECT group_id FROM conversations WHERE id IN (SELECT id FROM temp.leaving))"
                );
                rows += sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?.rows_affected();
            }
        }
        // A record of another client may continue a turn of these.
        sqlx::query(
            "UPDATE turns SET previous_id = NULL
              WHERE conversation_id NOT IN (SELECT id FROM temp.leaving) AND previous_id IN
                    (SELECT id FROM turns WHERE conversation_id IN (SELECT id FROM temp.leaving))",
        )
        .execute(&mut *tx)
        .await?;
        let tables = tables_that_name(&mut tx).await?;
        let of_turns = tables.iter().filter(|(_, column)| column == "turn_id");
        let of_conversations = tables.iter().filter(|(table, column)| column == "conversation_id" && table != "turns");
        for (table, column) in of_turns.chain(of_conversations) {
            let ids = match column.as_str() {
                "turn_id" => "SELECT id FROM turns WHERE conversation_id IN (SELECT id FROM temp.leaving)",
                _ => "SELECT id FROM temp.leaving",
            };
            let sql = format!("DELETE FROM \"{table}\" WHERE {column} IN ({ids})");
            rows += sqlx::query(AssertSqlSafe(sql)).execute(&mut *tx).await?.rows_affected();
        }
        for sql in [
            "DELETE FROM turns WHERE conversation_id IN (SELECT id FROM temp.leaving)",
            "DELETE FROM conversations WHERE id IN (SELECT id FROM temp.leaving)",
            // A full-text index keeps deleted words until its parts are merged.
            "INSERT INTO desk_search (desk_search) VALUES ('optimize')",
            "DELETE FROM temp.leaving",
        ] {
            rows += sqlx::query(sql).execute(&mut *tx).await?.rows_affected();
        }
        tx.commit().await?;
        Ok(rows)
    }

    /// Deletes the words of conversations that ended before a moment; outcomes and figures stay.
    async fn delete_words(&self, before_ms: i64) -> Result<u64, StoreError> {
        let old = format!("(SELECT c.id FROM conversations c WHERE {SILENT_SINCE})");
        let old_turns = format!("(SELECT id FROM turns WHERE conversation_id IN {old})");
        let statements = [
            format!("DELETE FROM texts WHERE turn_id IN {old_turns}"),
            format!("UPDATE turns SET reason = NULL WHERE reason IS NOT NULL AND conversation_id IN {old}"),
            format!("UPDATE marks SET right_answer = NULL WHERE right_answer IS NOT NULL AND turn_id IN {old_turns}"),
            format!("UPDATE messages SET text = '' WHERE text <> '' AND conversation_id IN {old}"),
            format!("UPDATE inbound SET text = '', context = '{{}}' WHERE text <> '' AND conversation_id IN {old}"),
            format!("UPDATE handoffs SET summary = '', reason = '' WHERE summary <> '' AND conversation_id IN {old}"),
            format!(
                "UPDATE deliveries SET payload = '' WHERE payload <> '' AND state <> 'waiting' AND conversation_id IN {old}"
            ),
            format!("DELETE FROM desk_search WHERE conversation_id IN {old}"),
            format!(
                "UPDATE desk SET last_text = '', customer_name = NULL
                  WHERE (last_text <> '' OR customer_name IS NOT NULL) AND conversation_id IN {old}"
            ),
        ];
        let mut tx = self.write().await?;
        let mut rows = 0;
        for sql in statements {
            rows += sqlx::query(AssertSqlSafe(sql)).bind(before_ms).execute(&mut *tx).await?.rows_affected();
        }
        if rows > 0 {
            sqlx::query("INSERT INTO desk_search (desk_search) VALUES ('optimize')").execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(rows)
    }

    /// Moves the write-ahead log into the database and empties it; false where readers did not let it.
    async fn empty_log(&self) -> Result<bool, StoreError> {
        for _ in 0..CHECKPOINTS {
            let busy: i64 = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.pool).await?.try_get(0)?;
            if busy == 0 {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(false)
    }
}

/// Every table with a column that names a conversation or a turn: also those that are added later.
async fn tables_that_name(tx: &mut Transaction<'static, Sqlite>) -> Result<Vec<(String, String)>, StoreError> {
    let rows = sqlx::query(
        "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
          WHERE m.type = 'table' AND c.name IN ('conversation_id', 'turn_id')
            AND NOT (c.name = 'turn_id' AND EXISTS
                     (SELECT 1 FROM pragma_table_info(m.name) WHERE name = 'conversation_id'))",
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
