//! The people's side. No HTTP, no tensors; the SQL stands in [`crate::store`].
//!
//! [`knowledge`] edits the pack, [`suggestions`] finds what it lacks, [`cluster`] puts the same questions together.

pub mod cluster;
pub mod knowledge;
pub mod suggestions;
