//! The mode of an answer, chosen by how well the finds fit.

use super::boilerplate::Boilerplate;
use super::fences;
use super::fit::{Candidate, Findings, has_code, has_image};
use super::fragment;
use super::lexicon::Lexicon;
use super::retrieve::Query;
use super::{sound, text};
use crate::kb::{Chunk, SourceKind};

/// How a turn is answered.
#[derive(Debug, Clone)]
pub enum Mode {
    /// A FAQ answer (or sample answer) as written.
    Verbatim { candidate: Candidate, confidence: f32 },
    /// Paths of the app: indices into the lexicon's places.
    AppMap { places: Vec<usize>, confidence: f32 },
    /// A passage's own text with its assets.
    Quoted { candidate: Candidate, confidence: f32 },
    /// Two pages whose code fits about equally: both, under their titles.
    Either { first: Candidate, second: Candidate, confidence: f32 },
    /// The model writes from these.
    Grounded { candidates: Vec<Candidate>, confidence: f32 },
    /// Two or more near finds that differ in a name.
    Choice { options: Vec<String>, confidence: f32 },
    /// Nothing fits.
    Nothing { confidence: f32 },
}

/// Fit from which a FAQ answer is given as written.
pub const VERBATIM: f32 = 0.6;
/// Fit from which a passage is quoted.
pub const QUOTE: f32 = 0.5;
/// Fit from which the model may write from a passage.
pub const GROUND: f32 = 0.44;
/// Fit from which a place of the app is named to a "where" question.
pub const PLACE: f32 = 0.72;
/// Fit from which the nearest thing known is quoted as such.
pub const NEAR: f32 = 0.42;
/// The same for a find that stands out from all others by this much.
const NEAR_ALONE: f32 = 0.28;
const STANDS_OUT: f32 = 0.05;
/// Share of the question's own words that a page must say where it fits less than [`QUOTE`].
const COVERED: f32 = 0.25;
/// By so much a sample answer must be nearer than an entry or a page.
const SAMPLE: f32 = 0.1;
/// Fit from which an image is shown to whoever asks for one.
const PICTURE: f32 = 0.25;
/// What fits less than this share of the best find says little of the question: it costs the model's time and leads it astray.
const BESIDE: f32 = 0.7;
/// Fits closer than this are equal.
const TIE: f32 = 0.06;

