//! The one error shape: `{"error":{"message","type","param","code"}}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::embed::EmbedError;
use crate::llm::LlmError;
use crate::store::StoreError;
use crate::support::SupportError;

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
    /// The field that was refused, e.g. `messages[2].content`.
    pub param: Option<String>,
    /// A word for programs, e.g. `model_not_found`.
    pub code: &'static str,
    /// Seconds after which another try makes sense.
    pub retry_after_s: Option<u64>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code, retry_after_s: None }
    }

    /// A field whose value cannot be served.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_value", message).on(param)
    }

    /// A field of the OpenAI API that this server does not have.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unsupported_parameter", message).on(param)
    }

    pub fn missing(param: impl Into<String>) -> Self {
        let param = param.into();
        Self::new(StatusCode::BAD_REQUEST, "missing_required_parameter", format!("{param:?} is missing")).on(param)
    }

    pub fn model_not_found(model: &str, known: &str) -> Self {
        let message = format!("there is no model {model:?}; there are: {known}");
        Self::new(StatusCode::NOT_FOUND, "model_not_found", message).on("model")
    }

    /// Our fault: the reason goes to the log, not to the client.
    pub fn internal(reason: impl std::fmt::Display) -> Self {
        tracing::error!(%reason, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the server failed; its log says why")
    }

    pub fn not_ready(stopping: bool) -> Self {
        let message = match stopping {
            true => "the server is stopping",
            false => "the server is still loading models and index; see /health/ready",
        };
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message);
        Self { retry_after_s: Some(2), ..error }
    }

    pub fn timeout(seconds: u64) -> Self {
        let message = format!("the answer was not ready within {seconds} s (server.request_timeout_s)");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    pub fn busy(waiting: usize, retry_after_s: u64) -> Self {
        let message = format!("{waiting} requests are waiting already; try again in {retry_after_s} s");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message);
        Self { retry_after_s: Some(retry_after_s), ..error }
    }

    pub fn on(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// OpenAI's class of the error.
    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    pub fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind(), "param": self.param, "code": self.code}})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<LlmError> for ApiError {
    fn from(error: LlmError) -> Self {
        let message = error.to_string();
        match error {
            LlmError::ContextLength { .. } => {
                Self::new(StatusCode::BAD_REQUEST, "context_length_exceeded", message).on("messages")
            }
            LlmError::QueueFull { waiting, retry_after_s } => Self::busy(waiting, retry_after_s),
            LlmError::Template(_) => Self::invalid("messages", message),
            LlmError::Schema { .. } => Self::new(StatusCode::BAD_REQUEST, "invalid_schema", message),
            LlmError::InvalidParameter(_) => Self::new(StatusCode::BAD_REQUEST, "invalid_value", message),
            LlmError::Load(_) | LlmError::Adapter(_) | LlmError::Engine(_) => Self::internal(message),
        }
    }
}

impl From<SupportError> for ApiError {
    fn from(error: SupportError) -> Self {
        match error {
            SupportError::Llm(error) => error.into(),
            SupportError::UnknownOperator { name, known } => Self::model_not_found(&name, &known),
            SupportError::InvalidRequest(reason) => Self::invalid("messages", reason),
            error => Self::internal(error),
        }
    }
}

impl From<EmbedError> for ApiError {
    fn from(error: EmbedError) -> Self {
        Self::internal(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_429_and_says_when_to_try_again() {
        let response = ApiError::from(LlmError::QueueFull { waiting: 64, retry_after_s: 3 }).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "3");
    }

    #[test]
    fn a_context_overflow_names_both_numbers() {
        let error = ApiError::from(LlmError::ContextLength { context: 2048, prompt: 3000, max_tokens: 10 });
        assert_eq!((error.status, error.code), (StatusCode::BAD_REQUEST, "context_length_exceeded"));
        assert!(error.message.contains("2048") && error.message.contains("3000"), "{}", error.message);
    }

    #[test]
    fn what_failed_inside_is_not_told_to_clients() {
        let body = ApiError::from(LlmError::Engine("tensor shape at /secret/path".into())).body();
        assert_eq!(body["error"]["type"], "server_error");
        assert!(!body.to_string().contains("secret"));
    }
}
