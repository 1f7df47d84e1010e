//! Reading a pack's files safely: nothing outside the folder, nothing huge, nothing that is not UTF-8. Whatever is
//! wrong becomes a fault; nothing here panics or writes.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Fault, FileReport};
use crate::config::KnowledgeSettings;
use crate::kb::documents;

/// Deepest folder that is looked into.
const MAX_DEPTH: usize = 32;

/// What bounds a pack.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub max_file_bytes: u64,
    pub max_files: usize,
    pub documents: documents::Limits,
}

impl Limits {
    pub fn of(settings: &KnowledgeSettings) -> Self {
        Self {
            max_file_bytes: settings.max_file_bytes,
            max_files: settings.max_files,
            documents: documents::Limits::of(settings),
        }
    }
}

/// A folder being read, with the faults found so far.
pub(super) struct Files {
    /// Canonical.
    root: PathBuf,
    /// How this folder is called in faults and ids: empty, or `desk/`.
    prefix: String,
    pub limits: Limits,
    hasher: blake3::Hasher,
    /// Entries met by the listing that is under way.
    seen: usize,
    pub faults: Vec<Fault>,
    /// What was read of each file of another format, and what was not.
    pub reports: Vec<FileReport>,
    /// Files inside of files, as paths of the pack.
    pub members: Vec<String>,
}

