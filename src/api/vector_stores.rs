//! `/v1/vector_stores`: sets of files that are searched. The store `vs_pack` is the knowledge pack: operators answer from
//! what is attached to it.

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::auth::Principal;
use super::body::JsonBody;
use super::files::caller;
use super::listing::{ListQuery, list};
use super::path::{NamedQuery, PathPair, PathText};
use super::state::AppState;
use super::wire::error::ApiError;
use super::wire::fields::{Fields, wrong_type};
use crate::library::{self, Caller, FileCounts, Filter, Library, PACK, SearchWish, StoreChange};
use crate::store::library::{AttachedRow, VectorStoreRow};

const MAX_NAME_CHARS: usize = 256;
/// Most entries of metadata and of attributes, and their longest names and values, in characters.
const ENTRIES: usize = 16;
const ENTRY_NAME_CHARS: usize = 64;
const ENTRY_CHARS: usize = 512;
/// Files in one request.
const MAX_FILES: usize = 500;
const MAX_QUERIES: usize = 16;
const MAX_QUERY_CHARS: usize = 4_096;

fn store_json(state: &AppState, row: &VectorStoreRow, counts: FileCounts) -> Result<Value, ApiError> {
    let expired = library::is_expired(row);
    let status = match counts.in_progress {
        _ if expired => "expired",
        0 => "completed",
        _ => "in_progress",
    };
    let name = match row.id.as_str() {
        PACK => state.loaded()?.knowledge.snapshot().pack().company.name.clone(),
        _ => row.name.clone(),
    };
    Ok(json!({
        "id": row.id, "object": "vector_store", "created_at": row.created_ms / 1000, "name": name,
        "usage_bytes": counts.usage_bytes, "file_counts": counts_json(counts), "status": status,
        "expires_after": row.expire_days.map(|days| json!({"anchor": "last_active_at", "days": days})),
        "expires_at": library::expires_ms(row).map(|ms| ms / 1000), "last_active_at": row.last_active_ms / 1000,
        "metadata": serde_json::from_str::<Value>(&row.metadata).unwrap_or_default(),
    }))
}

fn counts_json(counts: FileCounts) -> Value {
    let FileCounts { in_progress, completed, failed, cancelled, .. } = counts;
    json!({"in_progress": in_progress, "completed": completed, "failed": failed, "cancelled": cancelled,
           "total": counts.total()})
}

fn attached_json(row: &AttachedRow) -> Value {
    let error = row.error.as_ref().map(|message| json!({"code": row.error_code, "message": message}));
    json!({
        "id": row.file_id, "object": "vector_store.file", "created_at": row.created_ms / 1000,
        "vector_store_id": row.store_id, "status": row.status, "usage_bytes": row.usage_bytes, "last_error": error,
        "attributes": library::attributes_of(row), "chunking_strategy": {"type": "other"},
    })
}

fn batch_json(id: &str, rows: &[AttachedRow]) -> Value {
    let counts = FileCounts::of(rows);
    let status = match counts {
        FileCounts { in_progress: 1.., .. } => "in_progress",
        FileCounts { cancelled: 1.., .. } => "cancelled",
        FileCounts { completed: 0, .. } => "failed",
        _ => "completed",
    };
    json!({
        "id": id, "object": "vector_store.file_batch", "status": status, "file_counts": counts_json(counts),
        "created_at": rows.iter().map(|row| row.created_ms / 1000).min(),
        "vector_store_id": rows.first().map(|row| &row.store_id),
    })
}

async fn shown(state: &AppState, caller: Caller<'_>, row: &VectorStoreRow) -> Result<Json<Value>, ApiError> {
    let rows = state.loaded()?.library.attached(caller, &row.id).await?;
    store_json(state, row, FileCounts::of(&rows)).map(Json)
}

