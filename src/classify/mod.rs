//! Small learned classifiers over vectors and character n-grams, calibrated. Knows nothing of where examples come from.
//!
//! *Features*: a sparse part (hashed character n-grams, [`ngrams`]) beside a dense part (a sentence vector, which may
//! be absent). *Detector*: one label against all others ([`logistic`]), whose scores on held-out folds are turned
//! into probabilities ([`calibrate`]), and whose threshold is the lowest that refuses next to none of the protected
//! rows. *Character model*: how surprising a text's letters are ([`charmodel`]), which tells keyboard mashing from
//! words. *Panel*: one label by several detectors that see different things of a text, and its nearest examples ([`panel`]),
//! whose vectors all panels share (*gallery*).
//! *Scope*: whether a text is like anything among examples ([`scope`]), and whether it is put in the words
//! of the company's texts (*vocabulary*). *Stack*: a few
//! measures as one probability ([`stack`]). Everything is deterministic: the same rows give the same weights.

pub mod calibrate;
pub mod charmodel;
mod gallery;
pub mod logistic;
mod nearest;
pub mod ngrams;
pub mod panel;
pub mod scope;
pub mod stack;

pub use charmodel::CharModel;
pub use gallery::{Catalogue, Gallery, Placed};
pub use logistic::{Detector, Training, teach};
pub use ngrams::Features;
pub use panel::Panel;
pub use scope::{Scope, Vocabulary};
pub use stack::Stack;
