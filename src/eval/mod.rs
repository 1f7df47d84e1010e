//! Replaying dialogues whose outcome is known.

use serde::Serialize;

use crate::kb::pack::Dialogue;
use crate::support::{Support, SupportError};

/// How one dialogue went.
#[derive(Debug, Clone, Serialize)]
pub struct DialogueResult {
    pub id: String,
    /// Every turn had the expected action, kind, words and sources.
    pub correct: bool,
    /// What differed, one line each, with the turn's number.
    pub faults: Vec<String>,
    /// Turns that the pack can answer, and how many of them were answered.
    pub answerable: usize,
    pub answered: usize,
}

/// All dialogues' results.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EvalReport {
    pub dialogues: Vec<DialogueResult>,
    pub seconds: f64,
}

impl EvalReport {
    pub fn correct(&self) -> usize {
        self.dialogues.iter().filter(|dialogue| dialogue.correct).count()
    }
    /// (answered, answerable) turns.
    pub fn answered(&self) -> (usize, usize) {
        self.dialogues.iter().fold((0, 0), |(done, all), d| (done + d.answered, all + d.answerable))
    }
}

/// Replays the dialogues; `progress` hears of each when it is done.
///
/// # Errors
/// When a turn fails as such (the engine, the index); a wrong outcome is no error.
pub async fn run(
    _support: &Support,
    _dialogues: &[Dialogue],
    _public_url: &str,
    _progress: &mut (dyn FnMut(&DialogueResult) + Send),
) -> Result<EvalReport, SupportError> {
    todo!()
}
