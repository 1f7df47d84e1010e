//! Pinned prefixes on disk, so that after a restart no customer waits for an operator's instruction to be read again.
//!
//! One file a prefix: magic, key, number and size of blocks, the blocks, and a checksum of all that precedes it. The key
//! binds the file to the model, the adapter, the tokens and this build. A file that does not match is as good as none. Files are
//! mapped, and their blocks go from there into the KV pool. All of them together keep to a limit: those that were not
//! used for the longest time go first, and a prefix for which there is no room is computed at every start.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::AdaptedTokens;
use crate::compute::MappedFile;
use crate::config::{EngineSettings, program_id};
use crate::model::BLOCK_TOKENS;

const MAGIC: &[u8; 8] = b"FLPREFX1";
const HEADER: usize = MAGIC.len() + 32 + 8 + 8;
const CHECKSUM: usize = 32;

/// Where a prefix is saved and what the file must say.
#[derive(Debug, Clone)]
pub(crate) struct PrefixSlot {
    folder: PathBuf,
    /// The file's name without the part that changes with the prefix.
    stem: String,
    key: [u8; 32],
}

/// A prefix's blocks, read and checked.
pub(crate) struct SavedPrefix {
    bytes: MappedFile,
    block_bytes: usize,
}

/// What became of prefixes since the start, and what lies on the disk; for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PrefixStats {
    pub files: u64,
    pub bytes: u64,
    /// Read from their files.
    pub restored: u64,
    /// Computed, because there was no file or none that could be used.
    pub computed: u64,
    /// Files that were damaged or another's.
    pub refused: u64,
    /// Computed and not saved: no room, or a fault of the disk.
    pub unsaved: u64,
    /// Files removed because room was short.
    pub evicted: u64,
}

