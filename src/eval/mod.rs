//! Playing conversations against the support logic, and judging what came of them.
//!
//! Three kinds of *plays*, each turn by turn with the transcript so far and the state of the last turn:
//! - *dialogues* (`evals/*.jsonl`): every message written down, with the outcome that is expected of it ([`expect`]);
//! - *simulated customers* (`evals/customers/*.jsonl`, [`customers`]): a goal, facts, a temper; they go on until they
//!   are content, or handed to a person, or out of patience;
//! - *recorded conversations* ([`recorded`]): what customers wrote once, here or at another system, held against how
//!   that conversation went.
//!
//! [`judge`] looks, with code of its own, for what an answer must never hold: facts that stand nowhere in the pack, code
//! that differs from its source, words out of tone. [`versions`] compares versions of an instruction by the same plays;
//! [`page`] shows a run. [`questions`] looks only at what is found, beside the baseline in [`bm25`]; [`filters`] measures
//! the entrance filters on labelled sets; every counted share ([`crate::stats`]) has its 95 % interval.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::kb::pack::{Dialogue, ExpectedTurn, SimulatedCustomer};
use crate::stats::Share;
use crate::support::{Support, SupportError};

pub mod bm25;
pub mod customers;
pub mod expect;
pub mod filters;
pub mod judge;
pub mod page;
mod play;
pub mod questions;
pub mod recorded;
pub mod versions;

use play::{Caller, Play, Stage};

/// What is played.
#[derive(Clone, Default)]
pub struct Plays {
    pub dialogues: Vec<Dialogue>,
    pub customers: Vec<SimulatedCustomer>,
    pub recorded: Vec<recorded::Recorded>,
    pub voice: customers::Voice,
}

impl Plays {
    pub fn len(&self) -> usize {
        self.dialogues.len() + self.customers.len() + self.recorded.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps those whose id contains a text.
    pub fn retain(&mut self, text: &str) {
        self.dialogues.retain(|d| d.id.contains(text));
        self.customers.retain(|c| c.id.contains(text));
        self.recorded.retain(|r| r.id.contains(text));
    }
}

/// How one turn went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TurnResult {
    pub user: String,
    pub answer: String,
    pub action: String,
    pub kind: String,
    pub reason: String,
    pub operator: String,
    pub version: String,
    pub confidence: f32,
    /// Ids of the sources.
    pub sources: Vec<String>,
    pub seconds: f64,
    /// What differed from what was expected.
    pub faults: Vec<String>,
    /// Facts of the answer that stand nowhere in the pack.
    pub unsupported: Vec<String>,
    /// Words out of tone: banned, too familiar, too long, in another language.
    pub tone: Vec<String>,
    /// Fenced code in the answer, and how much of it is byte-exact in the pack.
    pub code_blocks: usize,
    pub code_exact: usize,
    /// Why the answer is what it is.
    pub trace: crate::support::Trace,
}

/// What a result came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Dialogue,
    Customer,
    Recorded,
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Kind::Dialogue => "dialogues",
            Kind::Customer => "simulated customers",
            Kind::Recorded => "recorded conversations",
        }
    }
}

/// Handoffs of a play: those made and how many of them were right, those wanted and how many of them were made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Handoffs {
    pub made: usize,
    pub right: usize,
    pub wanted: usize,
    pub met: usize,
}

impl Handoffs {
    fn count(&mut self, made: bool, allowed: bool, wanted: bool) {
        self.made += usize::from(made);
        self.right += usize::from(made && allowed);
        self.wanted += usize::from(wanted);
        self.met += usize::from(made && wanted);
    }
}

/// How one play went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DialogueResult {
    pub id: String,
    pub kind: Kind,
    /// Every turn had the expected action, kind, operator, words and sources; a customer's or a recorded conversation
    /// ended as it should.
    pub correct: bool,
    /// The same, whatever the words and sources.
    pub outcome_correct: bool,
    /// What differed, one line each, with the turn's number.
    pub faults: Vec<String>,
    /// Turns that the pack can answer, and how many of them were answered with the expected words.
    pub answerable: usize,
    pub answered: usize,
    /// It ended with the bot's help; `None`: it was not to.
    pub resolved: Option<bool>,
    pub handoffs: Handoffs,
    pub turns: Vec<TurnResult>,
    /// A simulated customer's messages that the model worded.
    pub worded_by_model: usize,
}

impl DialogueResult {
    fn of(id: &str, kind: Kind) -> Self {
        Self { id: id.into(), kind, correct: true, outcome_correct: true, ..Self::default() }
    }

    /// Adds a turn, with its unsupported facts as faults.
    fn push(&mut self, turn: TurnResult) {
        let number = self.turns.len() + 1;
        self.faults.extend(turn.faults.iter().map(|fault| format!("turn {number}: {fault}")));
        self.faults.extend(turn.unsupported.iter().map(|fact| format!("turn {number}: unsupported: {fact}")));
        self.correct &= turn.faults.is_empty() && turn.unsupported.is_empty();
        self.turns.push(turn);
    }

    /// Something wrong with the play as a whole.
    fn fault(&mut self, what: String) {
        self.faults.push(what);
        self.correct = false;
    }
}

/// All results.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EvalReport {
    pub dialogues: Vec<DialogueResult>,
    pub seconds: f64,
}

impl EvalReport {
    /// Plays in which everything was as expected.
    pub fn correct(&self) -> usize {
        self.dialogues.iter().filter(|dialogue| dialogue.correct).count()
    }

