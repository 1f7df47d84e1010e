//! Packed weights in a file, so that the next start has nothing to pack.
//!
//! The file: a magic word, the length of its header, the header as JSON (what was packed, in order, and where it lies),
//! the header's checksum, and from a page's start on the tiles of every matrix, as kernels read them. It is mapped and
//! used in place: pages come in as they are needed, are shared by all processes that serve the model, and can be given
//! back by the system. A file is bound to its source by a key of the caller's, and to this build by [`layout_id`].

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use super::memory::Memory;
use super::packed::Packed;
use super::tile::STEP;
use super::weights::Weight;
use crate::compute::{ComputeError, Format, MappedFile, PackedMatrix};

const MAGIC: &[u8; 8] = b"FLPACK01";
const CHECKSUM: usize = 32;
const PAGE: usize = 4096;
/// Longest header that is read, in bytes: hundreds of thousands of matrices.
const HEADER_BYTES: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    key: String,
    /// What the caller wants to know of the source without reading it.
    note: String,
    matrices: Vec<Entry>,
}

/// One matrix.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Entry {
    name: String,
    format: String,
    rows: usize,
    cols: usize,
    /// From the first byte after the header's page.
    from: usize,
    len: usize,
    /// Of its bytes (BLAKE3, hex).
    checksum: String,
}

/// Where the native backend gets its packed weights: from a file where there is one, else by packing; and what it got,
/// to be written for the next time.
#[derive(Default)]
pub struct PackedWeights {
    saved: Option<Saved>,
    held: Mutex<Vec<Held>>,
    packed_anew: AtomicUsize,
    /// Bytes of all matrices, packed or not, and of what they were made from.
    bytes: AtomicUsize,
    source_bytes: AtomicUsize,
}

struct Saved {
    file: Arc<MappedFile>,
    header: Header,
    data: usize,
}

/// A matrix that is in use.
struct Held {
    name: String,
    weight: Arc<Weight>,
}

impl PackedWeights {
    /// Maps a file.
    ///
    /// # Errors
    /// What is wrong with the file: it is damaged, cut short, or was written from another source or by another build.
    pub fn open(path: &Path, key: &str) -> Result<Self, String> {
        let file = MappedFile::open(path).map_err(|e| e.to_string())?;
        let (header, data) = read_header(&file)?;
        if header.key != full_key(key) {
            return Err("it was written from another file or by another build".into());
        }
        let end = header.matrices.iter().map(|entry| entry.from.saturating_add(entry.len)).max().unwrap_or(0);
        if data.saturating_add(end) > file.len() {
            return Err(format!("it is cut short: {} bytes of {}", file.len(), data.saturating_add(end)));
        }
        file.read_ahead();
        Ok(Self { saved: Some(Saved { file: Arc::new(file), header, data }), ..Self::default() })
    }

    /// The note that the file was written with.
    pub fn note(&self) -> Option<&str> {
        self.saved.as_ref().map(|saved| saved.header.note.as_str())
    }

    /// True where all weights came out of the file.
    pub fn is_saved(&self) -> bool {
        self.saved.is_some() && self.packed_anew.load(Ordering::Relaxed) == 0
    }

    /// Bytes of all matrices that are in use, and of the tensors that they were made from.
    pub fn bytes_and_source_bytes(&self) -> (usize, usize) {
        (self.bytes.load(Ordering::Relaxed), self.source_bytes.load(Ordering::Relaxed))
    }

    /// Bytes of those that a file would hold.
    pub fn packed_bytes(&self) -> usize {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter_map(|held| held.packed()).map(|packed| packed.bytes().len()).sum()
    }

    /// The weight that a matrix becomes. Matrices must be asked for in the same order every time.
    pub(super) fn weight(&self, matrix: &PackedMatrix<'_>) -> Result<Arc<Weight>, ComputeError> {
        self.source_bytes.fetch_add(matrix.bytes.len(), Ordering::Relaxed);
        let weight = self.take(matrix)?;
        self.bytes.fetch_add(weight.bytes(), Ordering::Relaxed);
        Ok(weight)
    }

    fn take(&self, matrix: &PackedMatrix<'_>) -> Result<Arc<Weight>, ComputeError> {
        if !Packed::takes(matrix.format) {
            return Ok(Arc::new(Weight::new(matrix)?));
        }
        let number = self.held.lock().unwrap_or_else(PoisonError::into_inner).len();
        let weight = match self.saved.as_ref().and_then(|saved| saved.weight(number, matrix)) {
            Some(weight) => Arc::new(weight),
            None => {
                self.packed_anew.fetch_add(1, Ordering::Relaxed);
                Arc::new(Weight::new(matrix)?)
            }
        };
        let held = Held { name: matrix.name.into(), weight: weight.clone() };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(held);
        Ok(weight)
    }

