//! How well each find fits the query: 0..1.
//!
//! A search orders; it does not say whether a find answers. Fits do: from the vectors where the embedding model
//! reads the language, from stems and concepts everywhere, lowered where actions contradict or names differ.

use std::collections::HashSet;
use std::sync::Arc;

use super::lexicon::{Lexicon, Place, Question, Sheet};
use super::retrieve::Query;
use super::{actions, text};
use crate::kb::{Asset, Chunk, Passage, SourceKind};

/// A find with its fit.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub chunk: Arc<Chunk>,
    /// 0..1
    pub fit: f32,
    /// What lowered it, in a few words.
    pub doubts: Vec<&'static str>,
    /// Names of the candidate's question or headings that the query does not have.
    pub own_names: HashSet<String>,
    pub cosine: Option<f32>,
    pub evidence: Evidence,
}

/// What a fit was made of, each 0..1: the ground on which a find is taken for an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Evidence {
    /// Share of the question's terms that the whole text speaks of.
    pub said: f32,
    /// Share that its question or headings speak of.
    pub asked: f32,
    /// Share of its question or headings that the customer's words cover.
    pub answered: f32,
    /// Weight of the heaviest term that it does not speak of.
    pub missing: f32,
    /// Likeness by vectors, where the embedding model reads the language.
    pub like: Option<f32>,
    /// Share of the question's own words, unknown ones in full, where a leg of the search brought the page up; else it
    /// was found for single words.
    pub covered: Option<f32>,
}

/// The knowledge's side of a turn.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// FAQ entries and sample answers, best first.
    pub questions: Vec<Candidate>,
    /// Articles' chunks, best first.
    pub articles: Vec<Candidate>,
    /// Places of the app: index into the lexicon's, with fits, best first.
    pub places: Vec<(usize, f32)>,
}

impl Findings {
    /// Best fit of anything: evidence that the message is about the product.
    pub fn in_domain(&self) -> f32 {
        let place = self.places.first().map_or(0.0, |p| p.1 * 0.9);
        let best = |c: &[Candidate]| c.first().map_or(0.0, |c| c.fit);
        best(&self.questions).max(best(&self.articles)).max(place)
    }

    /// The best question or page.
    pub fn best(&self) -> Option<&Candidate> {
        self.questions.first().into_iter().chain(self.articles.first()).max_by(|a, b| a.fit.total_cmp(&b.fit))
    }

    /// The fit of a chunk; 0 where it was not found.
    pub fn fit_of(&self, id: &str) -> f32 {
        self.questions.iter().chain(&self.articles).find(|c| c.chunk.id == id).map_or(0.0, |c| c.fit)
    }

    /// Takes over what fits a part of the message better than the whole.
    pub fn merge(&mut self, part: Findings) {
        fn take(into: &mut Vec<Candidate>, from: Vec<Candidate>) {
            for candidate in from {
                match into.iter_mut().find(|c| c.chunk.id == candidate.chunk.id) {
                    Some(known) if known.fit >= candidate.fit => {}
                    Some(known) => *known = candidate,
                    None => into.push(candidate),
                }
            }
            into.sort_by(|a, b| b.fit.total_cmp(&a.fit));
        }
        take(&mut self.questions, part.questions);
        take(&mut self.articles, part.articles);
        for (place, fit) in part.places {
            match self.places.iter_mut().find(|(p, _)| *p == place) {
                Some(known) => known.1 = known.1.max(fit),
                None => self.places.push((place, fit)),
            }
        }
        self.places.sort_by(|a, b| b.1.total_cmp(&a.1));
    }

    /// How far the best find stands out: its fit less that of the third best, FAQ and pages together. Two that agree
    /// do not compete: the FAQ and an article often say the same.
    pub fn lead(&self) -> f32 {
        let mut fits: Vec<f32> = self.questions.iter().chain(&self.articles).map(|c| c.fit).collect();
        fits.sort_by(|a, b| b.total_cmp(a));
        fits.first().unwrap_or(&0.0) - fits.get(2).unwrap_or(&0.0)
    }
}

/// Most questions, and most pages, that are compared besides what the search found.
const COMPARED: usize = 64;
/// Most sections of pages that are kept, best first: ten pages' worth where each comes up twice.
const KEPT: usize = 24;
/// How far vectors are believed: likeness is 0 at a cosine of `floor` and 1 at `floor + range`.
struct Trust {
    floor: f32,
    range: f32,
    /// Likeness of what the vector search did not bring up.
    not_found: f32,
    /// Share of a fit that vectors decide, where there are any; words decide the rest: of an entry, and of a page.
    weight: f32,
    page_weight: f32,
    /// Likeness of an entry from those of its question and of its text.
    of_entry: fn(f32, f32) -> f32,
    /// What words of the question count that the whole entry speaks of, and its wording; and the wording's own.
    words: [f32; 3],
}

