//! Who uses which KV block. Pure data: the decoder owns the memory, this pool only counts.
//!
//! A block is *held* by sequences and pins (reference counts). A full, computed block has a *name*: the chained hash of
//! all tokens up to its end and of the salt they were computed under, so equal names mean equal contents. Freed blocks
//! keep their name until they are needed again; the free list, least recently used first, **is** the prefix cache.

use std::collections::{BTreeMap, HashMap};

use super::CacheScope;
use crate::model::{BLOCK_TOKENS, BlockId};

/// Chained hash of a block's tokens, all tokens before them, their salts, and the adapter.
pub(crate) type BlockName = [u8; 32];

/// A full block's name, with what it was made of, so that a lookup compares tokens and not only hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockKey {
    pub name: BlockName,
    pub parent: BlockName,
    pub tokens: Vec<u32>,
}

/// Names the full blocks of `tokens` from block `already` on. The first one's parent is `root`, which says what model
/// computes them: a model with an adapter gives the same tokens other keys and values.
///
/// A block is shared by all only if it lies wholly within the scope's first `shared_tokens`; all others carry the salt.
pub(crate) fn block_keys(tokens: &[u32], root: BlockName, scope: &CacheScope, already: &[BlockKey]) -> Vec<BlockKey> {
    let mut parent = already.last().map_or(root, |key| key.name);
    let first = already.len();
    tokens[first * BLOCK_TOKENS..]
        .chunks_exact(BLOCK_TOKENS)
        .enumerate()
        .map(|(i, chunk)| {
            let shared = (first + i + 1) * BLOCK_TOKENS <= scope.shared_tokens;
            let mut hasher = blake3::Hasher::new();
            hasher.update(&parent);
            for token in chunk {
                hasher.update(&token.to_le_bytes());
            }
            if !shared {
                hasher.update(b"salt").update(scope.salt.as_bytes());
            }
            let name = *hasher.finalize().as_bytes();
            let key = BlockKey { name, parent, tokens: chunk.to_vec() };
            parent = name;
            key
        })
        .collect()
}

/// Blocks that `tokens` tokens take.
pub(crate) fn blocks_for(tokens: usize) -> usize {
    tokens.div_ceil(BLOCK_TOKENS)
}

#[derive(Debug, Default, Clone)]
struct Block {
    /// Sequences and pins that use the block. 0: it is in the free list.
    holders: u32,
    /// How many of the holders are pins.
    pins: u32,
    /// Present once the block is full and computed.
    key: Option<BlockKey>,
    /// Its place in the free list.
    freed_at: u64,
}

/// The KV blocks' reference counts, names and free list.
#[derive(Debug)]
pub(crate) struct BlockPool {
    blocks: Vec<Block>,
    by_name: HashMap<BlockName, BlockId>,
    /// Free blocks without a name: used first.
    free_blank: Vec<BlockId>,
    /// Free blocks with a name, least recently used first.
    free_named: BTreeMap<u64, BlockId>,
    clock: u64,
    pinned: usize,
}

impl BlockPool {
    pub fn new(blocks: usize) -> Self {
        Self {
            blocks: vec![Block::default(); blocks],
            by_name: HashMap::new(),
            free_blank: (0..blocks as BlockId).rev().collect(),
            free_named: BTreeMap::new(),
            clock: 0,
            pinned: 0,
        }
    }

    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that can be allocated now, cached ones included.
    pub fn free(&self) -> usize {
        self.free_blank.len() + self.free_named.len()
    }

    pub fn used(&self) -> usize {
        self.total() - self.free()
    }

    pub fn pinned(&self) -> usize {
        self.pinned
    }

    /// The block that holds what `key` names, if one does.
    pub fn find(&self, key: &BlockKey) -> Option<BlockId> {
        let id = *self.by_name.get(&key.name)?;
        (self.blocks[id as usize].key.as_ref() == Some(key)).then_some(id)
    }

    /// The longest run of `keys`, from the first on, that is in the cache.
    pub fn find_prefix(&self, keys: &[BlockKey]) -> Vec<BlockId> {
        keys.iter().map_while(|key| self.find(key)).collect()
    }

