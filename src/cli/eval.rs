//! `firstline eval`: the pack's dialogues against what is expected of them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::{ask, eval_filters};
use crate::config::Settings;
use crate::eval::{self, DialogueResult};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct EvalArgs {
    #[command(subcommand)]
    part: Option<Part>,
    /// Only dialogues whose id contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also write the whole report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Fail when fewer than this share of the dialogues has the expected outcome
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
    let (support, knowledge) = ask::load(settings)?;
    let mut dialogues = knowledge.snapshot().pack().evals.clone();
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
        println!("{done:>4}/{all}  {}  {}", if result.correct { "ok   " } else { "WRONG" }, result.id);
        result.faults.iter().for_each(|fault| println!("             {fault}"));
    };
    let public_url = ask::public_url(settings);
    let report = super::block_on(async { Ok(eval::run(&support, &dialogues, &public_url, &mut progress).await?) })?;
    let share = |part: usize, all: usize| if all == 0 { 1.0 } else { part as f64 / all as f64 };
    let correct = share(report.outcome_correct(), all);
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
