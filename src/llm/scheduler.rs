//! What is computed in the next step. Pure data: no tensors, no text, no clock.
//!
//! A [`Sequence`] is its tokens and three counters: how many tokens are `computed` (their keys and values are cached),
//! how many came from the cache, and how long the prompt is. What is not computed yet is *pending*: one token for a
//! sequence that decodes, more for a prompt that is being read. A step takes all sequences with one pending token, then
//! prompt chunks up to a budget. When blocks run out the newest sequence gives its own back and waits; its blocks keep
//! their names, so it comes back through its own cached prefix.

use std::collections::{HashSet, VecDeque};

use super::block_pool::{BlockKey, BlockName, BlockPool, block_keys, blocks_for};
use super::draft::Drafter;
use super::prefix_ends::PrefixEnds;
use super::{AdaptedTokens, CacheScope};
use crate::model::{Adapter, BLOCK_TOKENS, BlockId};

/// Names a sequence for as long as it lives; later arrivals have higher ones.
pub(crate) type SequenceId = u64;

/// Limits of one step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepLimits {
    /// Most tokens in a step, decodes and prompt chunks together.
    pub step_tokens: usize,
    /// Most prompt tokens in a step in which other sequences decode.
    pub chunk_tokens: usize,
    /// Most sequences running at once.
    pub max_running: usize,
    /// Most tokens that are drafted for a sequence in one step; 0: none.
    pub draft_tokens: usize,
}

/// One request's tokens and how far they are computed.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub id: SequenceId,
    /// Prompt and answer.
    pub tokens: Vec<u32>,
    pub prompt_tokens: usize,
    /// Tokens whose keys and values are in `blocks`.
    pub computed: usize,
    /// Prompt tokens that needed no computing.
    pub cached: usize,
    pub blocks: Vec<BlockId>,
    /// Most tokens of the answer. 0: only the prompt is computed (to pin it).
    pub max_answer: usize,
    /// Passed on to the decoder with every share.
    pub adapter: Option<Adapter>,
    /// What the names of its blocks begin with.
    root: BlockName,
    scope: CacheScope,
    /// Names of the full blocks of `tokens`.
    keys: Vec<BlockKey>,
    drafter: Drafter,
    /// Tokens that may come next, in the step underway.
    draft: Vec<u32>,
    /// True once it was preempted: what it then finds in the cache is its own and not counted as `cached`.
    preempted: bool,
}

impl Sequence {
    pub fn new(id: SequenceId, prompt: impl Into<AdaptedTokens>, max_answer: usize, scope: CacheScope) -> Self {
        let prompt = prompt.into();
        let root = prompt.root();
        let AdaptedTokens { tokens: prompt, adapter } = prompt;
        let keys = block_keys(&prompt, root, &scope, &[]);
        Self {
            id,
            prompt_tokens: prompt.len(),
            tokens: prompt,
            computed: 0,
            cached: 0,
            blocks: Vec::new(),
            max_answer,
            adapter,
            root,
            scope,
            keys,
            drafter: Drafter::default(),
            draft: Vec::new(),
            preempted: false,
        }
    }

    fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    fn decodes(&self) -> bool {
        self.pending() == 1
    }

    /// The tokens that a share computes, its draft included.
    pub fn share_tokens(&self, share: Share) -> Vec<u32> {
        let end = share.start + share.count - share.draft;
        [&self.tokens[share.start..end], &self.draft[..share.draft]].concat()
    }

    /// Names of blocks that may be taken from the cache: at least one token is left to compute, for its logits.
    fn reusable_keys(&self) -> &[BlockKey] {
        let blocks = if self.max_answer == 0 { self.keys.len() } else { (self.tokens.len() - 1) / BLOCK_TOKENS };
        &self.keys[..blocks.min(self.keys.len())]
    }

    /// Name of the block that ends at the first `blocks` blocks, or what the first one's begins with.
    fn parent_of(&self, blocks: usize) -> &BlockName {
        blocks.checked_sub(1).and_then(|last| self.keys.get(last)).map_or(&self.root, |key| &key.name)
    }