/// Up to 16 entries with short names and values; `texts`: values are texts only.
fn entries(fields: &mut Fields, name: &str, texts: bool) -> Result<Option<String>, ApiError> {
    let path = fields.path(name);
    let map = match fields.take(name) {
        None => return Ok(None),
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong_type(&path, "an object", &other)),
    };
    if map.len() > ENTRIES {
        return Err(ApiError::invalid(path, format!("it has {} entries; the limit is {ENTRIES}", map.len())));
    }
    for (key, value) in &map {
        let at = format!("{path}.{key}");
        if key.chars().count() > ENTRY_NAME_CHARS {
            return Err(ApiError::invalid(path, format!("names have at most {ENTRY_NAME_CHARS} characters")));
        }
        match value {
            Value::String(text) if text.chars().count() > ENTRY_CHARS => {
                return Err(ApiError::invalid(at, format!("texts have at most {ENTRY_CHARS} characters")));
            }
            Value::String(_) => {}
            Value::Number(_) | Value::Bool(_) if !texts => {}
            other if texts => return Err(wrong_type(&at, "a text", other)),
            other => return Err(wrong_type(&at, "a text, a number, true or false", other)),
        }
    }
    Ok(Some(Value::Object(map).to_string()))
}

/// Chunks follow headings here, whatever is asked for: only `auto` is honest.
fn chunking(fields: &mut Fields) -> Result<(), ApiError> {
    let Some(value) = fields.take("chunking_strategy") else { return Ok(()) };
    let mut strategy = Fields::new(value, fields.path("chunking_strategy"))?;
    let kind = strategy.required_string("type")?;
    if kind != "auto" {
        let message =
            format!("{kind:?} is not supported: passages follow headings (knowledge.chunk_chars); send \"auto\"");
        return Err(ApiError::unsupported(fields.path("chunking_strategy.type"), message));
    }
    strategy.end()
}

/// `expires_after`, in days; `Some(None)` where it is null in an update.
fn expiry(fields: &mut Fields) -> Result<Option<Option<i64>>, ApiError> {
    let Some(value) = fields.take("expires_after") else { return Ok(None) };
    let mut after = Fields::new(value, "expires_after")?;
    let anchor = after.required_string("anchor")?;
    if anchor != "last_active_at" {
        let message = format!("it is {anchor:?}; it can be \"last_active_at\"");
        return Err(ApiError::invalid("expires_after.anchor", message));
    }
    let days = after.integer("days", 1..=365)?.ok_or_else(|| ApiError::missing("expires_after.days"))?;
    after.end()?;
    Ok(Some(Some(days)))
}

fn change(fields: &mut Fields, body_says_never: bool) -> Result<StoreChange, ApiError> {
    let name = fields.string("name")?;
    if name.as_ref().is_some_and(|name| name.chars().count() > MAX_NAME_CHARS) {
        return Err(ApiError::invalid("name", format!("\"name\" has at most {MAX_NAME_CHARS} characters")));
    }
    let metadata = entries(fields, "metadata", true)?;
    let expire_days = expiry(fields)?.or(body_says_never.then_some(None));
    fields.refuse(&[("description", "the name says what it is")])?;
    Ok(StoreChange { name, metadata, expire_days })
}

fn texts(value: Option<Value>, name: &str, most: usize) -> Result<Vec<String>, ApiError> {
    let list = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type(name, "a list of texts", &other)),
    };
    if list.len() > most {
        return Err(ApiError::invalid(name, format!("it has {} entries; the limit is {most}", list.len())));
    }
    let text = |(n, value): (usize, Value)| match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(&format!("{name}[{n}]"), "a text", &other)),
    };
    list.into_iter().enumerate().map(text).collect()
}

pub async fn create(
    State(state): State<AppState>,
    principal: Principal,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let caller = caller(&principal)?;
    let mut fields = Fields::new(body, "")?;
    let change = change(&mut fields, false)?;
    let files = texts(fields.take("file_ids"), "file_ids", MAX_FILES)?;
    chunking(&mut fields)?;
    fields.end()?;
    let row = state.loaded()?.library.create_store(caller, change, &files).await?;
    shown(&state, caller, &row).await
}

pub async fn list_stores(
    State(state): State<AppState>,
    principal: Principal,
    NamedQuery(query): NamedQuery<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let caller = caller(&principal)?;
    query.refuse_filter()?;
    query.refuse_purpose()?;
    let library = &state.loaded()?.library;
    let mut stores = Vec::new();
    for row in library.stores(caller).await? {
        let counts = FileCounts::of(&library.attached(caller, &row.id).await?);
        stores.push((row.id.clone(), store_json(&state, &row, counts)?));
    }
    list(stores, &query, 100, |(id, _)| id, |(_, shown)| shown.clone())
}

