//! The engine thread: owns the weights and the KV pool, and turns scheduler plans into steps.
//!
//! Each turn of the loop takes in commands, drops sequences whose listener went away, runs one step, draws tokens, and
//! publishes the figures. A step that fails ends the sequences that it fails for, never the thread.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::answer::{Answer, Farewell, TokenTable};
use super::block_pool::blocks_for;
use super::handle::{Command, EndMark, EngineHandle, Reply, RequestLimits, Shared};
use super::pacer::Pacer;
use super::prefix_store::SavedPrefix;
use super::scheduler::{BlockCopy, NeverFits, Scheduler, Sequence, SequenceId, Share, StepLimits};
use super::{AdaptedTokens, CacheScope, EngineStats, LlmError};
use crate::model::{BLOCK_TOKENS, BlockId, Decoder, ModelError, StepSequence, WantLogits};

/// What the engine needs of a decoder.
pub(crate) trait StepModel: Send + 'static {
    fn kv_blocks(&self) -> usize;
    fn vocab(&self) -> usize;
    fn step(&mut self, batch: &[StepSequence<'_>]) -> Result<Vec<Vec<f32>>, ModelError>;
    fn export_block(&self, block: BlockId) -> Result<Vec<u8>, ModelError>;
    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), ModelError>;
}

impl StepModel for Decoder {
    fn kv_blocks(&self) -> usize {
        Decoder::kv_blocks(self)
    }
    fn vocab(&self) -> usize {
        Decoder::vocab(self)
    }
    fn step(&mut self, batch: &[StepSequence<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        Decoder::step(self, batch)
    }
    fn export_block(&self, block: BlockId) -> Result<Vec<u8>, ModelError> {
        Decoder::export_block(self, block)
    }
    fn import_block(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), ModelError> {
        Decoder::import_block(self, block, bytes)
    }
}

/// How an engine is to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineOptions {
    pub limits: StepLimits,
    pub max_waiting: usize,
    pub context_tokens: usize,
    /// Tokens that have a text. A model may give more logits than that: padding, which is never drawn.
    pub vocab: usize,
    /// How long a step should take at most while sequences decode.
    pub step_time: Duration,
}

/// A prefix that is being computed to be kept.
struct Pinning {
    name: String,
    prefix: AdaptedTokens,
    reply: Reply<()>,
}

struct Engine<M> {
    model: M,
    table: Arc<dyn TokenTable>,
    scheduler: Scheduler,
    pacer: Pacer,
    vocab: usize,
    answers: HashMap<SequenceId, Answer>,
    pinning: HashMap<SequenceId, Pinning>,
    /// Kept prefixes' blocks, by name.
    pinned: HashMap<String, Vec<BlockId>>,
    /// Last events; they are sent after the figures are published, so that whoever sees one finds its blocks free.
    farewells: Vec<Farewell>,
    stats: EngineStats,
    shared: Arc<Shared>,
    /// Pins' ids count down from the top, so that they are the newest of all and are preempted first.
    next_pin: SequenceId,
}

/// Starts the engine thread.
///
/// # Errors
/// If the system gives no thread.
pub(crate) fn start<M: StepModel>(
    model: M,
    table: Arc<dyn TokenTable>,
    options: EngineOptions,
) -> Result<EngineHandle, LlmError> {
    let (commands, receiver) = mpsc::channel();
    let shared = Arc::new(Shared::default());
    let limits = RequestLimits {
        vocab: options.vocab,
        context_tokens: options.context_tokens,
        max_running: options.limits.max_running,
        max_waiting: options.max_waiting,
    };
    let mut engine = Engine {
        scheduler: Scheduler::new(model.kv_blocks(), options.limits),
        pacer: Pacer::new(options.step_time.as_secs_f64(), options.limits.chunk_tokens),
        model,
        table,
        vocab: options.vocab,
        answers: HashMap::new(),
        pinning: HashMap::new(),
        pinned: HashMap::new(),
        farewells: Vec::new(),
        stats: EngineStats::default(),
        shared: shared.clone(),
        next_pin: SequenceId::MAX,
    };
    engine.publish();
    std::thread::Builder::new()
        .name("firstline-engine".into())
        .spawn(move || {
            let _mark = EndMark(engine.shared.clone());
            engine.run(&receiver);
        })
        .map_err(|e| LlmError::Load(format!("the engine thread could not be started: {e}")))?;
    Ok(EngineHandle { commands, shared, limits })
}

impl<M: StepModel> Engine<M> {
    fn run(&mut self, commands: &mpsc::Receiver<Command>) {
        while self.receive(commands) {
            self.drop_abandoned();
            self.step();
            self.publish();
            self.farewells.drain(..).for_each(Farewell::send);
        }
    }

