//! A turn's plan: everything that is decided before a word is generated.

use std::collections::BTreeMap;
use std::time::Instant;

use super::answer::{self, Mode};
use super::check::Sources;
use super::conversation::{Conversation, Feedback, SmallTalk, feedback, small_talk};
use super::expand::{Assets, absolute, absolute_targets, expand};
use super::filter::{self, Evidence};
use super::handoff::{self, Decision};
use super::learned::Learned;
use super::phrases::phrase;
use super::prompt::{self, Budgets, Grounding};
use super::retrieve::{self, Candidate, Findings, Query};
use super::route::{self, Routing, WRONG_COMPANY};
use super::wish::{self, Wish};
use super::{
    Action, ConversationState, Source, SupportError, Trace, TracePassage, TurnOutcome, TurnRequest, Verdict, text, tone,
};
use crate::config::SupportSettings;
use crate::embed::{Embedder, Role};
use crate::kb::pack::{Operator, Pack, Tone};
use crate::kb::{Asset, Chunk, Passage, SearchQuery, SourceKind};
use crate::llm::{SamplingParams, Usage};

/// Passages asked of a search.
const SEARCHED: usize = 16;
/// Longest quotation of a passage, in characters.
const QUOTE_CHARS: usize = 1100;

/// What a plan is made with.
pub(super) struct Tools<'a> {
    pub learned: &'a Learned,
    pub embedder: &'a Embedder,
    pub settings: &'a SupportSettings,
    pub chat_languages: &'a [String],
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

/// A turn on its way.
struct Planner<'a> {
    request: &'a TurnRequest,
    tools: &'a Tools<'a>,
    pack: &'a Pack,
    conversation: Conversation,
    operator: &'a Operator,
    version: String,
    state: ConversationState,
    wish: Wish,
    trace: Trace,
    clock: Clock,
}

/// Milliseconds by step.
struct Clock {
    last: Instant,
    steps: BTreeMap<String, f64>,
}

impl Clock {
    fn lap(&mut self, step: &str) {
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
    let mut clock = Clock { last: started, steps: BTreeMap::new() };
    clock.lap("read");

    let operator = route(request, pack, &conversation, false)?.0;
    let query = retrieve::query(&conversation, &tools.learned.lexicon, &pack.company);
    let vectors = vectors(&query, &conversation.message, tools.embedder)?;
    clock.lap("embed");
    let (passages, findings) = search(&query, vectors.first(), operator, tools)?;
    clock.lap("search");

    let evidence = Evidence {
        in_domain: findings.in_domain(),
        messages_last_minute: request.messages_last_minute,
        flood_per_minute: tools.settings.flood_per_minute,
        follows_up: query.follows_up || !conversation.earlier.is_empty(),
    };
    let message_vector = vectors.last().map_or(&[][..], |v| v.as_slice());
    let mut verdicts = tools.learned.filters.judge(&conversation.message, message_vector, pack, &evidence);
    let (learnt, threshold) = tools.learned.filters.wish(&conversation.message, message_vector);
    let wish = wish::for_person(&conversation.message).weighed(learnt, threshold);
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
    let version = route::version(operator, &request.conversation_id, version_before(&conversation.state, operator));
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

/// The version met before, where the same operator goes on.
fn version_before<'s>(state: &'s ConversationState, operator: &Operator) -> Option<&'s str> {
    state.operator_version.as_deref().filter(|_| state.operator.as_deref() == Some(operator.name.as_str()))
}

/// The query's vector, then the message's own (one and the same where the query is the message); empty where the
/// embedding model does not read the language.
fn vectors(query: &Query, message: &str, embedder: &Embedder) -> Result<Vec<Vec<f32>>, SupportError> {
    if !filter::reads(embedder, &query.text) {
        return Ok(Vec::new());
    }
    let texts: Vec<&str> = if query.follows_up { vec![&query.text, message] } else { vec![&query.text] };
    Ok(embedder.embed(&texts, Role::Query).map_err(|e| SupportError::Knowledge(e.to_string()))?.vectors)
}

