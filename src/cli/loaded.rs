//! Models loaded once, and the whole support logic over a pack, for commands that answer in this process.

use std::path::Path;
use std::process::Command;

use super::{catalog, show};
use crate::config::Settings;
use crate::embed::{Embedder, Reranker};
use crate::eval::page::Provenance;
use crate::kb::{Knowledge, Models, Pack};
use crate::llm::{ChatModel, PackedCache};
use crate::support::Support;

/// The models that the settings name.
pub struct Loaded {
    pub chat: ChatModel,
    pub readers: Models,
    pub chat_languages: Vec<String>,
}

/// Loads them. Blocking.
pub fn load(settings: &Settings) -> anyhow::Result<Loaded> {
    let models = catalog::resolve(settings)?;
    let embedder = Embedder::load(&models.embed.id, &models.embed.path, &models.embed.languages)?;
    let reranker = models.rerank.as_ref().map(|model| Reranker::load(&model.id, &model.path)).transpose()?;
    let packed = PackedCache::new(settings);
    let chat = ChatModel::load(&models.chat.id, &models.chat.path, &settings.engine, packed.as_ref())?;
    Ok(Loaded { chat, readers: Models { embedder, reranker }, chat_languages: models.chat.languages.clone() })
}

impl Loaded {
    /// The support logic over the pack, changed by `adjust` after reading; its index is brought up to date in `state`.
    pub fn support(&self, settings: &Settings, state: &Path, adjust: &dyn Fn(&mut Pack)) -> anyhow::Result<Support> {
        let knowledge = self.knowledge(settings, state, adjust)?;
        Ok(Support::new(
            settings,
            self.chat.clone(),
            &self.chat_languages,
            self.readers.embedder.clone(),
            knowledge,
            state,
        )?)
    }

    /// The pack's knowledge alone.
    pub fn knowledge(
        &self,
        settings: &Settings,
        state: &Path,
        adjust: &dyn Fn(&mut Pack),
    ) -> anyhow::Result<Knowledge> {
        let bar = show::index_bar();
        let progress = &mut |progress| show::index_progress(&bar, progress);
        let opened = Knowledge::open_adjusted(&settings.knowledge, state, self.readers.clone(), progress, adjust);
        bar.finish_and_clear();
        Ok(opened?.0)
    }

    /// What a reader needs to get a run's figures again.
    pub fn provenance(&self, settings: &Settings, pack: &Pack, operator: &str, seed: u64) -> Provenance {
        let digest = format!("digest {}", pack.digest);
        Provenance {
            operator: operator.into(),
            seed,
            chat_model: self.chat.id().into(),
            chat_model_hash: self.chat.hash().into(),
            embed_model_hash: self.readers.embedder.hash().into(),
            pack: commit_of(&settings.knowledge.dir).map_or(digest.clone(), |commit| format!("{commit}, {digest}")),
            program: format!("firstline {}", env!("CARGO_PKG_VERSION")),
            command: std::env::args().collect::<Vec<_>>().join(" "),
        }
    }
}

/// The commit that the folder stands at, with a `+` where it was changed since.
fn commit_of(pack: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(pack).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--", "."])?.is_empty();
    Some(format!("commit {commit}{}", if changed { "+" } else { "" }))
}
