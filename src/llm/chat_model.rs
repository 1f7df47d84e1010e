//! A chat model with its tokenizer, template and engine thread: the room's front door.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::answer::TokenTable;
use super::block_pool::blocks_for;
use super::constraint::{Grammars, bounded_first};
use super::engine::{self, EngineOptions};
use super::handle::{Command, EngineHandle};
use super::prefix_store::{self, PrefixSlot, PrefixStats, PrefixWriter};
use super::scheduler::StepLimits;
use super::template::{ChatTemplate, TemplateTokens, TextEncoder};
use super::tools::ToolFormat;
use super::{
    AdaptedTokens, Adapter, ChatMessage, Constraint, EngineStats, GenerateRequest, Generation, Grammar, LlmError,
    PinReport, Prompt, PromptMessage, PromptOptions, ToolChoice, ToolParser, ToolSpec, reasoning,
};
use crate::config::EngineSettings;
use crate::model::{
    self, AdapterFile, BLOCK_TOKENS, ChatFile, ChatTokenizer, Decoder, ModelError, PackedCache, ReadAdapters, Source,
};

/// A chat model with its engine thread. Cheap to clone; the thread ends when the last clone is dropped and all running
/// generations are done.
#[derive(Clone)]
pub struct ChatModel {
    inner: Arc<Inner>,
}

struct Inner {
    id: String,
    hash: Arc<FileHash>,
    settings: EngineSettings,
    tokenizer: Arc<ChatTokenizer>,
    template: Option<ChatTemplate>,
    adapters: Arc<dyn ReadAdapters>,
    engine: EngineHandle,
    /// Saved prefixes that were used since are in use.
    since: SystemTime,
    prefixes: Mutex<PrefixStats>,
    /// The vocabulary as grammars need it; made when the first is compiled.
    grammars: OnceLock<Result<Grammars, LlmError>>,
}

impl TokenTable for ChatTokenizer {
    fn token_bytes(&self, token: u32) -> Vec<u8> {
        ChatTokenizer::token_bytes(self, token)
    }
    fn token_text(&self, token: u32) -> String {
        ChatTokenizer::token_text(self, token)
    }
    fn ends_answer(&self, token: u32) -> bool {
        self.end_tokens().contains(&token)
    }
}

impl TextEncoder for ChatTokenizer {
    fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, String> {
        ChatTokenizer::encode(self, text, parse_special).map_err(|e| e.to_string())
    }
}

