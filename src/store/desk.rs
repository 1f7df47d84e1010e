//! A conversation's present at the desk, and what changes it: each change is one transaction that appends what happened
//! and rewrites the present beside it.

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::append::now_ms;
use super::feed::{announce, note};
use super::{Store, StoreError, TurnRecord};

/// Longest beginning of the last message that lists show, in characters.
const LAST_CHARS: usize = 200;

/// A conversation as the desk sees it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Present {
    pub conversation_id: String,
    /// `bot`, `waiting`, `person`, `closed`
    pub owner: String,
    pub staff_id: Option<String>,
    pub staff_name: Option<String>,
    pub team: Option<String>,
    pub handoff_id: Option<String>,
    pub waiting_since_ms: Option<i64>,
    /// The customer was told that they are in the queue.
    pub queue_told: bool,
    pub closed_as: Option<String>,
    pub channel: Option<String>,
    pub customer_id: Option<String>,
    pub customer_name: Option<String>,
    pub language: Option<String>,
    pub operator: Option<String>,
    pub operator_version: Option<String>,
    pub mood: String,
    /// Customer messages.
    pub turns: i64,
    pub last_from: String,
    pub last_text: String,
    pub started_ms: i64,
    pub updated_ms: i64,
}

/// The columns of [`Present`], of `desk d LEFT JOIN staff s`.
pub(super) const PRESENT: &str = "d.conversation_id, d.owner, d.staff_id, s.name AS staff_name, d.team, d.handoff_id,
    d.waiting_since_ms, d.queue_told, d.closed_as, d.channel, d.customer_id, d.customer_name, d.language, d.operator,
    d.operator_version, d.mood, d.turns, d.last_from, d.last_text, d.started_ms, d.updated_ms";

/// A handoff that a turn makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewHandoff {
    pub id: String,
    pub queue: String,
    pub kind: String,
    pub reason: String,
    pub summary: String,
    pub tags: Vec<String>,
}

/// What is written beside a turn, in its transaction.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    pub handoff: Option<NewHandoff>,
    /// The accepted message that this turn answers: (origin, message id). Answered once, else nothing is written.
    pub inbound: Option<(String, String)>,
    pub customer_id: Option<String>,
    pub customer_name: Option<String>,
}

/// Words that are no turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// The sender's own UUID: a message that is there already is not written again. `None`: a fresh one.
    pub id: Option<String>,
    /// `person`, `system` or `note`
    pub sender: &'static str,
    pub staff_id: Option<String>,
    pub text: String,
}

/// What an act makes of the present.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    pub owner: String,
    pub staff_id: Option<String>,
    pub closed_as: Option<String>,
    /// Who acts; `None`: the customer or the program.
    pub by: Option<String>,
    /// `taken`, `given_back`, `closed`, ...
    pub what: &'static str,
    pub messages: Vec<NewMessage>,
    /// The customer's own word on whether it is solved.
    pub solved: Option<bool>,
}

