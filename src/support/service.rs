//! The support logic as a service: what was learnt, the pinned openings, and the start of a turn.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::adapters::Adapters;
use super::filter::{Filters, Saved};
use super::learned::Learned;
use super::prompt;
use super::stream::{self, TurnStream};
use super::turn::{self, Plan, Tools};
use super::{Found, SupportError, TurnRequest};
use crate::config::{ModelWrites, Settings, SupportSettings};
use crate::embed::Embedder;
use crate::kb::pack::{Instruction, Operator, Pack};
use crate::kb::{Knowledge, Snapshot};
use crate::llm::{AdaptedTokens, ChatModel, Grammar};

/// The support logic over one chat model and one knowledge pack. Cheap to clone.
#[derive(Clone)]
pub struct Support {
    inner: Arc<Inner>,
}

struct Inner {
    settings: SupportSettings,
    chat: ChatModel,
    chat_languages: Vec<String>,
    embedder: Embedder,
    knowledge: Knowledge,
    core_share: f32,
    adapters: Arc<Adapters>,
    learned: RwLock<Arc<Learned>>,
    /// Where learnt filters are saved.
    saved: Saved,
    /// What is pinned of each operator's version: what a conversation's first prompt begins with.
    openings: RwLock<HashMap<String, Arc<Vec<u32>>>>,
    /// Held while a changed pack's filters and cores are prepared.
    learning: tokio::sync::Mutex<()>,
    /// Where prefixes are saved; known from the first warm-up on.
    state_dir: Mutex<Option<PathBuf>>,
}

impl Support {
    /// Learns the pack's filters and vocabulary, or reads the filters where they were saved. Blocking; seconds where it
    /// has to learn.
    ///
    /// `state_dir`: where learnt filters are saved for the next start.
    /// `chat_languages`: what the chat model writes well; customers' other languages get verbatim and quoted answers only.
    ///
    /// # Errors
    /// The filter examples cannot be learnt, or the pack has no operator.
    pub fn new(
        settings: &Settings,
        chat: ChatModel,
        chat_languages: &[String],
        embedder: Embedder,
        knowledge: Knowledge,
        state_dir: &Path,
    ) -> Result<Self, SupportError> {
        let snapshot = knowledge.snapshot();
        if snapshot.pack().operators.is_empty() {
            return Err(SupportError::InvalidRequest(
                "the knowledge pack has no operator: add operators/NAME/operator.toml and v1.md".into(),
            ));
        }
        let saved = Saved::below(state_dir);
        let learned = Arc::new(Learned::all(snapshot, &embedder, &saved)?);
        let writes = settings.support.model_writes != ModelWrites::Nothing;
        Ok(Self {
            inner: Arc::new(Inner {
                settings: settings.support.clone(),
                chat,
                chat_languages: if writes { chat_languages.to_vec() } else { Vec::new() },
                embedder,
                knowledge,
                core_share: settings.knowledge.core_share,
                adapters: Arc::new(Adapters::new(settings)),
                learned: RwLock::new(learned),
                saved,
                openings: RwLock::default(),
                learning: tokio::sync::Mutex::default(),
                state_dir: Mutex::new(None),
            }),
        })
    }

