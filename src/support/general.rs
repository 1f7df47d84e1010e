//! Examples that come with the program, our own writing: what every support desk meets, whatever the company sells.
//! They stand beside the pack's, so that a new pack is guarded from its first day.
//!
//! A line of a file is a message, or a *pattern*: `{connect|transfer} me to {a human|an agent}` stands for as many
//! messages as its longest choice has words to choose from, so that each of them is met in some message. Messages of
//! one line are one *family*: they are held out together, or a detector would be tested on what it was taught. Prose is no
//! pattern; `\n` stands for a line's end in it.

use std::collections::BTreeMap;

use super::asked;
use crate::kb::pack::{FaqEntry, Pack};

/// Customers' honest messages to all kinds of companies, look-alikes of a wish for a person among them.
pub const CUSTOMER: &str = "customer";
/// Paragraphs of honest manuals, help pages and letters, as customers paste them.
pub const PROSE: &str = "prose";
/// A pack's own questions and sample answers' questions.
pub const OWN: &str = "own";
/// What a pack's pages say that it is asked, while its own questions are few: on its topic, but not written by customers.
pub const PAGE: &str = "page";

/// Most of a pack's questions that are learnt from: so many say what its customers ask, and more only take time.
const MOST_OWN: usize = 4000;
/// A pack's own examples that suffice to say what is on its topic. With fewer its pages speak too, in so many messages.
const ENOUGH_OWN: usize = 200;
const OF_PAGES: usize = 400;

/// Most messages of one other judge's lesson that a judge sees: enough to know that they are not its own.
const MOST_OF_ANOTHER: usize = 200;

/// (label, whose lesson it is written for, one message a line). Look-alikes are honest messages for one judge to learn
/// its own contrast from; *voices* are written as many different people type, slips and all.
const GENERAL: [(&str, &str, &str); 26] = [
    ("wants_person", "wants_person", include_str!("general/wants_person.txt")),
    ("wants_person", "wants_person", include_str!("general/wish_patterns.txt")),
    ("wants_person", "wants_person", include_str!("general/wish_voices.txt")),
    (CUSTOMER, ALL, include_str!("general/customer.txt")),
    (CUSTOMER, "wants_person", include_str!("general/wish_alikes.txt")),
    (CUSTOMER, "wants_person", include_str!("general/wish_alike_voices.txt")),
    (CUSTOMER, "injection", include_str!("general/attack_alikes.txt")),
    (CUSTOMER, "injection", include_str!("general/attack_alike_voices.txt")),
    (CUSTOMER, "spam", include_str!("general/spam_alikes.txt")),
    (CUSTOMER, "spam", include_str!("general/spam_alike_voices.txt")),
    (CUSTOMER, ALL, include_str!("general/talk.txt")),
    (CUSTOMER, "off_topic", include_str!("general/scope_alikes.txt")),
    (PROSE, ALL, include_str!("general/prose.txt")),
    (PROSE, ALL, include_str!("general/manuals.txt")),
    ("injection", "injection", include_str!("general/injection.txt")),
    ("injection", "injection", include_str!("general/attack_patterns.txt")),
    ("injection", "injection", include_str!("general/attack_voices.txt")),
    ("injection", "injection", include_str!("general/personas.txt")),
    ("spam", "spam", include_str!("general/spam.txt")),
    ("spam", "spam", include_str!("general/spam_patterns.txt")),
    ("spam", "spam", include_str!("general/spam_voices.txt")),
    ("gibberish", "gibberish", include_str!("general/gibberish.txt")),
    ("rude", ALL, include_str!("general/rude.txt")),
    ("rude", ALL, include_str!("general/rude_patterns.txt")),
    ("off_topic", ALL, include_str!("general/off_topic.txt")),
    ("off_topic", "off_topic", include_str!("general/off_topic_patterns.txt")),
];

/// Written for every judge's lesson.
const ALL: &str = "";

/// A labelled message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    pub text: String,
    pub label: String,
    /// Written for this very company, so it says what is on its topic.
    pub of_pack: bool,
    /// The same for all messages of one line.
    pub family: u32,
    /// The judge whose lesson it is written for; empty for all.
    lesson: &'static str,
}

impl Example {
    /// What is in every judge's lesson.
    fn for_all(text: &str, label: &str, of_pack: bool) -> Self {
        Self { text: text.into(), label: label.into(), of_pack, family: number(text), lesson: ALL }
    }