impl Store {
    /// The present of a conversation.
    pub async fn present(&self, conversation: &str) -> Result<Option<Present>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(present(&mut connection, conversation).await?)
    }

    /// Lets `decide` look at the present and carries out what it says, in one transaction. `None`: no such
    /// conversation. The ids of the messages come with the new present.
    pub async fn act<E>(
        &self,
        conversation: &str,
        decide: impl FnOnce(&Present) -> Result<Step, E> + Send,
    ) -> Result<Option<Result<(Present, Vec<String>), E>>, StoreError> {
        let mut tx = self.write().await?;
        let Some(before) = present(&mut tx, conversation).await? else { return Ok(None) };
        let step = match decide(&before) {
            Ok(step) => step,
            Err(refusal) => return Ok(Some(Err(refusal))),
        };
        let now = now_ms();
        let messages = self.carry_out(&mut tx, &before, &step, now).await?;
        let after = present(&mut tx, conversation).await?;
        tx.commit().await?;
        self.tell();
        Ok(after.map(|after| Ok((after, messages))))
    }

    async fn carry_out(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        before: &Present,
        step: &Step,
        now: i64,
    ) -> Result<Vec<String>, StoreError> {
        let id = before.conversation_id.as_str();
        if step.owner != before.owner || step.staff_id != before.staff_id {
            sqlx::query(
                "UPDATE desk SET owner = $2, staff_id = $3, closed_as = $4, waiting_since_ms = NULL, queue_told = 0,
                                 updated_ms = $5 WHERE conversation_id = $1",
            )
            .bind(id)
            .bind(&step.owner)
            .bind(&step.staff_id)
            .bind(&step.closed_as)
            .bind(now)
            .execute(&mut **tx)
            .await?;
            let change = OwnerChange {
                conversation: id,
                from: &before.owner,
                to: &step.owner,
                by: step.by.as_deref(),
                what: step.what,
            };
            change.write(tx, now).await?;
            if let Some(closed_as) = &step.closed_as {
                note(tx, Some(id), "closed", &json!({"as": closed_as}), now).await?;
            }
            if !matches!(step.owner.as_str(), "waiting" | "person") {
                self.seal(tx, id).await?;
            }
        }
        let mut ids = Vec::new();
        for message in &step.messages {
            ids.push(self.say(tx, id, message, now).await?);
        }
        if let Some(solved) = step.solved {
            note(tx, Some(id), "solved", &json!({"solved": solved}), now).await?;
            announce(tx, "owner", Some(id), &json!({"owner": step.owner, "solved": solved}), now).await?;
        }
        Ok(ids)
    }

    /// Writes words that are no turn.
    async fn say(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        conversation: &str,
        message: &NewMessage,
        now: i64,
    ) -> Result<String, StoreError> {
        let id = message.id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let written = sqlx::query(
            "INSERT INTO messages (id, conversation_id, at_ms, sender, staff_id, text) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(&id)
        .bind(conversation)
        .bind(now)
        .bind(message.sender)
        .bind(&message.staff_id)
        .bind(&message.text)
        .execute(&mut **tx)
        .await?;
        if written.rows_affected() == 0 {
            return Ok(id);
        }
        let shown = message.sender != "note";
        if shown {
            sqlx::query("UPDATE desk SET updated_ms = $2, last_from = $3, last_text = $4 WHERE conversation_id = $1")
                .bind(conversation)
                .bind(now)
                .bind(message.sender)
                .bind(beginning(&message.text))
                .execute(&mut **tx)
                .await?;
        }
        if self.keep_text {
            search_for(tx, conversation, &message.text).await?;
        }
        if message.sender == "person" {
            note(tx, Some(conversation), "person_reply", &json!({}), now).await?;
        }
        let body = json!({"from": message.sender, "message_id": id});
        announce(tx, "message", Some(conversation), &body, now).await?;
        Ok(id)
    }

    /// While people need a customer's words these are kept as written; afterwards as the settings say.
    async fn seal(&self, tx: &mut Transaction<'static, Sqlite>, conversation: &str) -> Result<(), StoreError> {
        if self.keep_text && !self.mask_personal {
            return Ok(());
        }
        if !self.keep_text {
            for statement in [
                "DELETE FROM texts WHERE turn_id IN (SELECT id FROM turns WHERE conversation_id = $1)",
                "UPDATE messages SET text = '' WHERE conversation_id = $1",
                "UPDATE handoffs SET summary = '', reason = '' WHERE conversation_id = $1",
                "UPDATE desk SET last_text = '' WHERE conversation_id = $1",
            ] {
                sqlx::query(statement).bind(conversation).execute(&mut **tx).await?;
            }
            return Ok(());
        }
        let open: Vec<(String, String)> = sqlx::query_as(
            "SELECT x.turn_id, x.customer FROM texts x JOIN turns t ON t.id = x.turn_id
              WHERE t.conversation_id = $1 AND t.action = 'human'",
        )
        .bind(conversation)
        .fetch_all(&mut **tx)
        .await?;
        for (turn, text) in open {
            let masked = self.kept(&text);
            if masked != text {
                sqlx::query("UPDATE texts SET customer = $2 WHERE turn_id = $1")
                    .bind(turn)
                    .bind(masked)
                    .execute(&mut **tx)
                    .await?;
            }
        }
        Ok(())
    }

    /// Where texts are not kept: forgets the words of conversations with the bot in which nothing happened since then
    /// (the widget and channels need them until the answer is fetched). How many conversations.
    pub async fn forget_words(&self, before_ms: i64) -> Result<usize, StoreError> {
        if self.keep_text {
            return Ok(0);
        }
        let mut tx = self.write().await?;
        let idle: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT d.conversation_id FROM desk d JOIN turns t ON t.conversation_id = d.conversation_id
               JOIN texts x ON x.turn_id = t.id WHERE d.owner IN ('bot', 'closed') AND d.updated_ms < $1",
        )
        .bind(before_ms)
        .fetch_all(&mut *tx)
        .await?;
        for conversation in &idle {
            self.seal(&mut tx, conversation).await?;
        }
        tx.commit().await?;
        Ok(idle.len())
    }

    /// The desk's side of a turn that was just appended as `turn_id`; `silent`: a customer's words to a person.
    pub(super) async fn desk_of_turn(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        turn: &TurnRecord,
        before: Option<&Present>,
    ) -> Result<(), StoreError> {
        let (conversation, id) = (&turn.conversation, turn.conversation.id.as_str());
        let now = conversation.updated_ms;
        let owner = before.map_or("bot", |present| present.owner.as_str());
        let predecessor = self.supersede(tx, turn).await?;
        let handoff = turn.beside.handoff.as_ref().filter(|_| matches!(owner, "bot" | "closed"));
        let next = match (handoff, owner, &predecessor) {
            (Some(_), ..) => "waiting",
            (None, "closed", _) => "bot",
            (None, "bot", Some(earlier)) if earlier.owner == "waiting" => "waiting",
            _ => owner,
        };
        let angry = turn.kind.as_deref() == Some("anger");
        let keeps = self.keep_text || matches!(next, "waiting" | "person");
        let answered = !turn.answer_text.trim().is_empty();
        let last = if answered { &turn.answer_text } else { &turn.customer_text };
        let moved = handoff.is_some() || (next == "waiting" && owner == "bot");
        let queue = handoff.map(|h| h.queue.clone()).or_else(|| predecessor.as_ref().and_then(|p| p.team.clone()));
        let handoff_id =
            handoff.map(|h| h.id.clone()).or_else(|| predecessor.as_ref().and_then(|p| p.handoff_id.clone()));
        let earlier_turns = predecessor.as_ref().map_or(0, |p| p.turns);
        sqlx::query(
            "INSERT INTO desk (conversation_id, owner, team, handoff_id, waiting_since_ms, queue_told, channel,
                               customer_id, customer_name, language, operator, operator_version, mood, turns, last_from,
                               last_text, superseded, started_ms, updated_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, 0, $17, $18)
             ON CONFLICT (conversation_id) DO UPDATE SET
                owner = excluded.owner, queue_told = CASE WHEN $19 THEN 0 ELSE desk.queue_told OR excluded.queue_told END,
                team = CASE WHEN $19 THEN excluded.team ELSE desk.team END,
                handoff_id = CASE WHEN $19 THEN excluded.handoff_id ELSE desk.handoff_id END,
                waiting_since_ms = CASE WHEN $19 THEN excluded.waiting_since_ms ELSE desk.waiting_since_ms END,
                closed_as = CASE WHEN excluded.owner = 'closed' THEN desk.closed_as END,
                customer_id = COALESCE(excluded.customer_id, desk.customer_id),
                customer_name = COALESCE(excluded.customer_name, desk.customer_name),
                language = COALESCE(excluded.language, desk.language),
                operator = COALESCE(excluded.operator, desk.operator),
                operator_version = COALESCE(excluded.operator_version, desk.operator_version),
                mood = CASE WHEN excluded.mood = 'angry' THEN 'angry' ELSE desk.mood END,
                turns = desk.turns + 1, last_from = excluded.last_from, last_text = excluded.last_text,
                updated_ms = excluded.updated_ms",
        )
        .bind(id)
        .bind(next)
        .bind(queue)
        .bind(&handoff_id)
        .bind(moved.then(|| predecessor.as_ref().and_then(|p| p.waiting_since_ms).unwrap_or(now)))
        .bind(turn.action == "human" && next == "waiting" && answered)
        .bind(&conversation.channel)
        .bind(&turn.beside.customer_id)
        .bind(&turn.beside.customer_name)
        .bind(conversation.state["lang"].as_str())
        .bind(&conversation.operator)
        .bind(&conversation.operator_version)
        .bind(if angry { "angry" } else { "calm" })
        .bind(earlier_turns + 1)
        .bind(if answered { "bot" } else { "customer" })
        .bind(if keeps { beginning(&self.kept(last)) } else { String::new() })
        .bind(conversation.started_ms)
        .bind(now)
        .bind(moved)
        .execute(&mut **tx)
        .await?;
        if let Some(handoff) = handoff {
            self.write_handoff(tx, turn, handoff, now).await?;
        }
        if next != owner {
            let what = if next == "waiting" { "handed_off" } else { "reopened" };
            OwnerChange { conversation: id, from: owner, to: next, by: None, what }.write(tx, now).await?;
        }
        if self.keep_text {
            let words = format!("{}\n{}", self.kept(&turn.customer_text), self.kept(&turn.answer_text));
            search_for(tx, id, &words).await?;
        }
        let body =
            json!({"from": if answered { "bot" } else { "customer" }, "turn_id": turn.id, "action": turn.action});
        announce(tx, "message", Some(id), &body, now).await?;
        Ok(())
    }

    async fn write_handoff(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        turn: &TurnRecord,
        handoff: &NewHandoff,
        now: i64,
    ) -> Result<(), StoreError> {
        let id = turn.conversation.id.as_str();
        sqlx::query(
            "INSERT INTO handoffs (id, conversation_id, turn_id, at_ms, queue, kind, reason, summary, tags)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(&handoff.id)
        .bind(id)
        .bind(&turn.id)
        .bind(now)
        .bind(&handoff.queue)
        .bind(&handoff.kind)
        .bind(self.kept(&handoff.reason))
        .bind(self.kept(&handoff.summary))
        .bind(json!(handoff.tags).to_string())
        .execute(&mut **tx)
        .await?;
        // Without the summary, which may quote the customer.
        let body = json!({"id": handoff.id, "queue": handoff.queue, "tags": handoff.tags});
        note(tx, Some(id), "handoff", &body, now).await?;
        announce(tx, "queue", Some(id), &body, now).await?;
        Ok(())
    }

    /// A plain client's record that continues another one stands for it from now on. The record that it continued, if
    /// that one was still shown.
    async fn supersede(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        turn: &TurnRecord,
    ) -> Result<Option<Present>, StoreError> {
        let Some(previous) = &turn.continues else { return Ok(None) };
        let earlier: Option<String> = sqlx::query_scalar(
            "SELECT d.conversation_id FROM desk d JOIN turns t ON t.conversation_id = d.conversation_id
              WHERE t.id = $1 AND d.superseded = 0 AND d.conversation_id <> $2 AND d.owner <> 'person'",
        )
        .bind(previous)
        .bind(&turn.conversation.id)
        .fetch_optional(&mut **tx)
        .await?;
        let Some(earlier) = earlier else { return Ok(None) };
        let present = present(tx, &earlier).await?;
        sqlx::query("UPDATE desk SET superseded = 1 WHERE conversation_id = $1")
            .bind(&earlier)
            .execute(&mut **tx)
            .await?;
        Ok(present)
    }
}

