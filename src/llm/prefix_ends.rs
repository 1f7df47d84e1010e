//! The ends of pinned prefixes: the tokens behind their last whole block. Pure data.
//!
//! A block that is filled in part cannot be shared, since each sequence writes on behind the prefix. So it is copied: a
//! sequence that begins as the prefix does gets its end in a block of its own, and computes only what follows.

use super::block_pool::BlockName;
use crate::model::BlockId;

/// The part-filled last block of a pinned prefix.
#[derive(Debug)]
struct PrefixEnd {
    /// Name of the whole block before it; a prefix shorter than a block has its root here.
    parent: BlockName,
    tokens: Vec<u32>,
    block: BlockId,
}

/// All that are pinned.
#[derive(Debug, Default)]
pub(crate) struct PrefixEnds(Vec<PrefixEnd>);

impl PrefixEnds {
    /// The block that holds exactly this end.
    pub fn find(&self, parent: &BlockName, tokens: &[u32]) -> Option<BlockId> {
        self.0.iter().find(|end| end.parent == *parent && end.tokens == tokens).map(|end| end.block)
    }

    /// The block that holds most of what `tokens` begin with, and how many of them.
    pub fn longest(&self, parent: &BlockName, tokens: &[u32]) -> Option<(BlockId, usize)> {
        let common =
            |end: &PrefixEnd| end.tokens.iter().zip(tokens).take_while(|(ours, theirs)| ours == theirs).count();
        let ends = self.0.iter().filter(|end| end.parent == *parent).map(|end| (end.block, common(end)));
        ends.max_by_key(|(_, count)| *count).filter(|(_, count)| *count > 0)
    }

    pub fn add(&mut self, parent: BlockName, tokens: &[u32], block: BlockId) {
        self.0.push(PrefixEnd { parent, tokens: tokens.to_vec(), block });
    }

    /// Forgets those whose block is not kept any more.
    pub fn retain(&mut self, is_kept: impl Fn(BlockId) -> bool) {
        self.0.retain(|end| is_kept(end.block));
    }
}