    /// Writes what is in use beside `path` and then puts it in its place, so that nobody sees half a file. Gives the
    /// bytes written.
    ///
    /// # Errors
    /// As the file system gives them; then nothing is left behind.
    pub fn write(&self, path: &Path, key: &str, note: &str) -> io::Result<u64> {
        let held: Vec<(String, Arc<Weight>)> = {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            held.iter().map(|held| (held.name.clone(), held.weight.clone())).collect()
        };
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let written = write_all(&part, &held, key, note).and_then(|bytes| {
            fs::rename(&part, path)?;
            Ok(bytes)
        });
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written
    }
}

impl Held {
    fn packed(&self) -> Option<&Packed> {
        packed(&self.weight)
    }
}

fn packed(weight: &Weight) -> Option<&Packed> {
    match weight {
        Weight::Packed(packed) => Some(packed),
        Weight::Panels(_) => None,
    }
}

impl Saved {
    fn weight(&self, number: usize, matrix: &PackedMatrix<'_>) -> Option<Weight> {
        let entry = self.header.matrices.get(number)?;
        let PackedMatrix { name, format, rows, cols, .. } = *matrix;
        let same =
            entry.name == name && entry.format == format!("{format:?}") && (entry.rows, entry.cols) == (rows, cols);
        let range = self.range(entry).filter(|_| same)?;
        Packed::from_saved(format, rows, cols, Memory::saved(self.file.clone(), range)?).map(Weight::Packed)
    }

    fn range(&self, entry: &Entry) -> Option<Range<usize>> {
        let from = self.data.checked_add(entry.from)?;
        Some(from..from.checked_add(entry.len)?)
    }
}

/// Compares every byte of a file with its checksums.
///
/// # Errors
/// What is wrong with it.
pub fn verify_packed_file(path: &Path) -> Result<(), String> {
    let file = MappedFile::open(path).map_err(|e| e.to_string())?;
    let (header, data) = read_header(&file)?;
    for entry in &header.matrices {
        let range = data.checked_add(entry.from).and_then(|from| Some(from..from.checked_add(entry.len)?));
        let bytes =
            range.and_then(|range| file.get(range)).ok_or_else(|| format!("it ends within `{}`", entry.name))?;
        if blake3::hash(bytes).to_hex().as_str() != entry.checksum {
            return Err(format!("the checksum of `{}` does not match: it is damaged", entry.name));
        }
    }
    Ok(())
}

/// The header, checked against its checksum, and where the data begin.
fn read_header(file: &[u8]) -> Result<(Header, usize), String> {
    let start = MAGIC.len() + 8;
    if file.len() < start || !file.starts_with(MAGIC) {
        return Err("it is no file of packed weights of this version".into());
    }
    let len = u64::from_le_bytes(std::array::from_fn(|i| file[MAGIC.len() + i]));
    let len = usize::try_from(len).ok().filter(|len| *len <= HEADER_BYTES && file.len() >= start + len + CHECKSUM);
    let end = start + len.ok_or("its header is cut short")?;
    if blake3::hash(&file[..end]).as_bytes() != &file[end..end + CHECKSUM] {
        return Err("the checksum of its header does not match: it is damaged".into());
    }
    let header = serde_json::from_slice(&file[start..end]).map_err(|e| format!("its header cannot be read: {e}"))?;
    Ok((header, (end + CHECKSUM).next_multiple_of(PAGE)))
}

fn write_all(path: &Path, held: &[(String, Arc<Weight>)], key: &str, note: &str) -> io::Result<u64> {
    let mut from = 0;
    let mut matrices = Vec::with_capacity(held.len());
    for (name, packed) in held.iter().filter_map(|(name, weight)| Some((name, packed(weight)?))) {
        let (bytes, format) = (packed.bytes(), format!("{:?}", packed.format));
        let checksum = blake3::hash(bytes).to_hex().to_string();
        let (rows, cols, len) = (packed.outputs, packed.inputs, bytes.len());
        matrices.push(Entry { name: name.clone(), format, rows, cols, from, len, checksum });
        from = (from + bytes.len()).next_multiple_of(STEP);
    }
    let header = serde_json::to_vec(&Header { key: full_key(key), note: note.into(), matrices })?;
    let mut head = [&MAGIC[..], &(header.len() as u64).to_le_bytes(), &header].concat();
    head.extend_from_slice(blake3::hash(&head).as_bytes());
    head.resize(head.len().next_multiple_of(PAGE), 0);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&head)?;
    for packed in held.iter().filter_map(|(_, weight)| packed(weight)) {
        let bytes = packed.bytes();
        file.write_all(bytes)?;
        file.write_all(&[0; STEP][..bytes.len().next_multiple_of(STEP) - bytes.len()])?;
    }
    let file = file.into_inner().map_err(|e| e.into_error())?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

