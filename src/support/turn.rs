//! A turn's plan: everything that is decided before a word is generated.

use std::collections::BTreeMap;
use std::time::Instant;

use super::check::Sources;
use super::conversation::Conversation;
use super::filter::Evidence;
use super::fit::{self, Candidate, Findings};
use super::learned::Learned;
use super::lexicon::Lexicon;
use super::prompt::Grounding;
use super::restate::Restatement;
use super::retrieve::{self, Query};
use super::route::{self, Routing};
use super::wish::Wish;
use super::{ConversationState, Found, SupportError, Trace, TracePassage, TurnOutcome, TurnRequest, Verdict, text};
use crate::config::SupportSettings;
use crate::embed::{Embedder, Role};
use crate::kb::pack::{Operator, Pack, Tone};
use crate::kb::{Passage, SearchQuery, SourceKind};
use crate::llm::{ChatMessage, SamplingParams};

/// Passages asked of a search.
const SEARCHED: usize = 32;

/// What a plan is made with.
pub(super) struct Tools<'a> {
    pub learned: &'a Learned,
    pub embedder: &'a Embedder,
    pub settings: &'a SupportSettings,
    pub chat_languages: &'a [String],
    /// The chat model's.
    pub parameters: u64,
    pub count: &'a dyn Fn(&str) -> usize,
}

/// What is to be done.
pub(super) enum Plan {
    Say(Box<Draft>),
    Write(Box<Writing>),
}

/// A fixed answer with its outcome.
#[derive(Clone)]
pub(super) struct Draft {
    pub text: String,
    pub outcome: TurnOutcome,
}

/// An answer that the model is to write.
pub(super) struct Writing {
    pub grounding: Grounding,
    pub sources: Option<Sources>,
    /// The sentence that the model is held to, where it has no free hand.
    pub restatement: Option<Restatement>,
    pub question: String,
    pub sampling: SamplingParams,
    pub stop: Vec<String>,
    pub max_tokens: usize,
    pub max_sentences: usize,
    pub conversation_id: String,
    pub tone: Tone,
    pub sign_off: String,
    /// The outcome where sentences survive.
    pub outcome: TurnOutcome,
    /// Said where none does.
    pub fallback: Box<Draft>,
}

/// Who serves, by which version of the instruction: what a search may find.
#[derive(Clone, Copy)]
pub(super) struct Served<'a> {
    pub operator: &'a Operator,
    pub version: &'a str,
}

/// A turn on its way.
pub(super) struct Planner<'a> {
    pub request: &'a TurnRequest,
    pub tools: &'a Tools<'a>,
    pub pack: &'a Pack,
    pub conversation: Conversation,
    pub operator: &'a Operator,
    pub version: String,
    pub state: ConversationState,
    pub wish: Wish,
    pub trace: Trace,
    pub clock: Clock,
}

/// Milliseconds by step.
pub(super) struct Clock {
    pub last: Instant,
    pub steps: BTreeMap<String, f64>,
}

impl Clock {
    pub fn lap(&mut self, step: &str) {
        let now = Instant::now();
        *self.steps.entry(step.into()).or_default() += (now - self.last).as_secs_f64() * 1e3;
        self.last = now;
    }
}

