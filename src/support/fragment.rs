//! Which section of a page shows the code that is asked for.
//!
//! A page comes up by its opening or by a neighbouring step, while its code stands elsewhere ("Example", "2. Get the
//! stage"). So all sections with code of the pages that were found are compared: by how well their page fits, by their
//! own heading, and by what they say.

use std::collections::HashMap;
use std::sync::Arc;

use super::fit::{Candidate, Findings, has_code};
use super::lexicon::{Lexicon, Sheet};
use super::retrieve::Query;
use super::{fences, text};
use crate::kb::{Asset, Chunk, SourceKind};

/// Pages are left out whose best section fits by this much less than the best page's.
const FAR: f32 = 0.2;
/// Most pages whose sections are compared.
const PAGES: usize = 6;
/// What a heading that only announces an example counts, beside one that the question covers in full.
const ANNOUNCED: f32 = 0.7;
/// The same for what stands before the first heading, where the question covers the page's title.
const OPENING: f32 = 0.8;
/// Sections of one page whose fits are closer than this are shown together, so many of them at most, while what a
/// customer gets of them is not longer than this, in bytes.
const TOGETHER: f32 = 0.15;
const SECTIONS: usize = 4;
const LONGEST: usize = 24_000;
/// The same nearness where nothing says that code is wanted.
const UNASKED: f32 = 0.1;
/// The same for another page's best section: both pages are shown.
const ACROSS: f32 = 0.08;
/// Share of its page's fit that is assumed for a section which the search did not bring up.
const UNSEEN: f32 = 0.8;

/// Sections with code of the pages found, best first; only those in a language that is asked for where there are any.
/// Their fits are made of the page's and their own.
pub fn sections(query: &Query, findings: &Findings, lexicon: &Lexicon) -> Vec<Candidate> {
    let mut pages: Vec<(&str, &Candidate)> = Vec::new();
    for candidate in &findings.articles {
        if pages.iter().all(|(path, _)| *path != candidate.chunk.path) {
            pages.push((&candidate.chunk.path, candidate));
        }
    }
    let Some(best) = pages.first().map(|(_, c)| c.fit) else { return Vec::new() };
    pages.retain(|(_, c)| best - c.fit <= FAR);
    pages.truncate(PAGES);
    let by_path: HashMap<&str, &Candidate> = pages.into_iter().collect();
    let found = lexicon.pages.iter().filter(|c| has_code(c));
    let mut sections: Vec<Candidate> = found
        .filter_map(|chunk| {
            let page = *by_path.get(chunk.path.as_str())?;
            let own = findings.articles.iter().find(|c| c.chunk.id == chunk.id);
            let fit = fit(query, page, own, chunk, lexicon.sheet(&chunk.id)?, lexicon);
            Some(Candidate { chunk: chunk.clone(), fit, ..own.unwrap_or(page).clone() })
        })
        .collect();
    let shows = |c: &Candidate| !fences::families(&c.chunk).is_disjoint(&query.code_in);
    if sections.iter().any(shows) {
        sections.retain(shows);
    }
    sections.sort_by(|a, b| b.fit.total_cmp(&a.fit));
    sections
}

/// The best section, together with the next best of its page where they fit about equally: neighbouring steps have
/// much the same words, and showing them all costs less than showing the wrong one.
pub fn together(best: &Candidate, others: &[&Candidate], query: &Query) -> Candidate {
    joined(best, others, TOGETHER, query)
}

/// The best section of another page that fits about as well as the best of all and shows other code.
pub fn of_another_page<'a>(best: &Candidate, others: &[&'a Candidate], query: &Query) -> Option<&'a Candidate> {
    let is_page = |c: &Candidate| c.chunk.kind == SourceKind::Article;
    let next = others.iter().find(|c| is_page(c) && c.chunk.path != best.chunk.path)?;
    let short = length(&best.chunk, query) + length(&next.chunk, query) <= LONGEST / 2;
    let fits = is_page(best) && best.fit - next.fit <= ACROSS;
    (fits && short && codes(&next.chunk) != codes(&best.chunk)).then_some(next)
}

/// The same for a passage that is quoted though nothing says that code is wanted: with the sections of its page that fit
/// about equally and show code.
pub fn with_code_beside(best: &Candidate, findings: &Findings, query: &Query) -> Candidate {
    let with_code: Vec<&Candidate> = findings.articles.iter().filter(|c| has_code(&c.chunk)).collect();
    joined(best, &with_code, UNASKED, query)
}