    /// Written for the lesson of this very judge.
    pub fn is_for(&self, label: &str) -> bool {
        self.lesson == label
    }
}

/// Which examples the judge of `label` learns from, by their place. Of what is written for another judge it sees one
/// message a line, and not more than [`MOST_OF_ANOTHER`], so that what one judge is taught hardly moves another.
pub fn lesson_of(label: &str, examples: &[Example]) -> Vec<usize> {
    let mut lines: BTreeMap<(&str, &str), BTreeMap<u32, usize>> = BTreeMap::new();
    let mut lesson = Vec::new();
    for (place, example) in examples.iter().enumerate() {
        if example.lesson == ALL || example.lesson == label {
            lesson.push(place);
        } else {
            lines.entry((example.lesson, &example.label)).or_default().entry(example.family).or_insert(place);
        }
    }
    lesson.extend(lines.values().flat_map(|line| line.values().take(MOST_OF_ANOTHER)));
    lesson.sort_unstable();
    lesson
}

/// All examples for a pack: its filters' rows, its questions, and the general ones, in an order that deals the labels
/// out evenly and never changes.
pub fn examples(pack: &Pack) -> Vec<Example> {
    with_questions(pack, |_| true)
}

/// The same without the questions of entries that people write at the desk day by day.
pub fn lasting_examples(pack: &Pack) -> Vec<Example> {
    with_questions(pack, |entry| !entry.from_desk())
}

fn with_questions(pack: &Pack, chosen: impl Fn(&FaqEntry) -> bool) -> Vec<Example> {
    let own = |text: &str, label: &str| Example::for_all(text, label, true);
    let mut all: Vec<Example> = pack.filters.iter().map(|row| own(&row.text, &row.label)).collect();
    let mut questions: Vec<&String> =
        pack.faq.iter().filter(|entry| chosen(entry)).flat_map(|entry| &entry.questions).collect();
    if questions.len() > MOST_OWN {
        questions.sort_by_key(|q| *blake3::hash(q.as_bytes()).as_bytes());
        questions.truncate(MOST_OWN);
    }
    all.extend(questions.into_iter().map(|q| own(q, OWN)));
    all.extend(pack.operators.iter().flat_map(|o| &o.examples).map(|e| own(&e.question, "sample")));
    if all.iter().filter(|e| on_topic(e)).count() < ENOUGH_OWN {
        let asked = asked::of_pages(pack, OF_PAGES).into_iter();
        all.extend(asked.map(|(text, page)| Example { family: number(page), ..own(&text, PAGE) }));
    }
    all.extend(general());
    all.sort_by_key(|e| (*blake3::hash(e.text.as_bytes()).as_bytes(), e.label.clone()));
    all.dedup_by(|a, b| a.text == b.text);
    all
}

fn general() -> impl Iterator<Item = Example> {
    GENERAL.into_iter().flat_map(|(label, lesson, lines)| {
        lines.lines().map(str::trim).filter(|l| !l.is_empty()).flat_map(move |line| {
            let texts = if label == PROSE { vec![line.replace("\\n", "\n")] } else { messages(line) };
            let family = number(line);
            texts.into_iter().map(move |text| Example { family, lesson, ..Example::for_all(&text, label, false) })
        })
    })
}

/// The messages that a line stands for. Each choice goes through its words in turn, from a place and with a step of
/// its own, so that all are met and the same two seldom meet again.
fn messages(line: &str) -> Vec<String> {
    let mut parts: Vec<Vec<&str>> = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((choice, behind)) = after.split_once('}').filter(|(choice, _)| choice.contains('|')) else { break };
        parts.push(vec![before]);
        parts.push(choice.split('|').collect());
        rest = behind;
    }
    if parts.is_empty() {
        return vec![line.to_string()];
    }
    parts.push(vec![rest]);
    let count = parts.iter().map(Vec::len).max().unwrap_or(1);
    let mut messages: Vec<String> = (0..count)
        .map(|turn| {
            let chosen = parts
                .iter()
                .enumerate()
                .map(|(place, words)| words[(turn * step(place, words.len()) + place) % words.len()]);
            chosen.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ").replace(" ,", ",")
        })
        .collect();
    messages.sort();
    messages.dedup();
    messages
}