/// Plans a turn. Blocking: embeds and searches.
///
/// # Errors
/// An unknown operator; a failed search.
pub(super) fn plan(request: &TurnRequest, tools: &Tools<'_>, started: Instant) -> Result<Plan, SupportError> {
    let pack = tools.learned.snapshot.pack();
    let conversation = Conversation::read(&request.messages, request.state.as_ref(), &pack.company);
    let conversation = as_meant(conversation, &tools.learned.lexicon, pack);
    let mut clock = Clock { last: started, steps: BTreeMap::new() };
    clock.lap("read");

    let operator = route(request, pack, &conversation, false)?.0;
    let version = route::version(operator, &request.group_id, version_before(&conversation.state, operator));
    let served = Served { operator, version: &version };
    let mut query = retrieve::query(&conversation, &tools.learned.lexicon, &pack.company);
    let vectors = vectors(&query, &conversation.message, tools.embedder)?;
    clock.lap("embed");
    let (mut passages, mut findings) = search(&query, vectors.first(), served, tools)?;
    if query.follows_up
        && let Some(alone) = retrieve::alone(&conversation, &tools.learned.lexicon, &pack.company)
    {
        let (own, found) = search(&alone, vectors.last(), served, tools)?;
        (query, findings) = retrieve::better((query, findings), (alone, found));
        if !query.follows_up {
            passages = own;
        }
    }
    for part in parts_of(&query, &conversation) {
        let asked = Conversation { message: part, lang: conversation.lang.clone(), ..Conversation::default() };
        let query = retrieve::query(&asked, &tools.learned.lexicon, &pack.company);
        let vector = self::vectors(&query, &asked.message, tools.embedder)?.into_iter().next();
        findings.merge(search(&query, vector.as_ref(), served, tools)?.1);
    }
    clock.lap("search");

    let evidence = Evidence {
        in_domain: findings.in_domain(),
        messages_last_minute: request.messages_last_minute,
        flood_per_minute: tools.settings.flood_per_minute,
        subject_words: query.stems.len(),
        follows_up: query.follows_up || !conversation.earlier.is_empty(),
    };
    let filters = &tools.learned.filters;
    let placed = filters.placed(vectors.last().map_or(&[][..], |v| v.as_slice()));
    let mut verdicts = filters.judge(&conversation.message, &placed, pack, &evidence);
    let wish = filters.wish(&conversation.message, &placed);
    verdicts.push(Verdict {
        name: "wants_person".into(),
        score: wish.score,
        threshold: 0.5,
        fired: wish.is_wish(),
        reason: wish.reason.clone(),
    });
    clock.lap("filter");
    let fired = |name: &str| verdicts.iter().any(|v| v.name == name && v.fired);
    let wrong_company = fired("wrong_company") && !wish.is_wish();

    let (operator, why) = route(request, pack, &conversation, wrong_company)?;
    let version = route::version(operator, &request.group_id, version_before(&conversation.state, operator));
    let state = ConversationState {
        operator: Some(operator.name.clone()),
        operator_version: Some(version.clone()),
        lang: Some(conversation.lang.clone()),
        ..conversation.state.clone()
    };
    let trace = Trace {
        filters: verdicts,
        route: format!("{}: {why}", operator.name),
        query: query.text.clone(),
        passages: trace_passages(&passages, &findings),
        ..Trace::default()
    };
    let planner = Planner { request, tools, pack, conversation, operator, version, state, wish, trace, clock };
    planner.decide(query, findings, wrong_company)
}

/// A message typed on the wrong keyboard layout, or Russian in Latin letters, as it was meant: for every step.
fn as_meant(mut conversation: Conversation, lexicon: &Lexicon, pack: &Pack) -> Conversation {
    let reading = lexicon.speller.read(&conversation.message, lexicon);
    if reading.other_alphabet {
        if let Some(lang) = text::language(&reading.text, &pack.company.languages) {
            conversation.lang = lang;
        }
        conversation.message = reading.text;
    }
    conversation
}

/// What speaks of a message, best first.
pub(super) fn find(message: &str, tools: &Tools<'_>) -> Result<Vec<Found>, SupportError> {
    let pack = tools.learned.snapshot.pack();
    let messages = [ChatMessage { role: "user".into(), content: message.into() }];
    let conversation = Conversation::read(&messages, None, &pack.company);
    let conversation = as_meant(conversation, &tools.learned.lexicon, pack);
    let Some(operator) = pack.operators.iter().find(|o| o.default).or_else(|| pack.operators.first()) else {
        return Ok(Vec::new());
    };
    let query = retrieve::query(&conversation, &tools.learned.lexicon, &pack.company);
    let vectors = vectors(&query, &conversation.message, tools.embedder)?;
    let served = Served { operator, version: &operator.active_version };
    let (_, findings) = search(&query, vectors.first(), served, tools)?;
    let of_chunk = |c: &Candidate| Found {
        id: c.chunk.id.clone(),
        kind: c.chunk.kind,
        title: c.chunk.title.clone(),
        fit: c.fit,
        evidence: Some(c.evidence),
    };
    let mut found: Vec<Found> = findings.questions.iter().chain(&findings.articles).map(of_chunk).collect();
    found.extend(findings.places.iter().filter_map(|(at, fit)| {
        let place = tools.learned.lexicon.places.get(*at)?;
        let id = format!("app-map.yaml#{}:{}", place.entry.id, place.lang);
        let title = place.entry.path.get(&place.lang).map(|p| p.join(" → ")).unwrap_or_default();
        Some(Found { id, kind: SourceKind::AppMap, title, fit: *fit, evidence: None })
    }));
    if query.stems.len() > STORY {
        of_story(message, &query, &mut found, tools);
    }
    found.sort_by(|a, b| b.fit.total_cmp(&a.fit));
    Ok(found)
}

/// Content words from which a message is a story, which takes whole pages.
const STORY: usize = 8;
/// Pages of a story.
const PAGES: usize = 30;

/// Puts the pages that a story speaks of in the place of single sections: a whole story has too many words for any
/// section to fit it. The best page fits as well as the best section did.
fn of_story(message: &str, query: &Query, found: &mut Vec<Found>, tools: &Tools<'_>) {
    let sections: Vec<Found> = found.extract_if(.., |f| f.kind == SourceKind::Article).collect();
    let best = sections.iter().map(|f| f.fit).fold(f32::MIN_POSITIVE, f32::max);
    for (chunk, score) in tools.learned.snapshot.pages_for(message, &query.lang, PAGES) {
        let Some(chunk) = tools.learned.quarantine.released(&chunk) else { continue };
        found.push(Found {
            id: chunk.id.clone(),
            kind: chunk.kind,
            title: chunk.title.clone(),
            fit: best * score,
            evidence: sections.iter().find(|f| f.id == chunk.id).and_then(|f| f.evidence),
        });
    }
}

