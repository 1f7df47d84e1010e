//! Questions whose answer is known, and at which rank it is found: ours beside plain stemmed BM25.
//!
//! A row of such a file is `{"text": "...", "lang": "ru", "how": "typo", ...}` with one of
//! - `"faq": "How do I …?"`: the first wording of the right FAQ entry,
//! - `"source": "articles/ru/inbox.md"`: a beginning of the right source's id,
//! - `"documents": ["articles/a.md", …]`: all pages that are needed; counted is the share of them among the first ten.
//!
//! `how` says in which words it is asked (plain, colloquial, typo, layout, translit), and parts the table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bm25::Bm25;
use crate::kb::SourceKind;
use crate::stats::{Mean, Share};
use crate::support::{Found, Support, SupportError};

/// Pages among which needed documents are counted.
const AMONG: usize = 10;

/// A question with its right answer.
#[derive(Debug, Clone, Deserialize)]
pub struct LabelledQuestion {
    pub text: String,
    pub lang: String,
    #[serde(default)]
    pub how: String,
    pub faq: Option<String>,
    pub source: Option<String>,
    #[serde(default)]
    pub documents: Vec<String>,
}

/// At which rank (from 0) the right answer was found.
#[derive(Debug, Clone, Serialize)]
pub struct QuestionResult {
    pub text: String,
    pub how: String,
    pub kind: &'static str,
    pub expected: Vec<String>,
    pub rank: Option<usize>,
    pub bm25_rank: Option<usize>,
    /// Share of the expected among the first ten.
    pub recall: f64,
    pub bm25_recall: f64,
    /// What came first, with its fit.
    pub first: Option<(String, f32)>,
    /// The best finds, with what their fits were made of.
    pub found: Vec<Found>,
    pub milliseconds: f64,
}

/// All questions' results.
#[derive(Debug, Clone, Default, Serialize)]
pub struct QuestionReport {
    pub questions: Vec<QuestionResult>,
}

impl QuestionReport {
    /// The figures as a table for people, by kind of question and by wording.
    pub fn table(&self) -> String {
        let mut groups: BTreeMap<String, Vec<&QuestionResult>> = BTreeMap::new();
        for question in &self.questions {
            for group in [format!("{}, all", question.kind), format!("{}, {}", question.kind, question.how)] {
                groups.entry(group).or_default().push(question);
            }
        }
        let mut lines: Vec<String> = groups.iter().map(|(group, of)| line(group, of)).collect();
        let mut times: Vec<f64> = self.questions.iter().map(|q| q.milliseconds).collect();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        lines.push(format!("a look-up takes {:.1} ms (median), {:.1} ms (99 %)", at(0.5), at(0.99)));
        lines.join("\n")
    }
}

fn line(group: &str, of: &[&QuestionResult]) -> String {
    if of.iter().any(|q| q.kind == "documents") {
        let ours = Mean::of(of.iter().map(|q| q.recall));
        let gain = Mean::of(of.iter().map(|q| q.recall - q.bm25_recall));
        let baseline = Mean::of(of.iter().map(|q| q.bm25_recall));
        return format!("{group:<26} recall at {AMONG} {ours}   (BM25 {baseline}; paired gain {gain})");
    }
    let share = |hit: &dyn Fn(&QuestionResult) -> bool| {
        let mut share = Share::default();
        of.iter().for_each(|q| share.count(hit(q)));
        share
    };
    format!(
        "{group:<26} right first {}   among five {}   (BM25 {:.3}, {:.3})",
        share(&|q| q.rank == Some(0)),
        share(&|q| q.rank.is_some_and(|r| r < 5)),
        share(&|q| q.bm25_rank == Some(0)).value(),
        share(&|q| q.bm25_rank.is_some_and(|r| r < 5)).value()
    )
}

/// The baseline over one part of the knowledge: names in the order of its texts.
struct Baseline {
    names: Vec<String>,
    ranking: Bm25,
}