/// The first number after `place` that has no divisor in common with `count`: steps of it meet all of `count` places.
fn step(place: usize, count: usize) -> usize {
    let common = |mut a: usize, mut b: usize| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    (place + 1..).find(|&n| common(n, count) == 1).unwrap_or(1)
}

fn number(line: &str) -> u32 {
    let hash = blake3::hash(line.as_bytes());
    u32::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2], hash.as_bytes()[3]])
}

/// True for labels of messages that a desk serves: none of them may be refused.
pub fn served(label: &str) -> bool {
    matches!(label, "ok" | "rude" | "wants_person" | "sample" | CUSTOMER | OWN | PROSE)
}

/// True for a pack's own example of what the company is asked.
pub fn on_topic(example: &Example) -> bool {
    example.of_pack && matches!(example.label.as_str(), "ok" | "rude" | "sample" | OWN | PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_without_examples_still_has_the_general_ones_in_both_languages() {
        let all = examples(&Pack::default());
        for label in ["wants_person", "injection", "spam", "rude", CUSTOMER, "off_topic"] {
            let texts: Vec<&str> = all.iter().filter(|e| e.label == label).map(|e| e.text.as_str()).collect();
            let russian = texts.iter().filter(|t| crate::text::is_cyrillic(t)).count();
            assert!(russian >= 15 && texts.len() - russian >= 15, "{label}: {russian} of {}", texts.len());
        }
        assert!(all.windows(2).all(|w| w[0].text != w[1].text));
    }

    #[test]
    fn a_judge_learns_all_of_its_own_lesson_and_one_message_a_line_of_the_others() {
        let all = examples(&Pack::default());
        let of = |label: &str, lesson: &[usize]| lesson.iter().filter(|&&i| all[i].label == label).count();
        let everything: Vec<usize> = (0..all.len()).collect();
        let (spam, wishes) = (lesson_of("spam", &all), lesson_of("wants_person", &all));
        assert_eq!(of("wants_person", &wishes), of("wants_person", &everything));
        assert!((1..=MOST_OF_ANOTHER).contains(&of("wants_person", &spam)), "{}", of("wants_person", &spam));
        assert!(of(CUSTOMER, &spam) < of(CUSTOMER, &everything), "look-alikes of wishes are not all its matter");
        assert_eq!(of("rude", &spam), of("rude", &everything), "rude messages are every judge's matter");
        assert!(spam.is_sorted() && wishes.is_sorted());
    }

    #[test]
    fn what_is_written_at_the_desk_is_an_example_that_does_not_last() {
        let entry = |path: &str, question: &str| FaqEntry {
            path: path.into(),
            questions: vec![question.into()],
            ..FaqEntry::default()
        };
        let faq = vec![entry("faq.csv", "Is it rainproof?"), entry("desk/faq.jsonl", "Does it fold up?")];
        let pack = Pack { faq, ..Pack::default() };
        let has = |all: Vec<Example>, text: &str| all.iter().any(|e| e.text == text && e.label == OWN);
        assert!(has(examples(&pack), "Is it rainproof?") && has(examples(&pack), "Does it fold up?"));
        assert!(has(lasting_examples(&pack), "Is it rainproof?") && !has(lasting_examples(&pack), "Does it fold up?"));
    }

    #[test]
    fn a_pattern_stands_for_messages_that_hold_each_of_its_words() {
        let all = messages("{connect|transfer} me to {a human|an agent|the manager}{, please|}");
        assert_eq!(all.len(), 3, "{all:?}");
        for word in ["connect", "transfer", "a human", "an agent", "the manager"] {
            assert!(all.iter().any(|m| m.contains(word)), "{word}: {all:?}");
        }
        assert_eq!(messages("{\"a\": 1} is JSON"), ["{\"a\": 1} is JSON"]);
    }

    #[test]
    fn evaluation_rows_are_no_examples() {
        let all = examples(&Pack::default());
        let folder = format!("{}/tests/data/filters", env!("CARGO_MANIFEST_DIR"));
        for set in std::fs::read_dir(folder).expect("the sets are in the repository").map(|set| set.unwrap().path()) {
            let rows = std::fs::read_to_string(&set).unwrap();
            let set = set.display();
            let shared = all.iter().filter(|e| rows.contains(&format!("\"text\": \"{}\"", e.text))).count();
            assert_eq!(shared, 0, "{set}: {:?}", all.iter().find(|e| rows.contains(&format!("\"{}\"", e.text))));
        }
    }
}