fn search(
    query: &Query,
    vector: Option<&Vec<f32>>,
    operator: &Operator,
    tools: &Tools<'_>,
) -> Result<(Vec<Passage>, Findings), SupportError> {
    let kinds = [SourceKind::Article, SourceKind::Faq, SourceKind::Example, SourceKind::AppMap];
    let wanted = SearchQuery {
        text: &query.text,
        lang: Some(&query.lang),
        operator: Some(&operator.name),
        kinds: &kinds,
        limit: SEARCHED,
        vector: vector.map(|v| v.as_slice()),
    };
    let passages = tools.learned.snapshot.search(&wanted).map_err(|e| SupportError::Knowledge(e.to_string()))?;
    let findings = retrieve::findings(query, &passages, &tools.learned.lexicon, &operator.name);
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
    shown.truncate(SEARCHED);
    shown
}

impl Planner<'_> {
    fn decide(mut self, query: Query, findings: Findings, wrong_company: bool) -> Result<Plan, SupportError> {
        let lang = self.conversation.lang.clone();
        if let Some(verdict) = self.refused() {
            let name = if verdict.name == "flood" { "flood" } else { "filtered" };
            let text = phrase(&self.pack.company, name, &lang, &[]);
            return Ok(self.say(
                Action::Filtered,
                &verdict.name,
                verdict.reason.clone(),
                verdict.score,
                text,
                Vec::new(),
            ));
        }
        if let Some(talk) = small_talk(&self.conversation.message) {
            return Ok(self.courtesy(talk));
        }
        if wrong_company {
            return self.wrong_company(query);
        }
        match handoff::decide(&self.conversation, &self.operator.handoff, &self.wish, findings.in_domain()) {
            Decision::HandOff { kind, reason, tags } => return Ok(self.hand_off(&kind, reason, 1.0, tags)),
            Decision::TryFirst { reason } => return self.try_first(reason),
            Decision::Serve => {}
        }
        if let Some(verdict) = self.trace.filters.iter().find(|v| v.name == "off_topic" && v.fired).cloned() {
            let own = self.pack.company.off_topic.reply.get(&lang).cloned();
            let text = own.unwrap_or_else(|| phrase(&self.pack.company, "off_topic", &lang, &[]));
            return Ok(self.say(Action::Answer, "off_topic", verdict.reason, verdict.score, text, Vec::new()));
        }
        if feedback(&self.conversation.message) == Feedback::Failed
            && query.stems.len() <= 6
            && text::content_stems(&self.conversation.message).len() <= 3
        {
            self.state.failures += 1;
            let text = phrase(&self.pack.company, "retry", &lang, &[]);
            return Ok(self.say(
                Action::Clarify,
                "retry",
                "the customer says that the answer did not help".into(),
                0.5,
                text,
                Vec::new(),
            ));
        }
        self.answer(query, findings)
    }

    /// The verdict that refuses the message, if any. A wish for a person is never gibberish or spam.
    fn refused(&self) -> Option<Verdict> {
        let wish = self.wish.is_wish();
        let spared = |name: &str| {
            (wish || small_talk(&self.conversation.message).is_some()) && matches!(name, "gibberish" | "spam")
        };
        let refusing = ["flood", "injection", "gibberish", "spam"];
        self.trace.filters.iter().find(|v| v.fired && refusing.contains(&v.name.as_str()) && !spared(&v.name)).cloned()
    }

    fn courtesy(mut self, talk: SmallTalk) -> Plan {
        let (kind, name) = match talk {
            SmallTalk::Greeting => ("greeting", "greeting"),
            SmallTalk::Thanks => ("thanks", "thanks"),
            SmallTalk::Goodbye => ("goodbye", "goodbye"),
        };
        self.state.failures = 0;
        let text = phrase(&self.pack.company, name, &self.conversation.lang, &[]);
        self.say(Action::Answer, kind, "courtesy only".into(), 1.0, text, Vec::new())
    }

    /// Whoever meant another company gets that operator's fitting sample answer, else the pack's reply.
    fn wrong_company(mut self, query: Query) -> Result<Plan, SupportError> {
        let (_, findings) = search(&query, None, self.operator, self.tools)?;
        let own = |c: &&Candidate| c.chunk.kind == SourceKind::Example && c.fit >= answer::VERBATIM;
        let reason = self
            .trace
            .filters
            .iter()
            .find(|v| v.name == "wrong_company")
            .map_or_else(String::new, |v| v.reason.clone());
        let score = self.trace.filters.iter().find(|v| v.name == "wrong_company").map_or(0.5, |v| v.score);
        if let Some(candidate) = findings.questions.iter().find(own).cloned() {
            let text = self.as_written(&candidate.chunk);
            let source = self.source(&candidate);
            return Ok(self.say(Action::Answer, WRONG_COMPANY, reason, score, text, vec![source]));
        }
        let lang = self.conversation.lang.clone();
        let stems = text::stems(&self.conversation.message);
        let spoken = |m: &&crate::kb::pack::MistakenFor| {
            m.words.iter().any(|w| text::stems(w).iter().all(|s| stems.contains(s)))
        };
        let mistaken = &self.pack.company.mistaken_for;
        let reply = mistaken.iter().find(spoken).or_else(|| mistaken.first()).and_then(|m| m.reply.get(&lang)).cloned();
        let text = reply.unwrap_or_else(|| phrase(&self.pack.company, "wrong_company", &lang, &[]));
        self.state.failures = 0;
        Ok(self.say(Action::Answer, WRONG_COMPANY, reason, score, text, Vec::new()))
    }

    /// The first wish for a person: one calm try that names a likely solution where the dialogue has a subject.
    fn try_first(mut self, reason: String) -> Result<Plan, SupportError> {
        let lang = self.conversation.lang.clone();
        self.state.asked_for_person += 1;
        let subject = self.subject_beside_wish();
        let mut hint = phrase(&self.pack.company, "person_open", &lang, &[]);
        let mut sources = Vec::new();
        if let Some(subject) = subject {
            let asked = Conversation { message: subject, lang: lang.clone(), ..Conversation::default() };
            let query = retrieve::query(&asked, &self.tools.learned.lexicon, &self.pack.company);
            let vector = vectors(&query, &asked.message, self.tools.embedder)?.into_iter().next();
            let (_, findings) = search(&query, vector.as_ref(), self.operator, self.tools)?;
            let faq = findings.questions.iter().find(|c| c.fit >= answer::NEAR && c.chunk.kind == SourceKind::Faq);
            if let Some(found) = faq.or(findings.articles.iter().find(|c| c.fit >= answer::QUOTE)) {
                hint = phrase(&self.pack.company, "person_hint", &lang, &[("topic", &found.chunk.title)]);
                sources.push(self.source(found));
            }
        }
        let text = phrase(&self.pack.company, "person_first", &lang, &[("hint", &hint)]);
        let text = if text.contains(&hint) || sources.is_empty() { text } else { format!("{text} {hint}") };
        Ok(self.say(
            Action::Clarify,
            "wants_person",
            format!("the first wish for a person: {reason}"),
            1.0,
            text,
            sources,
        ))
    }

    /// What the customer needs besides a person: the rest of the message, else the latest question.
    fn subject_beside_wish(&self) -> Option<String> {
        let sentences = text::sentences(&self.conversation.message);
        let rest: Vec<&str> = sentences
            .into_iter()
            .filter(|s| !wish::for_person(s).is_wish() && text::content_stems(s).len() >= 2)
            .collect();
        if !rest.is_empty() {
            return Some(rest.join(" "));
        }
        let subject =
            |q: &&str| !wish::for_person(q).is_wish() && small_talk(q).is_none() && !text::content_stems(q).is_empty();
        self.conversation.earlier_questions().find(subject).map(str::to_string)
    }

    fn answer(mut self, query: Query, findings: Findings) -> Result<Plan, SupportError> {
        let can_write = self.tools.chat_languages.iter().any(|l| *l == self.conversation.lang);
        let mode = answer::choose(&query, &findings, &self.tools.learned.lexicon, can_write);
        self.clock.lap("decide");
        match mode {
            Mode::Verbatim { candidate, confidence } => {
                let text = self.as_written(&candidate.chunk);
                Ok(self.helpful(
                    "verbatim",
                    format!("the FAQ has this question ({})", because(&candidate)),
                    confidence,
                    text,
                    &[candidate],
                ))
            }
            Mode::AppMap { places, confidence } => {
                let (text, sources) = self.places(&places, confidence);
                self.state.failures = 0;
                Ok(self.say(Action::Answer, "app_map", "the app map has the place".into(), confidence, text, sources))
            }
            Mode::Quoted { candidate, confidence } => Ok(self.quote(candidate, confidence, &query)),
            Mode::Grounded { candidates, confidence } => self.write(candidates, confidence, &query),
            Mode::Choice { options, confidence } => {
                self.state.failures += 1;
                let or = if self.conversation.lang == "ru" { " или " } else { " or " };
                let options = join_options(&options, or);
                let mut text =
                    phrase(&self.pack.company, "clarify_choice", &self.conversation.lang, &[("options", &options)]);
                if !text.contains(&options) {
                    text = format!("{text} {options}?");
                }
                Ok(self.say(
                    Action::Clarify,
                    "ambiguous",
                    "several answers fit equally".into(),
                    confidence,
                    text,
                    Vec::new(),
                ))
            }
            Mode::Nothing { confidence } => Ok(self.nothing(confidence, &query)),
        }
    }

    /// Nothing fits: ask back, and after repeated failure hand off.
    fn nothing(mut self, confidence: f32, query: &Query) -> Plan {
        if self.operator.audiences.iter().any(|a| a == WRONG_COMPANY) {
            // Who talks to this operator is taken to mean another company until shown otherwise.
            let reply =
                self.pack.company.mistaken_for.first().and_then(|m| m.reply.get(&self.conversation.lang)).cloned();
            if let Some(text) = reply {
                return self.say(
                    Action::Answer,
                    WRONG_COMPANY,
                    "nothing of ours fits, and this operator serves those who meant another company".into(),
                    0.5,
                    text,
                    Vec::new(),
                );
            }
        }
        let failures = self.state.failures + 1;
        if failures >= self.operator.handoff.max_failures.max(1) {
            return self.hand_off(
                "no_answer",
                "nothing in the knowledge fits, again".into(),
                1.0 - confidence,
                vec!["no_answer".into()],
            );
        }
        self.state.failures = failures;
        let (kind, name) = if query.stems.len() <= 1 { ("ambiguous", "clarify") } else { ("no_answer", "no_answer") };
        let mut text = phrase(&self.pack.company, name, &self.conversation.lang, &[]);
        if !text.contains('?') && name == "no_answer" {
            text = format!("{text} {}", phrase(&self.pack.company, "reword", &self.conversation.lang, &[]));
        }
        self.say(
            Action::Clarify,
            kind,
            "nothing in the knowledge fits well enough".into(),
            confidence,
            text,
            Vec::new(),
        )
    }

    /// A passage's own words.
    fn quote(self, candidate: Candidate, confidence: f32, query: &Query) -> Plan {
        let written = match candidate.chunk.kind {
            SourceKind::Faq | SourceKind::Example => self.as_written(&candidate.chunk),
            _ => self.quoted(&candidate.chunk, query),
        };
        let lead = if confidence >= answer::QUOTE && candidate.doubts.is_empty() {
            String::new()
        } else if self.conversation.lang == "ru" {
            "Вот что об этом известно:\n\n".to_string()
        } else {
            "Here is what I know about this:\n\n".to_string()
        };
        self.helpful(
            "quoted",
            format!("the nearest passage ({})", because(&candidate)),
            confidence,
            format!("{lead}{written}"),
            &[candidate],
        )
    }

    /// Lets the model write, with a quotation (or a question back) ready where nothing it writes holds.
    fn write(mut self, candidates: Vec<Candidate>, confidence: f32, query: &Query) -> Result<Plan, SupportError> {
        let operator = self.operator;
        let Some(instruction) = operator.versions.get(&self.version) else {
            let best = candidates[0].clone();
            return Ok(self.quote(best, confidence, query));
        };
        let kinds = [SourceKind::Instruction];
        let wanted = SearchQuery {
            text: &query.text,
            lang: Some(&query.lang),
            operator: Some(&operator.name),
            kinds: &kinds,
            limit: 2,
            vector: None,
        };
        let own = self.tools.learned.snapshot.search(&wanted).map_err(|e| SupportError::Knowledge(e.to_string()))?;
        let own: Vec<Passage> =
            own.into_iter().filter(|p| p.cosine.is_some_and(|c| c > 0.5) && p.chunk.lang == query.lang).collect();
        let budgets = Budgets {
            passages: self.tools.settings.passages,
            passage_tokens: self.tools.settings.passage_tokens,
            history_tokens: self.tools.settings.history_tokens,
        };
        let grounding = prompt::build(
            instruction,
            &self.conversation,
            &candidates,
            &own,
            budgets,
            &self.request.public_url,
            self.tools.count,
        );
        let sources = Sources::new(
            &grounding.texts,
            &self.conversation.context,
            &query.text,
            &instruction.core,
            &self.conversation.lang,
        );
        self.clock.lap("prompt");
        let used: Vec<Candidate> =
            candidates.iter().filter(|c| grounding.used.contains(&c.chunk.id)).cloned().collect();

        let best = candidates[0].clone();
        let sampling = self.request.sampling.clone().unwrap_or_else(|| SamplingParams {
            temperature: operator.sampling.temperature,
            top_p: operator.sampling.top_p,
            repetition_penalty: operator.sampling.repetition_penalty,
            ..SamplingParams::default()
        });
        let settings = self.tools.settings;
        let (request, tone) = (self.request, self.pack.company.tone.clone());
        let sign_off = tone::sign_off(&tone, &self.conversation.lang).to_string();
        let written = format!("written from passages ({})", because(&best));
        let planned = self.fork().helpful("grounded", written, confidence, String::new(), &used);
        let Plan::Say(planned) = planned else { return Ok(planned) };
        let fallback = if best.fit >= answer::GROUND {
            self.quote(best, confidence * 0.9, query)
        } else {
            self.nothing(confidence, query)
        };
        let Plan::Say(fallback) = fallback else { return Ok(fallback) };
        Ok(Plan::Write(Box::new(Writing {
            grounding,
            sources: Some(sources),
            question: query.text.clone(),
            sampling,
            stop: request.stop.clone(),
            max_tokens: request.max_tokens.unwrap_or(settings.max_answer_tokens).min(settings.max_answer_tokens).max(1),
            max_sentences: tone::max_sentences(&tone),
            conversation_id: request.conversation_id.clone(),
            sign_off,
            tone,
            outcome: planned.outcome,
            fallback,
        })))
    }

    /// An answer that helps: ends the row of failures unless it is the same as before.
    fn helpful(mut self, kind: &str, reason: String, confidence: f32, text: String, used: &[Candidate]) -> Plan {
        let again =
            !text.is_empty() && self.conversation.earlier.iter().rev().take(2).any(|(_, a)| a.trim() == text.trim());
        let complains = feedback(&self.conversation.message) == Feedback::Failed;
        if again || complains {
            let failures = self.state.failures + 1;
            if again && failures >= self.operator.handoff.max_failures.max(1) {
                return self.hand_off(
                    "repeated_failure",
                    "the same answer would be given again".into(),
                    confidence,
                    vec!["repeated_failure".into()],
                );
            }
            self.state.failures = failures;
        } else {
            self.state.failures = 0;
        }
        let sources = used.iter().map(|c| self.source(c)).collect();
        for passage in &mut self.trace.passages {
            passage.used |= used.iter().any(|c| c.chunk.id == passage.id);
        }
        self.say(Action::Answer, kind, reason, confidence, text, sources)
    }

    fn hand_off(mut self, kind: &str, reason: String, confidence: f32, tags: Vec<String>) -> Plan {
        self.state.handed_off = true;
        self.state.failures = 0;
        if kind == "wants_person" {
            self.state.asked_for_person += 1;
        }
        let made = handoff::handoff(&self.conversation, &self.operator.handoff, kind, tags);
        let text = phrase(&self.pack.company, "handoff", &self.conversation.lang, &[]);
        let mut plan = self.say(Action::Handoff, kind, reason, confidence, text, Vec::new());
        if let Plan::Say(draft) = &mut plan {
            draft.outcome.handoff = Some(made);
        }
        plan
    }

    fn say(
        mut self,
        action: Action,
        kind: &str,
        reason: String,
        confidence: f32,
        text: String,
        sources: Vec<Source>,
    ) -> Plan {
        self.clock.lap("decide");
        self.trace.mode = kind.to_string();
        self.trace.timings_ms = self.clock.steps;
        let text = cut_at_stop(text, &self.request.stop);
        Plan::Say(Box::new(Draft {
            text,
            outcome: TurnOutcome {
                action,
                kind: kind.into(),
                reason,
                operator: self.operator.name.clone(),
                operator_version: self.version,
                lang: self.conversation.lang,
                confidence: confidence.clamp(0.0, 1.0),
                sources,
                handoff: None,
                usage: Usage::default(),
                length_limited: false,
                state: self.state,
                trace: self.trace,
            },
        }))
    }

    fn fork(&self) -> Self {
        Self {
            request: self.request,
            tools: self.tools,
            pack: self.pack,
            conversation: self.conversation.clone(),
            operator: self.operator,
            version: self.version.clone(),
            state: self.state.clone(),
            wish: self.wish.clone(),
            trace: self.trace.clone(),
            clock: Clock { last: self.clock.last, steps: self.clock.steps.clone() },
        }
    }

    fn source(&self, candidate: &Candidate) -> Source {
        Source {
            id: candidate.chunk.id.clone(),
            title: candidate.chunk.title.clone(),
            url: absolute(&candidate.chunk.path, &self.request.public_url),
            score: candidate.fit,
        }
    }

    /// A FAQ answer or sample answer exactly as its author wrote it, with absolute targets.
    fn as_written(&self, chunk: &Chunk) -> String {
        let url = &self.request.public_url;
        let faq = self.pack.faq.iter().find(|f| f.path == chunk.path && f.line == chunk.line);
        let example = || {
            self.operator
                .examples
                .iter()
                .find(|e| chunk.kind == SourceKind::Example && chunk.questions.contains(&e.question))
        };
        match (faq, example()) {
            (Some(faq), _) => absolute_targets(faq.answer.trim(), url),
            (None, Some(example)) => absolute_targets(example.answer.trim(), url),
            (None, None) => expand(chunk.text.trim(), &Assets::of(chunk, url)),
        }
    }

    /// A passage's answering part with its assets and links.
    fn quoted(&self, chunk: &Chunk, query: &Query) -> String {
        let url = &self.request.public_url;
        let text = answer::excerpt(chunk, query, &self.tools.learned.lexicon, QUOTE_CHARS);
        let assets = Assets::of(chunk, url);
        expand(&with_links(&text, chunk, url), &assets)
    }

    /// Where a place is: its path in the customer's language, what it does, its picture.
    fn places(&self, places: &[usize], confidence: f32) -> (String, Vec<Source>) {
        let (lang, url) = (&self.conversation.lang, &self.request.public_url);
        let (mut lines, mut sources) = (Vec::new(), Vec::new());
        for place in places.iter().filter_map(|&i| self.tools.learned.lexicon.places.get(i)) {
            let entry = &place.entry;
            let path = entry.path.get(lang).map(|p| p.join(" → ")).unwrap_or_default();
            let help = entry.help.get(lang).map_or("", |h| h.as_str());
            let image =
                entry.image.as_ref().map(|i| format!("\n\n![{path}]({})", absolute(i, url))).unwrap_or_default();
            let opening = if lang == "ru" { "Это здесь" } else { "You will find it here" };
            lines.push(match places.len() {
                1 => format!("{opening}: **{path}**. {help}{image}").trim().to_string(),
                _ => format!("- **{path}**. {help}").trim().to_string(),
            });
            let chunks = self.tools.learned.snapshot.chunks();
            let chunk = chunks
                .iter()
                .find(|c| c.kind == SourceKind::AppMap && c.lang == *lang && (c.line == entry.line || c.title == path));
            sources.push(Source {
                id: chunk.map_or_else(|| format!("app-map.yaml#{}", entry.id), |c| c.id.clone()),
                title: path,
                url: absolute("app-map.yaml", url),
                score: confidence,
            });
        }
        if places.len() > 1 {
            let opening = if lang == "ru" {
                "Есть несколько подходящих мест:"
            } else {
                "There are several such places:"
            };
            lines.insert(0, opening.to_string());
        }
        (lines.join("\n"), sources)
    }
}

