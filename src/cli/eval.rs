//! `firstline eval`: the pack's dialogues against what is expected of them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::{ask, eval_filters, versions};
use crate::config::Settings;
use crate::eval::{self, DialogueResult, answerable, questions};
use crate::kb::Pack;
use crate::kb::pack::Dialogue;
use crate::support::Support;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct EvalArgs {
    #[command(subcommand)]
    part: Option<Part>,
    /// Only dialogues whose id contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Dialogues of this file instead of the pack's evals/*.jsonl
    #[arg(long, value_name = "FILE", conflicts_with = "questions")]
    dialogues: Option<PathBuf>,
    /// Only look up the questions of this file, each with its right source: at which rank is it found?
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// Only look up the questions of this file, each with what its answer holds: is the answer in here?
    #[arg(long, value_name = "FILE", conflicts_with_all = ["questions", "dialogues"])]
    answerable: Option<PathBuf>,
    /// Print figures only, no rows: for sealed sets
    #[arg(long)]
    sealed: bool,
    /// Compare versions of this operator's instruction: each alone in service, the first against the others
    #[arg(long, value_name = "NAME", requires = "versions")]
    operator: Option<String>,
    /// The versions, as v1,v2
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',', requires = "operator")]
    versions: Vec<String>,
    /// Seed of the comparison: of sampling and of the bootstrap
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the comparison to this file, as a page with plots
    #[arg(long, value_name = "FILE", requires = "versions")]
    html: Option<PathBuf>,
    /// Also write the whole report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Fail when fewer than this share of the dialogues is as expected in all: action, kind, operator, words, sources
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    min_correct: f64,
    /// Fail when fewer than this share of the answerable questions is answered
    #[arg(long, value_name = "SHARE", default_value_t = 0.75)]
    min_answered: f64,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Measure the entrance filters on labelled sets, each beside a plain peer
    Filters(eval_filters::FiltersArgs),
}

pub fn run(settings: &Settings, args: &EvalArgs) -> anyhow::Result<ExitCode> {
    if let Some(Part::Filters(args)) = &args.part {
        return eval_filters::run(settings, args);
    }
    if let Some(operator) = &args.operator {
        return compare(settings, args, operator);
    }
    let (support, knowledge) = ask::load(settings)?;
    if let Some(path) = &args.questions {
        return look_up(&support, path, args);
    }
    if let Some(path) = &args.answerable {
        let report = answerable::run(&support, &rows(path)?)?;
        println!("{}", report.table());
        return save(args, &report);
    }
    let mut dialogues = match &args.dialogues {
        Some(path) => rows(path)?,
        None => knowledge.snapshot().pack().evals.clone(),
    };
    if let Some(only) = &args.only {
        dialogues.retain(|dialogue| dialogue.id.contains(only.as_str()));
    }
    if dialogues.is_empty() {
        bail!("{} has no dialogues in evals/*.jsonl that fit", settings.knowledge.dir.display());
    }
    let all = dialogues.len();
    let mut done = 0;
    let mut progress = |result: &DialogueResult| {
        done += 1;
        if args.sealed {
            return;
        }
        println!("{done:>4}/{all}  {}  {}", if result.correct { "ok   " } else { "WRONG" }, result.id);
        result.faults.iter().for_each(|fault| println!("             {fault}"));
    };
    let public_url = settings.server.public_url_at(settings.server.port);
    let report = super::block_on(async { Ok(eval::run(&support, &dialogues, &public_url, &mut progress).await?) })?;
    let share = |part: usize, all: usize| if all == 0 { 1.0 } else { part as f64 / all as f64 };
    let correct = share(report.correct(), all);
    let (answered, answerable) = report.answered();
    let answered_share = share(answered, answerable);
    println!("\n{}\ntime                  {:.1} s", report.table(), report.seconds);
    report.unsupported().iter().for_each(|fact| println!("unsupported: {fact}"));
    if let Some(path) = &args.report {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    let good = correct >= args.min_correct && answered_share >= args.min_answered;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compare(settings: &Settings, args: &EvalArgs, operator: &str) -> anyhow::Result<ExitCode> {
    if args.versions.len() < 2 {
        bail!("--versions {}: name two or more, as v1,v2", args.versions.join(","));
    }
    let mut dialogues = match &args.dialogues {
        Some(path) => rows(path)?,
        None => Pack::read(&settings.knowledge).evals,
    };
    if let Some(only) = &args.only {
        dialogues.retain(|dialogue: &Dialogue| dialogue.id.contains(only.as_str()));
    }
    if dialogues.is_empty() {
        bail!("{} has no dialogues in evals/*.jsonl that fit", settings.knowledge.dir.display());
    }
    let wanted = versions::Wanted { operator, versions: &args.versions, seed: args.seed, dialogues };
    let compared = versions::compare(settings, &wanted)?;
    versions::show(&compared, args.html.as_deref(), args.report.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

/// The rows of a JSON-lines file.
pub(super) fn rows<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), at + 1)))
        .collect()
}

fn look_up(support: &Support, path: &Path, args: &EvalArgs) -> anyhow::Result<ExitCode> {
    let report = questions::run(support, &rows(path)?)?;
    if !args.sealed {
        for missed in report.questions.iter().filter(|q| q.rank != Some(0)) {
            let rank = missed.rank.map_or("-".into(), |r| (r + 1).to_string());
            let first = missed.first.as_ref().map_or(String::new(), |(name, fit)| format!("{fit:.2} {name}"));
            println!("{rank:>3}  {}  wanted {}  got {first}", missed.text, missed.expected.join(", "));
        }
    }
    println!("{}", report.table());
    save(args, &report)
}

fn save(args: &EvalArgs, report: &impl serde::Serialize) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.report {
        std::fs::write(path, serde_json::to_string_pretty(report)?).with_context(|| path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
