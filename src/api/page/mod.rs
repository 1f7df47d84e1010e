//! The test-chat page at `/`, and pages of the knowledge pack. Everything is in the program; nothing is loaded from
//! elsewhere, and no text of a customer, a model or a pack is ever taken for HTML.

pub mod article;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::state::AppState;
use super::wire::error::ApiError;
use crate::kb::Pack;

const INDEX: &str = include_str!("index.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const WHY: &str = include_str!("why.js");
const WORDS: &str = include_str!("words.js");

/// Example questions shown for a language.
const SUGGESTIONS: usize = 4;

/// A page with its policy: own scripts and styles, own images (and those of the public address).
pub fn html(body: String, public_url: &str) -> Response {
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: {public_url}; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], body).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(HeaderName::from_static("content-security-policy"), policy);
    }
    response
}

pub async fn index(State(state): State<AppState>) -> Response {
    html(INDEX.to_string(), state.public_url())
}

/// The page's own files.
pub async fn file(axum::extract::Path(name): axum::extract::Path<String>) -> Result<Response, ApiError> {
    const SCRIPT_TYPE: &str = "text/javascript; charset=utf-8";
    let (content_type, text) = match name.as_str() {
        "page.css" => ("text/css; charset=utf-8", STYLE),
        "page.js" => (SCRIPT_TYPE, SCRIPT),
        "why.js" => (SCRIPT_TYPE, WHY),
        "words.js" => (SCRIPT_TYPE, WORDS),
        // What the test chat shares with the console and the widget.
        "theme.css" | "prose.css" | "dom.js" | "markdown.js" | "sse.js" => match super::assets::asset(&name) {
            Some(asset) => (asset.content_type, asset.body),
            None => return Err(super::not_found().await),
        },
        _ => return Err(super::not_found().await),
    };
    Ok(([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")], text).into_response())
}

/// What the page says before the first question: the company's name and some questions that its pack answers.
pub async fn about(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let snapshot = state.loaded()?.knowledge.snapshot();
    let pack = snapshot.pack();
    let suggestions: serde_json::Map<String, Value> =
        pack.company.languages.iter().map(|lang| (lang.clone(), json!(suggestions(pack, lang)))).collect();
    Ok(Json(json!({
        "company": pack.company.name,
        "languages": pack.company.languages,
        "keys": !state.keys().is_empty(),
        "suggestions": suggestions,
    })))
}

/// Questions of the FAQ, taken from all over it.
fn suggestions<'a>(pack: &'a Pack, lang: &str) -> Vec<&'a str> {
    let entries: Vec<&str> =
        pack.faq.iter().filter(|e| e.lang == lang).filter_map(|e| e.questions.first()).map(String::as_str).collect();
    let step = (entries.len() / SUGGESTIONS).max(1);
    entries.into_iter().step_by(step).take(SUGGESTIONS).collect()
}
