//! Where packed weights lie: in memory of the program's own, or in a file that an earlier start has written.

use std::ops::Range;
use std::sync::Arc;

use super::tile::STEP;
use crate::compute::MappedFile;

/// Bytes that begin at a multiple of 64.
pub(super) enum Memory {
    Own {
        bytes: Vec<u8>,
        /// Where the first multiple of 64 is.
        from: usize,
        len: usize,
    },
    Saved {
        file: Arc<MappedFile>,
        range: Range<usize>,
    },
}

impl Memory {
    /// Zeros: pages that the system gives when they are first written to, by whichever thread writes.
    pub(super) fn zeroed(len: usize) -> Self {
        let bytes = vec![0; len + STEP - 1];
        let from = bytes.as_ptr().align_offset(STEP);
        Self::Own { bytes, from, len }
    }

    /// A part of a file; `None` where it reaches beyond it, or does not begin at a multiple of 64.
    pub(super) fn saved(file: Arc<MappedFile>, range: Range<usize>) -> Option<Self> {
        let bytes = file.get(range.clone())?;
        (bytes.as_ptr() as usize).is_multiple_of(STEP).then_some(Self::Saved { file, range })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Own { bytes, from, len } => &bytes[*from..][..*len],
            Self::Saved { file, range } => &file[range.clone()],
        }
    }

    /// Bytes that may be written; none of a file's.
    pub(super) fn own(&mut self) -> &mut [u8] {
        match self {
            Self::Own { bytes, from, len } => &mut bytes[*from..][..*len],
            Self::Saved { .. } => &mut [],
        }
    }
}
