//! Learning the filters from a pack's and the general examples.

use std::borrow::Cow;

use super::saved::{Saved, Vectors};
use super::{Filters, Senses, readable};
use crate::classify::{Catalogue, CharModel, Features, Panel, Scope, Training, Vocabulary};
use crate::embed::{EmbedError, Embedder, Role};
use crate::kb::pack::Pack;
use crate::support::attack::AttackDetector;
use crate::support::general::{self, CUSTOMER, Example, PAGE, served};
use crate::support::rules;
use crate::text;

/// A detector's lesson: which rows it sees, what it must spare, and how much.
struct Lesson {
    label: &'static str,
    /// Rows of general examples tell nothing of what is on this company's topic.
    of_pack_only: bool,
    /// Meaning says nothing of it.
    letters_only: bool,
    /// Share of honest rows that it may take for its own on held-out folds.
    spared_share: f32,
    /// Lowest threshold: refusing an honest message costs more than letting an odd one through.
    floor: f32,
}

const LESSONS: [Lesson; 5] = [
    Lesson { label: "spam", of_pack_only: false, letters_only: false, spared_share: 0.003, floor: 0.85 },
    Lesson { label: "gibberish", of_pack_only: false, letters_only: true, spared_share: 0.005, floor: 0.7 },
    Lesson { label: "off_topic", of_pack_only: true, letters_only: false, spared_share: 0.01, floor: 0.6 },
    Lesson { label: "wrong_company", of_pack_only: true, letters_only: false, spared_share: 0.01, floor: 0.6 },
    Lesson { label: "wants_person", of_pack_only: false, letters_only: false, spared_share: 0.04, floor: 0.35 },
];

impl Filters {
    /// Learns from a pack. Blocking: embeds the examples; seconds.
    ///
    /// # Errors
    /// What the embedding model said.
    pub fn learn(pack: &Pack, embedder: &Embedder) -> Result<Self, EmbedError> {
        Self::learn_knowing(pack, embedder, &mut Vectors::default())
    }

    /// The filters of a pack as they were saved, or learnt and saved now. Blocking.
    ///
    /// # Errors
    /// What the embedding model said.
    pub fn saved_or_learnt(pack: &Pack, embedder: &Embedder, saved: &Saved) -> Result<Self, EmbedError> {
        let key = Self::full_key(pack, embedder);
        if let Some(filters) = saved.filters(&key) {
            return Ok(filters);
        }
        let started = std::time::Instant::now();
        let read_by = format!("{} {}", embedder.hash(), text::glossary::version());
        let mut vectors = saved.vectors(&read_by);
        let filters = Self::learn_knowing(pack, embedder, &mut vectors)?;
        saved.keep(&key, &filters, &read_by, &vectors);
        tracing::info!(ms = started.elapsed().as_millis() as u64, "learnt the entrance filters from the examples");
        Ok(filters)
    }

    /// `known`: vectors of texts met before; afterwards, of exactly the examples.
    fn learn_knowing(pack: &Pack, embedder: &Embedder, known: &mut Vectors) -> Result<Self, EmbedError> {
        let examples = general::examples(pack);
        let texts: Vec<&str> = examples.iter().map(|e| e.text.as_str()).collect();
        let vectors = known.of(&texts, |texts| vectors(texts, embedder))?;
        let (own, own_vectors): (Vec<&str>, Vec<Vec<f32>>) = examples
            .iter()
            .zip(&vectors)
            .filter(|(e, _)| general::on_topic(e))
            .map(|(e, v)| (e.text.as_str(), v.clone()))
            .unzip();
        let senses = Senses {
            letters: letters(pack, &examples),
            scope: Scope::learn(&own, &own_vectors, &[]),
            words: words(pack, &examples),
            site: pack.company.site.clone(),
        };
        let catalogue = Catalogue::of(vectors.iter().map(Vec::as_slice));
        let nothing = Vec::new();
        let few = examples.iter().any(|e| e.label == PAGE);
        let train = |lesson: &Lesson| {
            let of_lesson = match lesson.of_pack_only || lesson.letters_only {
                true => (0..examples.len()).collect(),
                false => general::lesson_of(lesson.label, &examples),
            };
            let seen = of_lesson.iter().map(|&i| (&examples[i], &vectors[i])).filter(|(e, _)| sees(lesson, e, few));
            let rows: Vec<Training> = seen
                .map(|(e, vector)| if lesson.letters_only { (e, &nothing) } else { (e, vector) })
                .map(|(e, vector)| Training {
                    features: Features::signed(&e.text, vector, &senses.signs(lesson.label, &e.text, vector)),
                    label: e.label.clone(),
                    family: e.family,
                })
                .collect();
            let spared = |label: &str| (served(label) || label == PAGE) && label != lesson.label;
            Panel::learn(&rows, lesson.label, &catalogue, spared, lesson.spared_share, lesson.floor)
        };
        let articles = || pack.articles.iter().map(|a| a.text.as_str());
        let (detectors, attacks) = std::thread::scope(|threads| {
            let attacks = threads.spawn(|| AttackDetector::learn(&examples, &vectors, &catalogue, articles()));
            let (train, lessons) = (&train, LESSONS.iter());
            let running: Vec<_> = lessons.map(|lesson| threads.spawn(move || train(lesson))).collect();
            // A fault in one of them must not leave a desk without that filter.
            let done = std::panic::resume_unwind;
            let detectors = running.into_iter().filter_map(|r| r.join().unwrap_or_else(|fault| done(fault)));
            (detectors.collect::<Vec<Panel>>(), attacks.join().unwrap_or_else(|fault| done(fault)))
        });
        Ok(Self { gallery: catalogue.gallery, detectors, attacks, senses, key: Self::key_of(pack) })
    }

