//! Packed weights kept in the state directory: where, for which model, and how many.
//!
//! A model's first start packs its weights; afterwards they are written to `STATE/packed`, one file a model, and mapped
//! by every later start. A file is known by what [`Gguf::identity`] sees of the model file and by how this build packs:
//! when either changes, or a file is damaged, the weights are packed anew and the file is replaced.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::gguf::Gguf;
use crate::compute::native::PackedWeights;
use crate::config::Settings;

const ENDING: &str = "packed";

/// Older than this, a file that was begun and not finished belongs to nobody.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The folder of saved weights.
#[derive(Debug, Clone)]
pub struct PackedCache {
    folder: PathBuf,
    limit_bytes: u64,
}

/// What a file is for.
#[derive(Debug, Clone)]
pub(super) struct PackedSlot {
    path: PathBuf,
    key: String,
    limit_bytes: u64,
}

impl PackedCache {
    /// Where the settings want packed weights to be kept; `None` where they want none.
    pub fn new(settings: &Settings) -> Option<Self> {
        let folder = settings.engine.packed_dir.clone().unwrap_or_else(|| settings.store.state_dir.join("packed"));
        let limit_bytes = (settings.engine.packed_mib as u64).saturating_mul(1 << 20);
        (limit_bytes > 0).then_some(Self { folder, limit_bytes })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a model, whether it is there or not.
    pub fn path(&self, model: &Gguf) -> PathBuf {
        self.slot(model).path
    }

    pub(super) fn slot(&self, model: &Gguf) -> PackedSlot {
        let key = model.identity();
        let name = format!("{}-{}.{ENDING}", model.stem(), &key[..16]);
        PackedSlot { path: self.folder.join(name), key, limit_bytes: self.limit_bytes }
    }
}

impl PackedSlot {
    /// The weights of the file, or none to begin with.
    pub(super) fn open(&self) -> Arc<PackedWeights> {
        if !self.path.exists() {
            return Arc::default();
        }
        match PackedWeights::open(&self.path, &self.key) {
            Ok(weights) => {
                // The files that were not used for the longest time are the first to go.
                let file = fs::File::options().append(true).open(&self.path);
                let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
                Arc::new(weights)
            }
            Err(reason) => {
                tracing::warn!(file = %self.path.display(), reason, "packed weights are not used; they are packed anew");
                Arc::default()
            }
        }
    }