impl ChatModel {
    /// Loads the model and starts its engine thread. Blocking: seconds for a small model, minutes for a large one.
    ///
    /// # Errors
    /// [`LlmError::Load`]: a broken file, an unknown format, a broken chat template, too little memory for the cache.
    pub fn load(
        id: &str,
        path: &Path,
        settings: &EngineSettings,
        packed: Option<&PackedCache>,
    ) -> Result<Self, LlmError> {
        let load_error = |error: ModelError| LlmError::Load(error.to_string());
        let ChatFile { tokenizer, decoder, source } = model::load(path, settings, packed).map_err(load_error)?;
        let tokenizer = Arc::new(tokenizer);
        let template =
            tokenizer.chat_template().map(|source| ChatTemplate::new(source, template_tokens(&tokenizer, source)));
        let template = template.transpose().map_err(|e| LlmError::Load(format!("{}: {e}", path.display())))?;
        let vocab = decoder.vocab().min(tokenizer.vocab());
        let options = options(settings, &decoder, vocab)?;
        let adapters = decoder.adapters();
        let engine = engine::start(decoder, tokenizer.clone(), options)?;
        let inner = Inner {
            id: id.into(),
            hash: FileHash::beside(source)?,
            settings: settings.clone(),
            tokenizer,
            template,
            adapters,
            engine,
            since: SystemTime::now(),
            prefixes: Mutex::default(),
            grammars: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Hash of the model file (BLAKE3), hex.
    pub fn hash(&self) -> &str {
        self.inner.hash.get()
    }

    /// Numbers of all tensors: 135 million of the starter model.
    pub fn parameters(&self) -> u64 {
        self.inner.hash.source.parameters()
    }

    /// Bytes that the `native` backend's matrices take, and bytes of the tensors that they were made from.
    pub fn weight_bytes(&self) -> (usize, usize) {
        self.inner.hash.source.weight_bytes()
    }

    /// Takes a LoRA adapter of this model to where the model runs. Blocking: as long as the file takes to read.
    ///
    /// # Errors
    /// [`LlmError::Adapter`]: a file that cannot be read, is no adapter, or was made for another model; or one of more
    /// than `most_bytes`.
    pub fn adapter(&self, path: &Path, scale: f32, most_bytes: u64) -> Result<Adapter, LlmError> {
        let adapter_error = |error: ModelError| LlmError::Adapter(error.to_string());
        let file = AdapterFile::open(path).map_err(adapter_error)?;
        let wanted = file.stored_bytes();
        if wanted > most_bytes {
            return Err(LlmError::Adapter(format!(
                "{}: the adapter has {} MiB, and {} MiB are left of engine.adapters_mib; raise it, or train an adapter of \
                 a lower rank (this one's is {})",
                path.display(),
                wanted.div_ceil(1 << 20),
                most_bytes >> 20,
                file.rank()
            )));
        }
        self.inner.adapters.read(&file, scale).map_err(adapter_error)
    }

    /// Longest prompt plus answer, in tokens.
    pub fn context_tokens(&self) -> usize {
        self.inner.engine.limits.context_tokens
    }

    /// Renders the file's chat template and tokenizes it. Spellings of control tokens inside messages stay plain text.
    ///
    /// # Errors
    /// [`LlmError::Template`] if the file has no template, or it refuses the messages.
    pub fn prompt(&self, messages: &[ChatMessage]) -> Result<Prompt, LlmError> {
        match &self.inner.template {
            Some(template) => template.prompt(messages, self.inner.tokenizer.as_ref()),
            None => Err(LlmError::Template("the model's file has no template; use an instruct model".into())),
        }
    }

    /// The same with tools, calls and their results, and with a train of thought where it is asked for.
    ///
    /// # Errors
    /// As [`Self::prompt`].
    pub fn prompt_with(&self, messages: Vec<PromptMessage>, options: &PromptOptions) -> Result<Prompt, LlmError> {
        match &self.inner.template {
            Some(template) => template.prompt_with(messages, options, self.inner.tokenizer.as_ref()),
            None => Err(LlmError::Template("the model's file has no template; use an instruct model".into())),
        }
    }

    /// Compiles the form that an answer is to keep. Milliseconds; the first time on a model up to a second.
    ///
    /// # Errors
    /// [`LlmError::Schema`] with the place of what cannot be served.
    pub fn constraint(&self, grammar: &Grammar) -> Result<Constraint, LlmError> {
        let grammars = self.inner.grammars.get_or_init(|| {
            let tokenizer = &self.inner.tokenizer;
            let word = |token: u32| match tokenizer.token_bytes(token) {
                bytes if !bytes.is_empty() => bytes,
                _ => match tokenizer.token_text(token) {
                    text if text.is_empty() => Vec::new(),
                    text => [&[0xff], text.as_bytes()].concat(),
                },
            };
            Grammars::new((0..self.inner.engine.limits.vocab as u32).map(word).collect(), tokenizer.end_tokens())
        });
        grammars.as_ref().map_err(Clone::clone)?.compile(grammar)
    }

    /// The form of an answer that may, or must, call tools.
    ///
    /// # Errors
    /// [`LlmError::Schema`] with the place of what cannot be served.
    pub fn tool_constraint(
        &self,
        tools: &[ToolSpec],
        choice: &ToolChoice,
        parallel: bool,
    ) -> Result<Constraint, LlmError> {
        let control = |spelling: &str| self.control_token(spelling);
        let form = |bounded| self.constraint(&self.tool_format().grammar(tools, choice, parallel, control, bounded)?);
        bounded_first(form)
    }

    /// Reads this model's calls out of its answers.
    pub fn tool_parser(&self) -> ToolParser {
        ToolParser::new(self.tool_format())
    }

    fn tool_format(&self) -> ToolFormat {
        self.inner.template.as_ref().map_or(ToolFormat::Hermes, ChatTemplate::tool_format)
    }

    /// True for models that can write a train of thought before their answer.
    pub fn thinks(&self) -> bool {
        self.inner.template.as_ref().is_some_and(ChatTemplate::thinks)
    }

    /// Control tokens that an answer's reader needs to see: the marks of calls and of thoughts.
    pub fn shown_marks(&self) -> Arc<[u32]> {
        let marks = self.tool_format().marks().iter().chain([&reasoning::OPEN, &reasoning::CLOSE]);
        marks.filter_map(|mark| self.control_token(mark)).collect()
    }

    /// The token with this spelling, if it adds no text.
    fn control_token(&self, spelling: &str) -> Option<u32> {
        match self.inner.tokenizer.encode(spelling, true).ok()?.as_slice() {
            [token] if self.inner.tokenizer.token_bytes(*token).is_empty() => Some(*token),
            _ => None,
        }
    }

    /// Tokens as their spellings, for `/v1/tokenize`.
    pub fn token_texts(&self, tokens: &[u32]) -> Vec<String> {
        tokens.iter().map(|token| self.inner.tokenizer.token_text(*token)).collect()
    }

    /// The token that begins every prompt, where the model has one.
    pub fn leading_bos(&self) -> Option<u32> {
        self.inner.tokenizer.bos().filter(|_| self.inner.tokenizer.adds_bos())
    }

    /// Plain text to tokens: control tokens' spellings stay text, and no BOS is added.
    ///
    /// # Errors
    /// [`LlmError::InvalidParameter`] if the tokenizer refuses the text.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>, LlmError> {
        self.inner.tokenizer.encode(text, false).map_err(|e| LlmError::InvalidParameter(e.to_string()))
    }

    /// Number of tokens of a plain text.
    pub fn count_tokens(&self, text: &str) -> usize {
        self.tokenize(text).map_or(0, |tokens| tokens.len())
    }

    /// True to what [`Self::generate`] would say of a request's parameters.
    ///
    /// # Errors
    /// A parameter out of range, or a prompt too long for the context.
    pub fn check(&self, request: &GenerateRequest) -> Result<(), LlmError> {
        self.inner.engine.check(request)
    }

    /// Queues a request.
    ///
    /// # Errors
    /// At once when a parameter is out of range, the prompt is too long for the context, or the queue is full.
    pub fn generate(&self, request: GenerateRequest) -> Result<Generation, LlmError> {
        self.inner.engine.generate(request)
    }

    /// Computes (or reads from `state_dir`) a shared prefix and keeps it under `name`. What was pinned under this name
    /// before is let go.
    ///
    /// # Errors
    /// [`LlmError::Engine`] if the KV pool has no room for it.
    pub async fn pin(
        &self,
        name: &str,
        prefix: impl Into<AdaptedTokens>,
        state_dir: &Path,
    ) -> Result<PinReport, LlmError> {
        let prefix = prefix.into();
        let report = |restored| Ok(PinReport { tokens: prefix.tokens.len(), restored });
        if prefix.tokens.is_empty() {
            return report(false);
        }
        if let Some(token) = prefix.tokens.iter().find(|t| **t as usize >= self.inner.engine.limits.vocab) {
            return Err(LlmError::InvalidParameter(format!("the prefix has token {token}, which this model has not")));
        }
        if self.holds(name, &prefix).await? {
            return report(true);
        }
        let slot = PrefixSlot::new(state_dir, self.hash(), &self.inner.settings, name, &prefix);
        if self.restore(name, &prefix, &slot).await {
            self.count(state_dir, |stats| stats.restored += 1).await;
            return report(true);
        }
        let (pin_name, pin_prefix) = (name.to_string(), prefix.clone());
        self.inner.engine.ask(|reply| Command::Pin { name: pin_name, prefix: pin_prefix, reply }).await?;
        let saved = self.save(name, blocks_for(prefix.tokens.len()), &slot, state_dir).await;
        if let Err(reason) = &saved {
            let file = slot.path();
            tracing::warn!(file = %file.display(), reason, "a pinned prefix could not be saved; it is computed again at the next start");
        }
        let outcome = |stats: &mut PrefixStats| {
            stats.computed += 1;
            stats.evicted += saved.as_ref().copied().unwrap_or(0);
            stats.unsaved += u64::from(saved.is_err());
        };
        self.count(state_dir, outcome).await;
        report(false)
    }

    /// Counts what became of a prefix, and looks again at what lies on the disk.
    async fn count(&self, state_dir: &Path, change: impl FnOnce(&mut PrefixStats)) {
        let state_dir = state_dir.to_path_buf();
        let on_disk = tokio::task::spawn_blocking(move || prefix_store::on_disk(&state_dir)).await;
        let mut stats = self.inner.prefixes.lock();
        change(&mut stats);
        if let Ok(Ok((files, bytes))) = on_disk {
            (stats.files, stats.bytes) = (files, bytes);
        }
    }

    /// What became of pinned prefixes since the start, and what is saved.
    pub fn prefix_stats(&self) -> PrefixStats {
        *self.inner.prefixes.lock()
    }

    /// Lets go every pinned prefix but those named, and removes this model's saved files of the others, together with
    /// what a killed server left half written.
    ///
    /// # Errors
    /// [`LlmError::Engine`] if the engine has ended. Files that cannot be removed are logged.
    pub async fn keep_only(&self, names: &[String], state_dir: &Path) -> Result<(), LlmError> {
        let keep = names.to_vec();
        self.inner.engine.ask(|reply| Command::KeepOnly { names: keep, reply }).await?;
        let (folder, hash, names, limit) =
            (state_dir.to_path_buf(), self.hash().to_string(), names.to_vec(), self.prefix_limit());
        let removed = tokio::task::spawn_blocking(move || {
            prefix_store::remove_others(&folder, &hash, &names)?;
            prefix_store::make_room(&folder, limit, 0, None)
        });
        let evicted = match removed.await.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            Ok((evicted, _)) => evicted,
            Err(error) => {
                tracing::warn!(%error, "saved prefixes that nobody uses could not be removed");
                0
            }
        };
        self.count(state_dir, |stats| stats.evicted += evicted).await;
        Ok(())
    }

