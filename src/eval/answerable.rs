//! Is the answer in here? How well the score that says so parts what the pack answers from near misses.
//!
//! A row is `{"text": "...", "lang": "en", "has": ["60 minutes"]}`: the right find holds one of these; without `has`
//! nothing in the pack answers it. Looked at is the best find of each question: is it right, and how sure were we?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::Share;
use crate::support::answerable::Signs;
use crate::support::{Support, SupportError, lexicon};

/// Bins of the reliability table.
const BINS: usize = 5;

#[derive(Debug, Clone, Deserialize)]
pub struct AnswerableRow {
    pub text: String,
    #[serde(default)]
    pub lang: String,
    #[serde(default)]
    pub has: Vec<String>,
    /// A beginning of the right source's id; any where there is none.
    #[serde(default)]
    pub source: String,
}

/// What came first for a question.
#[derive(Debug, Clone, Serialize)]
pub struct AnswerableResult {
    pub text: String,
    pub lang: String,
    pub answerable: bool,
    pub found: String,
    pub right: bool,
    pub sure: f32,
    pub signs: Signs,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct AnswerableReport {
    pub rows: Vec<AnswerableResult>,
}

/// Looks every question up.
///
/// # Errors
/// A search that fails.
pub fn run(support: &Support, rows: &[AnswerableRow]) -> Result<AnswerableReport, SupportError> {
    let snapshot = support.knowledge().snapshot();
    let mut report = AnswerableReport::default();
    for row in rows {
        let found = support.find(&row.text)?;
        let Some((best, signs)) = found.iter().find_map(|f| Some((f, f.signs?))) else { continue };
        let text = snapshot.chunk(&best.id).map(|c| lexicon::whole(&c)).unwrap_or_default();
        let answerable = !row.has.is_empty() || !row.source.is_empty();
        let right = answerable
            && best.id.starts_with(&row.source)
            && (row.has.is_empty() || row.has.iter().any(|h| text.contains(h.as_str())));
        report.rows.push(AnswerableResult {
            text: row.text.clone(),
            lang: row.lang.clone(),
            answerable,
            found: best.id.clone(),
            right,
            sure: signs.probability(),
            signs,
        });
    }
    Ok(report)
}

impl AnswerableReport {
    /// The figures as a table for people, by language.
    pub fn table(&self) -> String {
        let mut groups: BTreeMap<&str, Vec<&AnswerableResult>> = BTreeMap::new();
        for row in &self.rows {
            groups.entry("all").or_default().push(row);
            groups.entry(&row.lang).or_default().push(row);
        }
        let mut lines: Vec<String> = Vec::new();
        for (group, rows) in groups {
            let fit = area(&rows, |r| r.signs.fit);
            lines.push(format!(
                "{group:<5} {} rows; best find right {}; area under ROC by the score {:.3}, by the fit alone {fit:.3}",
                rows.len(),
                Share { part: rows.iter().filter(|r| r.right).count(), all: rows.len() },
                area(&rows, |r| r.sure)
            ));
            for bin in 0..BINS {
                let inside: Vec<_> =
                    rows.iter().filter(|r| ((r.sure * BINS as f32) as usize).min(BINS - 1) == bin).collect();
                let sure = inside.iter().map(|r| f64::from(r.sure)).sum::<f64>() / inside.len().max(1) as f64;
                let right = Share { part: inside.iter().filter(|r| r.right).count(), all: inside.len() };
                lines.push(format!("      said {sure:.2}, right {right}"));
            }
        }
        lines.join("\n")
    }
}

/// Probability that a right find scores above a wrong one (Mann and Whitney).
fn area(rows: &[&AnswerableResult], score: impl Fn(&AnswerableResult) -> f32) -> f64 {
    let (mut above, mut pairs) = (0.0, 0.0);
    for right in rows.iter().filter(|r| r.right) {
        for wrong in rows.iter().filter(|r| !r.right) {
            pairs += 1.0;
            above += match score(right).total_cmp(&score(wrong)) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    if pairs > 0.0 { above / pairs } else { 0.0 }
}
