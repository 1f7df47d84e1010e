//! A run as one HTML page without scripts: how to get it again, the figures and the differences as plots, the plays
//! that changed between versions or went wrong.

use std::fmt::Write;

use super::versions::{Changed, Comparison, Difference, Exchange, Verdict};
use super::{DialogueResult, EvalReport};
use crate::stats::Share;

/// What a reader needs to get the same figures again.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Provenance {
    /// Whose versions are compared; empty: the pack as it is served.
    pub operator: String,
    pub seed: u64,
    pub chat_model: String,
    pub chat_model_hash: String,
    pub embed_model_hash: String,
    /// The pack's git commit, with a `+` where files differ from it; its digest where there is no git.
    pub pack: String,
    pub program: String,
    pub command: String,
}

impl Provenance {
    /// One line for the terminal.
    pub fn line(&self) -> String {
        format!(
            "seed {}; pack {}; chat model {} {}; embedding model {}; {}",
            self.seed, self.pack, self.chat_model, self.chat_model_hash, self.embed_model_hash, self.program
        )
    }
}

const STYLE: &str = include_str!("page.css");

/// The page. `reports`: each version's name with its results; empty name: as served.
pub fn page(reports: &[(String, &EvalReport)], comparisons: &[Comparison], provenance: &Provenance) -> String {
    let title = match provenance.operator.as_str() {
        "" => "How the plays went".to_string(),
        operator => format!("Versions of {}", escape(operator)),
    };
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><h1>{title}</h1>"
    );
    for comparison in comparisons {
        html += &compared(comparison);
    }
    html += &figures(reports);
    for comparison in comparisons {
        html += &changes(comparison);
    }
    if let [(_, report)] = reports {
        html += &wrong(report);
    }
    html + &origin(provenance) + "</body></html>\n"
}

fn origin(p: &Provenance) -> String {
    let seed = p.seed.to_string();
    let rows = [
        ("command", &p.command),
        ("seed", &seed),
        ("pack", &p.pack),
        ("chat model", &p.chat_model),
        ("its hash", &p.chat_model_hash),
        ("embedding model's hash", &p.embed_model_hash),
        ("program", &p.program),
    ];
    let rows: String =
        rows.iter().map(|(n, v)| format!("<tr><th>{n}</th><td><code>{}</code></td></tr>", escape(v))).collect();
    format!("<h2>To get the same again</h2><table class=\"origin\">{rows}</table>")
}

/// Every share of each version, as a point with its interval.
fn figures(reports: &[(String, &EvalReport)]) -> String {
    let Some((_, first)) = reports.first() else { return String::new() };
    let head: String = reports.iter().map(|(name, _)| format!("<th class=\"n\">{}</th>", shown(name))).collect();
    let mut html = format!("<h2>Figures</h2><table><tr><th></th>{head}</tr>");
    let all: Vec<_> = reports.iter().map(|(_, report)| report.shares()).collect();
    for (at, (name, _, unit)) in first.shares().iter().enumerate() {
        let cells: String = all.iter().map(|shares| format!("<td class=\"n\">{}</td>", cell(shares[at].1))).collect();
        let _ = write!(html, "<tr><th>{name} <span class=\"faint\">{unit}</span></th>{cells}</tr>");
    }
    let plain = |name: &str, value: &dyn Fn(&EvalReport) -> String| {
        let cells: String =
            reports.iter().map(|(_, report)| format!("<td class=\"n\">{}</td>", value(report))).collect();
        format!("<tr><th>{name}</th>{cells}</tr>")
    };
    html += &plain("unsupported facts", &|r| r.unsupported().len().to_string());
    html += &plain("tone faults", &|r| r.tone().len().to_string());
    html += &plain("a turn takes, median", &|r| format!("{:.3} s", r.turn_seconds().0));
    html + "</table>" + &points(reports)
}

fn cell(share: Share) -> String {
    if share.all == 0 {
        return "–".into();
    }
    let (low, high) = share.interval();
    format!(
        "{:.1} % <span class=\"faint\">{:.1} to {:.1}; {} of {}</span>",
        100.0 * share.value(),
        100.0 * low,
        100.0 * high,
        share.part,
        share.all
    )
}

const COLOURS: [&str; 4] = ["#2f6fde", "#c2570c", "#0b7a43", "#7b3fb5"];

