//! The customer's end of a sequence: the channel on which its text comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::{FinishReason, Generation, GenerationEvent, LlmError, Usage};

impl Generation {
    pub(crate) fn new(events: mpsc::UnboundedReceiver<GenerationEvent>, enough: Arc<AtomicBool>) -> Self {
        Self { events, enough, ended: false }
    }

    /// Asks for no more than the token in the making. The last event still comes, with the usage; a dropped generation
    /// has none.
    pub fn stop(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    /// The next event; `None` after `Done` or `Failed`.
    pub async fn next(&mut self) -> Option<GenerationEvent> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await.unwrap_or_else(|| GenerationEvent::Failed(stopped()));
        self.ended = !matches!(event, GenerationEvent::Text { .. });
        Some(event)
    }

    /// Runs to the end: whole text, reason, usage.
    ///
    /// # Errors
    /// What [`GenerationEvent::Failed`] says.
    pub async fn finish(mut self) -> Result<(String, FinishReason, Usage), LlmError> {
        let mut whole = String::new();
        while let Some(event) = self.next().await {
            match event {
                GenerationEvent::Text { text, .. } => whole.push_str(&text),
                GenerationEvent::Done { reason, usage } => return Ok((whole, reason, usage)),
                GenerationEvent::Failed(error) => return Err(error),
            }
        }
        Err(stopped())
    }
}

pub(crate) fn stopped() -> LlmError {
    LlmError::Engine("the engine has stopped".into())
}
