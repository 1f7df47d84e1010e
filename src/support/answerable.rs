//! Is the answer in here? A calibrated probability that a find holds what is asked.
//!
//! A fit says how near a find is; a near miss ("how do I restore it" against "how do I delete it", "in which city do the
//! servers stand" against the page that installs them) can be very near. This looks at what parts them: whether one
//! place of the text speaks of all that is asked, whether the action is the same, whether it has the sort of thing that
//! is asked for (a number, a time, a place), whether names agree, and how far the next find lies behind. The weights were
//! fitted by logistic regression (`scripts/fit-answerable`) to rows of our own, `tests/data/answerable-open.jsonl`; the
//! sealed half of that set measures them.

use serde::Serialize;

use super::fit::{Candidate, Findings};
use super::lexicon::{self, Lexicon};
use super::retrieve::Query;
use super::{actions, text};

/// What the probability is made of; each 0..1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Signs {
    pub fit: f32,
    /// Share of the question's terms that the whole find speaks of.
    pub said: f32,
    /// The share that one or two neighbouring sentences speak of, its question or headings with them.
    pub together: f32,
    /// Share that its question or headings speak of.
    pub asked: f32,
    /// Share of its question or headings that the customer's words cover.
    pub answered: f32,
    /// Weight of the heaviest term that it does not speak of.
    pub missing: f32,
    /// Likeness by vectors; 0 where there are none.
    pub like: f32,
    /// 1 where vectors were compared.
    pub by_vector: f32,
    /// 1 where its question or headings name another action than the customer, and none of the customer's.
    pub other_action: f32,
    /// 1 where an action of the customer's stands nowhere in the place that speaks of the rest.
    pub action_absent: f32,
    /// 1 where a number, a time or a place is asked for and the place that speaks of the rest has none.
    pub kind_absent: f32,
    /// 1 where the question names what the pack never names.
    pub stranger: f32,
    /// 1 where a word of the question is unknown to the pack, and so are its kin.
    pub unknown: f32,
    /// 1 where its question or headings have a name that the customer's words do not.
    pub own_name: f32,
    /// The fit's distance to the next find of another page.
    pub lead: f32,
    /// 1 where the question has at most one term.
    pub short: f32,
    /// 1 for a FAQ entry or sample answer.
    pub faq: f32,
}

/// Signs in the order of the weights.
pub const NAMES: [&str; 17] = [
    "fit",
    "said",
    "together",
    "asked",
    "answered",
    "missing",
    "like",
    "by_vector",
    "other_action",
    "action_absent",
    "kind_absent",
    "stranger",
    "unknown",
    "own_name",
    "lead",
    "short",
    "faq",
];

impl Signs {
    fn row(&self) -> [f32; 17] {
        [
            self.fit,
            self.said,
            self.together,
            self.asked,
            self.answered,
            self.missing,
            self.like,
            self.by_vector,
            self.other_action,
            self.action_absent,
            self.kind_absent,
            self.stranger,
            self.unknown,
            self.own_name,
            self.lead,
            self.short,
            self.faq,
        ]
    }

    /// Probability that the find answers: 0..1.
    pub fn probability(&self) -> f32 {
        let sum: f32 = self.row().iter().zip(WEIGHTS).map(|(sign, weight)| sign * weight).sum();
        1.0 / (1.0 + (-(sum + BIAS)).exp())
    }
}

/// Fitted; see `scripts/fit-answerable`.
const WEIGHTS: [f32; 17] =
    [1.41, 1.27, 0.84, 0.05, 1.07, 0.00, 0.86, -0.38, -0.16, -0.71, -0.02, -0.15, -1.82, 0.13, 0.84, -0.25, 0.47];
const BIAS: f32 = -3.39;

/// The signs of a find.
pub fn signs(query: &Query, found: &Candidate, findings: &Findings, lexicon: &Lexicon) -> Signs {
    let evidence = found.evidence;
    let place = place(query, found);
    let head = lexicon.sheet(&found.chunk.id).map(|s| s.head.as_slice()).unwrap_or_default();
    let wanted = actions::actions(&query.stems);
    let here: Vec<String> = place.stems.iter().chain(head).cloned().collect();
    let present = actions::actions(&here);
    let behind = findings
        .questions
        .iter()
        .chain(&findings.articles)
        .filter(|c| {
            c.chunk.id != found.chunk.id
                && (c.chunk.questions.len() + found.chunk.questions.len() > 0 || c.chunk.path != found.chunk.path)
        })
        .map(|c| c.fit)
        .fold(0.0, f32::max);
    let flag = |yes: bool| if yes { 1.0 } else { 0.0 };
    Signs {
        fit: found.fit,
        said: evidence.said,
        together: place.share,
        asked: evidence.asked,
        answered: evidence.answered,
        missing: evidence.missing,
        like: evidence.like.unwrap_or(0.0),
        by_vector: flag(evidence.like.is_some()),
        other_action: flag(actions::differ(&query.stems, head)),
        action_absent: flag(!wanted.is_empty() && !wanted.iter().any(|a| present.contains(a))),
        kind_absent: flag(asked_for(&query.text).is_some_and(|kind| !kind.is_in(&place.text))),
        stranger: flag(!query.strangers.is_empty()),
        unknown: flag(query.terms.has_unknown()),
        own_name: flag(!found.own_names.is_empty()),
        lead: (found.fit - behind).clamp(0.0, 1.0),
        short: flag(query.stems.len() <= 1),
        faq: flag(!found.chunk.questions.is_empty()),
    }
}