    /// The tokens behind the computed ones that may be copied from a pinned prefix: at least one is left to compute.
    fn copyable(&self) -> &[u32] {
        let end = self.scope.shared_tokens.min(self.tokens.len() - usize::from(self.max_answer > 0));
        self.tokens.get(self.computed..end).unwrap_or_default()
    }

    /// Blocks at its longest. (The last token of an answer is never computed.)
    fn most_blocks(&self) -> usize {
        blocks_for(self.prompt_tokens + self.max_answer.saturating_sub(1))
    }
}

/// A sequence's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub id: SequenceId,
    pub start: usize,
    pub count: usize,
    /// The last so many of the tokens are drafted: they count only if they are drawn.
    pub draft: usize,
    /// The last pending token is among them: the next token can be drawn.
    pub draws: bool,
}

impl Share {
    /// True for a sequence whose prompt is read, with whatever draft follows.
    pub fn decodes(&self) -> bool {
        self.count - self.draft == 1
    }
}

/// A pinned prefix's last block, to be copied into a sequence's own before the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockCopy {
    pub id: SequenceId,
    pub from: BlockId,
    pub to: BlockId,
}

/// What one step computes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub copies: Vec<BlockCopy>,
    /// Decodes first, then prompt chunks.
    pub shares: Vec<Share>,
    pub preempted: Vec<SequenceId>,
    /// Sequences that can go on no more: they are alone and the pool is too small. The caller ends them.
    pub stuck: Vec<SequenceId>,
}

/// Why a request can never run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NeverFits {
    pub needed: usize,
    pub available: usize,
    pub pinned: usize,
}

/// Waiting and running sequences, and the blocks they hold.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub pool: BlockPool,
    pub limits: StepLimits,
    ends: PrefixEnds,
    waiting: VecDeque<Sequence>,
    /// Oldest first.
    running: Vec<Sequence>,
}

impl Scheduler {
    pub fn new(blocks: usize, limits: StepLimits) -> Self {
        let (pool, ends) = (BlockPool::new(blocks), PrefixEnds::default());
        Self { pool, limits, ends, waiting: VecDeque::new(), running: Vec::new() }
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    pub fn get(&self, id: SequenceId) -> Option<&Sequence> {
        self.running.iter().chain(&self.waiting).find(|s| s.id == id)
    }

    /// Queues a sequence.
    ///
    /// # Errors
    /// If the pool could not hold it even with no other sequence running.
    pub fn submit(&mut self, sequence: Sequence) -> Result<(), NeverFits> {
        let own_pins = sequence.keys.iter().map_while(|key| self.pool.find(key)).filter(|b| self.pool.is_pinned(*b));
        let pinned = self.pool.pinned() - own_pins.count();
        let available = self.pool.total() - pinned;
        let needed = sequence.most_blocks();
        if needed > available {
            return Err(NeverFits { needed, available, pinned });
        }
        self.waiting.push_back(sequence);
        Ok(())
    }

    /// Ends a sequence, waiting or running, and frees its blocks. Gives it back, if there was one.
    pub fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        if let Some(at) = self.waiting.iter().position(|s| s.id == id) {
            return self.waiting.remove(at);
        }
        let at = self.running.iter().position(|s| s.id == id)?;
        let mut sequence = self.running.remove(at);
        self.pool.release_all(&std::mem::take(&mut sequence.blocks));
        Some(sequence)
    }

    /// True once a sequence that wants no answer has nothing left to compute.
    pub fn is_read(&self, id: SequenceId) -> bool {
        self.running.iter().any(|s| s.id == id && s.pending() == 0)
    }

    /// Decides the next step.
    pub fn plan(&mut self) -> Plan {
        let mut plan = Plan::default();
        self.plan_decodes(&mut plan);
        if plan.preempted.is_empty() {
            // What a preemption freed belongs to the sequences that go on.
            self.admit(&mut plan);
        }
        self.plan_prompts(&mut plan);
        plan
    }

