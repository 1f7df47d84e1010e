//! The desk's work: lists of conversations, one as it was said, taking it, replying, giving it back, closing it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::session::Staff;
use super::{typed, words};
use crate::api::body::JsonBody;
use crate::api::path::{PathText, QueryOf};
use crate::api::state::{AppState, Loaded};
use crate::api::wire::error::ApiError;
use crate::desk::notice;
use crate::desk::ownership::{self, Act, ClosedAs, Holding, Owner, Refusal};
use crate::store::{BoardItem, BoardQuery, HandoffRow, NewMessage, Present, Said, Step, View};

/// Most conversations on a page, and how many without a wish.
const MOST_ITEMS: i64 = 200;
const ITEMS: i64 = 50;
/// Longest search, in characters.
const QUERY_CHARS: usize = 200;

#[derive(Deserialize)]
pub struct ListQuery {
    view: Option<String>,
    team: Option<String>,
    query: Option<String>,
    cursor: Option<String>,
    limit: Option<i64>,
}

#[derive(Deserialize)]
struct Reply {
    text: String,
    /// The browser's own id of the message: sent twice, it is kept once.
    id: Option<String>,
}

#[derive(Deserialize)]
struct Close {
    r#as: ClosedAs,
}

#[derive(Deserialize)]
struct MarkBody {
    wrong: bool,
    right: Option<String>,
}

pub async fn list(
    State(state): State<AppState>,
    staff: Staff,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let view = view(query.view.as_deref().unwrap_or("live"))?;
    let limit = query.limit.unwrap_or(ITEMS).clamp(1, MOST_ITEMS);
    let live_ms = i64::try_from(state.settings().desk.live_hours.clamp(1, 24 * 365)).unwrap_or(24) * 3_600_000;
    let asked = BoardQuery {
        view,
        staff_id: staff.id.clone(),
        teams: staff.teams.clone(),
        team: query.team.filter(|team| !team.is_empty()),
        words: query.query.unwrap_or_default().chars().take(QUERY_CHARS).collect(),
        since_ms: chrono::Utc::now().timestamp_millis() - live_ms,
        after: query.cursor.as_deref().map(cursor).transpose()?,
        limit: limit + 1,
    };
    let mut items = state.loaded()?.store.board(&asked).await?;
    let more = items.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = items.last().filter(|_| more).map(|item| item.place(view));
    let next = last.map(|(at, id)| format!("{at}_{id}"));
    Ok(Json(json!({"items": items.iter().map(item_json).collect::<Vec<_>>(), "next": next})))
}

fn view(word: &str) -> Result<View, ApiError> {
    Ok(match word {
        "live" => View::Live,
        "waiting" => View::Waiting,
        "mine" => View::Mine,
        "closed" => View::Closed,
        "all" => View::All,
        _ => {
            let message = format!("{word:?} is no view; there are: live, waiting, mine, closed, all");
            return Err(ApiError::invalid("view", message));
        }
    })
}

fn cursor(text: &str) -> Result<(i64, String), ApiError> {
    let parts = text.split_once('_').and_then(|(at, id)| Some((at.parse().ok()?, id.to_string())));
    parts.ok_or_else(|| ApiError::invalid("cursor", "this is no cursor; take \"next\" of the page before"))
}

fn item_json(item: &BoardItem) -> Value {
    let mut value = present_json(&item.present);
    value["tags"] = tags(item.tags.as_deref());
    value["handoff_reason"] = json!(item.handoff_reason);
    value["handoff_kind"] = json!(item.handoff_kind);
    value
}

fn tags(json: Option<&str>) -> Value {
    json.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| json!([]))
}

fn present_json(present: &Present) -> Value {
    let person = present.staff_id.as_ref().map(|id| json!({"id": id, "name": present.staff_name}));
    json!({
        "id": present.conversation_id,
        "owner": present.owner,
        "person": person,
        "team": present.team,
        "channel": present.channel,
        "customer": {"id": present.customer_id, "name": present.customer_name},
        "language": present.language,
        "operator": present.operator,
        "operator_version": present.operator_version,
        "started_ms": present.started_ms,
        "updated_ms": present.updated_ms,
        "waiting_since_ms": present.waiting_since_ms,
        "last": {"from": present.last_from, "text": present.last_text},
        "turns": present.turns,
        "mood": present.mood,
        "tags": [],
        "handoff_reason": null,
        "closed_as": present.closed_as,
    })
}

pub async fn detail(
    State(state): State<AppState>,
    staff: Staff,
    PathText(id): PathText,
) -> Result<Json<Value>, ApiError> {
    let loaded = state.loaded()?;
    let present = seen(loaded, &staff, &id).await?;
    Ok(Json(detail_json(loaded, &present).await?))
}