pub async fn get(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
) -> Result<Json<Value>, ApiError> {
    let caller = caller(&principal)?;
    let row = state.loaded()?.library.vector_store(caller, &id).await?;
    shown(&state, caller, &row).await
}

pub async fn update(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let caller = caller(&principal)?;
    let never = body.get("expires_after").is_some_and(Value::is_null);
    let mut fields = Fields::new(body, "")?;
    let change = change(&mut fields, never)?;
    fields.end()?;
    let row = state.loaded()?.library.update_store(caller, &id, change).await?;
    shown(&state, caller, &row).await
}

pub async fn delete(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
) -> Result<Json<Value>, ApiError> {
    state.loaded()?.library.delete_store(caller(&principal)?, &id).await?;
    Ok(Json(json!({"id": id, "object": "vector_store.deleted", "deleted": true})))
}

/// A search, validated.
fn search_wish(body: Value) -> Result<SearchWish, ApiError> {
    let mut fields = Fields::new(body, "")?;
    let queries = match fields.take("query") {
        None => return Err(ApiError::missing("query")),
        Some(Value::String(one)) => vec![one],
        Some(many) => texts(Some(many), "query", MAX_QUERIES)?,
    };
    if queries.is_empty() || queries.iter().any(|query| query.trim().is_empty()) {
        return Err(ApiError::invalid("query", "\"query\" is empty"));
    }
    if queries.iter().any(|query| query.chars().count() > MAX_QUERY_CHARS) {
        return Err(ApiError::invalid("query", format!("a query has at most {MAX_QUERY_CHARS} characters")));
    }
    let filter = fields.take("filters").map(|filter| Filter::read(&filter, "filters")).transpose();
    let filter = filter.map_err(|(at, message)| ApiError::invalid(at, message))?;
    let max_results = fields.count("max_num_results", 1..=50)?.unwrap_or(10);
    if fields.boolean("rewrite_query")? == Some(true) {
        let message = "\"rewrite_query\" is not supported: the search itself mends spelling and knows word forms";
        return Err(ApiError::unsupported("rewrite_query", message));
    }
    let mut score_threshold = 0.0;
    if let Some(options) = fields.take("ranking_options") {
        let mut options = Fields::new(options, "ranking_options")?;
        score_threshold = options.number("score_threshold", 0.0..=1.0)?.unwrap_or(0.0);
        if let Some(ranker) = options.string("ranker")?.filter(|ranker| ranker != "auto") {
            let message = format!("{ranker:?} is not here; send \"auto\" (models.rerank sets a reranker)");
            return Err(ApiError::unsupported("ranking_options.ranker", message));
        }
        options.end()?;
    }
    fields.end()?;
    Ok(SearchWish { queries, filter, max_results, score_threshold })
}

pub async fn search(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let caller = caller(&principal)?;
    let wish = search_wish(body)?;
    let loaded = state.loaded()?;
    let _admission = state.admit()?;
    let limit = state.request_timeout();
    let queries = wish.queries.clone();
    let searching = loaded.library.search(caller, &id, wish);
    let hits = tokio::time::timeout(limit, searching).await.map_err(|_| ApiError::timeout(limit.as_secs()))??;
    let data: Vec<Value> = hits
        .into_iter()
        .map(|hit| {
            json!({"file_id": hit.file_id, "filename": hit.filename, "score": hit.score, "attributes": hit.attributes,
                   "content": [{"type": "text", "text": hit.text}]})
        })
        .collect();
    Ok(Json(json!({
        "object": "vector_store.search_results.page", "search_query": queries, "data": data, "has_more": false,
        "next_page": null,
    })))
}

pub async fn attach(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let caller = caller(&principal)?;
    let mut fields = Fields::new(body, "")?;
    let file = fields.required_string("file_id")?;
    let attributes = entries(&mut fields, "attributes", false)?.unwrap_or_else(|| "{}".into());
    chunking(&mut fields)?;
    fields.end()?;
    let library = &state.loaded()?.library;
    library.attach(caller, &id, &[(file.clone(), attributes)], None).await?;
    Ok(Json(attached_json(&library.attached_file(caller, &id, &file).await?)))
}