    /// Changes when the rows that are learnt from change. An entry added at the desk alone is no reason to learn for
    /// seconds beside customers' turns: messages near it match it well, and no filter refuses those. It is learnt with
    /// the next change.
    pub fn key_of(pack: &Pack) -> String {
        let mut hash = blake3::Hasher::new();
        for example in general::lasting_examples(pack) {
            hash.update(example.label.as_bytes()).update(&[0]).update(example.text.as_bytes()).update(&[0]);
        }
        hash.finalize().to_hex().to_string()
    }

    /// Changes when anything changes that learnt filters depend on: the rows, the pages and answers whose spelling and
    /// prose they know, the embedding model, and the program. What the desk writes day by day is left out: a start after
    /// an accepted suggestion is as quick as any other.
    fn full_key(pack: &Pack, embedder: &Embedder) -> String {
        let mut hash = blake3::Hasher::new();
        let mut add = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        };
        add(&crate::config::program_id());
        add(embedder.hash());
        embedder.languages().iter().for_each(|l| add(l));
        add(&Self::key_of(pack));
        add(pack.company.site.as_deref().unwrap_or_default());
        pack.articles.iter().for_each(|a| add(&a.text));
        pack.faq.iter().filter(|f| !f.from_desk()).for_each(|f| add(&f.answer));
        hash.finalize().to_hex().to_string()
    }
}

/// Vectors of texts, as the model can read them ([`readable`]); empty for those that it cannot.
pub fn vectors(texts: &[&str], embedder: &Embedder) -> Result<Vec<Vec<f32>>, EmbedError> {
    let read: Vec<(usize, Cow<'_, str>)> =
        texts.iter().enumerate().filter_map(|(i, text)| Some((i, readable(embedder, text)?))).collect();
    let mut vectors = vec![Vec::new(); texts.len()];
    if !read.is_empty() {
        let chosen: Vec<&str> = read.iter().map(|(_, text)| &**text).collect();
        for ((i, _), vector) in read.iter().zip(embedder.embed(&chosen, Role::Query)?.vectors) {
            vectors[*i] = vector;
        }
    }
    Ok(vectors)
}

/// Whether a row is part of a detector's lesson. `few`: the pack has few questions of its own.
fn sees(lesson: &Lesson, example: &Example, few: bool) -> bool {
    let own = lesson.label == example.label;
    match lesson.of_pack_only {
        // What is off-topic for everyone is so for this company; other companies' customers say nothing of ours.
        // Where those are too few to say how ours write, theirs say at least how a customer's question sounds.
        true => {
            example.of_pack
                || own
                || example.label == "spam"
                || example.is_for(lesson.label)
                || (few && lesson.label == "off_topic" && example.label == CUSTOMER)
        }
        false => {
            own || (served(&example.label) || matches!(example.label.as_str(), "off_topic" | "wrong_company" | "spam"))
        }
    }
}

/// How words are spelt: all honest texts of the pack and the general examples.
fn letters(pack: &Pack, examples: &[Example]) -> CharModel {
    let honest = examples.iter().filter(|e| served(&e.label) || e.label == CUSTOMER).map(|e| e.text.as_str());
    let articles = pack.articles.iter().map(|a| a.text.as_str());
    let answers = pack.faq.iter().map(|f| f.answer.as_str());
    CharModel::train(honest.chain(articles).chain(answers).chain([rules::COMMON_WORDS]))
}

/// The words of the pack's own pages and answers, beside those of other companies' customers and manuals. Its questions
/// are left out: they are what is learnt from, and each knows its own words.
fn words(pack: &Pack, examples: &[Example]) -> Vocabulary {
    let paragraphs = pack.articles.iter().flat_map(|a| a.text.split("\n\n"));
    let answers = pack.faq.iter().map(|f| f.answer.as_str());
    let elsewhere = |e: &&Example| !e.of_pack && e.label != "off_topic" && !e.is_for("off_topic");
    let others = examples.iter().filter(elsewhere).map(|e| e.text.as_str());
    Vocabulary::of(paragraphs.chain(answers), others)
}
