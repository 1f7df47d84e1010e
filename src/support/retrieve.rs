//! What the knowledge has on a turn: the query built from the dialogue, and how well each find fits it.
//!
//! A search orders; it does not say whether a find answers. Fits do: 0..1, from the vectors where the embedding model
//! reads the language, from stems and concepts everywhere, lowered where actions contradict or names differ.

use std::collections::HashSet;
use std::sync::Arc;

use super::actions;
use super::conversation::Conversation;
use super::lexicon::{Lexicon, Place, Question, readable};
use super::phrases;
use super::text;
use crate::kb::pack::Company;
use crate::kb::{Asset, Chunk, Passage, SourceKind};

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The words to search with.
    pub text: String,
    pub stems: Vec<String>,
    /// Folded names of the pack that it has.
    pub names: HashSet<String>,
    /// Folded words that look like names and that the pack does not know.
    pub strangers: HashSet<String>,
    pub lang: String,
    pub intent: Intent,
    /// Built from earlier messages too.
    pub follows_up: bool,
}

/// What kind of answer is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Intent {
    /// "Where is…", "where do I find…".
    pub place: bool,
    /// "Give me the code for…".
    pub code: bool,
    /// "Show me a screenshot of…".
    pub picture: bool,
}

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

/// Builds the query: the last message, with earlier words where it leans on them.
pub fn query(conversation: &Conversation, lexicon: &Lexicon, company: &Company) -> Query {
    let message = lexicon.respell(&strip_courtesy(&conversation.message));
    let mut words = message.clone();
    let mut follows_up = false;
    if leans_on_earlier(&message, conversation, company)
        && let Some(earlier) = conversation.earlier_questions().find(|q| {
            subject_words(q) >= 1
                && super::conversation::small_talk(q).is_none()
                && !super::wish::for_person(q).is_wish()
        })
    {
        follows_up = true;
        let named = !lexicon.names_in(&message).is_empty() || !strangers(&message, lexicon).is_empty();
        let earlier = lexicon.respell(&strip_courtesy(earlier));
        let kept: Vec<&str> = earlier
            .split_whitespace()
            .filter(|w| {
                !named || text::words(&text::fold(w)).iter().all(|f| !lexicon.is_name(f) || company_word(f, company))
            })
            .collect();
        words = format!("{} {message}", kept.join(" "));
    }
    let intent = intent(&words);
    Query {
        stems: text::content_stems(&words).into_iter().filter(|s| !names_the_form(s, intent)).collect(),
        names: lexicon.names_in(&words).into_iter().filter(|n| !company_word(n, company)).collect(),
        strangers: strangers(&words, lexicon),
        lang: conversation.lang.clone(),
        intent: if follows_up {
            Intent { place: intent.place && self::intent(&message).place, ..intent }
        } else {
            intent
        },
        text: words,
        follows_up,
    }
}

/// The company's own name and products name no particular thing in a question.
fn company_word(folded: &str, company: &Company) -> bool {
    let own = |name: &str| text::words(&text::fold(name)).contains(&folded);
    own(&company.name) || company.products.iter().any(|p| own(p))
}

fn subject_words(message: &str) -> usize {
    text::content_stems(message).len()
}

/// Greetings and the like in front of a question say nothing of its subject.
fn strip_courtesy(message: &str) -> String {
    let kept: Vec<&str> =
        text::sentences(message).into_iter().filter(|s| super::conversation::small_talk(s).is_none()).collect();
    if kept.is_empty() { message.to_string() } else { kept.join(" ") }
}

