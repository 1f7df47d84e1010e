//! Filters at the entrance: spam, advertising, gibberish, flood, injection are refused; off-topic and messages to the
//! wrong company are answered kindly. Rudeness is served.
//!
//! Rules give signs with their reasons; detectors learn from the pack's and the general examples what the signs, the
//! letters and the sentence's vector are worth, and give a calibrated score. Evidence that the message is about the
//! product (a strong match in the knowledge) speaks against.

use std::borrow::Cow;
use std::sync::Arc;

use super::attack::AttackDetector;
use super::script;
use super::text;
use super::wish::{self, Wish};
use super::{Verdict, rules};
use crate::classify::{CharModel, Features, Gallery, Panel, Placed, Scope, Vocabulary};
use crate::embed::Embedder;
use crate::kb::pack::{MistakenFor, Pack};

mod learn;
mod saved;

pub use learn::vectors;
pub use saved::Saved;

/// Best fit of the knowledge below which a message is foreign to it, and the score that suffices then.
const FOREIGN: f32 = 0.28;
const SUSPICION: f32 = 0.4;
/// Likeness to a wish that counts even where no word of the message could be one.
const BEYOND_WORDS: f32 = 0.9;
/// Longest window of a long message, in characters, that is judged at once.
const WINDOW_CHARS: usize = 400;
/// Most windows judged.
const MAX_WINDOWS: usize = 6;

/// What the examples taught.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Filters {
    /// The examples' vectors.
    gallery: Gallery,
    detectors: Vec<Panel>,
    attacks: Option<AttackDetector>,
    senses: Senses,
    /// Names what was learnt from, so that a reload knows whether to learn again.
    pub key: String,
}

/// What the rules and the pack's own texts let us see in a message, for the detectors to learn from.
#[derive(serde::Serialize, serde::Deserialize)]
struct Senses {
    letters: CharModel,
    scope: Scope,
    words: Vocabulary,
    site: Option<String>,
}

impl Senses {
    fn signs(&self, label: &str, part: &str, vector: &[f32]) -> Vec<f32> {
        match label {
            "spam" => rules::spam_signs(part, self.site.as_deref()),
            "gibberish" => rules::gibberish_signs(part, &self.letters),
            "wants_person" => wish::signs(part),
            "off_topic" | "wrong_company" => self.signs_of_subject(part, vector),
            _ => Vec::new(),
        }
    }

    /// Whether a text speaks of what this company's customers speak of.
    fn signs_of_subject(&self, part: &str, vector: &[f32]) -> Vec<f32> {
        let mut signs = self.scope.signs(part, vector);
        signs.push(self.scope.strangeness_of(&signs, !vector.is_empty()));
        signs.extend(rules::trivia_signs(part));
        signs.extend(self.words.signs(part));
        signs
    }
}

/// What is known of a message besides its text.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// How well the message fits the knowledge: 0..1.
    pub in_domain: f32,
    /// Messages of this conversation in the last minute, and how many are a flood.
    pub messages_last_minute: usize,
    pub flood_per_minute: usize,
    /// The conversation is under way about the product.
    pub follows_up: bool,
    /// Words of the message that carry a subject.
    pub subject_words: usize,
}

