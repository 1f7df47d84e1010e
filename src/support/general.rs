//! Examples that come with the program, our own writing: what every support desk meets, whatever the company sells.
//! They stand beside the pack's, so that a new pack is guarded from its first day.

use crate::kb::pack::Pack;

/// Customers' honest messages to all kinds of companies, look-alikes of a wish for a person among them.
pub const CUSTOMER: &str = "customer";
/// A pack's own questions and sample answers' questions.
pub const OWN: &str = "own";

/// (label, one message a line)
const GENERAL: [(&str, &str); 7] = [
    ("wants_person", include_str!("general/wants_person.txt")),
    (CUSTOMER, include_str!("general/customer.txt")),
    ("injection", include_str!("general/injection.txt")),
    ("spam", include_str!("general/spam.txt")),
    ("gibberish", include_str!("general/gibberish.txt")),
    ("rude", include_str!("general/rude.txt")),
    ("off_topic", include_str!("general/off_topic.txt")),
];

/// A labelled message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    pub text: String,
    pub label: String,
    /// Written for this very company, so it says what is on its topic.
    pub of_pack: bool,
}

/// All examples for a pack: its filters' rows, its questions, and the general ones, in an order that deals the labels
/// out evenly and never changes.
pub fn examples(pack: &Pack) -> Vec<Example> {
    let own = |text: &str, label: &str| Example { text: text.into(), label: label.into(), of_pack: true };
    let mut all: Vec<Example> = pack.filters.iter().map(|row| own(&row.text, &row.label)).collect();
    all.extend(pack.faq.iter().flat_map(|entry| &entry.questions).map(|q| own(q, OWN)));
    all.extend(pack.operators.iter().flat_map(|o| &o.examples).map(|e| own(&e.question, "sample")));
    all.extend(general());
    all.sort_by_key(|e| (*blake3::hash(e.text.as_bytes()).as_bytes(), e.label.clone()));
    all.dedup_by(|a, b| a.text == b.text);
    all
}

fn general() -> impl Iterator<Item = Example> {
    GENERAL.iter().flat_map(|(label, lines)| {
        lines.lines().filter(|l| !l.trim().is_empty()).map(|line| Example {
            text: line.trim().into(),
            label: (*label).into(),
            of_pack: false,
        })
    })
}

/// True for labels of messages that a desk serves: none of them may be refused.
pub fn served(label: &str) -> bool {
    matches!(label, "ok" | "rude" | "wants_person" | "sample" | CUSTOMER | OWN)
}

/// True for a pack's own example of what the company is asked.
pub fn on_topic(example: &Example) -> bool {
    example.of_pack && matches!(example.label.as_str(), "ok" | "rude" | "sample" | OWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_without_examples_still_has_the_general_ones_in_both_languages() {
        let all = examples(&Pack::default());
        for label in ["wants_person", "injection", "spam", "rude", CUSTOMER, "off_topic"] {
            let texts: Vec<&str> = all.iter().filter(|e| e.label == label).map(|e| e.text.as_str()).collect();
            let russian = texts.iter().filter(|t| crate::support::text::is_cyrillic(t)).count();
            assert!(russian >= 15 && texts.len() - russian >= 15, "{label}: {russian} of {}", texts.len());
        }
        assert!(all.windows(2).all(|w| w[0].text != w[1].text));
    }

    #[test]
    fn evaluation_rows_are_no_examples() {
        let all = examples(&Pack::default());
        for set in ["handoff", "spam", "attacks"] {
            let path = format!("{}/tests/data/filters/{set}.jsonl", env!("CARGO_MANIFEST_DIR"));
            let rows = std::fs::read_to_string(path).expect("the set is in the repository");
            let shared = all.iter().filter(|e| rows.contains(&format!("\"text\": \"{}\"", e.text))).count();
            assert_eq!(shared, 0, "{set}: {:?}", all.iter().find(|e| rows.contains(&format!("\"{}\"", e.text))));
        }
    }
}
