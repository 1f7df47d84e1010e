//! Versions of an instruction side by side: the same dialogues against each, and what the difference is worth.
//!
//! Each *measure* is a ratio over dialogues (right dialogues of all, handoffs wanted of those made, …). Dialogues are the
//! unit: the paired bootstrap draws whole dialogues with both versions' results, so that what makes a dialogue easy or
//! hard for both cancels out. A difference counts only where its 95 % interval leaves zero out.

use serde::Serialize;

use super::{DialogueResult, EvalReport};
use crate::kb::pack::{Dialogue, ExpectedTurn};
use crate::stats::{Interval, paired_bootstrap};

/// Draws of the bootstrap.
const DRAWS: usize = 4_000;

/// A measure of one dialogue: what it adds above and below the line.
type Adds = fn(&DialogueResult, &Dialogue) -> (f64, f64);

/// Something that versions are compared by.
#[derive(Clone, Copy)]
pub struct Measure {
    pub name: &'static str,
    pub higher_is_better: bool,
    adds: Adds,
}

/// All measures; the first decides on promotions.
pub const MEASURES: [Measure; 9] = [
    Measure { name: "as expected in all", higher_is_better: true, adds: |r, _| (f64::from(u8::from(r.correct)), 1.0) },
    Measure {
        name: "outcome as expected",
        higher_is_better: true,
        adds: |r, _| (f64::from(u8::from(r.outcome_correct)), 1.0),
    },
    Measure {
        name: "answerable answered",
        higher_is_better: true,
        adds: |r, _| (r.answered as f64, r.answerable as f64),
    },
    Measure { name: "resolved without a person", higher_is_better: true, adds: resolved },
    Measure { name: "handoff precision", higher_is_better: true, adds: handoff_precision },
    Measure { name: "handoff recall", higher_is_better: true, adds: handoff_recall },
    Measure {
        name: "code byte-exact",
        higher_is_better: true,
        adds: |r, _| r.turns.iter().fold((0.0, 0.0), |(e, n), t| (e + t.code_exact as f64, n + t.code_blocks as f64)),
    },
    Measure {
        name: "unsupported claims a turn",
        higher_is_better: false,
        adds: |r, _| (r.turns.iter().map(|t| t.unsupported.len() as f64).sum(), r.turns.len() as f64),
    },
    Measure {
        name: "seconds a turn",
        higher_is_better: false,
        adds: |r, _| (r.turns.iter().map(|t| t.seconds).sum(), r.turns.len() as f64),
    },
];

/// Ended with an answer and without a handoff, where the pack can answer something.
fn resolved(result: &DialogueResult, _: &Dialogue) -> (f64, f64) {
    if result.answerable == 0 {
        return (0.0, 0.0);
    }
    let handed_off = result.turns.iter().any(|t| t.action == "handoff");
    let answered = result.turns.last().is_some_and(|t| t.action == "answer");
    (f64::from(u8::from(answered && !handed_off)), 1.0)
}

fn wants_handoff(expected: &ExpectedTurn) -> bool {
    expected.action.iter().all(|action| action == "handoff")
}

fn may_hand_off(expected: &ExpectedTurn) -> bool {
    expected.action.iter().any(|action| action == "handoff")
}

/// Of the handoffs made, those that were expected or allowed.
fn handoff_precision(result: &DialogueResult, dialogue: &Dialogue) -> (f64, f64) {
    let made = result.turns.iter().zip(&dialogue.turns).filter(|(turn, _)| turn.action == "handoff");
    made.fold((0.0, 0.0), |(good, all), (_, expected)| (good + f64::from(u8::from(may_hand_off(expected))), all + 1.0))
}

/// Of the handoffs that were expected, those made.
fn handoff_recall(result: &DialogueResult, dialogue: &Dialogue) -> (f64, f64) {
    let wanted = result.turns.iter().zip(&dialogue.turns).filter(|(_, expected)| wants_handoff(expected));
    wanted.fold((0.0, 0.0), |(made, all), (turn, _)| (made + f64::from(u8::from(turn.action == "handoff")), all + 1.0))
}

/// A measure of both versions, and the difference (second minus first).
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    pub measure: &'static str,
    pub higher_is_better: bool,
    pub first: f64,
    pub second: f64,
    pub difference: Interval,
}

/// What a difference says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Better,
    Worse,
    /// The interval holds zero.
    NotTold,
}

impl Difference {
    /// Of the second version against the first.
    pub fn verdict(&self) -> Verdict {
        let sign = if self.higher_is_better { 1.0 } else { -1.0 };
        let (low, high) = (sign * self.difference.low, sign * self.difference.high);
        match (low.min(high), low.max(high)) {
            (low, _) if low > 0.0 => Verdict::Better,
            (_, high) if high < 0.0 => Verdict::Worse,
            _ => Verdict::NotTold,
        }
    }
}

/// A dialogue in which the versions differ.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    pub id: String,
    pub first_correct: bool,
    pub second_correct: bool,
    pub turns: Vec<ChangedTurn>,
}

/// A turn whose answer differs: action, kind, answer of each version.
#[derive(Debug, Clone, Serialize)]
pub struct ChangedTurn {
    pub user: String,
    pub first: [String; 3],
    pub second: [String; 3],
}

/// Two versions side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub first: String,
    pub second: String,
    pub dialogues: usize,
    pub seed: u64,
    pub differences: Vec<Difference>,
    pub changed: Vec<Changed>,
}

