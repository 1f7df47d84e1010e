//! The console's page and files.

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::api::assets;
use crate::api::path::PathText;
use crate::api::state::AppState;
use crate::api::wire::error::ApiError;

/// The page; it finds its way by its own address.
pub async fn index(State(state): State<AppState>) -> Response {
    guarded(assets::CONSOLE_HTML, &state, "'none'")
}

/// A page that runs own scripts and styles only. `ancestors`: who may show it in a frame.
pub fn guarded(html: &'static str, state: &AppState, ancestors: &str) -> Response {
    let policy = format!(
        "default-src 'self'; img-src 'self' data: {}; base-uri 'none'; form-action 'self'; object-src 'none'; \
         frame-ancestors {ancestors}",
        state.public_url()
    );
    let mut response = ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(HeaderName::from_static("content-security-policy"), policy);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// A file of the console or the widget.
pub async fn asset(PathText(name): PathText) -> Result<Response, ApiError> {
    let Some(asset) = assets::asset(&name) else { return Err(crate::api::not_found().await) };
    let headers = [(header::CONTENT_TYPE, asset.content_type), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, asset.body).into_response())
}
