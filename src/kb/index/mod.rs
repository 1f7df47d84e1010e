//! The index: what is found for a question, and how well it fits.
//!
//! Two *legs* look for a query. The dense one compares meanings (vectors, `dense`); where the embedding model does not
//! read a language, rough English is compared instead ([`crate::text::glossary`]), and where there is none either, the leg
//! stands still. The lexical one compares stems (`lexical`). Their lists are merged by reciprocal rank (`search`), and every
//! passage found is then measured the same way whichever leg found it: cosine, BM25, and the share of the question's words
//! that it speaks of (`coverage`). Long stories, which need many pages, are compared with whole pages instead (`pages`).
//! `store` keeps it all on disk.

mod coverage;
mod dense;
mod journal;
mod lexical;
mod pages;
mod search;
mod store;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use super::{Chunk, IndexProgress, IndexReport, KbError, Pack};
use crate::embed::Embedder;
use coverage::Vocabulary;
use pages::Pages;
use store::Stored;

/// An index, open for searching.
pub(super) struct Index {
    chunks: Vec<Arc<Chunk>>,
    stored: Stored,
    vocabulary: Vocabulary,
    /// Made for the first long story.
    pages: OnceLock<Pages>,
    embedder: Embedder,
    languages: Vec<String>,
    /// Operator -> path of the instruction that serves where none is asked for.
    active_instructions: BTreeMap<String, String>,
    told_of_language: AtomicBool,
}

impl Index {
    /// Brings the index in `state_dir` up to date with `chunks` and opens it.
    pub fn bring_up(
        state_dir: &Path,
        pack: &Pack,
        chunks: Vec<Arc<Chunk>>,
        embedder: &Embedder,
        progress: &mut dyn FnMut(IndexProgress),
    ) -> Result<Self, KbError> {
        let stored = store::bring_up(state_dir, &chunks, embedder, progress)?;
        let vocabulary = Vocabulary::of(&chunks);
        let active = |operator: &super::pack::Operator| {
            let instruction = operator.versions.get(&operator.active_version)?;
            Some((operator.name.clone(), instruction.path.clone()))
        };
        Ok(Self {
            chunks,
            stored,
            vocabulary,
            pages: OnceLock::new(),
            embedder: embedder.clone(),
            languages: pack.company.languages.clone(),
            active_instructions: pack.operators.iter().filter_map(active).collect(),
            told_of_language: AtomicBool::new(false),
        })
    }

    pub fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// Pages that a long story speaks of, best first: for each its chunk nearest to the story, and its score against the
    /// best page's 1.
    pub fn pages_for(&self, story: &str, lang: &str, limit: usize) -> Vec<(Arc<Chunk>, f32)> {
        let pages = self.pages.get_or_init(|| Pages::of(&self.chunks));
        let stems = self.vocabulary.query(story);
        let nearest = |chunks: &[u32]| {
            let covered = |at: &u32| self.vocabulary.coverage(&stems, *at, lang);
            chunks.iter().copied().max_by(|a, b| covered(a).total_cmp(&covered(b)).then(b.cmp(a)))
        };
        let ranked = pages.rank(story, lang, limit);
        ranked.iter().filter_map(|r| Some((self.chunks[nearest(r.chunks)? as usize].clone(), r.score))).collect()
    }

    pub fn version(&self) -> &str {
        &self.stored.version
    }

    /// See [`crate::kb::Snapshot::vector_recall`].
    pub fn vector_recall(&self, queries: &[Vec<f32>], limit: usize) -> Result<Option<[f32; 2]>, KbError> {
        self.stored.dense.as_ref().map(|dense| dense.recall(queries, limit)).transpose()
    }

    /// What opening it did.
    pub fn report(&self) -> IndexReport {
        IndexReport {
            chunks: self.chunks.len(),
            reused: self.stored.reused,
            embedded: self.stored.embedded,
            truncated: self.stored.truncated,
            ..IndexReport::default()
        }
    }
}