/// True where the message has little subject of its own, points back, or answers a question of ours.
fn leans_on_earlier(message: &str, conversation: &Conversation, company: &Company) -> bool {
    if conversation.earlier.is_empty() {
        return false;
    }
    let folded = text::fold(message);
    let words = text::words(&folded);
    let subject = subject_words(message);
    const OPENERS: [&str; 16] = [
        "and ",
        "what about",
        "how about",
        "and for",
        "also ",
        "same for",
        "or ",
        "but ",
        "then ",
        "а ",
        "и ",
        "а если",
        "а для",
        "тогда ",
        "или ",
        "то же",
    ];
    const POINTERS: [&str; 30] = [
        "it",
        "that",
        "this",
        "there",
        "them",
        "they",
        "those",
        "one",
        "he",
        "she",
        "instead",
        "same",
        "его",
        "ее",
        "она",
        "он",
        "оно",
        "они",
        "их",
        "там",
        "туда",
        "это",
        "этого",
        "этом",
        "этот",
        "такой",
        "ней",
        "нем",
        "ним",
        "ему",
    ];
    let asked = conversation.last_answer().is_some_and(|a| {
        ["clarify", "clarify_choice", "no_answer", "retry", "person_first"]
            .iter()
            .any(|p| phrases::is_phrase(company, p, a))
    });
    let opens = OPENERS.iter().any(|o| folded.trim_start().starts_with(o));
    let points = words.iter().any(|w| POINTERS.contains(w));
    (asked && subject <= 6) || (opens && subject <= 4) || (points && subject <= 3) || subject <= 1
}

/// Words that look like names of something the pack does not know.
fn strangers(message: &str, lexicon: &Lexicon) -> HashSet<String> {
    let prose = text::without_code(message);
    let russian = text::is_cyrillic(&prose);
    let mut found = HashSet::new();
    for sentence in text::sentences(&prose) {
        for (i, word) in sentence.split(|c: char| !c.is_alphanumeric()).filter(|w| w.chars().count() > 2).enumerate() {
            let folded = text::fold(word);
            let capital = word.chars().next().is_some_and(char::is_uppercase) && i > 0;
            let inner = word.chars().skip(1).any(char::is_uppercase) && word.chars().any(char::is_lowercase);
            let latin_in_russian = russian && !text::is_cyrillic(word);
            if (capital || inner || latin_in_russian)
                && word.chars().any(char::is_alphabetic)
                && !lexicon.knows(&folded)
                && !text::is_stop(&folded)
            {
                found.insert(folded);
            }
        }
    }
    found
}

const PLACE: &str = "where|where's|wheres|find the|locate|which menu|which section|which screen|which tab|what menu|which place|what do i click|where do i click|get to|path to|\
    где|куда|в каком разделе|в каком меню|в каком месте|на какой вкладке|как найти|как попасть|не могу найти|не нахожу|can't find|cannot find|как зайти в|путь к";
const NOT_PLACE: &str = "where are your servers|data stored|сервер*|where is lumichat|хранятся|хранится";
const CODE: &str = "code|snippet|script for|example code|sample code|curl|код|кода|коде|скрипт для|сниппет*|пример запроса|пример кода|фрагмент*|пример на|листинг|конфиг*|config|\
    which line|what line|which php|what php|which liquid|html for|header line";
const NOT_CODE: &str = "error code*|promo code*|backup code*|код ошибки|коды ошиб*|резервн*|промокод*|verification code*|qr code*|код подтверждения|discount code*|country code*|\
    status code*|recovery code*|six digit*|код из приложения";
const PICTURE: &str = "screenshot*|screen shot*|picture|pictures|image of|show me how it looks|what does it look like|скриншот*|скрин|скрины|скрина|картинк*|изображени*|как выглядит|покажи* как";
const NOT_PICTURE: &str =
    "profile picture|my picture|upload*|загруз*|send a picture|send picture*|visitors send|моя картинк*|в профил*";

/// Reads what kind of answer is asked for.
pub fn intent(message: &str) -> Intent {
    let folded = format!(" {} ", text::words(&text::fold(message)).join(" "));
    let asks = |list: &str, unless: &str| text::has_any(&folded, list) && !text::has_any(&folded, unless);
    Intent { place: asks(PLACE, NOT_PLACE), code: asks(CODE, NOT_CODE), picture: asks(PICTURE, NOT_PICTURE) }
}

