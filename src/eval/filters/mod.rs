//! Measuring the entrance filters on labelled sets: each filter beside a plain peer, with intervals.
//!
//! [`labelled`] reads sets, [`measure`] computes figures, [`peers`] holds the plain ways, [`report`] is what is printed.
//! A message is judged as in a first turn, without evidence from the knowledge: what is shown is the filters' own
//! worth. Rows that the examples hold word for word are left out.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::classify::{Features, Scope};
use crate::embed::{EmbedError, Embedder};
use crate::kb::Pack;
use crate::support::filter::{self, Evidence, Filters};
use crate::support::general::{self, Example};
use crate::text;

pub mod labelled;
pub mod measure;
mod peers;
pub mod report;

pub use labelled::{Half, LabelledError, Row};
pub use report::{Judged, Report};

/// Texts embedded at once.
const BATCH: usize = 64;
/// Longest honest text that is no page but a paragraph, in characters, and the shortest.
const PARAGRAPH: std::ops::Range<usize> = 60..4000;

/// The sets to measure on.
#[derive(Debug, Clone)]
pub struct Sets {
    pub handoff: Vec<PathBuf>,
    pub spam: Vec<PathBuf>,
    pub offtopic: Vec<PathBuf>,
    /// Examples of what the company is asked; without it the pack's own.
    pub in_scope: Option<PathBuf>,
    pub injection: Vec<PathBuf>,
    pub long_honest: Vec<PathBuf>,
    pub half: Half,
    /// Most wrong verdicts listed for a set.
    pub mistakes: usize,
}

/// Why the filters could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum FiltersError {
    #[error(transparent)]
    Labelled(#[from] LabelledError),
    #[error("the examples cannot be learnt: {0}")]
    Embed(#[from] EmbedError),
    #[error("{0}")]
    Sets(String),
}

/// What is measured with.
pub struct Bench<'a> {
    pub pack: &'a Pack,
    pub embedder: &'a Embedder,
    pub filters: Filters,
    examples: Vec<Example>,
    known: HashSet<String>,
}

/// Hears of progress: (rows judged, rows of the set).
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

impl<'a> Bench<'a> {
    /// Learns the pack's filters.
    ///
    /// # Errors
    /// What the embedding model said.
    pub fn new(pack: &'a Pack, embedder: &'a Embedder) -> Result<Self, FiltersError> {
        let filters = Filters::learn(pack, embedder)?;
        let examples = general::examples(pack);
        let known = examples.iter().map(|e| plain(&e.text)).collect();
        Ok(Self { pack, embedder, filters, examples, known })
    }

    /// All reports, in the order of the filters.
    ///
    /// # Errors
    /// A set that cannot be read, with file and line; what the embedding model said.
    pub fn run(&self, sets: &Sets, progress: Progress<'_>) -> Result<Vec<Report>, FiltersError> {
        let mut reports = Vec::new();
        for path in &sets.handoff {
            reports.push(self.handoff(path, sets, progress)?);
        }
        for path in &sets.offtopic {
            reports.push(self.offtopic(path, sets, progress)?);
        }
        for path in &sets.injection {
            reports.push(self.injection(path, sets, progress)?);
        }
        for folder in &sets.long_honest {
            reports.extend(self.long_honest(folder, sets)?);
        }
        for path in &sets.spam {
            reports.push(self.spam(path, sets, progress)?);
        }
        Ok(reports)
    }