/// Shares on a line from 0 to 1, a colour for each version.
fn points(reports: &[(String, &EvalReport)]) -> String {
    let Some((_, first)) = reports.first() else { return String::new() };
    let names: Vec<&str> = first.shares().iter().map(|(name, ..)| *name).collect();
    let (left, width, row) = (230.0, 500.0, 22.0 + 12.0 * reports.len() as f64);
    let x = |value: f64| left + width * value;
    let height = row * names.len() as f64 + 26.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 780 {height}\" role=\"img\" aria-label=\"Shares with their intervals\" font-size=\"13\">"
    );
    for mark in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let _ = write!(
            svg,
            "<line x1=\"{0}\" x2=\"{0}\" y1=\"0\" y2=\"{1}\" stroke=\"#e3e7ee\"/>\
             <text x=\"{0}\" y=\"{2}\" text-anchor=\"middle\" fill=\"#68717f\">{3:.0} %</text>",
            x(mark),
            height - 24.0,
            height - 8.0,
            100.0 * mark
        );
    }
    for (at, name) in names.iter().enumerate() {
        let top = row * at as f64;
        let _ = write!(svg, "<text x=\"0\" y=\"{}\" fill=\"#1d2430\">{name}</text>", top + row / 2.0 + 4.0);
        for (version, (_, report)) in reports.iter().enumerate() {
            let share = report.shares()[at].1;
            if share.all == 0 {
                continue;
            }
            let ((low, high), colour) = (share.interval(), COLOURS[version % COLOURS.len()]);
            let y = top + row / 2.0 + 12.0 * (version as f64 - (reports.len() as f64 - 1.0) / 2.0);
            let _ = write!(
                svg,
                "<line x1=\"{}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"2.5\" \
                 stroke-linecap=\"round\"/><circle cx=\"{}\" cy=\"{y}\" r=\"4.5\" fill=\"{colour}\"/>",
                x(low),
                x(high),
                x(share.value())
            );
        }
    }
    let legend: String = reports
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| !name.is_empty())
        .map(|(n, (name, _))| {
            format!("<span style=\"color:{}\">● {}</span> ", COLOURS[n % COLOURS.len()], escape(name))
        })
        .collect();
    format!("{svg}</svg><p class=\"legend\">{legend}</p>")
}

fn compared(comparison: &Comparison) -> String {
    let (first, second) = (escape(&comparison.first), escape(&comparison.second));
    let (class, said) = match comparison.verdict() {
        Verdict::Better => ("better", format!("{second} is better than {first}")),
        Verdict::Worse => ("worse", format!("{second} is worse than {first}")),
        Verdict::NotTold => ("faint", format!("no difference between {first} and {second} is shown")),
    };
    let mut html = format!(
        "<h2>{second} against {first}</h2><p class=\"verdict {class}\">{said}</p><p class=\"faint\">By “{}” over {} \
         plays. Paired bootstrap over plays, 95 % intervals, seed {}.</p>",
        comparison.differences.first().map_or("", |d| d.measure),
        comparison.dialogues,
        comparison.seed
    );
    html += &plot(&comparison.differences);
    let _ = write!(
        html,
        "<table><tr><th></th><th class=\"n\">{first}</th><th class=\"n\">{second}</th><th class=\"n\">difference</th>\
         <th class=\"n\">95 %</th></tr>"
    );
    for d in &comparison.differences {
        if !d.measured {
            let _ = write!(
                html,
                "<tr><th>{}</th><td class=\"n faint\" colspan=\"4\">nothing to measure it by</td></tr>",
                d.measure
            );
            continue;
        }
        let class = match d.verdict() {
            Verdict::Better => "n better",
            Verdict::Worse => "n worse",
            Verdict::NotTold => "n",
        };
        let i = d.difference;
        let _ = write!(
            html,
            "<tr><th>{}</th><td class=\"n\">{:.3}</td><td class=\"n\">{:.3}</td><td class=\"{class}\">{:+.3}</td>\
             <td class=\"{class}\">{:+.3} to {:+.3}</td></tr>",
            d.measure, d.first, d.second, i.value, i.low, i.high
        );
    }
    html + "</table>"
}

fn changes(comparison: &Comparison) -> String {
    let (first, second) = (escape(&comparison.first), escape(&comparison.second));
    let mut html = format!("<h2>Plays that changed from {first} to {second}: {}</h2>", comparison.changed.len());
    for play in &comparison.changed {
        html += &change(play, [&first, &second]);
    }
    html
}

fn change(play: &Changed, versions: [&str; 2]) -> String {
    let mark = |correct: bool| if correct { "right" } else { "wrong" };
    let class = match (play.first_correct, play.second_correct) {
        (true, false) => "worse",
        (false, true) => "better",
        _ => "faint",
    };
    let mut html = format!(
        "<details><summary>{} <span class=\"{class}\">{} → {}</span></summary>",
        escape(&play.id),
        mark(play.first_correct),
        mark(play.second_correct)
    );
    for turn in &play.turns {
        html += "<div class=\"pair\">";
        for (version, said) in versions.iter().zip([&turn.first, &turn.second]) {
            let said = said.as_ref().map_or_else(|| "<p class=\"faint\">it was over</p>".to_string(), exchange);
            let _ = write!(html, "<div><span class=\"faint\">{version}</span>{said}</div>");
        }
        html += "</div>";
    }
    html + "</details>"
}