    /// Most bytes of saved prefixes.
    fn prefix_limit(&self) -> u64 {
        (self.inner.settings.prefix_mib as u64).saturating_mul(1 << 20)
    }

    async fn holds(&self, name: &str, prefix: &AdaptedTokens) -> Result<bool, LlmError> {
        let (name, prefix) = (name.to_string(), prefix.clone());
        self.inner.engine.ask(|reply| Command::Holds { name, prefix, reply }).await
    }

    /// True if the prefix was read from its file.
    async fn restore(&self, name: &str, prefix: &AdaptedTokens, slot: &PrefixSlot) -> bool {
        let (reader, blocks) = (slot.clone(), blocks_for(prefix.tokens.len()));
        let read = tokio::task::spawn_blocking(move || reader.read(blocks)).await.map_err(|e| e.to_string());
        let restored = match read.flatten() {
            Ok(None) => return false,
            Ok(Some(saved)) => {
                let (name, prefix) = (name.to_string(), prefix.clone());
                let command = |reply| Command::Restore { name, prefix, saved, reply };
                self.inner.engine.ask(command).await.map_err(|e| e.to_string())
            }
            Err(reason) => Err(reason),
        };
        restored
            .inspect_err(|reason| {
                self.inner.prefixes.lock().refused += 1;
                let file = slot.path();
                tracing::warn!(file = %file.display(), reason, "a saved prefix is not used; it is computed again");
            })
            .is_ok()
    }