    /// Takes all running sequences with one pending token, oldest first, preempting the newest where blocks are short.
    fn plan_decodes(&mut self, plan: &mut Plan) {
        let decodes = self.running.iter().filter(|s| s.decodes()).count();
        // While a prompt is read, a step's rows cost what they compute, and the prompt wants them.
        let drafts = decodes == self.running.len();
        let mut at = 0;
        while at < self.running.len() {
            if !self.running[at].decodes() {
                at += 1;
                continue;
            }
            let needed = blocks_for(self.running[at].tokens.len());
            while self.running[at].blocks.len() < needed {
                if let Some(block) = self.pool.allocate() {
                    self.running[at].blocks.push(block);
                } else if self.running.len() == 1 {
                    plan.stuck.push(self.running[at].id);
                    return;
                } else {
                    plan.preempted.push(self.preempt_newest());
                    if at >= self.running.len() {
                        return;
                    }
                }
            }
            let draws = self.running[at].max_answer > 0;
            let draft = if drafts && draws { self.plan_draft(at, decodes) } else { 0 };
            let sequence = &self.running[at];
            plan.shares.push(Share { id: sequence.id, start: sequence.computed, count: 1 + draft, draft, draws });
            at += 1;
        }
    }

    /// Drafts what a sequence may say next: no more than its answer has room for, and only into blocks that nobody else
    /// may need in this step. Gives the number of tokens.
    fn plan_draft(&mut self, at: usize, decodes: usize) -> usize {
        let StepLimits { step_tokens, draft_tokens, .. } = self.limits;
        let reserve = self.running.len();
        let sequence = &mut self.running[at];
        let answered = sequence.tokens.len() - sequence.prompt_tokens;
        let room = sequence.max_answer.saturating_sub(answered + 1);
        let most = draft_tokens.min(room).min((step_tokens / decodes).saturating_sub(1));
        let mut draft = sequence.drafter.propose(&sequence.tokens, decodes, most);
        while sequence.blocks.len() < blocks_for(sequence.tokens.len() + draft.len()) {
            match if self.pool.free() > reserve { self.pool.allocate() } else { None } {
                Some(block) => sequence.blocks.push(block),
                None => draft.truncate(sequence.blocks.len() * BLOCK_TOKENS - sequence.tokens.len()),
            }
        }
        sequence.drafter.shorten(draft.len());
        sequence.draft = draft;
        sequence.draft.len()
    }

    fn preempt_newest(&mut self) -> SequenceId {
        let mut sequence = self.running.pop().expect("called with running sequences");
        self.pool.release_all(&std::mem::take(&mut sequence.blocks));
        sequence.computed = 0;
        sequence.preempted = true;
        let id = sequence.id;
        self.waiting.push_front(sequence);
        id
    }

    /// Moves waiting sequences, in order, to the running ones while there is room for all their tokens.
    fn admit(&mut self, plan: &mut Plan) {
        while self.running.len() < self.limits.max_running {
            let Some(sequence) = self.waiting.front() else { return };
            let cached = self.pool.find_prefix(sequence.reusable_keys());
            let fresh = blocks_for(sequence.tokens.len()) - cached.len();
            let from_free = cached.iter().filter(|b| self.pool.is_free(**b)).count();
            // One block to grow for each running sequence, else the newcomer would be preempted at once.
            if fresh + from_free + self.running.len() > self.pool.free() {
                if self.running.is_empty() {
                    plan.stuck.push(sequence.id);
                }
                return;
            }
            let Some(mut sequence) = self.waiting.pop_front() else { return };
            cached.iter().for_each(|b| self.pool.hold(*b));
            let whole = cached.len();
            sequence.computed = whole * BLOCK_TOKENS;
            sequence.blocks = cached;
            sequence.blocks.extend((0..fresh).filter_map(|_| self.pool.allocate()));
            let end = self.ends.longest(sequence.parent_of(whole), sequence.copyable());
            if let Some((from, count)) = end {
                plan.copies.push(BlockCopy { id: sequence.id, from, to: sequence.blocks[whole] });
                sequence.computed += count;
            }
            if !sequence.preempted {
                sequence.cached = sequence.computed;
            }
            let at = self.running.partition_point(|s| s.id < sequence.id);
            self.running.insert(at, sequence);
        }
    }