/// Looks every question up.
///
/// # Errors
/// A search that fails.
pub fn run(support: &Support, questions: &[LabelledQuestion]) -> Result<QuestionReport, SupportError> {
    let mut baselines: BTreeMap<(String, &'static str), Baseline> = BTreeMap::new();
    let mut report = QuestionReport::default();
    for question in questions {
        let (kind, expected) = match question {
            LabelledQuestion { faq: Some(faq), .. } => ("FAQ", vec![format!("faq:{faq}")]),
            LabelledQuestion { source: Some(source), .. } => ("other sources", vec![source.clone()]),
            _ => ("documents", question.documents.clone()),
        };
        let baseline = baselines
            .entry((question.lang.clone(), kind))
            .or_insert_with(|| Baseline::of(support, &question.lang, kind));
        let began = std::time::Instant::now();
        let found: Vec<Found> = support.find(&question.text)?.into_iter().filter(|f| belongs(f.kind, kind)).collect();
        let milliseconds = began.elapsed().as_secs_f64() * 1e3;
        let names = distinct(found.iter().map(|f| name_of(&f.id, f.kind, &f.title)));
        let plain = distinct(baseline.ranking.rank(&question.text).into_iter().map(|at| baseline.names[at].clone()));
        let right = |name: &String| match kind {
            "other sources" => name.starts_with(&expected[0]),
            _ => expected.contains(name),
        };
        let recall = |names: &[String]| {
            names.iter().take(AMONG).filter(|n| right(n)).count() as f64 / expected.len().max(1) as f64
        };
        report.questions.push(QuestionResult {
            text: question.text.clone(),
            how: question.how.clone(),
            kind,
            rank: names.iter().position(right),
            bm25_rank: plain.iter().position(right),
            recall: recall(&names),
            bm25_recall: recall(&plain),
            first: names.first().map(|name| (name.clone(), found[0].fit)),
            expected,
            found: found.into_iter().take(5).collect(),
            milliseconds,
        });
    }
    Ok(report)
}

fn belongs(source: SourceKind, kind: &str) -> bool {
    match kind {
        "FAQ" => source == SourceKind::Faq,
        "documents" => source == SourceKind::Article,
        _ => source != SourceKind::Faq,
    }
}

impl Baseline {
    /// FAQ entries and places one by one; pages whole where documents are wanted, else by their sections.
    fn of(support: &Support, lang: &str, kind: &str) -> Self {
        let snapshot = support.knowledge().snapshot();
        let mut texts: Vec<(String, String)> = Vec::new();
        let chunks = snapshot.chunks().iter().filter(|c| c.lang == lang && c.operator.is_none());
        for chunk in chunks.filter(|c| belongs(c.kind, kind)) {
            let name = name_of(&chunk.id, chunk.kind, &chunk.title);
            let text = format!("{}\n{}\n{}", chunk.headings.join("\n"), chunk.questions.join("\n"), chunk.text);
            match texts.last_mut().filter(|(last, _)| kind == "documents" && *last == name) {
                Some((_, page)) => page.push_str(&text),
                None => texts.push((name, format!("{}\n{text}", chunk.title))),
            }
        }
        let (names, texts): (Vec<String>, Vec<String>) = texts.into_iter().unzip();
        Self { names, ranking: Bm25::of(&texts, lang) }
    }
}

/// What counts as one answer: a FAQ entry by its question, a place by its id, a page by its path.
fn name_of(id: &str, kind: SourceKind, title: &str) -> String {
    match kind {
        SourceKind::Faq => format!("faq:{title}"),
        SourceKind::Article => id.split('#').next().unwrap_or(id).split('~').next().unwrap_or(id).to_string(),
        _ => id.to_string(),
    }
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    names.for_each(|name| {
        if !kept.contains(&name) {
            kept.push(name);
        }
    });
    kept
}
