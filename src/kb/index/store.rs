//! The index on disk: `STATE/index/VERSION/{vectors.usearch, keys.bin, text/, meta.json}` and the pointer
//! `STATE/index/current`.
//!
//! A version's name is the hash of all that it was made of. It is written beside, renamed into place when whole, and
//! only then pointed to; a crash at any moment leaves the version before. A version that is damaged is made again. What
//! is embedded on the way is kept in a `journal`, so that an index that was interrupted goes on where it stopped.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dense::{Dense, VectorKey};
use super::journal::Journal;
use super::lexical::Lexical;
use crate::embed::{Embedder, Role};
use crate::kb::chunk::embedded_text;
use crate::kb::{Chunk, IndexProgress, IndexStep, KbError};

/// Changes when what is written changes.
const FORMAT: u32 = 5;
/// Texts embedded between two reports of progress.
const PROGRESS_TEXTS: usize = 128;
/// Most questions of one entry that get a vector.
const MAX_QUESTIONS: usize = 64;

const VECTORS: &str = "vectors.usearch";
const KEYS: &str = "keys.bin";
const TEXT: &str = "text";
const META: &str = "meta.json";
const CURRENT: &str = "current";

/// Both legs of one version, open.
pub(super) struct Stored {
    pub version: String,
    pub dense: Option<Dense>,
    pub lexical: Lexical,
    pub truncated: usize,
    pub reused: usize,
    pub embedded: usize,
}

#[derive(Serialize, Deserialize)]
struct Meta {
    format: u32,
    embedder: String,
    dimensions: usize,
    chunks: usize,
    vectors: usize,
    truncated: usize,
    /// Hashes of the vector file and of the key file.
    vectors_hash: String,
    keys_hash: String,
}

/// One vector's text, hashed together with the model that reads it.
pub(super) type TextHash = [u8; 16];

/// A line of `keys.bin`: 16 bytes of hash, 4 of chunk, 2 of slot, 1 that says whether the text was cut.
struct KeyLine {
    hash: TextHash,
    key: VectorKey,
    truncated: bool,
}

const KEY_LINE_BYTES: usize = 23;

/// Opens the index of `chunks`, or makes it: unchanged texts keep their vectors from the last version.
pub(super) fn bring_up(
    state_dir: &Path,
    chunks: &[Arc<Chunk>],
    embedder: &Embedder,
    progress: &mut dyn FnMut(IndexProgress),
) -> Result<Stored, KbError> {
    let root = state_dir.join("index");
    fs::create_dir_all(&root).map_err(|e| KbError::Io {
        path: root.display().to_string(),
        reason: format!("{e}; the index is written there: make it writable or choose another folder with --state"),
    })?;
    let version = version_of(chunks, embedder)?;
    let dir = root.join(&version);
    if dir.join(META).exists() {
        match open(&dir, &version, chunks, embedder) {
            Ok(stored) => {
                let total = stored.reused;
                point_to(&root, &version)?;
                progress(IndexProgress { step: IndexStep::Embed, done: total, total });
                return Ok(stored);
            }
            Err(e) => tracing::warn!(version, error = %e, "the stored index is damaged and is made again"),
        }
    }
    // One writer at a time, also among processes: `firstline index` may run beside the server.
    let lock_path = root.join("lock");
    let lock = fs::File::create(&lock_path).map_err(io(&lock_path))?;
    lock.lock().map_err(io(&lock_path))?;
    let made = make(&root, &version, chunks, embedder, progress);
    clean_up(&root, &version, made.is_ok());
    made
}