    /// Writes a pinned prefix, a block at a time, so that the engine never stands still for the disk. Gives the number of
    /// other files that made room for it.
    async fn save(&self, name: &str, blocks: usize, slot: &PrefixSlot, state_dir: &Path) -> Result<u64, String> {
        let export = |block| {
            let name = name.to_string();
            self.inner.engine.ask(move |reply| Command::Export { name, block, reply })
        };
        // The disk is written to by a thread of its own; a few blocks wait between the two.
        let (sender, mut blocks_read) = tokio::sync::mpsc::channel::<Vec<u8>>(4);
        let (slot, state_dir) = (slot.clone(), state_dir.to_path_buf());
        let (limit, since) = (self.prefix_limit(), self.inner.since);
        let written = tokio::task::spawn_blocking(move || {
            let mut writer: Option<PrefixWriter> = None;
            let mut evicted = 0;
            for number in 0..blocks {
                let Some(bytes) = blocks_read.blocking_recv() else {
                    return Err(std::io::Error::other(format!("block {number} of {blocks} did not come")));
                };
                let writer = match &mut writer {
                    Some(writer) => writer,
                    none => {
                        let wanted = PrefixSlot::file_bytes(blocks, bytes.len());
                        let (removed, fits) = prefix_store::make_room(&state_dir, limit, wanted, Some(since))?;
                        evicted = removed;
                        if !fits {
                            let (needed, limit) = (wanted.div_ceil(1 << 20), limit >> 20);
                            return Err(std::io::Error::other(format!(
                                "it takes {needed} MiB, and saved prefixes that are in use leave no room for it: raise \
                                 engine.prefix_mib ({limit})"
                            )));
                        }
                        none.insert(slot.create(blocks, bytes.len())?)
                    }
                };
                writer.push(&bytes)?;
            }
            writer.map_or(Ok(()), PrefixWriter::commit)?;
            Ok(evicted)
        });
        for block in 0..blocks {
            let bytes = export(block).await.map_err(|e| e.to_string())?;
            if sender.send(bytes).await.is_err() {
                break;
            }
        }
        drop(sender);
        written.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    /// False once the engine has ended, which it does only by a fault: nothing is answered any more.
    pub fn is_alive(&self) -> bool {
        self.inner.engine.is_alive()
    }

    /// Numbers for `/metrics` and `doctor`.
    pub fn stats(&self) -> EngineStats {
        self.inner.engine.stats()
    }
}

/// The hash of the model file, which takes a while to compute where no earlier start has.
struct FileHash {
    source: Source,
    hash: OnceLock<String>,
}

impl FileHash {
    /// Begins to compute it, on a thread that then keeps the packed weights for the next start.
    fn beside(source: Source) -> Result<Arc<Self>, LlmError> {
        let both = Arc::new(Self { source, hash: OnceLock::new() });
        let own = both.clone();
        std::thread::Builder::new()
            .name("firstline-keep".into())
            .spawn(move || own.source.keep_packed(own.get()))
            .map_err(|e| LlmError::Load(format!("a thread could not be started: {e}")))?;
        Ok(both)
    }