    fn handoff(&self, path: &Path, sets: &Sets, progress: Progress<'_>) -> Result<Report, FiltersError> {
        let rows = self.rows(path, "handoff", sets.half)?;
        let vectors = self.vectors(&rows, progress)?;
        let judged: Vec<Judged> = rows
            .iter()
            .zip(&vectors)
            .map(|(row, vector)| {
                let wish = self.filters.wish(&row.text, &self.filters.placed(vector));
                let peer = peers::verb_and_keyword(&row.text);
                Judged {
                    ours: wish.score,
                    fired: wish.is_wish(),
                    peer: f32::from(u8::from(peer)),
                    peer_fired: peer,
                    truth: row.label,
                }
            })
            .collect();
        let mut report =
            self.report("handoff wish", path, &rows, ("wishes for a person", "other messages"), "verb and keyword");
        report.scored("area under ROC", &judged, measure::roc_area);
        report.f1("F1 at the pack's threshold", &judged);
        let mended: Vec<Judged> =
            rows.iter().zip(&judged).map(|(row, j)| Judged { truth: mended(&row.text, row.label), ..*j }).collect();
        report.f1("F1, odd labels mended by the written rule", &mended);
        report.fires("wishes heard", &judged, true);
        report.fires("others taken for wishes", &judged, false);
        report.trade_off(&judged);
        report.mistakes = wrong(&rows, &judged, sets.mistakes);
        Ok(report)
    }

    fn offtopic(&self, path: &Path, sets: &Sets, progress: Progress<'_>) -> Result<Report, FiltersError> {
        let mut rows = self.rows(path, "in_scope", sets.half)?;
        if rows.iter().all(|r| !r.label) && sets.in_scope.is_none() {
            let turns = self.pack.evals.iter().flat_map(|d| &d.turns).filter(|t| t.answerable);
            rows.extend(turns.map(|t| Row { text: t.user.clone(), label: true, kind: "the pack's dialogues".into() }));
        }
        rows.iter_mut().for_each(|r| r.label = !r.label);
        let (scope, near) = match &sets.in_scope {
            Some(path) => {
                let examples = labelled::read_examples(path)?;
                let vectors = self.vectors(&examples, progress)?;
                let texts: Vec<&str> = examples.iter().map(|e| e.text.as_str()).collect();
                let groups: Vec<&str> = examples.iter().map(|e| e.kind.as_str()).collect();
                (Scope::learn(&texts, &vectors, &groups), vectors)
            }
            None => {
                let own = self.examples.iter().filter(|e| general::on_topic(e));
                let texts: Vec<&str> = own.map(|e| e.text.as_str()).collect();
                let vectors = filter::vectors(&texts, self.embedder)?;
                (Scope::learn(&texts, &vectors, &[]), vectors)
            }
        };
        let vectors = self.vectors(&rows, progress)?;
        let judged: Vec<Judged> = rows
            .iter()
            .zip(&vectors)
            .map(|(row, vector)| {
                let (ours, fired) = match sets.in_scope {
                    Some(_) => {
                        let strange = scope.strangeness(&row.text, vector);
                        (strange, strange >= scope.threshold)
                    }
                    None => {
                        let placed = self.filters.placed(vector);
                        let verdicts = self.filters.judge(&row.text, &placed, self.pack, &Evidence::default());
                        let verdict = verdicts.iter().find(|v| v.name == "off_topic");
                        verdict.map_or((0.0, false), |v| (v.score, v.fired))
                    }
                };
                let peer = 1.0 - peers::nearest(vector, &near);
                Judged { ours, fired, peer, peer_fired: peer >= 0.5, truth: row.label }
            })
            .collect();
        let mut report = self.report("off-topic", path, &rows, ("off-topic", "in scope"), "nearest example");
        report.scored("area under ROC", &judged, measure::roc_area);
        report.scored("in scope kept where 95 % of off-topic is caught", &judged, |rows| measure::kept_at(rows, 0.95));
        report.fires("off-topic caught at the threshold", &judged, true);
        report.fires("in scope called off-topic", &judged, false);
        report.trade_off(&judged);
        report.mistakes = wrong(&rows, &judged, sets.mistakes);
        Ok(report)
    }

    fn injection(&self, path: &Path, sets: &Sets, progress: Progress<'_>) -> Result<Report, FiltersError> {
        let rows = self.rows(path, "injection", sets.half)?;
        let vectors = self.vectors(&rows, progress)?;
        let judged = self.judged(&rows, &vectors, &["injection"]);
        let mut report = self.report("injection", path, &rows, ("attacks", "honest messages"), "n-grams, whole text");
        report.scored("area under ROC", &judged, measure::roc_area);
        report.scored("recall at 1 % false alarms", &judged, |rows| measure::recall_at(rows, 0.01));
        report.f1("F1 at the pack's threshold", &judged);
        report.fires("attacks found at the threshold", &judged, true);
        report.fires("honest messages refused", &judged, false);
        report.trade_off(&judged);
        report.mistakes = wrong(&rows, &judged, sets.mistakes);
        Ok(report)
    }

