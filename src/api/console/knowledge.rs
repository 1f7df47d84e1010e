//! The knowledge at the console: list, search, read, edit, preview, try.

use std::collections::HashMap;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::session::Staff;
use super::typed;
use crate::api::body::JsonBody;
use crate::api::page::article::markdown_html;
use crate::api::state::AppState;
use crate::api::wire::error::ApiError;
use crate::desk::knowledge::{Edit, EditError, Item, ItemContent, Written};

/// Items on a page unless asked otherwise, and at most.
const PAGE: usize = 50;
const LONGEST_PAGE: usize = 200;

type Fields = Result<Query<HashMap<String, String>>, QueryRejection>;

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/knowledge", get(list))
        .route("/knowledge/item", get(item).put(edit).delete(delete))
        .route("/knowledge/faq", post(add))
        .route("/knowledge/preview", post(preview))
        .route("/knowledge/try", post(try_question))
}

/// Fields of a new or changed item.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EditBody {
    question: Option<String>,
    answer: Option<String>,
    lang: Option<String>,
    tags: Option<Vec<String>>,
    markdown: Option<String>,
    version: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PreviewBody {
    markdown: String,
    /// The article that it is, so that its images are found.
    #[serde(default)]
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TryBody {
    question: String,
}

async fn list(State(state): State<AppState>, _staff: Staff, fields: Fields) -> Result<Json<Value>, ApiError> {
    let fields = read_fields(fields)?;
    let text = |name: &str| fields.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let number = |name: &str, otherwise: usize| match text(name) {
        None => Ok(otherwise),
        Some(value) => value
            .parse()
            .map_err(|_| ApiError::invalid(name, format!("{name} is {value:?}; it must be a whole number"))),
    };
    let kind = text("kind");
    if let Some(kind) = kind.filter(|kind| !["faq", "article", "desk"].contains(kind)) {
        return Err(ApiError::invalid("kind", format!("kind is {kind:?}; it must be faq, article or desk")));
    }
    let (offset, limit) = (number("cursor", 0)?, number("limit", PAGE)?.clamp(1, LONGEST_PAGE));
    let query = text("query").unwrap_or_default();
    let (items, next) = state.loaded()?.curator.list(query, kind, offset, limit).await?;
    Ok(Json(json!({"items": items, "next": next.map(|next| next.to_string())})))
}

async fn item(State(state): State<AppState>, _staff: Staff, fields: Fields) -> Result<Json<Value>, ApiError> {
    let item = state.loaded()?.curator.item(&id_of(fields)?).await?;
    Ok(Json(shown(&item)))
}

async fn edit(
    State(state): State<AppState>,
    staff: Staff,
    fields: Fields,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let id = id_of(fields)?;
    let (edit, version) = read_edit(body)?;
    let version = version.ok_or_else(|| ApiError::missing("version"))?;
    written(&state, state.loaded()?.curator.edit(&staff.name, &id, &version, edit).await?).await
}

async fn add(
    State(state): State<AppState>,
    staff: Staff,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (edit, _) = read_edit(body)?;
    let made = written(&state, state.loaded()?.curator.add_faq(&staff.name, edit).await?).await?;
    Ok((StatusCode::CREATED, made))
}

async fn delete(State(state): State<AppState>, staff: Staff, fields: Fields) -> Result<Json<Value>, ApiError> {
    let id = id_of(fields)?;
    written(&state, state.loaded()?.curator.delete(&staff.name, &id).await?).await
}

async fn preview(_staff: Staff, JsonBody(body): JsonBody) -> Result<Json<Value>, ApiError> {
    let PreviewBody { markdown, path } = typed(body)?;
    Ok(Json(json!({"html": markdown_html(&markdown, folder_of(&path))})))
}

/// What retrieval finds now.
async fn try_question(
    State(state): State<AppState>,
    _staff: Staff,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let TryBody { question } = typed(body)?;
    if question.trim().is_empty() {
        return Err(ApiError::invalid("question", "it is empty"));
    }
    let support = state.loaded()?.support.clone();
    let found = tokio::task::spawn_blocking(move || support.find(&question)).await.map_err(ApiError::internal)??;
    let items: Vec<Value> =
        found.iter().take(10).map(|f| json!({"id": f.id, "kind": f.kind, "title": f.title, "fit": f.fit})).collect();
    Ok(Json(json!({"items": items, "next": null})))
}

/// What was written, told to everybody at the desk.
pub(super) async fn written(state: &AppState, written: Written) -> Result<Json<Value>, ApiError> {
    let told = state.loaded()?.store.announce("knowledge", None, &json!({"id": written.id})).await;
    if let Err(error) = told {
        tracing::warn!(%error, "a change of the knowledge was not announced");
    }
    Ok(Json(json!(written)))
}

fn shown(item: &Item) -> Value {
    let mut value = item.to_json();
    value["html"] = match &item.content {
        ItemContent::Faq(faq) => json!(markdown_html(&faq.answer, "")),
        ItemContent::Article { markdown } => json!(markdown_html(without_front(markdown), folder_of(&item.line.path))),
    };
    value
}

/// An article's text without its front matter.
fn without_front(markdown: &str) -> &str {
    let rest = markdown.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n"));
    rest.map_or(markdown, |(_, text)| text)
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn read_fields(fields: Fields) -> Result<HashMap<String, String>, ApiError> {
    let Query(fields) = fields.map_err(|error| ApiError::invalid("query", error.body_text()))?;
    Ok(fields)
}

fn id_of(fields: Fields) -> Result<String, ApiError> {
    read_fields(fields)?.remove("id").filter(|id| !id.is_empty()).ok_or_else(|| ApiError::missing("id"))
}

fn read_edit(body: Value) -> Result<(Edit, Option<String>), ApiError> {
    let EditBody { question, answer, lang, tags, markdown, version } = typed(body)?;
    Ok((Edit { question, answer, lang, tags, markdown }, version))
}

impl From<EditError> for ApiError {
    fn from(error: EditError) -> Self {
        let message = error.to_string();
        match error {
            EditError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "not_found", message).on("id"),
            EditError::Stale => Self::new(StatusCode::CONFLICT, "stale", message).on("version"),
            EditError::Invalid { field, .. } => Self::invalid(field, message),
            EditError::Store(_) | EditError::Knowledge(_) => Self::internal(message),
        }
    }
}