    /// Writes the weights, and removes what that replaces or what is too much.
    pub(super) fn save(&self, weights: &PackedWeights, note: &str) {
        let path = self.path.display();
        if weights.packed_bytes() as u64 > self.limit_bytes {
            let (bytes, limit) = (weights.packed_bytes() >> 20, self.limit_bytes >> 20);
            tracing::info!("the packed weights take {bytes} MiB, engine.packed_mib is {limit}: they are not kept");
            return;
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let written = fs::create_dir_all(folder).and_then(|()| weights.write(&self.path, &self.key, note));
        match written.and_then(|bytes| self.make_room(folder).map(|()| bytes)) {
            Ok(bytes) => tracing::info!(file = %path, mib = bytes >> 20, "packed weights are kept for the next start"),
            Err(error) => {
                tracing::warn!(file = %path, %error, "packed weights could not be kept; the next start packs them again");
            }
        }
    }

    /// Removes older files of the same model, abandoned ones, and those that were not used for the longest time until
    /// the rest is within the limit.
    fn make_room(&self, folder: &Path) -> std::io::Result<()> {
        let stem = |path: &Path| Some(path.file_stem()?.to_str()?.rsplit_once('-')?.0.to_string());
        let mut others = Vec::new();
        for entry in fs::read_dir(folder)? {
            let (path, meta) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
            let used = meta.modified()?;
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("part") if used.elapsed().is_ok_and(|age| age > ABANDONED) => fs::remove_file(&path)?,
                Some(ENDING) if path == self.path => {}
                Some(ENDING) if stem(&path) == stem(&self.path) => fs::remove_file(&path)?,
                Some(ENDING) => others.push((used, meta.len(), path)),
                _ => {}
            }
        }
        others.sort();
        let mut all = fs::metadata(&self.path)?.len() + others.iter().map(|(_, len, _)| len).sum::<u64>();
        for (_, len, path) in others {
            if all <= self.limit_bytes {
                break;
            }
            fs::remove_file(path)?;
            all -= len;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{settings, starter};
    use super::super::{ChatFile, StepSequence, WantLogits, load};
    use super::*;

    fn cache(state: &Path, packed_mib: usize) -> Option<PackedCache> {
        let mut settings = Settings::default();
        settings.store.state_dir = state.into();
        settings.engine.packed_mib = packed_mib;
        PackedCache::new(&settings)
    }

    /// Loads a model and keeps its weights, as a server does; gives some logits, and whether it had nothing to pack.
    fn start(model: &Path, cache: &PackedCache) -> (Vec<f32>, bool) {
        let ChatFile { mut decoder, source, .. } = load(model, &settings("native"), Some(cache)).unwrap();
        let saved = source.packed.is_saved();
        source.keep_packed(&source.hash());
        let step = StepSequence { tokens: &[1, 2, 3], start: 0, blocks: &[0], logits: WantLogits::Last, adapter: None };
        (decoder.step(&[step]).unwrap().remove(0), saved)
    }

    fn files(cache: &PackedCache) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(cache.folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn the_second_start_packs_nothing_and_computes_the_same() {
        let state = tempfile::tempdir().unwrap();
        let cache = cache(state.path(), 1000).unwrap();
        let (logits, saved) = start(&starter(), &cache);
        assert!(!saved);
        let hash = Gguf::open(&starter()).unwrap().content_hash();
        assert_eq!(hash, blake3::hash(&fs::read(starter()).unwrap()).to_hex().as_str());
        let [file] = &files(&cache)[..] else { panic!("one file") };
        let written = fs::metadata(file).unwrap().modified().unwrap();
        let (again, saved) = start(&starter(), &cache);
        assert!(saved);
        assert_eq!(again, logits);
        let ChatFile { source, .. } = load(&starter(), &settings("native"), Some(&cache)).unwrap();
        assert_eq!(source.hash(), hash);
        assert!(fs::metadata(file).unwrap().modified().unwrap() >= written, "its last use is remembered");
    }

    #[test]
    fn a_model_file_that_changed_and_a_damaged_file_are_packed_anew_and_replaced() {
        let state = tempfile::tempdir().unwrap();
        let cache = cache(state.path(), 1000).unwrap();
        let model = state.path().join("model.gguf");
        fs::copy(starter(), &model).unwrap();
        let (logits, _) = start(&model, &cache);
        let first = files(&cache);
        let mut damaged = fs::read(&first[0]).unwrap();
        damaged[100] ^= 1;
        fs::write(&first[0], &damaged).unwrap();
        assert_eq!(start(&model, &cache), (logits.clone(), false));
        assert_eq!(start(&model, &cache), (logits.clone(), true));
        fs::write(&first[0], &damaged[..damaged.len() / 2]).unwrap();
        assert_eq!(start(&model, &cache), (logits.clone(), false));
        // The same model, written again a day later.
        let later = SystemTime::now() + Duration::from_secs(86_400);
        fs::File::options().append(true).open(&model).unwrap().set_modified(later).unwrap();
        assert_eq!(start(&model, &cache), (logits, false));
        let second = files(&cache);
        assert!(second.len() == 1 && second != first, "{second:?}");
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_when_room_is_short() {
        let state = tempfile::tempdir().unwrap();
        assert!(cache(state.path(), 0).is_none());
        let cache = cache(state.path(), 100).unwrap();
        fs::create_dir_all(cache.folder()).unwrap();
        let other = |name: &str, bytes: u64, days: u64| {
            let file = fs::File::create(cache.folder().join(name)).unwrap();
            file.set_len(bytes).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
        };
        // The starter's weights take 95 to 103 MB of the 104.
        other("old-1.packed", 9_900_000, 3);
        other("new-1.packed", 1_000_000, 2);
        other("new-2.1.part", 10, 1);
        other("notes.txt", 10, 9);
        start(&starter(), &cache);
        let names: Vec<String> =
            files(&cache).iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names[0].starts_with("SmolLM2_135M"), "{names:?}");
        assert_eq!(names[1..], ["new-1.packed", "notes.txt"]);
        let small = super::tests::cache(state.path(), 20).unwrap();
        fs::remove_dir_all(small.folder()).unwrap();
        start(&starter(), &small);
        assert!(!small.folder().exists(), "one that is larger than the limit is not kept");
    }
}
