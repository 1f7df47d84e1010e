//! The console: its pages, and the API behind them for staff with a session.
//!
//! [`session`] knows who asks (cookie, CSRF token); [`account`] logs in and out; [`people`] is the staff;
//! [`conversations`] the desk's work; [`events`] the live feed; [`ask`] the staff's own questions to the bot;
//! [`pages`] the files for the browser.

mod account;
mod ask;
mod conversations;
mod events;
mod figures;
mod knowledge;
pub mod pages;
mod people;
pub mod session;
mod suggestions;

pub use people::first_link;

use axum::Router;
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::state::AppState;
use super::wire::error::ApiError;

/// All routes under `/console`.
pub fn router() -> Router<AppState> {
    let api = Router::new()
        .route("/join", post(account::join))
        .route("/login", post(account::login))
        .route("/logout", post(account::logout))
        .route("/me", get(account::me))
        .route("/password", post(account::password))
        .route("/people", get(people::list).post(people::invite))
        .route("/people/{id}", post(people::change))
        .route("/conversations", get(conversations::list))
        .route("/conversations/{id}", get(conversations::detail))
        .route("/conversations/{id}/take", post(conversations::take))
        .route("/conversations/{id}/reply", post(conversations::reply))
        .route("/conversations/{id}/give-back", post(conversations::give_back))
        .route("/conversations/{id}/close", post(conversations::close))
        .route("/conversations/{id}/note", post(conversations::note))
        .route("/turns/{id}/mark", post(conversations::mark))
        .route("/deliveries", get(conversations::deliveries))
        .route("/events", get(events::events))
        .route("/ask", post(ask::ask))
        .merge(knowledge::router())
        .merge(suggestions::router())
        .merge(figures::router())
        .fallback(super::unknown_path);
    Router::new()
        .nest("/console/api", api)
        .route("/console", get(pages::index))
        .route("/console/", get(pages::index))
        .route("/console/{*path}", get(pages::index))
        .route("/console/assets/{name}", get(pages::asset))
}

/// A body as the handler wants it.
///
/// # Errors
/// 400 that says which field is wrong.
pub fn typed<T: DeserializeOwned>(body: Value) -> Result<T, ApiError> {
    serde_json::from_value(body).map_err(|e| {
        let message = format!("the body does not have the fields that are needed: {e}");
        ApiError::new(axum::http::StatusCode::BAD_REQUEST, "invalid_value", message)
    })
}

/// A text that was sent, trimmed at its end, not empty and not too long.
///
/// # Errors
/// 400 with both lengths.
pub fn words(param: &str, text: &str, most_chars: usize) -> Result<String, ApiError> {
    let text = text.trim_end();
    let chars = text.chars().count();
    if text.trim().is_empty() {
        return Err(ApiError::invalid(param, format!("{param:?} is empty")));
    }
    if chars > most_chars {
        return Err(ApiError::invalid(param, format!("{param:?} has {chars} characters; the most is {most_chars}")));
    }
    Ok(text.to_string())
}