fn full_key(key: &str) -> String {
    format!("{key} {}", layout_id())
}

/// Names the way in which this build packs: the hash of a matrix of every format that it has packed. Whatever changes
/// in the layout changes it.
fn layout_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        const FORMATS: [Format; 8] = [
            Format::Q4_0,
            Format::Q4_1,
            Format::Q5_0,
            Format::Q5_1,
            Format::Q8_0,
            Format::Q4K,
            Format::Q5K,
            Format::Q6K,
        ];
        let mut hasher = blake3::Hasher::new();
        for format in FORMATS {
            let (rows, cols) = (37, 512);
            let mut bytes = vec![0; format.matrix_bytes(rows, cols).unwrap_or(0)];
            blake3::Hasher::new().update(format!("{format:?}").as_bytes()).finalize_xof().fill(&mut bytes);
            let matrix = PackedMatrix { name: "", format, rows, cols, bytes: &bytes };
            // A format that is no longer packed changes the id too.
            hasher.update(Packed::new(&matrix).as_ref().map_or(&[], Packed::bytes));
        }
        hasher.finalize().to_hex()[..16].to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix<'a>(name: &'a str, bytes: &'a [u8]) -> PackedMatrix<'a> {
        PackedMatrix { name, format: Format::Q8_0, rows: bytes.len() / 68, cols: 64, bytes }
    }

    fn some_bytes(rows: usize) -> Vec<u8> {
        (0..rows * 68).map(|i| (i * 37 % 251) as u8).collect()
    }

    /// Packs two matrices and writes them.
    fn write(path: &Path) -> Vec<u8> {
        let (a, b) = (some_bytes(40), some_bytes(7));
        let weights = PackedWeights::default();
        weights.weight(&matrix("a", &a)).unwrap();
        weights.weight(&matrix("b", &b)).unwrap();
        assert!(!weights.is_saved());
        let written = weights.write(path, "key", "a note").unwrap();
        let bytes = fs::read(path).unwrap();
        assert_eq!(bytes.len() as u64, written);
        bytes
    }

    #[test]
    fn written_weights_come_back_as_they_were_packed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.packed");
        write(&path);
        let (a, b) = (some_bytes(40), some_bytes(7));
        let saved = PackedWeights::open(&path, "key").unwrap();
        assert_eq!(saved.note(), Some("a note"));
        for (name, bytes) in [("a", &a), ("b", &b)] {
            let matrix = matrix(name, bytes);
            let (there, anew) = (saved.weight(&matrix).unwrap(), Packed::new(&matrix).unwrap());
            assert_eq!(packed(&there).unwrap().bytes(), anew.bytes(), "{name}");
        }
        assert!(saved.is_saved());
        verify_packed_file(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_matrix_of_another_name_shape_or_place_is_packed_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.packed");
        write(&path);
        let (a, b) = (some_bytes(40), some_bytes(7));
        for (name, bytes) in [("b", &b), ("a", &b), ("c", &a)] {
            let saved = PackedWeights::open(&path, "key").unwrap();
            let weight = saved.weight(&matrix(name, bytes)).unwrap();
            assert!(!saved.is_saved());
            assert_eq!(packed(&weight).unwrap().bytes(), Packed::new(&matrix(name, bytes)).unwrap().bytes());
        }
    }

    #[test]
    fn files_that_are_damaged_cut_short_or_anothers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.packed");
        let good = write(&path);
        assert!(PackedWeights::open(&path, "other key").err().unwrap().contains("another file"));
        assert!(PackedWeights::open(&folder.path().join("none"), "key").is_err());
        let (_, data) = read_header(&good).unwrap();
        let end = MAGIC.len() + 8 + u64::from_le_bytes(good[8..16].try_into().unwrap()) as usize + CHECKSUM;
        for at in 0..end {
            let mut bad = good[..data].to_vec();
            bad[at] ^= 1;
            assert!(read_header(&bad).is_err(), "byte {at}");
        }
        for end in [0, 5, 15, 100, data, good.len() - 64] {
            fs::write(&path, &good[..end]).unwrap();
            assert!(PackedWeights::open(&path, "key").is_err(), "cut at {end}");
        }
        let mut bad = good.clone();
        bad[data + 300] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(verify_packed_file(&path).err().unwrap().contains("checksum of `a`"));
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.packed");
        fs::create_dir(&path).unwrap();
        let weights = PackedWeights::default();
        weights.weight(&matrix("a", &some_bytes(3))).unwrap();
        assert!(weights.write(&path, "key", "").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
