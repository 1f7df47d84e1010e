//! Versions of an instruction side by side: the same plays against each, and what the difference is worth.
//!
//! Each *measure* is a ratio over plays (right ones of all, handoffs wanted of those made, …). Plays are the unit: the
//! paired bootstrap draws whole plays with both versions' results, so that what makes one easy or hard for both cancels
//! out. A difference counts only where its 95 % interval leaves zero out.

use serde::Serialize;

use super::{DialogueResult, EvalReport, TurnResult};
use crate::stats::{Interval, paired_bootstrap};

/// Draws of the bootstrap.
const DRAWS: usize = 4_000;

/// A measure of one play: what it adds above and below the line.
type Adds = fn(&DialogueResult) -> (f64, f64);

/// Something that versions are compared by.
#[derive(Clone, Copy)]
pub struct Measure {
    pub name: &'static str,
    pub higher_is_better: bool,
    /// It speaks against a promotion where it got worse.
    pub objects: bool,
    /// Between 0 and 1.
    pub is_share: bool,
    adds: Adds,
}

const fn share(name: &'static str, adds: Adds) -> Measure {
    Measure { name, higher_is_better: true, objects: true, is_share: true, adds }
}

const fn rate(name: &'static str, objects: bool, adds: Adds) -> Measure {
    Measure { name, higher_is_better: false, objects, is_share: false, adds }
}

/// All measures; the first decides on promotions. Messages to resolution and time are told, not judged: the one changes
/// with which conversations are resolved at all, the other with what else the machine does.
pub const MEASURES: [Measure; 11] = [
    share("as expected in all", |r| (f64::from(u8::from(r.correct)), 1.0)),
    share("outcome as expected", |r| (f64::from(u8::from(r.outcome_correct)), 1.0)),
    share("answerable answered", |r| (r.answered as f64, r.answerable as f64)),
    share("resolved without a person", |r| {
        r.resolved.map_or((0.0, 0.0), |resolved| (f64::from(u8::from(resolved)), 1.0))
    }),
    rate("messages to resolution", false, |r| match r.resolved {
        Some(true) => (r.turns.len() as f64, 1.0),
        _ => (0.0, 0.0),
    }),
    share("handoff precision", |r| (r.handoffs.right as f64, r.handoffs.made as f64)),
    share("handoff recall", |r| (r.handoffs.met as f64, r.handoffs.wanted as f64)),
    share("code byte-exact", |r| {
        r.turns.iter().fold((0.0, 0.0), |(e, n), t| (e + t.code_exact as f64, n + t.code_blocks as f64))
    }),
    rate("unsupported claims a turn", true, |r| {
        (r.turns.iter().map(|t| t.unsupported.len() as f64).sum(), r.turns.len() as f64)
    }),
    rate("tone faults a turn", true, |r| (r.turns.iter().map(|t| t.tone.len() as f64).sum(), r.turns.len() as f64)),
    rate("seconds a turn", false, |r| (r.turns.iter().map(|t| t.seconds).sum(), r.turns.len() as f64)),
];

/// A measure of both versions, and the difference (second minus first).
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    pub measure: &'static str,
    pub higher_is_better: bool,
    pub objects: bool,
    pub is_share: bool,
    /// Both versions had something to measure: a precision of no handoffs is none.
    pub measured: bool,
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
        if !self.measured {
            return Verdict::NotTold;
        }
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

/// A turn that differs, as each version had it; `None` where its conversation was over.
#[derive(Debug, Clone, Serialize)]
pub struct ChangedTurn {
    pub first: Option<Exchange>,
    pub second: Option<Exchange>,
}

/// What the customer said and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exchange {
    pub user: String,
    pub action: String,
    pub kind: String,
    pub answer: String,
}

impl Exchange {
    fn of(turn: &TurnResult) -> Self {
        Self {
            user: turn.user.clone(),
            action: turn.action.clone(),
            kind: turn.kind.clone(),
            answer: turn.answer.clone(),
        }
    }
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
    /// Compares reports of the same plays.
    pub fn of(versions: [&str; 2], reports: [&EvalReport; 2], seed: u64) -> Self {
        let pairs = || reports[0].dialogues.iter().zip(&reports[1].dialogues);
        let differences = MEASURES.iter().map(|measure| {
            let adds: Vec<[(f64, f64); 2]> = pairs().map(|(a, b)| [(measure.adds)(a), (measure.adds)(b)]).collect();
            let sums = |version: usize| adds.iter().fold((0.0, 0.0), |(x, y), a| (x + a[version].0, y + a[version].1));
            let ratio = |(above, below): (f64, f64)| if below == 0.0 { 0.0 } else { above / below };
            Difference {
                measure: measure.name,
                higher_is_better: measure.higher_is_better,
                objects: measure.objects,
                is_share: measure.is_share,
                measured: sums(0).1 > 0.0 && sums(1).1 > 0.0,
                first: ratio(sums(0)),
                second: ratio(sums(1)),
                difference: paired_bootstrap(&adds, seed, DRAWS),
            }
        });
        Self {
            first: versions[0].into(),
            second: versions[1].into(),
            dialogues: reports[0].dialogues.len(),
            seed,
            differences: differences.collect(),
            changed: pairs().filter_map(|(a, b)| changed(a, b)).collect(),
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
                "{}: the difference is {value:+.3} [{low:+.3}, {high:+.3}] over {} plays; the interval must lie above zero",
                main.measure, self.dialogues
            ));
        }
        let worse = self.differences.iter().find(|d| d.objects && d.verdict() == Verdict::Worse);
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
    let turns: Vec<ChangedTurn> = (0..a.turns.len().max(b.turns.len()))
        .map(|at| ChangedTurn { first: a.turns.get(at).map(Exchange::of), second: b.turns.get(at).map(Exchange::of) })
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
            answerable: 1,
            answered: usize::from(correct(n)),
            ..DialogueResult::default()
        };
        EvalReport { dialogues: (0..100).map(dialogue).collect(), seconds: 0.0 }
    }

    fn compared(a: EvalReport, b: EvalReport, seed: u64) -> Comparison {
        Comparison::of(["v1", "v2"], [&a, &b], seed)
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

    #[test]
    fn a_better_version_that_loses_elsewhere_is_objected_to_and_time_is_not() {
        let worse_in = |adds: fn(&mut DialogueResult)| {
            let mut second = report(|_| true);
            second.dialogues.iter_mut().for_each(adds);
            compared(report(|n| n % 5 != 0), second, 1).objection()
        };
        let tone = |d: &mut DialogueResult| {
            d.turns.push(TurnResult { tone: vec!["an emoji".into()], ..Default::default() });
        };
        let slow = |d: &mut DialogueResult| {
            d.turns.push(TurnResult { seconds: 9.0, ..Default::default() });
        };
        // The first report has no turns, so nothing to compare tone by.
        assert_eq!(worse_in(tone), None);
        assert_eq!(worse_in(slow), None);
        let turns = |mut report: EvalReport, faults: usize| {
            let turn = |_| TurnResult { tone: vec!["an emoji".into(); faults], ..Default::default() };
            report.dialogues.iter_mut().for_each(|d| d.turns = (0..2).map(turn).collect());
            report
        };
        let objection = compared(turns(report(|n| n % 5 != 0), 0), turns(report(|_| true), 1), 1).objection();
        assert!(objection.unwrap().contains("tone faults a turn got worse"));
    }
}
