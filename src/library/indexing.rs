//! From rows to folders and indices. The rows are the truth: a folder holds the files that are attached, and is brought up
//! to them again and again with the same result, so that a crash at any place loses nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Library, LibraryError, PACK, PACK_KEY, is_expired, now_ms};
use crate::config::Settings;
use crate::kb::{KbError, Pack, Snapshot, uploads_dir};
use crate::store::Store;
use crate::store::library::{AttachedRow, Indexed, VectorStoreRow};

/// How often expired files and stores are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// Longest name of a file on disk, in characters.
const MAX_NAME_CHARS: usize = 80;

/// The folder of a vector store.
fn folder(state_dir: &Path, id: &str) -> PathBuf {
    match id {
        PACK => uploads_dir(state_dir),
        _ => state_dir.join("vector_stores").join(id),
    }
}

/// The file that an article was read from: `uploads/articles/file-1/guide.pdf`, or a file within it.
pub(super) fn file_id(path: &str) -> Option<&str> {
    let path = path.strip_prefix(crate::kb::pack::UPLOADS).unwrap_or(path);
    let (id, _) = path.strip_prefix("articles/")?.split_once('/')?;
    id.starts_with("file-").then_some(id)
}

/// A name that stays one name on disk.
fn name_on_disk(filename: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "-_ ()+,".contains(c) { c } else { '_' };
    let (stem, end) = filename.rsplit_once('.').unwrap_or((filename, ""));
    let stem: String = stem.trim().chars().take(MAX_NAME_CHARS).map(safe).collect();
    let end: String = end.chars().filter(|c| c.is_ascii_alphanumeric()).take(10).collect();
    let stem = if stem.is_empty() { "file".to_string() } else { stem };
    if end.is_empty() { stem } else { format!("{stem}.{end}") }
}

/// Brings the pack's folder of uploads up to the rows; at the start, before the pack is read.
///
/// # Errors
/// Rows or folder cannot be read or written.
pub async fn restore(store: &Store, settings: &Settings) -> Result<(), LibraryError> {
    let now = now_ms();
    let pack = VectorStoreRow {
        id: PACK.into(),
        key_name: PACK_KEY.into(),
        name: String::new(),
        metadata: "{}".into(),
        created_ms: now,
        last_active_ms: now,
        expire_days: None,
    };
    store.add_vector_store(&pack).await?;
    for id in store.expired_files().await? {
        store.delete_file(&id).await?;
    }
    write_folder(store, &settings.store.state_dir, PACK).await.map(drop)
}

/// Brings a store's folder up to its rows; the rows that it was brought up to.
async fn write_folder(store: &Store, state_dir: &Path, id: &str) -> Result<Vec<AttachedRow>, LibraryError> {
    let rows = store.attached_files(id).await?;
    let articles = folder(state_dir, id).join("articles");
    let kept = rows.iter().filter(|row| row.status != "cancelled");
    let wanted: BTreeMap<String, String> = kept.map(|row| (row.file_id.clone(), name_on_disk(&row.filename))).collect();
    let failed =
        |path: &Path, e: std::io::Error| KbError::Io { path: path.display().to_string(), reason: e.to_string() };
    if articles.is_dir() {
        for entry in std::fs::read_dir(&articles).map_err(|e| failed(&articles, e))?.flatten() {
            if entry.file_name().to_str().is_none_or(|name| !wanted.contains_key(name)) {
                std::fs::remove_dir_all(entry.path()).map_err(|e| failed(&entry.path(), e))?;
            }
        }
    }
    for (file, name) in &wanted {
        let own = articles.join(file);
        let path = own.join(name);
        if path.is_file() {
            continue;
        }
        // Deleted since: then its row is gone too, and the next round sees it.
        let Some(content) = store.file_content(file).await? else { continue };
        std::fs::create_dir_all(&own).map_err(|e| failed(&own, e))?;
        // Hidden files are no part of a pack.
        let part = own.join(".part");
        // What has its name is whole, also after a loss of power: it is not written again.
        let whole = |mut file: std::fs::File| file.write_all(&content).and_then(|()| file.sync_all());
        let written = std::fs::File::create(&part).and_then(whole);
        written.and_then(|()| std::fs::rename(&part, &path)).map_err(|e| failed(&path, e))?;
    }
    Ok(rows)
}

/// What reading a file came to, by the pack that it was read into.
fn outcome(pack: &Pack, row: &AttachedRow) -> Indexed {
    let own = |path: &str| file_id(path) == Some(row.file_id.as_str());
    let usage: usize =
        pack.articles.iter().filter(|article| own(&article.path)).map(|article| article.text.len()).sum();
    if pack.articles.iter().any(|article| own(&article.path)) {
        return Indexed::Completed { usage_bytes: usage as i64 };
    }
    let reason = pack.faults.iter().find(|fault| own(&fault.path)).map(|fault| fault.reason.clone());
    let reason = reason.unwrap_or_else(|| "nothing that can be read was found in it".into());
    let unknown = ["is no format", "has no extension", "files are not read"].iter().any(|words| reason.contains(words));
    Indexed::Failed { code: if unknown { "unsupported_file" } else { "invalid_file" }, reason }
}

impl Library {
    /// Works off what is to be indexed, now and whenever something is attached, and lets go what has expired. Runs until
    /// the program ends.
    pub async fn keep_up(self) {
        self.tidy_folders().await;
        loop {
            match self.store.unfinished_vector_stores().await {
                Ok(ids) => {
                    for id in ids {
                        self.bring_up(&id).await;
                    }
                }
                Err(error) => tracing::error!(%error, "what is to be indexed cannot be read"),
            }
            if let Err(error) = self.sweep().await {
                tracing::error!(%error, "what has expired could not be let go");
            }
            let _ = tokio::time::timeout(SWEEP, self.work.notified()).await;
        }
    }