fn joined(best: &Candidate, others: &[&Candidate], nearness: f32, query: &Query) -> Candidate {
    let near =
        |c: &Candidate| c.chunk.id != best.chunk.id && c.chunk.path == best.chunk.path && best.fit - c.fit <= nearness;
    let mut shown: Vec<&Arc<Chunk>> = vec![&best.chunk];
    let mut length = length(&best.chunk, query);
    for next in others.iter().filter(|c| best.chunk.kind == SourceKind::Article && near(c)) {
        let longer = length + self::length(&next.chunk, query);
        if shown.len() < SECTIONS && longer <= LONGEST {
            length = longer;
            shown.push(&next.chunk);
        }
    }
    if shown.len() == 1 {
        return best.clone();
    }
    shown.sort_by_key(|chunk| chunk.line);
    let mut chunk = (**shown[0]).clone();
    for next in &shown[1..] {
        let (text, assets) = renumbered(next, chunk.assets.len());
        let heading = next.headings.last().map(|h| format!("**{h}**\n\n")).unwrap_or_default();
        chunk.text = format!("{}\n\n{heading}{text}", chunk.text.trim_end());
        chunk.assets.extend(assets);
    }
    chunk.id = best.chunk.id.clone();
    Candidate { chunk: Arc::new(chunk), ..best.clone() }
}

/// Bytes that a section takes in an answer to this question: of code only what is asked for.
fn length(chunk: &Chunk, query: &Query) -> usize {
    let unwanted = fences::unwanted(chunk, &query.code_in);
    let code = |asset: &Asset| match asset {
        Asset::Code { n, text, .. } if !unwanted.contains(&format!("[[code:{n}]]")) => text.len(),
        _ => 0,
    };
    chunk.text.len() + chunk.assets.iter().map(code).sum::<usize>()
}

fn codes(chunk: &Chunk) -> Vec<&str> {
    let code = |asset: &'_ Asset| matches!(asset, Asset::Code { .. });
    chunk
        .assets
        .iter()
        .filter(|a| code(a))
        .map(|a| if let Asset::Code { text, .. } = a { text.as_str() } else { "" })
        .collect()
}

/// A chunk's text and assets with numbers from `from + 1` on.
fn renumbered(chunk: &Chunk, from: usize) -> (String, Vec<Asset>) {
    let mut text = chunk.text.clone();
    let mut assets = chunk.assets.clone();
    for (at, asset) in assets.iter_mut().enumerate() {
        let (kind, n) = match asset {
            Asset::Code { n, .. } => ("code", n),
            Asset::Image { n, .. } => ("image", n),
            Asset::Link { n, .. } => ("link", n),
            Asset::Table { n, .. } => ("table", n),
        };
        let new = from + at + 1;
        // Two steps, so that a new number never meets an old one that is still to be renumbered.
        text = text.replace(&format!("[[{kind}:{n}]]"), &format!("[[\u{1}{kind}:{new}]]"));
        *n = new;
    }
    (text.replace('\u{1}', ""), assets)
}

fn fit(
    query: &Query,
    page: &Candidate,
    own: Option<&Candidate>,
    chunk: &Chunk,
    sheet: &Sheet,
    lexicon: &Lexicon,
) -> f32 {
    let in_language = chunk.headings.last().is_some_and(|own| !fences::named(own).is_disjoint(&query.code_in));
    let said = query.terms.share(&query.terms.parts_in(&sheet.all));
    let answered = query.terms.share_of_other(&sheet.head, lexicon);
    let heading = match sheet.own_head.is_empty() {
        true => OPENING * answered,
        // "PHP" among "PHP", "Ruby", "Go": the language that is asked for is not among the query's words.
        false if in_language => 1.0,
        false if announces(&sheet.own_head) => ANNOUNCED,
        false => query.terms.share_of_other(&sheet.own_head, lexicon),
    };
    let own = own.map_or(page.fit * UNSEEN, |c| c.fit);
    (0.4 * page.fit + 0.2 * own + 0.15 * said + 0.05 * answered + 0.2 * heading).clamp(0.0, 1.0)
}