/// Of texts that the embedding model reads as they stand.
const AS_WRITTEN: Trust = Trust {
    floor: 0.34,
    range: 0.42,
    not_found: 0.1,
    weight: 0.55,
    page_weight: 0.55,
    of_entry: |question, text| question.max(0.95 * text),
    words: [0.4, 0.3, 0.3],
};
/// Of rough English: words left out and mistaken blur what is alike and what is not, and a question alone has few words
/// to be known by. The weights are those of a ranking learnt from the FAQs of two companies and tried on a third's.
const BY_GLOSSARY: Trust = Trust {
    floor: 0.2,
    range: 0.5,
    not_found: 0.0,
    weight: 0.65,
    page_weight: 0.5,
    of_entry: |question, text| 0.25 * question + 0.75 * text,
    words: [0.9, 0.05, 0.05],
};

impl Trust {
    fn in_passages(passages: &[Passage]) -> &'static Self {
        if passages.iter().any(|p| p.by_glossary) { &BY_GLOSSARY } else { &AS_WRITTEN }
    }

    fn likeness(&self, cosine: Option<f32>) -> f32 {
        cosine.map_or(self.not_found, |c| ((c - self.floor) / self.range).clamp(0.0, 1.0))
    }
}

/// Likeness by vectors (0..1), and its weight beside words.
#[derive(Clone, Copy)]
struct Like {
    value: f32,
    weight: f32,
}

/// What a fit loses where the rarest word of the question is not spoken of at all; less where vectors were compared.
const MISSING: f32 = 0.15;
const MISSING_WITH_VECTOR: f32 = 0.1;

/// What is left of a fit where an amount is asked for and none is given of anything that the question speaks of.
const NO_AMOUNT: f32 = 0.6;
/// Weight, beside the heaviest, from which a word of the question is its subject: the product's name stands everywhere.
const SUBJECT: f32 = 0.4;

/// Fits of what a search found, and of all FAQ questions and pages by their words.
pub fn findings(query: &Query, passages: &[Passage], lexicon: &Lexicon, operator: &str, instruction: &str) -> Findings {
    let mine = |c: &Chunk| c.lang == query.lang && c.serves(operator, instruction);
    let found = |id: &str| passages.iter().find(|p| p.chunk.id == id);
    let by_vector = passages.iter().any(|p| p.cosine.is_some());
    let trust = Trust::in_passages(passages);
    let searched: HashSet<&str> = passages.iter().map(|p| p.chunk.id.as_str()).collect();
    let by_words =
        lexicon.question_postings.most_covered(&query.terms, COMPARED, |at| mine(&lexicon.questions[at].chunk));
    let by_words: HashSet<usize> = by_words.into_iter().collect();
    let mut questions: Vec<Candidate> = lexicon
        .questions
        .iter()
        .enumerate()
        .filter(|(at, q)| by_words.contains(at) || (searched.contains(q.chunk.id.as_str()) && mine(&q.chunk)))
        .map(|(_, q)| {
            let passage = found(&q.chunk.id);
            let cosine = passage.and_then(|p| p.question_cosine.or(p.cosine));
            let text = trust.likeness(passage.and_then(|p| p.text_cosine));
            let value = (trust.of_entry)(trust.likeness(cosine), text);
            let like = by_vector.then_some(Like { value, weight: trust.weight });
            question_fit(query, q, cosine, (like, trust), lexicon)
        })
        .filter(|c| c.fit > 0.05)
        .collect();
    questions.sort_by(|a, b| b.fit.total_cmp(&a.fit));
    questions.truncate(8);

    let wanted = |c: &Chunk| mine(c) || (query.intent.code && has_code(c));
    let pages = lexicon.page_postings.most_covered(&query.terms, COMPARED, |at| wanted(&lexicon.pages[at]));
    let pages: Vec<&Arc<Chunk>> = pages.into_iter().map(|at| &lexicon.pages[at]).collect();
    let by_words: HashSet<&str> = pages.iter().map(|c| c.id.as_str()).collect();
    let by_search = passages.iter().map(|p| &p.chunk).filter(|c| c.kind == SourceKind::Article && wanted(c));
    let mut articles: Vec<Candidate> = pages
        .iter()
        .copied()
        .chain(by_search.filter(|c| !by_words.contains(c.id.as_str())))
        .map(|c| {
            let cosine = found(&c.id).and_then(|p| p.cosine);
            let like = Like { value: trust.likeness(cosine), weight: trust.page_weight };
            let mut candidate = page_fit(query, c, cosine, by_vector.then_some(like), lexicon);
            candidate.evidence.covered = found(&c.id).map(|p| p.coverage);
            candidate
        })
        .filter(|c| c.fit > 0.05)
        .collect();
    articles.sort_by(|a, b| b.fit.total_cmp(&a.fit));
    articles.truncate(KEPT);
    let mut places: Vec<(usize, f32)> = lexicon
        .places
        .iter()
        .enumerate()
        .filter(|(_, p)| p.lang == query.lang)
        .map(|(i, p)| (i, place_fit(query, p, lexicon)))
        .filter(|(_, fit)| *fit > 0.4)
        .collect();
    places.sort_by(|a, b| b.1.total_cmp(&a.1));
    places.truncate(5);
    Findings { questions, articles, places }
}