    fn get(&self) -> &str {
        self.hash.get_or_init(|| self.source.hash())
    }
}

/// What a template must know of the vocabulary. Its control tokens are those that `parse_special` makes a difference for,
/// and those that the template's source spells: some files mark the borders of turns as ordinary added words.
fn template_tokens(tokenizer: &ChatTokenizer, source: &str) -> TemplateTokens {
    let spelling = |token: Option<u32>| token.map(|t| tokenizer.token_text(t)).unwrap_or_default();
    let is_control = |token: u32, text: &str| {
        // Encoding each of 150,000 tokens twice takes seconds; only these can differ.
        let bracketed = text.starts_with(['<', '[']) && text.ends_with(['>', ']']) && text.len() > 2;
        let candidate = bracketed || tokenizer.token_bytes(token).is_empty();
        let encode = |special| tokenizer.encode(text, special).unwrap_or_default();
        candidate
            && !text.is_empty()
            && encode(true) == [token]
            && (encode(false) != [token] || (bracketed && source.contains(text)))
    };
    TemplateTokens {
        bos: spelling(tokenizer.bos()),
        eos: spelling(tokenizer.end_tokens().first().copied()),
        control: (0..tokenizer.vocab() as u32)
            .map(|token| (token, tokenizer.token_text(token)))
            .filter(|(token, text)| is_control(*token, text))
            .map(|(_, text)| text)
            .collect(),
        leading_bos: tokenizer.bos().filter(|_| tokenizer.adds_bos()),
    }
}

/// The engine's limits for a model.
fn options(settings: &EngineSettings, decoder: &Decoder, vocab: usize) -> Result<EngineOptions, LlmError> {
    let (trained, room) = (decoder.trained_context(), decoder.kv_blocks() * BLOCK_TOKENS);
    if room < 2 * BLOCK_TOKENS {
        return Err(LlmError::Load(format!("engine.kv_mib is {}: that holds only {room} tokens", settings.kv_mib)));
    }
    let wanted = if settings.context_tokens == 0 { trained } else { settings.context_tokens };
    if wanted > trained {
        return Err(LlmError::Load(format!("engine.context_tokens is {wanted}; this model was trained for {trained}")));
    }
    if wanted > room {
        tracing::warn!(
            "engine.kv_mib = {} holds {room} tokens: that is the longest context, not {wanted}",
            settings.kv_mib
        );
    }
    let limits = StepLimits {
        step_tokens: settings.step_tokens.max(1),
        chunk_tokens: settings.prefill_chunk_tokens.max(1),
        max_running: settings.max_running.max(1),
        draft_tokens: if decoder.repeats_rows() { settings.draft_tokens } else { 0 },
    };
    Ok(EngineOptions {
        limits,
        max_waiting: settings.max_waiting,
        context_tokens: wanted.min(room),
        vocab,
        step_time: Duration::from_millis(settings.step_ms),
    })
}

#[cfg(test)]
mod tests;
