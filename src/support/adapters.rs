//! The operators' LoRA adapters: found in the pack or in a models folder, read once, and read again when their file or
//! their operator's settings change. A file that cannot be used keeps the server from starting; later on the last good
//! one goes on serving.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::SupportError;
use crate::config::Settings;
use crate::kb::pack::{Operator, OperatorAdapter, Pack};
use crate::llm::{Adapter, ChatModel};

/// All adapters that are in memory.
pub(super) struct Adapters {
    folders: Vec<PathBuf>,
    limit_bytes: u64,
    /// By operator.
    held: Mutex<HashMap<String, Held>>,
}

/// What an operator's adapter was made from.
#[derive(Clone)]
struct Held {
    wanted: OperatorAdapter,
    path: PathBuf,
    stamp: Option<(u64, SystemTime)>,
    adapter: Adapter,
}

impl Adapters {
    pub fn new(settings: &Settings) -> Self {
        let limit_bytes = (settings.engine.adapters_mib as u64).saturating_mul(1 << 20);
        Self { folders: settings.models.folders(), limit_bytes, held: Mutex::default() }
    }

    /// The operator's adapter, read where that has not been done. Blocking.
    ///
    /// # Errors
    /// What is wrong with the file, with the operator whose it is.
    pub fn load(&self, chat: &ChatModel, pack: &Pack, operator: &Operator) -> Result<Option<Adapter>, SupportError> {
        let mut held = self.held.lock();
        let Some(wanted) = &operator.adapter else {
            held.remove(&operator.name);
            return Ok(None);
        };
        let fault = |reason: String| SupportError::Adapter {
            path: format!("operators/{}/operator.toml", operator.name),
            file: wanted.file.clone(),
            reason,
        };
        let path = pack.adapter_path(wanted, &self.folders).map_err(fault)?;
        let stamp = stamp(&path);
        let same = |one: &&Held| one.path == path && one.stamp == stamp && one.wanted.scale == wanted.scale;
        let known = held.get(&operator.name).filter(same).or_else(|| held.values().find(same)).cloned();
        let one = match known {
            Some(known) => known,
            None => {
                let others = held.iter().filter(|(name, _)| **name != operator.name).map(|(_, held)| &held.adapter);
                let left = self.limit_bytes.saturating_sub(distinct_bytes(others));
                let adapter = chat.adapter(&path, wanted.scale, left).map_err(|error| fault(error.to_string()))?;
                Held { wanted: wanted.clone(), path, stamp, adapter }
            }
        };
        let adapter = one.adapter.clone();
        held.insert(operator.name.clone(), one);
        Ok(Some(adapter))
    }

    /// The adapter for a turn: where the operator's cannot be read now, the one that it had before. Blocking.
    pub fn of(&self, chat: &ChatModel, pack: &Pack, operator: &str) -> Option<Adapter> {
        let operator = pack.operators.iter().find(|one| one.name == operator)?;
        self.load(chat, pack, operator).unwrap_or_else(|error| {
            let before = self.held.lock().get(&operator.name).map(|held| held.adapter.clone());
            let instead = if before.is_some() { "the one before it" } else { "none" };
            tracing::warn!(%error, instead, "an operator's adapter cannot be used");
            before
        })
    }

    /// Lets go the adapters of operators that are not in the pack any more.
    pub fn keep_only_of(&self, pack: &Pack) {
        self.held.lock().retain(|name, _| pack.operators.iter().any(|operator| operator.name == *name));
    }

    /// Memory that all of them take.
    pub fn bytes(&self) -> u64 {
        distinct_bytes(self.held.lock().values().map(|held| &held.adapter))
    }
}

/// Bytes of adapters, those of several operators counted once.
fn distinct_bytes<'a>(adapters: impl Iterator<Item = &'a Adapter>) -> u64 {
    let by_key: HashMap<_, _> = adapters.map(|adapter| (adapter.key(), adapter.bytes() as u64)).collect();
    by_key.values().sum()
}

/// What tells that a file was replaced.
fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.len(), meta.modified().ok()?))
}
