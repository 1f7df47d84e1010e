//! `firstline index [--check]`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::{adapters, catalog, show};
use crate::config::Settings;
use crate::embed::Embedder;
use crate::kb::{Knowledge, Pack, pack};
use crate::model::{ChatTokenizer, Gguf, ModelSpec};

#[derive(Debug, Args)]
pub struct IndexArgs {
    /// Only validate the pack: print every fault with file and line, and what each instruction costs in tokens
    #[arg(long)]
    check: bool,
}

pub fn run(settings: &Settings, args: &IndexArgs) -> anyhow::Result<ExitCode> {
    if args.check { check(settings) } else { build(settings) }
}

fn build(settings: &Settings) -> anyhow::Result<ExitCode> {
    let model = catalog::resolve_embed(&settings.models)?;
    let embedder = Embedder::load(&model.id, &model.path, &model.languages)?;
    let bar = show::index_bar();
    let progress = &mut |progress| show::index_progress(&bar, progress);
    let opened = Knowledge::open(&settings.knowledge, &settings.store.state_dir, embedder, progress);
    bar.finish_and_clear();
    let (knowledge, report) = opened?;
    print!("{}", show::file_reports(&knowledge.snapshot().pack().reports));
    println!("{}: {}", settings.knowledge.dir.display(), show::index_report(&report));
    Ok(ExitCode::SUCCESS)
}

fn check(settings: &Settings) -> anyhow::Result<ExitCode> {
    let pack = Pack::read(&settings.knowledge);
    let mut good = !pack.faults.iter().any(|fault| fault.fatal);
    for fault in &pack.faults {
        let kind = if fault.fatal { "error" } else { "warning" };
        println!("{kind}{}", pack::list(std::slice::from_ref(fault)));
    }
    print!("{}", show::file_reports(&pack.reports));
    println!(
        "{}: {} articles, {} FAQ entries, {} app-map entries, {} operators, {} filter examples, {} dialogues; {}",
        pack.dir.display(),
        pack.articles.len(),
        pack.faq.len(),
        pack.app_map.len(),
        pack.operators.len(),
        pack.filters.len(),
        pack.evals.len(),
        show::count(pack.faults.len(), "fault"),
    );
    match catalog::resolve_chat(&settings.models) {
        Ok(model) => {
            for (operator, told) in adapters::of_operators(settings, &pack, &model.path) {
                match told {
                    Ok(text) => println!("adapter of {operator}: {text}"),
                    Err(reason) => {
                        good = false;
                        println!("error  operators/{operator}/operator.toml: {reason}");
                    }
                }
            }
            let tokenizer = ChatTokenizer::from_gguf(&model.path)?;
            let context = context_tokens(settings, &model.path)?;
            let limit = (context as f32 * settings.knowledge.core_share) as usize;
            println!(
                "\ntokens of {} (a core may take {limit}, {:.0} % of {context}):",
                model.id,
                100.0 * settings.knowledge.core_share
            );
            for cost in instruction_costs(&pack, &tokenizer)? {
                println!("  {}: core {}, {} sections {}", cost.path, cost.core, cost.sections, cost.section_tokens);
                if cost.core > limit {
                    good = false;
                    let line = line_over(&cost.core_text, limit, &tokenizer)?;
                    println!(
                        "error  {}:{line}: the core passes {limit} tokens here ({} in all); move what follows below the second \"# \" heading",
                        cost.path, cost.core
                    );
                }
            }
        }
        Err(error) => println!("\ntokens were not counted: {error}"),
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Longest prompt plus answer of the chat model, as the settings and its file say.
fn context_tokens(settings: &Settings, gguf: &Path) -> anyhow::Result<usize> {
    let trained = ModelSpec::read(&Gguf::open(gguf)?)?.context;
    Ok(match settings.engine.context_tokens {
        0 => trained,
        set => set.min(trained),
    })
}

/// What one version of an operator's instruction costs.
struct InstructionCost {
    path: String,
    core_text: String,
    core: usize,
    sections: usize,
    section_tokens: usize,
}

fn instruction_costs(pack: &Pack, tokenizer: &ChatTokenizer) -> anyhow::Result<Vec<InstructionCost>> {
    let mut costs = Vec::new();
    for instruction in pack.operators.iter().flat_map(|operator| operator.versions.values()) {
        let mut section_tokens = 0;
        for section in &instruction.sections {
            section_tokens += tokenizer.encode(&section.text, false)?.len();
        }
        costs.push(InstructionCost {
            path: instruction.path.clone(),
            core: tokenizer.encode(&instruction.core, false)?.len(),
            core_text: instruction.core.clone(),
            sections: instruction.sections.len(),
            section_tokens,
        });
    }
    Ok(costs)
}

/// The 1-based line of `text` with which it passes `limit` tokens.
fn line_over(text: &str, limit: usize, tokenizer: &ChatTokenizer) -> anyhow::Result<usize> {
    let mut tokens = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        tokens += tokenizer.encode(line, false)?.len();
        if tokens > limit {
            return Ok(number + 1);
        }
    }
    Ok(text.lines().count())
}
