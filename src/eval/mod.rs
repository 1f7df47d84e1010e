//! Replaying dialogues whose outcome is known, and judging the answers.
//!
//! A *dialogue* (`evals/*.jsonl`) is played turn by turn against the support logic, each time with the transcript
//! so far and the state of the last turn. [`expect`] compares a turn with what was expected; [`judge`] looks, with
//! code of its own, for what an answer must never hold: facts that stand nowhere in the pack, and code that differs
//! from its source. [`versions`] plays versions of an instruction against one another ([`page`] shows it). [`questions`] looks only at what is found, beside the baseline in [`bm25`], [`answerable`] at how sure it is that the answer
//! is in there; [`filters`] measures the
//! entrance filters on labelled sets; every counted share ([`crate::stats`]) has its 95 % interval.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::kb::pack::Dialogue;
use crate::llm::{ChatMessage, SamplingWishes};
use crate::support::{Support, SupportError, TurnRequest};

pub mod answerable;
pub mod bm25;
pub mod expect;
pub mod filters;
pub mod judge;
pub mod page;
pub mod questions;
pub mod versions;

use crate::stats::Share;

/// How one turn went.
#[derive(Debug, Clone, Serialize)]
pub struct TurnResult {
    pub user: String,
    pub answer: String,
    pub action: String,
    pub kind: String,
    pub reason: String,
    pub operator: String,
    pub confidence: f32,
    /// Ids of the sources.
    pub sources: Vec<String>,
    pub seconds: f64,
    /// What differed from what was expected.
    pub faults: Vec<String>,
    /// Facts of the answer that stand nowhere in the pack.
    pub unsupported: Vec<String>,
    /// Fenced code in the answer, and how much of it is byte-exact in the pack.
    pub code_blocks: usize,
    pub code_exact: usize,
    /// Why the answer is what it is.
    pub trace: crate::support::Trace,
}

/// How one dialogue went.
#[derive(Debug, Clone, Serialize)]
pub struct DialogueResult {
    pub id: String,
    /// Every turn had the expected action, kind, operator, words and sources.
    pub correct: bool,
    /// Every turn had the expected action, kind and operator.
    pub outcome_correct: bool,
    /// What differed, one line each, with the turn's number.
    pub faults: Vec<String>,
    /// Turns that the pack can answer, and how many of them were answered with the expected words.
    pub answerable: usize,
    pub answered: usize,
    pub turns: Vec<TurnResult>,
}

/// All dialogues' results.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EvalReport {
    pub dialogues: Vec<DialogueResult>,
    pub seconds: f64,
}

impl EvalReport {
    /// Dialogues in which everything was as expected.
    pub fn correct(&self) -> usize {
        self.dialogues.iter().filter(|dialogue| dialogue.correct).count()
    }

    /// Dialogues with the expected actions, kinds and operators, whatever the words.
    pub fn outcome_correct(&self) -> usize {
        self.dialogues.iter().filter(|dialogue| dialogue.outcome_correct).count()
    }

    /// (answered, answerable) turns.
    pub fn answered(&self) -> (usize, usize) {
        self.dialogues.iter().fold((0, 0), |(done, all), d| (done + d.answered, all + d.answerable))
    }

    /// (byte-exact, all) code blocks of the answers.
    pub fn code(&self) -> (usize, usize) {
        self.turns().fold((0, 0), |(exact, all), t| (exact + t.code_exact, all + t.code_blocks))
    }

    /// Facts of answers that stand nowhere in the pack, with their dialogue.
    pub fn unsupported(&self) -> Vec<String> {
        let of = |d: &DialogueResult| {
            d.turns.iter().flat_map(|t| t.unsupported.clone()).map(|f| format!("{}: {f}", d.id)).collect::<Vec<_>>()
        };
        self.dialogues.iter().flat_map(of).collect()
    }

