//! A search of a vector store.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::indexing::{blocking, file_id};
use super::{Caller, Filter, Library, LibraryError, PACK, attributes_of, is_expired};
use crate::kb::chunk::whole_text;
use crate::kb::{Chunk, Passage, SearchQuery, SourceKind};

/// Passages that are looked through where a filter, or a file that was taken out, may leave many out.
const DEPTH: usize = 400;

/// What is looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchWish {
    pub queries: Vec<String>,
    pub filter: Option<Filter>,
    pub max_results: usize,
    /// Leave out what scores less.
    pub score_threshold: f32,
}

/// A passage that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The uploaded file; for pages of the pack's own folder, their path.
    pub file_id: String,
    pub filename: String,
    pub attributes: Map<String, Value>,
    /// Likeness of meaning, 0 to 1; where vectors do not serve the language, the share of the query's words.
    pub score: f32,
    /// Markdown, code and tables in their places.
    pub text: String,
}

impl Library {
    /// Passages of the store that fit, best first.
    ///
    /// # Errors
    /// There is no such store, or it has expired.
    pub async fn search(&self, caller: Caller<'_>, id: &str, wish: SearchWish) -> Result<Vec<Hit>, LibraryError> {
        let row = self.vector_store(caller, id).await?;
        if is_expired(&row) {
            return Err(LibraryError::Expired(id.into()));
        }
        self.store.touch_vector_store(id).await?;
        let snapshot = self.snapshot(id).await?;
        let attached = self.store.attached_files(id).await?;
        let files: HashMap<String, (String, Map<String, Value>)> = attached
            .into_iter()
            .map(|row| {
                let attributes = attributes_of(&row).as_object().cloned().unwrap_or_default();
                (row.file_id, (row.filename, attributes))
            })
            .collect();
        let pack = id == PACK;
        blocking(move || {
            let mut lists = Vec::new();
            for text in &wish.queries {
                let kinds = [SourceKind::Article, SourceKind::Faq, SourceKind::AppMap];
                let query = SearchQuery { text, kinds: &kinds, limit: DEPTH, ..SearchQuery::default() };
                let found = snapshot.search(&query)?;
                let hits = found.iter().filter_map(|passage| hit(passage, &files, pack));
                let wanted = |hit: &Hit| {
                    hit.score >= wish.score_threshold
                        && wish.filter.as_ref().is_none_or(|filter| filter.passes(&hit.attributes))
                };
                lists.push(hits.filter(wanted).take(wish.max_results).collect::<Vec<_>>());
            }
            Ok(merged(lists, wish.max_results))
        })
        .await?
    }
}

/// `None` for a file that was taken out since the index was made.
fn hit(passage: &Passage, files: &HashMap<String, (String, Map<String, Value>)>, pack: bool) -> Option<Hit> {
    let chunk: &Chunk = &passage.chunk;
    let score = passage.cosine.unwrap_or(passage.coverage).clamp(0.0, 1.0);
    let text = whole_text(chunk);
    if let Some(id) = file_id(&chunk.path) {
        let (filename, attributes) = files.get(id)?.clone();
        return Some(Hit { file_id: id.into(), filename, attributes, score, text });
    }
    let own = json!({"path": chunk.path, "title": chunk.title, "lang": chunk.lang, "kind": chunk.kind});
    let filename = chunk.path.rsplit('/').next().unwrap_or(&chunk.path).to_string();
    let attributes = own.as_object().cloned().unwrap_or_default();
    let text = match chunk.questions.first() {
        Some(question) => format!("{question}\n\n{text}"),
        None => text,
    };
    pack.then(|| Hit { file_id: chunk.path.clone(), filename, attributes, score, text })
}

/// The lists of several queries as one: their firsts, then their seconds, each passage once.
fn merged(lists: Vec<Vec<Hit>>, most: usize) -> Vec<Hit> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let mut seen = HashSet::new();
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    for _ in 0..longest {
        for hit in lists.iter_mut().filter_map(Iterator::next) {
            if seen.insert((hit.file_id.clone(), hit.text.clone())) {
                all.push(hit);
            }
        }
    }
    all.truncate(most);
    all
}
