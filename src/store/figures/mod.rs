//! The figures, in SQL: what they mean stands in `docs/figures.md`, how they are computed in the `.sql` files here.
//!
//! `refresh.sql` derives one row a conversation from its turns and events (again, whenever one was added; triggers of
//! migration 0003 say which). `picked.sql` chooses the rows and gives each its outcome, as of now; `counts`,
//! `reasons` and `filtered` read them. Medians, intervals and costs are added here.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::append::now_ms;
use super::{Store, StoreError};
use crate::config::FiguresSettings;
use crate::stats::{Mean, Share};

const REFRESH: &str = include_str!("refresh.sql");
const COUNTS: &str = concat!(include_str!("picked.sql"), include_str!("counts.sql"));
const REASONS: &str = concat!(include_str!("picked.sql"), include_str!("reasons.sql"));
const FILTERED: &str = concat!(include_str!("picked.sql"), include_str!("filtered.sql"));

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: f64 = 3_600_000.0;

/// What the rows stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    #[default]
    Day,
    Operator,
    Version,
    Channel,
    /// One row of all.
    All,
}

impl By {
    /// All, with their words.
    pub const WORDS: [(By, &str); 5] = [
        (By::Day, "day"),
        (By::Operator, "operator"),
        (By::Version, "version"),
        (By::Channel, "channel"),
        (By::All, "all"),
    ];

    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, name)| *name == word).map(|(by, _)| *by)
    }

    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(by, _)| *by == self).map_or("all", |(_, name)| name)
    }
}

/// Which conversations, by their first message; times in ms since 1970.
#[derive(Debug, Clone, Default)]
pub struct FiguresQuery {
    pub from_ms: Option<i64>,
    /// The first moment that no longer counts.
    pub to_ms: Option<i64>,
    pub operator: Option<String>,
    pub version: Option<String>,
    pub channel: Option<String>,
    pub by: By,
}

/// A share with Wilson's 95 % interval; `value` is `None` where there is nothing to share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rate {
    pub value: Option<f64>,
    pub low: f64,
    pub high: f64,
    pub part: i64,
    pub all: i64,
}

impl Rate {
    fn of(part: i64, all: i64) -> Self {
        let size = |n: i64| usize::try_from(n).unwrap_or_default();
        let share = Share { part: size(part), all: size(all) };
        let (low, high) = share.interval();
        Self { value: (all > 0).then(|| share.value()), low, high, part, all }
    }
}

/// Customer messages up to the resolution, of resolved conversations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Turns {
    pub mean: Option<f64>,
    /// The mean's normal 95 % interval.
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub median: Option<i64>,
}

/// Median and 95th percentile (nearest rank), in ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    pub median: Option<i64>,
    pub p95: Option<i64>,
}

/// The figures of some conversations.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FiguresRow {
    /// A day (`2026-11-21`), an operator, `operator/version`, a channel; empty: all.
    pub key: String,
    pub conversations: i64,
    /// With a real request.
    pub real: i64,
    pub resolved_confirmed: i64,
    pub resolved_assumed: i64,
    /// Ended without help.
    pub unresolved: i64,
    /// No outcome yet; outside the rates.
    pub open: i64,
    /// A person was asked for, or came.
    pub person: i64,
    pub resolution_rate: Rate,
    pub confirmed_rate: Rate,
    pub handoff_rate: Rate,
    /// Conversations.
    pub handoffs_by_reason: BTreeMap<String, i64>,
    pub turns: Turns,
    pub first_token_ms: Times,
    pub full_answer_ms: Times,
    pub person_first_reply_ms: Times,
    /// Messages.
    pub filtered_by_kind: BTreeMap<String, i64>,
    /// Conversations that held nothing else: `filtered`, `wrong_company`, `off_topic`, `courtesy`.
    pub outside: BTreeMap<String, i64>,
    /// The machine's price over the conversations; `None` where no price is set.
    pub cost_per_conversation: Option<f64>,
    pub person_cost: Option<f64>,
    pub currency: String,
    #[serde(skip)]
    busy_ms: i64,
    #[serde(skip)]
    first_ms: i64,
}

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    pub total: FiguresRow,
    pub rows: Vec<FiguresRow>,
}