fn because(candidate: &Candidate) -> String {
    match candidate.doubts.is_empty() {
        true => format!("fit {:.2}", candidate.fit),
        false => format!("fit {:.2}; {}", candidate.fit, candidate.doubts.join(", ")),
    }
}

fn join_options(options: &[String], or: &str) -> String {
    match options.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{}{or}{last}", rest.join(", ")),
        _ => options.join(", "),
    }
}

/// Puts a chunk's links back where their texts stand, each once.
fn with_links(text: &str, chunk: &Chunk, public_url: &str) -> String {
    let mut out = text.to_string();
    let mut from = 0;
    for asset in &chunk.assets {
        let Asset::Link { n, text: label, .. } = asset else { continue };
        let marker = format!("[[link:{n}]]");
        if out.contains(&marker) || label.trim().is_empty() {
            continue;
        }
        if let Some(at) = out[from..].find(label.as_str()) {
            let link = super::expand::markdown(asset, public_url);
            out.replace_range(from + at..from + at + label.len(), &link);
            from += at + link.len();
        }
    }
    out
}

/// The text before the first of the client's stop strings.
fn cut_at_stop(mut text: String, stop: &[String]) -> String {
    if let Some(at) = stop.iter().filter(|s| !s.is_empty()).filter_map(|s| text.find(s.as_str())).min() {
        text.truncate(at);
    }
    text
}
