//! Learnt filters kept in the state directory, so that a start does not learn again what did not change.
//!
//! Two files below `filters/`: `learnt.bin`, all that was learnt from one pack by one program and one embedding model,
//! and `vectors.bin`, the examples' vectors, so that where some examples change only those are embedded. Each is written
//! beside and renamed, begins with the name of what it was made from and ends with a checksum. What is damaged is learnt
//! again, and said; what cannot be written is learnt again at the next start, and said.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Filters;

const MAGIC: &[u8; 8] = b"FLfilt01";
/// Length of the checksum, and of the name of what a file was made from.
const HASH: usize = 32;

/// The folder of saved filters.
#[derive(Debug, Clone)]
pub struct Saved {
    folder: PathBuf,
}

impl Saved {
    pub fn below(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("filters") }
    }

    /// The filters that were learnt from what `key` names.
    pub(super) fn filters(&self, key: &str) -> Option<Filters> {
        self.read("learnt.bin", key)
    }

    /// Vectors of an embedding model.
    pub(super) fn vectors(&self, embedder: &str) -> Vectors {
        self.read("vectors.bin", embedder).unwrap_or_default()
    }

    /// Writes both files.
    pub(super) fn keep(&self, key: &str, filters: &Filters, embedder: &str, vectors: &Vectors) {
        let written =
            self.write("learnt.bin", key, filters).and_then(|()| self.write("vectors.bin", embedder, vectors));
        if let Err(error) = written {
            let folder = self.folder.display();
            tracing::warn!(%error, %folder, "the learnt filters cannot be saved; the next start learns them again");
        }
    }

    fn read<T: DeserializeOwned>(&self, file: &str, key: &str) -> Option<T> {
        let path = self.folder.join(file);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, file = %path.display(), "saved filters cannot be read and are learnt again");
                return None;
            }
        };
        match unpacked(&bytes, key) {
            Ok(found) => found,
            Err(why) => {
                tracing::warn!(file = %path.display(), "saved filters are damaged ({why}) and are learnt again");
                None
            }
        }
    }

    fn write(&self, file: &str, key: &str, what: &impl Serialize) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(blake3::hash(key.as_bytes()).as_bytes());
        let mut bytes = postcard::to_extend(what, bytes).map_err(std::io::Error::other)?;
        let checksum = blake3::hash(&bytes);
        bytes.extend(checksum.as_bytes());
        let part = self.folder.join(format!("{file}.{}.part", uuid::Uuid::new_v4().simple()));
        let done = fs::write(&part, bytes).and_then(|()| fs::rename(&part, self.folder.join(file)));
        if done.is_err() {
            let _ = fs::remove_file(&part);
        }
        done
    }
}

/// `Ok(None)`: whole, but made from something else.
fn unpacked<T: DeserializeOwned>(bytes: &[u8], key: &str) -> Result<Option<T>, String> {
    let begin = MAGIC.len() + HASH;
    if bytes.len() < begin + HASH {
        return Err(format!("only {} bytes", bytes.len()));
    }
    let (body, checksum) = bytes.split_at(bytes.len() - HASH);
    if blake3::hash(body).as_bytes() != checksum {
        return Err("the checksum does not match".into());
    }
    if &body[..MAGIC.len()] != MAGIC || &body[MAGIC.len()..begin] != blake3::hash(key.as_bytes()).as_bytes() {
        return Ok(None);
    }
    postcard::from_bytes(&body[begin..]).map(Some).map_err(|e| e.to_string())
}

/// Vectors of texts, by the texts' hashes.
#[derive(Default, serde::Serialize, serde::Deserialize)]
pub(super) struct Vectors {
    of: HashMap<[u8; HASH], Vec<f32>>,
}

impl Vectors {
    /// The texts' vectors: those that are known, and the rest by `embed`. Forgets all other texts.
    pub fn of<E>(
        &mut self,
        texts: &[&str],
        embed: impl FnOnce(&[&str]) -> Result<Vec<Vec<f32>>, E>,
    ) -> Result<Vec<Vec<f32>>, E> {
        let names: Vec<[u8; HASH]> = texts.iter().map(|t| *blake3::hash(t.as_bytes()).as_bytes()).collect();
        let new: Vec<usize> = (0..texts.len()).filter(|&i| !self.of.contains_key(&names[i])).collect();
        let embedded = embed(&new.iter().map(|&i| texts[i]).collect::<Vec<_>>())?;
        let mut all: HashMap<[u8; HASH], Vec<f32>> = new.iter().map(|&i| names[i]).zip(embedded).collect();
        for name in &names {
            if let Some(vector) = self.of.remove(name) {
                all.insert(*name, vector);
            }
        }
        self.of = all;
        Ok(names.iter().map(|name| self.of[name].clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> (tempfile::TempDir, Saved) {
        let dir = tempfile::tempdir().unwrap();
        let saved = Saved::below(dir.path());
        (dir, saved)
    }

    #[test]
    fn what_was_saved_comes_back_for_the_same_lesson_only() {
        let (_dir, saved) = shelf();
        let numbers = vec![1.5f32, -2.25, 0.0];
        assert_eq!(saved.read::<Vec<f32>>("numbers.bin", "a"), None, "nothing is there yet");
        saved.write("numbers.bin", "a", &numbers).unwrap();
        assert_eq!(saved.read("numbers.bin", "a"), Some(numbers));
        assert_eq!(saved.read::<Vec<f32>>("numbers.bin", "b"), None);
        assert_eq!(fs::read_dir(&saved.folder).unwrap().count(), 1, "no half-written file is left");
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let (_dir, saved) = shelf();
        saved.write("numbers.bin", "a", &vec![1.0f32; 100]).unwrap();
        let path = saved.folder.join("numbers.bin");
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[60] ^= 1;
        for damaged in [&whole[..whole.len() - 1], &whole[..20], &[], flipped.as_slice()] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(saved.read::<Vec<f32>>("numbers.bin", "a"), None, "{} bytes", damaged.len());
            assert!(unpacked::<Vec<f32>>(damaged, "a").is_err());
        }
        // Whole, but of another kind: what does not fit is an error, never a panic.
        saved.write("numbers.bin", "a", &"words").unwrap();
        assert_eq!(saved.read::<(Vec<f32>, HashMap<String, u32>)>("numbers.bin", "a"), None);
    }

    #[test]
    fn only_new_texts_are_embedded_and_old_ones_forgotten() {
        let mut vectors = Vectors::default();
        let mut asked: Vec<String> = Vec::new();
        let mut of = |texts: &[&str]| {
            let embed = |new: &[&str]| {
                asked.extend(new.iter().map(|t| t.to_string()));
                Ok::<_, std::convert::Infallible>(new.iter().map(|t| vec![t.len() as f32]).collect())
            };
            vectors.of(texts, embed).unwrap()
        };
        assert_eq!(of(&["one", "three"]), [vec![3.0], vec![5.0]]);
        assert_eq!(of(&["three", "eleven"]), [vec![5.0], vec![6.0]]);
        assert_eq!(of(&["one"]), [vec![3.0]]);
        assert_eq!(asked, ["one", "three", "eleven", "one"]);
    }
}
