//! The staff, for leads: who there is, new colleagues by a link, roles.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::session::Staff;
use super::{typed, words};
use crate::api::body::JsonBody;
use crate::api::path::PathText;
use crate::api::state::AppState;
use crate::api::wire::error::ApiError;
use crate::desk::secrets::{random_token, token_hash};
use crate::store::{JoinLink, Store, StoreError};

#[derive(Deserialize)]
struct Invite {
    name: String,
    role: String,
    #[serde(default)]
    teams: Vec<String>,
}

#[derive(Deserialize)]
struct Change {
    role: Option<String>,
    active: Option<bool>,
    teams: Option<Vec<String>>,
}

/// Most teams of a person.
const MOST_TEAMS: usize = 50;

pub async fn list(State(state): State<AppState>, staff: Staff) -> Result<Json<Value>, ApiError> {
    staff.lead()?;
    Ok(Json(json!({"items": state.loaded()?.store.staff().await?, "next": null})))
}

/// A link that makes a colleague's account, once.
pub async fn invite(
    State(state): State<AppState>,
    staff: Staff,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    staff.lead()?;
    let invite: Invite = typed(body)?;
    let name = words("name", invite.name.trim(), 80)?;
    let link = JoinLink { name, role: role(&invite.role)?, teams: teams(invite.teams)? };
    let hours = i64::try_from(state.settings().desk.join_link_hours.clamp(1, 24 * 365)).unwrap_or(72);
    let expires_ms = chrono::Utc::now().timestamp_millis() + hours * 3_600_000;
    let token = random_token();
    state.loaded()?.store.add_join_link(&token_hash(&token), &link, Some(expires_ms), false).await?;
    Ok(Json(json!({"join_url": join_url(state.public_url(), &token), "expires_ms": expires_ms})))
}

pub async fn change(
    State(state): State<AppState>,
    staff: Staff,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    staff.lead()?;
    let change: Change = typed(body)?;
    let role = change.role.as_deref().map(role).transpose()?;
    let teams = change.teams.map(teams).transpose()?;
    let store = &state.loaded()?.store;
    match store.change_staff(&id, role.as_deref(), change.active, teams.as_deref()).await? {
        Some(true) => Ok(Json(json!({"ok": true}))),
        Some(false) => {
            let message = "this is the last active lead; make somebody else a lead first";
            Err(ApiError::new(StatusCode::CONFLICT, "last_lead", message))
        }
        None => {
            Err(ApiError::new(StatusCode::NOT_FOUND, "person_not_found", format!("there is nobody with the id {id:?}")))
        }
    }
}

fn role(word: &str) -> Result<String, ApiError> {
    match word {
        "operator" | "lead" => Ok(word.to_string()),
        _ => Err(ApiError::invalid("role", format!("{word:?} is no role; there are: operator, lead"))),
    }
}

fn teams(teams: Vec<String>) -> Result<Vec<String>, ApiError> {
    if teams.len() > MOST_TEAMS {
        return Err(ApiError::invalid(
            "teams",
            format!("{} teams are too many; the most is {MOST_TEAMS}", teams.len()),
        ));
    }
    teams.iter().map(|team| words("teams", team.trim(), 80)).collect()
}

fn join_url(public_url: &str, token: &str) -> String {
    format!("{public_url}/console/join?token={token}")
}

/// While there is no staff: a link for the first lead, valid until it is used; the ones before it are void.
pub async fn first_link(store: &Store, public_url: &str) -> Result<Option<String>, StoreError> {
    if store.staff_count().await? > 0 {
        return Ok(None);
    }
    let token = random_token();
    let link = JoinLink { name: "Lead".into(), role: "lead".into(), teams: Vec::new() };
    store.add_join_link(&token_hash(&token), &link, None, true).await?;
    Ok(Some(join_url(public_url, &token)))
}
