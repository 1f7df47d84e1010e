//! Reading a request's body: its size, its encoding, its JSON.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use futures::StreamExt;
use serde_json::Value;

use super::state::AppState;
use super::wire::error::ApiError;

/// How long, and how many times the limit, the rest of an oversize body is read and thrown away, so that the client
/// gets to read the error.
const DRAIN_TIME: Duration = Duration::from_secs(5);
const DRAIN_FACTOR: usize = 16;

/// A JSON body.
pub struct JsonBody(pub Value);

impl FromRequest<AppState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        // A web page can post a form to a server on its reader's machine, but not JSON.
        if essence != "application/json" && !essence.ends_with("+json") {
            let message = format!("the content type is {content_type:?}; send Content-Type: application/json");
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
        }
        let limit = state.request_timeout();
        let reading = read(request.into_body(), state.settings().server.max_body_bytes, "server.max_body_bytes");
        let bytes = tokio::time::timeout(limit, reading).await.map_err(|_| ApiError::timeout(limit.as_secs()))??;
        json_of(&bytes).map(JsonBody)
    }
}

/// A body of at most `limit` bytes, which is the named setting's.
pub(super) async fn read(body: Body, limit: usize, setting: &str) -> Result<Vec<u8>, ApiError> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| bad_body(format!("the body broke off: {e}")))?;
        if bytes.len() + chunk.len() > limit {
            let _ = tokio::time::timeout(DRAIN_TIME, drain(&mut stream, limit.saturating_mul(DRAIN_FACTOR))).await;
            let message = format!("the body is larger than {limit} bytes ({setting})");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn drain(stream: &mut BodyDataStream, most: usize) {
    let mut drained = 0;
    while let Some(Ok(chunk)) = stream.next().await {
        drained += chunk.len();
        if drained > most {
            return;
        }
    }
}

fn bad_body(message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", message)
}

fn json_of(bytes: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|e| ApiError {
        code: "invalid_utf8",
        ..bad_body(format!("the body is not UTF-8: byte {} is wrong", e.valid_up_to()))
    })?;
    serde_json::from_str(text).map_err(|e| {
        let message = format!("the body is not valid JSON: {e}");
        ApiError { code: "invalid_json", ..bad_body(message) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_json_is_told_with_line_and_column() {
        let error = json_of(b"{\"a\": 1,\n  oops}").unwrap_err();
        assert_eq!(error.code, "invalid_json");
        assert!(error.message.contains("line 2 column 3"), "{}", error.message);
    }

    #[test]
    fn bytes_that_are_no_utf8_are_told_with_their_place() {
        let error = json_of(b"{\"a\": \"\xff\"}").unwrap_err();
        assert_eq!(error.code, "invalid_utf8");
        assert!(error.message.contains("byte 7"), "{}", error.message);
    }

    #[test]
    fn nesting_without_end_is_refused() {
        assert_eq!(json_of("[".repeat(100_000).as_bytes()).unwrap_err().code, "invalid_json");
    }
}
