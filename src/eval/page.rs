//! A comparison as one HTML page without scripts: the figures, a plot of the differences, the dialogues that changed.

use std::fmt::Write;

use super::versions::{Comparison, Difference, Verdict};

/// What a reader needs to get the same figures again.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Provenance {
    pub operator: String,
    pub chat_model: String,
    pub chat_model_hash: String,
    pub embed_model_hash: String,
    /// The pack's git commit, with a `+` where files differ from it; its digest where there is no git.
    pub pack: String,
    pub program: String,
    pub command: String,
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1d2430}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #e3e7ee;vertical-align:top}td.n{text-align:right;\
font-variant-numeric:tabular-nums}.better{color:#0b7a43}.worse{color:#b3261e}.faint{color:#68717f}details{margin:.5rem 0;\
border:1px solid #e3e7ee;border-radius:.5rem;padding:.5rem .8rem}pre{white-space:pre-wrap;background:#f6f8fb;padding:.6rem;\
border-radius:.4rem;margin:.3rem 0}svg{width:100%;height:auto}";

/// The page.
pub fn page(comparisons: &[Comparison], provenance: &Provenance) -> String {
    let title = format!("Versions of {}", escape(&provenance.operator));
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><h1>{title}</h1>{}",
        origin(provenance)
    );
    for comparison in comparisons {
        html += &section(comparison);
    }
    html + "</body></html>\n"
}

fn origin(p: &Provenance) -> String {
    let rows = [
        ("command", &p.command),
        ("pack", &p.pack),
        ("chat model", &p.chat_model),
        ("its hash", &p.chat_model_hash),
        ("embedding model's hash", &p.embed_model_hash),
        ("program", &p.program),
    ];
    let rows: String = rows.iter().map(|(n, v)| format!("<tr><th>{n}</th><td>{}</td></tr>", escape(v))).collect();
    format!("<table>{rows}</table>")
}

fn section(comparison: &Comparison) -> String {
    let (first, second) = (escape(&comparison.first), escape(&comparison.second));
    let said = match comparison.verdict() {
        Verdict::Better => format!("<span class=\"better\">{second} is better than {first}</span>"),
        Verdict::Worse => format!("<span class=\"worse\">{second} is worse than {first}</span>"),
        Verdict::NotTold => format!("no difference between {first} and {second} is shown"),
    };
    let mut html = format!(
        "<h2>{second} against {first}</h2><p>By {} over {} dialogues: {said}. Paired bootstrap, 95 % intervals, seed {}.</p>",
        comparison.differences.first().map_or("", |d| d.measure),
        comparison.dialogues,
        comparison.seed
    );
    html += &format!("<table><tr><th></th><th>{first}</th><th>{second}</th><th>difference</th><th>95 %</th></tr>");
    for d in &comparison.differences {
        let class = match d.verdict() {
            Verdict::Better => "n better",
            Verdict::Worse => "n worse",
            Verdict::NotTold => "n",
        };
        let i = d.difference;
        let _ = write!(
            html,
            "<tr><td>{}</td><td class=\"n\">{:.3}</td><td class=\"n\">{:.3}</td><td class=\"{class}\">{:+.3}</td>\
             <td class=\"{class}\">{:+.3} to {:+.3}</td></tr>",
            d.measure, d.first, d.second, i.value, i.low, i.high
        );
    }
    html += "</table>";
    html += &plot(&comparison.differences);
    let _ = write!(html, "<h2>Dialogues that changed: {}</h2>", comparison.changed.len());
    for dialogue in &comparison.changed {
        let mark = |correct: bool| if correct { "right" } else { "wrong" };
        let class = match (dialogue.first_correct, dialogue.second_correct) {
            (true, false) => "worse",
            (false, true) => "better",
            _ => "faint",
        };
        let _ = write!(
            html,
            "<details><summary>{} <span class=\"{class}\">{} → {}</span></summary>",
            escape(&dialogue.id),
            mark(dialogue.first_correct),
            mark(dialogue.second_correct)
        );
        for turn in &dialogue.turns {
            let _ = write!(html, "<p><b>{}</b></p>", escape(&turn.user));
            for (version, said) in [(&first, &turn.first), (&second, &turn.second)] {
                let (action, kind, answer) = (escape(&said[0]), escape(&said[1]), escape(&said[2]));
                let _ = write!(
                    html,
                    "<div>{version}: <span class=\"faint\">{action}, {kind}</span><pre>{answer}</pre></div>"
                );
            }
        }
        html += "</details>";
    }
    html
}

/// Differences of shares with their intervals, one line each, zero in the middle.
fn plot(differences: &[Difference]) -> String {
    let shares: Vec<&Difference> = differences.iter().filter(|d| d.measure != "seconds a turn").collect();
    let widest = shares.iter().flat_map(|d| [d.difference.low.abs(), d.difference.high.abs()]).fold(0.01, f64::max);
    let (left, width, row) = (230.0, 520.0, 30.0);
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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::versions::Changed;
    use super::super::versions::ChangedTurn;
    use super::*;

    #[test]
    fn what_customers_wrote_is_text_on_the_page_and_never_markup() {
        let turn = ChangedTurn {
            user: "<script>alert(1)</script>".into(),
            first: ["answer".into(), "verbatim".into(), "<img src=x>".into()],
            second: ["clarify".into(), "no_answer".into(), "?".into()],
        };
        let changed = Changed { id: "a".into(), first_correct: true, second_correct: false, turns: vec![turn] };
        let comparison = Comparison {
            first: "v1".into(),
            second: "v2".into(),
            dialogues: 1,
            seed: 1,
            differences: vec![],
            changed: vec![changed],
        };
        let html = page(&[comparison], &Provenance { operator: "igor".into(), ..Default::default() });
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script") && !html.contains("<img"));
    }
}