fn make(
    root: &Path,
    version: &str,
    chunks: &[Arc<Chunk>],
    embedder: &Embedder,
    progress: &mut dyn FnMut(IndexProgress),
) -> Result<Stored, KbError> {
    let building = root.join(format!("building-{}", std::process::id()));
    let _ = fs::remove_dir_all(&building);
    fs::create_dir_all(&building).map_err(io(&building))?;

    let texts = texts_to_embed(chunks, embedder);
    let known = last_vectors(root, embedder);
    let (mut journal, before) = Journal::open(root, embedder.dimensions())?;
    let mut vectors: Vec<Option<(Vec<f32>, bool)>> =
        texts.iter().map(|text| known.vector(&text.hash).or_else(|| before.get(&text.hash).cloned())).collect();
    drop(before);
    let missing: Vec<usize> = (0..texts.len()).filter(|at| vectors[*at].is_none()).collect();
    let reused = texts.len() - missing.len();
    let total = texts.len();
    progress(IndexProgress { step: IndexStep::Embed, done: reused, total });
    // Texts of like length share a batch, so the longest go first.
    let mut order = missing.clone();
    order.sort_by_key(|at| std::cmp::Reverse(texts[*at].text.len()));
    for (round, batch) in order.chunks(PROGRESS_TEXTS).enumerate() {
        let batch_texts: Vec<&str> = batch.iter().map(|at| texts[*at].text.as_str()).collect();
        let found = embedder.embed(&batch_texts, Role::Passage)?;
        for ((at, vector), cut) in batch.iter().zip(found.vectors).zip(found.truncated) {
            journal.add(&texts[*at].hash, &vector, cut);
            vectors[*at] = Some((vector, cut));
        }
        journal.flush();
        let done = reused + (round * PROGRESS_TEXTS) + batch.len();
        progress(IndexProgress { step: IndexStep::Embed, done, total });
    }

    let mut lines = Vec::with_capacity(texts.len());
    let mut to_write = Vec::with_capacity(texts.len());
    for (text, vector) in texts.iter().zip(vectors) {
        let Some((vector, truncated)) = vector else { continue };
        lines.push(KeyLine { hash: text.hash, key: text.key, truncated });
        to_write.push((text.key, vector));
    }
    let (vectors_path, keys_path) = (building.join(VECTORS), building.join(KEYS));
    if !to_write.is_empty() {
        let linked = &mut |done| progress(IndexProgress { step: IndexStep::Link, done, total: to_write.len() });
        Dense::write(&vectors_path, embedder.dimensions(), &to_write, linked)?;
    } else {
        fs::write(&vectors_path, []).map_err(io(&vectors_path))?;
    }
    fs::write(&keys_path, lines.iter().flat_map(KeyLine::bytes).collect::<Vec<u8>>()).map_err(io(&keys_path))?;
    drop(to_write);
    let written = &mut |done| progress(IndexProgress { step: IndexStep::Words, done, total: chunks.len() });
    Lexical::write(&building.join(TEXT), chunks, written)?;
    let meta = Meta {
        format: FORMAT,
        embedder: embedder.hash().into(),
        dimensions: embedder.dimensions(),
        chunks: chunks.len(),
        vectors: lines.len(),
        truncated: truncated_chunks(&lines),
        vectors_hash: hash_of(&vectors_path)?,
        keys_hash: hash_of(&keys_path)?,
    };
    let meta_path = building.join(META);
    let json = serde_json::to_vec_pretty(&meta).map_err(|e| KbError::Index(e.to_string()))?;
    fs::write(&meta_path, json).map_err(io(&meta_path))?;
    for path in [&vectors_path, &keys_path, &meta_path] {
        fs::File::open(path).and_then(|file| file.sync_all()).map_err(io(path))?;
    }

    let dir = root.join(version);
    let _ = fs::remove_dir_all(&dir);
    fs::rename(&building, &dir).map_err(io(&dir))?;
    let mut stored = open(&dir, version, chunks, embedder)?;
    point_to(root, version)?;
    journal.remove();
    stored.reused = reused;
    stored.embedded = missing.len();
    Ok(stored)
}

fn open(dir: &Path, version: &str, chunks: &[Arc<Chunk>], embedder: &Embedder) -> Result<Stored, KbError> {
    let (meta, lines) = read_meta(dir)?;
    if meta.embedder != embedder.hash() || meta.chunks != chunks.len() || meta.dimensions != embedder.dimensions() {
        return Err(KbError::Index("it was made of something else".into()));
    }
    let dense = match lines.is_empty() {
        true => None,
        false => Some(Dense::open(&dir.join(VECTORS), meta.dimensions, lines.iter().map(|line| line.key))?.sketched()?),
    };
    let lexical = Lexical::open(&dir.join(TEXT), chunks)?;
    Ok(Stored { version: version.into(), dense, lexical, truncated: meta.truncated, reused: lines.len(), embedded: 0 })
}

/// Reads and verifies what describes a version.
fn read_meta(dir: &Path) -> Result<(Meta, Vec<KeyLine>), KbError> {
    let meta_path = dir.join(META);
    let json = fs::read(&meta_path).map_err(io(&meta_path))?;
    let meta: Meta = serde_json::from_slice(&json).map_err(|e| KbError::Index(format!("{META}: {e}")))?;
    if meta.format != FORMAT {
        return Err(KbError::Index(format!("it has the format {}, this program writes {FORMAT}", meta.format)));
    }
    for (name, hash) in [(VECTORS, &meta.vectors_hash), (KEYS, &meta.keys_hash)] {
        if hash_of(&dir.join(name))? != *hash {
            return Err(KbError::Index(format!("{name} is not what was written")));
        }
    }
    let keys_path = dir.join(KEYS);
    let bytes = fs::read(&keys_path).map_err(io(&keys_path))?;
    let lines: Vec<KeyLine> = bytes.chunks_exact(KEY_LINE_BYTES).map(KeyLine::parse).collect();
    if lines.len() != meta.vectors {
        return Err(KbError::Index(format!("{KEYS} has {} lines instead of {}", lines.len(), meta.vectors)));
    }
    Ok((meta, lines))
}

