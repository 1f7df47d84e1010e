//! `GET /kb/{path}`: what answers point to. Images of the pack byte for byte, also those inside a ZIP or DOCX; a PDF
//! as it is, so that a link opens it at its page; other articles, the FAQ and the app map as pages. Only files that the knowledge itself refers to are known here; nothing is looked up by the path that was
//! asked for, and job instructions are never among them.
//!
//! Open to all, since customers' browsers follow these links.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{self, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

use super::page::article::{article_page, list_page};
use super::state::AppState;
use super::wire::error::ApiError;
use crate::config::KnowledgeSettings;
use crate::kb::documents::{Archive, Limits, extension};
use crate::kb::{Asset, Pack, Snapshot};

/// Images that browsers may show, by the end of the name.
const IMAGES: [(&str, &str); 7] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("svg", "image/svg+xml"),
];

/// An SVG is a document: opened by itself, it must run nothing and load nothing.
const IMAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// What a path of the pack shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image(&'static str),
    Article,
    /// A document that browsers show themselves.
    Pdf,
    Faq,
    AppMap,
}

/// The public files of the last snapshot that was asked about.
#[derive(Default)]
pub struct PublicFiles(Mutex<Option<(String, Arc<HashMap<String, Kind>>)>>);

impl PublicFiles {
    fn of(&self, snapshot: &Snapshot) -> Arc<HashMap<String, Kind>> {
        let mut last = self.0.lock();
        match &*last {
            Some((version, files)) if version == snapshot.version() => files.clone(),
            _ => {
                let files = Arc::new(public_files(snapshot));
                *last = Some((snapshot.version().to_string(), files.clone()));
                files
            }
        }
    }
}

fn public_files(snapshot: &Snapshot) -> HashMap<String, Kind> {
    let pack = snapshot.pack();
    let mut files = HashMap::new();
    let kind = |path: &str| if extension(path) == "pdf" { Kind::Pdf } else { Kind::Article };
    files.extend(pack.articles.iter().map(|article| (article.path.clone(), kind(&article.path))));
    files.extend(pack.faq.iter().map(|entry| (entry.path.clone(), Kind::Faq)));
    if !pack.app_map.is_empty() {
        files.insert("app-map.yaml".to_string(), Kind::AppMap);
    }
    let of_chunks = snapshot.chunks().iter().flat_map(|chunk| &chunk.assets).filter_map(|asset| match asset {
        Asset::Image { path, .. } => Some(path.as_str()),
        _ => None,
    });
    let of_app_map = pack.app_map.iter().filter_map(|entry| entry.image.as_deref());
    for path in of_chunks.chain(of_app_map) {
        if let Some(content_type) = image_type(path).filter(|_| !path.contains("://")) {
            files.insert(path.to_string(), Kind::Image(content_type));
        }
    }
    files
}

fn image_type(path: &str) -> Option<&'static str> {
    let (_, end) = path.rsplit_once('.')?;
    IMAGES.iter().find(|(known, _)| end.eq_ignore_ascii_case(known)).map(|(_, content_type)| *content_type)
}

pub async fn get(State(state): State<AppState>, path: extract::Path<String>) -> Result<Response, ApiError> {
    let loaded = state.loaded()?;
    let snapshot = loaded.knowledge.snapshot();
    let pack = snapshot.pack();
    let unknown = || {
        let message = format!("the knowledge pack has no public file {:?}", *path);
        ApiError::new(StatusCode::NOT_FOUND, "file_not_found", message)
    };
    match loaded.public_files.of(&snapshot).get(path.as_str()).copied().ok_or_else(unknown)? {
        Kind::Image(content_type) => {
            let settings = &state.settings().knowledge;
            let bytes = image(pack.place(&path), settings).await.ok_or_else(unknown)?;
            let policy = HeaderName::from_static("content-security-policy");
            let mut response = ([(header::CONTENT_TYPE, content_type)], bytes).into_response();
            response.headers_mut().insert(policy, HeaderValue::from_static(IMAGE_POLICY));
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
            Ok(response)
        }
        Kind::Pdf => {
            let most = state.settings().knowledge.max_document_bytes;
            let bytes = file(pack.place(&path), most).await.ok_or_else(unknown)?;
            let cache = [(header::CONTENT_TYPE, "application/pdf"), (header::CACHE_CONTROL, "public, max-age=300")];
            Ok((cache, bytes).into_response())
        }
        Kind::Article => {
            let article = pack.articles.iter().find(|article| article.path == *path).ok_or_else(unknown)?;
            Ok(article_page(&pack.company.name, &article.lang, &article.title, &article.text))
        }
        Kind::Faq => Ok(faq_page(pack, &path)),
        Kind::AppMap => Ok(app_map_page(pack)),
    }
}