    /// Gives prompts their chunks: half of the budget to the oldest, so that it is never starved, and the rest to the
    /// ones with least left, so that a short question does not wait for a long one.
    fn plan_prompts(&mut self, plan: &mut Plan) {
        let decodes = plan.shares.len();
        let mut budget = self.limits.step_tokens.saturating_sub(decodes).max(1);
        if decodes > 0 {
            budget = budget.min(self.limits.chunk_tokens.max(1));
        }
        let mut reading = self.reading(plan);
        let Some((oldest, left)) = reading.first().copied() else { return };
        let reserved = if reading.len() > 1 { left.min(budget.div_ceil(2)) } else { 0 };
        budget -= reserved;
        reading.sort_by_key(|(_, left)| *left);
        let mut chunks: Vec<(usize, usize)> = Vec::new();
        for (at, left) in reading {
            let own = if at == oldest { reserved } else { 0 };
            let more = (left - own).min(budget);
            budget -= more;
            if own + more > 0 {
                chunks.push((at, own + more));
            }
        }
        chunks.sort_unstable();
        for (at, count) in chunks {
            let sequence = &self.running[at];
            let draws = count == sequence.pending() && sequence.max_answer > 0;
            plan.shares.push(Share { id: sequence.id, start: sequence.computed, count, draft: 0, draws });
        }
    }

    /// Running sequences (by index) whose prompt is to be read on, with their pending tokens. One that would compute
    /// the same block as an older one waits for it, and takes over what was computed since it was admitted.
    fn reading(&mut self, plan: &Plan) -> Vec<(usize, usize)> {
        let mut reading = Vec::new();
        let mut underway: HashSet<BlockName> = HashSet::new();
        for at in 0..self.running.len() {
            let sequence = &mut self.running[at];
            if plan.shares.iter().any(|share| share.id == sequence.id) {
                continue;
            }
            while sequence.computed.is_multiple_of(BLOCK_TOKENS) {
                let block = sequence.computed / BLOCK_TOKENS;
                let Some(found) = sequence.reusable_keys().get(block).and_then(|key| self.pool.find(key)) else {
                    break;
                };
                self.pool.hold(found);
                self.pool.release(std::mem::replace(&mut sequence.blocks[block], found));
                sequence.computed += BLOCK_TOKENS;
                if !sequence.preempted {
                    sequence.cached += BLOCK_TOKENS;
                }
            }
            let next = sequence.reusable_keys().get(sequence.computed / BLOCK_TOKENS);
            if next.is_some_and(|key| underway.contains(&key.name)) {
                continue;
            }
            let first = sequence.computed / BLOCK_TOKENS;
            underway.extend(sequence.keys.iter().skip(first).map(|key| key.name));
            if sequence.pending() > 0 {
                reading.push((at, sequence.pending()));
            }
        }
        reading
    }

    /// Counts a share as computed and names the blocks that it filled. Where another block has such a name already, the
    /// sequence takes that one, so that equal contents are kept once.
    pub fn computed(&mut self, share: Share) {
        let Some(sequence) = self.running.iter_mut().find(|s| s.id == share.id) else { return };
        let before = share.start / BLOCK_TOKENS;
        sequence.computed = share.start + share.count;
        for block in before..(sequence.computed / BLOCK_TOKENS).min(sequence.keys.len()) {
            let own = sequence.blocks[block];
            self.pool.name(own, &sequence.keys[block]);
            if let Some(named) = self.pool.find(&sequence.keys[block]).filter(|named| *named != own) {
                self.pool.hold(named);
                self.pool.release(own);
                sequence.blocks[block] = named;
            }
        }
    }

