//! Files that clients upload, and the vector stores that they attach them to: the knowledge by the API that tools already
//! speak.
//!
//! *File*: what was uploaded, byte for byte, in the database. *Vector store*: a set of files that is searched; each has a
//! folder and an index in the state directory, made from the database and made again where they are missing. *Attached*: a
//! file's place in a store, with attributes to filter by and how far it is indexed. The store [`PACK`] is the knowledge pack
//! itself: what is attached to it lies beside the pack's own pages, and operators answer from it.
//!
//! What a client is told is committed first; `indexing` then brings folders and indices up to it, one store at a time, and
//! goes on after a crash where rows say that something is left. `search` asks an index and keeps what is attached, passes
//! the `filter`, and scores enough.

mod filter;
mod indexing;
mod search;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use crate::config::Settings;
use crate::kb::{KbError, Knowledge, Snapshot};
use crate::store::library::{AttachedRow, FileRow, VectorStoreRow};
use crate::store::{Store, StoreError};
pub use filter::Filter;
pub use indexing::restore;
pub use search::{Hit, SearchWish};

/// The vector store that is the knowledge pack.
pub const PACK: &str = "vs_pack";
/// Whose it is: no key has such a name.
const PACK_KEY: &str = "@pack";
const DAY_MS: i64 = 86_400_000;
/// Uploads that are held in memory at once.
const RECEIVING: usize = 2;

/// Files and vector stores. Cheap to clone.
#[derive(Clone)]
pub struct Library {
    store: Store,
    knowledge: Knowledge,
    settings: Arc<Settings>,
    /// Vector stores that are open for searching, by id.
    open: Arc<Mutex<HashMap<String, Arc<Snapshot>>>>,
    /// One index is written at a time.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// Something is to be indexed.
    work: Arc<Notify>,
    receiving: Arc<Semaphore>,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    pub key_name: &'a str,
    /// May change the pack's own store.
    pub knowledge: bool,
}

/// Why something cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    #[error("there is no file {0:?}")]
    NoFile(String),
    #[error("there is no vector store {0:?}")]
    NoStore(String),
    #[error("the vector store {store:?} has no file {file:?}")]
    NotAttached { store: String, file: String },
    #[error("the vector store {0:?} has no batch {1:?}")]
    NoBatch(String, String),
    #[error("the vector store {0:?} has expired; make a new one")]
    Expired(String),
    #[error("{PACK} is the company's knowledge pack: it {0}")]
    Pack(&'static str),
    #[error("this key may not change the knowledge pack: it lacks the scope \"knowledge\"")]
    NotAllowed,
    #[error("{what}; the limit is {limit} ({setting})")]
    Limit { what: String, limit: u64, setting: &'static str },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Knowledge(#[from] KbError),
}

/// What is to be changed of a vector store; `None`: stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreChange {
    pub name: Option<String>,
    /// JSON
    pub metadata: Option<String>,
    /// Days after the last activity; `Some(None)`: never.
    pub expire_days: Option<Option<i64>>,
}

/// Files of a vector store by how far they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileCounts {
    pub in_progress: usize,
    pub completed: usize,
    pub failed: usize,
    pub cancelled: usize,
    pub usage_bytes: i64,
}

impl FileCounts {
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a AttachedRow>) -> Self {
        let mut counts = Self::default();
        for row in rows {
            match row.status.as_str() {
                "completed" => counts.completed += 1,
                "failed" => counts.failed += 1,
                "cancelled" => counts.cancelled += 1,
                _ => counts.in_progress += 1,
            }
            counts.usage_bytes += row.usage_bytes;
        }
        counts
    }

    pub fn total(&self) -> usize {
        self.in_progress + self.completed + self.failed + self.cancelled
    }
}

/// When a vector store's time is over, ms; `None`: never.
pub fn expires_ms(store: &VectorStoreRow) -> Option<i64> {
    store.expire_days.map(|days| store.last_active_ms.saturating_add(days.saturating_mul(DAY_MS)))
}