/// Chooses. `can_write`: the chat model writes the customer's language.
pub fn choose(query: &Query, findings: &Findings, lexicon: &Lexicon, can_write: bool) -> Mode {
    let faq = findings.questions.first();
    let article = findings.articles.first();
    let place = findings.places.first().copied();
    let fit_of = |c: Option<&Candidate>| c.map_or(0.0, |c| c.fit);

    if query.intent.code
        && let Some(mode) = code(query, findings, lexicon)
    {
        return mode;
    }
    // Something to be typed is code where the page that fits best has it; elsewhere it may be said in a sentence.
    if query.intent.typed
        && let Some(mode @ (Mode::Quoted { .. } | Mode::Either { .. })) = code(query, findings, lexicon)
        && let Mode::Quoted { candidate, confidence } | Mode::Either { first: candidate, confidence, .. } = &mode
        && *confidence >= NEAR.min(findings.in_domain())
        && article.is_some_and(|best| best.chunk.path == candidate.chunk.path || *confidence >= best.fit)
    {
        return mode;
    }
    if query.intent.picture
        && let Some(shown) = picture(findings, lexicon)
    {
        return shown;
    }
    if let Some((_, fit)) = place.filter(|(_, fit)| query.intent.place && *fit >= PLACE && *fit + 0.1 >= fit_of(faq)) {
        let equal = findings.places.iter().filter(|(_, f)| fit - f < 0.02).map(|(i, _)| *i).take(3).collect();
        return Mode::AppMap { places: equal, confidence: fit };
    }
    if let Some(options) =
        faq.filter(|c| c.fit >= NEAR).and_then(|first| tie(query, first, &findings.questions, lexicon))
    {
        return Mode::Choice { options, confidence: fit_of(faq) };
    }
    if let Some(first) = faq.filter(|c| c.fit >= VERBATIM && c.fit + 0.15 >= fit_of(article)) {
        return Mode::Verbatim { candidate: first.clone(), confidence: first.fit };
    }
    if let Some(first) = article.filter(|c| c.fit >= GROUND && c.fit >= fit_of(faq) - 0.05) {
        // Commands are shown and not told, steps are not torn apart, and an instruction's facts are told as they were written for customers.
        let as_it_stands = query.intent.wants_code()
            || !first.chunk.assets.is_empty()
            || is_list(&first.chunk.text)
            || first.chunk.of_instruction().is_some();
        if can_write && !as_it_stands && query.strangers.is_empty() {
            let mut candidates: Vec<Candidate> =
                findings.articles.iter().chain(faq.filter(|c| c.fit > 0.35)).cloned().collect();
            candidates.sort_by(|a, b| b.fit.total_cmp(&a.fit));
            let least = BESIDE * candidates[0].fit;
            candidates.retain(|c| c.fit >= least);
            return Mode::Grounded { candidates, confidence: first.fit };
        }
        if first.fit >= QUOTE || query.intent.wants_code() {
            return Mode::Quoted { candidate: shown(first, query, findings, lexicon), confidence: first.fit };
        }
    }
    if let Some((_, fit)) = place.filter(|(_, fit)| *fit >= 0.85 && *fit > fit_of(faq) + 0.1) {
        return Mode::AppMap { places: vec![findings.places[0].0], confidence: fit };
    }
    // A sample shows how one question is answered; near another, what is knowledge comes first.
    let weight = |c: &Candidate| if c.chunk.kind == SourceKind::Example { c.fit - SAMPLE } else { c.fit };
    let entry = findings.questions.iter().max_by(|a, b| weight(a).total_cmp(&weight(b)));
    let nearest = [entry, article].into_iter().flatten().max_by(|a, b| a.fit.total_cmp(&b.fit));
    // What the pack does not know by name is pointed near only where the rest fits well.
    let least = if !query.strangers.is_empty() {
        QUOTE - 0.04
    } else if findings.lead() >= STANDS_OUT {
        NEAR_ALONE
    } else {
        NEAR
    };
    if let Some(first) = nearest.filter(|c| c.fit >= least && speaks_of_it(c)) {
        return Mode::Quoted { candidate: shown(first, query, findings, lexicon), confidence: first.fit };
    }
    if let Some((place, fit)) = place.filter(|(_, fit)| *fit >= 0.6 && query.intent.place) {
        return Mode::AppMap { places: vec![place], confidence: fit };
    }
    Mode::Nothing { confidence: fit_of(faq).max(fit_of(article)) }
}

/// A page that hardly fits must say some of the question's own words to be pointed to as near. One that no leg of the
/// search brought up shares single words with the question.
fn speaks_of_it(candidate: &Candidate) -> bool {
    candidate.fit >= QUOTE
        || candidate.chunk.kind != SourceKind::Article
        || candidate.evidence.covered.is_some_and(|share| share >= COVERED)
}

/// What is quoted of a find: where something to be typed is wanted, the sections of its page that show such things best.
fn shown(first: &Candidate, query: &Query, findings: &Findings, lexicon: &Lexicon) -> Candidate {
    let mut sections = Vec::new();
    if query.intent.wants_code() {
        sections = fragment::sections(query, findings, lexicon);
        sections.retain(|c| c.chunk.path == first.chunk.path);
    }
    match sections.first() {
        Some(best) => fragment::together(best, &sections.iter().collect::<Vec<_>>(), query),
        None => fragment::with_code_beside(first, findings, query),
    }
}