impl Store {
    /// The figures as of now.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn figures(&self, query: &FiguresQuery, settings: &FiguresSettings) -> Result<Figures, StoreError> {
        self.figures_at(query, settings, now_ms()).await
    }

    /// The figures as they are at a moment.
    async fn figures_at(
        &self,
        query: &FiguresQuery,
        settings: &FiguresSettings,
        now_ms: i64,
    ) -> Result<Figures, StoreError> {
        self.refresh_figures().await?;
        let counted = self.counted(query, settings, now_ms).await?;
        let mut all = Counted { first_ms: now_ms, ..Counted::default() };
        counted.values().for_each(|row| all.add(row));
        let mut total = all.row(String::new());
        let key = |key: String| if query.by == By::Day { day_name(&key) } else { key };
        let mut rows: Vec<FiguresRow> = match query.by {
            By::All => Vec::new(),
            _ => counted.into_iter().map(|(name, row)| row.row(key(name))).collect(),
        };
        price(&mut total, &mut rows, query, settings, now_ms);
        Ok(Figures { total, rows })
    }

    /// Derives the figures of conversations to which something was added. Cheap where there are none.
    pub(super) async fn refresh_figures(&self) -> Result<(), StoreError> {
        let stale: Option<i64> =
            sqlx::query_scalar("SELECT 1 FROM figures_stale LIMIT 1").fetch_optional(&self.pool).await?;
        if stale.is_none() {
            return Ok(());
        }
        let mut tx = self.write().await?;
        for sql in [
            "DELETE FROM conversation_figures WHERE group_id IN (SELECT group_id FROM figures_stale)",
            "DELETE FROM filtered_figures WHERE group_id IN (SELECT group_id FROM figures_stale)",
            REFRESH,
            "INSERT INTO filtered_figures (group_id, kind, messages)
             SELECT c.group_id, COALESCE(t.kind, 'other'), COUNT(*)
               FROM figures_stale s
               JOIN conversations c ON c.group_id = s.group_id
               JOIN turns t ON t.conversation_id = c.id AND t.action = 'filtered'
              GROUP BY c.group_id, t.kind",
            "DELETE FROM figures_stale",
        ] {
            sqlx::query(sql).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    async fn counted(
        &self,
        query: &FiguresQuery,
        settings: &FiguresSettings,
        now_ms: i64,
    ) -> Result<BTreeMap<String, Counted>, StoreError> {
        let ask = async |sql: &'static str| {
            sqlx::query(sql)
                .bind(query.from_ms.unwrap_or(i64::MIN))
                .bind(query.to_ms.unwrap_or(i64::MAX))
                .bind(&query.operator)
                .bind(&query.version)
                .bind(&query.channel)
                .bind(query.by.word())
                .bind(now_ms)
                .bind(offset_ms(settings))
                .fetch_all(&self.pool)
                .await
        };
        let (counts, reasons, filtered) = tokio::try_join!(ask(COUNTS), ask(REASONS), ask(FILTERED))?;
        let mut rows: BTreeMap<String, Counted> = BTreeMap::new();
        for found in counts {
            rows.insert(found.try_get("row_key")?, Counted::of(&found)?);
        }
        for found in reasons {
            if let Some(row) = rows.get_mut(found.try_get::<&str, _>("row_key")?) {
                row.reasons.insert(found.try_get("reason")?, found.try_get("conversations")?);
            }
        }
        for found in filtered {
            if let Some(row) = rows.get_mut(found.try_get::<&str, _>("row_key")?) {
                row.filtered.insert(found.try_get("kind")?, found.try_get("messages")?);
            }
        }
        Ok(rows)
    }
}

/// Columns of `counts.sql` that add up.
const SUMS: [&str; 12] = [
    "conversations",
    "real",
    "confirmed",
    "assumed",
    "unresolved",
    "still_open",
    "person",
    "filtered",
    "wrong_company",
    "off_topic",
    "courtesy",
    "busy_ms",
];

/// Columns that list a value of each conversation (as rows of their own they would take most of the time).
const MEASURED: [&str; 4] = ["turns", "first_token", "full_answer", "person_reply"];