    /// Takes note that the first `accepted` tokens of a sequence's draft were drawn. Blocks that only the rest would have
    /// needed are given back; what was written of it lies behind `computed` and is overwritten.
    pub fn settle(&mut self, id: SequenceId, accepted: usize) {
        let Some(sequence) = self.running.iter_mut().find(|s| s.id == id) else { return };
        sequence.drafter.settle(accepted);
        sequence.draft.clear();
        let kept = blocks_for(sequence.tokens.len()).min(sequence.blocks.len());
        self.pool.release_all(&sequence.blocks.split_off(kept));
    }

    /// Adds a drawn token. Gives the answer's length so far.
    pub fn push_token(&mut self, id: SequenceId, token: u32) -> usize {
        let Some(sequence) = self.running.iter_mut().find(|s| s.id == id) else { return 0 };
        sequence.tokens.push(token);
        if sequence.tokens.len().is_multiple_of(BLOCK_TOKENS) {
            let keys = block_keys(&sequence.tokens, sequence.root, &sequence.scope, &sequence.keys);
            sequence.keys.extend(keys);
        }
        sequence.tokens.len() - sequence.prompt_tokens
    }

    /// The blocks of `prefix` (shared by all), if all of them are computed; a part-filled last one is found only if it is
    /// pinned.
    pub fn find_shared(&self, prefix: &AdaptedTokens) -> Option<Vec<BlockId>> {
        let SharedParts { keys, parent, end } = SharedParts::of(prefix);
        let mut blocks = self.pool.find_prefix(&keys);
        if blocks.len() < keys.len() {
            return None;
        }
        if !end.is_empty() {
            blocks.push(self.ends.find(&parent, end)?);
        }
        Some(blocks)
    }

    /// Names and pins blocks that now hold a shared prefix, and gives the pinned ones: where another block has a name
    /// already, that one is pinned. The given blocks lose the holder they had.
    pub fn pin_shared(&mut self, prefix: &AdaptedTokens, blocks: &[BlockId]) -> Vec<BlockId> {
        let SharedParts { keys, parent, end } = SharedParts::of(prefix);
        let mut pinned: Vec<BlockId> = Vec::with_capacity(blocks.len());
        for (number, block) in blocks.iter().enumerate() {
            let named = match keys.get(number) {
                Some(key) => {
                    self.pool.name(*block, key);
                    self.pool.find(key)
                }
                None => self.ends.find(&parent, end).or_else(|| {
                    self.ends.add(parent, end, *block);
                    None
                }),
            };
            let named = named.unwrap_or(*block);
            self.pool.pin(named);
            self.pool.release(*block);
            pinned.push(named);
        }
        pinned
    }

    /// Pins what a sequence has read, its whole prompt, which is `prefix`. `None`: there is no such sequence.
    pub fn pin_read(&mut self, id: SequenceId, prefix: &AdaptedTokens) -> Option<Vec<BlockId>> {
        let blocks = self.running.iter().find(|s| s.id == id)?.blocks.clone();
        blocks.iter().for_each(|block| self.pool.hold(*block));
        Some(self.pin_shared(prefix, &blocks))
    }

    /// Lets a pinned prefix go.
    pub fn unpin(&mut self, blocks: &[BlockId]) {
        blocks.iter().for_each(|block| self.pool.unpin(*block));
        self.ends.retain(|block| self.pool.is_pinned(block));
    }
}

/// A shared prefix as the pool knows it.
struct SharedParts<'a> {
    /// Names of its whole blocks.
    keys: Vec<BlockKey>,
    /// Name of the last of them, or the root.
    parent: BlockName,
    /// What stands behind them.
    end: &'a [u32],
}

impl<'a> SharedParts<'a> {
    fn of(prefix: &'a AdaptedTokens) -> Self {
        let scope = CacheScope { shared_tokens: prefix.tokens.len(), salt: String::new() };
        let keys = block_keys(&prefix.tokens, prefix.root(), &scope, &[]);
        let parent = keys.last().map_or(prefix.root(), |key| key.name);
        Self { end: &prefix.tokens[keys.len() * BLOCK_TOKENS..], parent, keys }
    }
}

#[cfg(test)]
mod tests;
