//! Versions of an operator's instruction against one another: `firstline eval --operator … --versions …` and
//! `firstline promote`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::loaded::{self, Loaded};
use super::plays::PlaysArgs;
use super::show;
use crate::config::Settings;
use crate::eval::page::{Provenance, page};
use crate::eval::versions::{Comparison, Exchange};
use crate::eval::{self, EvalReport, Plays};
use crate::kb::Pack;
use crate::kb::pack::Operator;
use crate::store::Store;
use crate::support::Support;

#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The operator
    operator: String,
    /// The version that is to serve all new conversations
    version: String,
    /// Promote although the comparison does not support it; needs --reason, which is recorded
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why, in a sentence
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    plays: PlaysArgs,
}

/// What is to be compared.
pub struct Wanted<'a> {
    pub operator: &'a str,
    /// The first is what the others are compared with.
    pub versions: &'a [String],
    pub seed: u64,
    pub plays: Plays,
}

/// What came of it.
pub struct Compared {
    /// Each version with its results.
    pub reports: Vec<(String, EvalReport)>,
    pub comparisons: Vec<Comparison>,
    pub provenance: Provenance,
}

/// Plays everything against each version. The pack is read anew for each, with that version alone in service.
pub fn compare(settings: &Settings, loaded: &Loaded, wanted: &Wanted<'_>) -> anyhow::Result<Compared> {
    let pack = Pack::read(&settings.knowledge);
    let operator = operator_of(&pack, wanted.operator)?;
    for version in wanted.versions {
        known_version(operator, version)?;
    }
    // Beside the server's own index, which a server may be using.
    let state = settings.store.state_dir.join("eval");
    let public_url = settings.server.public_url_at(settings.server.port);
    let mut reports = Vec::new();
    // The entrance filters are the same for all versions: learnt once.
    let mut support: Option<Support> = None;
    for version in wanted.versions {
        let serve_alone = |pack: &mut Pack| {
            for operator in pack.operators.iter_mut().filter(|o| o.name == wanted.operator) {
                operator.active_version.clone_from(version);
                operator.shares.clear();
            }
        };
        let alone = match &support {
            Some(other) => other.over(loaded.knowledge(settings, &state, &serve_alone)?)?,
            None => loaded.support(settings, &state, &serve_alone)?,
        };
        let bar = show::row_bar();
        bar.set_message(format!("{}/{version}", wanted.operator));
        bar.set_length(wanted.plays.len() as u64);
        let report = super::block_on(async {
            let mut progress = |_: &eval::DialogueResult| bar.inc(1);
            Ok(eval::run(&alone, &wanted.plays, &public_url, wanted.seed, &mut progress).await?)
        })?;
        bar.finish_and_clear();
        reports.push((version.clone(), report));
        support = Some(alone);
    }
    let (first, first_report) = &reports[0];
    let comparisons = reports[1..]
        .iter()
        .map(|(version, report)| Comparison::of([first, version], [first_report, report], wanted.seed));
    let comparisons = comparisons.collect();
    Ok(Compared { comparisons, provenance: loaded.provenance(settings, &pack, wanted.operator, wanted.seed), reports })
}