/// Writes a prefix block by block; nothing is seen under its name before [`PrefixWriter::commit`].
pub(crate) struct PrefixWriter {
    slot: PrefixSlot,
    part: PathBuf,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl PrefixSlot {
    pub fn new(
        state_dir: &Path,
        model_hash: &str,
        settings: &EngineSettings,
        name: &str,
        prefix: &AdaptedTokens,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(build_id(settings).as_bytes()).update(model_hash.as_bytes());
        hasher.update(&(BLOCK_TOKENS as u64).to_le_bytes());
        hasher.update(&prefix.root());
        for token in &prefix.tokens {
            hasher.update(&token.to_le_bytes());
        }
        Self { folder: folder(state_dir), stem: stem(model_hash, name), key: *hasher.finalize().as_bytes() }
    }

    pub fn path(&self) -> PathBuf {
        let key: String = self.key[..8].iter().map(|b| format!("{b:02x}")).collect();
        self.folder.join(format!("{}{key}.kv", self.stem))
    }

    /// Reads and checks the file. `Ok(None)`: there is none.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(&self, blocks: usize) -> Result<Option<SavedPrefix>, String> {
        let path = self.path();
        let bytes = match MappedFile::open(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        if bytes.len() < HEADER + CHECKSUM {
            return Err(format!("it has only {} bytes", bytes.len()));
        }
        let body = bytes.len() - CHECKSUM;
        if blake3::hash(&bytes[..body]).as_bytes() != &bytes[body..] {
            return Err("its checksum does not match: it is damaged".into());
        }
        if &bytes[..8] != MAGIC || bytes[8..40] != self.key {
            return Err("it was written for another model, instruction or build".into());
        }
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i])) as usize;
        let (count, block_bytes) = (number(40), number(48));
        if count != blocks || block_bytes == 0 || count.checked_mul(block_bytes) != Some(body - HEADER) {
            return Err(format!("it says {count} blocks of {block_bytes} bytes; {blocks} blocks were expected"));
        }
        // A folder that cannot be written to only forgets when the file was used last.
        let _ = File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Ok(Some(SavedPrefix { bytes, block_bytes }))
    }

    /// Bytes that the file of so many blocks takes.
    pub fn file_bytes(blocks: usize, block_bytes: usize) -> u64 {
        (HEADER + CHECKSUM) as u64 + blocks as u64 * block_bytes as u64
    }

    /// Starts writing. `block_bytes` is the size of each block that will be pushed.
    pub fn create(&self, blocks: usize, block_bytes: usize) -> std::io::Result<PrefixWriter> {
        fs::create_dir_all(&self.folder)?;
        let part = self.folder.join(format!("{}{}.part", self.stem, uuid::Uuid::new_v4().simple()));
        let file = BufWriter::new(File::create(&part)?);
        let mut writer = PrefixWriter { slot: self.clone(), part, file, hasher: blake3::Hasher::new() };
        writer.write(MAGIC)?;
        writer.write(&self.key)?;
        writer.write(&(blocks as u64).to_le_bytes())?;
        writer.write(&(block_bytes as u64).to_le_bytes())?;
        Ok(writer)
    }

    /// Removes files of the same operator that this one replaces.
    fn remove_older(&self) -> std::io::Result<()> {
        let keep = self.path();
        for path in files(&self.folder)? {
            if path != keep && stem_of(&path) == Some(&self.stem) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// Removes this model's files of all prefixes but those named, and whatever was begun and never finished: a state
/// directory has one server, and this one is not writing now.
pub(crate) fn remove_others(state_dir: &Path, model_hash: &str, names: &[String]) -> std::io::Result<()> {
    let folder = folder(state_dir);
    if !folder.exists() {
        return Ok(());
    }
    let keep: Vec<String> = names.iter().map(|name| stem(model_hash, name)).collect();
    let own = stem(model_hash, "");
    let own = own.trim_end_matches('-');
    for path in files(&folder)? {
        let unfinished = path.extension().is_some_and(|e| e == "part");
        let vanished = stem_of(&path).is_some_and(|s| s.split('-').next() == Some(own) && !keep.iter().any(|k| k == s));
        if unfinished || vanished {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Removes saved prefixes of all models, those first that were not used for the longest time, until `wanted` bytes more
/// keep to `limit_bytes`. Files used since `spared` stay. Gives the number of files removed, and whether there is room.
pub(crate) fn make_room(
    state_dir: &Path,
    limit_bytes: u64,
    wanted: u64,
    spared: Option<SystemTime>,
) -> std::io::Result<(u64, bool)> {
    let mut saved = saved_files(state_dir)?;
    saved.sort();
    let mut all: u64 = saved.iter().map(|(_, bytes, _)| bytes).sum();
    let mut removed = 0;
    for (used, bytes, path) in saved {
        if all.saturating_add(wanted) <= limit_bytes {
            break;
        }
        if spared.is_none_or(|spared| used < spared) {
            fs::remove_file(path)?;
            all -= bytes;
            removed += 1;
        }
    }
    Ok((removed, all.saturating_add(wanted) <= limit_bytes))
}

/// Number of saved prefixes, and their bytes.
pub(crate) fn on_disk(state_dir: &Path) -> std::io::Result<(u64, u64)> {
    let saved = saved_files(state_dir)?;
    Ok((saved.len() as u64, saved.iter().map(|(_, bytes, _)| bytes).sum()))
}

/// Last use, size and path of every saved prefix.
fn saved_files(state_dir: &Path) -> std::io::Result<Vec<(SystemTime, u64, PathBuf)>> {
    let folder = folder(state_dir);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let saved = files(&folder)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "kv"));
    saved
        .map(|path| {
            let meta = fs::metadata(&path)?;
            Ok((meta.modified()?, meta.len(), path))
        })
        .collect()
}

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("prefixes")
}

fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

/// What the files of one prefix of one model begin with.
fn stem(model_hash: &str, name: &str) -> String {
    let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    let short: String = model_hash.chars().take(8).collect();
    format!("{short}-{safe}-")
}

/// The stem in a saved file's name: all before its sixteen hexadecimal digits.
fn stem_of(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?.strip_suffix(".kv")?;
    name.get(..name.len().checked_sub(16)?)
}

impl SavedPrefix {
    /// The blocks' bytes, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes[HEADER..self.bytes.len() - CHECKSUM].chunks_exact(self.block_bytes)
    }
}

impl PrefixWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    pub fn push(&mut self, block: &[u8]) -> std::io::Result<()> {
        self.write(block)
    }

    /// Makes the file whole and visible, in one step.
    pub fn commit(mut self) -> std::io::Result<()> {
        let checksum = *self.hasher.finalize().as_bytes();
        self.file.write_all(&checksum)?;
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.part, self.slot.path())?;
        self.slot.remove_older()
    }
}

impl Drop for PrefixWriter {
    fn drop(&mut self) {
        // After a commit there is nothing left under this name.
        let _ = fs::remove_file(&self.part);
    }
}

