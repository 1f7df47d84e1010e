//! LoRA adapters, as `models list`, `doctor` and `index --check` show them.

use std::path::{Path, PathBuf};

use super::show;
use crate::config::Settings;
use crate::kb::Pack;
use crate::kb::pack::OperatorAdapter;
use crate::model::{AdapterBase, AdapterFile, Gguf, ModelError, ModelSpec};

/// Folders below a models folder that are looked into.
const DEEPEST: usize = 2;

/// Each operator that names an adapter: what is in the file, or why it cannot be used with the chat model in `chat`.
pub fn of_operators(settings: &Settings, pack: &Pack, chat: &Path) -> Vec<(String, Result<String, String>)> {
    let folders = settings.models.folders();
    let named = pack.operators.iter().filter_map(|operator| Some((operator, operator.adapter.as_ref()?)));
    let told = named.map(|(operator, adapter)| {
        let told = pack
            .adapter_path(adapter, &folders)
            .and_then(|path| examine(&path, adapter, chat).map_err(|error| error.to_string()));
        (operator.name.clone(), told)
    });
    told.collect()
}

fn examine(path: &Path, adapter: &OperatorAdapter, chat: &Path) -> Result<String, ModelError> {
    let file = AdapterFile::open(path)?;
    let gguf = Gguf::open(chat)?;
    AdapterBase::of(&gguf, &ModelSpec::read(&gguf)?)?.check(&file)?;
    Ok(format!("{}, {}, scale {}", path.display(), content(&file), adapter.scale))
}

fn content(file: &AdapterFile) -> String {
    format!(
        "rank {}, {} matrices of {}, {}",
        file.rank(),
        file.matrices(),
        file.architecture(),
        show::mib(file.stored_bytes().div_ceil(1 << 20))
    )
}

/// Prints the adapters in the models folders.
pub fn list(folders: &[PathBuf]) {
    let mut found = Vec::new();
    folders.iter().for_each(|folder| gather(folder, folder, DEEPEST, &mut found));
    found.sort();
    println!(
        "\nAdapters (LoRA, GGUF) in the models folders; an operator takes one with `adapter = FILE` in operator.toml:"
    );
    match found.is_empty() {
        true => println!("  none"),
        false => found.iter().for_each(|(name, text)| println!("  {name:<38} {text}")),
    }
}

fn gather(root: &Path, folder: &Path, deeper: usize, found: &mut Vec<(String, String)>) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() && deeper > 0 {
            gather(root, &path, deeper - 1, found);
        } else if path.extension().is_some_and(|end| end == "gguf") && is_adapter(&path) {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let text =
                AdapterFile::open(&path).map_or_else(|error| format!("cannot be used: {error}"), |f| content(&f));
            found.push((name, text));
        }
    }
}

fn is_adapter(path: &Path) -> bool {
    Gguf::open(path).is_ok_and(|gguf| gguf.text("general.type").is_ok_and(|kind| kind == Some("adapter")))
}
