//! A file mapped into memory, read only.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a whole file, paged in as they are read.
#[derive(Debug)]
pub struct MappedFile {
    map: memmap2::Mmap,
}

impl MappedFile {
    /// Maps `path`.
    ///
    /// # Errors
    /// What opening or mapping the file gave; an empty file or a folder is `InvalidData`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
        }
        if meta.len() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
        }
        // SAFETY: the map is read only and private to this value. That no other process shortens or rewrites the
        // file meanwhile cannot be enforced; model files are written once (`models pull` renames a finished file
        // into place), and everything is copied out of the map while loading.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self { map })
    }

    /// Lets the system take back the memory of these bytes of the file; reading them again pages them in again.
    pub fn give_back(&self, bytes: std::ops::Range<usize>) {
        #[cfg(unix)]
        {
            let bytes = bytes.start.min(self.map.len())..bytes.end.min(self.map.len());
            // SAFETY: the map is of a file, shared and never written: what is read again is the same. A refusal does
            // no harm.
            let _ = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, bytes.start, bytes.len())
            };
        }
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