    /// Removes folders of stores that are gone.
    async fn tidy_folders(&self) {
        let all = self.settings.store.state_dir.join("vector_stores");
        let Ok(rows) = self.store.vector_stores().await else { return };
        for entry in std::fs::read_dir(all).into_iter().flatten().flatten() {
            if rows.iter().all(|row| entry.file_name().to_str() != Some(&row.id)) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    async fn sweep(&self) -> Result<(), LibraryError> {
        for id in self.store.expired_files().await? {
            self.remove_file(&id).await?;
        }
        for row in self.store.vector_stores().await?.iter().filter(|row| is_expired(row)) {
            let was_open = self.open.lock().remove(&row.id).is_some();
            let folder = folder(&self.settings.store.state_dir, &row.id);
            if was_open || folder.is_dir() {
                let _one_at_a_time = self.writing.lock().await;
                let _ = std::fs::remove_dir_all(folder);
            }
        }
        Ok(())
    }

    /// Brings a store up in the background: after something was taken out of it.
    pub(super) fn bring_up_soon(&self, id: String) {
        let library = self.clone();
        tokio::spawn(async move { library.bring_up(&id).await });
    }

    /// Brings folder and index up to the rows, and the rows to what came of it.
    async fn bring_up(&self, id: &str) {
        let rows = match self.indexed(id).await {
            Ok((snapshot, rows)) => {
                let waiting = rows.into_iter().filter(|row| row.status == "in_progress");
                waiting.map(|row| (outcome(snapshot.pack(), &row), row)).collect::<Vec<_>>()
            }
            Err(LibraryError::NoStore(_)) => return,
            Err(error) => {
                tracing::error!(store = id, %error, "a vector store could not be indexed");
                let rows = self.store.attached_files(id).await.unwrap_or_default();
                let waiting = rows.into_iter().filter(|row| row.status == "in_progress");
                let failed = Indexed::Failed { code: "server_error", reason: error.to_string() };
                waiting.map(|row| (failed.clone(), row)).collect()
            }
        };
        for (outcome, row) in rows {
            if let Err(error) = self.store.file_indexed(&row, &outcome).await {
                tracing::error!(%error, "what indexing came to could not be kept");
            }
        }
    }

    /// The store, indexed anew as its rows say now.
    async fn indexed(&self, id: &str) -> Result<(Arc<Snapshot>, Vec<AttachedRow>), LibraryError> {
        let _one_at_a_time = self.writing.lock().await;
        let state_dir = self.settings.store.state_dir.clone();
        let known = self.store.vector_stores().await?.into_iter().find(|row| row.id == id);
        let Some(known) = known.filter(|row| !is_expired(row)) else {
            self.open.lock().remove(id);
            let _ = std::fs::remove_dir_all(folder(&state_dir, id));
            return Err(LibraryError::NoStore(id.into()));
        };
        let rows = write_folder(&self.store, &state_dir, &known.id).await?;
        if id == PACK {
            let knowledge = self.knowledge.clone();
            blocking(move || knowledge.reload()).await??;
            return Ok((self.knowledge.snapshot(), rows));
        }
        let (settings, knowledge, own) = (self.settings.clone(), self.knowledge.clone(), folder(&state_dir, id));
        let made = blocking(move || {
            std::fs::create_dir_all(&own)
                .map_err(|e| KbError::Io { path: own.display().to_string(), reason: e.to_string() })?;
            let company = knowledge.snapshot().pack().company.clone();
            Snapshot::of_folder(&own, &settings.knowledge, knowledge.models(), &company)
        });
        let snapshot = Arc::new(made.await??);
        self.open.lock().insert(id.to_string(), snapshot.clone());
        Ok((snapshot, rows))
    }

    /// The store as it is searched; opened where it is not open yet.
    pub(super) async fn snapshot(&self, id: &str) -> Result<Arc<Snapshot>, LibraryError> {
        if id == PACK {
            return Ok(self.knowledge.snapshot());
        }
        let open = self.open.lock().get(id).cloned();
        match open {
            Some(snapshot) => Ok(snapshot),
            None => Ok(self.indexed(id).await?.0),
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LibraryError> {
    let broke_off = |e: tokio::task::JoinError| KbError::Index(format!("the work broke off: {e}"));
    Ok(tokio::task::spawn_blocking(work).await.map_err(broke_off)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_their_folder_and_keep_their_kind() {
        assert_eq!(name_on_disk("guide.pdf"), "guide.pdf");
        assert_eq!(name_on_disk("../../etc/passwd"), "____.etcpasswd");
        assert_eq!(name_on_disk(".."), "_");
        assert_eq!(name_on_disk("Возврат товара.DOCX"), "Возврат товара.DOCX");
        assert_eq!(name_on_disk(".hidden"), "file.hidden");
        assert_eq!(name_on_disk(&"a".repeat(300)).len(), MAX_NAME_CHARS);
    }

    #[test]
    fn articles_are_known_by_the_file_that_they_were_read_from() {
        assert_eq!(file_id("uploads/articles/file-1/guide.pdf"), Some("file-1"));
        assert_eq!(file_id("articles/file-1/docs.zip/a.md"), Some("file-1"));
        assert_eq!(file_id("articles/en/a.md"), None);
        assert_eq!(file_id("articles/a.md"), None);
    }
}
