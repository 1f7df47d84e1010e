//! Around every request: when it arrived, its id, a count, a log line without its words, headers that every answer has.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::telemetry::name;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// When a request arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival(pub Instant);

pub async fn observe(mut request: Request, next: Next) -> Response {
    let arrival = Arrival(Instant::now());
    request.extensions_mut().insert(arrival);
    let id = request_id(request.headers().get(&REQUEST_ID));
    // The route's pattern, not the path: paths are without number, and may hold what somebody typed.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_string();
    let method = request.method().as_str().to_string();
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    let ms = arrival.0.elapsed().as_millis();
    tracing::debug!(%method, route, status, ms, id = id.to_str().unwrap_or("?"), "request");
    metrics::counter!(name::HTTP, "route" => route, "method" => known(&method), "status" => status.to_string())
        .increment(1);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    response
}

/// A client may make up methods; metrics do not grow by that.
fn known(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "POST" => "POST",
        "HEAD" => "HEAD",
        _ => "other",
    }
}

/// The client's own id where it is a sane one.
fn request_id(sent: Option<&HeaderValue>) -> HeaderValue {
    let sane = |id: &str| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    let fresh = || HeaderValue::from_str(&format!("req_{}", uuid::Uuid::new_v4().simple()));
    match sent {
        Some(value) if value.to_str().is_ok_and(sane) => value.clone(),
        _ => fresh().unwrap_or(HeaderValue::from_static("req_")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_own_request_id_is_kept_if_it_is_sane() {
        assert_eq!(request_id(Some(&HeaderValue::from_static("abc-1"))), "abc-1");
        assert_ne!(request_id(Some(&HeaderValue::from_static("with blank"))), "with blank");
        assert!(request_id(None).to_str().unwrap().starts_with("req_"));
    }
}