impl Comparison {
    /// Compares reports of the same dialogues.
    pub fn of(versions: [&str; 2], reports: [&EvalReport; 2], dialogues: &[Dialogue], seed: u64) -> Self {
        let pairs = || reports[0].dialogues.iter().zip(&reports[1].dialogues).zip(dialogues);
        let differences = MEASURES.iter().map(|measure| {
            let adds: Vec<[(f64, f64); 2]> =
                pairs().map(|((a, b), d)| [(measure.adds)(a, d), (measure.adds)(b, d)]).collect();
            let ratio = |version: usize| {
                let (above, below) = adds.iter().fold((0.0, 0.0), |(x, y), a| (x + a[version].0, y + a[version].1));
                if below == 0.0 { 0.0 } else { above / below }
            };
            Difference {
                measure: measure.name,
                higher_is_better: measure.higher_is_better,
                first: ratio(0),
                second: ratio(1),
                difference: paired_bootstrap(&adds, seed, DRAWS),
            }
        });
        Self {
            first: versions[0].into(),
            second: versions[1].into(),
            dialogues: dialogues.len(),
            seed,
            differences: differences.collect(),
            changed: pairs().filter_map(|((a, b), _)| changed(a, b)).collect(),
        }
    }

    /// The measure that decides.
    pub fn verdict(&self) -> Verdict {
        self.differences.first().map_or(Verdict::NotTold, Difference::verdict)
    }

    /// Why the second version may not take the first one's place; `None`: it may.
    pub fn objection(&self) -> Option<String> {
        let main = self.differences.first()?;
        let Interval { value, low, high } = main.difference;
        if main.verdict() != Verdict::Better {
            return Some(format!(
                "{}: the difference is {value:+.3} [{low:+.3}, {high:+.3}] over {} dialogues; the interval must lie above zero",
                main.measure, self.dialogues
            ));
        }
        // Time is told, not judged: it depends on what else the machine does.
        let worse =
            self.differences.iter().filter(|d| d.measure != "seconds a turn").find(|d| d.verdict() == Verdict::Worse);
        worse.map(|d| format!("{} got worse: {:.3} instead of {:.3}", d.measure, d.second, d.first))
    }

    /// The figures as a table for people.
    pub fn table(&self) -> String {
        let mut lines = vec![format!("{:<28} {:>8} {:>8}   difference [95 %]", "", self.first, self.second)];
        lines.extend(self.differences.iter().map(|d| {
            let Interval { value, low, high } = d.difference;
            let verdict = match d.verdict() {
                Verdict::Better => "better",
                Verdict::Worse => "WORSE",
                Verdict::NotTold => "no difference shown",
            };
            format!(
                "{:<28} {:>8.3} {:>8.3}   {value:+.3} [{low:+.3}, {high:+.3}]  {verdict}",
                d.measure, d.first, d.second
            )
        }));
        lines.join("\n")
    }
}

fn changed(a: &DialogueResult, b: &DialogueResult) -> Option<Changed> {
    let said = |t: &super::TurnResult| [t.action.clone(), t.kind.clone(), t.answer.clone()];
    let turns: Vec<ChangedTurn> = a
        .turns
        .iter()
        .zip(&b.turns)
        .map(|(x, y)| ChangedTurn { user: x.user.clone(), first: said(x), second: said(y) })
        .filter(|turn| turn.first != turn.second)
        .collect();
    let differs = !turns.is_empty() || a.correct != b.correct;
    differs.then(|| Changed { id: a.id.clone(), first_correct: a.correct, second_correct: b.correct, turns })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(correct: impl Fn(usize) -> bool) -> EvalReport {
        let dialogue = |n: usize| DialogueResult {
            id: format!("d{n}"),
            correct: correct(n),
            outcome_correct: true,
            faults: vec![],
            answerable: 1,
            answered: usize::from(correct(n)),
            turns: vec![],
        };
        EvalReport { dialogues: (0..100).map(dialogue).collect(), seconds: 0.0 }
    }

    fn compared(a: EvalReport, b: EvalReport, seed: u64) -> Comparison {
        let expected: Vec<Dialogue> = (0..100)
            .map(|n| Dialogue {
                id: format!("d{n}"),
                lang: "en".into(),
                model: "support".into(),
                channel: None,
                audience: None,
                turns: vec![],
            })
            .collect();
        Comparison::of(["v1", "v2"], [&a, &b], &expected, seed)
    }

    #[test]
    fn a_worse_version_is_told_and_an_equal_one_is_not_whatever_the_seed() {
        for seed in 0..5 {
            let worse = compared(report(|n| n % 10 != 0), report(|n| n % 10 != 0 && n % 7 != 0), seed);
            assert_eq!(worse.verdict(), Verdict::Worse, "{}", worse.table());
            assert!(worse.objection().unwrap().contains("above zero"));
            // As many right, but not the same ones.
            let equal = compared(report(|n| n % 10 != 0), report(|n| n % 10 != 1), seed);
            assert_eq!(equal.verdict(), Verdict::NotTold, "{}", equal.table());
            assert_eq!(equal.changed.len(), 20);
            let better = compared(report(|n| n % 5 != 0), report(|_| true), seed);
            assert_eq!((better.verdict(), better.objection()), (Verdict::Better, None));
        }
    }
}
