//! How a filter did on one set, and the table that people and `diff` read.

use super::measure::{self, Counts, Figure, Scored};

/// Rates of false alarms in the trade-off table.
const RATES: [f64; 6] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05];

/// A filter's verdict on a row: its score, whether it fired at the pack's threshold, and the peer's score.
#[derive(Debug, Clone, Copy)]
pub struct Judged {
    pub ours: f32,
    pub fired: bool,
    pub peer: f32,
    /// The peer's own threshold, where it has one.
    pub peer_fired: bool,
    pub truth: bool,
}

/// One line of figures: ours beside the peer's.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Line {
    pub what: String,
    pub ours: Option<Figure>,
    pub peer: Option<Figure>,
}

/// A filter on one set.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    pub filter: String,
    pub set: String,
    /// "40 wishes for a person, 1426 other messages"
    pub rows: String,
    pub peer: String,
    pub lines: Vec<Line>,
    /// (rate of false alarms, threshold, our recall, the peer's recall)
    pub trade_off: Vec<(f64, f32, f64, f64)>,
    /// Messages that were judged wrongly at the pack's threshold.
    pub mistakes: Vec<String>,
}

impl Report {
    /// A line computed by `figure` on our scores and on the peer's, each with a bootstrap interval.
    pub fn scored(&mut self, what: &str, rows: &[Judged], figure: impl Fn(&[Scored]) -> Option<f64>) {
        let of = |score: fn(&Judged) -> f32| {
            let scored: Vec<Scored> = rows.iter().map(|r| Scored { score: score(r), truth: r.truth }).collect();
            measure::bootstrap(&scored, &figure)
        };
        self.lines.push(Line { what: what.into(), ours: of(|r| r.ours), peer: of(|r| r.peer) });
    }

    /// F1 at the thresholds as they are.
    pub fn f1(&mut self, what: &str, rows: &[Judged]) {
        let of = |fired: fn(&Judged) -> bool| {
            measure::bootstrap(rows, |rows| Some(Counts::of(rows.iter().map(|r| (fired(r), r.truth))).f1()))
        };
        self.lines.push(Line { what: what.into(), ours: of(|r| r.fired), peer: of(|r| r.peer_fired) });
    }

    /// Share of the rows of one truth that fire at the thresholds as they are.
    pub fn fires(&mut self, what: &str, rows: &[Judged], truth: bool) {
        let of = |fired: fn(&Judged) -> bool| {
            let kind: Vec<&Judged> = rows.iter().filter(|r| r.truth == truth).collect();
            measure::wilson(kind.iter().filter(|r| fired(r)).count(), kind.len())
        };
        self.lines.push(Line { what: what.into(), ours: Some(of(|r| r.fired)), peer: Some(of(|r| r.peer_fired)) });
    }

    /// The table of recall by rate of false alarms.
    pub fn trade_off(&mut self, rows: &[Judged]) {
        let of = |score: fn(&Judged) -> f32| -> Vec<Scored> {
            rows.iter().map(|r| Scored { score: score(r), truth: r.truth }).collect()
        };
        let (ours, peer) = (of(|r| r.ours), of(|r| r.peer));
        self.trade_off = RATES
            .iter()
            .filter_map(|&rate| {
                let (mine, theirs) = (measure::recall_at(&ours, rate)?, measure::recall_at(&peer, rate)?);
                Some((rate, measure::threshold_at(&ours, rate), mine, theirs))
            })
            .collect();
    }

    /// The report as text: fixed columns, nothing that changes from run to run.
    pub fn table(&self) -> String {
        let shown = |figure: &Option<Figure>| figure.map_or("-".to_string(), |f| f.to_string());
        let mut text = format!("{}: {}\n  {}\n", self.filter, self.set, self.rows);
        text += &format!("  {:<46} {:<22} {}\n", "", "firstline", self.peer);
        for line in &self.lines {
            text += &format!("  {:<46} {:<22} {}\n", line.what, shown(&line.ours), shown(&line.peer));
        }
        if !self.trade_off.is_empty() {
            text += "  trade-off: false alarms   threshold   recall   its recall\n";
        }
        for (rate, threshold, ours, peer) in &self.trade_off {
            text += &format!(
                "             {:>9.1} %      {threshold:>6.3}   {ours:>6.3}       {peer:>6.3}\n",
                rate * 100.0
            );
        }
        for mistake in &self.mistakes {
            text += &format!("  {mistake}\n");
        }
        text
    }
}
