//! `firstline backup FILE` and `firstline restore FILE`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use crate::config::Settings;
use crate::store::{StateLock, Store};

const DATABASE: &str = "firstline.db";

#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write: the whole database, as it is at this moment
    file: PathBuf,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// A file that `firstline backup` wrote
    file: PathBuf,
    /// Replace the database that is there; it stays beside as firstline.db.before-restore
    #[arg(long)]
    force: bool,
}

/// Works beside a running server.
pub fn backup(settings: &Settings, args: &BackupArgs) -> anyhow::Result<ExitCode> {
    let to = &args.file;
    if to.exists() {
        bail!("{} is there already; name a new file", to.display());
    }
    let state = &settings.store.state_dir;
    if !state.join(DATABASE).is_file() {
        bail!("{} holds no database; name the state directory with --state", state.display());
    }
    super::block_on(async {
        let store = Store::open(state, settings.store.keep_text).await?;
        let (conversations, turns) = store.counts().await?;
        // Nobody sees half a backup under its name.
        let part = to.with_extension("part");
        let written = store.backup(&part).await;
        store.close().await;
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written?;
        keep_private(&part)?;
        std::fs::File::open(&part)?.sync_all()?;
        std::fs::rename(&part, to).with_context(|| to.display().to_string())?;
        let mib = std::fs::metadata(to)?.len() as f64 / f64::from(1 << 20);
        println!("{}: {conversations} conversations, {turns} turns, {mib:.1} MiB", to.display());
        Ok(ExitCode::SUCCESS)
    })
}

/// Needs the server to stand still.
pub fn restore(settings: &Settings, args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let state = &settings.store.state_dir;
    if !args.file.is_file() {
        bail!("{}: there is no such file", args.file.display());
    }
    std::fs::create_dir_all(state).with_context(|| state.display().to_string())?;
    let _alone = StateLock::alone(state).context("stop the server first")?;
    let database = state.join(DATABASE);
    if database.exists() && !args.force {
        bail!("{} is there; --force replaces it (and keeps it as {DATABASE}.before-restore)", database.display());
    }
    super::block_on(async {
        // Opened in a folder of its own first: a file that is no database, or a newer one, replaces nothing.
        let trial = state.join("restoring");
        let _ = std::fs::remove_dir_all(&trial);
        std::fs::create_dir(&trial)?;
        let tried = async {
            std::fs::copy(&args.file, trial.join(DATABASE))?;
            let store = Store::open(&trial, settings.store.keep_text).await?;
            let counts = store.checked_counts().await;
            store.close().await;
            anyhow::Ok(counts?)
        };
        let (conversations, turns) = match tried.await {
            Ok(counts) => counts,
            Err(error) => {
                let _ = std::fs::remove_dir_all(&trial);
                return Err(error.context(format!("{} is not restored", args.file.display())));
            }
        };
        if database.exists() {
            // With what its log still holds.
            let old = Store::open(state, settings.store.keep_text).await;
            if let Ok(old) = old {
                old.close().await;
            }
            std::fs::rename(&database, state.join(format!("{DATABASE}.before-restore")))?;
        }
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(state.join(format!("{DATABASE}{suffix}")));
        }
        std::fs::File::open(trial.join(DATABASE))?.sync_all()?;
        std::fs::rename(trial.join(DATABASE), &database)?;
        std::fs::remove_dir_all(&trial)?;
        println!("{}: {conversations} conversations, {turns} turns", database.display());
        Ok(ExitCode::SUCCESS)
    })
}

#[cfg(unix)]
fn keep_private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn keep_private(_file: &Path) -> std::io::Result<()> {
    Ok(())
}
