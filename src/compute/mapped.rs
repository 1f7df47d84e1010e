//! A file mapped into memory, read only.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::time::SystemTime;

/// The bytes of a whole file, paged in as they are read.
#[derive(Debug)]
pub struct MappedFile {
    map: memmap2::Mmap,
    modified: Option<SystemTime>,
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
        // file meanwhile cannot be enforced; model files and saved weights are written once, beside their place, and
        // renamed into it, so that whoever replaces one leaves this map what it is.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self { map, modified: meta.modified().ok() })
    }

    /// When the file was last written, where the system says so.
    pub fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Has the system begin to read the file from the disk.
    pub fn read_ahead(&self) {
        // A refusal does no harm.
        #[cfg(unix)]
        let _ = self.map.advise(memmap2::Advice::WillNeed);
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