/// A code fragment: the one whose names fit, or a question back where several do.
fn code(query: &Query, findings: &Findings, lexicon: &Lexicon) -> Option<Mode> {
    let sections = fragment::sections(query, findings, lexicon);
    let mut with_code: Vec<&Candidate> =
        findings.questions.iter().filter(|c| has_code(&c.chunk)).chain(&sections).collect();
    if with_code.iter().any(|c| shows(c, query)) {
        with_code.retain(|c| shows(c, query));
    }
    let named = |c: &Candidate| match lexicon.sheet(&c.chunk.id) {
        Some(sheet) => query.names.iter().filter(|n| sheet.words.contains(*n)).count(),
        None => 0,
    };
    let most = with_code.iter().map(|c| named(c)).max().unwrap_or(0);
    let mut fitting: Vec<&Candidate> = with_code.into_iter().filter(|c| named(c) == most).collect();
    fitting.sort_by(|a, b| b.fit.total_cmp(&a.fit));
    let best = (*fitting.first()?).clone();
    if best.fit < 0.3 || !query.strangers.is_empty() {
        return None;
    }
    if query.names.is_empty() && query.code_in.is_empty() && best.fit < 0.75 {
        let mut options: Vec<String> = Vec::new();
        for candidate in fitting.iter().filter(|c| best.fit - c.fit < 0.1 && !c.own_names.is_empty()) {
            let title = short_title(&candidate.chunk);
            if !options.contains(&title) {
                options.push(title);
            }
        }
        if options.len() >= 2 && !best.own_names.is_empty() {
            options.truncate(4);
            return Some(Mode::Choice { options, confidence: best.fit });
        }
    }
    let (confidence, candidate) = (best.fit, fragment::together(&best, &fitting, query));
    Some(match fragment::of_another_page(&best, &fitting, query) {
        Some(other) => {
            Mode::Either { confidence, first: candidate, second: fragment::together(other, &fitting, query) }
        }
        None => Mode::Quoted { confidence, candidate },
    })
}

/// True where the candidate shows code of a family that the query names.
fn shows(candidate: &Candidate, query: &Query) -> bool {
    !fences::families(&candidate.chunk).is_disjoint(&query.code_in)
}

/// What shows an image: the best fitting FAQ entry, passage or place that has one.
fn picture(findings: &Findings, lexicon: &Lexicon) -> Option<Mode> {
    let shows = |c: &&Candidate| has_image(&c.chunk) && c.fit >= PICTURE;
    let best = findings.questions.iter().chain(&findings.articles).filter(shows).max_by(|a, b| a.fit.total_cmp(&b.fit));
    let with_image =
        |(i, fit): &&(usize, f32)| *fit >= 0.6 && lexicon.places.get(*i).is_some_and(|p| p.entry.image.is_some());
    match (best, findings.places.iter().find(with_image)) {
        (Some(best), place) if place.is_none_or(|(_, fit)| *fit * 0.8 <= best.fit) => {
            Some(Mode::Quoted { candidate: best.clone(), confidence: best.fit.max(QUOTE) })
        }
        (_, Some((place, fit))) => Some(Mode::AppMap { places: vec![*place], confidence: *fit }),
        _ => None,
    }
}

/// Options to choose from, where near equal questions each have a name of their own that the query lacks.
fn tie(query: &Query, first: &Candidate, all: &[Candidate], lexicon: &Lexicon) -> Option<Vec<String>> {
    if first.own_names.is_empty() || !query.names.is_empty() {
        return None;
    }
    let mut options: Vec<String> = Vec::new();
    for candidate in all.iter().filter(|c| first.fit - c.fit <= TIE && !c.own_names.is_empty()) {
        let mut names: Vec<&str> = candidate.own_names.iter().filter_map(|n| lexicon.written(n)).collect();
        names.sort();
        let option = names.join(" ");
        // "Телеграме" and "Telegram" are one name.
        let heard = |name: &str| sound::of(&text::stem(&text::fold(name)));
        if !options.iter().any(|o| heard(o) == heard(&option)) {
            options.push(option);
        }
    }
    options.truncate(4);
    (options.len() >= 2).then_some(options)
}