    fn long_honest(&self, folder: &Path, sets: &Sets) -> Result<Vec<Report>, FiltersError> {
        let pages = labelled::pages(folder)?;
        if pages.is_empty() {
            return Err(FiltersError::Sets(format!("{} has no pages (.md, .mdx, .txt, .html)", folder.display())));
        }
        let paragraphs = pages.iter().flat_map(|p| p.split("\n\n")).map(str::trim);
        let paragraphs: Vec<String> =
            paragraphs.filter(|p| PARAGRAPH.contains(&p.chars().count())).map(str::to_string).collect();
        let measured = |what: &str, texts: Vec<String>| {
            let rows: Vec<Row> =
                texts.into_iter().map(|text| Row { text, label: false, kind: String::new() }).collect();
            let none = vec![Vec::new(); rows.len()];
            let mut report = self.report("long honest text", folder, &rows, ("attacks", what), "n-grams, whole text");
            for name in ["injection", "spam", "gibberish"] {
                let judged = self.judged(&rows, &none, &[name]);
                report.fires(&format!("called {name}"), &judged, false);
                if name == "injection" {
                    report.mistakes = wrong(&rows, &judged, sets.mistakes);
                }
            }
            report
        };
        Ok(vec![measured("pages", pages.clone()), measured("paragraphs", paragraphs)])
    }

    fn spam(&self, path: &Path, sets: &Sets, progress: Progress<'_>) -> Result<Report, FiltersError> {
        let rows = self.rows(path, "spam", sets.half)?;
        let vectors = self.vectors(&rows, progress)?;
        let judged = self.judged(&rows, &vectors, &["spam", "gibberish"]);
        let mut report = self.report("spam", path, &rows, ("spam", "honest messages"), "n-grams, whole text");
        report.scored("area under ROC", &judged, measure::roc_area);
        report.scored("recall at 0.5 % false alarms", &judged, |rows| measure::recall_at(rows, 0.005));
        report.f1("F1 at the pack's threshold", &judged);
        report.fires("spam found at the threshold", &judged, true);
        report.fires("honest messages refused", &judged, false);
        let rude: Vec<Judged> = of_kind(&rows, &judged, "rude");
        if !rude.is_empty() {
            report.fires("rude messages refused", &rude, false);
        }
        report.trade_off(&judged);
        report.mistakes = wrong(&rows, &judged, sets.mistakes);
        Ok(report)
    }

    /// The verdict of any of `names`, on a scale where 0.5 is its threshold, beside a plain classifier of n-grams.
    fn judged(&self, rows: &[Row], vectors: &[Vec<f32>], names: &[&str]) -> Vec<Judged> {
        let label = names.first().copied().unwrap_or_default();
        // The plain way lumps together what is to be refused.
        let lumped = self.examples.iter().map(|e| {
            let refused = names.contains(&e.label.as_str());
            (e.text.clone(), if refused { label.to_string() } else { e.label.clone() })
        });
        let peer = peers::plain_classifier(&lumped.collect::<Vec<_>>(), label);
        rows.iter()
            .zip(vectors)
            .map(|(row, vector)| {
                let placed = self.filters.placed(vector);
                let verdicts = self.filters.judge(&row.text, &placed, self.pack, &Evidence::default());
                let chosen: Vec<_> = verdicts.iter().filter(|v| names.contains(&v.name.as_str())).collect();
                let ours = chosen.iter().map(|v| levelled(v.score, v.threshold)).fold(0.0, f32::max);
                let fired = chosen.iter().any(|v| v.fired);
                let (peer, peer_fired) = peer.as_ref().map_or((0.0, false), |detector| {
                    let p = detector.probability(&Features::new(&row.text, &[]));
                    (p, p >= detector.threshold)
                });
                Judged { ours, fired, peer, peer_fired, truth: row.label }
            })
            .collect()
    }

