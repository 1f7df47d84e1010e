//! What one snapshot of the knowledge teaches the support logic, learnt again when the pack changes.

use std::sync::Arc;

use super::SupportError;
use super::filter::{Filters, Saved};
use super::lexicon::Lexicon;
use super::quarantine::Quarantine;
use crate::embed::Embedder;
use crate::kb::Snapshot;

/// A snapshot with its vocabulary and filters. A turn holds one from its beginning to its end.
pub(super) struct Learned {
    pub snapshot: Arc<Snapshot>,
    pub lexicon: Arc<Lexicon>,
    pub filters: Arc<Filters>,
    /// What of the snapshot's pages must not be used.
    pub quarantine: Arc<Quarantine>,
}

impl Learned {
    /// Learns all from a snapshot, or reads what was saved of it. Blocking; seconds where it has to learn.
    pub fn all(snapshot: Arc<Snapshot>, embedder: &Embedder, saved: &Saved) -> Result<Self, SupportError> {
        let filters = Filters::saved_or_learnt(snapshot.pack(), embedder, saved);
        let filters = filters.map_err(|e| SupportError::Filters(e.to_string()))?;
        Ok(Self::with(snapshot, Arc::new(filters)))
    }

    /// The vocabulary of a new snapshot with the filters learnt before: soon done, so that a changed answer is
    /// served at once while the filters are still being learnt.
    pub fn with_filters_of(&self, snapshot: Arc<Snapshot>) -> Self {
        Self::with(snapshot, self.filters.clone())
    }

    /// A snapshot with what is known already.
    pub fn with(snapshot: Arc<Snapshot>, filters: Arc<Filters>) -> Self {
        let quarantine = Quarantine::of(snapshot.chunks(), filters.attacks());
        for id in quarantine.touched() {
            tracing::warn!(chunk = id, "a page gives orders to a machine; these sentences are not used");
        }
        let usable = quarantine.all(snapshot.chunks());
        Self {
            lexicon: Arc::new(Lexicon::build(&usable, snapshot.pack())),
            filters,
            quarantine: Arc::new(quarantine),
            snapshot,
        }
    }

    /// True where the filters were learnt from other rows than the snapshot has.
    pub fn filters_are_old(&self) -> bool {
        self.filters.key != Filters::key_of(self.snapshot.pack())
    }
}
