//! `firstline eval`: the pack's dialogues and simulated customers, and recorded conversations, against what is expected.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::loaded::{self, Loaded};
use super::{eval_filters, plays, show, versions};
use crate::config::Settings;
use crate::eval::{self, DialogueResult, questions};
use crate::kb::Pack;
use crate::support::Support;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct EvalArgs {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    plays: plays::PlaysArgs,
    /// Only look up the questions of this file, each with its right source: at which rank is it found?
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dialogues", "customers", "recorded"])]
    questions: Option<PathBuf>,
    /// Print figures only, no rows: for sealed sets
    #[arg(long)]
    sealed: bool,
    /// Compare versions of this operator's instruction: each alone in service, the first against the others
    #[arg(long, value_name = "NAME", requires = "versions")]
    operator: Option<String>,
    /// The versions, as v1,v2
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',', requires = "operator")]
    versions: Vec<String>,
    /// Write a page with plots to this file
    #[arg(long, value_name = "FILE", conflicts_with = "questions")]
    html: Option<PathBuf>,
    /// Also write the whole report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Fail when fewer than this share of the plays is as expected in all: action, kind, operator, words, sources
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
    if let Some(path) = &args.questions {
        let support = loaded::load(settings)?.support(settings, &settings.store.state_dir, &|_| {})?;
        return look_up(&support, path, args);
    }
    let pack = Pack::read(&settings.knowledge);
    let loaded = loaded::load(settings)?;
    let plays = args.plays.collect(settings, &pack, &loaded.chat)?;
    let seed = args.plays.seed;
    if let Some(operator) = &args.operator {
        if args.versions.len() < 2 {
            bail!("--versions {}: name two or more, as v1,v2", args.versions.join(","));
        }
        let wanted = versions::Wanted { operator, versions: &args.versions, seed, plays };
        let compared = versions::compare(settings, &loaded, &wanted)?;
        versions::show(&compared, args.html.as_deref(), args.report.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }
    as_served(settings, args, &loaded, &plays)
}

/// The pack as it is served, play by play.
fn as_served(settings: &Settings, args: &EvalArgs, loaded: &Loaded, plays: &eval::Plays) -> anyhow::Result<ExitCode> {
    let support = loaded.support(settings, &settings.store.state_dir, &|_| {})?;
    let all = plays.len();
    let bar = show::row_bar();
    bar.set_message("playing");
    bar.set_length(all as u64);
    let mut progress = |result: &DialogueResult| {
        bar.inc(1);
        if args.sealed {
            return;
        }
        // Asked for within `suspend` it would wait for itself.
        let done = bar.position();
        bar.suspend(|| {
            let verdict = if result.correct { "ok   " } else { "WRONG" };
            println!("{done:>4}/{all}  {verdict}  {}", result.id);
            result.faults.iter().for_each(|fault| println!("             {fault}"));
        });
    };
    let public_url = settings.server.public_url_at(settings.server.port);
    let seed = args.plays.seed;
    let report = super::block_on(async { Ok(eval::run(&support, plays, &public_url, seed, &mut progress).await?) })?;
    bar.finish_and_clear();
    let provenance = loaded.provenance(settings, support.knowledge().snapshot().pack(), "", seed);
    println!("\n{}\n\n{}\ntime                      {:.1} s", provenance.line(), report.table(), report.seconds);
    report.unsupported().iter().for_each(|fact| println!("unsupported: {fact}"));
    report.tone().iter().for_each(|fault| println!("tone: {fault}"));
    if let Some(path) = &args.report {
        let mut all = serde_json::to_value(&report)?;
        all["provenance"] = serde_json::to_value(&provenance)?;
        std::fs::write(path, serde_json::to_string_pretty(&all)?).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &args.html {
        let page = eval::page::page(&[(String::new(), &report)], &[], &provenance);
        std::fs::write(path, page).with_context(|| path.display().to_string())?;
        println!("report: {}", path.display());
    }
    let share = |(part, all): (usize, usize)| if all == 0 { 1.0 } else { part as f64 / all as f64 };
    let good = share((report.correct(), all)) >= args.min_correct && share(report.answered()) >= args.min_answered;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
    if let Some(path) = &args.report {
        std::fs::write(path, serde_json::to_string_pretty(&report)?).with_context(|| path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