/// The title as an option to choose: its last heading or question without its full stop.
fn short_title(chunk: &Chunk) -> String {
    chunk.title.trim_end_matches(['?', '.', '!']).to_string()
}

/// True where the text has numbered or bulleted steps.
fn is_list(text: &str) -> bool {
    text.lines()
        .filter(|l| {
            l.trim_start().starts_with(['-', '*'])
                || l.trim_start()
                    .split('.')
                    .next()
                    .is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
        })
        .count()
        >= 2
}

/// The part of a chunk's text that answers: whole where it is short, else the blocks around the best one.
pub fn excerpt(chunk: &Chunk, query: &Query, lexicon: &Lexicon, max_chars: usize) -> String {
    let text = wanted_code(chunk, query);
    let score = |block: &str| {
        let stems = text::content_stems(block);
        let hay = stems.iter().map(|s| s.as_str()).collect();
        let code = if query.intent.wants_code() && block.contains("[[code:") { 0.5 } else { 0.0 };
        text::coverage(&query.stems, &hay, |s| lexicon.rarity(s)) + code
    };
    let text = own_words(&text, &lexicon.boilerplate, score);
    let text = text.trim();
    if text.chars().count() <= max_chars {
        return text.to_string();
    }
    let blocks = blocks(text);
    let scores: Vec<f32> = blocks.iter().map(|b| score(b)).collect();
    let best = (0..blocks.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a))).unwrap_or(0);
    let (mut from, mut to) = (best, best + 1);
    let leads_in = |b: &str| b.trim_end().ends_with(':');
    let only_asset = |b: &str| b.trim_start().starts_with("[[");
    while from > 0 && (leads_in(blocks[from - 1]) || only_asset(blocks[from]) || is_item(blocks[from])) {
        from -= 1;
    }
    let length = |from: usize, to: usize| blocks[from..to].iter().map(|b| b.chars().count()).sum::<usize>();
    while to < blocks.len() && (leads_in(blocks[to - 1]) || only_asset(blocks[to]) || length(from, to + 1) <= max_chars)
    {
        to += 1;
    }
    while from > 0 && length(from - 1, to) <= max_chars {
        from -= 1;
    }
    blocks[from..to].join("\n\n")
}

/// A text without the paragraphs that many pages share, unless one of them is what was asked for, or all there is.
fn own_words(text: &str, boilerplate: &Boilerplate, score: impl Fn(&str) -> f32) -> String {
    let (shared, own): (Vec<&str>, Vec<&str>) = blocks(text).into_iter().partition(|b| boilerplate.holds(b));
    let best = |blocks: &[&str]| blocks.iter().map(|b| score(b)).fold(0.0, f32::max);
    if shared.is_empty() || own.is_empty() || best(&shared) > best(&own) {
        return text.to_string();
    }
    own.join("\n\n")
}

/// A chunk's text; where it shows the same in several languages and the query names one, only that one's code.
fn wanted_code(chunk: &Chunk, query: &Query) -> String {
    let mut text = chunk.text.clone();
    for marker in fences::unwanted(chunk, &query.code_in) {
        text = text.replace(&marker, "");
    }
    while text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    text
}

fn is_item(block: &str) -> bool {
    let start = block.trim_start();
    start.starts_with("- ")
        || start.starts_with("* ")
        || start.split('.').next().is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
}

