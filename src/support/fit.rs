//! How well each find fits the query: 0..1.
//!
//! A search orders; it does not say whether a find answers. Fits do: from the vectors where the embedding model
//! reads the language, from stems and concepts everywhere, lowered where actions contradict or names differ.

use std::collections::HashSet;
use std::sync::Arc;

use super::lexicon::{Lexicon, Place, Question, readable};
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
}

/// Fits of what a search found, and of all FAQ questions by their words.
pub fn findings(query: &Query, passages: &[Passage], lexicon: &Lexicon, operator: &str) -> Findings {
    let mine = |c: &Chunk| c.lang == query.lang && c.operator.as_deref().is_none_or(|o| o == operator);
    let found = |id: &str| passages.iter().find(|p| p.chunk.id == id);
    let mut questions: Vec<Candidate> = lexicon
        .questions
        .iter()
        .filter(|q| mine(&q.chunk))
        .map(|q| question_fit(query, q, found(&q.chunk.id), lexicon))
        .filter(|c| c.fit > 0.05)
        .collect();
    questions.sort_by(|a, b| b.fit.total_cmp(&a.fit));
    questions.truncate(8);
    let mut articles: Vec<Candidate> = passages
        .iter()
        .filter(|p| {
            p.chunk.kind == SourceKind::Article && (mine(&p.chunk) || (query.intent.code && has_code(&p.chunk)))
        })
        .map(|p| article_fit(query, p, lexicon))
        .collect();
    articles.sort_by(|a, b| b.fit.total_cmp(&a.fit));
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

/// How words of the query and of a question cover one another: harmonic mean of both shares, by rarity.
fn overlap(query: &[String], other: &[String], lexicon: &Lexicon) -> (f32, f32) {
    let (q, o): (HashSet<&str>, HashSet<&str>) =
        (query.iter().map(|s| s.as_str()).collect(), other.iter().map(|s| s.as_str()).collect());
    let weight = |s: &str| lexicon.rarity(s);
    (text::coverage(query, &o, weight), text::coverage(other, &q, weight))
}

fn question_fit(query: &Query, question: &Question, passage: Option<&Passage>, lexicon: &Lexicon) -> Candidate {
    let cosine = passage.and_then(|p| p.question_cosine);
    let semantic = cosine.map(|c| ((c - 0.42) / 0.42).clamp(0.0, 1.0));
    let mut best: Option<(f32, Vec<&'static str>, HashSet<String>)> = None;
    for (wording, names) in question.wordings.iter().zip(&question.names) {
        let (asked, answered) = overlap(&query.stems, wording, lexicon);
        let both = if asked + answered > 0.0 { 2.0 * asked * answered / (asked + answered) } else { 0.0 };
        let lexical = 0.75 * both + 0.25 * asked;
        let mut fit = match semantic {
            Some(semantic) => (0.62 * semantic + 0.38 * lexical).max(if both > 0.95 { 0.9 } else { 0.0 }),
            None => lexical,
        };
        let mut doubts = Vec::new();
        doubt(&mut fit, &mut doubts, query, wording, names, &question.chunk);
        if semantic.is_none() && query.stems.len() >= 2 && asked * query.stems.len() as f32 <= 1.01 {
            fit *= 0.6;
            doubts.push("one word in common");
        }
        if best.as_ref().is_none_or(|(f, _, _)| fit > *f) {
            best = Some((fit, doubts, names.difference(&query.names).cloned().collect()));
        }
    }
    let (fit, doubts, own_names) = best.unwrap_or_default();
    Candidate { chunk: question.chunk.clone(), fit: fit.clamp(0.0, 1.0), doubts, own_names, cosine }
}

/// Lowers a fit where actions or names speak against it.
fn doubt(
    fit: &mut f32,
    doubts: &mut Vec<&'static str>,
    query: &Query,
    wording: &[String],
    names: &HashSet<String>,
    chunk: &Chunk,
) {
    if actions::contradict(&query.stems, wording) {
        *fit *= 0.35;
        doubts.push("the opposite action");
    } else if actions::differ(&query.stems, wording) {
        *fit -= 0.1;
        doubts.push("another action");
    }
    let missing = query.names.iter().any(|n| !names.contains(n));
    let extra = names.iter().any(|n| !query.names.contains(n));
    let here = text::fold(&readable(chunk));
    let absent = query.names.iter().any(|n| !here.contains(n.as_str()));
    match (missing, extra, absent) {
        (true, true, _) => {
            *fit *= 0.4;
            doubts.push("about another name");
        }
        (true, false, true) => {
            *fit *= 0.7;
            doubts.push("does not name what is asked about");
        }
        (false, true, _) => {
            *fit *= 0.85;
            doubts.push("about one name in particular");
        }
        _ => {}
    }
    if !query.strangers.is_empty() {
        let against = if extra { 0.5 } else { 0.82 };
        *fit *= against;
        doubts.push("the question names something unknown");
    }
}

fn article_fit(query: &Query, passage: &Passage, lexicon: &Lexicon) -> Candidate {
    let chunk = &passage.chunk;
    let heading = format!("{} {}", chunk.title, chunk.headings.join(" "));
    let heading_stems = text::content_stems(&heading);
    let all = text::content_stems(&format!("{} {}", readable(chunk), chunk.tags.join(" ")));
    let (asked, _) = overlap(&query.stems, &all, lexicon);
    let (asked_head, head_asked) = overlap(&query.stems, &heading_stems, lexicon);
    let head =
        if asked_head + head_asked > 0.0 { 2.0 * asked_head * head_asked / (asked_head + head_asked) } else { 0.0 };
    let mut fit = match passage.cosine {
        Some(cosine) => 0.5 * ((cosine - 0.32) / 0.42).clamp(0.0, 1.0) + 0.33 * asked + 0.17 * head.max(asked_head),
        None => 0.6 * asked + 0.4 * head.max(asked_head * 0.9),
    };
    let names = lexicon.names_in(&heading);
    let mut doubts = Vec::new();
    doubt(&mut fit, &mut doubts, query, &heading_stems, &names, chunk);
    let shared = query.stems.iter().collect::<HashSet<_>>().iter().filter(|s| all.contains(s)).count();
    if passage.cosine.is_none() && query.stems.len() >= 2 && shared < 2 {
        fit *= 0.6;
        doubts.push("one word in common");
    }
    if query.intent.code && has_code(chunk) {
        fit += 0.12;
    }
    Candidate {
        chunk: chunk.clone(),
        fit: fit.clamp(0.0, 1.0),
        doubts,
        own_names: names.difference(&query.names).cloned().collect(),
        cosine: passage.cosine,
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
            let named = text::coverage(label, &asked, soft);
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
                "экра",
                "найт",
                "находят",
                "наход",
                "наход",
                "пункт",
                "lumichat",
            ]);
            let explained = text::coverage(&query.stems, &near, soft);
            if actions::contradict(&query.stems, label) { 0.2 * named } else { 0.55 * named + 0.45 * explained }
        })
        .fold(0.0, f32::max)
}
