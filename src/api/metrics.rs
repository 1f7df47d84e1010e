//! `GET /metrics` for Prometheus.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::auth::{Principal, Scope};
use super::state::{AppState, Loaded};
use super::wire::error::ApiError;
use crate::telemetry::{name, prometheus};

pub async fn render(State(state): State<AppState>, principal: Principal) -> Result<Response, ApiError> {
    principal.require(Scope::Metrics)?;
    if let Ok(loaded) = state.loaded() {
        read_engine(loaded);
        super::figures::set_gauges(loaded, &state.settings().figures).await;
    }
    let text = prometheus().render();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// The engine counts for itself; its numbers are read when somebody asks.
fn read_engine(loaded: &Loaded) {
    let stats = loaded.chat.stats();
    let model = loaded.chat.id().to_string();
    let gauge = |name: &'static str, value: f64| metrics::gauge!(name, "model_name" => model.clone()).set(value);
    let counter =
        |name: &'static str, value: u64| metrics::counter!(name, "model_name" => model.clone()).absolute(value);
    let kv_usage = stats.kv_blocks_used as f64 / stats.kv_blocks.max(1) as f64;
    gauge(name::RUNNING, stats.running as f64);
    gauge(name::WAITING, stats.waiting as f64);
    gauge(name::KV_USAGE, kv_usage);
    gauge(name::KV_USAGE_OLD, kv_usage);
    gauge(name::KV_PINNED, stats.kv_blocks_pinned as f64);
    counter(name::PROMPT_TOKENS, stats.prompt_tokens);
    counter(name::GENERATION_TOKENS, stats.generated_tokens);
    counter(name::PREFIX_QUERIES, stats.prompt_tokens);
    counter(name::PREFIX_HITS, stats.cached_tokens);
    counter(name::PREEMPTIONS, stats.preemptions);
    counter(name::CANCELLED, stats.cancelled);
    counter(name::DRAFTS, stats.drafts);
    counter(name::DRAFTED_TOKENS, stats.drafted_tokens);
    counter(name::ACCEPTED_TOKENS, stats.accepted_tokens);
    counter(name::STEPS, stats.steps);
    let prefixes = loaded.chat.prefix_stats();
    gauge(name::SAVED_PREFIXES, prefixes.files as f64);
    gauge(name::SAVED_PREFIX_BYTES, prefixes.bytes as f64);
    for (outcome, count) in [
        ("restored", prefixes.restored),
        ("computed", prefixes.computed),
        ("refused", prefixes.refused),
        ("unsaved", prefixes.unsaved),
        ("evicted", prefixes.evicted),
    ] {
        metrics::counter!(name::PREFIXES, "model_name" => model.clone(), "outcome" => outcome).absolute(count);
    }
    metrics::gauge!(name::CHUNKS).set(loaded.knowledge.snapshot().chunks().len() as f64);
}