/// Prints a comparison, and writes its files.
pub fn show(compared: &Compared, html: Option<&Path>, report: Option<&Path>) -> anyhow::Result<()> {
    let p = &compared.provenance;
    println!("{}", p.line());
    for comparison in &compared.comparisons {
        println!("\n{}", comparison.table());
        println!("{} of {} plays changed:", comparison.changed.len(), comparison.dialogues);
        for dialogue in &comparison.changed {
            let mark = |correct| if correct { "ok" } else { "WRONG" };
            let named = |said: &Option<Exchange>| {
                said.as_ref().map_or_else(|| "over".to_string(), |said| format!("{}/{}", said.action, said.kind))
            };
            let turn = dialogue
                .turns
                .first()
                .map_or(String::new(), |t| format!("  {} -> {}", named(&t.first), named(&t.second)));
            println!("  {}: {} -> {}{turn}", dialogue.id, mark(dialogue.first_correct), mark(dialogue.second_correct));
        }
    }
    if let Some(path) = html {
        let reports: Vec<(String, &EvalReport)> =
            compared.reports.iter().map(|(version, report)| (version.clone(), report)).collect();
        std::fs::write(path, page(&reports, &compared.comparisons, p)).with_context(|| path.display().to_string())?;
        println!("\nreport: {}", path.display());
    }
    if let Some(path) = report {
        let all = json!({"provenance": p, "comparisons": compared.comparisons, "reports": compared.reports});
        std::fs::write(path, serde_json::to_string_pretty(&all)?).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Makes a version the active one where the comparison with the present one supports it.
pub fn promote(settings: &Settings, args: &PromoteArgs) -> anyhow::Result<ExitCode> {
    let pack = Pack::read(&settings.knowledge);
    let operator = operator_of(&pack, &args.operator)?;
    known_version(operator, &args.version)?;
    let present = operator.active_version.clone();
    if present == args.version && operator.shares.is_empty() {
        println!("{} is served by {present} already", args.operator);
        return Ok(ExitCode::SUCCESS);
    }
    if args.reason.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        bail!("--reason is empty; say why in a sentence");
    }
    let loaded = loaded::load(settings)?;
    let plays = args.plays.collect(settings, &pack, &loaded.chat)?;
    let (versions, seed, all) = ([present.clone(), args.version.clone()], args.plays.seed, plays.len());
    let wanted = Wanted { operator: &args.operator, versions: &versions, seed, plays };
    let compared = compare(settings, &loaded, &wanted)?;
    show(&compared, None, None)?;
    let objection = compared.comparisons.first().and_then(Comparison::objection);
    let forced = match (&objection, args.force) {
        (Some(objection), false) => {
            println!("\nnot promoted. {objection}\nTo promote all the same: --force --reason \"…\"");
            return Ok(ExitCode::FAILURE);
        }
        (Some(_), true) => args.reason.as_deref(),
        (None, _) => None,
    };
    let evidence = json!({
        "provenance": compared.provenance, "seed": seed, "plays": all,
        "differences": compared.comparisons.first().map(|c| &c.differences), "objection": objection,
    });
    // Recorded first: what serves is never without its reason.
    super::block_on(async {
        let store = Store::open(&settings.store.state_dir, settings.store.keep_text).await?;
        let recorded = store.record_promotion(&args.operator, (&present, &args.version), forced, &evidence).await;
        store.close().await;
        Ok(recorded?)
    })?;
    let path = settings.knowledge.dir.join(format!("operators/{}/operator.toml", args.operator));
    activate(&path, &args.version)?;
    println!("\npromoted: {}: active_version = \"{}\"; a running server follows at once", path.display(), args.version);
    Ok(ExitCode::SUCCESS)
}

/// Changes the operator's settings, and nothing else of the file.
fn activate(path: &Path, version: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let part = path.with_extension("toml.part");
    let written = std::fs::write(&part, activated(&text, version)?).and_then(|()| std::fs::rename(&part, path));
    written.with_context(|| format!("{}: set active_version = {version:?} there, and remove [shares]", path.display()))
}

fn activated(text: &str, version: &str) -> anyhow::Result<String> {
    let mut document: toml_edit::DocumentMut = text.parse()?;
    document["active_version"] = toml_edit::value(version);
    document.remove("shares");
    Ok(document.to_string())
}

fn operator_of<'p>(pack: &'p Pack, name: &str) -> anyhow::Result<&'p Operator> {
    let known = || pack.operators.iter().map(|o| o.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = pack.operators.iter().find(|o| o.name == name);
    found.with_context(|| format!("there is no operator {name:?}; there are: {}", known()))
}

fn known_version(operator: &Operator, version: &str) -> anyhow::Result<()> {
    if operator.versions.contains_key(version) {
        return Ok(());
    }
    let known = operator.versions.keys().cloned().collect::<Vec<_>>().join(", ");
    bail!("{} has no version {version:?}; there are: {known}", operator.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promoting_changes_the_active_version_and_the_shares_and_keeps_every_comment() {
        let text = "# Igor\nrole = \"first line\"\nactive_version = \"v1\" # since May\n\n[shares]\nv1 = 0.8\nv2 = 0.2\n\n[handoff]\n# who\nqueue = \"support\"\n";
        let changed = activated(text, "v2").unwrap();
        assert!(changed.contains("active_version = \"v2\"") && !changed.contains("shares"), "{changed}");
        assert!(changed.contains("# Igor") && changed.contains("# who\nqueue"), "{changed}");
        assert!(activated("role = \"x\"\n", "v2").unwrap().contains("active_version = \"v2\""));
    }
}
