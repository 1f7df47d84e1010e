//! Joining by a link, logging in and out, one's own account.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::session::{Staff, cookie, live_ms};
use super::{typed, words};
use crate::api::body::JsonBody;
use crate::api::desk_state::{ClientAddress, too_often};
use crate::api::state::AppState;
use crate::api::wire::error::ApiError;
use crate::desk::secrets::{LONGEST_PASSWORD, password_fault, password_fits, password_hash, random_token, token_hash};
use crate::store::{JoinFault, StaffMember};

/// Longest name or login, in characters.
const NAME_CHARS: usize = 80;

#[derive(Deserialize)]
struct Join {
    token: String,
    #[serde(default)]
    name: String,
    login: String,
    password: String,
}

#[derive(Deserialize)]
struct Login {
    login: String,
    password: String,
}

#[derive(Deserialize)]
struct Password {
    old: String,
    new: String,
}

/// Makes the account that a link grants, and a session for it.
pub async fn join(
    State(state): State<AppState>,
    address: ClientAddress,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let join: Join = typed(body)?;
    state.desk().logins.attempt(&format!("join {}", address.0)).map_err(too_often)?;
    let login = words("login", join.login.trim(), NAME_CHARS)?.to_lowercase();
    let name = join.name.trim();
    if name.chars().count() > NAME_CHARS {
        return Err(ApiError::invalid("name", format!("the name is longer than {NAME_CHARS} characters")));
    }
    let hash = hashed(&state, join.password).await?;
    let store = &state.loaded()?.store;
    match store.join(&token_hash(join.token.trim()), name, &login, &hash).await? {
        Ok(staff) => with_session(&state, &staff).await,
        Err(JoinFault::Link) => {
            let message = "this link was used already or is too old; ask a lead for a new one";
            Err(ApiError::new(StatusCode::FORBIDDEN, "join_link_invalid", message).on("token"))
        }
        Err(JoinFault::LoginTaken) => {
            let message = format!("the login {login:?} is taken; choose another");
            Err(ApiError::new(StatusCode::CONFLICT, "login_taken", message).on("login"))
        }
    }
}

pub async fn login(
    State(state): State<AppState>,
    address: ClientAddress,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let Login { login, password } = typed(body)?;
    let login = login.trim().to_lowercase();
    let logins = &state.desk().logins;
    let (by_login, by_address) = (format!("login {login}"), format!("address {}", address.0));
    logins.attempt(&by_login).map_err(too_often)?;
    logins.attempt(&by_address).map_err(too_often)?;
    let account = state.loaded()?.store.staff_by_login(&login).await?;
    let hash = account.as_ref().map(|(_, hash)| hash.clone());
    let fits = fits(&state, password, hash).await?;
    match account.filter(|(staff, _)| fits && staff.active) {
        Some((staff, _)) => {
            logins.forget(&by_login);
            logins.forget(&by_address);
            with_session(&state, &staff).await
        }
        None => Err(ApiError::new(StatusCode::UNAUTHORIZED, "wrong_login", "the login or the password is wrong")),
    }
}

pub async fn logout(State(state): State<AppState>, staff: Staff) -> Result<Response, ApiError> {
    state.loaded()?.store.end_session(&staff.session_hash).await?;
    Ok(([(header::SET_COOKIE, cookie(&state, None))], Json(json!({"ok": true}))).into_response())
}

/// Who one is, and what waits.
pub async fn me(State(state): State<AppState>, staff: Staff) -> Result<Json<Value>, ApiError> {
    let loaded = state.loaded()?;
    let counts = loaded.store.board_counts(&staff.id, &staff.teams).await?;
    let snapshot = loaded.knowledge.snapshot();
    let company = &snapshot.pack().company;
    let mut teams: Vec<&str> = snapshot.pack().operators.iter().map(|o| o.handoff.queue.as_str()).collect();
    teams.extend(state.settings().desk.teams.iter().map(|team| team.name.as_str()));
    teams.retain(|team| staff.teams.is_empty() || staff.teams.iter().any(|own| own == team));
    teams.sort_unstable();
    teams.dedup();
    Ok(Json(json!({
        "id": staff.id,
        "name": staff.name,
        "login": staff.login,
        "role": staff.role,
        "csrf": staff.csrf,
        "language": company.languages.first(),
        "company": {"name": company.name, "languages": company.languages},
        "teams": teams,
        "own_teams": staff.teams,
        "operators": loaded.support.operators(),
        "counts": counts,
    })))
}

pub async fn password(
    State(state): State<AppState>,
    staff: Staff,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let Password { old, new } = typed(body)?;
    state.desk().logins.attempt(&format!("login {}", staff.login)).map_err(too_often)?;
    let store = &state.loaded()?.store;
    let account = store.staff_by_login(&staff.login).await?;
    if !fits(&state, old, account.map(|(_, hash)| hash)).await? {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "wrong_password", "the old password is wrong").on("old"));
    }
    let hash = hashed(&state, new).await?;
    store.set_password(&staff.id, &hash, &staff.session_hash).await?;
    Ok(Json(json!({"ok": true})))
}

async fn with_session(state: &AppState, staff: &StaffMember) -> Result<Response, ApiError> {
    let (id, csrf) = (random_token(), random_token());
    state.loaded()?.store.add_session(&token_hash(&id), &staff.id, &csrf, live_ms(state)).await?;
    let body = json!({"name": staff.name, "login": staff.login, "role": staff.role, "csrf": csrf});
    Ok(([(header::SET_COOKIE, cookie(state, Some(&id)))], Json(body)).into_response())
}

async fn hashed(state: &AppState, password: String) -> Result<String, ApiError> {
    if let Some(fault) = password_fault(&password) {
        return Err(ApiError::invalid("password", fault));
    }
    let _turn = state.desk().hashing.acquire().await.map_err(ApiError::internal)?;
    let hashing = tokio::task::spawn_blocking(move || password_hash(&password));
    hashing.await.map_err(ApiError::internal)?.map_err(ApiError::internal)
}

async fn fits(state: &AppState, password: String, hash: Option<String>) -> Result<bool, ApiError> {
    if password.len() > LONGEST_PASSWORD {
        return Ok(false);
    }
    let _turn = state.desk().hashing.acquire().await.map_err(ApiError::internal)?;
    let checking = tokio::task::spawn_blocking(move || password_fits(&password, hash.as_deref()));
    checking.await.map_err(ApiError::internal)
}
