//! A sentence of a source, said again without a change of what it says.
//!
//! A weak model's own sentences are often wrong where every word of them stands in the source ("the bank transfer is
//! yearly"). Such a model gets no free hand: of the passage that answers, one sentence is opened into a *lattice*, all
//! the ways in which it may be said (a connector left out, a purpose put first or last, plainer words, a contraction),
//! and the model writes along it, token by token, held by a grammar. Whichever way it goes, the sentence says what the
//! source says. The rest of the passage follows as it stands.

use std::collections::HashSet;
use std::fmt::Write;

use super::text;

mod ways;

use ways::Piece;

/// Words that a sentence must and may have.
const WORDS: std::ops::RangeInclusive<usize> = 5..=45;
/// Words from which what has no full stop is a sentence, and no title.
const WITHOUT_STOP: usize = 8;
/// How near the question (0..1) a sentence from within the passage must be to be put before it.
const LEADS: f32 = 0.4;
/// By so much it must be nearer than the passage's first sentence.
const NEARER: f32 = 0.1;
/// A rest of fewer letters, with nothing to show, is left out: the sentence has said it.
const WORTH_SHOWING: usize = 60;
/// Sentences of a passage that are looked at.
const SENTENCES: usize = 12;

/// An opened sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Restatement {
    /// The forms of the sentence: rows of pieces.
    forms: Vec<Vec<Piece>>,
    /// Links of the sentence: their labels, and how they are written.
    links: Vec<(String, String)>,
    /// What is said before it: that the find is not a sure one.
    pub lead: String,
    /// What follows the sentence, as it stands in the passage; empty for nothing.
    pub rest: String,
}

/// A sentence in the passage.
struct Unit {
    at: std::ops::Range<usize>,
    plain: String,
    links: Vec<(String, String)>,
}

/// Opens the sentence of `passage` (Markdown, English) that is nearest the question. `nearness`: that of each of some
/// texts, 0..1. `None` where no sentence stands by itself.
pub fn of(passage: &str, nearness: impl Fn(&[&str]) -> Vec<f32>) -> Option<Restatement> {
    let mut units = units(passage);
    units.truncate(SENTENCES);
    let first = units.first().filter(|u| passage[..u.at.start].trim().is_empty() && may_open(&u.plain));
    let alone: Vec<&Unit> = units.iter().filter(|u| stands_alone(&u.plain)).collect();
    let mut texts: Vec<&str> = alone.iter().map(|u| u.plain.as_str()).collect();
    texts.extend(first.map(|u| u.plain.as_str()));
    let near = nearness(&texts);
    let best =
        alone.into_iter().zip(near.iter().copied()).reduce(|best, next| if next.1 > best.1 { next } else { best });
    let of_first = first.and(near.last().copied()).unwrap_or(0.0);
    let leads = best.filter(|(_, most)| *most >= LEADS && (first.is_none() || of_first + NEARER < *most));
    let (unit, others, rest) = match (leads, first) {
        (Some((best, _)), _) => {
            let others = format!("{}{}", &passage[..best.at.start], &passage[best.at.end..]);
            (best, others, format!("\n\n{passage}"))
        }
        (None, Some(first)) => {
            let others = &passage[first.at.end..];
            (first, others.to_string(), others.to_string())
        }
        (None, None) => return None,
    };
    let rest = if worth_showing(&others) { rest.trim_end().to_string() } else { String::new() };
    Some(Restatement { forms: ways::forms(&unit.plain), links: unit.links.clone(), lead: String::new(), rest })
}

impl Restatement {
    /// The lattice as a grammar in `llguidance`'s Lark dialect.
    pub fn grammar(&self) -> String {
        let quoted = |text: &String| serde_json::Value::from(text.as_str()).to_string();
        let names: Vec<String> = (0..self.forms.len()).map(|n| format!("form{n}")).collect();
        let mut grammar = format!("start: {}\n", names.join(" | "));
        for (name, pieces) in names.iter().zip(&self.forms) {
            let row: Vec<String> = pieces
                .iter()
                .map(|Piece(ways)| match ways.as_slice() {
                    [only] => quoted(only),
                    ways => format!("({})", ways.iter().map(quoted).collect::<Vec<_>>().join(" | ")),
                })
                .collect();
            let _ = writeln!(grammar, "{name}: {}", row.join(" "));
        }
        grammar
    }

    /// The sentence as a customer gets it: its links lead where they lead in the passage.
    pub fn linked(&self, sentence: &str) -> String {
        let (mut out, mut from) = (sentence.to_string(), 0);
        for (label, link) in &self.links {
            if let Some(at) = out[from..].find(label.as_str()) {
                out.replace_range(from + at..from + at + label.len(), link);
                from += at + link.len();
            }
        }
        out
    }
}