/// A row of `owner_changes`, with its event and its place in the feed.
struct OwnerChange<'a> {
    conversation: &'a str,
    from: &'a str,
    to: &'a str,
    by: Option<&'a str>,
    what: &'a str,
}

impl OwnerChange<'_> {
    async fn write(&self, tx: &mut Transaction<'static, Sqlite>, now: i64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO owner_changes (id, conversation_id, at_ms, from_owner, to_owner, staff_id, what)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(uuid::Uuid::now_v7().to_string())
        .bind(self.conversation)
        .bind(now)
        .bind(self.from)
        .bind(self.to)
        .bind(self.by)
        .bind(self.what)
        .execute(&mut **tx)
        .await?;
        let body: Value = json!({"from": self.from, "to": self.to});
        note(tx, Some(self.conversation), "owner", &body, now).await?;
        let body = json!({"owner": self.to, "from": self.from, "what": self.what});
        announce(tx, "owner", Some(self.conversation), &body, now).await?;
        Ok(())
    }
}

pub(super) async fn present(connection: &mut SqliteConnection, id: &str) -> Result<Option<Present>, sqlx::Error> {
    let sql =
        format!("SELECT {PRESENT} FROM desk d LEFT JOIN staff s ON s.id = d.staff_id WHERE d.conversation_id = $1");
    sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id).fetch_optional(connection).await
}

async fn search_for(tx: &mut Transaction<'static, Sqlite>, conversation: &str, text: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO desk_search (conversation_id, text) VALUES ($1, $2)")
        .bind(conversation)
        .bind(text)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn beginning(text: &str) -> String {
    text.chars().take(LAST_CHARS).collect()
}