/// True for headings like "Example", "Full code sample", «Пример кода».
fn announces(heading: &[String]) -> bool {
    const WORDS: &str = "example examples code sample samples snippet listing full complete usage пример примеры код кода листинг полный использование использования";
    let known: Vec<String> = text::stems(WORDS);
    heading.iter().all(|stem| known.contains(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(id: &str, line: usize, code: &str, fit: f32) -> Candidate {
        let chunk = Chunk {
            id: id.into(),
            kind: SourceKind::Article,
            path: "articles/en/a.md".into(),
            line,
            title: "A".into(),
            headings: vec![id.into()],
            text: format!("Do {id}.\n\n[[code:1]]"),
            assets: vec![Asset::Code { n: 1, language: "php".into(), text: code.into() }],
            lang: "en".into(),
            operator: None,
            questions: vec![],
            tags: vec![],
        };
        Candidate {
            chunk: Arc::new(chunk),
            fit,
            doubts: vec![],
            own_names: Default::default(),
            cosine: None,
            evidence: Default::default(),
        }
    }

    #[test]
    fn neighbouring_steps_that_fit_equally_are_shown_together_in_their_order() {
        let (one, two, far) =
            (section("one", 1, "a();", 0.7), section("two", 9, "b();", 0.72), section("x", 20, "", 0.4));
        let shown = together(&two, &[&two, &one, &far], &Query::default());
        assert_eq!(shown.chunk.text, "Do one.\n\n[[code:1]]\n\n**two**\n\nDo two.\n\n[[code:2]]");
        let code = |at: usize| matches!(&shown.chunk.assets[at], Asset::Code { n, text, .. } if *n == at + 1 && text == ["a();", "b();"][at]);
        assert!(code(0) && code(1) && shown.chunk.id == "two");
        assert_eq!(together(&two, &[&two, &far], &Query::default()).chunk.text, two.chunk.text);
    }

    #[test]
    fn at_most_four_sections_are_shown_and_none_that_makes_it_long() {
        let named = |id: &str, line, code: &str| section(id, line, code, 0.7);
        let (one, two, three) = (named("1", 1, "a"), named("2", 2, "b"), named("3", 3, "c"));
        let (four, five) = (named("4", 4, "d"), named("5", 5, "e"));
        let query = Query::default();
        assert_eq!(together(&one, &[&two, &three, &four, &five], &query).chunk.assets.len(), 4);
        let long = named("long", 2, &"x();\n".repeat(6000));
        let shown = together(&one, &[&long, &three], &query);
        assert!(shown.chunk.text.contains("Do 3.") && !shown.chunk.text.contains("Do long."));
    }

    #[test]
    fn another_page_that_fits_as_well_is_shown_too_unless_it_has_the_same_code() {
        let on = |path: &str, code: &str, fit| {
            let mut other = section(path, 1, code, fit);
            Arc::make_mut(&mut other.chunk).path = path.into();
            other
        };
        let (best, near, same, far) = (on("a", "x", 0.7), on("b", "y", 0.65), on("c", "x", 0.69), on("d", "z", 0.5));
        let found =
            |others: &[&Candidate]| of_another_page(&best, others, &Query::default()).map(|c| c.chunk.path.clone());
        assert_eq!(found(&[&best, &near]), Some("b".into()));
        assert_eq!(found(&[&best, &same, &near]), None);
        assert_eq!(found(&[&best, &far]), None);
    }

    #[test]
    fn a_quoted_passage_brings_along_only_what_shows_code() {
        let mut prose = section("prose", 2, "", 0.69);
        Arc::make_mut(&mut prose.chunk).assets.clear();
        let (best, code) = (section("best", 1, "a", 0.7), section("code", 3, "b", 0.65));
        let findings = Findings { articles: vec![best.clone(), prose, code], ..Findings::default() };
        let shown = with_code_beside(&best, &findings, &Query::default());
        assert!(shown.chunk.text.contains("Do code.") && !shown.chunk.text.contains("Do prose."));
    }

    #[test]
    fn a_heading_that_announces_an_example_is_known_in_both_languages() {
        for heading in ["Example", "Full code sample", "Пример кода", "Примеры использования"]
        {
            assert!(announces(&text::stems(heading)), "{heading}");
        }
        assert!(!announces(&text::stems("Example of a refund")));
    }
}
