//! Versions of an operator's instruction against one another: `firstline eval --operator … --versions …` and
//! `firstline promote`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::{catalog, show};
use crate::config::Settings;
use crate::embed::Embedder;
use crate::eval::page::{Provenance, page};
use crate::eval::versions::Comparison;
use crate::eval::{self, EvalReport};
use crate::kb::pack::{Dialogue, Operator};
use crate::kb::{Knowledge, Pack};
use crate::llm::{ChatModel, PackedCache};
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
    /// Seed of the comparison
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Dialogues of this file instead of the pack's evals/*.jsonl
    #[arg(long, value_name = "FILE")]
    dialogues: Option<PathBuf>,
}

/// What is to be compared.
pub struct Wanted<'a> {
    pub operator: &'a str,
    /// The first is what the others are compared with.
    pub versions: &'a [String],
    pub seed: u64,
    pub dialogues: Vec<Dialogue>,
}

/// What came of it.
pub struct Compared {
    pub reports: Vec<EvalReport>,
    pub comparisons: Vec<Comparison>,
    pub provenance: Provenance,
}

/// Plays the dialogues against each version. The pack is read anew for each, with that version alone in service.
pub fn compare(settings: &Settings, wanted: &Wanted<'_>) -> anyhow::Result<Compared> {
    let pack = Pack::read(&settings.knowledge);
    let operator = operator_of(&pack, wanted.operator)?;
    for version in wanted.versions {
        known_version(operator, version)?;
    }
    let models = catalog::resolve(settings)?;
    let embedder = Embedder::load(&models.embed.id, &models.embed.path, &models.embed.languages)?;
    let chat =
        ChatModel::load(&models.chat.id, &models.chat.path, &settings.engine, PackedCache::new(settings).as_ref())?;
    // Beside the server's own index, which a server may be using.
    let state = settings.store.state_dir.join("eval");
    let public_url = settings.server.public_url_at(settings.server.port);
    let mut reports = Vec::new();
    for version in wanted.versions {
        let serve_alone = |pack: &mut Pack| {
            for operator in pack.operators.iter_mut().filter(|o| o.name == wanted.operator) {
                operator.active_version.clone_from(version);
                operator.shares.clear();
            }
        };
        let bar = show::index_bar();
        let progress = &mut |progress| show::index_progress(&bar, progress);
        let opened = Knowledge::open_adjusted(&settings.knowledge, &state, embedder.clone(), progress, &serve_alone);
        bar.finish_and_clear();
        let (knowledge, _) = opened?;
        let support = Support::new(
            &settings.support,
            settings.knowledge.core_share,
            chat.clone(),
            &models.chat.languages,
            embedder.clone(),
            knowledge,
        )?;
        let bar = show::row_bar();
        bar.set_message(format!("{}/{version}", wanted.operator));
        bar.set_length(wanted.dialogues.len() as u64);
        let report = super::block_on(async {
            let mut progress = |_: &eval::DialogueResult| bar.inc(1);
            Ok(eval::run_seeded(&support, &wanted.dialogues, &public_url, Some(wanted.seed), &mut progress).await?)
        })?;
        bar.finish_and_clear();
        reports.push(report);
    }
    let first = &wanted.versions[0];
    let comparisons = wanted.versions.iter().zip(&reports).skip(1).map(|(version, report)| {
        Comparison::of([first, version], [&reports[0], report], &wanted.dialogues, wanted.seed)
    });
    let provenance = Provenance {
        operator: wanted.operator.into(),
        chat_model: chat.id().into(),
        chat_model_hash: chat.hash().into(),
        embed_model_hash: embedder.hash().into(),
        pack: commit_of(&settings.knowledge.dir).unwrap_or_else(|| format!("digest {}", pack.digest)),
        program: format!("firstline {}", env!("CARGO_PKG_VERSION")),
        command: std::env::args().collect::<Vec<_>>().join(" "),
    };
    Ok(Compared { comparisons: comparisons.collect(), reports, provenance })
}

/// Prints a comparison, and writes its files.
pub fn show(compared: &Compared, html: Option<&Path>, report: Option<&Path>) -> anyhow::Result<()> {
    let p = &compared.provenance;
    println!(
        "pack {}; chat model {} {}; embedding model {}",
        p.pack, p.chat_model, p.chat_model_hash, p.embed_model_hash
    );
    for comparison in &compared.comparisons {
        println!("\n{}", comparison.table());
        println!("{} of {} dialogues changed:", comparison.changed.len(), comparison.dialogues);
        for dialogue in &comparison.changed {
            let mark = |correct| if correct { "ok" } else { "WRONG" };
            let turn = dialogue.turns.first().map_or(String::new(), |t| {
                format!("  {}/{} -> {}/{}", t.first[0], t.first[1], t.second[0], t.second[1])
            });
            println!("  {}: {} -> {}{turn}", dialogue.id, mark(dialogue.first_correct), mark(dialogue.second_correct));
        }
    }
    if let Some(path) = html {
        std::fs::write(path, page(&compared.comparisons, p)).with_context(|| path.display().to_string())?;
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
    let dialogues = match &args.dialogues {
        Some(path) => super::eval::rows(path)?,
        None => pack.evals.clone(),
    };
    if dialogues.is_empty() {
        bail!("{} has no dialogues in evals/*.jsonl to compare by", settings.knowledge.dir.display());
    }
    let versions = [present.clone(), args.version.clone()];
    let wanted = Wanted { operator: &args.operator, versions: &versions, seed: args.seed, dialogues };
    let compared = compare(settings, &wanted)?;
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
        "provenance": compared.provenance, "seed": args.seed, "dialogues": wanted.dialogues.len(),
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

/// The commit that the folder stands at, with a `+` where it was changed since.
fn commit_of(pack: &Path) -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(pack).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--", "."])?.is_empty();
    Some(format!("commit {commit}{}", if changed { "+" } else { "" }))
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
