//! Which section of a page shows the code that is asked for.
//!
//! A page comes up by its opening or by a neighbouring step, while its code stands elsewhere ("Example", "2. Get the
//! stage"). So all sections with code of the pages that were found are compared: by how well their page fits, by their
//! own heading, and by what they say.

use std::collections::HashMap;

use super::fit::{Candidate, Findings, has_code};
use super::lexicon::{Lexicon, Sheet};
use super::retrieve::Query;
use super::{fences, text};

/// Pages are left out whose best section fits by this much less than the best page's.
const FAR: f32 = 0.2;
/// Most pages whose sections are compared.
const PAGES: usize = 6;
/// What a heading that only announces an example counts, beside one that the question covers in full.
const ANNOUNCED: f32 = 0.7;
/// The same for what stands before the first heading.
const OPENING: f32 = 0.45;
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
            let fit = fit(query, page, own, lexicon.sheet(&chunk.id)?, lexicon);
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

fn fit(query: &Query, page: &Candidate, own: Option<&Candidate>, sheet: &Sheet, lexicon: &Lexicon) -> f32 {
    let said = query.terms.share(&query.terms.parts_in(&sheet.all));
    let answered = query.terms.share_of_other(&sheet.head, lexicon);
    let heading = match sheet.own_head.is_empty() {
        true => OPENING,
        false if announces(&sheet.own_head) => ANNOUNCED,
        false => query.terms.share_of_other(&sheet.own_head, lexicon),
    };
    let own = own.map_or(page.fit * UNSEEN, |c| c.fit);
    (0.35 * page.fit + 0.2 * own + 0.15 * said + 0.1 * answered + 0.2 * heading).clamp(0.0, 1.0)
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

    #[test]
    fn a_heading_that_announces_an_example_is_known_in_both_languages() {
        for heading in ["Example", "Full code sample", "Пример кода", "Примеры использования"]
        {
            assert!(announces(&text::stems(heading)), "{heading}");
        }
        assert!(!announces(&text::stems("Example of a refund")));
    }
}