/// A page of a store's files, of all or of a batch.
fn list_attached(mut rows: Vec<AttachedRow>, query: &ListQuery) -> Result<Json<Value>, ApiError> {
    query.refuse_purpose()?;
    if let Some(status) = &query.filter {
        let known = ["in_progress", "completed", "failed", "cancelled"];
        if !known.contains(&status.as_str()) {
            let message = format!("\"filter\" is {status:?}; there are: {}", known.join(", "));
            return Err(ApiError::invalid("filter", message));
        }
        rows.retain(|row| row.status == *status);
    }
    list(rows, query, 100, |row| &row.file_id, attached_json)
}

pub async fn list_files(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
    NamedQuery(query): NamedQuery<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    list_attached(state.loaded()?.library.attached(caller(&principal)?, &id).await?, &query)
}

pub async fn get_file(
    State(state): State<AppState>,
    principal: Principal,
    PathPair(id, file): PathPair,
) -> Result<Json<Value>, ApiError> {
    let row = state.loaded()?.library.attached_file(caller(&principal)?, &id, &file).await?;
    Ok(Json(attached_json(&row)))
}

pub async fn update_file(
    State(state): State<AppState>,
    principal: Principal,
    PathPair(id, file): PathPair,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let mut fields = Fields::new(body, "")?;
    let attributes = entries(&mut fields, "attributes", false)?.ok_or_else(|| ApiError::missing("attributes"))?;
    fields.end()?;
    let library = &state.loaded()?.library;
    let row = library.set_attributes(caller(&principal)?, &id, &file, &attributes).await?;
    Ok(Json(attached_json(&row)))
}

pub async fn detach(
    State(state): State<AppState>,
    principal: Principal,
    PathPair(id, file): PathPair,
) -> Result<Json<Value>, ApiError> {
    state.loaded()?.library.detach(caller(&principal)?, &id, &file).await?;
    Ok(Json(json!({"id": file, "object": "vector_store.file.deleted", "deleted": true})))
}

pub async fn file_content(
    State(state): State<AppState>,
    principal: Principal,
    PathPair(id, file): PathPair,
) -> Result<Json<Value>, ApiError> {
    let texts = state.loaded()?.library.text_of(caller(&principal)?, &id, &file).await?;
    let data: Vec<Value> = texts.into_iter().map(|text| json!({"type": "text", "text": text})).collect();
    Ok(Json(json!({
        "object": "vector_store.file_content.page", "data": data, "has_more": false, "next_page": null,
    })))
}

/// The files of a batch with their attributes: `file_ids` with common ones, or `files` with each its own.
fn batch_files(body: Value) -> Result<Vec<(String, String)>, ApiError> {
    let mut fields = Fields::new(body, "")?;
    let common = entries(&mut fields, "attributes", false)?;
    let ids = texts(fields.take("file_ids"), "file_ids", MAX_FILES)?;
    let files = fields.take("files");
    chunking(&mut fields)?;
    fields.end()?;
    let none = || Value::Object(Map::new()).to_string();
    let list = match files {
        None if ids.is_empty() => return Err(ApiError::missing("file_ids")),
        None => return Ok(ids.into_iter().map(|id| (id, common.clone().unwrap_or_else(none))).collect()),
        Some(_) if !ids.is_empty() => {
            return Err(ApiError::invalid("files", "send \"file_ids\" or \"files\", not both"));
        }
        Some(Value::Array(list)) if (1..=MAX_FILES).contains(&list.len()) => list,
        Some(Value::Array(list)) => {
            let message = format!("it has {} entries; there can be 1 to {MAX_FILES}", list.len());
            return Err(ApiError::invalid("files", message));
        }
        Some(other) => return Err(wrong_type("files", "a list", &other)),
    };
    let file = |(n, value): (usize, Value)| -> Result<(String, String), ApiError> {
        let mut fields = Fields::new(value, format!("files[{n}]"))?;
        let id = fields.required_string("file_id")?;
        let attributes = entries(&mut fields, "attributes", false)?.or_else(|| common.clone());
        chunking(&mut fields)?;
        fields.end()?;
        Ok((id, attributes.unwrap_or_else(none)))
    };
    list.into_iter().enumerate().map(file).collect()
}