    /// The same over other knowledge, to try it beside this: the entrance filters are learnt anew only where their rows
    /// differ. Blocking.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn over(&self, knowledge: Knowledge) -> Result<Self, SupportError> {
        let inner = &self.inner;
        let mut learned = inner.learned.read().with_filters_of(knowledge.snapshot());
        if learned.filters_are_old() {
            learned = Learned::all(knowledge.snapshot(), &inner.embedder, &inner.saved)?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                settings: inner.settings.clone(),
                chat: inner.chat.clone(),
                chat_languages: inner.chat_languages.clone(),
                embedder: inner.embedder.clone(),
                knowledge,
                core_share: inner.core_share,
                adapters: inner.adapters.clone(),
                learned: RwLock::new(Arc::new(learned)),
                saved: inner.saved.clone(),
                openings: RwLock::default(),
                learning: tokio::sync::Mutex::default(),
                state_dir: Mutex::new(None),
            }),
        })
    }

    /// Reads every operator's adapter, and computes or restores its pinned core. Call at start; after that [`Self::follow_changes`] does it.
    ///
    /// Returns for each core its name (`igor/v1`), its tokens and the time taken.
    ///
    /// # Errors
    /// An adapter that cannot be used, a core that is too long, with its file; what the engine said.
    pub async fn warm_up(&self, state_dir: &Path) -> Result<Vec<(String, usize, Duration)>, SupportError> {
        *self.inner.state_dir.lock() = Some(state_dir.to_path_buf());
        let snapshot = self.inner.learned.read().snapshot.clone();
        let parameters = self.inner.chat.parameters();
        if self.inner.settings.model_writes.of(parameters, false) == ModelWrites::AlongSources {
            // The first grammar takes a fraction of a second; no customer is to wait for it.
            let chat = self.inner.chat.clone();
            tokio::task::spawn_blocking(move || chat.constraint(&Grammar::JsonObject));
        }
        self.inner.pin_cores(&snapshot, state_dir).await
    }

    /// Learns a changed pack and prepares its cores as soon as it is read, so that no customer waits for that.
    /// Never returns; give it a task of its own.
    pub async fn follow_changes(self) {
        let mut changes = self.inner.knowledge.changes();
        while changes.changed().await.is_ok() {
            let inner = self.inner.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || inner.up_to_date()).await {
                tracing::warn!(%error, "learning the changed pack broke off; the next turn tries again");
            }
        }
    }

    /// Reads every operator's adapter: the bytes that all of them take. Blocking.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn load_adapters(&self) -> Result<u64, SupportError> {
        let (inner, snapshot) = (&self.inner, self.inner.knowledge.snapshot());
        for operator in &snapshot.pack().operators {
            inner.adapters.load(&inner.chat, snapshot.pack(), operator)?;
        }
        Ok(inner.adapters.bytes())
    }

    /// The knowledge that answers come from.
    pub fn knowledge(&self) -> &Knowledge {
        &self.inner.knowledge
    }

    /// Names of the operators, which are model ids on the wire.
    pub fn operators(&self) -> Vec<String> {
        self.inner.knowledge.snapshot().pack().operators.iter().map(|operator| operator.name.clone()).collect()
    }

    /// What speaks of a message, best first, as a turn of a new conversation with the first operator sees it. Blocking.
    ///
    /// # Errors
    /// A search that fails.
    pub fn find(&self, message: &str) -> Result<Vec<Found>, SupportError> {
        let learned = self.inner.learned.read().clone();
        let tools = Tools {
            learned: &learned,
            embedder: &self.inner.embedder,
            settings: &self.inner.settings,
            chat_languages: &self.inner.chat_languages,
            parameters: self.inner.chat.parameters(),
            count: &|_| 0,
        };
        turn::find(message, &tools)
    }

    /// Starts a turn: everything up to the first generated token. Fixed answers are complete when it returns.
    ///
    /// # Errors
    /// At once for an unknown operator, an empty transcript, a full queue or an overlong prompt.
    pub async fn turn(&self, request: TurnRequest) -> Result<TurnStream, SupportError> {
        let started = Instant::now();
        if !request.messages.iter().any(|m| m.role == "user" && !m.content.trim().is_empty()) {
            return Err(SupportError::InvalidRequest(
                "messages: there is no message of the role \"user\" with text in it".into(),
            ));
        }
        let inner = self.inner.clone();
        let planned = tokio::task::spawn_blocking(move || {
            let learned = inner.up_to_date();
            let tools = Tools {
                learned: &learned,
                embedder: &inner.embedder,
                settings: &inner.settings,
                chat_languages: &inner.chat_languages,
                parameters: inner.chat.parameters(),
                count: &|text| inner.chat.count_tokens(text),
            };
            let plan = turn::plan(&request, &tools, started)?;
            let adapter = match &plan {
                Plan::Write(writing) => {
                    inner.adapters.of(&inner.chat, learned.snapshot.pack(), &writing.outcome.operator)
                }
                Plan::Say(_) => None,
            };
            Ok::<_, SupportError>((plan, adapter))
        });
        let (plan, adapter) =
            planned.await.map_err(|e| SupportError::Knowledge(format!("the turn broke off: {e}")))??;
        match plan {
            Plan::Say(draft) => Ok(TurnStream::said(draft.text, draft.outcome)),
            Plan::Write(writing) => {
                let name = pin_name(&writing.outcome.operator, &writing.outcome.operator_version);
                let opening = self.inner.openings.read().get(&name).cloned().unwrap_or_default();
                stream::write(*writing, adapter, &opening, &self.inner.chat, self.inner.embedder.clone())
            }
        }
    }
}