fn exchange(said: &Exchange) -> String {
    format!(
        "<p><b>{}</b></p><pre>{}</pre><span class=\"faint\">{}, {}</span>",
        escape(&said.user),
        escape(&said.answer),
        escape(&said.action),
        escape(&said.kind)
    )
}

/// What did not go as it should, turn by turn.
fn wrong(report: &EvalReport) -> String {
    let wrong: Vec<&DialogueResult> = report.dialogues.iter().filter(|d| !d.correct).collect();
    let mut html = format!("<h2>Not as expected: {} of {}</h2>", wrong.len(), report.dialogues.len());
    for play in wrong {
        let _ = write!(html, "<details><summary>{}</summary><ul>", escape(&play.id));
        play.faults.iter().for_each(|fault| {
            let _ = write!(html, "<li class=\"worse\">{}</li>", escape(fault));
        });
        html += "</ul>";
        for turn in &play.turns {
            let said = Exchange {
                user: turn.user.clone(),
                action: turn.action.clone(),
                kind: turn.kind.clone(),
                answer: turn.answer.clone(),
            };
            html += &exchange(&said);
        }
        html += "</details>";
    }
    html
}

/// Differences of shares with their intervals, one line each, zero in the middle.
fn plot(differences: &[Difference]) -> String {
    let shares: Vec<&Difference> = differences.iter().filter(|d| d.is_share && d.measured).collect();
    let widest = shares.iter().flat_map(|d| [d.difference.low.abs(), d.difference.high.abs()]).fold(0.01, f64::max);
    let (left, width, row) = (230.0, 500.0, 30.0);
    let x = |value: f64| left + width / 2.0 * (1.0 + value / widest);
    let height = row * (shares.len() as f64 + 1.0);
    let mut svg = format!(
        "<svg viewBox=\"0 0 780 {height}\" role=\"img\" aria-label=\"Differences with their intervals\" font-size=\"13\">\
         <line x1=\"{0}\" x2=\"{0}\" y1=\"0\" y2=\"{1}\" stroke=\"#9aa3b2\" stroke-dasharray=\"3 3\"/>",
        x(0.0),
        height - row
    );
    for (at, d) in shares.iter().enumerate() {
        let y = row * (at as f64 + 0.5);
        let colour = match d.verdict() {
            Verdict::Better => "#0b7a43",
            Verdict::Worse => "#b3261e",
            Verdict::NotTold => "#68717f",
        };
        let i = d.difference;
        let _ = write!(
            svg,
            "<text x=\"0\" y=\"{}\" fill=\"#1d2430\">{}</text><line x1=\"{}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" \
             stroke=\"{colour}\" stroke-width=\"3\" stroke-linecap=\"round\"/><circle cx=\"{}\" cy=\"{y}\" r=\"5\" fill=\"{colour}\"/>",
            y + 4.0,
            d.measure,
            x(i.low),
            x(i.high),
            x(i.value)
        );
    }
    for value in [-widest, 0.0, widest] {
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#68717f\">{value:+.2}</text>",
            x(value).clamp(20.0, 760.0),
            height - 8.0
        );
    }
    svg + "</svg>"
}

fn shown(name: &str) -> String {
    if name.is_empty() { "as served".into() } else { escape(name) }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::versions::ChangedTurn;
    use super::*;

    #[test]
    fn what_customers_wrote_is_text_on_the_page_and_never_markup() {
        let hostile = Exchange {
            user: "<script>alert(1)</script>".into(),
            action: "answer".into(),
            kind: "verbatim".into(),
            answer: "<img src=x>".into(),
        };
        let turn = ChangedTurn { first: Some(hostile), second: None };
        let changed = Changed { id: "a".into(), first_correct: true, second_correct: false, turns: vec![turn] };
        let comparison = Comparison {
            first: "v1".into(),
            second: "v2".into(),
            dialogues: 1,
            seed: 1,
            differences: vec![],
            changed: vec![changed],
        };
        let wrong = DialogueResult {
            id: "<b>".into(),
            faults: vec!["<i>".into()],
            turns: vec![crate::eval::TurnResult { user: "<u>".into(), ..Default::default() }],
            ..DialogueResult::default()
        };
        let report = EvalReport { dialogues: vec![wrong], seconds: 0.0 };
        let provenance = Provenance { operator: "igor".into(), seed: 7, ..Default::default() };
        let html = page(&[("v<1".into(), &report)], &[comparison], &provenance);
        assert!(html.contains("&lt;script&gt;") && html.contains("it was over") && html.contains("<code>7</code>"));
        for markup in ["<script", "<img", "<i>", "<u>", "v<1"] {
            assert!(!html.contains(markup), "{markup}");
        }
    }
}