    /// How many answers were of each kind.
    pub fn kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for turn in self.turns() {
            *kinds.entry(format!("{}/{}", turn.action, turn.kind)).or_default() += 1;
        }
        kinds
    }

    /// Seconds a turn took: (median, 95th percentile).
    pub fn turn_seconds(&self) -> (f64, f64) {
        let mut times: Vec<f64> = self.turns().map(|t| t.seconds).collect();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get(((times.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(0.0);
        (at(0.5), at(0.95))
    }

    fn turns(&self) -> impl Iterator<Item = &TurnResult> {
        self.dialogues.iter().flat_map(|d| &d.turns)
    }

    /// The figures as a table for people.
    pub fn table(&self) -> String {
        let all = self.dialogues.len();
        let ((answered, answerable), (exact, blocks)) = (self.answered(), self.code());
        let (median, slow) = self.turn_seconds();
        let of = |part, all| Share { part, all };
        let mut lines = vec![
            format!("as expected in all    {} dialogues", of(self.correct(), all)),
            format!("outcome as expected   {} dialogues", of(self.outcome_correct(), all)),
            format!("answerable answered   {} turns", of(answered, answerable)),
            format!("code byte-exact       {} blocks", of(exact, blocks)),
            format!("unsupported facts     {:>4}", self.unsupported().len()),
            format!("a turn takes          {median:.2} s (median), {slow:.2} s (95 %)"),
        ];
        lines.extend(self.kinds().into_iter().map(|(kind, n)| format!("  {n:>4}  {kind}")));
        lines.join("\n")
    }
}

/// Replays the dialogues; `progress` hears of each when it is done.
///
/// # Errors
/// When a turn fails as such (the engine, the index); a wrong outcome is no error.
pub async fn run(
    support: &Support,
    dialogues: &[Dialogue],
    public_url: &str,
    progress: &mut (dyn FnMut(&DialogueResult) + Send),
) -> Result<EvalReport, SupportError> {
    run_seeded(support, dialogues, public_url, None, progress).await
}

/// The same with a seed for what is drawn by chance.
///
/// # Errors
/// As [`run`].
pub async fn run_seeded(
    support: &Support,
    dialogues: &[Dialogue],
    public_url: &str,
    seed: Option<u64>,
    progress: &mut (dyn FnMut(&DialogueResult) + Send),
) -> Result<EvalReport, SupportError> {
    let started = Instant::now();
    let snapshot = support.knowledge().snapshot();
    let judge = judge::Judge::of(snapshot.pack(), public_url);
    let mut report = EvalReport::default();
    for dialogue in dialogues {
        let result = replay(support, dialogue, public_url, seed, &judge).await?;
        progress(&result);
        report.dialogues.push(result);
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

async fn replay(
    support: &Support,
    dialogue: &Dialogue,
    public_url: &str,
    seed: Option<u64>,
    judge: &judge::Judge,
) -> Result<DialogueResult, SupportError> {
    let mut result = DialogueResult {
        id: dialogue.id.clone(),
        correct: true,
        outcome_correct: true,
        faults: Vec::new(),
        answerable: 0,
        answered: 0,
        turns: Vec::new(),
    };
    let mut messages: Vec<ChatMessage> = Vec::new();
    let mut state = None;
    for (number, expected) in dialogue.turns.iter().enumerate() {
        messages.push(ChatMessage { role: "user".into(), content: expected.user.clone() });
        let request = TurnRequest {
            messages: messages.clone(),
            operator: (dialogue.model != "support").then(|| dialogue.model.clone()),
            channel: dialogue.channel.clone(),
            audience: dialogue.audience.clone(),
            conversation_id: format!("eval-{}", dialogue.id),
            group_id: format!("eval-{}", dialogue.id),
            state: state.take(),
            messages_last_minute: 1,
            sampling: SamplingWishes { seed, ..SamplingWishes::default() },
            public_url: public_url.to_string(),
            ..TurnRequest::default()
        };
        let began = Instant::now();
        let (answer, outcome) = support.turn(request).await?.finish().await?;
        let seconds = began.elapsed().as_secs_f64();
        let compared = expect::compare(expected, &dialogue.lang, &answer, &outcome);
        let judged = judge.judge(&answer);
        result.answerable += usize::from(expected.answerable);
        result.answered += usize::from(expected.answerable && compared.answered);
        result.outcome_correct &= compared.outcome_correct;
        result.correct &= compared.faults.is_empty() && judged.unsupported.is_empty();
        let turn = number + 1;
        result.faults.extend(compared.faults.iter().map(|fault| format!("turn {turn}: {fault}")));
        result.faults.extend(judged.unsupported.iter().map(|fact| format!("turn {turn}: unsupported: {fact}")));
        result.turns.push(TurnResult {
            user: expected.user.clone(),
            answer: answer.clone(),
            action: outcome.action.name().into(),
            kind: outcome.kind.clone(),
            reason: outcome.reason.clone(),
            operator: outcome.operator.clone(),
            confidence: outcome.confidence,
            sources: outcome.sources.iter().map(|s| s.id.clone()).collect(),
            seconds,
            faults: compared.faults,
            unsupported: judged.unsupported,
            code_blocks: judged.code_blocks,
            code_exact: judged.code_exact,
            trace: outcome.trace,
        });
        messages.push(ChatMessage { role: "assistant".into(), content: answer });
        state = Some(outcome.state);
    }
    Ok(result)
}
