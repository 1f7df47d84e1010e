//! What one snapshot of the knowledge teaches the support logic, learnt again when the pack changes.

use std::sync::Arc;

use super::SupportError;
use super::filter::Filters;
use super::lexicon::Lexicon;
use crate::embed::Embedder;
use crate::kb::Snapshot;

/// A snapshot with its vocabulary and filters. A turn holds one from its beginning to its end.
pub(super) struct Learned {
    pub snapshot: Arc<Snapshot>,
    pub lexicon: Arc<Lexicon>,
    pub filters: Arc<Filters>,
}

impl Learned {
    /// Learns all from a snapshot. Blocking; seconds.
    pub fn all(snapshot: Arc<Snapshot>, embedder: &Embedder) -> Result<Self, SupportError> {
        let filters = Filters::learn(snapshot.pack(), embedder).map_err(|e| SupportError::Filters(e.to_string()))?;
        Ok(Self {
            lexicon: Arc::new(Lexicon::build(snapshot.chunks(), snapshot.pack())),
            filters: Arc::new(filters),
            snapshot,
        })
    }

    /// The vocabulary of a new snapshot with the filters learnt before: soon done, so that a changed answer is
    /// served at once while the filters are still being learnt.
    pub fn with_filters_of(&self, snapshot: Arc<Snapshot>) -> Self {
        Self {
            lexicon: Arc::new(Lexicon::build(snapshot.chunks(), snapshot.pack())),
            filters: self.filters.clone(),
            snapshot,
        }
    }

    /// True where the filters were learnt from other rows than the snapshot has.
    pub fn filters_are_old(&self) -> bool {
        self.filters.key != Filters::key_of(self.snapshot.pack())
    }
}
