//! The words of answers that are not generated: as written, quoted, a path through the app; and the brief of those
//! that are.

use super::answer;
use super::check::Sources;
use super::decide::because;
use super::expand::{Assets, absolute, absolute_targets, expand};
use super::fit::Candidate;
use super::prompt::{self, Budgets, Grounding};
use super::restate::{self, Restatement};
use super::retrieve::Query;
use super::turn::{Plan, Planner, Writing};
use super::{Source, SupportError, TurnOutcome, quarantine, tone};
use crate::compute::cosine;
use crate::config::ModelWrites;
use crate::embed::Role;
use crate::kb::pack::Instruction;
use crate::kb::{Asset, Chunk, Passage, SearchQuery, SourceKind};
use crate::llm::SamplingParams;

/// Longest quotation of a passage, in characters.
const QUOTE_CHARS: usize = 1100;
/// The same where code is asked for: steps with their code are not torn apart.
const CODE_CHARS: usize = 4000;

impl Planner<'_> {
    /// A passage's own words.
    pub(super) fn quote(self, candidate: Candidate, confidence: f32, query: &Query) -> Plan {
        let written = match candidate.chunk.kind {
            SourceKind::Faq | SourceKind::Example => self.as_written(&candidate.chunk),
            _ => self.quoted(&candidate.chunk, query),
        };
        let lead = self.lead(&candidate, confidence);
        self.helpful(
            "quoted",
            format!("the nearest passage ({})", because(&candidate)),
            confidence,
            format!("{lead}{written}"),
            &[candidate],
        )
    }

    /// What is said before a find that is not a sure one.
    fn lead(&self, candidate: &Candidate, confidence: f32) -> &'static str {
        match (confidence >= answer::QUOTE && candidate.doubts.is_empty(), self.conversation.lang.as_str()) {
            (true, _) => "",
            (false, "ru") => "Вот что об этом известно:\n\n",
            (false, _) => "Here is what I know about this:\n\n",
        }
    }

    /// Passages of several pages, each under its title.
    pub(super) fn quote_both(self, candidates: &[Candidate], confidence: f32, query: &Query) -> Plan {
        let lead =
            if self.conversation.lang == "ru" { "Подходят две статьи:" } else { "Two articles fit:" };
        let shown = candidates.iter().map(|c| format!("**{}**\n\n{}", c.chunk.title, self.quoted(&c.chunk, query)));
        let text = std::iter::once(lead.to_string()).chain(shown).collect::<Vec<_>>().join("\n\n");
        let reason = format!("two pages fit about equally ({})", because(&candidates[0]));
        self.helpful("quoted", reason, confidence, text, candidates)
    }

    /// A passage's own words; where the model writes along the sources, one of its sentences in other words first.
    pub(super) fn quote_or_restate(self, candidate: Candidate, confidence: f32, query: &Query) -> Plan {
        let Some((instruction, restatement)) = self.restatement(&candidate, confidence, query) else {
            return self.quote(candidate, confidence, query);
        };
        let (grounding, sources) = self.brief(instruction, std::slice::from_ref(&candidate), &[], query);
        let (tone, sampling, most) = (self.pack.company.tone.clone(), self.sampling(), self.most_tokens());
        let sign_off = tone::sign_off(&tone, &self.conversation.lang).to_string();
        let conversation_id = self.request.conversation_id.clone();
        let reason = format!("a sentence of the passage in other words ({})", because(&candidate));
        let fallback = match self.quote(candidate, confidence, query) {
            Plan::Say(draft) if draft.outcome.kind == "quoted" => draft,
            other => return other,
        };
        let mut outcome = TurnOutcome { kind: "grounded".into(), reason, ..fallback.outcome.clone() };
        outcome.trace.mode = "grounded".into();
        Plan::Write(Box::new(Writing {
            grounding,
            sources: Some(sources),
            restatement: Some(restatement),
            question: query.text.clone(),
            sampling,
            stop: Vec::new(),
            max_tokens: most,
            max_sentences: 1,
            conversation_id,
            tone,
            sign_off,
            outcome,
            fallback,
        }))
    }

    /// True where the model has no free hand.
    pub(super) fn along_sources(&self) -> bool {
        let adapted = self.operator.adapter.is_some();
        self.tools.settings.model_writes.of(self.tools.parameters, adapted) == ModelWrites::AlongSources
    }

    /// The sentence of a page that the model may say again, with the instruction by which it does. A client's own stop
    /// strings are for texts that are written freely.
    fn restatement(
        &self,
        candidate: &Candidate,
        confidence: f32,
        query: &Query,
    ) -> Option<(&'_ Instruction, Restatement)> {
        let (chunk, lang) = (&candidate.chunk, &self.conversation.lang);
        let can_write = self.along_sources() && self.tools.chat_languages.contains(lang);
        let is_page = chunk.kind == SourceKind::Article && chunk.of_instruction().is_none();
        let in_english = lang == "en" && chunk.lang == "en";
        let known = query.strangers.is_empty();
        if !(can_write && is_page && in_english && known && self.request.stop.is_empty()) {
            return None;
        }
        let instruction = self.operator.versions.get(&self.version)?;
        let mut restatement = restate::of(&self.quoted(chunk, query), |sentences| self.nearness(query, sentences))?;
        restatement.lead = self.lead(candidate, confidence).to_string();
        Some((instruction, restatement))
    }

    /// How near sentences are to the question, 0..1: by its words, and by meaning where the embedding model reads them.
    fn nearness(&self, query: &Query, sentences: &[&str]) -> Vec<f32> {
        let lexicon = &self.tools.learned.lexicon;
        let said = |text: &&str| restate::share_said(&query.stems, text, |stem| lexicon.rarity(stem));
        let by_words: Vec<f32> = sentences.iter().map(said).collect();
        let texts: Vec<&str> = std::iter::once(query.text.as_str()).chain(sentences.iter().copied()).collect();
        let vectors = self.tools.embedder.embed(&texts, Role::Query).map(|embedded| embedded.vectors);
        let Some((question, vectors)) = vectors.as_deref().ok().and_then(|v| v.split_first()) else { return by_words };
        by_words.iter().zip(vectors).map(|(words, v)| (words + cosine(question, v).max(0.0)) / 2.0).collect()
    }

    /// Lets the model write, with a quotation (or a question back) ready where nothing it writes holds.
    pub(super) fn write(
        mut self,
        candidates: Vec<Candidate>,
        confidence: f32,
        query: &Query,
    ) -> Result<Plan, SupportError> {
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
            version: Some(&self.version),
            vector: None,
        };
        let own = self.tools.learned.snapshot.search(&wanted).map_err(|e| SupportError::Knowledge(e.to_string()))?;
        let own: Vec<Passage> =
            own.into_iter().filter(|p| p.cosine.is_some_and(|c| c > 0.5) && p.chunk.lang == query.lang).collect();
        let (grounding, sources) = self.brief(instruction, &candidates, &own, query);
        self.clock.lap("prompt");
        let used: Vec<Candidate> =
            candidates.iter().filter(|c| grounding.used.contains(&c.chunk.id)).cloned().collect();

        let best = candidates[0].clone();
        let (sampling, max_tokens) = (self.sampling(), self.most_tokens());
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
            restatement: None,
            question: query.text.clone(),
            sampling,
            stop: request.stop.clone(),
            max_tokens,
            max_sentences: tone::max_sentences(&tone),
            conversation_id: request.conversation_id.clone(),
            sign_off,
            tone,
            outcome: planned.outcome,
            fallback,
        })))
    }

    /// The prompt that lets the model write from passages, and what its sentences are checked against.
    fn brief(
        &self,
        instruction: &Instruction,
        candidates: &[Candidate],
        own: &[Passage],
        query: &Query,
    ) -> (Grounding, Sources) {
        let budgets = Budgets {
            passages: self.tools.settings.passages,
            passage_tokens: self.tools.settings.passage_tokens,
            history_tokens: self.tools.settings.history_tokens,
        };
        // A page that the customer pasted is data as ours are: its orders reach neither the prompt nor the sources.
        let attacks = self.tools.learned.filters.attacks();
        let mut conversation = self.conversation.clone();
        conversation.message = quarantine::honest(&conversation.message, attacks);
        for (question, _) in &mut conversation.earlier {
            *question = quarantine::honest(question, attacks);
        }
        let url = &self.request.public_url;
        let grounding = prompt::build(instruction, &conversation, candidates, own, budgets, url, self.tools.count);
        let sources = Sources::new(
            &grounding.texts,
            &self.conversation.context,
            &quarantine::honest(&query.text, attacks),
            &instruction.core,
            &self.conversation.lang,
        );
        (grounding, sources)
    }

    /// How the model draws its words. What the client says nothing of stays as the operator has it.
    fn sampling(&self) -> SamplingParams {
        let own = &self.operator.sampling;
        self.request.sampling.over(SamplingParams {
            temperature: own.temperature,
            top_p: own.top_p,
            repetition_penalty: own.repetition_penalty,
            ..SamplingParams::default()
        })
    }

    fn most_tokens(&self) -> usize {
        let most = self.tools.settings.max_answer_tokens;
        self.request.max_tokens.unwrap_or(most).clamp(1, most.max(1))
    }

    pub(super) fn source(&self, candidate: &Candidate) -> Source {
        Source {
            id: candidate.chunk.id.clone(),
            title: candidate.chunk.title.clone(),
            url: absolute(&candidate.chunk.path, &self.request.public_url),
            score: candidate.fit,
        }
    }

    /// A FAQ answer or sample answer exactly as its author wrote it, with absolute targets.
    pub(super) fn as_written(&self, chunk: &Chunk) -> String {
        let url = &self.request.public_url;
        let faq = self.pack.faq.iter().find(|f| f.path == chunk.path && f.line == chunk.line);
        let example = || {
            self.operator.examples.iter().find(|e| {
                chunk.kind == SourceKind::Example
                    && chunk.of_instruction().is_none()
                    && chunk.questions.contains(&e.question)
            })
        };
        match (faq, example()) {
            (Some(faq), _) => absolute_targets(faq.answer.trim(), url),
            (None, Some(example)) => absolute_targets(example.answer.trim(), url),
            (None, None) => expand(chunk.text.trim(), &Assets::of(chunk, url)),
        }
    }

    /// A passage's answering part with its assets and links.
    pub(super) fn quoted(&self, chunk: &Chunk, query: &Query) -> String {
        let url = &self.request.public_url;
        let longest = if query.intent.wants_code() { CODE_CHARS } else { QUOTE_CHARS };
        let text = answer::excerpt(chunk, query, &self.tools.learned.lexicon, longest);
        let assets = Assets::of(chunk, url);
        expand(&with_links(&text, chunk, url), &assets)
    }

    /// Where a place is: its path in the customer's language, what it does, its picture.
    pub(super) fn places(&self, places: &[usize], confidence: f32) -> (String, Vec<Source>) {
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
