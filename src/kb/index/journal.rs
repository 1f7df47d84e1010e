//! Vectors of an index that is not whole yet, in `STATE/index/embedded.part`: embedding takes nearly all of an index's
//! time, and what an interrupted one had embedded is read back by the next.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::store::{TextHash, io};
use crate::kb::KbError;

const FILE: &str = "embedded.part";
/// A line: the text's hash, whether it was cut, the numbers, and a hash of all that.
const HASH_BYTES: usize = 16;
const CHECK_BYTES: usize = 8;

/// The vectors that a journal holds, by their texts, each with whether its text was cut.
pub(super) type Embedded = HashMap<TextHash, (Vec<f32>, bool)>;

/// The file, open for more.
pub(super) struct Journal {
    path: PathBuf,
    /// `None` from the first line that could not be written: an index is made without it, too.
    file: Option<BufWriter<File>>,
}

impl Journal {
    /// Opens what an interrupted index left, or begins anew. What follows a line that is torn or of another width is
    /// dropped.
    pub fn open(root: &Path, dimensions: usize) -> Result<(Self, Embedded), KbError> {
        let path = root.join(FILE);
        let line_bytes = HASH_BYTES + 1 + dimensions * 4 + CHECK_BYTES;
        let mut embedded = Embedded::new();
        let mut whole = 0;
        if let Ok(file) = File::open(&path) {
            let mut reader = BufReader::new(file);
            let mut line = vec![0; line_bytes];
            while reader.read_exact(&mut line).is_ok() {
                let Some((hash, vector)) = parse(&line) else { break };
                embedded.insert(hash, vector);
                whole += line_bytes as u64;
            }
        }
        let file = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(io(&path))?;
        file.set_len(whole).map_err(io(&path))?;
        Ok((Self { path, file: Some(BufWriter::new(file)) }, embedded))
    }

    pub fn add(&mut self, hash: &TextHash, vector: &[f32], truncated: bool) {
        let mut line = hash.to_vec();
        line.push(u8::from(truncated));
        line.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
        line.extend(check(&line));
        self.attempt(|file| file.write_all(&line));
    }

    pub fn flush(&mut self) {
        self.attempt(|file| file.flush());
    }

    fn attempt(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) {
        let Some(file) = &mut self.file else { return };
        if let Err(e) = write(file) {
            tracing::warn!(path = %self.path.display(), error = %e, "an index that is interrupted now begins anew");
            self.file = None;
        }
    }

    /// The index is whole.
    pub fn remove(self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn parse(line: &[u8]) -> Option<(TextHash, (Vec<f32>, bool))> {
    let (said, sum) = line.split_at(line.len() - CHECK_BYTES);
    if check(said) != sum {
        return None;
    }
    let hash = said[..HASH_BYTES].try_into().ok()?;
    let numbers = said[HASH_BYTES + 1..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Some((hash, (numbers.collect(), said[HASH_BYTES] != 0)))
}

fn check(said: &[u8]) -> [u8; CHECK_BYTES] {
    let mut sum = [0; CHECK_BYTES];
    sum.copy_from_slice(&blake3::hash(said).as_bytes()[..CHECK_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_whole_is_read_back_and_a_torn_line_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        let (mut journal, before) = Journal::open(root.path(), 3).unwrap();
        assert!(before.is_empty());
        journal.add(&[1; 16], &[0.5, -1.0, 2.0], false);
        journal.add(&[2; 16], &[0.0, 1.0, 0.0], true);
        drop(journal);
        let path = root.path().join(FILE);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();

        let (mut journal, before) = Journal::open(root.path(), 3).unwrap();
        assert_eq!(before, Embedded::from([([1; 16], (vec![0.5, -1.0, 2.0], false))]));
        journal.add(&[3; 16], &[1.0, 1.0, 1.0], false);
        drop(journal);
        let (journal, before) = Journal::open(root.path(), 3).unwrap();
        assert!(before.len() == 2 && before.contains_key(&[3; 16]));
        assert!(Journal::open(root.path(), 4).unwrap().1.is_empty(), "vectors of another width");
        journal.remove();
        assert!(!path.exists());
    }
}
