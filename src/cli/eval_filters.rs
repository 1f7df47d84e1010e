//! `firstline eval filters`: the entrance filters on labelled sets, each beside a plain peer.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::{catalog, show};
use crate::config::Settings;
use crate::embed::Embedder;
use crate::eval::filters::{Bench, Half, Report, Sets};
use crate::kb::{Pack, pack};

#[derive(Debug, Args)]
pub struct FiltersArgs {
    /// Messages that wish for a person or do not: JSON lines with `text` and `handoff` (true or false)
    #[arg(long, value_name = "FILE")]
    handoff: Vec<PathBuf>,
    /// Spam and honest messages: JSON lines with `text`, `spam` and perhaps `kind` ("rude" is counted apart)
    #[arg(long, value_name = "FILE")]
    spam: Vec<PathBuf>,
    /// Messages in and out of scope: JSON lines with `text` and `in_scope`
    #[arg(long, value_name = "FILE")]
    offtopic: Vec<PathBuf>,
    /// What is in scope, instead of the pack's own examples: JSON lines with `text` and perhaps `intent`
    #[arg(long, value_name = "FILE", requires = "offtopic")]
    in_scope: Option<PathBuf>,
    /// Attacks and honest messages: JSON lines with `text` and `injection`
    #[arg(long, value_name = "FILE")]
    injection: Vec<PathBuf>,
    /// Honest pages (.md, .mdx, .txt, .html): each is judged whole and by paragraphs, as if pasted as a message
    #[arg(long, value_name = "FOLDER")]
    long_honest: Vec<PathBuf>,
    /// Use only this half of each set, told apart by a hash of the text
    #[arg(long, value_name = "HALF", default_value = "all")]
    half: Half,
    /// List up to this many wrong verdicts of each set
    #[arg(long, value_name = "N", default_value_t = 0)]
    mistakes: usize,
    /// Also write the reports to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub fn run(settings: &Settings, args: &FiltersArgs) -> anyhow::Result<ExitCode> {
    let sets = Sets {
        handoff: args.handoff.clone(),
        spam: args.spam.clone(),
        offtopic: args.offtopic.clone(),
        in_scope: args.in_scope.clone(),
        injection: args.injection.clone(),
        long_honest: args.long_honest.clone(),
        half: args.half,
        mistakes: args.mistakes,
    };
    let named = [&sets.handoff, &sets.spam, &sets.offtopic, &sets.injection, &sets.long_honest];
    if named.iter().all(|paths| paths.is_empty()) {
        bail!("name at least one set: --handoff, --spam, --offtopic, --injection or --long-honest (see --help)");
    }
    let pack = Pack::read(&settings.knowledge);
    let fatal: Vec<_> = pack.faults.iter().filter(|fault| fault.fatal).cloned().collect();
    if !fatal.is_empty() {
        bail!("{} cannot be used:{}", pack.dir.display(), pack::list(&fatal));
    }
    let model = catalog::resolve_embed(&settings.models)?;
    let embedder = Embedder::load(&model.id, &model.path, &model.languages)?;
    let bar = show::row_bar();
    bar.set_message("learning");
    let bench = Bench::new(&pack, &embedder)?;
    bar.set_message("judging");
    let reports = bench.run(&sets, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let reports: Vec<Report> = reports?;
    reports.iter().for_each(|report| println!("{}", report.table()));
    if let Some(path) = &args.report {
        std::fs::write(path, serde_json::to_string_pretty(&reports)?).with_context(|| path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
