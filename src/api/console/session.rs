//! Who of the staff asks: a cookie with a random session id, of which the database holds the hash; and for every request
//! that changes something a token that only our own pages can read.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::api::state::AppState;
use crate::api::wire::error::ApiError;
use crate::desk::Actor;
use crate::desk::secrets::{same, token_hash};

/// The session's cookie.
const COOKIE: &str = "fl_session";
/// The header that carries the CSRF token.
const CSRF: &str = "x-csrf-token";
/// A session's use is noted so often.
const RENEW_MS: i64 = 60_000;

/// A member of the staff with a live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staff {
    pub id: String,
    pub login: String,
    pub name: String,
    /// `operator` or `lead`
    pub role: String,
    /// Empty: every team.
    pub teams: Vec<String>,
    pub csrf: String,
    pub session_hash: String,
}

impl Staff {
    pub fn is_lead(&self) -> bool {
        self.role == "lead"
    }

    /// # Errors
    /// 403 for operators.
    pub fn lead(&self) -> Result<(), ApiError> {
        match self.is_lead() {
            true => Ok(()),
            false => Err(ApiError::new(StatusCode::FORBIDDEN, "leads_only", "only a lead may do this")),
        }
    }

    pub fn actor(&self) -> Actor<'_> {
        Actor { id: &self.id, is_lead: self.is_lead() }
    }
}

impl FromRequestParts<AppState> for Staff {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let refused = || ApiError::new(StatusCode::UNAUTHORIZED, "no_session", "log in first: POST /console/api/login");
        let hash = token_hash(&session_id(&parts.headers).ok_or_else(refused)?);
        let store = &state.loaded()?.store;
        let session = store.session(&hash).await?.ok_or_else(refused)?;
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            let sent = parts.headers.get(CSRF).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if !same(sent, &session.csrf) {
                let message = "the header X-CSRF-Token must be the token of GET /console/api/me";
                return Err(ApiError::new(StatusCode::FORBIDDEN, "wrong_csrf_token", message));
            }
        }
        if chrono::Utc::now().timestamp_millis() - session.seen_ms > RENEW_MS {
            store.renew_session(&hash, live_ms(state)).await?;
        }
        let staff = session.staff;
        Ok(Self {
            id: staff.id,
            login: staff.login,
            name: staff.name,
            role: staff.role,
            teams: staff.teams,
            csrf: session.csrf,
            session_hash: hash,
        })
    }
}

/// How long an unused session lives.
pub fn live_ms(state: &AppState) -> i64 {
    i64::try_from(state.settings().desk.session_hours.clamp(1, 24 * 90)).unwrap_or(12) * 3_600_000
}

fn session_id(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, id)| id.to_string())
}

/// The header that sets the cookie; `None` ends it.
pub fn cookie(state: &AppState, id: Option<&str>) -> HeaderValue {
    let seconds = if id.is_some() { live_ms(state) / 1000 } else { 0 };
    let secure = if state.public_url().starts_with("https:") { "; Secure" } else { "" };
    let id = id.unwrap_or_default();
    let text = format!("{COOKIE}={id}; Path=/console; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, "a=b; fl_session=xyz; c".parse().unwrap());
        assert_eq!(session_id(&headers).as_deref(), Some("xyz"));
        assert_eq!(session_id(&HeaderMap::new()), None);
    }
}