/// True where the chunk holds a code block.
pub fn has_code(chunk: &Chunk) -> bool {
    chunk.assets.iter().any(|a| matches!(a, Asset::Code { .. }))
        || (matches!(chunk.kind, SourceKind::Faq | SourceKind::Example) && chunk.text.contains("```"))
}

/// True where the chunk shows an image.
pub fn has_image(chunk: &Chunk) -> bool {
    chunk.assets.iter().any(|a| matches!(a, Asset::Image { .. }))
        || (matches!(chunk.kind, SourceKind::Faq | SourceKind::Example) && chunk.text.contains("!["))
}

/// Words and vectors as one fit.
fn blend(like: Option<Like>, lexical: f32) -> f32 {
    like.map_or(lexical, |like| like.weight * like.value + (1.0 - like.weight) * lexical)
}

fn question_fit(
    query: &Query,
    question: &Question,
    cosine: Option<f32>,
    (like, trust): (Option<Like>, &Trust),
    lexicon: &Lexicon,
) -> Candidate {
    let nothing = Sheet::default();
    let sheet = lexicon.sheet(&question.chunk.id).unwrap_or(&nothing);
    let spoken = query.terms.parts_in(&sheet.all);
    let said = query.terms.share(&spoken);
    let missing = query.terms.heaviest_missing(&spoken);
    let mut best: Option<(f32, Vec<&'static str>, HashSet<String>, Evidence)> = None;
    for (wording, names) in question.wordings.iter().zip(&question.names) {
        let asked = query.terms.share(&query.terms.parts(wording));
        let answered = query.terms.share_of_other(wording, lexicon);
        let [of_all, of_wording, own] = trust.words;
        let lexical = of_all * said + of_wording * asked + own * answered;
        let mut fit = blend(like, lexical);
        if asked > 0.97 && answered > 0.97 {
            fit = fit.max(0.95);
        }
        let mut doubts = Vec::new();
        fit *= 1.0 - missing * if like.is_some() { MISSING_WITH_VECTOR } else { MISSING };
        doubt(&mut fit, &mut doubts, query, wording, names, sheet);
        if like.is_none() {
            few_words(&mut fit, &mut doubts, query, &spoken);
        }
        if best.as_ref().is_none_or(|(f, ..)| fit > *f) {
            let evidence = Evidence { said, asked, answered, missing, like: like.map(|l| l.value), covered: None };
            best = Some((fit, doubts, names.difference(&query.names).cloned().collect(), evidence));
        }
    }
    let (fit, doubts, own_names, evidence) = best.unwrap_or_default();
    Candidate { chunk: question.chunk.clone(), fit: fit.clamp(0.0, 1.0), doubts, own_names, cosine, evidence }
}

fn page_fit(
    query: &Query,
    chunk: &Arc<Chunk>,
    cosine: Option<f32>,
    like: Option<Like>,
    lexicon: &Lexicon,
) -> Candidate {
    let nothing = Sheet::default();
    let sheet = lexicon.sheet(&chunk.id).unwrap_or(&nothing);
    let spoken = query.terms.parts_in(&sheet.all);
    let said = query.terms.share(&spoken);
    let asked = query.terms.share(&query.terms.parts(&sheet.head));
    // A section is about its own heading more than about its page's title.
    let own = chunk.headings.last().map_or(0.0, |_| query.terms.share_of_other(&sheet.own_head, lexicon));
    let answered = query.terms.share_of_other(&sheet.head, lexicon).max(own);
    let mut fit = blend(like, 0.6 * said + 0.2 * asked + 0.2 * answered);
    let mut doubts = Vec::new();
    let missing = query.terms.heaviest_missing(&spoken);
    fit *= 1.0 - missing * if like.is_some() { MISSING_WITH_VECTOR } else { MISSING };
    doubt(&mut fit, &mut doubts, query, &sheet.head, &sheet.head_names, sheet);
    if like.is_none() {
        few_words(&mut fit, &mut doubts, query, &spoken);
    }
    if query.intent.code && has_code(chunk) {
        fit += 0.1;
    }
    if chunk.lang != query.lang {
        fit *= 0.6;
        doubts.push("in another language");
    }
    let own_names = sheet.head_names.difference(&query.names).cloned().collect();
    let evidence = Evidence { said, asked, answered, missing, like: like.map(|l| l.value), covered: None };
    Candidate { chunk: chunk.clone(), fit: fit.clamp(0.0, 1.0), doubts, own_names, cosine, evidence }
}

/// By words alone, a single common word in common is no match.
fn few_words(fit: &mut f32, doubts: &mut Vec<&'static str>, query: &Query, spoken: &[f32]) {
    let shared = spoken.iter().filter(|part| **part > 0.0).count();
    let rare = spoken.iter().enumerate().any(|(term, part)| *part >= 1.0 && query.terms.weight(term) > 0.75);
    if spoken.len() >= 2 && shared < 2 && !rare {
        *fit *= 0.6;
        doubts.push("one word in common");
    }
}

/// Lowers a fit where actions or names speak against it.
fn doubt(
    fit: &mut f32,
    doubts: &mut Vec<&'static str>,
    query: &Query,
    asked: &[String],
    names: &HashSet<String>,
    sheet: &Sheet,
) {
    if actions::contradict(&query.stems, asked) {
        *fit *= 0.4;
        doubts.push("the opposite action");
    } else if actions::differ(&query.stems, asked) {
        *fit -= 0.04;
        doubts.push("another action");
    }
    if query.intent.amount && !query.terms.touched_by(&sheet.counted, SUBJECT) {
        *fit *= NO_AMOUNT;
        doubts.push("gives no amount");
    }
    let broken = |stems: &[String]| stems.iter().any(|s| s == "#broken");
    if broken(&query.stems) != broken(asked) && !(broken(&query.stems) && sheet.all.contains("#broken")) {
        *fit *= 0.88;
    }
    let missing = query.names.iter().any(|n| !names.contains(n));
    let extra = names.iter().any(|n| !query.names.contains(n));
    let absent = query.names.iter().any(|n| !sheet.words.contains(n));
    if missing && extra && absent {
        *fit *= 0.5;
        doubts.push("about another name");
    } else if absent {
        // Of several names the question may name one only in passing ("WhatsApp on Start").
        *fit *= if query.names.iter().any(|n| sheet.words.contains(n)) { 0.8 } else { 0.6 };
        doubts.push("does not name what is asked about");
    } else if missing && extra {
        *fit *= 0.85;
        doubts.push("another name is its subject");
    } else if extra && !missing {
        *fit *= 0.92;
        doubts.push("about one name in particular");
    }
    // What nobody here writes of ("magento") is not what has a name of its own here.
    if query.strangers.is_empty() && extra && !missing && query.terms.has_unknown() {
        *fit *= 0.6;
        doubts.push("the question has an unknown word, this a name");
    }
    if !query.strangers.is_empty() {
        *fit *= if extra { 0.6 } else { 0.85 };
        doubts.push("the question names something unknown");
    }
}

fn place_fit(query: &Query, place: &Place, lexicon: &Lexicon) -> f32 {
    let soft = |s: &str| if s.starts_with('@') { 0.35 * lexicon.rarity(s) } else { lexicon.rarity(s) };
    let asked: HashSet<&str> = query.stems.iter().map(|s| s.as_str()).collect();
    let around: HashSet<&str> = place.above.iter().chain(&place.help).map(|s| s.as_str()).collect();
    place
        .labels
        .iter()
        .map(|label| {
            // A label of one everyday word names no place by itself.
            let telling = (label.iter().map(|s| lexicon.rarity(s)).sum::<f32>() / 0.45).min(1.0);
            let named = text::coverage(label, &asked, soft) * telling;
            let mut near = around.clone();
            near.extend(label.iter().map(|s| s.as_str()));
            near.extend([
                "@open",
                "@change",
                "@show",
                "@configure",
                "button",
                "menu",
                "screen",
                "tab",
                "section",
                "page",
                "find",
                "option",
                "кнопк",
                "меню",
                "раздел",
                "вкладк",
                "экр",
                "найт",
                "находят",
                "наход",
                "пункт",
            ]);
            let explained = text::coverage(&query.stems, &near, soft);
            if actions::contradict(&query.stems, label) { 0.2 * named } else { 0.55 * named + 0.45 * explained }
        })
        .fold(0.0, f32::max)
}
