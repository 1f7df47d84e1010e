//! Lists of conversations, as staff look for them.

use serde::Serialize;
use sqlx::QueryBuilder;

use super::desk::{PRESENT, Present};
use super::{Store, StoreError};

/// Most words of a search.
const MOST_WORDS: usize = 8;

/// Which conversations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum View {
    /// Not closed, and something happened of late.
    #[default]
    Live,
    Waiting,
    Mine,
    Closed,
    All,
}

/// A question to the board.
#[derive(Debug, Clone, Default)]
pub struct BoardQuery {
    pub view: View,
    /// Whose `Mine`.
    pub staff_id: String,
    /// Teams that may be seen; empty: every one.
    pub teams: Vec<String>,
    /// Only this team.
    pub team: Option<String>,
    /// Words that all occur in one message.
    pub words: String,
    /// `Live`: since then.
    pub since_ms: i64,
    /// Time and id of the last item seen.
    pub after: Option<(i64, String)>,
    pub limit: i64,
}

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BoardCounts {
    pub waiting: i64,
    pub mine: i64,
}

/// A conversation in a list.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct BoardItem {
    #[sqlx(flatten)]
    pub present: Present,
    /// Of the last handoff, JSON.
    pub tags: Option<String>,
    pub handoff_reason: Option<String>,
    /// Its kind: `wants_person`, `anger`, ...
    pub handoff_kind: Option<String>,
}

impl BoardItem {
    /// Its place in the list: waiting conversations by how long they wait, others by the last word.
    pub fn place(&self, view: View) -> (i64, String) {
        let at = match view {
            View::Waiting => self.present.waiting_since_ms.unwrap_or(0),
            _ => self.present.updated_ms,
        };
        (at, self.present.conversation_id.clone())
    }
}

impl Store {
    /// A page of conversations: the longest waiting first in `Waiting`, else the latest first.
    pub async fn board(&self, query: &BoardQuery) -> Result<Vec<BoardItem>, StoreError> {
        let mut sql = QueryBuilder::new("SELECT ");
        sql.push(PRESENT).push(
            ", h.tags AS tags, h.reason AS handoff_reason, h.kind AS handoff_kind FROM desk d LEFT JOIN staff s ON s.id = d.staff_id
               LEFT JOIN handoffs h ON h.id = d.handoff_id WHERE d.superseded = 0",
        );
        match query.view {
            View::Live => sql.push(" AND d.owner <> 'closed' AND d.updated_ms > ").push_bind(query.since_ms),
            View::Waiting => sql.push(" AND d.owner = 'waiting'"),
            View::Mine => sql.push(" AND d.owner = 'person' AND d.staff_id = ").push_bind(query.staff_id.clone()),
            View::Closed => sql.push(" AND d.owner = 'closed'"),
            View::All => &mut sql,
        };
        if let Some(team) = &query.team {
            sql.push(" AND d.team = ").push_bind(team.clone());
        }
        if !query.teams.is_empty() {
            sql.push(" AND (d.team IS NULL OR d.team IN (");
            let mut listed = sql.separated(", ");
            for team in &query.teams {
                listed.push_bind(team.clone());
            }
            sql.push("))");
        }
        if let Some(words) = search_words(&query.words) {
            sql.push(" AND (d.conversation_id IN (SELECT conversation_id FROM desk_search WHERE desk_search MATCH ");
            sql.push_bind(words);
            sql.push(") OR d.conversation_id = ").push_bind(query.words.trim().to_string());
            sql.push(" OR d.customer_id = ").push_bind(query.words.trim().to_string()).push(")");
        }
        let (column, than, order) = match query.view {
            View::Waiting => ("d.waiting_since_ms", ">", "ASC"),
            _ => ("d.updated_ms", "<", "DESC"),
        };
        if let Some((at, id)) = &query.after {
            sql.push(format!(" AND ({column}, d.conversation_id) {than} ("));
            sql.push_bind(*at).push(", ").push_bind(id.clone()).push(")");
        }
        sql.push(format!(" ORDER BY {column} {order}, d.conversation_id {order} LIMIT ")).push_bind(query.limit);
        Ok(sql.build_query_as().fetch_all(&self.pool).await?)
    }

    /// What waits for anybody of these teams (empty: every one), and what this person has.
    pub async fn board_counts(&self, staff: &str, teams: &[String]) -> Result<BoardCounts, StoreError> {
        let rows: Vec<(Option<String>, i64)> =
            sqlx::query_as("SELECT team, COUNT(*) FROM desk WHERE owner = 'waiting' AND superseded = 0 GROUP BY team")
                .fetch_all(&self.pool)
                .await?;
        let seen = |team: &Option<String>| teams.is_empty() || team.as_ref().is_none_or(|team| teams.contains(team));
        let waiting = rows.iter().filter(|(team, _)| seen(team)).map(|(_, count)| count).sum();
        let mine =
            sqlx::query_scalar("SELECT COUNT(*) FROM desk WHERE owner = 'person' AND superseded = 0 AND staff_id = $1")
                .bind(staff)
                .fetch_one(&self.pool)
                .await?;
        Ok(BoardCounts { waiting, mine })
    }
}

/// A query for the full-text index: every word, the last one perhaps begun. Nothing in it is an operator.
fn search_words(text: &str) -> Option<String> {
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(MOST_WORDS)
        .map(|word| format!("\"{word}\"*"))
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_holds_no_operators() {
        assert_eq!(search_words("счёт OR \"x\" NEAR(").unwrap(), "\"счёт\"* \"OR\"* \"x\"* \"NEAR\"*");
        assert_eq!(search_words(" *-\" "), None);
    }
}