    pub fn is_pinned(&self, block: BlockId) -> bool {
        self.blocks[block as usize].pins > 0
    }

    pub fn is_free(&self, block: BlockId) -> bool {
        self.blocks[block as usize].holders == 0
    }

    /// Adds a holder to a block (which may be cached and free).
    pub fn hold(&mut self, block: BlockId) {
        let entry = &mut self.blocks[block as usize];
        if entry.holders == 0 {
            // Only a named block can be found while it is free.
            self.free_named.remove(&entry.freed_at);
        }
        entry.holders += 1;
    }

    /// A blank block with one holder; the least recently used cached one loses its name when no other is left.
    pub fn allocate(&mut self) -> Option<BlockId> {
        let id = match self.free_blank.pop() {
            Some(id) => id,
            None => {
                let (_, id) = self.free_named.pop_first()?;
                if let Some(key) = self.blocks[id as usize].key.take() {
                    self.by_name.remove(&key.name);
                }
                id
            }
        };
        self.blocks[id as usize].holders = 1;
        Some(id)
    }

    /// Gives a computed block its name. If another block has it already, this one stays nameless.
    pub fn name(&mut self, block: BlockId, key: &BlockKey) {
        if !self.by_name.contains_key(&key.name) {
            self.by_name.insert(key.name, block);
            self.blocks[block as usize].key = Some(key.clone());
        }
    }

    /// Takes one holder away; the last one's going frees the block, which keeps its name.
    pub fn release(&mut self, block: BlockId) {
        let entry = &mut self.blocks[block as usize];
        debug_assert!(entry.holders > 0, "block {block} released more often than held");
        entry.holders = entry.holders.saturating_sub(1);
        if entry.holders > 0 {
            return;
        }
        if entry.key.is_some() {
            self.clock += 1;
            entry.freed_at = self.clock;
            self.free_named.insert(self.clock, block);
        } else {
            self.free_blank.push(block);
        }
    }

    /// Releases a sequence's blocks, the last one first, so that a prefix outlives what follows it.
    pub fn release_all(&mut self, blocks: &[BlockId]) {
        for block in blocks.iter().rev() {
            self.release(*block);
        }
    }

    /// Holds a block until it is unpinned.
    pub fn pin(&mut self, block: BlockId) {
        self.hold(block);
        let entry = &mut self.blocks[block as usize];
        entry.pins += 1;
        self.pinned += usize::from(entry.pins == 1);
    }

    pub fn unpin(&mut self, block: BlockId) {
        let entry = &mut self.blocks[block as usize];
        debug_assert!(entry.pins > 0, "block {block} unpinned more often than pinned");
        self.pinned -= usize::from(entry.pins == 1);
        entry.pins = entry.pins.saturating_sub(1);
        self.release(block);
    }