/// A conversation that this person may see.
async fn seen(loaded: &Loaded, staff: &Staff, id: &str) -> Result<Present, ApiError> {
    let present = loaded.store.present(id).await?.ok_or_else(|| unknown(id))?;
    let of_team = present.team.as_ref().is_none_or(|team| staff.teams.is_empty() || staff.teams.contains(team));
    if !of_team && present.staff_id.as_deref() != Some(&staff.id) {
        let message = "this conversation belongs to a team that you are not in";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "other_team", message));
    }
    Ok(present)
}

fn unknown(id: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "conversation_not_found", format!("there is no conversation {id:?}"))
}

async fn detail_json(loaded: &Loaded, present: &Present) -> Result<Value, ApiError> {
    let id = &present.conversation_id;
    let said = loaded.store.timeline(id).await?;
    let handoff = loaded.store.last_handoff(id).await?;
    let events = loaded.store.owner_events(id).await?;
    let mut value = present_json(present);
    if let Some(handoff) = &handoff {
        value["tags"] = handoff.tags.clone();
        value["handoff_reason"] = json!(handoff.reason);
    }
    value["messages"] = said.iter().map(said_json).collect();
    value["handoff"] = handoff.map_or(Value::Null, |handoff| handoff_json(&handoff, present, &said));
    value["events"] = events
        .iter()
        .map(|event| {
            let by = event.staff_name.as_deref().map(|name| format!(" by {name}")).unwrap_or_default();
            let text = format!("{}{by}: {} → {}", event.what, event.from_owner, event.to_owner);
            json!({"at_ms": event.at_ms, "kind": event.what, "text": text, "by": event.staff_name})
        })
        .collect();
    Ok(value)
}

fn said_json(said: &Said) -> Value {
    let mut value = json!({"id": said.id, "at_ms": said.at_ms, "from": said.from, "text": said.text});
    if let Some(name) = &said.staff_name {
        value["person"] = json!({"name": name});
    }
    if let Some(turn) = &said.turn {
        let mark = turn.mark.as_ref().map(|m| json!({"wrong": m.wrong, "right": m.right, "by": m.by}));
        value["turn"] = json!({
            "id": turn.id, "action": turn.action, "kind": turn.kind, "reason": turn.reason,
            "confidence": turn.confidence, "operator": turn.operator, "version": turn.operator_version,
            "sources": turn.sources, "first_token_ms": turn.first_token_ms, "total_ms": turn.total_ms, "mark": mark,
        });
    }
    value
}

/// What was handed over; with what the bot tried before it.
fn handoff_json(handoff: &HandoffRow, present: &Present, said: &[Said]) -> Value {
    let mut tried = Vec::new();
    let mut question = "";
    for said in said.iter().filter(|said| said.at_ms <= handoff.at_ms) {
        match (&said.turn, said.from.as_str()) {
            (Some(turn), _) if turn.sources.as_array().is_some_and(|sources| !sources.is_empty()) => {
                tried.push(json!({"question": question, "kind": turn.kind, "sources": turn.sources}));
            }
            (None, "customer") => question = &said.text,
            _ => {}
        }
    }
    json!({
        "id": handoff.id, "queue": handoff.queue, "kind": handoff.kind, "reason": handoff.reason,
        "summary": handoff.summary, "tags": handoff.tags, "mood": present.mood, "tried": tried,
        "since_ms": handoff.at_ms,
    })
}

pub async fn take(
    State(state): State<AppState>,
    staff: Staff,
    PathText(id): PathText,
) -> Result<Json<Value>, ApiError> {
    let name = staff.name.clone();
    let me = staff.id.clone();
    act(&state, &staff, &id, Act::Take, move |present| {
        let changes = present.staff_id.as_deref() != Some(&me);
        changes.then(|| system(notice::taken(lang(present), &name))).into_iter().collect()
    })
    .await
}

pub async fn reply(
    State(state): State<AppState>,
    staff: Staff,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let reply: Reply = typed(body)?;
    let text = words("text", &reply.text, state.settings().desk.reply_chars)?;
    if reply.id.as_deref().is_some_and(|id| uuid::Uuid::parse_str(id).is_err()) {
        return Err(ApiError::invalid("id", "\"id\" must be a UUID of your own, or be left out"));
    }
    let message = NewMessage { id: reply.id, sender: "person", staff_id: Some(staff.id.clone()), text };
    act(&state, &staff, &id, Act::Reply, move |_| vec![message]).await
}

pub async fn give_back(
    State(state): State<AppState>,
    staff: Staff,
    PathText(id): PathText,
) -> Result<Json<Value>, ApiError> {
    act(&state, &staff, &id, Act::GiveBack, |present| vec![system(notice::given_back(lang(present)))]).await
}