impl Filters {
    /// A message's own vector beside the examples'. `vector`: empty where the embedding model cannot read the message
    /// ([`readable`]).
    pub fn placed<'a>(&self, vector: &'a [f32]) -> Placed<'a> {
        self.gallery.placed(vector)
    }

    /// Whether the message wishes for a person. A long one is read sentence by sentence, and one that says nothing of
    /// it as the same keys give it on the other keyboard layout.
    pub fn wish(&self, message: &str, placed: &Placed<'_>) -> Wish {
        match wish::conceivable(message) {
            true => self.wish_of(message, placed),
            false => match on_other_keys(message) {
                Some(meant) if wish::conceivable(&meant) => self.wish_of(&meant, &Placed::default()),
                _ => self.wish_of(message, placed),
            },
        }
    }

    fn wish_of(&self, message: &str, placed: &Placed<'_>) -> Wish {
        let Some(detector) = self.detector("wants_person") else { return wish::for_person(message) };
        let read = |part: &str, placed: &Placed<'_>| {
            let features = Features::signed(part, placed.vector, &wish::signs(part));
            let probability = detector.probability(&features, placed);
            let probability = match wish::conceivable(part) {
                true => probability,
                // Typing errors hide words, so a sure likeness still counts.
                false if probability < BEYOND_WORDS => probability.min(detector.threshold * 0.9),
                false => probability,
            };
            wish::for_person(part).weighed(probability, detector.threshold)
        };
        if message.chars().count() <= WINDOW_CHARS / 2 {
            return read(message, placed);
        }
        let parts = text::sentences(message).into_iter().map(|part| read(part, &Placed::default()));
        parts.max_by(|a, b| a.score.total_cmp(&b.score)).unwrap_or_else(|| read(message, placed))
    }

    /// What finds attacks, where any example taught it.
    pub fn attacks(&self) -> Option<&AttackDetector> {
        self.attacks.as_ref()
    }

    fn detector(&self, label: &str) -> Option<&Panel> {
        self.detectors.iter().find(|d| d.label == label)
    }

    /// All verdicts on a message; the first that fired decides (in this order).
    pub fn judge(&self, message: &str, placed: &Placed<'_>, pack: &Pack, evidence: &Evidence) -> Vec<Verdict> {
        let prose = text::without_code(message);
        let windows = windows(&prose);
        let site = pack.company.site.as_deref();
        let nothing = Placed::default();
        let whole = if windows.len() == 1 { placed } else { &nothing };
        let dense = whole.vector;
        // Two judges ask for these, and they are the dearest.
        let of_subject: Vec<Vec<f32>> = windows.iter().map(|w| self.senses.signs_of_subject(w, dense)).collect();
        let learnt = |label: &str| -> (f32, f32) {
            let Some(detector) = self.detector(label) else { return (0.0, 1.0) };
            let judged = windows.iter().zip(&of_subject).map(|(w, of_subject)| match label {
                "off_topic" | "wrong_company" => detector.probability(&Features::signed(w, dense, of_subject), whole),
                _ => detector.probability(&Features::signed(w, dense, &self.senses.signs(label, w, dense)), whole),
            });
            // A long message is what most of it is.
            let all: Vec<f32> = judged.collect();
            (all.iter().sum::<f32>() / all.len().max(1) as f32, detector.threshold)
        };
        let guard = evidence.in_domain;
        let mut verdicts = Vec::new();

        let flood = evidence.flood_per_minute > 0 && evidence.messages_last_minute > evidence.flood_per_minute;
        verdicts.push(Verdict {
            name: "flood".into(),
            score: f32::from(u8::from(flood)),
            threshold: 1.0,
            fired: flood,
            reason: format!("{} messages within a minute", evidence.messages_last_minute),
        });

        if let Some(attacks) = &self.attacks {
            let found = attacks.judge(message, placed);
            verdicts.push(spared_by(guard, "injection", found.score, attacks.threshold(), found.reason));
        }
        // What is pasted as code is no mashed keys, and its absence from the prose no empty message.
        let letters = |text: &str| text.chars().filter(|c| c.is_alphabetic()).count();
        let gibberish = match letters(&prose) * 2 < letters(message) {
            true => (0.0, String::new()),
            false => rules::gibberish(&prose, &self.senses.letters),
        };
        for (label, (rule, why)) in [("gibberish", gibberish), ("spam", rules::spam(message, site))] {
            let (score, threshold) = learnt(label);
            // Only letters tell gibberish: without a suspicion of the statistics the detector is not believed.
            let score = if label == "gibberish" && rule < 0.25 { score.min(threshold * 0.9) } else { score };
            let reason = match rule > 0.5 {
                true => why,
                false => format!("resembles the examples of {label}"),
            };
            verdicts.push(spared_by(guard, label, score, threshold, reason));
        }

        let (rule, why) = wrong_company(&prose, &pack.company.mistaken_for, &pack.company.products, &pack.company.name);
        let (score, threshold) = learnt("wrong_company");
        // Words alone are only a suspicion: the detector has to agree somewhat, or the words have to be many.
        let rule = if rule >= 0.9 || score > 0.25 || self.detectors.is_empty() { rule } else { rule * 0.7 };
        verdicts.push(combine("wrong_company", rule, &why, score, threshold.min(0.85), guard * 0.9));

        let (rule, why) = rules::off_topic(&prose);
        let (score, threshold) = learnt("off_topic");
        let score = if rules::asks_what_is_offered(&prose) { 0.0 } else { score };
        let follow = if evidence.follows_up { 0.15 } else { 0.0 };
        verdicts.push(combine("off_topic", rule, &why, score - follow, threshold, guard));
        if guard < FOREIGN && !evidence.follows_up && evidence.subject_words >= 3 {
            // Nothing in the knowledge is like it: a suspicion is enough to point elsewhere kindly.
            for verdict in verdicts.iter_mut().filter(|v| v.name == "wrong_company" || v.name == "off_topic") {
                verdict.threshold = verdict.threshold.min(SUSPICION);
                verdict.fired = verdict.score >= verdict.threshold;
            }
        }
        verdicts
    }
}

