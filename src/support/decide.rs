//! The decisions of a turn, in their order: refuse, greet, point elsewhere, hand off, answer.

use super::answer::{self, Mode};
use super::check;
use super::conversation::{Conversation, Feedback, SmallTalk, feedback, small_talk};
use super::fit::{Candidate, Findings};
use super::handoff::{self, Decision};
use super::phrases::phrase;
use super::retrieve::{self, Query};
use super::route::WRONG_COMPANY;
use super::turn::{Draft, Plan, Planner, Served, search, vectors};
use super::{Action, Source, SupportError, TurnOutcome, Verdict, text, wish};
use crate::kb::SourceKind;
use crate::llm::Usage;

impl Planner<'_> {
    pub(super) fn decide(
        mut self,
        query: Query,
        findings: Findings,
        wrong_company: bool,
    ) -> Result<Plan, SupportError> {
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

    fn served(&self) -> Served<'_> {
        Served { operator: self.operator, version: &self.version }
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
        let (_, findings) = search(&query, None, self.served(), self.tools)?;
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
            let (_, findings) = search(&query, vector.as_ref(), self.served(), self.tools)?;
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
            Mode::Quoted { candidate, confidence } => Ok(self.quote_or_restate(candidate, confidence, &query)),
            Mode::Either { first, second, confidence } => Ok(self.quote_both(&[first, second], confidence, &query)),
            Mode::Grounded { mut candidates, confidence } if self.along_sources() => {
                Ok(self.quote_or_restate(candidates.swap_remove(0), confidence, &query))
            }
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
    pub(super) fn nothing(mut self, confidence: f32, query: &Query) -> Plan {
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

    /// An answer that helps: ends the row of failures unless it is the same as before.
    pub(super) fn helpful(
        mut self,
        kind: &str,
        reason: String,
        confidence: f32,
        text: String,
        used: &[Candidate],
    ) -> Plan {
        let again = !text.is_empty()
            && self.conversation.earlier.iter().rev().take(2).any(|(_, earlier)| is_same_answer(earlier, &text));
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

    pub(super) fn say(
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

    pub(super) fn fork(&self) -> Self {
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
            clock: super::turn::Clock { last: self.clock.last, steps: self.clock.steps.clone() },
        }
    }
}

/// True where two answers are the same, but for a first sentence in other words.
fn is_same_answer(earlier: &str, text: &str) -> bool {
    let (earlier, text) = (earlier.trim(), text.trim());
    let after_first = |t: &str| text::sentence_end(t, true).map_or(0, |end| end);
    let rest_of = |t: &'_ str| t[after_first(t)..].trim().to_string();
    let (earlier_rest, rest) = (rest_of(earlier), rest_of(text));
    earlier == text
        || (!earlier_rest.is_empty() && (earlier_rest == text || earlier_rest == rest))
        || (earlier_rest.is_empty() && rest.is_empty() && check::repeats(text, &[earlier.to_string()]).is_some())
}

pub(super) fn because(candidate: &Candidate) -> String {
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

/// The text before the first of the client's stop strings.
fn cut_at_stop(mut text: String, stop: &[String]) -> String {
    if let Some(at) = stop.iter().filter(|s| !s.is_empty()).filter_map(|s| text.find(s.as_str())).min() {
        text.truncate(at);
    }
    text
}
