//! Where packed weights lie: in memory of the program's own, or in a file that an earlier start has written.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use memmap2::{MmapMut, MmapRaw};

use super::tile::STEP;
use crate::compute::MappedFile;

/// Bytes that begin at a multiple of 64.
pub(super) enum Memory {
    Own(MmapRaw),
    Saved { file: Arc<MappedFile>, range: Range<usize> },
}

impl Memory {
    /// Zeros: pages that the system gives when they are first written to, or when [`Self::fresh`] asks for them.
    ///
    /// # Errors
    /// Where the system has no such memory.
    pub(super) fn zeroed(len: usize) -> io::Result<Self> {
        Ok(Self::Own(MmapMut::map_anon(len)?.into()))
    }

    /// A part of a file; `None` where it reaches beyond it, or does not begin at a multiple of 64.
    pub(super) fn saved(file: Arc<MappedFile>, range: Range<usize>) -> Option<Self> {
        let bytes = file.get(range.clone())?;
        (bytes.as_ptr() as usize).is_multiple_of(STEP).then_some(Self::Saved { file, range })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            // SAFETY: the map has so many bytes, as long as this value lives; whoever writes to them promises by
            // `fresh` that nobody reads meanwhile.
            Self::Own(map) => unsafe { std::slice::from_raw_parts(map.as_ptr(), map.len()) },
            Self::Saved { file, range } => &file[range.clone()],
        }
    }

    /// A part of own memory to be written to; none of a file's. Its pages are taken from the system all at once, which
    /// costs two thirds of what it costs to take them one by one, as each is first written to.
    ///
    /// # Safety
    /// Nobody else uses this part meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn fresh(&self, part: Range<usize>) -> &mut [u8] {
        let Self::Own(map) = self else { return &mut [] };
        assert!(part.start <= part.end && part.end <= map.len(), "part {part:?} of {}", map.len());
        // A refusal (Linux before 5.14) does no harm.
        #[cfg(target_os = "linux")]
        let _ = map.advise_range(memmap2::Advice::PopulateWrite, part.start, part.len());
        // SAFETY: in range by the line above; not aliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(map.as_mut_ptr().add(part.start), part.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_zeros_at_a_multiple_of_64_and_its_parts_keep_what_was_written() {
        let memory = Memory::zeroed(10_000).unwrap();
        assert!(memory.bytes().len() == 10_000 && (memory.bytes().as_ptr() as usize).is_multiple_of(STEP));
        for (number, part) in [0..1, 1..4097, 4097..4097, 4097..10_000].into_iter().enumerate() {
            // SAFETY: one part at a time.
            let part = unsafe { memory.fresh(part) };
            assert!(part.iter().all(|byte| *byte == 0), "part {number}");
            part.fill(number as u8 + 1);
        }
        let written = [&[1; 1][..], &[2; 4096], &[4; 5903]].concat();
        assert_eq!(memory.bytes(), written);
    }
}