    /// Takes in all commands, waiting for one if there is nothing to do. False: all handles are gone and all is said.
    fn receive(&mut self, commands: &mpsc::Receiver<Command>) -> bool {
        if self.scheduler.is_idle() {
            match commands.recv() {
                Ok(command) => self.obey(command),
                Err(mpsc::RecvError) => return false,
            }
        }
        while let Ok(command) = commands.try_recv() {
            self.obey(command);
        }
        true
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Generate { sequence, answer } => {
                let id = sequence.id;
                match self.scheduler.submit(sequence) {
                    Ok(()) => drop(self.answers.insert(id, *answer)),
                    Err(never) => self.farewells.push(answer.failed(never_fits(never))),
                }
            }
            Command::Pin { name, prefix, reply } => self.pin(name, prefix, reply),
            Command::Restore { name, prefix, saved, reply } => {
                let restored = self.restore(name, prefix, &saved);
                self.publish();
                let _ = reply.send(restored);
            }
            Command::Holds { name, prefix, reply } => {
                let kept = self.pinned.get(&name);
                let holds = kept.is_some() && self.scheduler.find_shared(&prefix).as_ref() == kept;
                let _ = reply.send(Ok(holds));
            }
            Command::KeepOnly { names, reply } => {
                self.keep_only(&names);
                self.publish();
                let _ = reply.send(Ok(()));
            }
            Command::Export { name, block, reply } => {
                let found = self.pinned.get(&name).and_then(|blocks| blocks.get(block));
                let bytes = match found {
                    Some(block) => self.model.export_block(*block).map_err(engine_error),
                    None => Err(LlmError::Engine(format!("no block {block} is pinned as `{name}`"))),
                };
                let _ = reply.send(bytes);
            }
        }
    }

    fn pin(&mut self, name: String, prefix: AdaptedTokens, reply: Reply<()>) {
        if let Some(blocks) = self.scheduler.find_shared(&prefix) {
            if let Err(error) = self.room_to_pin(&prefix) {
                return drop(reply.send(Err(error)));
            }
            blocks.iter().for_each(|block| self.scheduler.pool.pin(*block));
            self.keep(name, blocks);
            self.publish();
            return drop(reply.send(Ok(())));
        }
        let scope = CacheScope { shared_tokens: prefix.tokens.len(), salt: String::new() };
        let id = self.next_pin;
        let submitted = self
            .room_to_pin(&prefix)
            .and_then(|()| self.scheduler.submit(Sequence::new(id, prefix.clone(), 0, scope)).map_err(never_fits));
        match submitted {
            Ok(()) => {
                self.next_pin -= 1;
                self.pinning.insert(id, Pinning { name, prefix, reply });
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Pins may take three quarters of the pool, so that customers always have room.
    fn room_to_pin(&self, prefix: &AdaptedTokens) -> Result<(), LlmError> {
        let pool = &self.scheduler.pool;
        let (blocks, pinned, total) = (blocks_for(prefix.tokens.len()), pool.pinned(), pool.total());
        let own =
            self.scheduler.find_shared(prefix).map_or(0, |own| own.iter().filter(|b| pool.is_pinned(**b)).count());
        if (pinned + blocks - own) * 4 > total * 3 {
            return Err(LlmError::Engine(format!(
                "a prefix of {} tokens cannot be pinned: it takes {blocks} KV blocks, {pinned} of {total} are pinned \
                 already, and a quarter must stay free; raise engine.kv_mib or shorten the instructions",
                prefix.tokens.len()
            )));
        }
        Ok(())
    }

    /// Remembers a pinned prefix; one that had its name before is let go.
    fn keep(&mut self, name: String, blocks: Vec<BlockId>) {
        if let Some(old) = self.pinned.insert(name, blocks) {
            self.scheduler.unpin(&old);
        }
    }

    /// Lets go every pinned prefix but those of these names: operators and versions vanish while the server runs.
    fn keep_only(&mut self, names: &[String]) {
        let gone: Vec<String> = self.pinned.keys().filter(|name| !names.contains(name)).cloned().collect();
        for blocks in gone.iter().filter_map(|name| self.pinned.remove(name)).collect::<Vec<_>>() {
            self.scheduler.unpin(&blocks);
        }
    }

    fn restore(&mut self, name: String, prefix: AdaptedTokens, saved: &SavedPrefix) -> Result<(), LlmError> {
        self.room_to_pin(&prefix)?;
        let pool = &mut self.scheduler.pool;
        let wanted = blocks_for(prefix.tokens.len());
        if wanted > pool.free() {
            return Err(LlmError::Engine(format!("{wanted} KV blocks are needed, {} are free", pool.free())));
        }
        let blocks: Vec<BlockId> = (0..wanted).filter_map(|_| pool.allocate()).collect();
        let mut pairs = blocks.iter().zip(saved.blocks());
        if let Err(error) = pairs.try_for_each(|(block, bytes)| self.model.import_block(*block, bytes)) {
            pool.release_all(&blocks);
            return Err(engine_error(error));
        }
        let blocks = self.scheduler.pin_shared(&prefix, &blocks);
        self.keep(name, blocks);
        Ok(())
    }

    /// Ends sequences to which nobody listens any more.
    fn drop_abandoned(&mut self) {
        let gone = self.answers.iter().filter(|(_, a)| a.is_abandoned()).map(|(id, _)| *id).collect::<Vec<_>>();
        for id in gone {
            self.scheduler.remove(id);
            self.answers.remove(&id);
            self.stats.cancelled += 1;
        }
        let gone = self.pinning.iter().filter(|(_, p)| p.reply.is_closed()).map(|(id, _)| *id).collect::<Vec<_>>();
        for id in gone {
            self.scheduler.remove(id);
            self.pinning.remove(&id);
        }
    }

    fn step(&mut self) {
        self.scheduler.limits.chunk_tokens = self.pacer.chunk_tokens();
        let mut plan = self.scheduler.plan();
        self.stats.preemptions += plan.preempted.len() as u64;
        for id in plan.stuck {
            let pool = &self.scheduler.pool;
            let needed = self.scheduler.get(id).map_or(0, |s| s.tokens.len().div_ceil(BLOCK_TOKENS));
            let never = NeverFits { needed, available: pool.total() - pool.pinned(), pinned: pool.pinned() };
            self.fail(id, never_fits(never));
        }
        for copy in plan.copies {
            if let Err(error) = self.copy(copy) {
                tracing::error!(sequence = copy.id, %error, "a pinned prefix could not be copied");
                self.fail(copy.id, engine_error(error));
                plan.shares.retain(|share| share.id != copy.id);
            }
        }
        if !plan.shares.is_empty() {
            self.compute(&plan.shares);
        }
        let read: Vec<_> = self.pinning.keys().filter(|id| self.scheduler.is_read(**id)).copied().collect();
        for id in read {
            self.finish_pin(id);
        }
    }

    fn copy(&mut self, copy: BlockCopy) -> Result<(), ModelError> {
        let bytes = self.model.export_block(copy.from)?;
        self.model.import_block(copy.to, &bytes)
    }

    fn compute(&mut self, shares: &[Share]) {
        for share in shares {
            if let Some(answer) = self.answers.get_mut(&share.id) {
                answer.start();
            }
        }
        let started = Instant::now();
        let rows = self.run_batch(shares);
        let decodes = shares.iter().filter(|s| s.decodes()).count();
        let tokens: usize = shares.iter().filter(|s| !s.decodes()).map(|s| s.count).sum();
        let seconds = started.elapsed().as_secs_f64();
        self.pacer.measured(decodes, tokens, seconds);
        tracing::trace!(decodes, prompt_tokens = tokens, seconds, "a step");
        self.stats.steps += 1;
        for (share, row) in shares.iter().zip(rows) {
            let outcome = row.and_then(|logits| match share.draft {
                0 => {
                    self.scheduler.computed(*share);
                    if share.draws { self.draw(share.id, logits).map(drop) } else { Ok(()) }
                }
                _ => self.draw_along(*share, &logits),
            });
            if let Err(error) = outcome {
                tracing::error!(sequence = share.id, %error, "a sequence failed");
                self.fail(share.id, error);
            }
        }
    }

    /// Runs the shares as one batch; if that fails one by one, so that only those fail that must.
    fn run_batch(&mut self, shares: &[Share]) -> Vec<Result<Vec<f32>, LlmError>> {
        match self.run_shares(shares) {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            Err(error) if shares.len() == 1 => vec![Err(error)],
            Err(error) => {
                tracing::warn!(%error, "a step failed; its {} sequences are computed one by one", shares.len());
                let alone = |share: &Share| self.run_shares(std::slice::from_ref(share)).map(|mut rows| rows.remove(0));
                shares.iter().map(alone).collect()
            }
        }
    }

    fn run_shares(&mut self, shares: &[Share]) -> Result<Vec<Vec<f32>>, LlmError> {
        let missing = || LlmError::Engine("a planned sequence is gone".into());
        let tokens =
            shares.iter().map(|share| Ok(self.scheduler.get(share.id).ok_or_else(missing)?.share_tokens(*share)));
        let tokens = tokens.collect::<Result<Vec<_>, LlmError>>()?;
        let batch = shares.iter().zip(&tokens).map(|(share, tokens)| {
            let sequence = self.scheduler.get(share.id).ok_or_else(missing)?;
            let end = share.start + share.count;
            Ok(StepSequence {
                tokens,
                start: share.start,
                blocks: &sequence.blocks[..end.div_ceil(BLOCK_TOKENS)],
                logits: match share.draws {
                    true if share.draft > 0 => WantLogits::All,
                    true => WantLogits::Last,
                    false => WantLogits::No,
                },
                adapter: sequence.adapter.as_ref(),
            })
        });
        let batch = batch.collect::<Result<Vec<_>, LlmError>>()?;
        let model = &mut self.model;
        let rows = catch_unwind(AssertUnwindSafe(|| model.step(&batch)))
            .map_err(|_| LlmError::Engine("the decoder panicked".into()))?
            .map_err(engine_error)?;
        let vocab = self.model.vocab();
        let as_asked =
            |(row, share): (&Vec<f32>, &Share)| row.len() == if share.draws { vocab * (1 + share.draft) } else { 0 };
        if rows.len() != shares.len() || !rows.iter().zip(shares).all(as_asked) {
            return Err(LlmError::Engine("the decoder gave other logits than were asked for".into()));
        }
        Ok(rows)
    }

    /// Draws from the rows of a share with a draft, one after another, as if each had been a step of its own: for as long
    /// as what is drawn is what the next row was computed for.
    fn draw_along(&mut self, share: Share, logits: &[f32]) -> Result<(), LlmError> {
        let tokens = self.scheduler.get(share.id).map(|s| s.share_tokens(share)).unwrap_or_default();
        let mut accepted = 0;
        for (n, row) in logits.chunks_exact(self.model.vocab()).enumerate() {
            self.scheduler.computed(Share { start: share.start + n, count: 1, draft: 0, ..share });
            let drawn = self.draw(share.id, row.to_vec())?;
            if drawn.is_none() || drawn != tokens.get(n + 1).copied() {
                break;
            }
            accepted += 1;
        }
        self.scheduler.settle(share.id, accepted);
        self.stats.drafts += 1;
        self.stats.drafted_tokens += share.draft as u64;
        self.stats.accepted_tokens += accepted as u64;
        Ok(())
    }

    /// Draws a sequence's next token. Gives it, unless it was the last one.
    fn draw(&mut self, id: SequenceId, mut logits: Vec<f32>) -> Result<Option<u32>, LlmError> {
        let Some(answer) = self.answers.get_mut(&id) else { return Ok(None) };
        let first = !answer.has_tokens();
        logits.truncate(self.vocab);
        let token = answer.draw(&mut logits, self.table.as_ref())?;
        let length = self.scheduler.push_token(id, token);
        self.stats.generated_tokens += 1;
        if let Some(sequence) = self.scheduler.get(id).filter(|_| first) {
            self.stats.prompt_tokens += sequence.prompt_tokens as u64;
            self.stats.cached_tokens += sequence.cached as u64;
        }
        if let Some(reason) = answer.say(token, length, self.table.as_ref()) {
            let (sequence, answer) = (self.scheduler.remove(id), self.answers.remove(&id));
            self.farewells.extend(sequence.zip(answer).map(|(sequence, answer)| answer.done(reason, &sequence)));
            return Ok(None);
        }
        Ok(Some(token))
    }

    fn fail(&mut self, id: SequenceId, error: LlmError) {
        self.scheduler.remove(id);
        if let Some(pinning) = self.pinning.remove(&id) {
            let _ = pinning.reply.send(Err(error));
        } else if let Some(answer) = self.answers.remove(&id) {
            self.farewells.push(answer.failed(error));
        }
    }

    fn finish_pin(&mut self, id: SequenceId) {
        let Some(Pinning { name, prefix, reply }) = self.pinning.remove(&id) else { return };
        let pinned = match self.scheduler.pin_read(id, &prefix) {
            Some(blocks) => {
                self.keep(name, blocks);
                Ok(())
            }
            None => Err(LlmError::Engine("the prefix was lost while it was computed".into())),
        };
        self.scheduler.remove(id);
        self.publish();
        let _ = reply.send(pinned);
    }

    fn publish(&mut self) {
        let pool = &self.scheduler.pool;
        self.stats.running = self.scheduler.running();
        self.stats.waiting = self.scheduler.waiting();
        self.stats.kv_blocks = pool.total();
        self.stats.kv_blocks_used = pool.used();
        self.stats.kv_blocks_pinned = pool.pinned();
        self.shared.publish(self.stats);
    }
}

fn engine_error(error: ModelError) -> LlmError {
    LlmError::Engine(error.to_string())
}

fn never_fits(NeverFits { needed, available, pinned }: NeverFits) -> LlmError {
    LlmError::InvalidParameter(format!(
        "the prompt and `max_tokens` need up to {needed} KV blocks of {BLOCK_TOKENS} tokens; {available} are there for \
         customers ({pinned} are pinned): ask for fewer tokens, or raise engine.kv_mib"
    ))
}

#[cfg(test)]
mod tests;