impl Files {
    /// # Errors
    /// Where the folder cannot be opened at all.
    pub fn open(dir: &Path, prefix: &str, limits: Limits) -> Result<Self, String> {
        let root = fs::canonicalize(dir).map_err(|e| format!("the folder {} cannot be opened: {e}", dir.display()))?;
        if !root.is_dir() {
            return Err(format!("{} is not a folder", dir.display()));
        }
        let prefix = prefix.into();
        let (faults, reports, members) = Default::default();
        Ok(Self { root, prefix, limits, hasher: blake3::Hasher::new(), seen: 0, faults, reports, members })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path as it is shown and used in ids.
    pub fn named(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Hash of all that was read so far, hex.
    pub fn digest(&self) -> String {
        self.hasher.finalize().to_hex()[..32].to_string()
    }

    pub fn fatal(&mut self, path: &str, line: usize, reason: impl Into<String>) {
        let path = self.named(path);
        self.faults.push(Fault { path, line, reason: reason.into(), fatal: true });
    }

    pub fn warn(&mut self, path: &str, line: usize, reason: impl Into<String>) {
        let path = self.named(path);
        self.faults.push(Fault { path, line, reason: reason.into(), fatal: false });
    }

    pub fn exists(&self, path: &str) -> bool {
        self.inside(path).is_ok_and(|p| p.exists())
    }

    pub fn is_dir(&self, path: &str) -> bool {
        self.inside(path).is_ok_and(|p| p.is_dir())
    }

    /// A file's text without a byte order mark; `None` after a fault.
    pub fn read(&mut self, path: &str) -> Option<String> {
        let real = match self.inside(path) {
            Ok(real) => real,
            Err(reason) => {
                self.fatal(path, 0, reason);
                return None;
            }
        };
        match fs::metadata(&real) {
            Ok(meta) if !meta.is_file() => {
                self.fatal(path, 0, "is not a plain file");
                return None;
            }
            Ok(meta) if meta.len() > self.limits.max_file_bytes => {
                let limit = self.limits.max_file_bytes;
                let reason = format!("has {} bytes; the limit is {limit} (knowledge.max_file_bytes)", meta.len());
                self.fatal(path, 0, reason);
                return None;
            }
            Ok(_) => {}
            Err(e) => {
                self.fatal(path, 0, format!("cannot be read: {e}"));
                return None;
            }
        }
        let bytes = match fs::read(&real) {
            Ok(bytes) => bytes,
            Err(e) => {
                self.fatal(path, 0, format!("cannot be read: {e}"));
                return None;
            }
        };
        self.hasher.update(path.as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
        match String::from_utf8(bytes) {
            Ok(text) => Some(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text)),
            Err(e) => {
                let at = e.utf8_error().valid_up_to();
                let line = 1 + e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
                self.fatal(path, line, format!("is not UTF-8 (byte {at}); save it as UTF-8"));
                None
            }
        }
    }

    /// A document's bytes; `None` after a warning: the pack goes without it.
    pub fn document(&mut self, path: &str) -> Option<Vec<u8>> {
        let limit = self.limits.documents.max_bytes;
        let bytes = self.inside(path).and_then(|real| {
            let meta = fs::metadata(&real).map_err(|e| format!("cannot be read: {e}"))?;
            match meta.len() {
                _ if !meta.is_file() => Err("is not a plain file".into()),
                size if size > limit => {
                    Err(format!("has {size} bytes; the limit is {limit} (knowledge.max_document_bytes)"))
                }
                _ => fs::read(&real).map_err(|e| format!("cannot be read: {e}")),
            }
        });
        match bytes {
            Ok(bytes) => {
                self.hasher.update(path.as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
                Some(bytes)
            }
            Err(reason) => {
                self.passed_over(path, reason);
                None
            }
        }
    }

    /// Makes a file's content count as a part of the pack without keeping it; a fault where it cannot be read.
    pub fn take_note(&mut self, path: &str) {
        let mut own = blake3::Hasher::new();
        let read = self.inside(path).and_then(|real| {
            let file = fs::File::open(real).map_err(|e| format!("cannot be read: {e}"))?;
            own.update_reader(file).map_err(|e| format!("cannot be read: {e}")).map(drop)
        });
        match read {
            Ok(()) => drop(self.hasher.update(path.as_bytes()).update(own.finalize().as_bytes())),
            Err(reason) => self.fatal(path, 0, reason),
        }
    }

    /// Warns of a file that is not read at all, and reports it.
    pub fn passed_over(&mut self, path: &str, reason: impl Into<String>) {
        let reason = reason.into();
        let path_shown = self.named(path);
        self.reports.push(FileReport { path: path_shown, read: None, skipped: vec![reason.clone()] });
        self.warn(path, 0, reason);
    }

    /// All files below `path`, sorted, as paths inside the pack. Hidden files and folders are passed over.
    pub fn list(&mut self, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        self.seen = 0;
        if self.is_dir(path) {
            self.walk(path, 0, &mut found);
        }
        found.sort();
        found
    }

    /// Names in a folder, sorted: (name, is a folder).
    pub fn names(&mut self, path: &str) -> Vec<(String, bool)> {
        let Ok(real) = self.inside(path) else { return Vec::new() };
        let entries = match fs::read_dir(&real) {
            Ok(entries) => entries,
            Err(e) => {
                self.fatal(path, 0, format!("cannot be read: {e}"));
                return Vec::new();
            }
        };
        let mut names = Vec::new();
        for entry in entries.flatten() {
            match entry.file_name().into_string() {
                Ok(name) if name.starts_with('.') => {}
                Ok(name) => {
                    let is_dir = fs::metadata(entry.path()).is_ok_and(|meta| meta.is_dir());
                    names.push((name, is_dir));
                }
                Err(name) => {
                    self.warn(path, 0, format!("the file name {name:?} is not UTF-8; the file is passed over"))
                }
            }
        }
        names.sort();
        names
    }

    fn walk(&mut self, path: &str, depth: usize, found: &mut Vec<String>) {
        if depth > MAX_DEPTH {
            self.fatal(path, 0, format!("folders are nested deeper than {MAX_DEPTH}"));
            return;
        }
        for (name, is_dir) in self.names(path) {
            let inner = if path.is_empty() { name } else { format!("{path}/{name}") };
            self.seen += 1;
            if self.seen > self.limits.max_files {
                if self.seen == self.limits.max_files + 1 {
                    let limit = self.limits.max_files;
                    self.fatal(path, 0, format!("the pack has more than {limit} files (knowledge.max_files)"));
                }
                return;
            }
            if let Err(reason) = self.inside(&inner) {
                self.fatal(&inner, 0, reason);
            } else if !is_dir {
                found.push(inner);
            } else if self.root.join(&inner).is_symlink() {
                self.warn(&inner, 0, "is a link to a folder; it is passed over");
            } else {
                self.walk(&inner, depth + 1, found);
            }
        }
    }

    /// The real path of something inside the pack; links are followed, and must stay inside.
    fn inside(&self, path: &str) -> Result<PathBuf, String> {
        let joined = self.root.join(path);
        match fs::canonicalize(&joined) {
            Ok(real) if real.starts_with(&self.root) => Ok(real),
            Ok(real) => Err(format!("leads out of the pack, to {}", real.display())),
            Err(e) if joined.is_symlink() => Err(format!("is a link that leads nowhere: {e}")),
            Err(_) if Path::new(path).components().any(|c| matches!(c, std::path::Component::ParentDir)) => {
                Err("leads out of the pack".into())
            }
            Err(_) => Ok(joined),
        }
    }
}

/// 1-based line of a byte offset.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
}
