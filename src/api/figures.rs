//! `GET /v1/support/figures`, and what it shares with the console: the query, JSON or CSV.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Query, State, rejection::QueryRejection};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::auth::{Principal, Scope};
use super::state::{AppState, Loaded};
use super::wire::error::ApiError;
use crate::config::FiguresSettings;
use crate::store::figures::{By, Figures, FiguresQuery, FiguresRow};
use crate::telemetry::name;

/// `/metrics` shows the last thirty days ...
const GAUGES_MS: i64 = 30 * 86_400_000;
/// ... and counts them at most this often.
const GAUGES_EVERY: std::time::Duration = std::time::Duration::from_secs(60);

/// A query string as axum reads it.
pub type Asked = Result<Query<HashMap<String, String>>, QueryRejection>;

pub async fn get(State(state): State<AppState>, principal: Principal, asked: Asked) -> Result<Response, ApiError> {
    principal.require(Scope::Metrics)?;
    answer(&state, asked).await
}

/// The figures that a query string asks for: `from`, `to` (ms), `operator`, `version`, `channel`, `by`, `format`.
///
/// # Errors
/// An unknown parameter or value, by name.
pub async fn answer(state: &AppState, asked: Asked) -> Result<Response, ApiError> {
    let (query, csv) = read(asked)?;
    let figures = state.loaded()?.store.figures(&query, &state.settings().figures).await.map_err(ApiError::internal)?;
    Ok(if csv { as_csv(&figures) } else { Json(figures).into_response() })
}

/// The same as CSV, whatever `format` says.
///
/// # Errors
/// As [`answer`].
pub async fn csv(state: &AppState, asked: Asked) -> Result<Response, ApiError> {
    let (query, _) = read(asked)?;
    let figures = state.loaded()?.store.figures(&query, &state.settings().figures).await.map_err(ApiError::internal)?;
    Ok(as_csv(&figures))
}

fn as_csv(figures: &Figures) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"figures.csv\""),
    ];
    (headers, figures.csv()).into_response()
}

fn read(asked: Asked) -> Result<(FiguresQuery, bool), ApiError> {
    let Query(fields) = asked.map_err(|error| ApiError::invalid("query", error.body_text()))?;
    let mut query = FiguresQuery::default();
    let mut csv = false;
    for (field, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        match field.as_str() {
            "from" => query.from_ms = Some(time(&field, &value)?),
            "to" => query.to_ms = Some(time(&field, &value)?),
            "operator" => query.operator = Some(value),
            "version" => query.version = Some(value),
            "channel" => query.channel = Some(value),
            "by" => query.by = By::parse(&value).ok_or_else(|| unknown(&field, &value, &By::WORDS.map(|(_, w)| w)))?,
            "format" => csv = one_of(&field, &value)?,
            _ => {
                let message = format!(
                    "there is no parameter {field:?}; there are from, to, operator, version, channel, by, format"
                );
                return Err(ApiError::invalid(field, message));
            }
        }
    }
    Ok((query, csv))
}

fn one_of(field: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "json" => Ok(false),
        "csv" => Ok(true),
        _ => Err(unknown(field, value, &["json", "csv"])),
    }
}

fn unknown(field: &str, value: &str, known: &[&str]) -> ApiError {
    ApiError::invalid(field, format!("{field} is {value:?}; it must be one of {}", known.join(", ")))
}

fn time(field: &str, value: &str) -> Result<i64, ApiError> {
    let message = || format!("{field} is {value:?}; it must be a whole number, milliseconds since 1970");
    value.parse().map_err(|_| ApiError::invalid(field, message()))
}

/// Sets the gauges of `/metrics`, from the last thirty days, by operator.
pub async fn set_gauges(loaded: &Loaded, settings: &FiguresSettings) {
    {
        let mut last = loaded.gauges_set.lock();
        if last.is_some_and(|at| at.elapsed() < GAUGES_EVERY) {
            return;
        }
        *last = Some(std::time::Instant::now());
    }
    let from_ms = Some(chrono::Utc::now().timestamp_millis() - GAUGES_MS);
    let query = FiguresQuery { from_ms, by: By::Operator, ..FiguresQuery::default() };
    match loaded.store.figures(&query, settings).await {
        Ok(figures) => figures.rows.iter().for_each(set_gauges_of),
        Err(error) => tracing::warn!(%error, "the figures for /metrics cannot be read"),
    }
}

fn set_gauges_of(row: &FiguresRow) {
    let outcomes = [
        ("confirmed", row.resolved_confirmed),
        ("assumed", row.resolved_assumed),
        ("unresolved", row.unresolved),
        ("open", row.open),
        ("person", row.person),
        ("outside", row.conversations - row.real),
    ];
    for (outcome, n) in outcomes {
        metrics::gauge!(name::CONVERSATIONS, "operator" => row.key.clone(), "outcome" => outcome).set(n as f64);
    }
    for (gauge, value) in [
        (name::RESOLUTION, row.resolution_rate.value),
        (name::HANDOFFS, row.handoff_rate.value),
        (name::COST, row.cost_per_conversation),
    ] {
        if let Some(value) = value {
            metrics::gauge!(gauge, "operator" => row.key.clone()).set(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(query: &str) -> Result<(FiguresQuery, bool), ApiError> {
        let uri = format!("http://h/figures?{query}").parse().unwrap();
        read(Query::try_from_uri(&uri))
    }

    #[test]
    fn a_query_is_read_and_what_is_unknown_is_refused_by_name() {
        let (query, csv) = read_text("from=5&by=version&operator=igor&channel=&format=csv").unwrap();
        assert_eq!((query.from_ms, query.by, query.operator.as_deref()), (Some(5), By::Version, Some("igor")));
        assert!(csv && query.channel.is_none());
        for (query, param) in [("from=yesterday", "from"), ("by=week", "by"), ("operater=igor", "operater")] {
            assert_eq!(read_text(query).unwrap_err().param.as_deref(), Some(param));
        }
    }
}
