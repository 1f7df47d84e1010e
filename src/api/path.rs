//! The part of a path that a route leaves open, and the query.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::wire::error::ApiError;

/// A request's query, as fields of `T`.
pub struct QueryOf<T>(pub T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Query::<T>::try_from_uri(&parts.uri).map(|Query(fields)| Self(fields)).map_err(unreadable)
    }
}

fn unreadable(error: QueryRejection) -> ApiError {
    let message = format!("the query cannot be read: {}", error.body_text());
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", message)
}

/// What can be read out of a query, field by field.
pub trait ReadQuery: Sized {
    /// Takes one field; false: there is none of this name.
    ///
    /// # Errors
    /// A value that cannot be, by the field's name.
    fn take(&mut self, name: &str, value: String) -> Result<bool, ApiError>;
}

/// No query at all.
#[derive(Default)]
pub struct NoQuery;

impl ReadQuery for NoQuery {
    fn take(&mut self, _: &str, _: String) -> Result<bool, ApiError> {
        Ok(false)
    }
}

/// A request's query; what it should not have is refused by name.
pub struct NamedQuery<T>(pub T);

impl<S: Send + Sync, T: ReadQuery + Default> FromRequestParts<S> for NamedQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let fields = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(unreadable)?;
        let mut read = T::default();
        for (name, value) in fields.0 {
            if !read.take(&name, value)? {
                let error = ApiError::unsupported(&name, format!("there is no parameter {name:?} here"));
                return Err(ApiError { code: "unknown_parameter", ..error });
            }
        }
        Ok(Self(read))
    }
}

/// The text of a route's only parameter, percent-decoded; what is not UTF-8 gets the one error shape.
pub struct PathText(pub String);

/// The texts of a route's two parameters.
pub struct PathPair(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        PathOf::from_request_parts(parts, state).await.map(|PathOf(text)| Self(text))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathPair {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        PathOf::from_request_parts(parts, state).await.map(|PathOf((first, second))| Self(first, second))
    }
}

struct PathOf<T>(T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned + Send> FromRequestParts<S> for PathOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                let message = format!("the path cannot be read: {}", error.body_text());
                Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_path", message))
            }
            Err(other) => Err(ApiError::internal(other)),
        }
    }
}
