//! The live knowledge: a snapshot that is replaced when the folder changes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch::{Receiver, Sender};

use super::index::Index;
use super::{
    Chunk, IndexProgress, IndexReport, KbError, Knowledge, Pack, Passage, SearchQuery, Snapshot, WatchGuard, chunk,
    pack, rerank, watch,
};
use crate::config::KnowledgeSettings;
use crate::embed::{Embedder, Reranker};

/// Faults that are logged one by one; the rest are counted.
const LOGGED_FAULTS: usize = 20;

/// What reads the knowledge.
#[derive(Clone)]
pub struct Models {
    pub embedder: Embedder,
    /// Orders what a search found, where one is set.
    pub reranker: Option<Reranker>,
}

impl From<Embedder> for Models {
    fn from(embedder: Embedder) -> Self {
        Self { embedder, reranker: None }
    }
}

pub(super) struct Shared {
    settings: KnowledgeSettings,
    state_dir: PathBuf,
    models: Models,
    current: RwLock<Arc<Snapshot>>,
    faults: RwLock<Vec<pack::Fault>>,
    /// Held while reading the folder: one reader at a time.
    reading: Mutex<()>,
    /// Version of the current snapshot, for those who wait for the next.
    version: Sender<String>,
}

impl Snapshot {
    /// The articles in a folder of their own, indexed in it. Blocking.
    ///
    /// # Errors
    /// Where the index cannot be written or the embedding model fails; what cannot be read is among the pack's faults.
    pub(crate) fn of_folder(
        dir: &Path,
        settings: &KnowledgeSettings,
        models: &Models,
        company: &pack::Company,
    ) -> Result<Self, KbError> {
        let pack = Pack::read_articles(dir, settings, company);
        Self::make(pack, settings, dir, models, &mut |_| {})
    }

    pub fn pack(&self) -> &Pack {
        &self.pack
    }

    /// Changes with every change of the pack; hex.
    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn chunk(&self, id: &str) -> Option<Arc<Chunk>> {
        self.by_id.get(id).map(|at| self.index.chunks()[*at].clone())
    }

    pub fn chunks(&self) -> &[Arc<Chunk>] {
        self.index.chunks()
    }

    /// Pages that a long story of many matters speaks of, best first, each by its chunk nearest to the story and with its
    /// score against the best page's 1. A question of one matter is for [`Self::search`].
    pub fn pages_for(&self, story: &str, lang: &str, limit: usize) -> Vec<(Arc<Chunk>, f32)> {
        self.index.pages_for(story, lang, limit)
    }

    /// Hybrid search. Blocking: embeds the query where it brings no vector.
    ///
    /// # Errors
    /// Where the embedding model or the index fails, never for what the query says.
    pub fn search(&self, query: &SearchQuery<'_>) -> Result<Vec<Passage>, KbError> {
        let mut found = self.index.search(query)?;
        if let Some(reranker) = &self.reranker {
            rerank::order(reranker, query.text, &mut found)?;
        }
        Ok(found)
    }

    /// How well the graph of vectors finds: of each query's `limit` nearest vectors by exact comparison, the mean share
    /// that a search brings up. `None` where the knowledge has no vectors. Compares every vector: for measuring.
    ///
    /// # Errors
    /// Where the index fails; queries of another width than the vectors'.
    pub fn vector_recall(&self, queries: &[Vec<f32>], limit: usize) -> Result<Option<[f32; 2]>, KbError> {
        self.index.vector_recall(queries, limit)
    }

    fn make(
        pack: Pack,
        settings: &KnowledgeSettings,
        state_dir: &Path,
        models: &Models,
        progress: &mut dyn FnMut(IndexProgress),
    ) -> Result<Self, KbError> {
        let chunks: Vec<Arc<Chunk>> = chunk::chunks(&pack, settings.chunk_chars).into_iter().map(Arc::new).collect();
        let by_id: HashMap<String, usize> = chunks.iter().enumerate().map(|(at, c)| (c.id.clone(), at)).collect();
        let index = Index::bring_up(state_dir, &pack, chunks, &models.embedder, progress)?;
        let version =
            blake3::hash(format!("{} {}", pack.digest, index.version()).as_bytes()).to_hex()[..16].to_string();
        Ok(Self { pack, version, index, by_id, reranker: models.reranker.clone() })
    }
}

impl Knowledge {
    /// Reads the pack, brings the index in `state_dir` up to date, maps it. Blocking.
    ///
    /// # Errors
    /// [`KbError::Pack`] with every fault where the pack cannot be served; otherwise what failed.
    pub fn open(
        settings: &KnowledgeSettings,
        state_dir: &Path,
        models: impl Into<Models>,
        progress: &mut dyn FnMut(IndexProgress),
    ) -> Result<(Self, IndexReport), KbError> {
        Self::open_adjusted(settings, state_dir, models, progress, &|_| {})
    }