/// A row as the SQL gives it; rows add up to their total.
#[derive(Debug, Clone, Default)]
struct Counted {
    sums: [i64; SUMS.len()],
    /// Turns, first token, full answer, a person's first reply: one value a conversation that has it.
    measured: [Vec<i64>; 4],
    reasons: BTreeMap<String, i64>,
    filtered: BTreeMap<String, i64>,
    first_ms: i64,
}

impl Counted {
    fn of(found: &SqliteRow) -> Result<Self, StoreError> {
        let mut row = Self { first_ms: found.try_get("first_ms")?, ..Self::default() };
        for (sum, name) in row.sums.iter_mut().zip(SUMS) {
            *sum = found.try_get(name)?;
        }
        for (values, name) in row.measured.iter_mut().zip(MEASURED) {
            let listed: Option<&str> = found.try_get(name)?;
            values.extend(listed.into_iter().flat_map(|l| l.split(',')).filter_map(|v| v.parse::<i64>().ok()));
        }
        Ok(row)
    }

    fn add(&mut self, other: &Self) {
        self.sums.iter_mut().zip(other.sums).for_each(|(sum, more)| *sum += more);
        self.measured.iter_mut().zip(&other.measured).for_each(|(values, more)| values.extend(more));
        for (counts, more) in [(&mut self.reasons, &other.reasons), (&mut self.filtered, &other.filtered)] {
            more.iter().for_each(|(name, n)| *counts.entry(name.clone()).or_default() += n);
        }
        self.first_ms = self.first_ms.min(other.first_ms);
    }

    fn row(mut self, key: String) -> FiguresRow {
        self.measured.iter_mut().for_each(|values| values.sort_unstable());
        let [
            conversations,
            real,
            confirmed,
            assumed,
            unresolved,
            open,
            person,
            filtered,
            wrong,
            off_topic,
            courtesy,
            busy_ms,
        ] = self.sums;
        let [turns, first_token, full_answer, person_reply] = &self.measured;
        let outside =
            [("filtered", filtered), ("wrong_company", wrong), ("off_topic", off_topic), ("courtesy", courtesy)];
        let decided = real - open;
        FiguresRow {
            key,
            conversations,
            real,
            resolved_confirmed: confirmed,
            resolved_assumed: assumed,
            unresolved,
            open,
            person,
            resolution_rate: Rate::of(confirmed + assumed, decided),
            confirmed_rate: Rate::of(confirmed, decided),
            handoff_rate: Rate::of(person, real),
            turns: turns_of(turns),
            first_token_ms: Times::of(first_token),
            full_answer_ms: Times::of(full_answer),
            person_first_reply_ms: Times::of(person_reply),
            handoffs_by_reason: self.reasons,
            filtered_by_kind: self.filtered,
            outside: outside.map(|(name, n)| (name.to_string(), n)).into(),
            busy_ms,
            first_ms: self.first_ms,
            ..FiguresRow::default()
        }
    }
}

impl Times {
    /// Of sorted values.
    fn of(sorted: &[i64]) -> Self {
        Self { median: nearest_rank(sorted, 50), p95: nearest_rank(sorted, 95) }
    }
}

/// The smallest of sorted values that `percent` of them do not exceed.
fn nearest_rank(sorted: &[i64], percent: usize) -> Option<i64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn turns_of(sorted: &[i64]) -> Turns {
    if sorted.is_empty() {
        return Turns::default();
    }
    let mean = Mean::of(sorted.iter().map(|turns| *turns as f64));
    Turns {
        mean: Some(mean.value),
        low: Some(mean.value - mean.margin),
        high: Some(mean.value + mean.margin),
        median: nearest_rank(sorted, 50),
    }
}