    /// Panics unless every block is either held or in the free list once, and names agree.
    #[cfg(test)]
    pub fn check(&self) {
        let mut in_free = vec![0; self.total()];
        for id in self.free_blank.iter().chain(self.free_named.values()) {
            in_free[*id as usize] += 1;
        }
        for (i, block) in self.blocks.iter().enumerate() {
            assert_eq!(in_free[i], usize::from(block.holders == 0), "block {i} with {} holders", block.holders);
            assert!(block.pins <= block.holders);
            if let Some(key) = &block.key {
                assert_eq!(self.by_name.get(&key.name), Some(&(i as BlockId)));
            }
        }
        assert_eq!(self.by_name.len(), self.blocks.iter().filter(|b| b.key.is_some()).count());
        assert_eq!(self.pinned, self.blocks.iter().filter(|b| b.pins > 0).count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(shared_tokens: usize, salt: &str) -> CacheScope {
        CacheScope { shared_tokens, salt: salt.into() }
    }

    fn tokens(blocks: usize, seed: u32) -> Vec<u32> {
        (0..(blocks * BLOCK_TOKENS) as u32).map(|i| i * 7 + seed).collect()
    }

    /// Allocates and names blocks for `tokens`, then frees them.
    fn compute(pool: &mut BlockPool, tokens: &[u32], scope: &CacheScope) -> Vec<BlockId> {
        let keys = block_keys(tokens, [0; 32], scope, &[]);
        let blocks: Vec<_> = keys.iter().map(|_| pool.allocate().unwrap()).collect();
        for (block, key) in blocks.iter().zip(&keys) {
            pool.name(*block, key);
        }
        pool.release_all(&blocks);
        blocks
    }

    #[test]
    fn freed_blocks_are_found_again_by_their_tokens() {
        let mut pool = BlockPool::new(8);
        let text = tokens(3, 1);
        let blocks = compute(&mut pool, &text, &scope(0, "a"));
        assert_eq!(pool.free(), 8);
        assert_eq!(pool.find_prefix(&block_keys(&text, [0; 32], &scope(0, "a"), &[])), blocks);
        let mut other = text.clone();
        other[BLOCK_TOKENS + 3] += 1;
        assert_eq!(pool.find_prefix(&block_keys(&other, [0; 32], &scope(0, "a"), &[])), blocks[..1]);
        pool.check();
    }

    #[test]
    fn another_salt_finds_only_the_shared_tokens() {
        let mut pool = BlockPool::new(8);
        let text = tokens(4, 1);
        let shared = 2 * BLOCK_TOKENS + 5;
        let blocks = compute(&mut pool, &text, &scope(shared, "first customer"));
        assert_eq!(pool.find_prefix(&block_keys(&text, [0; 32], &scope(shared, "second customer"), &[])), blocks[..2]);
        assert_eq!(pool.find_prefix(&block_keys(&text, [0; 32], &scope(shared, "first customer"), &[])), blocks);
        assert!(pool.find_prefix(&block_keys(&text, [0; 32], &scope(0, "first customer"), &[])).is_empty());
    }

    #[test]
    fn a_hash_that_collides_is_told_apart_by_its_tokens() {
        let mut pool = BlockPool::new(2);
        let key = block_keys(&tokens(1, 1), [0; 32], &scope(0, ""), &[]).remove(0);
        let block = pool.allocate().unwrap();
        pool.name(block, &key);
        let forged = BlockKey { tokens: tokens(1, 2), ..key.clone() };
        assert_eq!(pool.find(&forged), None);
        assert_eq!(pool.find(&key), Some(block));
    }

    #[test]
    fn the_least_recently_used_blocks_are_reused_first_and_a_prefix_outlives_its_tail() {
        let mut pool = BlockPool::new(4);
        let old = tokens(2, 1);
        let new = tokens(2, 900);
        compute(&mut pool, &old, &scope(0, ""));
        compute(&mut pool, &new, &scope(0, ""));
        assert!(pool.allocate().is_some());
        assert_eq!(
            pool.find_prefix(&block_keys(&old, [0; 32], &scope(0, ""), &[])).len(),
            1,
            "the tail of the older goes first"
        );
        assert_eq!(pool.find_prefix(&block_keys(&new, [0; 32], &scope(0, ""), &[])).len(), 2);
        pool.check();
    }

    #[test]
    fn pinned_blocks_are_never_given_away() {
        let mut pool = BlockPool::new(4);
        let core = tokens(2, 1);
        let blocks = compute(&mut pool, &core, &scope(core.len(), ""));
        blocks.iter().for_each(|b| pool.pin(*b));
        assert_eq!((pool.pinned(), pool.free()), (2, 2));
        assert!(pool.allocate().is_some() && pool.allocate().is_some());
        assert_eq!(pool.allocate(), None);
        assert_eq!(pool.find_prefix(&block_keys(&core, [0; 32], &scope(core.len(), ""), &[])), blocks);
        blocks.iter().for_each(|b| pool.unpin(*b));
        assert_eq!((pool.pinned(), pool.free()), (0, 2));
        pool.check();
    }

    #[test]
    fn names_continue_where_earlier_blocks_ended() {
        let text = tokens(3, 5);
        let whole = block_keys(&text, [0; 32], &scope(40, "s"), &[]);
        let rest = block_keys(&text, [0; 32], &scope(40, "s"), &whole[..1]);
        assert_eq!(rest, whole[1..]);
    }
}