/// True once a vector store's time is over.
pub fn is_expired(store: &VectorStoreRow) -> bool {
    expires_ms(store).is_some_and(|at| at <= now_ms())
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

impl Library {
    pub fn new(store: Store, knowledge: Knowledge, settings: &Settings) -> Self {
        Self {
            store,
            knowledge,
            settings: Arc::new(settings.clone()),
            open: Arc::default(),
            writing: Arc::default(),
            work: Arc::default(),
            receiving: Arc::new(Semaphore::new(RECEIVING)),
        }
    }

    /// A place for an upload's bytes in memory.
    pub async fn place_to_receive(&self) -> Option<SemaphorePermit<'_>> {
        self.receiving.acquire().await.ok()
    }

    /// Largest file, in bytes.
    pub fn max_file_bytes(&self) -> u64 {
        self.settings.files.max_file_bytes
    }

    /// Keeps an upload; it survives a crash from here on. Expires after so many seconds, if at all.
    ///
    /// # Errors
    /// A limit that it passes.
    pub async fn add_file(
        &self,
        caller: Caller<'_>,
        (filename, purpose): (&str, &str),
        content: &[u8],
        expire_s: Option<i64>,
    ) -> Result<FileRow, LibraryError> {
        let limits = &self.settings.files;
        let size = self.store.library_size().await?;
        if size.files as usize >= limits.max_files {
            let (limit, setting) = (limits.max_files as u64, "files.max_files");
            return Err(LibraryError::Limit { what: format!("{} files are kept", size.files), limit, setting });
        }
        let total = size.bytes as u64 + content.len() as u64;
        let limit = (limits.max_total_mib as u64).saturating_mul(1 << 20);
        if total > limit {
            let what = format!("all files together would take {total} bytes");
            return Err(LibraryError::Limit { what, limit, setting: "files.max_total_mib" });
        }
        let created_ms = now_ms();
        let file = FileRow {
            id: format!("file-{}", uuid::Uuid::new_v4().simple()),
            key_name: caller.key_name.into(),
            filename: filename.into(),
            purpose: purpose.into(),
            bytes: content.len() as i64,
            created_ms,
            expires_ms: expire_s.map(|s| created_ms + s * 1000),
        };
        self.store.add_file(&file, content).await?;
        Ok(file)
    }

    /// The caller's files, oldest first.
    pub async fn files(&self, caller: Caller<'_>) -> Result<Vec<FileRow>, LibraryError> {
        Ok(self.store.files(caller.key_name).await?)
    }

    /// One of the caller's files.
    ///
    /// # Errors
    /// There is none of this id.
    pub async fn file(&self, caller: Caller<'_>, id: &str) -> Result<FileRow, LibraryError> {
        self.store.file(caller.key_name, id).await?.ok_or_else(|| LibraryError::NoFile(id.into()))
    }

    /// Its bytes.
    ///
    /// # Errors
    /// There is none of this id.
    pub async fn content(&self, caller: Caller<'_>, id: &str) -> Result<(FileRow, Vec<u8>), LibraryError> {
        let file = self.file(caller, id).await?;
        let content = self.store.file_content(id).await?.ok_or_else(|| LibraryError::NoFile(id.into()))?;
        Ok((file, content))
    }

    /// Deletes a file, also from the vector stores that it is attached to.
    ///
    /// # Errors
    /// There is none; it is part of the pack and the caller may not change that.
    pub async fn delete_file(&self, caller: Caller<'_>, id: &str) -> Result<(), LibraryError> {
        self.file(caller, id).await?;
        if !caller.knowledge && self.store.attached_files(PACK).await?.iter().any(|row| row.file_id == id) {
            return Err(LibraryError::NotAllowed);
        }
        self.remove_file(id).await
    }

    async fn remove_file(&self, id: &str) -> Result<(), LibraryError> {
        for store_id in self.store.delete_file(id).await? {
            self.bring_up_soon(store_id);
        }
        Ok(())
    }

    /// Vector stores that the caller may search, oldest first: the pack's, and the caller's own.
    pub async fn stores(&self, caller: Caller<'_>) -> Result<Vec<VectorStoreRow>, LibraryError> {
        let mut rows = self.store.vector_stores().await?;
        rows.retain(|row| row.key_name == caller.key_name || row.id == PACK);
        Ok(rows)
    }

    /// One of them.
    ///
    /// # Errors
    /// There is none of this id.
    pub async fn vector_store(&self, caller: Caller<'_>, id: &str) -> Result<VectorStoreRow, LibraryError> {
        let found = self.stores(caller).await?.into_iter().find(|row| row.id == id);
        found.ok_or_else(|| LibraryError::NoStore(id.into()))
    }

    /// One that the caller may change.
    async fn changeable(&self, caller: Caller<'_>, id: &str) -> Result<VectorStoreRow, LibraryError> {
        let row = self.vector_store(caller, id).await?;
        match row.id == PACK && !caller.knowledge {
            true => Err(LibraryError::NotAllowed),
            false => Ok(row),
        }
    }

    /// Makes a vector store of these files.
    ///
    /// # Errors
    /// A file that is not there; a limit.
    pub async fn create_store(
        &self,
        caller: Caller<'_>,
        change: StoreChange,
        files: &[String],
    ) -> Result<VectorStoreRow, LibraryError> {
        let limit = self.settings.files.max_vector_stores;
        let own = self.stores(caller).await?.len();
        if own > limit {
            let (limit, setting) = (limit as u64, "files.max_vector_stores");
            return Err(LibraryError::Limit { what: format!("there are {} vector stores", own - 1), limit, setting });
        }
        for file in files {
            self.file(caller, file).await?;
        }
        let now = now_ms();
        let row = VectorStoreRow {
            id: format!("vs_{}", uuid::Uuid::new_v4().simple()),
            key_name: caller.key_name.into(),
            name: change.name.unwrap_or_default(),
            metadata: change.metadata.unwrap_or_else(|| "{}".into()),
            created_ms: now,
            last_active_ms: now,
            expire_days: change.expire_days.flatten(),
        };
        self.store.add_vector_store(&row).await?;
        if !files.is_empty() {
            let files: Vec<(String, String)> = files.iter().map(|id| (id.clone(), "{}".into())).collect();
            self.attach(caller, &row.id, &files, None).await?;
        }
        Ok(row)
    }

    /// Changes name, metadata or expiry.
    ///
    /// # Errors
    /// There is none; the pack's name is the company's, and it never expires.
    pub async fn update_store(
        &self,
        caller: Caller<'_>,
        id: &str,
        change: StoreChange,
    ) -> Result<VectorStoreRow, LibraryError> {
        if id == PACK {
            return Err(LibraryError::Pack("is not changed here"));
        }
        let mut row = self.vector_store(caller, id).await?;
        row.name = change.name.unwrap_or(row.name);
        row.metadata = change.metadata.unwrap_or(row.metadata);
        row.expire_days = change.expire_days.unwrap_or(row.expire_days);
        self.store.update_vector_store(&row).await?;
        self.vector_store(caller, id).await
    }

    /// Deletes a vector store; its files stay.
    ///
    /// # Errors
    /// There is none; it is the pack.
    pub async fn delete_store(&self, caller: Caller<'_>, id: &str) -> Result<(), LibraryError> {
        if id == PACK {
            return Err(LibraryError::Pack("cannot be deleted"));
        }
        self.vector_store(caller, id).await?;
        self.store.delete_vector_store(id).await?;
        self.bring_up_soon(id.to_string());
        Ok(())
    }

    /// A vector store's files, oldest first.
    ///
    /// # Errors
    /// There is no such store.
    pub async fn attached(&self, caller: Caller<'_>, id: &str) -> Result<Vec<AttachedRow>, LibraryError> {
        self.vector_store(caller, id).await?;
        Ok(self.store.attached_files(id).await?)
    }

    /// One of them.
    ///
    /// # Errors
    /// It is not attached.
    pub async fn attached_file(&self, caller: Caller<'_>, id: &str, file: &str) -> Result<AttachedRow, LibraryError> {
        let found = self.attached(caller, id).await?.into_iter().find(|row| row.file_id == file);
        found.ok_or_else(|| LibraryError::NotAttached { store: id.into(), file: file.into() })
    }

    /// Attaches files with their attributes (JSON); they are indexed in the background.
    ///
    /// # Errors
    /// A store or file that is not there; a limit; an expired store.
    pub async fn attach(
        &self,
        caller: Caller<'_>,
        id: &str,
        files: &[(String, String)],
        batch: Option<&str>,
    ) -> Result<(), LibraryError> {
        let row = self.changeable(caller, id).await?;
        if is_expired(&row) {
            return Err(LibraryError::Expired(id.into()));
        }
        for (file, _) in files {
            self.file(caller, file).await?;
        }
        let limit = self.settings.files.max_files_in_store;
        let present = self.store.attached_files(id).await?;
        let new = files.iter().filter(|(file, _)| present.iter().all(|row| row.file_id != *file)).count();
        if present.len() + new > limit {
            let what = format!("the vector store would have {} files", present.len() + new);
            return Err(LibraryError::Limit { what, limit: limit as u64, setting: "files.max_files_in_store" });
        }
        self.store.attach_files(id, files, batch).await?;
        self.work.notify_one();
        Ok(())
    }

    /// Changes what is said of a file (JSON).
    ///
    /// # Errors
    /// It is not attached; the caller may not change the pack.
    pub async fn set_attributes(
        &self,
        caller: Caller<'_>,
        id: &str,
        file: &str,
        attributes: &str,
    ) -> Result<AttachedRow, LibraryError> {
        self.changeable(caller, id).await?;
        self.attached_file(caller, id, file).await?;
        self.store.set_file_attributes(id, file, attributes).await?;
        self.attached_file(caller, id, file).await
    }

    /// Takes a file out of a vector store; the file stays.
    ///
    /// # Errors
    /// It is not attached; the caller may not change the pack.
    pub async fn detach(&self, caller: Caller<'_>, id: &str, file: &str) -> Result<(), LibraryError> {
        self.changeable(caller, id).await?;
        self.attached_file(caller, id, file).await?;
        self.store.detach_file(id, file).await?;
        self.bring_up_soon(id.to_string());
        Ok(())
    }

    /// Files of a batch; what is not indexed yet is given up first where `cancel` says so.
    ///
    /// # Errors
    /// There is no such batch.
    pub async fn batch(
        &self,
        caller: Caller<'_>,
        id: &str,
        batch: &str,
        cancel: bool,
    ) -> Result<Vec<AttachedRow>, LibraryError> {
        if cancel {
            self.changeable(caller, id).await?;
            self.store.cancel_batch(id, batch).await?;
            self.bring_up_soon(id.to_string());
        }
        let mut rows = self.attached(caller, id).await?;
        rows.retain(|row| row.batch_id.as_deref() == Some(batch));
        match rows.is_empty() {
            true => Err(LibraryError::NoBatch(id.into(), batch.into())),
            false => Ok(rows),
        }
    }

    /// The text that was read of an attached file, article by article, as Markdown.
    ///
    /// # Errors
    /// It is not attached; its index cannot be opened.
    pub async fn text_of(&self, caller: Caller<'_>, id: &str, file: &str) -> Result<Vec<String>, LibraryError> {
        let row = self.attached_file(caller, id, file).await?;
        let snapshot = self.snapshot(id).await?;
        let articles = snapshot.pack().articles.iter();
        let own = articles.filter(|article| indexing::file_id(&article.path) == Some(&row.file_id));
        Ok(own.map(|article| article.text.clone()).collect())
    }
}

/// Attributes as they are kept.
pub fn attributes_of(row: &AttachedRow) -> Value {
    serde_json::from_str(&row.attributes).unwrap_or_default()
}