impl KeyLine {
    fn bytes(&self) -> Vec<u8> {
        let mut out = self.hash.to_vec();
        out.extend(self.key.chunk.to_le_bytes());
        out.extend(self.key.slot.to_le_bytes());
        out.push(u8::from(self.truncated));
        out
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut hash = [0; 16];
        hash.copy_from_slice(&bytes[..16]);
        let chunk = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
        let slot = u16::from_le_bytes([bytes[20], bytes[21]]);
        Self { hash, key: VectorKey { chunk, slot }, truncated: bytes[22] != 0 }
    }
}

struct TextToEmbed {
    key: VectorKey,
    text: String,
    hash: TextHash,
}

/// The texts that get a vector: each chunk's own, and each of its questions, as the model can read them. A chunk in a
/// language that it cannot read gets none: such a vector would only mislead.
fn texts_to_embed(chunks: &[Arc<Chunk>], embedder: &Embedder) -> Vec<TextToEmbed> {
    let mut out = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        let mut own = embedded_text(chunk);
        // Rough English of an answer alone says too little of what it answers.
        if embedder.reads_by_glossary(&chunk.lang)
            && let Some(question) = chunk.questions.first()
        {
            own = format!("{question}\n{own}");
        }
        let texts = std::iter::once(&own).chain(chunk.questions.iter().take(MAX_QUESTIONS));
        for (slot, text) in texts.enumerate() {
            let Some(text) = embedder.readable(&chunk.lang, text).map(Cow::into_owned) else { continue };
            let digest = blake3::hash(format!("{}\n{text}", embedder.hash()).as_bytes());
            let mut hash = [0; 16];
            hash.copy_from_slice(&digest.as_bytes()[..16]);
            out.push(TextToEmbed { key: VectorKey { chunk: at as u32, slot: slot as u16 }, text, hash });
        }
    }
    out
}

/// Vectors of the last good version, by the hash of their text.
struct KnownVectors {
    dense: Option<Dense>,
    keys: HashMap<TextHash, (VectorKey, bool)>,
}

impl KnownVectors {
    fn vector(&self, hash: &TextHash) -> Option<(Vec<f32>, bool)> {
        let (key, truncated) = self.keys.get(hash)?;
        let vector = self.dense.as_ref()?.vector(*key)?;
        Some((vector, *truncated))
    }
}

fn last_vectors(root: &Path, embedder: &Embedder) -> KnownVectors {
    let none = KnownVectors { dense: None, keys: HashMap::new() };
    let Ok(version) = fs::read_to_string(root.join(CURRENT)) else { return none };
    let dir = root.join(version.trim());
    let Ok((meta, lines)) = read_meta(&dir) else { return none };
    if meta.dimensions != embedder.dimensions() || lines.is_empty() {
        return none;
    }
    let dense = Dense::open(&dir.join(VECTORS), meta.dimensions, lines.iter().map(|line| line.key)).ok();
    KnownVectors { dense, keys: lines.into_iter().map(|line| (line.hash, (line.key, line.truncated))).collect() }
}

fn truncated_chunks(lines: &[KeyLine]) -> usize {
    let mut cut: Vec<u32> = lines.iter().filter(|line| line.truncated).map(|line| line.key.chunk).collect();
    cut.sort_unstable();
    cut.dedup();
    cut.len()
}

/// Hash of everything an index is made of.
fn version_of(chunks: &[Arc<Chunk>], embedder: &Embedder) -> Result<String, KbError> {
    let mut hasher = blake3::Hasher::new();
    let (languages, glossary) = (embedder.languages().join(","), crate::text::glossary::version());
    let program = env!("CARGO_PKG_VERSION");
    hasher.update(format!("{FORMAT} {program} {} {languages} {glossary}", embedder.hash()).as_bytes());
    for chunk in chunks {
        let json = serde_json::to_vec(&**chunk).map_err(|e| KbError::Index(e.to_string()))?;
        hasher.update(&json);
    }
    Ok(hasher.finalize().to_hex()[..20].to_string())
}

fn point_to(root: &Path, version: &str) -> Result<(), KbError> {
    let (pointer, beside) = (root.join(CURRENT), root.join(format!("{CURRENT}.{}", std::process::id())));
    if fs::read_to_string(&pointer).is_ok_and(|at| at == version) {
        return Ok(());
    }
    fs::write(&beside, version).map_err(io(&beside))?;
    fs::File::open(&beside).and_then(|file| file.sync_all()).map_err(io(&beside))?;
    fs::rename(&beside, &pointer).map_err(io(&pointer))
}

/// Removes old versions and what a crash left behind. Open maps of a removed version stay readable.
fn clean_up(root: &Path, version: &str, made: bool) {
    let current = fs::read_to_string(root.join(CURRENT)).unwrap_or_default();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_old = name != current.trim() && (!made || name != version);
        if entry.path().is_dir() && is_old {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn hash_of(path: &Path) -> Result<String, KbError> {
    let file = fs::File::open(path).map_err(io(path))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(io(path))?;
    Ok(hasher.finalize().to_hex()[..32].to_string())
}

pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> KbError {
    let path: PathBuf = path.to_path_buf();
    move |e| KbError::Io { path: path.display().to_string(), reason: e.to_string() }
}