fn blocks(text: &str) -> Vec<&str> {
    text.split("\n\n").map(|b| b.trim_end()).filter(|b| !b.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::lexicon::tests::faq;
    use super::*;
    use std::collections::HashSet;
    use std::sync::Arc;

    fn candidate(id: &str, fit: f32, names: &[&str]) -> Candidate {
        Candidate {
            chunk: faq(id, "en", &[id], "answer"),
            fit,
            doubts: vec![],
            own_names: names.iter().map(|n| n.to_string()).collect::<HashSet<_>>(),
            cosine: None,
            evidence: Default::default(),
        }
    }

    fn mode(query: &Query, questions: Vec<Candidate>, articles: Vec<Candidate>, can_write: bool) -> &'static str {
        let findings = Findings { questions, articles, places: vec![] };
        match choose(query, &findings, &Lexicon::default(), can_write) {
            Mode::Verbatim { .. } => "verbatim",
            Mode::AppMap { .. } => "app_map",
            Mode::Quoted { .. } => "quoted",
            Mode::Either { .. } => "either",
            Mode::Grounded { .. } => "grounded",
            Mode::Choice { .. } => "choice",
            Mode::Nothing { .. } => "nothing",
        }
    }

    #[test]
    fn the_mode_follows_the_fit() {
        let q = Query::default();
        assert_eq!(mode(&q, vec![candidate("a", 0.9, &[])], vec![], true), "verbatim");
        assert_eq!(mode(&q, vec![candidate("a", 0.5, &[])], vec![], true), "quoted");
        assert_eq!(mode(&q, vec![candidate("a", 0.2, &[])], vec![], true), "nothing");
        assert_eq!(mode(&q, vec![], vec![candidate("b", 0.6, &[])], true), "grounded");
        assert_eq!(mode(&q, vec![], vec![candidate("b", 0.6, &[])], false), "quoted");
    }

    #[test]
    fn what_the_source_does_not_name_is_quoted_and_never_written() {
        let q = Query { strangers: HashSet::from(["paypal".to_string()]), ..Default::default() };
        assert_eq!(mode(&q, vec![], vec![candidate("b", 0.6, &[])], true), "quoted");
    }

    #[test]
    fn a_page_that_hardly_fits_must_say_some_of_the_questions_own_words() {
        let found = |fit: f32, covered: Option<f32>| {
            let mut page = candidate("page", fit, &[]);
            page.chunk = Arc::new(Chunk { kind: SourceKind::Article, ..(*page.chunk).clone() });
            page.evidence.covered = covered;
            mode(&Query::default(), vec![], vec![page], false)
        };
        for fit in [0.45, 0.35] {
            let modes = [found(fit, None), found(fit, Some(0.2)), found(fit, Some(0.3))];
            assert_eq!(modes, ["nothing", "nothing", "quoted"], "{fit}");
        }
        assert_eq!(found(0.55, None), "quoted");
    }

    #[test]
    fn the_model_gets_only_passages_that_fit_nearly_as_well_as_the_best() {
        let articles = vec![candidate("best", 0.8, &[]), candidate("near", 0.6, &[]), candidate("far", 0.5, &[])];
        let findings = Findings { questions: vec![], articles, places: vec![] };
        let Mode::Grounded { candidates, .. } = choose(&Query::default(), &findings, &Lexicon::default(), true) else {
            panic!("not written by the model");
        };
        let given: Vec<&str> = candidates.iter().map(|c| c.chunk.id.as_str()).collect();
        assert_eq!(given, ["best", "near"]);
    }

    #[test]
    fn a_long_passage_is_cut_to_the_blocks_that_answer() {
        let mut chunk = (*faq("x", "en", &["x"], "")).clone();
        chunk.text = format!(
            "{}\n\nTo change the color:\n\n1. Open Settings.\n2. Pick a color.\n\n[[image:1]]\n\n{}",
            "Weather. ".repeat(40),
            "Unrelated words. ".repeat(40)
        );
        let query = Query { stems: text::content_stems("change color"), ..Default::default() };
        let cut = excerpt(&chunk, &query, &Lexicon::default(), 200);
        assert!(
            cut.starts_with("To change the color:") && cut.contains("[[image:1]]") && !cut.contains("Weather"),
            "{cut}"
        );
    }
}