impl Inner {
    /// What was learnt, brought up to the knowledge's latest snapshot. Vocabulary at once, filters and cores behind.
    fn up_to_date(self: &Arc<Self>) -> Arc<Learned> {
        let known = self.learned.read().clone();
        let latest = self.knowledge.snapshot();
        if known.snapshot.version() == latest.version() {
            return known;
        }
        let mut slot = self.learned.write();
        if slot.snapshot.version() != latest.version() {
            *slot = Arc::new(slot.with_filters_of(latest));
        }
        let learned = slot.clone();
        drop(slot);
        let inner = self.clone();
        tokio::spawn(async move {
            // One pack after the other; whoever waited finds the latest.
            let _one_at_a_time = inner.learning.lock().await;
            inner.learn_behind().await;
        });
        learned
    }

    /// Learns filters again where their rows changed, and pins changed cores.
    async fn learn_behind(self: &Arc<Self>) {
        let current = self.learned.read().clone();
        if current.filters_are_old() {
            let (inner, snapshot) = (self.clone(), current.snapshot.clone());
            let learn = move || Filters::saved_or_learnt(snapshot.pack(), &inner.embedder, &inner.saved);
            let learnt = tokio::task::spawn_blocking(learn).await;
            match learnt {
                Ok(Ok(filters)) => {
                    let mut slot = self.learned.write();
                    *slot = Arc::new(Learned::with(slot.snapshot.clone(), Arc::new(filters)));
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the changed filter examples cannot be learnt; the earlier ones stay")
                }
                Err(error) => {
                    tracing::warn!(%error, "learning the changed filter examples broke off; the earlier ones stay")
                }
            }
        }
        let state_dir = self.state_dir.lock().clone();
        if let Some(state_dir) = state_dir
            && let Err(error) = self.pin_cores(&current.snapshot, &state_dir).await
        {
            tracing::warn!(%error, "a changed instruction's core cannot be kept ready");
        }
    }

    async fn pin_cores(
        &self,
        snapshot: &Arc<Snapshot>,
        state_dir: &Path,
    ) -> Result<Vec<(String, usize, Duration)>, SupportError> {
        let limit = (self.chat.context_tokens() as f32 * self.core_share) as usize;
        let mut report = Vec::new();
        let mut openings = HashMap::new();
        self.adapters.keep_only_of(snapshot.pack());
        for (operator, version) in versions_in_use(snapshot.pack()) {
            let started = Instant::now();
            let Opening { tokens, core } = opening_of(&self.chat, version)?;
            if core > limit {
                return Err(SupportError::CoreTooLong { path: version.path.clone(), tokens: core, limit });
            }
            let name = pin_name(&operator.name, &version.version);
            let adapter = {
                let (adapters, chat) = (self.adapters.clone(), self.chat.clone());
                let (snapshot, operator) = (snapshot.clone(), operator.clone());
                tokio::task::spawn_blocking(move || adapters.load(&chat, snapshot.pack(), &operator))
            };
            let adapter =
                adapter.await.map_err(|e| SupportError::Knowledge(format!("reading an adapter broke off: {e}")))??;
            let prefix = AdaptedTokens { tokens: tokens.clone(), adapter };
            let pinned = self.chat.pin(&name, prefix, state_dir).await?;
            report.push((name.clone(), pinned.tokens, started.elapsed()));
            openings.insert(name, Arc::new(tokens));
        }
        *self.openings.write() = openings;
        let names: Vec<String> = report.iter().map(|(name, ..)| name.clone()).collect();
        self.chat.keep_only(&names, state_dir).await?;
        Ok(report)
    }
}

/// The instructions that conversations can meet: the active version and those with a share.
fn versions_in_use(pack: &Pack) -> impl Iterator<Item = (&Operator, &Instruction)> {
    pack.operators.iter().flat_map(|operator| {
        let used = |v: &&Instruction| {
            v.version == operator.active_version || operator.shares.get(&v.version).is_some_and(|s| *s > 0.0)
        };
        operator.versions.values().filter(used).map(move |v| (operator, v))
    })
}

/// The name under which a version's opening is pinned.
fn pin_name(operator: &str, version: &str) -> String {
    format!("{operator}/{version}")
}

/// What every first prompt of an operator begins with.
struct Opening {
    tokens: Vec<u32>,
    /// How many of them are the system message, which is the core.
    core: usize,
}

fn opening_of(chat: &ChatModel, version: &Instruction) -> Result<Opening, SupportError> {
    let [one, other] = prompt::openings(version);
    let (one, other) = (chat.prompt(&one)?, chat.prompt(&other)?);
    let core = one.message_ends.first().copied().unwrap_or(0).min(one.tokens.len());
    let common = common_start(&one.tokens, &other.tokens).max(core);
    Ok(Opening { tokens: one.tokens[..common].to_vec(), core })
}

/// How many tokens two texts begin with alike.
pub(super) fn common_start(one: &[u32], other: &[u32]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