pub async fn create_batch(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let caller = caller(&principal)?;
    let files = batch_files(body)?;
    let library = &state.loaded()?.library;
    let batch = format!("vsfb_{}", uuid::Uuid::new_v4().simple());
    library.attach(caller, &id, &files, Some(&batch)).await?;
    batch_shown(library, caller, &id, &batch, false).await
}

async fn batch_shown(
    library: &Library,
    caller: Caller<'_>,
    id: &str,
    batch: &str,
    cancel: bool,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(batch_json(batch, &library.batch(caller, id, batch, cancel).await?)))
}

pub async fn get_batch(
    State(state): State<AppState>,
    principal: Principal,
    PathPair(id, batch): PathPair,
) -> Result<Json<Value>, ApiError> {
    batch_shown(&state.loaded()?.library, caller(&principal)?, &id, &batch, false).await
}

pub async fn cancel_batch(
    State(state): State<AppState>,
    principal: Principal,
    PathPair(id, batch): PathPair,
) -> Result<Json<Value>, ApiError> {
    batch_shown(&state.loaded()?.library, caller(&principal)?, &id, &batch, true).await
}

pub async fn list_batch(
    State(state): State<AppState>,
    principal: Principal,
    PathPair(id, batch): PathPair,
    NamedQuery(query): NamedQuery<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    list_attached(state.loaded()?.library.batch(caller(&principal)?, &id, &batch, false).await?, &query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_search_cannot_do_is_refused_by_name() {
        let refused = |body: Value| {
            let error = search_wish(body).unwrap_err();
            (error.code, error.param.unwrap_or_default())
        };
        assert_eq!(refused(json!({})), ("missing_required_parameter", "query".into()));
        assert_eq!(refused(json!({"query": " "})), ("invalid_value", "query".into()));
        assert_eq!(refused(json!({"query": "a", "rewrite_query": true})).1, "rewrite_query");
        assert_eq!(refused(json!({"query": "a", "max_num_results": 51})).1, "max_num_results");
        assert_eq!(refused(json!({"query": "a", "ranking_options": {"ranker": "best"}})).1, "ranking_options.ranker");
        assert_eq!(refused(json!({"query": "a", "filters": {"type": "eq"}})).1, "filters.key");
        assert_eq!(refused(json!({"query": "a", "colour": 1})), ("unknown_parameter", "colour".into()));
        let wish = search_wish(json!({"query": ["a", "b"], "rewrite_query": false, "max_num_results": 3,
            "ranking_options": {"ranker": "auto", "score_threshold": 0.25}}));
        assert_eq!(
            wish.unwrap(),
            SearchWish { queries: vec!["a".into(), "b".into()], filter: None, max_results: 3, score_threshold: 0.25 }
        );
    }

    #[test]
    fn attributes_and_metadata_are_held_to_openais_limits() {
        let check = |value: Value, texts: bool| entries(&mut Fields::new(json!({"a": value}), "").unwrap(), "a", texts);
        assert!(check(json!({"lang": "en", "year": 2026, "public": true}), false).is_ok());
        assert_eq!(check(json!({"year": 2026}), true).unwrap_err().param.as_deref(), Some("a.year"));
        assert!(check(json!({"x": "a".repeat(513)}), false).is_err());
        assert!(check(json!({"x": [1]}), false).is_err());
        let many: Map<String, Value> = (0..17).map(|n| (n.to_string(), json!(n))).collect();
        assert!(check(Value::Object(many), false).is_err());
    }

    #[test]
    fn only_chunks_by_headings_are_promised() {
        let ask = |strategy: Value| chunking(&mut Fields::new(json!({"chunking_strategy": strategy}), "").unwrap());
        assert!(ask(json!({"type": "auto"})).is_ok());
        let fixed = json!({"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}});
        assert_eq!(ask(fixed).unwrap_err().code, "unsupported_parameter");
    }
}