/// An image, of the pack or in a file of it (`articles/guide.zip/images/a.png`).
async fn image((dir, path): (&Path, &str), settings: &KnowledgeSettings) -> Option<Vec<u8>> {
    if let Some(bytes) = file((dir, path), settings.max_file_bytes).await {
        return Some(bytes);
    }
    let ends = path.match_indices('/').map(|(at, _)| at);
    let (outer, inner) = ends.map(|at| (&path[..at], &path[at + 1..])).find(|(outer, _)| Archive::is_one(outer))?;
    let bytes = file((dir, outer), settings.max_document_bytes).await?;
    let limits = Limits { max_bytes: settings.max_file_bytes, ..Limits::of(settings) };
    let inner = inner.to_string();
    let unpacked = move || Archive::open(&bytes, &limits).ok()?.read(&inner).ok();
    tokio::task::spawn_blocking(unpacked).await.ok()?
}

/// The file's bytes, if it lies inside the pack, links followed, and is not larger than the pack's files may be.
async fn file((dir, path): (&Path, &str), max_bytes: u64) -> Option<Vec<u8>> {
    let dir = tokio::fs::canonicalize(dir).await.ok()?;
    let file = tokio::fs::canonicalize(dir.join(path)).await.ok()?;
    let size = tokio::fs::metadata(&file).await.ok()?.len();
    if !file.starts_with(&dir) || size > max_bytes {
        return None;
    }
    tokio::fs::read(file).await.ok()
}

fn faq_page(pack: &Pack, path: &str) -> Response {
    let entries = pack.faq.iter().filter(|entry| entry.path == path);
    let question = |questions: &[String]| questions.first().cloned().unwrap_or_default();
    let items = entries.map(|entry| (format!("L{}", entry.line), question(&entry.questions), entry.answer.clone()));
    list_page(&pack.company.name, "FAQ", items)
}

fn app_map_page(pack: &Pack) -> Response {
    let items = pack.app_map.iter().map(|entry| {
        let paths: Vec<String> = entry.path.values().map(|labels| labels.join(" → ")).collect();
        let help: Vec<&str> = entry.help.values().map(String::as_str).collect();
        (entry.id.clone(), paths.join(" · "), help.join("\n\n"))
    });
    list_page(&pack.company.name, "App map", items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_their_names_end() {
        assert_eq!(image_type("a/b.PNG"), Some("image/png"));
        assert_eq!(image_type("a/b.html"), None);
        assert_eq!(image_type("png"), None);
    }

    #[tokio::test]
    async fn a_link_that_leads_out_of_the_pack_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let pack = dir.path().join("pack");
        std::fs::create_dir(&pack).unwrap();
        std::fs::write(dir.path().join("secret.png"), b"s").unwrap();
        std::fs::write(pack.join("a.png"), b"abc").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret.png"), pack.join("b.png")).unwrap();
        assert_eq!(file((&pack, "a.png"), 3).await.as_deref(), Some(&b"abc"[..]));
        assert_eq!(file((&pack, "a.png"), 2).await, None);
        assert_eq!(file((&pack, "b.png"), 3).await, None);
        assert_eq!(file((&pack, "../secret.png"), 3).await, None);
    }
}