/// What cached numbers depend on besides the model: another build may round otherwise or lay blocks out otherwise.
fn build_id(settings: &EngineSettings) -> String {
    let EngineSettings { backend, device, weights, kv, .. } = settings;
    format!("{backend} {device} {weights} {kv} {}", program_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(folder: &Path, prefix: &[u32]) -> PrefixSlot {
        PrefixSlot::new(folder, "abcdef0123456789", &EngineSettings::default(), "igor/v1", &prefix.to_vec().into())
    }

    fn save(slot: &PrefixSlot) {
        let mut writer = slot.create(2, 3).unwrap();
        writer.push(&[1, 2, 3]).unwrap();
        writer.push(&[4, 5, 6]).unwrap();
        writer.commit().unwrap();
    }

    #[test]
    fn a_saved_prefix_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let slot = slot(folder.path(), &[1, 2, 3]);
        assert!(slot.read(2).unwrap().is_none());
        save(&slot);
        let saved = slot.read(2).unwrap().unwrap();
        assert_eq!(saved.blocks().collect::<Vec<_>>(), [[1, 2, 3], [4, 5, 6]]);
    }

    #[test]
    fn a_file_that_is_damaged_cut_short_or_anothers_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let slot = slot(folder.path(), &[1, 2, 3]);
        save(&slot);
        let good = fs::read(slot.path()).unwrap();
        let refused = |bytes: &[u8], blocks| {
            fs::write(slot.path(), bytes).unwrap();
            slot.read(blocks).err().expect("an error")
        };
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(refused(&bad, 2).contains("damaged"), "byte {at}");
            assert!(!refused(&good[..at], 2).is_empty(), "cut at {at}");
        }
        assert!(refused(&good, 3).contains("3 blocks were expected"));
        let other = PrefixSlot { key: [9; 32], ..slot.clone() };
        fs::write(other.path(), &good).unwrap();
        assert!(other.read(2).err().unwrap().contains("another model"));
    }

    #[test]
    fn a_new_version_replaces_the_operators_older_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (slot(folder.path(), &[1]), slot(folder.path(), &[2]));
        let other = PrefixSlot::new(
            folder.path(),
            "abcdef0123456789",
            &EngineSettings::default(),
            "igor/v1-b",
            &vec![1].into(),
        );
        save(&old);
        save(&other);
        save(&new);
        assert!(!old.path().exists() && new.path().exists() && other.path().exists());
    }

    #[test]
    fn prefixes_that_nobody_uses_and_half_written_ones_are_removed_but_no_other_models() {
        let folder = tempfile::tempdir().unwrap();
        let kept = slot(folder.path(), &[1]);
        let settings = EngineSettings::default();
        let gone = PrefixSlot::new(folder.path(), "abcdef0123456789", &settings, "olga/v1", &vec![1].into());
        let others = PrefixSlot::new(folder.path(), "0123456789abcdef", &settings, "olga/v1", &vec![1].into());
        [&kept, &gone, &others].into_iter().for_each(save);
        let part = folder.path().join("prefixes/abcdef01-igor_v1-0.part");
        fs::write(&part, "half").unwrap();
        remove_others(folder.path(), "abcdef0123456789", &["igor/v1".into()]).unwrap();
        assert!(kept.path().exists() && others.path().exists());
        assert!(!gone.path().exists() && !part.exists());
    }

    #[test]
    fn the_longest_unused_goes_when_room_is_short_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let slots: Vec<PrefixSlot> = ["a", "b", "c"]
            .iter()
            .map(|name| PrefixSlot::new(folder.path(), "abcdef01", &EngineSettings::default(), name, &vec![1].into()))
            .collect();
        let size = PrefixSlot::file_bytes(2, 3);
        assert_eq!(make_room(folder.path(), 10, 11, None).unwrap(), (0, false));
        for (days, slot) in slots.iter().enumerate() {
            save(slot);
            assert_eq!(fs::metadata(slot.path()).unwrap().len(), size);
            let used = SystemTime::now() - std::time::Duration::from_secs(86_400 * (3 - days as u64));
            File::options().append(true).open(slot.path()).unwrap().set_modified(used).unwrap();
        }
        assert_eq!(on_disk(folder.path()).unwrap(), (3, 3 * size));
        assert_eq!(make_room(folder.path(), 4 * size, size, None).unwrap(), (0, true));
        // Reading is use: the first is now the newest.
        let since = SystemTime::now();
        slots[0].read(2).unwrap().unwrap();
        assert_eq!(make_room(folder.path(), 3 * size, size, Some(since)).unwrap(), (1, true));
        assert!(slots[0].path().exists() && !slots[1].path().exists() && slots[2].path().exists());
        assert_eq!(make_room(folder.path(), size, size, Some(since)).unwrap(), (1, false));
        assert!(slots[0].path().exists() && !slots[2].path().exists());
        assert_eq!(make_room(folder.path(), 0, 0, None).unwrap(), (1, true));
        assert_eq!(on_disk(folder.path()).unwrap(), (0, 0));
    }

    #[test]
    fn what_was_begun_and_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let slot = slot(folder.path(), &[1]);
        let mut writer = slot.create(2, 3).unwrap();
        writer.push(&[1, 2, 3]).unwrap();
        drop(writer);
        assert_eq!(fs::read_dir(folder.path().join("prefixes")).unwrap().count(), 0);
    }
}