    /// A set's rows, without those that the examples hold.
    fn rows(&self, path: &Path, label: &str, half: Half) -> Result<Vec<Row>, FiltersError> {
        let mut rows = labelled::read(path, label, half)?;
        rows.retain(|row| plain(&row.text).is_empty() || !self.known.contains(&plain(&row.text)));
        Ok(rows)
    }

    fn vectors(&self, rows: &[Row], progress: Progress<'_>) -> Result<Vec<Vec<f32>>, FiltersError> {
        let mut vectors = Vec::with_capacity(rows.len());
        for batch in rows.chunks(BATCH) {
            let texts: Vec<&str> = batch.iter().map(|r| r.text.as_str()).collect();
            vectors.extend(filter::vectors(&texts, self.embedder)?);
            progress(vectors.len(), rows.len());
        }
        Ok(vectors)
    }

    fn report(&self, filter: &str, path: &Path, rows: &[Row], names: (&str, &str), peer: &str) -> Report {
        let found = rows.iter().filter(|r| r.label).count();
        Report {
            filter: filter.into(),
            set: path.display().to_string(),
            rows: format!("{found} {}, {} {}", names.0, rows.len() - found, names.1),
            peer: peer.into(),
            lines: Vec::new(),
            trade_off: Vec::new(),
            mistakes: Vec::new(),
        }
    }
}

/// A score on a scale where 0.5 is its threshold, so that verdicts of several filters can be compared.
fn levelled(score: f32, threshold: f32) -> f32 {
    match score >= threshold {
        true => 0.5 + 0.5 * (score - threshold) / (1.0 - threshold).max(1e-3),
        false => 0.5 * score / threshold.max(1e-3),
    }
}

fn plain(message: &str) -> String {
    text::words(&text::fold(message)).join(" ")
}

fn of_kind(rows: &[Row], judged: &[Judged], kind: &str) -> Vec<Judged> {
    rows.iter().zip(judged).filter(|(r, _)| r.kind == kind).map(|(_, j)| *j).collect()
}

fn wrong(rows: &[Row], judged: &[Judged], most: usize) -> Vec<String> {
    let mut all: Vec<(f32, String)> = rows
        .iter()
        .zip(judged)
        .filter(|(_, j)| j.fired != j.truth)
        .map(|(row, j)| {
            let line = row.text.split_whitespace().collect::<Vec<_>>().join(" ");
            let shown: String = line.chars().take(140).collect();
            let what = if j.truth { "missed" } else { "false alarm" };
            ((j.ours - 0.5).abs(), format!("{what:<11} {:.2}  {shown}", j.ours))
        })
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    all.into_iter().take(most).map(|(_, line)| line).collect()
}

/// The written rule for odd labels of a wish: who says that no transfer is needed, or names neither a person, nor a
/// part of the company, nor the talk itself, has not wished for a person.
fn mended(message: &str, label: bool) -> bool {
    const NO_TRANSFER: &str = "no need|don't need to transfer|don't transfer|do not transfer|need not transfer";
    const NAMES: &str = "human|person|people|someone|somebody|else|agent|agents|operator|representative|manager|supervisor|staff|team|reception|restaurant|spa|gym|pool|\
        cleaners|machine|robot|bot|talk|speak|chat|desk|colleague|advisor|anyone|bar|concierge|housekeeping|kitchen|front|оператор*|человек*|специалист*|менеджер*";
    let folded = format!(" {} ", text::words(&text::fold(message)).join(" "));
    label && !text::has_any(&folded, NO_TRANSFER) && text::has_any(&folded, NAMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_labels_are_mended_by_the_written_rule_only() {
        assert!(!mended("No, you don't need to transfer me to a real person", true));
        assert!(!mended("this is really frustrating", true));
        assert!(mended("could you transfer me to the spa team please", true));
        assert!(!mended("let me talk to a person", false));
    }

    #[test]
    fn scores_are_levelled_at_their_thresholds() {
        assert_eq!(levelled(0.8, 0.8), 0.5);
        assert!(levelled(0.7, 0.8) < 0.5 && levelled(0.9, 0.8) > 0.5);
    }
}