/// A machine costs its price whether it is asked or not: the hours of the period, shared out by the time that it
/// worked for each row; a day has its own hours.
fn price(total: &mut FiguresRow, rows: &mut [FiguresRow], query: &FiguresQuery, settings: &FiguresSettings, now: i64) {
    let end = query.to_ms.unwrap_or(now).min(now);
    let begin = query.from_ms.unwrap_or(total.first_ms).max(total.first_ms);
    let per_hour = settings.machine_cost_per_hour;
    let cost = |from: i64, to: i64| per_hour.map(|price| price * (to - from).max(0) as f64 / HOUR_MS);
    let each = |cost: Option<f64>, n: i64| cost.filter(|_| n > 0).map(|cost| cost / n as f64);
    for row in rows.iter_mut() {
        let of_row = match query.by {
            By::Day => {
                let day = (row.first_ms + offset_ms(settings)).div_euclid(DAY_MS) * DAY_MS - offset_ms(settings);
                cost(day.max(begin), (day + DAY_MS).min(end))
            }
            _ => cost(begin, end).map(|cost| cost * row.busy_ms as f64 / total.busy_ms.max(1) as f64),
        };
        row.cost_per_conversation = each(of_row, row.conversations);
    }
    total.cost_per_conversation = each(cost(begin, end), total.conversations);
    for row in rows.iter_mut().chain([total]) {
        row.person_cost = settings.person_cost_per_conversation;
        row.currency.clone_from(&settings.currency);
    }
}

fn offset_ms(settings: &FiguresSettings) -> i64 {
    i64::from(settings.utc_offset_minutes) * 60_000
}

/// `2026-11-21` of days since 1970.
fn day_name(days: &str) -> String {
    let day = days.parse::<i64>().ok().and_then(|days| chrono::DateTime::from_timestamp(days * (DAY_MS / 1000), 0));
    day.map_or_else(|| days.to_string(), |day| day.format("%Y-%m-%d").to_string())
}

impl Figures {
    /// The rows, then the total, as CSV with a header line.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let total = FiguresRow { key: "total".into(), ..self.total.clone() };
        let header = CSV_COLUMNS.map(|(name, _)| name);
        // Writing to memory does not fail.
        let _ = writer.write_record(header);
        for row in self.rows.iter().chain([&total]) {
            let _ = writer.write_record(CSV_COLUMNS.map(|(_, value)| inert(value(row))));
        }
        let bytes = writer.into_inner().unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// A channel's name may begin like a formula; spreadsheets must not compute it.
fn inert(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

type Column = (&'static str, fn(&FiguresRow) -> String);

const CSV_COLUMNS: [Column; 25] = [
    ("key", |r| r.key.clone()),
    ("conversations", |r| r.conversations.to_string()),
    ("real", |r| r.real.to_string()),
    ("resolved_confirmed", |r| r.resolved_confirmed.to_string()),
    ("resolved_assumed", |r| r.resolved_assumed.to_string()),
    ("unresolved", |r| r.unresolved.to_string()),
    ("open", |r| r.open.to_string()),
    ("person", |r| r.person.to_string()),
    ("resolution_rate", |r| fraction(r.resolution_rate.value)),
    ("resolution_low", |r| fraction(Some(r.resolution_rate.low))),
    ("resolution_high", |r| fraction(Some(r.resolution_rate.high))),
    ("handoff_rate", |r| fraction(r.handoff_rate.value)),
    ("handoff_low", |r| fraction(Some(r.handoff_rate.low))),
    ("handoff_high", |r| fraction(Some(r.handoff_rate.high))),
    ("handoffs_by_reason", |r| listed(&r.handoffs_by_reason)),
    ("turns_mean", |r| fraction(r.turns.mean)),
    ("turns_median", |r| whole(r.turns.median)),
    ("first_token_ms_median", |r| whole(r.first_token_ms.median)),
    ("full_answer_ms_median", |r| whole(r.full_answer_ms.median)),
    ("person_first_reply_ms_median", |r| whole(r.person_first_reply_ms.median)),
    ("filtered_by_kind", |r| listed(&r.filtered_by_kind)),
    ("outside", |r| listed(&r.outside)),
    ("cost_per_conversation", |r| fraction(r.cost_per_conversation)),
    ("person_cost", |r| fraction(r.person_cost)),
    ("currency", |r| r.currency.clone()),
];

fn fraction(value: Option<f64>) -> String {
    value.map_or_else(String::new, |v| format!("{v:.4}"))
}

fn whole(value: Option<i64>) -> String {
    value.map_or_else(String::new, |v| v.to_string())
}

fn listed(counts: &BTreeMap<String, i64>) -> String {
    counts.iter().map(|(name, n)| format!("{name}={n}")).collect::<Vec<_>>().join(" ")
}
