//! Opening the database file and bringing its schema up to date; all that is SQLite's own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::watch;

use super::StoreError;
use crate::personal;

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations");

/// How long a writer waits for another one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(super) pool: SqlitePool,
    pub(super) keep_text: bool,
    pub(super) mask_personal: bool,
    /// Commits that added to the feed.
    pub(super) fed: Arc<watch::Sender<u64>>,
}

impl Store {
    /// Opens or creates `state_dir/firstline.db` and runs its migrations. `keep_text: false` keeps no customer's
    /// or operator's words, only outcomes and figures.
    ///
    /// # Errors
    /// Names the file: it is no database, cannot be written, or was written by a newer program.
    pub async fn open(state_dir: &Path, keep_text: bool) -> Result<Self, StoreError> {
        let path = state_dir.join("firstline.db");
        let failed = |reason: String| StoreError::Open { path: path.display().to_string(), reason };
        create_private_dir(state_dir).map_err(|e| failed(e.to_string()))?;
        // Before SQLite does: it gives its log files the mode of the database.
        create_private(&path).map_err(|e| failed(e.to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What was acknowledged survives also a loss of power.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            // What is deleted is overwritten.
            .pragma("secure_delete", "ON");
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(BUSY_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(|e| failed(e.to_string()))?;
        MIGRATIONS.run(&pool).await.map_err(|e| match e {
            MigrateError::VersionMissing(_) => failed("a newer version of firstline wrote it; update firstline".into()),
            e => failed(e.to_string()),
        })?;
        Ok(Self { pool, keep_text, mask_personal: false, fed: Arc::new(watch::channel(0).0) })
    }

    /// With `true`, cards, phones, addresses and the like are masked in every text that is kept from now on.
    pub fn masking_personal(mut self, mask: bool) -> Self {
        self.mask_personal = mask;
        self
    }

    /// A text as it is kept.
    pub(super) fn kept<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        if self.mask_personal { personal::masked(text) } else { text.into() }
    }

    /// Writes what is pending and closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A transaction that holds the write lock from its beginning, so that what it reads is what it builds on.
    pub(super) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }
}

/// Says that a state directory is in use, as long as it lives.
#[derive(Debug)]
pub struct StateLock(#[expect(dead_code, reason = "held, not read")] std::fs::File);

impl StateLock {
    /// Together with others: a server.
    ///
    /// # Errors
    /// Somebody wants it alone, or the folder cannot be written.
    pub fn shared(state_dir: &Path) -> Result<Self, StoreError> {
        Self::take(state_dir, std::fs::File::try_lock_shared)
    }

    /// Alone: what replaces files under a server's feet.
    ///
    /// # Errors
    /// A server uses it, or the folder cannot be written.
    pub fn alone(state_dir: &Path) -> Result<Self, StoreError> {
        Self::take(state_dir, std::fs::File::try_lock)
    }

    fn take(
        state_dir: &Path,
        lock: fn(&std::fs::File) -> Result<(), std::fs::TryLockError>,
    ) -> Result<Self, StoreError> {
        let path = state_dir.display().to_string();
        let failed = |e: std::io::Error| StoreError::Open { path: path.clone(), reason: e.to_string() };
        create_private_dir(state_dir).map_err(failed)?;
        let file = std::fs::File::create(state_dir.join("lock")).map_err(failed)?;
        match lock(&file) {
            Ok(()) => Ok(Self(file)),
            Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::InUse(path)),
            Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

#[cfg(unix)]
fn create_private_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
fn create_private_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)
}

/// Customers' words are for the server's own user only.
#[cfg(unix)]
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    // A file of an earlier version, or one that was restored from a copy.
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::set_permissions(&name, std::fs::Permissions::from_mode(0o600)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn create_private(_path: &Path) -> std::io::Result<()> {
    Ok(())
}