fn route<'p>(
    request: &TurnRequest,
    pack: &'p Pack,
    conversation: &Conversation,
    wrong_company: bool,
) -> Result<(&'p Operator, String), SupportError> {
    route::choose(
        pack,
        &Routing {
            named: request.operator.as_deref(),
            before: conversation.state.operator.as_deref(),
            channel: request.channel.as_deref(),
            audience: request.audience.as_deref(),
            lang: &conversation.lang,
            message: &conversation.message,
            wrong_company,
        },
    )
}

/// Sentences of a long message that have a subject of their own: each is looked up for itself, too.
fn parts_of(query: &Query, conversation: &Conversation) -> Vec<String> {
    const LONG: usize = 6;
    const MOST: usize = 5;
    if query.stems.len() <= LONG {
        return Vec::new();
    }
    let mut parts: Vec<&str> = text::sentences(&conversation.message);
    parts.retain(|s| text::content_stems(s).len() >= 3);
    // Questions say best what is wanted.
    parts.sort_by_key(|s| !s.ends_with('?'));
    parts.into_iter().take(MOST).map(str::to_string).collect()
}

/// The version met before, where the same operator goes on.
fn version_before<'s>(state: &'s ConversationState, operator: &Operator) -> Option<&'s str> {
    state.operator_version.as_deref().filter(|_| state.operator.as_deref() == Some(operator.name.as_str()))
}

/// The query's vector, then the message's own (one and the same where the query is the message); empty where the
/// embedding model does not read the language.
pub(super) fn vectors(query: &Query, message: &str, embedder: &Embedder) -> Result<Vec<Vec<f32>>, SupportError> {
    let texts: &[&str] = if query.follows_up { &[&query.text, message] } else { &[&query.text] };
    let Some(read) = texts.iter().map(|text| embedder.readable(&query.lang, text)).collect::<Option<Vec<_>>>() else {
        return Ok(Vec::new());
    };
    let read: Vec<&str> = read.iter().map(|text| &**text).collect();
    Ok(embedder.embed(&read, Role::Query).map_err(|e| SupportError::Knowledge(e.to_string()))?.vectors)
}

pub(super) fn search(
    query: &Query,
    vector: Option<&Vec<f32>>,
    served: Served<'_>,
    tools: &Tools<'_>,
) -> Result<(Vec<Passage>, Findings), SupportError> {
    let Served { operator, version } = served;
    let kinds = [SourceKind::Article, SourceKind::Faq, SourceKind::Example, SourceKind::AppMap];
    let wanted = SearchQuery {
        text: &query.text,
        lang: Some(&query.lang),
        operator: Some(&operator.name),
        kinds: &kinds,
        limit: SEARCHED,
        version: Some(version),
        vector: vector.map(|v| v.as_slice()),
    };
    let found = tools.learned.snapshot.search(&wanted).map_err(|e| SupportError::Knowledge(e.to_string()))?;
    let usable = |p: Passage| tools.learned.quarantine.released(&p.chunk).map(|chunk| Passage { chunk, ..p });
    let passages: Vec<Passage> = found.into_iter().filter_map(usable).collect();
    let instruction = format!("operators/{}/{version}.md", operator.name);
    let findings = fit::findings(query, &passages, &tools.learned.lexicon, &operator.name, &instruction);
    Ok((passages, findings))
}

/// What the search found, and what was found by words alone, with fits where there are any.
fn trace_passages(passages: &[Passage], findings: &Findings) -> Vec<TracePassage> {
    let fits: BTreeMap<&str, f32> =
        findings.questions.iter().chain(&findings.articles).map(|c| (c.chunk.id.as_str(), c.fit)).collect();
    let mut shown: Vec<TracePassage> = passages
        .iter()
        .map(|p| TracePassage {
            id: p.chunk.id.clone(),
            title: p.chunk.title.clone(),
            score: fits.get(p.chunk.id.as_str()).copied().unwrap_or(0.0),
            cosine: p.cosine,
            bm25: p.bm25,
            coverage: p.coverage,
            used: false,
        })
        .collect();
    for candidate in &findings.questions {
        if !shown.iter().any(|p| p.id == candidate.chunk.id) {
            shown.push(TracePassage {
                id: candidate.chunk.id.clone(),
                title: candidate.chunk.title.clone(),
                score: candidate.fit,
                cosine: candidate.cosine,
                bm25: None,
                coverage: 0.0,
                used: false,
            });
        }
    }
    shown.sort_by(|a, b| b.score.total_cmp(&a.score));
    shown.truncate(12);
    shown
}
