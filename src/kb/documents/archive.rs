//! Files inside files: a ZIP of a documentation folder, the pictures in a DOCX.
//!
//! What lies in `articles/docs.zip` is named as if the ZIP were a folder (`articles/docs.zip/guide/a.md`), so that
//! links and images between its files resolve like any others. Nothing is written to disk, and nothing is unpacked
//! beyond what the limits allow, whatever sizes the ZIP states.

use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::{DocumentError, Limits, extension};

/// Stands before a target that lies in the very file that names it.
pub(super) const INSIDE: &str = "inside-this-file:";

/// Folders and files that programs leave behind.
const LITTER: [&str; 5] = ["__MACOSX", "node_modules", "Thumbs.db", "desktop.ini", "__pycache__"];

/// An open ZIP.
pub(crate) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes that may still be unpacked.
    left: u64,
    limits: &'a Limits,
}

impl<'a> Archive<'a> {
    /// True for a file of which parts can be named.
    pub fn is_one(path: &str) -> bool {
        matches!(extension(path).as_str(), "zip" | "docx")
    }

    /// # Errors
    /// Where it is no ZIP, or holds more files than it may.
    pub fn open(bytes: &'a [u8], limits: &'a Limits) -> Result<Self, DocumentError> {
        let broken = |e| DocumentError::Broken { format: "ZIP".into(), reason: format!("{e}") };
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
        if zip.len() > limits.max_archive_files {
            let limit = format!("{} files", limits.max_archive_files);
            return Err(DocumentError::TooMuch { limit, setting: "knowledge.max_archive_files".into() });
        }
        Ok(Self { zip, left: limits.max_archive_bytes, limits })
    }

    /// Paths of all files with something in them, sorted. Paths that lead out of the archive are left out.
    pub fn paths(&mut self) -> Vec<String> {
        let mut paths: Vec<String> = (0..self.zip.len())
            .filter_map(|at| {
                let file = self.zip.by_index_raw(at).ok()?;
                let path = file.enclosed_name()?.to_str()?.replace('\\', "/");
                let litter = path.split('/').any(|part| part.starts_with('.') || LITTER.contains(&part));
                (file.is_file() && !litter && !path.is_empty()).then_some(path)
            })
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// Where it is damaged or encrypted, or larger than what may still be unpacked.
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>, DocumentError> {
        let broken = |reason: String| DocumentError::Broken { format: "ZIP".into(), reason };
        let at = self.zip.index_for_name(path).or_else(|| {
            (0..self.zip.len()).find(|at| {
                let name = self.zip.by_index_raw(*at).ok().and_then(|file| file.enclosed_name());
                name.is_some_and(|name| name.to_str().is_some_and(|name| name.replace('\\', "/") == path))
            })
        });
        let at = at.ok_or_else(|| broken(format!("there is no {path:?} in it")))?;
        let file = self.zip.by_index(at).map_err(|e| broken(e.to_string()))?;
        let most = self.left.min(self.limits.max_bytes);
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(|e| broken(e.to_string()))?;
        if bytes.len() as u64 > most {
            let setting =
                if most == self.left { "knowledge.max_archive_bytes" } else { "knowledge.max_document_bytes" };
            let limit = if most == self.left { self.limits.max_archive_bytes } else { most };
            return Err(DocumentError::TooMuch { limit: format!("{limit} bytes unpacked"), setting: setting.into() });
        }
        self.left -= bytes.len() as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    pub fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (path, bytes) in files {
            zip.start_file(*path, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    #[test]
    fn files_are_named_and_read_and_litter_is_left() {
        let bytes = zipped(&[("g/a.md", b"# A"), ("__MACOSX/g/a.md", b"x"), ("../out.md", b"x"), ("g/.b.md", b"x")]);
        let limits = Limits::default();
        let mut archive = Archive::open(&bytes, &limits).unwrap();
        assert_eq!(archive.paths(), ["g/a.md"]);
        assert_eq!(archive.read("g/a.md").unwrap(), b"# A");
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bytes = zipped(&[("a.md", &vec![b'a'; 3 << 20]), ("b.md", b"b")]);
        let limits = Limits { max_archive_bytes: 1 << 20, ..Limits::default() };
        let mut archive = Archive::open(&bytes, &limits).unwrap();
        assert!(matches!(archive.read("a.md"), Err(DocumentError::TooMuch { .. })));
        assert_eq!(archive.read("b.md").unwrap(), b"b");
        assert!(Archive::open(&bytes, &Limits { max_archive_files: 1, ..Limits::default() }).is_err());
    }
}