/// A learnt verdict, lowered by evidence that the message is about the product.
fn spared_by(in_domain: f32, name: &str, score: f32, threshold: f32, reason: String) -> Verdict {
    let score = (score - (in_domain - 0.55).max(0.0) * 0.8).max(0.0);
    Verdict { name: name.into(), score, threshold, fired: score >= threshold, reason }
}

/// A text as the embedding model can read it: as it stands where the model reads its alphabet, else in rough English
/// ([`text::glossary`]) where there is some; `None` where it cannot be read.
pub fn readable<'a>(embedder: &Embedder, words: &'a str) -> Option<Cow<'a, str>> {
    let many = embedder.languages().len() > 5;
    let lang = if text::is_cyrillic(words) { "ru" } else { "en" };
    if many { Some(Cow::Borrowed(words)) } else { embedder.readable(lang, words) }
}

/// A short message of one alphabet's letters as the same keys give it on the other layout: "jgthfnjh" is "оператор".
fn on_other_keys(message: &str) -> Option<String> {
    let has = |test: fn(char) -> bool| message.chars().any(test);
    match (has(|c| c.is_ascii_alphabetic()), has(|c| ('\u{400}'..'\u{500}').contains(&c))) {
        _ if message.chars().count() > WINDOW_CHARS / 2 => None,
        (true, false) => Some(script::on_cyrillic_keys(message)),
        (false, true) => Some(script::on_latin_keys(message)),
        _ => None,
    }
}

/// A message in pieces of a readable length, cut at sentence ends.
fn windows(prose: &str) -> Vec<String> {
    let mut windows = vec![String::new()];
    for sentence in text::sentences(prose) {
        let full = windows
            .last()
            .is_some_and(|w| !w.is_empty() && w.chars().count() + sentence.chars().count() > WINDOW_CHARS);
        if full {
            windows.push(String::new());
        }
        if let Some(window) = windows.last_mut() {
            window.push_str(sentence);
            window.push(' ');
        }
    }
    if windows.len() > MAX_WINDOWS {
        // First and last parts say most; the middle is sampled evenly.
        let step = windows.len() as f32 / MAX_WINDOWS as f32;
        windows = (0..MAX_WINDOWS).map(|i| windows[(i as f32 * step) as usize].clone()).collect();
    }
    windows
}