    /// The same with the pack changed after reading, to try what is not in service; such knowledge is not to be reloaded.
    ///
    /// # Errors
    /// As [`Knowledge::open`].
    pub fn open_adjusted(
        settings: &KnowledgeSettings,
        state_dir: &Path,
        models: impl Into<Models>,
        progress: &mut dyn FnMut(IndexProgress),
        adjust: &dyn Fn(&mut Pack),
    ) -> Result<(Self, IndexReport), KbError> {
        let models = models.into();
        let started = Instant::now();
        let mut pack = Pack::read_with(settings, Some(&desk_dir(state_dir)), Some(&uploads_dir(state_dir)));
        adjust(&mut pack);
        let faults = pack.faults.clone();
        if !pack.is_usable() {
            return Err(KbError::Pack { dir: settings.dir.display().to_string(), faults });
        }
        log_faults(&faults);
        let snapshot = Snapshot::make(pack, settings, state_dir, &models, progress)?;
        let report = report(&snapshot, faults.clone(), started);
        let shared = Shared {
            version: Sender::new(snapshot.version.clone()),
            settings: settings.clone(),
            state_dir: state_dir.to_path_buf(),
            models,
            current: RwLock::new(Arc::new(snapshot)),
            faults: RwLock::new(faults),
            reading: Mutex::new(()),
        };
        Ok((Self { shared: Arc::new(shared) }, report))
    }

    /// The model that orders finds, where one is set.
    pub fn reranker(&self) -> Option<&Reranker> {
        self.shared.models.reranker.as_ref()
    }

    /// What reads the knowledge.
    pub fn models(&self) -> &Models {
        &self.shared.models
    }

    /// The current snapshot; hold it for the whole turn.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.current.read().clone()
    }

    /// Tells when the snapshot is replaced: the value is its version.
    pub fn changes(&self) -> Receiver<String> {
        self.shared.version.subscribe()
    }

    /// Re-reads the folder now. On a fault that forbids use, the last good snapshot stays.
    ///
    /// # Errors
    /// As [`Knowledge::open`]; the snapshot is then unchanged.
    pub fn reload(&self) -> Result<IndexReport, KbError> {
        let shared = &*self.shared;
        let _one_at_a_time = shared.reading.lock();
        let started = Instant::now();
        let pack = Pack::read_with(
            &shared.settings,
            Some(&desk_dir(&shared.state_dir)),
            Some(&uploads_dir(&shared.state_dir)),
        );
        let faults = pack.faults.clone();
        *shared.faults.write() = faults.clone();
        log_faults(&faults);
        if !pack.is_usable() {
            tracing::error!(
                version = self.snapshot().version(),
                "the pack has faults; the last good one keeps serving"
            );
            return Err(KbError::Pack { dir: shared.settings.dir.display().to_string(), faults });
        }
        let current = self.snapshot();
        if current.pack.digest == pack.digest && current.pack.paths == pack.paths {
            return Ok(IndexReport { embedded: 0, ..report(&current, faults, started) });
        }
        let snapshot = Snapshot::make(pack, &shared.settings, &shared.state_dir, &shared.models, &mut |_| {})?;
        let report = report(&snapshot, faults, started);
        tracing::info!(
            version = snapshot.version(),
            chunks = report.chunks,
            embedded = report.embedded,
            seconds = report.seconds,
            "the knowledge was read anew"
        );
        let version = snapshot.version.clone();
        *shared.current.write() = Arc::new(snapshot);
        shared.version.send_replace(version);
        Ok(report)
    }

    /// Follows changes of the folder on a thread of its own until the returned guard is dropped.
    ///
    /// # Errors
    /// Where the operating system does not let the folder be watched.
    pub fn watch(&self) -> Result<WatchGuard, KbError> {
        let knowledge = self.clone();
        let shared = &*self.shared;
        let reload = move || {
            if let Err(e) = knowledge.reload()
                && !matches!(e, KbError::Pack { .. })
            {
                tracing::error!(error = %e, "the changed pack could not be indexed; the last good one keeps serving");
            }
        };
        watch::start(&shared.settings.dir, &shared.state_dir, &desk_dir(&shared.state_dir), reload)
    }

    /// Faults of the last read, good or not.
    pub fn faults(&self) -> Vec<pack::Fault> {
        self.shared.faults.read().clone()
    }
}

/// Where entries of the console lie when the pack is read-only.
fn desk_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("desk")
}

/// Where files of the pack's vector store lie.
pub(crate) fn uploads_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("uploads")
}

fn report(snapshot: &Snapshot, faults: Vec<pack::Fault>, started: Instant) -> IndexReport {
    let pack = &snapshot.pack;
    let mut files: Vec<&str> = pack.articles.iter().map(|a| a.path.as_str()).collect();
    files.extend(snapshot.chunks().iter().map(|c| c.path.as_str()));
    files.sort_unstable();
    files.dedup();
    IndexReport { files: files.len(), faults, seconds: started.elapsed().as_secs_f64(), ..snapshot.index.report() }
}

fn log_faults(faults: &[pack::Fault]) {
    for fault in faults.iter().filter(|fault| fault.fatal).take(LOGGED_FAULTS) {
        tracing::error!(path = fault.path, line = fault.line, "{}", fault.reason);
    }
    for fault in faults.iter().filter(|fault| !fault.fatal).take(LOGGED_FAULTS) {
        tracing::warn!(path = fault.path, line = fault.line, "{}", fault.reason);
    }
    if faults.len() > LOGGED_FAULTS {
        tracing::warn!(faults = faults.len(), "the pack has more faults; `firstline index --check` lists them all");
    }
}
