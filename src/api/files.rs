//! `/v1/files`: what clients upload, to be attached to vector stores. A file is kept, whole, before its upload is answered.

use std::convert::Infallible;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::{Principal, Scope};
use super::body;
use super::listing::{ListQuery, list};
use super::path::{NamedQuery, PathText};
use super::state::AppState;
use super::wire::error::ApiError;
use crate::library::{Caller, LibraryError};
use crate::store::library::FileRow;

/// What OpenAI's purposes are here: material to search.
const PURPOSES: [&str; 2] = ["assistants", "user_data"];
/// Longest name of a file, in characters.
const MAX_NAME_CHARS: usize = 256;
/// What a form takes beside the file itself, in bytes.
const FORM_BYTES: usize = 64 << 10;
/// How long a file may live, in seconds: an hour to thirty days.
const LIFE_S: std::ops::RangeInclusive<i64> = 3_600..=2_592_000;

/// Who asks, for the library.
pub fn caller(principal: &Principal) -> Result<Caller<'_>, ApiError> {
    principal.require(Scope::Files)?;
    Ok(Caller { key_name: &principal.key_name, knowledge: principal.may(Scope::Knowledge) })
}

fn file_json(file: &FileRow) -> Value {
    json!({
        "id": file.id, "object": "file", "bytes": file.bytes, "created_at": file.created_ms / 1000,
        "expires_at": file.expires_ms.map(|ms| ms / 1000), "filename": file.filename, "purpose": file.purpose,
        "status": "processed", "status_details": null,
    })
}

/// The parts of an upload.
#[derive(Debug, Default, PartialEq)]
struct Upload {
    filename: String,
    content: Option<Vec<u8>>,
    purpose: Option<String>,
    expires_anchor: Option<String>,
    expires_s: Option<i64>,
}

/// Reads a form (RFC 7578) that is in memory, whole.
async fn upload_of(content_type: &str, body: Vec<u8>) -> Result<Upload, ApiError> {
    let boundary = multer::parse_boundary(content_type).map_err(|_| {
        let message = format!("the content type is {content_type:?}; send the file as multipart/form-data");
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    })?;
    let broken = |e: multer::Error| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", format!("the form cannot be read: {e}"))
    };
    let chunk = axum::body::Bytes::from(body);
    let stream = futures::stream::once(async move { Ok::<_, Infallible>(chunk) });
    let mut form = multer::Multipart::new(stream, boundary);
    let mut upload = Upload::default();
    while let Some(field) = form.next_field().await.map_err(broken)? {
        let name = field.name().unwrap_or_default().to_string();
        if name == "file" {
            if upload.content.is_some() {
                return Err(ApiError::invalid("file", "\"file\" was sent twice; upload one file at a time"));
            }
            let Some(filename) = field.file_name().map(str::trim).filter(|name| !name.is_empty()) else {
                return Err(ApiError::invalid("file", "\"file\" has no file name, which says what kind of file it is"));
            };
            if filename.chars().count() > MAX_NAME_CHARS || filename.chars().any(char::is_control) {
                let message = format!("the file's name must have at most {MAX_NAME_CHARS} plain characters");
                return Err(ApiError::invalid("file", message));
            }
            upload.filename = filename.to_string();
            upload.content = Some(field.bytes().await.map_err(broken)?.to_vec());
            continue;
        }
        let text = field.text().await.map_err(broken)?;
        match name.as_str() {
            "purpose" => upload.purpose = Some(text),
            "expires_after[anchor]" => upload.expires_anchor = Some(text),
            "expires_after[seconds]" => {
                let seconds = text.parse::<i64>().ok().filter(|seconds| LIFE_S.contains(seconds));
                let (low, high) = LIFE_S.into_inner();
                let message = format!("it is {text:?}; it must be between {low} and {high} seconds");
                upload.expires_s = Some(seconds.ok_or_else(|| ApiError::invalid("expires_after[seconds]", message))?);
            }
            _ => {
                let message = format!("there is no parameter {name:?} here");
                return Err(ApiError { code: "unknown_parameter", ..ApiError::unsupported(name, message) });
            }
        }
    }
    Ok(upload)
}

/// A web page can post a form to a server on its reader's machine without being asked: then its origin must be known.
fn refuse_strange_origin(state: &AppState, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let allowed = &state.settings().server.cors_origins;
    if origin == state.public_url() || allowed.iter().any(|known| known == origin || known == "*") {
        return Ok(());
    }
    let message = format!("pages of {origin:?} may not upload files here (server.cors_origins)");
    Err(ApiError::new(StatusCode::FORBIDDEN, "origin_not_allowed", message))
}