/// The sentences of a passage's paragraphs. Lists, tables, headings, pictures and code have none.
fn units(passage: &str) -> Vec<Unit> {
    let (mut units, mut at, mut fenced) = (Vec::new(), 0, false);
    for block in passage.split_inclusive("\n\n") {
        let start = at;
        at += block.len();
        let fences = block.lines().filter(|l| l.trim_start().starts_with("```")).count();
        let was_fenced = fenced;
        fenced ^= fences % 2 == 1;
        if was_fenced || fences > 0 || !is_prose(block) {
            continue;
        }
        let mut from = 0;
        while let Some(length) = text::sentence_end(&block[from..], true) {
            let raw = &block[from..from + length];
            let (plain, links) = without_links(raw.trim());
            let end = start + from + raw.trim_end().len();
            units.push(Unit { at: end - raw.trim().len()..end, plain, links });
            from += length;
        }
    }
    units
}

fn is_prose(block: &str) -> bool {
    let marks = ["#", "|", ">", "- ", "* ", "+ ", "!", "<", "[[", ":::", "{%", "    "];
    block.lines().all(|line| {
        let line = line.trim_end();
        let numbered = line.trim_start().split('.').next().is_some_and(|n| n.chars().all(|c| c.is_ascii_digit()));
        line.is_empty() || (!numbered && !marks.iter().any(|m| line.trim_start_matches('\n').starts_with(m)))
    })
}

/// A sentence with its links as labels, white space single; and the links.
fn without_links(raw: &str) -> (String, Vec<(String, String)>) {
    let (mut plain, mut links, mut rest) = (String::new(), Vec::new(), raw);
    while let Some(open) = rest.find('[') {
        let link = rest[open + 1..].find("](").and_then(|label| {
            let target = open + 1 + label + 2;
            let close = rest[target..].find(')')?;
            Some((rest[open + 1..open + 1 + label].to_string(), target + close + 1))
        });
        let Some((label, end)) = link.filter(|_| !rest[..open].ends_with('!')) else {
            plain.push_str(&rest[..=open]);
            rest = &rest[open + 1..];
            continue;
        };
        plain.push_str(&rest[..open]);
        plain.push_str(&label);
        links.push((label, rest[open..end].to_string()));
        rest = &rest[end..];
    }
    plain.push_str(rest);
    (plain.split_whitespace().collect::<Vec<_>>().join(" "), links)
}

fn worth_showing(rest: &str) -> bool {
    let shows = ["```", "![", "[", "\n- ", "\n* ", "\n1. ", "|"];
    shows.iter().any(|s| rest.contains(s)) || rest.chars().filter(|c| c.is_alphanumeric()).count() >= WORTH_SHOWING
}

/// True where a sentence can open a passage whose first one it is: it may point to what follows.
fn may_open(sentence: &str) -> bool {
    let words = sentence.split_whitespace().count();
    let begins = sentence.chars().next().is_some_and(|c| c.is_uppercase() || c.is_ascii_digit() || "`*\"“".contains(c));
    let ends = sentence.ends_with(['.', '!', ':']) || words >= WITHOUT_STOP;
    WORDS.contains(&words) && begins && ends && !sentence.ends_with(['?', ',', ';']) && whole_marks(sentence)
}

/// True where a sentence can be read without those around it.
fn stands_alone(sentence: &str) -> bool {
    const POINTING_OPENERS: [&str; 26] = [
        "it",
        "its",
        "this",
        "that",
        "these",
        "those",
        "they",
        "their",
        "them",
        "he",
        "she",
        "here",
        "there",
        "such",
        "but",
        "and",
        "or",
        "so",
        "then",
        "otherwise",
        "instead",
        "both",
        "as",
        "because",
        "which",
        "once",
    ];
    const POINTERS: &str = "above|below|following|follows|previous step|previous section|next section|next step|earlier|latter|former|\
        this section|this page|this guide|this article|in this case|these steps";
    let folded = text::fold(sentence);
    let words = text::words(&folded);
    may_open(sentence)
        && !sentence.ends_with(':')
        && words.first().is_some_and(|first| !POINTING_OPENERS.contains(first))
        && !words.iter().take(4).any(|w| ["it", "this", "these", "those", "they", "them"].contains(w))
        && !POINTERS.split('|').any(|p| folded.contains(p.trim()))
}