    /// Plays with the expected actions, kinds and operators, whatever the words.
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
        self.said_of_turns(|turn| &turn.unsupported)
    }

    /// Words out of tone, with their dialogue.
    pub fn tone(&self) -> Vec<String> {
        self.said_of_turns(|turn| &turn.tone)
    }

    fn said_of_turns(&self, said: impl Fn(&TurnResult) -> &Vec<String>) -> Vec<String> {
        let of = |d: &DialogueResult| {
            d.turns.iter().flat_map(|t| said(t).clone()).map(|f| format!("{}: {f}", d.id)).collect::<Vec<_>>()
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

    /// Shares with what they count: name, share, unit.
    fn shares(&self) -> Vec<(&'static str, Share, &'static str)> {
        let all = self.dialogues.len();
        let of = |(part, all): (usize, usize)| Share { part, all };
        let sum = |pair: fn(&DialogueResult) -> (usize, usize)| {
            of(self.dialogues.iter().map(pair).fold((0, 0), |(a, b), (x, y)| (a + x, b + y)))
        };
        let resolved = sum(|d| (usize::from(d.resolved == Some(true)), usize::from(d.resolved.is_some())));
        vec![
            ("as expected in all", of((self.correct(), all)), "plays"),
            ("outcome as expected", of((self.outcome_correct(), all)), "plays"),
            ("answerable answered", of(self.answered()), "turns"),
            ("resolved without a person", resolved, "plays"),
            ("handoff precision", sum(|d| (d.handoffs.right, d.handoffs.made)), "handoffs made"),
            ("handoff recall", sum(|d| (d.handoffs.met, d.handoffs.wanted)), "handoffs wanted"),
            ("code byte-exact", of(self.code()), "blocks"),
        ]
    }

    /// The figures as a table for people.
    pub fn table(&self) -> String {
        let (median, slow) = self.turn_seconds();
        let mut lines: Vec<String> =
            self.shares().into_iter().map(|(name, share, unit)| format!("{name:<26}{share} {unit}")).collect();
        let mut kinds: BTreeMap<Kind, Share> = BTreeMap::new();
        self.dialogues.iter().for_each(|d| kinds.entry(d.kind).or_default().count(d.correct));
        if kinds.len() > 1 {
            let line = |(kind, share): (&Kind, &Share)| format!("  of {:<23}{share} as expected in all", kind.plural());
            lines.extend(kinds.iter().map(line));
        }
        let contents: Vec<f64> =
            self.dialogues.iter().filter(|d| d.resolved == Some(true)).map(|d| d.turns.len() as f64).collect();
        if !contents.is_empty() {
            let mean = contents.iter().sum::<f64>() / contents.len() as f64;
            lines.push(format!("messages to resolution    {mean:.2} on average"));
        }
        let words: usize = self.dialogues.iter().map(|d| d.worded_by_model).sum();
        if words > 0 {
            lines.push(format!("customers' messages       {words} worded by the model"));
        }
        lines.push(format!("unsupported facts         {:>4}", self.unsupported().len()));
        lines.push(format!("tone faults               {:>4}", self.tone().len()));
        lines.push(format!("a turn takes              {median:.2} s (median), {slow:.2} s (95 %)"));
        lines.extend(self.kinds().into_iter().map(|(kind, n)| format!("  {n:>4}  {kind}")));
        lines.join("\n")
    }
}

/// Plays everything; `progress` hears of each play when it is done. `seed`: of all that is drawn by chance.
///
/// # Errors
/// When a turn fails as such (the engine, the index); a wrong outcome is no error.
pub async fn run(
    support: &Support,
    plays: &Plays,
    public_url: &str,
    seed: u64,
    progress: &mut (dyn FnMut(&DialogueResult) + Send),
) -> Result<EvalReport, SupportError> {
    let started = Instant::now();
    let snapshot = support.knowledge().snapshot();
    let judge = judge::Judge::of(snapshot.pack(), public_url);
    let stage = Stage { support, judge: &judge, public_url, seed };
    let mut report = EvalReport::default();
    let mut done = |result: DialogueResult, report: &mut EvalReport| {
        progress(&result);
        report.dialogues.push(result);
    };
    for dialogue in &plays.dialogues {
        done(replay(&stage, dialogue).await?, &mut report);
    }
    for customer in &plays.customers {
        done(customers::play(&stage, customer, &plays.voice).await?, &mut report);
    }
    for recorded in &plays.recorded {
        done(recorded::replay(&stage, recorded).await?, &mut report);
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

async fn replay(stage: &Stage<'_>, dialogue: &Dialogue) -> Result<DialogueResult, SupportError> {
    let mut result = DialogueResult::of(&dialogue.id, Kind::Dialogue);
    let caller = Caller {
        id: &dialogue.id,
        lang: &dialogue.lang,
        model: &dialogue.model,
        channel: dialogue.channel.as_deref(),
        audience: dialogue.audience.as_deref(),
    };
    let mut play = Play::new(stage, caller);
    for expected in &dialogue.turns {
        let (mut turn, outcome) = play.say(&expected.user).await?;
        let compared = expect::compare(expected, &dialogue.lang, &turn.answer, &outcome);
        result.answerable += usize::from(expected.answerable);
        result.answered += usize::from(expected.answerable && compared.answered);
        result.outcome_correct &= compared.outcome_correct;
        let made = turn.action == "handoff";
        result.handoffs.count(made, may_hand_off(expected), wants_handoff(expected));
        turn.faults = compared.faults;
        result.push(turn);
    }
    if result.answerable > 0 {
        let answered = result.turns.last().is_some_and(|t| t.action == "answer");
        result.resolved = Some(answered && result.handoffs.made == 0);
    }
    Ok(result)
}

fn wants_handoff(expected: &ExpectedTurn) -> bool {
    expected.action.iter().all(|action| action == "handoff")
}

fn may_hand_off(expected: &ExpectedTurn) -> bool {
    expected.action.iter().any(|action| action == "handoff")
}