pub async fn close(
    State(state): State<AppState>,
    staff: Staff,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let close: Close = typed(body)?;
    act(&state, &staff, &id, Act::Close(close.r#as), move |present| match close.r#as {
        ClosedAs::Spam => Vec::new(),
        _ => vec![system(notice::closed(lang(present)))],
    })
    .await
}

/// A note for colleagues; customers never see it.
pub async fn note(
    State(state): State<AppState>,
    staff: Staff,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let note: Reply = typed(body)?;
    let text = words("text", &note.text, state.settings().desk.reply_chars)?;
    let loaded = state.loaded()?;
    seen(loaded, &staff, &id).await?;
    let message = NewMessage { id: None, sender: "note", staff_id: Some(staff.id.clone()), text };
    let unchanged = |present: &Present| {
        Ok::<_, Refusal>(Step {
            owner: present.owner.clone(),
            staff_id: present.staff_id.clone(),
            closed_as: present.closed_as.clone(),
            messages: vec![message],
            ..Step::default()
        })
    };
    done(loaded, &id, loaded.store.act(&id, unchanged).await?).await
}

fn lang(present: &Present) -> &str {
    present.language.as_deref().unwrap_or("en")
}

fn system(text: String) -> NewMessage {
    NewMessage { id: None, sender: "system", staff_id: None, text }
}

/// Carries an act out where the present allows it. `says`: what is written with it.
async fn act(
    state: &AppState,
    staff: &Staff,
    id: &str,
    act: Act,
    says: impl FnOnce(&Present) -> Vec<NewMessage> + Send,
) -> Result<Json<Value>, ApiError> {
    let loaded = state.loaded()?;
    seen(loaded, staff, id).await?;
    let outcome = loaded.store.act(id, |present| {
        let owner = Owner::parse(&present.owner).unwrap_or_default();
        let holding = Holding { owner, staff_id: present.staff_id.clone() };
        let after = ownership::after(&holding, act, staff.actor())?;
        let (what, closed_as) = match act {
            Act::Take => ("taken", None),
            Act::Reply => ("replied", None),
            Act::GiveBack => ("given_back", None),
            Act::Close(closed_as) => ("closed", Some(closed_as.word().to_string())),
        };
        Ok::<_, Refusal>(Step {
            owner: after.owner.word().into(),
            staff_id: after.staff_id,
            closed_as,
            by: Some(staff.id.clone()),
            what,
            messages: says(present),
            solved: None,
        })
    });
    done(loaded, id, outcome.await?).await
}

/// The conversation after an act, or why it was refused.
async fn done(
    loaded: &Loaded,
    id: &str,
    outcome: Option<Result<(Present, Vec<String>), Refusal>>,
) -> Result<Json<Value>, ApiError> {
    match outcome {
        None => Err(unknown(id)),
        Some(Err(refusal)) => {
            let holder = loaded.store.present(id).await?.and_then(|present| present.staff_name);
            let message = match (refusal, holder) {
                (Refusal::SomebodyElse, Some(name)) => format!("{name} has this conversation; a lead can take it over"),
                (refusal, _) => refusal.to_string(),
            };
            Err(ApiError::new(StatusCode::CONFLICT, "not_yours", message))
        }
        Some(Ok((present, messages))) => {
            let mut value = detail_json(loaded, &present).await?;
            value["message_id"] = json!(messages.last());
            Ok(Json(value))
        }
    }
}

/// Says that an answer was wrong, and what is right.
pub async fn mark(
    State(state): State<AppState>,
    staff: Staff,
    PathText(turn): PathText,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let mark: MarkBody = typed(body)?;
    let most = state.settings().desk.reply_chars;
    let right = mark.right.filter(|right| !right.trim().is_empty());
    let right = right.map(|right| words("right", &right, most)).transpose()?;
    match state.loaded()?.store.mark(&turn, &staff.id, mark.wrong, right.as_deref()).await? {
        true => Ok(Json(json!({"ok": true}))),
        false => Err(ApiError::new(StatusCode::NOT_FOUND, "turn_not_found", format!("there is no turn {turn:?}"))),
    }
}

#[derive(Deserialize)]
pub struct Page {
    cursor: Option<String>,
    limit: Option<i64>,
}

/// The log of webhooks.
pub async fn deliveries(
    State(state): State<AppState>,
    staff: Staff,
    QueryOf(page): QueryOf<Page>,
) -> Result<Json<Value>, ApiError> {
    staff.lead()?;
    let limit = page.limit.unwrap_or(ITEMS).clamp(1, MOST_ITEMS);
    let items = state.loaded()?.store.deliveries(page.cursor.as_deref(), limit).await?;
    let full = items.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let next = items.last().filter(|_| full).map(|line| line.id.clone());
    Ok(Json(json!({"items": items, "next": next})))
}