/// True where brackets and marks that were opened are closed.
fn whole_marks(sentence: &str) -> bool {
    let count = |mark: &str| sentence.matches(mark).count();
    count("(") == count(")")
        && count("[") == count("]")
        && count("`") % 2 == 0
        && count("**") % 2 == 0
        && !sentence.contains("![")
        && !sentence.contains("[[")
        && !sentence.contains('<')
}
/// Share of the question's stems that a text says, each weighed by `rarity`.
pub fn share_said(question: &[String], said: &str, rarity: impl Fn(&str) -> f32) -> f32 {
    let stems = text::content_stems(said);
    let hay: HashSet<&str> = stems.iter().map(String::as_str).collect();
    text::coverage(question, &hay, rarity)
}
#[cfg(test)]
mod tests {
    use super::*;

    /// Every way through the lattice.
    fn ways(restatement: &Restatement) -> Vec<String> {
        let mut all = Vec::new();
        for form in &restatement.forms {
            let mut said = vec![String::new()];
            for Piece(ways) in form {
                said = said.iter().flat_map(|s| ways.iter().map(move |w| format!("{s}{w}"))).collect();
            }
            all.extend(said);
        }
        all
    }

    fn of_question(passage: &str, question: &str) -> Option<Restatement> {
        let stems = text::content_stems(question);
        of(passage, |said| said.iter().map(|said| share_said(&stems, said, |_| 1.0)).collect())
    }

    #[test]
    fn a_sentence_goes_several_ways_and_each_says_the_same() {
        let found = of_question("To export a report, click **Export**.", "how to export a report").unwrap();
        assert_eq!(
            ways(&found),
            [
                "To export a report, click **Export**.",
                "Click **Export** to export a report.",
                "You can click **Export** to export a report."
            ]
        );
        let found =
            of_question("However, agents do not need to log in (e.g. on a phone).", "must agents log in?").unwrap();
        assert_eq!(
            ways(&found),
            [
                "Agents do not need to log in (e.g. on a phone).",
                "Agents do not need to log in.",
                "Agents don't need to log in (e.g. on a phone).",
                "Agents don't need to log in."
            ]
        );
    }

    #[test]
    fn what_is_marked_and_what_limits_stays_as_it_is() {
        let found = of_question("You need to run `make sure that` here (only on Linux).", "what to run").unwrap();
        assert_eq!(
            ways(&found),
            [
                "You need to run `make sure that` here (only on Linux).",
                "You have to run `make sure that` here (only on Linux)."
            ]
        );
        let found = of_question("You do not have to pay for guests.", "pay for guests").unwrap();
        assert_eq!(ways(&found), ["You do not have to pay for guests.", "You don't have to pay for guests."]);
    }

    #[test]
    fn the_sentence_that_answers_goes_first_and_the_passage_follows_as_it_stands() {
        let passage = "Plans differ in their size.\n\nYou can cancel the subscription in Billing.\n\n```\ncancel\n```";
        let found = of_question(passage, "how do I cancel my subscription").unwrap();
        assert_eq!(ways(&found), ["You can cancel the subscription in Billing."]);
        assert_eq!(found.rest, format!("\n\n{passage}"));
        let found = of_question(passage, "how do plans differ").unwrap();
        assert_eq!(found.rest, passage["Plans differ in their size.".len()..]);
    }

    #[test]
    fn only_prose_is_opened_and_what_points_back_only_where_it_stands() {
        for passage in [
            "1. Open the door of the house.\n2. Go in.",
            "```\nThis is all code here.\n```",
            "| a | b is of a table. |",
        ] {
            assert_eq!(of_question(passage, "open the house, code, table"), None, "{passage}");
        }
        let pointing = "Plans differ in their size.\n\nIt can be changed in Billing at any time.";
        let found = of_question(pointing, "change in billing at any time").unwrap();
        assert_eq!(ways(&found), ["Plans differ in their size."]);
    }

    #[test]
    fn links_lead_where_they_led() {
        let found = of_question("Create an [incoming webhook](http://a/b) first.", "webhook").unwrap();
        assert_eq!(ways(&found), ["Create an incoming webhook first.", "Please create an incoming webhook first."]);
        assert_eq!(
            found.linked("Please create an incoming webhook first."),
            "Please create an [incoming webhook](http://a/b) first."
        );
    }

    #[test]
    fn the_grammar_holds_every_way() {
        let found = of_question("You can \"quote\" in order to say more.", "quote").unwrap();
        assert_eq!(
            found.grammar(),
            "start: form0\nform0: \"You can \\\"quote\\\" \" (\"in order to\" | \"to\") \" say more.\"\n"
        );
    }
}