/// Words that say what kind of answer is wanted, and nothing of its subject.
fn names_the_form(stem: &str, intent: Intent) -> bool {
    (intent.picture
        && matches!(
            stem,
            "screenshot"
                | "pictur"
                | "imag"
                | "@photo"
                | "@show"
                | "скриншот"
                | "скрин"
                | "картинк"
                | "изображен"
                | "выгляд"
        ))
        || (intent.code
            && matches!(
                stem,
                "code" | "snippet" | "exampl" | "sampl" | "код" | "сниппет" | "пример" | "фрагмент" | "@show"
            ))
        || (intent.place
            && matches!(
                stem,
                "find"
                    | "menu"
                    | "click"
                    | "place"
                    | "section"
                    | "найт"
                    | "мен"
                    | "раздел"
                    | "нажа"
                    | "мест"
                    | "наход"
            ))
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

#[cfg(test)]
mod tests {
    use super::super::lexicon::tests::faq;
    use super::*;
    use crate::kb::pack::Pack;

    fn lexicon() -> Lexicon {
        let chunks = vec![
            faq("del", "en", &["How do I delete a conversation?"], "Open it and press Delete."),
            faq(
                "col",
                "en",
                &["How do I change the color of the chat button?", "Can I recolor the widget?"],
                "Open Settings.",
            ),
            faq("ios", "en", &["How do I install the widget on iOS?"], "Add the package in Xcode. Use iOS 15."),
            faq("and", "en", &["How do I install the widget on Android?"], "Add the gradle line on Android."),
            faq(
                "pay",
                "en",
                &["Which payment methods do you accept?", "How can I pay?"],
                "Visa, Mastercard and bank transfer.",
            ),
            faq("удал", "ru", &["Как удалить диалог?"], "Откройте его и нажмите Удалить."),
            faq("цвет", "ru", &["Как изменить цвет кнопки чата?"], "Откройте Настройки."),
        ];
        Lexicon::build(&chunks, &Pack::default())
    }

    fn asking(message: &str, lang: &str) -> Conversation {
        Conversation { message: message.into(), lang: lang.into(), ..Default::default() }
    }

    fn best(message: &str, lang: &str) -> (String, f32) {
        let lexicon = lexicon();
        let query = query(&asking(message, lang), &lexicon, &Company::default());
        let found = findings(&query, &[], &lexicon, "igor");
        found.questions.first().map_or((String::new(), 0.0), |c| (c.chunk.id.clone(), c.fit))
    }

    #[test]
    fn another_wording_of_a_question_fits_and_its_opposite_does_not() {
        let (id, fit) = best("как поменять цвет кнопки", "ru");
        assert!(id == "цвет" && fit > 0.6, "{id} {fit}");
        let (_, fit) = best("как восстановить диалог", "ru");
        assert!(fit < 0.5, "{fit}");
        let (id, fit) = best("how can i recolour chat button", "en");
        assert!(id == "col" && fit > 0.5, "{id} {fit}");
    }

    #[test]
    fn a_question_about_one_platform_is_not_answered_with_another() {
        let (id, fit) = best("install the widget on android", "en");
        assert!(id == "and" && fit > 0.7);
        let lexicon = lexicon();
        let q = query(&asking("install the widget on android", "en"), &lexicon, &Company::default());
        let found = findings(&q, &[], &lexicon, "igor");
        let ios = found.questions.iter().find(|c| c.chunk.id == "ios").map_or(0.0, |c| c.fit);
        assert!(ios < 0.45, "{ios}");
    }

    #[test]
    fn a_follow_up_leans_on_the_earlier_question_with_its_own_name() {
        let lexicon = lexicon();
        let mut conversation = asking("and on Android?", "en");
        conversation.earlier.push(("How do I install the widget on iOS?".into(), "Add the package.".into()));
        let query = query(&conversation, &lexicon, &Company::default());
        assert!(query.follows_up && query.text.contains("install") && !query.text.contains("iOS"), "{}", query.text);
    }

    #[test]
    fn an_unknown_name_makes_a_match_less_sure() {
        let lexicon = lexicon();
        let q = query(&asking("Can I pay with PayPal?", "en"), &lexicon, &Company::default());
        assert!(q.strangers.contains("paypal"));
    }

    #[test]
    fn where_and_code_are_heard_and_error_codes_are_not_code() {
        assert!(intent("Where do I find my invoices?").place && intent("где мои счета").place);
        assert!(intent("give me code for React").code && intent("дай код для React").code);
        assert!(!intent("what is error code LC-101").code && !intent("backup codes").code);
    }
}