pub async fn create(
    State(state): State<AppState>,
    principal: Principal,
    headers: HeaderMap,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let caller = caller(&principal)?;
    refuse_strange_origin(&state, &headers)?;
    let loaded = state.loaded()?;
    let library = &loaded.library;
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let most = usize::try_from(library.max_file_bytes()).unwrap_or(usize::MAX).saturating_add(FORM_BYTES);
    let _place = library.place_to_receive().await;
    let limit = state.request_timeout();
    let reading = body::read(request.into_body(), most, "files.max_file_bytes");
    let bytes = tokio::time::timeout(limit, reading).await.map_err(|_| ApiError::timeout(limit.as_secs()))??;
    let upload = upload_of(content_type, bytes).await?;
    let content = upload.content.ok_or_else(|| ApiError::missing("file"))?;
    if content.len() as u64 > library.max_file_bytes() {
        let what = format!("the file has {} bytes", content.len());
        let (limit, setting) = (library.max_file_bytes(), "files.max_file_bytes");
        let error = ApiError::from(LibraryError::Limit { what, limit, setting });
        return Err(ApiError { status: StatusCode::PAYLOAD_TOO_LARGE, ..error }.on("file"));
    }
    let purpose = upload.purpose.ok_or_else(|| ApiError::missing("purpose"))?;
    if !PURPOSES.contains(&purpose.as_str()) {
        let message = format!("{purpose:?} is not supported; files here are to be searched: {}", PURPOSES.join(", "));
        return Err(ApiError::unsupported("purpose", message));
    }
    if let Some(anchor) = upload.expires_anchor.filter(|anchor| anchor != "created_at") {
        let message = format!("it is {anchor:?}; it can be \"created_at\"");
        return Err(ApiError::invalid("expires_after[anchor]", message));
    }
    let file = library.add_file(caller, (&upload.filename, &purpose), &content, upload.expires_s).await?;
    Ok(Json(file_json(&file)))
}

pub async fn list_files(
    State(state): State<AppState>,
    principal: Principal,
    NamedQuery(query): NamedQuery<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let mut files = state.loaded()?.library.files(caller(&principal)?).await?;
    query.refuse_filter()?;
    files.retain(|file| query.purpose.as_ref().is_none_or(|purpose| file.purpose == *purpose));
    list(files, &query, 10_000, |file| &file.id, file_json)
}

pub async fn get(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(file_json(&state.loaded()?.library.file(caller(&principal)?, &id).await?)))
}

pub async fn content(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
) -> Result<Response, ApiError> {
    let (_, content) = state.loaded()?.library.content(caller(&principal)?, &id).await?;
    let mut response = Response::new(Body::from(content));
    // What somebody uploaded is never shown as a page of this server.
    for (name, value) in [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response.into_response())
}

pub async fn delete(
    State(state): State<AppState>,
    principal: Principal,
    PathText(id): PathText,
) -> Result<Json<Value>, ApiError> {
    state.loaded()?.library.delete_file(caller(&principal)?, &id).await?;
    Ok(Json(json!({"id": id, "object": "file", "deleted": true})))
}

impl From<LibraryError> for ApiError {
    fn from(error: LibraryError) -> Self {
        let message = error.to_string();
        let (status, code) = match error {
            LibraryError::NoFile(_) | LibraryError::NotAttached { .. } => (StatusCode::NOT_FOUND, "file_not_found"),
            LibraryError::NoStore(_) => (StatusCode::NOT_FOUND, "vector_store_not_found"),
            LibraryError::NoBatch(..) => (StatusCode::NOT_FOUND, "batch_not_found"),
            LibraryError::Expired(_) => (StatusCode::BAD_REQUEST, "vector_store_expired"),
            LibraryError::Pack(_) => (StatusCode::BAD_REQUEST, "knowledge_pack"),
            LibraryError::NotAllowed => (StatusCode::FORBIDDEN, "insufficient_scope"),
            LibraryError::Limit { .. } => (StatusCode::BAD_REQUEST, "limit_reached"),
            LibraryError::Store(_) | LibraryError::Knowledge(_) => return Self::internal(message),
        };
        Self::new(status, code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &str = "multipart/form-data; boundary=xyz";

    fn form(parts: &[(&str, &str)]) -> Vec<u8> {
        let part =
            |(head, body): &(&str, &str)| format!("--xyz\r\nContent-Disposition: form-data; {head}\r\n\r\n{body}\r\n");
        format!("{}--xyz--\r\n", parts.iter().map(part).collect::<String>()).into_bytes()
    }

    #[tokio::test]
    async fn a_form_gives_the_file_byte_for_byte_and_its_fields() {
        let body = form(&[
            ("name=\"purpose\"", "assistants"),
            ("name=\"file\"; filename=\"a.md\"", "# A\r\n--xy\n"),
            ("name=\"expires_after[anchor]\"", "created_at"),
            ("name=\"expires_after[seconds]\"", "3600"),
        ]);
        let upload = upload_of(FORM, body).await.unwrap();
        assert_eq!((upload.filename.as_str(), upload.content.as_deref()), ("a.md", Some(&b"# A\r\n--xy\n"[..])));
        assert_eq!((upload.purpose.as_deref(), upload.expires_s), (Some("assistants"), Some(3600)));
    }

    #[tokio::test]
    async fn a_form_that_cannot_be_read_is_told_why() {
        let fault =
            |content_type: &'static str, body: Vec<u8>| async move { upload_of(content_type, body).await.unwrap_err() };
        assert_eq!(fault("application/json", Vec::new()).await.code, "unsupported_media_type");
        assert_eq!(fault(FORM, b"--xyz\r\nbroken".to_vec()).await.code, "invalid_body");
        assert_eq!(fault(FORM, form(&[("name=\"colour\"", "red")])).await.param.as_deref(), Some("colour"));
        assert_eq!(fault(FORM, form(&[("name=\"file\"", "x")])).await.param.as_deref(), Some("file"));
        let twice = [("name=\"file\"; filename=\"a\"", "x"), ("name=\"file\"; filename=\"b\"", "y")];
        assert!(fault(FORM, form(&twice)).await.message.contains("twice"));
        let soon = fault(FORM, form(&[("name=\"expires_after[seconds]\"", "5")])).await;
        assert!(soon.message.contains("between 3600 and 2592000"), "{}", soon.message);
    }
}
