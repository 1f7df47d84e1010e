//! A turn against what was expected of it.

use crate::kb::pack::ExpectedTurn;
use crate::support::{Action, TurnOutcome};

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compared {
    /// One line for each difference.
    pub faults: Vec<String>,
    /// Action, kind and operator were as expected.
    pub outcome_correct: bool,
    /// The customer got an answer, and it has the expected words.
    pub answered: bool,
}

/// Compares one turn.
pub fn compare(expected: &ExpectedTurn, lang: &str, answer: &str, outcome: &TurnOutcome) -> Compared {
    let mut faults = Vec::new();
    let action = outcome.action.name();
    if !expected.action.iter().any(|a| a == action) {
        faults.push(format!(
            "action {action} ({}: {}), expected {}",
            outcome.kind,
            outcome.reason,
            expected.action.join(" or ")
        ));
    }
    if let Some(kind) = expected.kind.as_ref().filter(|k| **k != outcome.kind) {
        faults.push(format!("kind {}, expected {kind}", outcome.kind));
    }
    if let Some(operator) = expected.operator.as_ref().filter(|o| **o != outcome.operator) {
        faults.push(format!("operator {}, expected {operator}", outcome.operator));
    }
    let outcome_correct = faults.is_empty();
    let missing: Vec<String> = expected
        .contains
        .iter()
        .filter(|any| !any.iter().any(|s| answer.contains(s.as_str())))
        .map(|any| {
            format!("the answer lacks {}", any.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(" or "))
        })
        .collect();
    let answered = outcome.action == Action::Answer
        && missing.is_empty()
        && outcome.kind != "off_topic"
        && outcome.kind != "wrong_company";
    faults.extend(missing);
    let folded = answer.to_lowercase();
    faults.extend(
        expected
            .forbids
            .iter()
            .filter(|f| folded.contains(&f.to_lowercase()))
            .map(|f| format!("the answer holds the forbidden {f:?}")),
    );
    if !expected.sources.is_empty() && outcome.action == Action::Answer {
        let fits = outcome.sources.iter().any(|s| expected.sources.iter().any(|e| s.id.starts_with(e.as_str())));
        if !fits {
            let got: Vec<&str> = outcome.sources.iter().map(|s| s.id.as_str()).collect();
            faults.push(format!("sources [{}], expected one of [{}]", got.join(", "), expected.sources.join(", ")));
        }
    }
    if !in_language(answer, lang) {
        faults.push(format!("the answer is not in {lang}"));
    }
    Compared { faults, outcome_correct, answered }
}

/// True where an answer's prose is in the expected alphabet (code, links and paths aside).
pub fn in_language(answer: &str, lang: &str) -> bool {
    let prose: String = answer.split("```").step_by(2).collect();
    let words = prose.split_whitespace().filter(|w| !w.contains(['/', '.', '`', '@', '_']));
    let (mut cyrillic, mut latin) = (0usize, 0usize);
    for c in words.flat_map(str::chars).filter(|c| c.is_alphabetic()) {
        if matches!(c, '\u{400}'..='\u{4ff}') { cyrillic += 1 } else { latin += 1 }
    }
    match lang {
        "ru" => cyrillic + latin < 20 || cyrillic * 2 >= latin,
        _ => cyrillic * 5 <= latin.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(action: Action, kind: &str) -> TurnOutcome {
        TurnOutcome {
            action,
            kind: kind.into(),
            reason: String::new(),
            operator: "igor".into(),
            operator_version: "v1".into(),
            lang: "en".into(),
            confidence: 1.0,
            sources: vec![],
            handoff: None,
            usage: Default::default(),
            length_limited: false,
            state: Default::default(),
            trace: Default::default(),
        }
    }

    fn expected() -> ExpectedTurn {
        ExpectedTurn {
            user: "where is the color?".into(),
            action: vec!["answer".into()],
            kind: None,
            answerable: true,
            contains: vec![vec!["Appearance".into(), "appearance".into()]],
            forbids: vec!["PayPal".into()],
            sources: vec![],
            operator: Some("igor".into()),
        }
    }

    #[test]
    fn an_answer_with_the_expected_words_is_answered() {
        let compared = compare(&expected(), "en", "Open **Appearance**.", &outcome(Action::Answer, "verbatim"));
        assert_eq!(compared, Compared { faults: vec![], outcome_correct: true, answered: true });
    }

    #[test]
    fn missing_and_forbidden_words_and_another_action_are_faults() {
        let compared = compare(&expected(), "en", "Pay with paypal.", &outcome(Action::Answer, "grounded"));
        assert!(compared.outcome_correct && !compared.answered && compared.faults.len() == 2, "{compared:?}");
        assert!(!compare(&expected(), "en", "Appearance", &outcome(Action::Handoff, "no_answer")).outcome_correct);
    }

    #[test]
    fn an_answer_in_another_language_is_a_fault() {
        let compared =
            compare(&expected(), "ru", "Open the Appearance page of the widget.", &outcome(Action::Answer, "quoted"));
        assert_eq!(compared.faults.len(), 1);
    }
}
