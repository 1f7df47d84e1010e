//! One conversation with the support logic, turn by turn, each answer judged.

use std::time::Instant;

use super::judge::Judge;
use super::{TurnResult, expect};
use crate::llm::{ChatMessage, SamplingWishes};
use crate::support::{ConversationState, Support, SupportError, TurnOutcome, TurnRequest};

/// What all conversations of a run share.
pub(super) struct Stage<'a> {
    pub support: &'a Support,
    pub judge: &'a Judge,
    pub public_url: &'a str,
    pub seed: u64,
}

/// Who talks, and to whom.
#[derive(Default)]
pub(super) struct Caller<'a> {
    pub id: &'a str,
    pub lang: &'a str,
    /// `support` or an operator's name.
    pub model: &'a str,
    pub channel: Option<&'a str>,
    pub audience: Option<&'a str>,
}

/// A conversation in progress.
pub(super) struct Play<'a> {
    stage: &'a Stage<'a>,
    caller: Caller<'a>,
    pub messages: Vec<ChatMessage>,
    state: Option<ConversationState>,
}

impl<'a> Play<'a> {
    pub fn new(stage: &'a Stage<'a>, caller: Caller<'a>) -> Self {
        Self { stage, caller, messages: Vec::new(), state: None }
    }

    /// The customer says something; what came of it.
    ///
    /// # Errors
    /// When the turn fails as such.
    pub async fn say(&mut self, text: &str) -> Result<(TurnResult, TurnOutcome), SupportError> {
        self.messages.push(ChatMessage { role: "user".into(), content: text.into() });
        let owned = |text: &str| Some(text.to_string());
        let id = format!("eval-{}", self.caller.id);
        let request = TurnRequest {
            messages: self.messages.clone(),
            operator: (self.caller.model != "support").then(|| self.caller.model.to_string()),
            channel: self.caller.channel.and_then(owned),
            audience: self.caller.audience.and_then(owned),
            conversation_id: id.clone(),
            group_id: id,
            state: self.state.take(),
            messages_last_minute: 1,
            sampling: SamplingWishes { seed: Some(self.stage.seed), ..SamplingWishes::default() },
            public_url: self.stage.public_url.to_string(),
            ..TurnRequest::default()
        };
        let began = Instant::now();
        let (answer, outcome) = self.stage.support.turn(request).await?.finish().await?;
        let seconds = began.elapsed().as_secs_f64();
        let judged = self.stage.judge.judge(&answer);
        let mut tone = self.stage.judge.tone(&answer, &outcome.kind);
        if !expect::in_language(&answer, self.caller.lang) {
            tone.push(format!("the answer is not in {}", self.caller.lang));
        }
        let turn = TurnResult {
            user: text.into(),
            answer: answer.clone(),
            action: outcome.action.name().into(),
            kind: outcome.kind.clone(),
            reason: outcome.reason.clone(),
            operator: outcome.operator.clone(),
            version: outcome.operator_version.clone(),
            confidence: outcome.confidence,
            sources: outcome.sources.iter().map(|s| s.id.clone()).collect(),
            seconds,
            faults: Vec::new(),
            unsupported: judged.unsupported,
            tone,
            code_blocks: judged.code_blocks,
            code_exact: judged.code_exact,
            trace: outcome.trace.clone(),
        };
        self.messages.push(ChatMessage { role: "assistant".into(), content: answer });
        self.state = Some(outcome.state.clone());
        Ok((turn, outcome))
    }
}
