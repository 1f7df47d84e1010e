//! The website's chat window: one script tag, a frame that our own server fills, and the API behind it.
//!
//! A visitor is known by a [`token`] that the server signs; an `Origin` header says nothing. [`session`] gives and renews
//! it, [`messages`] takes what the visitor writes, [`history`] is what was said, also as it happens.

mod history;
mod messages;
mod render;
mod session;
pub mod token;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::console::pages;
use super::state::AppState;
use super::wire::error::ApiError;
use crate::api::assets;
use crate::config::DeskSettings;

/// The name under which the widget's conversations are bound.
pub const KEY_NAME: &str = "@widget";
/// The channel that routing and figures see.
pub const CHANNEL: &str = "widget";

/// All routes of the widget.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/widget.js", get(loader))
        .route("/widget/frame", get(frame))
        .route("/widget/demo", get(demo))
        .route("/widget/assets/{name}", get(pages::asset))
        .route("/widget/api/session", post(session::session))
        .route("/widget/api/messages", post(messages::message))
        .route("/widget/api/history", get(history::history))
        .route("/widget/api/events", get(history::events))
        .route("/widget/api/solved", post(history::solved))
}

/// # Errors
/// A site that is no origin: it would change the meaning of the policy it is written into.
pub fn check(settings: &DeskSettings) -> Result<(), String> {
    for site in &settings.widget_sites {
        let url = reqwest::Url::parse(site).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if url.is_none_or(|url| url.origin().ascii_serialization() != site.trim_end_matches('/')) {
            return Err(format!("desk.widget_sites: {site:?} is no site; write e.g. \"https://shop.example\""));
        }
    }
    Ok(())
}

/// # Errors
/// 404 where the settings have no widget.
async fn on(state: &AppState) -> Result<(), ApiError> {
    match state.settings().desk.widget {
        true => Ok(()),
        false => {
            Err(ApiError { message: "the widget is switched off (desk.widget)".into(), ..super::not_found().await })
        }
    }
}

async fn loader(State(state): State<AppState>) -> Result<Response, ApiError> {
    on(&state).await?;
    let headers = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, assets::LOADER_JS).into_response())
}

async fn frame(State(state): State<AppState>) -> Result<Response, ApiError> {
    on(&state).await?;
    let sites: String =
        state.settings().desk.widget_sites.iter().map(|s| format!(" {}", s.trim_end_matches('/'))).collect();
    Ok(pages::guarded(assets::FRAME_HTML, &state, &format!("'self'{sites}")))
}

/// A page that stands for a website.
async fn demo(State(state): State<AppState>) -> Result<Response, ApiError> {
    on(&state).await?;
    let settings = state.settings();
    if !settings.desk.widget_demo && !settings.server.is_loopback() {
        let message = "the demo page is served on loopback only, or with desk.widget_demo = true";
        return Err(ApiError { message: message.into(), ..super::not_found().await });
    }
    Ok(pages::guarded(assets::DEMO_HTML, &state, "'none'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_origins_and_nothing_else() {
        let check = |site: &str| check(&DeskSettings { widget_sites: vec![site.into()], ..DeskSettings::default() });
        for good in ["https://shop.example", "http://localhost:3000", "https://shop.example/"] {
            check(good).unwrap();
        }
        for bad in ["*", "shop.example", "https://shop.example/page", "https://a.example; script-src *", "data:x"] {
            assert!(check(bad).unwrap_err().contains("widget_sites"), "{bad}");
        }
    }
}