/// The one or two neighbouring sentences that speak of most of what is asked.
struct Place {
    text: String,
    stems: Vec<String>,
    share: f32,
}

fn place(query: &Query, found: &Candidate) -> Place {
    let head = text::content_stems(&format!("{} {}", found.chunk.title, found.chunk.headings.join(" ")));
    let body = lexicon::body(&found.chunk);
    let sentences: Vec<&str> = body.lines().flat_map(text::sentences).collect();
    let stems: Vec<Vec<String>> = sentences.iter().map(|s| text::content_stems(s)).collect();
    let of_heading = query.terms.share(&query.terms.parts(&head));
    let mut best = Place { text: body.clone(), stems: Vec::new(), share: of_heading * 0.9 };
    for at in 0..sentences.len() {
        let end = (at + 2).min(sentences.len());
        let own: Vec<String> = stems[at..end].iter().flatten().cloned().collect();
        let share = query.terms.share(&query.terms.parts(own.iter().chain(&head)));
        if share > best.share {
            best = Place { text: sentences[at..end].join(" "), stems: own, share };
        }
    }
    best
}

/// The sort of thing that a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Where,
}

impl Kind {
    /// True where the text has such a thing.
    fn is_in(self, text: &str) -> bool {
        match self {
            Kind::Number => {
                let folded = format!(" {} ", text::words(&text::fold(text)).join(" "));
                text.chars().any(|c| c.is_ascii_digit()) || text::has_any(&folded, COUNTED)
            }
            // A path of the app, an address, or a name inside a sentence.
            Kind::Where => {
                let mut words = text.split_whitespace();
                words.next();
                text.contains('→')
                    || text.contains("**")
                    || text.contains("://")
                    || words.any(|w| w.chars().next().is_some_and(char::is_uppercase))
            }
        }
    }
}

const COUNTED: &str = "one|two|three|four|five|ten|unlimited|no limit|any number|free|once|twice|daily|weekly|hourly|один|одна|два|две|три|пять|десять|\
    безлимит*|неограничен*|не ограничен*|без ограничен*|бесплатн*|сколько угодно|ежедневно|сразу|at once|immediately|monthly|yearly";
const HOW_MANY: &str = "how many|how much|how long|how big|how large|how often|how heavy|how old|what size|which version|minimum|maximum|сколько|какого размера|как долго|\
    как часто|за какое время|какой версии|какая версия|во сколько";
const WHERE: &str = "in which city|in what city|in which country|what city|which country|в каком городе|в какой стране|каком городе|какой стране";

fn asked_for(question: &str) -> Option<Kind> {
    let folded = format!(" {} ", text::words(&text::fold(question)).join(" "));
    if text::has_any(&folded, WHERE) {
        Some(Kind::Where)
    } else if text::has_any(&folded, HOW_MANY) {
        Some(Kind::Number)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::conversation::Conversation;
    use super::super::fit::findings;
    use super::super::lexicon::tests::faq;
    use super::super::retrieve;
    use super::*;
    use crate::kb::pack::{Company, Pack};

    fn signs_of(question: &str) -> Signs {
        let chunks = vec![
            faq("del", "en", &["How do I delete a conversation?"], "Open it and press Delete. It is gone for good."),
            faq(
                "plan",
                "en",
                &["What does the Free plan hold?"],
                "The Free plan holds 1 agent. Conversations are kept.",
            ),
            faq("wid", "en", &["How do I install the widget?"], "Paste the code into the page."),
        ];
        let lexicon = Lexicon::build(&chunks, &Pack::default());
        let asked = Conversation { message: question.into(), lang: "en".into(), ..Default::default() };
        let query = retrieve::query(&asked, &lexicon, &Company::default());
        let found = findings(&query, &[], &lexicon, "igor");
        signs(&query, &found.questions[0], &found, &lexicon)
    }

    #[test]
    fn the_opposite_action_shows_and_the_same_one_does_not() {
        assert_eq!(signs_of("how do I restore a conversation").other_action, 1.0);
        assert_eq!(signs_of("how do I delete a conversation").other_action, 0.0);
        assert!(
            signs_of("how do I restore a conversation").probability()
                < signs_of("how do I erase a conversation").probability()
        );
    }

    #[test]
    fn a_number_that_is_asked_for_must_stand_where_the_rest_is_spoken_of() {
        assert_eq!(signs_of("how many agents does the free plan hold").kind_absent, 0.0);
        assert_eq!(signs_of("how many pages may the widget be pasted into").kind_absent, 1.0);
    }
}
