//! Watching a folder: one call after a burst of changes has settled.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::{KbError, WatchGuard};

/// Changes count as one burst until the folder was quiet for this long.
const QUIET: Duration = Duration::from_millis(400);
/// A folder that never gets quiet is read this often.
const LONGEST: Duration = Duration::from_secs(5);

enum Signal {
    Changed,
    Stop,
}

/// Calls `changed` after each burst of changes in `dir` or `desk`. Changes below `state_dir` (which may lie inside
/// the pack) are the program's own, and not looked at.
pub(super) fn start(
    dir: &Path,
    state_dir: &Path,
    desk: &Path,
    mut changed: impl FnMut() + Send + 'static,
) -> Result<WatchGuard, KbError> {
    let (sender, receiver) = mpsc::channel();
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let (state_dir, desk) = (real(state_dir), real(desk));
    let own: PathBuf = state_dir.clone();
    let desk_inside = desk.clone();
    let events = sender.clone();
    let handler = move |event: notify::Result<notify::Event>| {
        let matters = match &event {
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => false,
            Ok(event) => {
                event.paths.is_empty()
                    || event.paths.iter().any(|path| !path.starts_with(&own) || path.starts_with(&desk_inside))
            }
            // Events were lost: look.
            Err(_) => true,
        };
        if matters {
            // The receiver is gone only after the guard was dropped.
            let _ = events.send(Signal::Changed);
        }
    };
    let failed = |path: &Path, e: notify::Error| {
        let reason = format!("the folder cannot be watched: {e}; changes are read at the next start");
        KbError::Io { path: path.display().to_string(), reason }
    };
    let mut watcher = RecommendedWatcher::new(handler, notify::Config::default()).map_err(|e| failed(dir, e))?;
    watcher.watch(&real(dir), RecursiveMode::Recursive).map_err(|e| failed(dir, e))?;
    if desk.is_dir() && !desk.starts_with(real(dir)) {
        watcher.watch(&desk, RecursiveMode::Recursive).map_err(|e| failed(&desk, e))?;
    }
    let thread = std::thread::Builder::new()
        .name("kb-watch".into())
        .spawn(move || {
            while let Ok(Signal::Changed) = receiver.recv() {
                let first = Instant::now();
                loop {
                    match receiver.recv_timeout(QUIET) {
                        Ok(Signal::Changed) if first.elapsed() < LONGEST => {}
                        Ok(Signal::Changed) | Err(RecvTimeoutError::Timeout) => break,
                        Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
                changed();
            }
        })
        .map_err(|e| KbError::Io { path: dir.display().to_string(), reason: e.to_string() })?;
    let stop = Box::new(move || {
        let _ = sender.send(Signal::Stop);
    });
    Ok(WatchGuard { _watcher: watcher, stop, thread: Some(thread) })
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        (self.stop)();
        if let Some(thread) = self.thread.take() {
            // A guard may be dropped by the thread itself when it holds the last handle.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}