/// A rule's and a detector's score as one verdict; in-domain evidence lowers what was only learnt, and weak rules.
fn combine(name: &str, rule: f32, why: &str, learnt: f32, threshold: f32, in_domain: f32) -> Verdict {
    let spared = (in_domain - 0.55).max(0.0) * 1.6;
    let learnt = (learnt - spared).max(0.0);
    let rule = if rule >= 0.9 { rule } else { (rule - spared).max(0.0) };
    // A suspicion of both weighs more than either.
    let both = 1.0 - (1.0 - rule) * (1.0 - learnt * 0.8);
    let (score, reason) = if rule >= learnt {
        (
            if learnt > 0.3 { both } else { rule },
            if why.is_empty() { "no rule applies".to_string() } else { why.to_string() },
        )
    } else {
        let score = if rule > 0.3 { both.max(learnt) } else { learnt };
        (score, format!("resembles the pack's examples of {}", name.replace('_', " ")))
    };
    Verdict { name: name.into(), score, threshold, fired: score >= threshold, reason }
}

/// Words of other companies' business, on stems: "where is my order".
fn wrong_company(prose: &str, mistaken: &[MistakenFor], products: &[String], company: &str) -> (f32, String) {
    let prose = &rules::without_quotations(prose);
    let stems = text::stems(prose);
    let folded = text::fold(prose);
    let said = |phrase: &str| {
        let wanted = text::stems(phrase);
        !wanted.is_empty() && stems.windows(wanted.len()).any(|w| w == wanted)
    };
    let words = mistaken.iter().flat_map(|m| &m.words).map(String::as_str);
    let mut hits: Vec<&str> = words.filter(|phrase| said(phrase)).collect();
    hits.sort();
    hits.dedup();
    if hits.is_empty() {
        return (0.0, String::new());
    }
    let ours = mistaken.iter().flat_map(|m| &m.unless).any(|phrase| said(phrase))
        || products.iter().any(|p| folded.contains(&text::fold(p)))
        || (!company.is_empty() && folded.contains(&text::fold(company)));
    let score: f32 = match (hits.len(), ours) {
        (_, true) => 0.3,
        (1, false) => 0.88,
        (_, false) => 0.97,
    };
    (score, format!("speaks of {}", hits.join(", ")))
}

/// Filters as they are shared between turns.
pub type SharedFilters = Arc<Filters>;

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> Vec<MistakenFor> {
        vec![MistakenFor {
            who: "the shop".into(),
            words: vec!["my order".into(), "мой заказ".into(), "delivery".into()],
            unless: vec!["widget".into(), "наш магазин".into()],
            reply: Default::default(),
        }]
    }

    #[test]
    fn words_of_a_shop_are_heard_in_any_inflection_unless_our_name_or_our_business_is() {
        let judge = |m: &str| wrong_company(m, &shop(), &[], "Lumichat").0;
        assert!(judge("Where is my order?") > 0.8);
        assert!(judge("когда привезут моего заказа") > 0.8);
        assert!(judge("my order number does not reach the widgets") < 0.5);
        assert!(judge("мой заказ виден в нашем магазине, а у покупателя нет") < 0.5);
        assert!(judge("does my order come through Lumichat?") < 0.5);
        assert_eq!(judge("how do I change the color"), 0.0);
    }

    #[test]
    fn evidence_from_the_knowledge_spares_a_message() {
        assert!(combine("off_topic", 0.0, "", 0.8, 0.6, 0.2).fired);
        assert!(!combine("off_topic", 0.0, "", 0.8, 0.6, 0.9).fired);
        assert!(combine("injection", 0.95, "asks for the instruction", 0.0, 0.6, 0.9).fired, "a sure rule stands");
    }

    #[test]
    fn a_message_typed_on_the_other_layout_is_read_as_meant() {
        assert_eq!(on_other_keys("jgthfnjh").as_deref(), Some("оператор"));
        assert_eq!(on_other_keys("щзукфещк").as_deref(), Some("operator"));
        assert!(on_other_keys("Shopify не работает").is_none() && on_other_keys("12?").is_none());
    }

    #[test]
    fn long_messages_are_judged_in_windows() {
        let long = "The widget does not appear on my site after the update. ".repeat(60);
        assert_eq!(windows(&long).len(), MAX_WINDOWS);
        assert_eq!(windows("short").len(), 1);
    }
}
