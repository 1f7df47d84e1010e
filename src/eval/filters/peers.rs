//! The plain ways that the filters are compared with: a verb-and-keyword rule, the nearest example, and a classifier
//! of character n-grams over the whole text. Each is what one would write in an hour.

use std::sync::LazyLock;

use regex::Regex;

use crate::classify::{Detector, Features, Training, teach};
use crate::compute::cosine;

static WISH: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"(?i)\b(talk|speak|chat|connect|transfer|pass|put|get|reach|give|need|want|let me)\b.{0,40}\b(human|person|agent|operator|someone|somebody|representative|manager|supervisor|staff|team|reception)\b",
        r"(?i)(поговорить|соедин|переключ|перевед|позов|дайте|нуж|хочу|свяж).{0,40}(оператор|человек|менеджер|специалист|сотрудник|консультант)",
    ]
    .iter()
    .filter_map(|r| Regex::new(r).ok())
    .collect()
});

/// A verb of contact and, within forty characters, a word for a person.
pub fn verb_and_keyword(message: &str) -> bool {
    WISH.iter().any(|rule| rule.is_match(message))
}

/// Highest cosine with any example, 0 without a vector.
pub fn nearest(vector: &[f32], examples: &[Vec<f32>]) -> f32 {
    if vector.is_empty() {
        return 0.0;
    }
    let likeness = examples.iter().filter(|e| !e.is_empty()).map(|e| cosine(vector, e));
    likeness.fold(0.0, f32::max)
}

/// A classifier of character n-grams, learnt from the same rows as our filters and applied to the whole text.
pub fn plain_classifier(rows: &[(String, String)], label: &str) -> Option<Detector> {
    let training: Vec<Training> = rows
        .iter()
        .zip(0..)
        .map(|((text, label), i)| Training { features: Features::new(text, &[]), label: label.clone(), family: i })
        .collect();
    let honest = |other: &str| other != label;
    teach(&training, label, honest, 0.01, 0.5).map(|taught| taught.detector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_rule_hears_plain_wishes_and_little_else() {
        assert!(verb_and_keyword("let me talk to a real person") && verb_and_keyword("соедините с оператором"));
        assert!(!verb_and_keyword("where are my invoices") && !verb_and_keyword("оператор"));
    }

    #[test]
    fn the_nearest_example_decides() {
        assert!(nearest(&[1.0, 0.0], &[vec![0.0, 1.0], vec![1.0, 0.0]]) > 0.99);
        assert_eq!(nearest(&[], &[vec![1.0]]), 0.0);
    }
}
