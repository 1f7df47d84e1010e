//! A knowledge pack: read, chunk, index, search, watch. The format is described in `kb/README.md`.
//!
//! *Pack*: the folder. *Chunk*: a piece of an article, a FAQ entry, an app-map entry or a section of an
//! instruction, with its heading path and its *assets* (code, images, links, tables), which stand in its text as
//! `[[code:1]]`, `[[image:2]]`. *Passage*: a chunk found by a search, with its scores.
//!
//! Data flows one way. `pack` reads and checks the folder; files that are no Markdown become it in `documents`.
//! `markdown` takes a text apart into blocks and assets, and
//! `chunk` puts them together again as chunks. `index` embeds what changed, writes vectors and words to the state
//! directory, and searches them. `live` holds the current [`Snapshot`] of all that and replaces it when `watch` sees
//! the folder change; a pack with faults never replaces a good one. [`desk`] writes what people
//! add through the console. `language` and `words` know how people write.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) mod chunk;
pub mod desk;
pub(crate) mod documents;
mod index;
mod language;
mod live;
pub(crate) mod markdown;
pub mod pack;
mod rerank;
mod watch;
pub(crate) mod words;

#[cfg(test)]
mod tests;

pub use language::detect_lang;
pub use live::Models;
pub(crate) use live::uploads_dir;
pub use pack::Pack;

/// What a chunk was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    Article,
    Faq,
    AppMap,
    /// A section of an operator's instruction.
    Instruction,
    /// A sample answer of an operator.
    Example,
}

/// Something that goes to the customer byte for byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Asset {
    /// A fenced code block: exact bytes between the fences (indentation of the fence removed), and the fence's language.
    Code { n: usize, language: String, text: String },
    /// An image: path inside the pack (or absolute URL as written), and its alternative text.
    Image { n: usize, path: String, alt: String },
    /// A link: its text and target as written (absolute URL, or path inside the pack).
    Link { n: usize, text: String, target: String },
    /// A table, as its Markdown source.
    Table { n: usize, text: String },
}

/// A chunk, as indexed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Stable: path + heading path (+ part number), so that citations survive re-indexing.
    pub id: String,
    pub kind: SourceKind,
    /// Path of the file inside the pack.
    pub path: String,
    /// 1-based line where the chunk begins.
    pub line: usize,
    /// Title of the article, the FAQ question, or the app-map path.
    pub title: String,
    /// Headings from the outermost in; empty for FAQ entries.
    pub headings: Vec<String>,
    /// Readable text; assets stand as `[[code:1]]`, `[[image:2]]`, `[[table:3]]`; links as their plain text.
    pub text: String,
    pub assets: Vec<Asset>,
    /// ISO 639-1.
    pub lang: String,
    /// Operator that alone may use it (what its instruction holds, examples).
    pub operator: Option<String>,
    /// For FAQ entries and sample answers: the question(s); `text` is then the answer.
    pub questions: Vec<String>,
    pub tags: Vec<String>,
}

impl Chunk {
    /// The instruction that alone may use it: another version of the operator knows nothing of it.
    pub fn of_instruction(&self) -> Option<&str> {
        self.operator.as_ref().filter(|_| self.path.ends_with(".md")).map(|_| self.path.as_str())
    }

    /// True where an operator may use it with this instruction (its path).
    pub fn serves(&self, operator: &str, instruction: &str) -> bool {
        self.operator.as_deref().is_none_or(|own| own == operator)
            && self.of_instruction().is_none_or(|path| path == instruction)
    }
}

/// A chunk that a search found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Passage {
    pub chunk: Arc<Chunk>,
    /// Fused score (reciprocal rank fusion), or the reranker's; higher is better. Only orders; not calibrated.
    pub score: f32,
    /// Best cosine of the query with the chunk's vectors (a FAQ entry has one for its question and one for its
    /// answer); `None` where the dense leg did not run.
    pub cosine: Option<f32>,
    /// Cosine with the vector of its text.
    pub text_cosine: Option<f32>,
    /// Cosine with the nearest of the chunk's questions.
    pub question_cosine: Option<f32>,
    /// The cosines compare rough English ([`crate::text::glossary`]), so they say less.
    pub by_glossary: bool,
    /// BM25 score; `None` where the lexical leg did not find it.
    pub bm25: Option<f32>,
    /// Share of the query's stemmed content words (weighted by idf) that occur in the chunk: 0..1.
    pub coverage: f32,
    /// The same against the nearest question.
    pub question_coverage: f32,
}

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct SearchQuery<'a> {
    pub text: &'a str,
    /// Language of the query, when known.
    pub lang: Option<&'a str>,
    /// Include this operator's own sections and examples.
    pub operator: Option<&'a str>,
    /// Empty: all kinds.
    pub kinds: &'a [SourceKind],
    pub limit: usize,
    /// Version of the operator's instruction (`v2`); `None`: the active one.
    pub version: Option<&'a str>,
    /// The query's vector where the caller has it already (the same text, `Role::Query`); `None`: search embeds it.
    pub vector: Option<&'a [f32]>,
}

/// What indexing is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexStep {
    /// Making vectors of texts.
    Embed,
    /// Linking vectors to a graph.
    Link,
    /// Writing the words of chunks.
    Words,
}

/// Progress of one step of indexing, for a progress bar.
#[derive(Debug, Clone, Copy)]
pub struct IndexProgress {
    pub step: IndexStep,
    /// Texts, vectors or chunks.
    pub done: usize,
    pub total: usize,
}

/// What indexing did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct IndexReport {
    pub files: usize,
    pub chunks: usize,
    /// Chunks whose vectors came from the last index.
    pub reused: usize,
    pub embedded: usize,
    /// Chunks longer than the embedding model reads.
    pub truncated: usize,
    pub faults: Vec<pack::Fault>,
    pub seconds: f64,
}

/// One immutable state of the knowledge: a pack and its index.
pub struct Snapshot {
    pack: Pack,
    version: String,
    index: index::Index,
    by_id: HashMap<String, usize>,
    reranker: Option<crate::embed::Reranker>,
}

/// The live knowledge: the last good snapshot, replaced when the folder changes. Cheap to clone.
#[derive(Clone)]
pub struct Knowledge {
    shared: Arc<live::Shared>,
}

/// Ends the watching when dropped.
pub struct WatchGuard {
    _watcher: notify::RecommendedWatcher,
    stop: Box<dyn Fn() + Send + Sync>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What can go wrong with a pack or its index.
#[derive(Debug, thiserror::Error)]
pub enum KbError {
    /// The pack cannot be used at all; every fault has file, line and reason.
    #[error("the knowledge pack {dir} cannot be used:\n{}", pack::list(.faults))]
    Pack { dir: String, faults: Vec<pack::Fault> },
    #[error("{path}: {reason}")]
    Io { path: String, reason: String },
    #[error("the index failed: {0}")]
    Index(String),
    #[error(transparent)]
    Embed(#[from] crate::embed::EmbedError),
}
