//! `firstline doctor --memory`: what the program's resident memory is made of.
//!
//! Each part of a server is loaded in turn, and the kernel's count of resident pages is read in between. *Own* pages are
//! the process's alone; *mapped* ones belong to files and are given back when memory is short.

use anyhow::Context as _;

use super::{catalog, show};
use crate::config::Settings;
use crate::embed::Embedder;
use crate::kb::Knowledge;
use crate::llm::{ChatModel, GenerateRequest, GenerationEvent, PackedCache, SamplingParams};
use crate::support::Support;

/// Tokens that are read to see what a conversation costs.
const TRIED_TOKENS: usize = 512;

/// Resident memory, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Resident {
    own: u64,
    mapped: u64,
    peak: u64,
}

impl Resident {
    /// From the text of `/proc/self/status`.
    fn read(status: &str) -> Option<Self> {
        let kib = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            rest.split_whitespace().next()?.parse::<u64>().ok()
        };
        let mapped = kib("RssFile")? + kib("RssShmem").unwrap_or(0);
        Some(Self { own: kib("RssAnon")?, mapped, peak: kib("VmHWM")? })
    }

    fn now() -> anyhow::Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::read(&status).context("resident memory is known only on Linux (/proc/self/status)")
    }
}

/// The parts so far.
struct Ledger {
    last: Resident,
}

impl Ledger {
    fn part(&mut self, name: &str) -> anyhow::Result<()> {
        let now = Resident::now()?;
        // What a part gave back again counts against it.
        let grown = |now: u64, before: u64| (now as i64 - before as i64) as f64 / 1024.0;
        println!("{name:<44} {:>9.1} {:>9.1}", grown(now.own, self.last.own), grown(now.mapped, self.last.mapped));
        self.last = now;
        Ok(())
    }
}

/// Loads everything that a server holds, and prints what each part took.
///
/// # Errors
/// What keeps a server from starting: models or the pack are missing or broken. A system that is not Linux.
pub fn print(settings: &Settings) -> anyhow::Result<()> {
    println!("\n{:<44} {:>9} {:>9}", "resident memory, MiB", "own", "mapped");
    let mut ledger = Ledger { last: Resident::default() };
    ledger.part("the program itself")?;
    let models = catalog::resolve(settings)?;
    let embedder = Embedder::load(&models.embed.id, &models.embed.path, &models.embed.languages)?;
    ledger.part("embedding model")?;
    let bar = show::index_bar();
    let progress = &mut |progress| show::index_progress(&bar, progress);
    let opened = Knowledge::open(&settings.knowledge, &settings.store.state_dir, embedder.clone(), progress);
    bar.finish_and_clear();
    let (knowledge, _) = opened?;
    ledger.part("pack and index")?;
    let chat =
        ChatModel::load(&models.chat.id, &models.chat.path, &settings.engine, PackedCache::new(settings).as_ref())?;
    ledger.part("chat model: weights, vocabulary")?;
    if let (held, source @ 1..) = chat.weight_bytes() {
        let (held, source) = (held as f64 / (1 << 20) as f64, source as f64 / (1 << 20) as f64);
        println!("  its matrices: {held:.1} MiB for {source:.1} MiB of the file ({:.3})", held / source);
    }
    super::block_on(read_a_prompt(&chat))?;
    ledger.part(&format!("a conversation of {TRIED_TOKENS} tokens, and room to work"))?;
    let languages = &models.chat.languages;
    let support = Support::new(settings, chat, languages, embedder, knowledge, &settings.store.state_dir)?;
    ledger.part("filters, router, operators")?;
    if let bytes @ 1.. = support.load_adapters()? {
        ledger.part("operators' adapters")?;
        let (held, most) = (bytes as f64 / (1 << 20) as f64, show::mib(settings.engine.adapters_mib as u64));
        println!("  their matrices: {held:.1} MiB of at most engine.adapters_mib = {most}");
    }
    let Resident { own, mapped, peak } = ledger.last;
    println!("{:<44} {:>9.1} {:>9.1}", "together", own as f64 / 1024.0, mapped as f64 / 1024.0);
    println!("most at any time: {}", show::mib(peak.div_ceil(1024)));
    println!("the KV cache grows with use, to at most engine.kv_mib = {}", show::mib(settings.engine.kv_mib as u64));
    Ok(())
}

/// Reads a prompt and one token more.
async fn read_a_prompt(chat: &ChatModel) -> anyhow::Result<()> {
    let word = chat.tokenize("a")?.first().copied().context("the tokenizer gives no token for a letter")?;
    let request = GenerateRequest {
        prompt: vec![word; TRIED_TOKENS.min(chat.context_tokens() / 2)],
        max_tokens: 1,
        sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
        ..GenerateRequest::default()
    };
    let mut generation = chat.generate(request)?;
    while let Some(event) = generation.next().await {
        if let GenerationEvent::Failed(error) = event {
            return Err(error.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_and_mapped_pages_are_told_apart() {
        let status = "VmHWM:\t  900 kB\nVmRSS:\t 700 kB\nRssAnon:\t 500 kB\nRssFile:\t 150 kB\nRssShmem:\t 50 kB\n";
        assert_eq!(Resident::read(status), Some(Resident { own: 500, mapped: 200, peak: 900 }));
        assert_eq!(Resident::read("VmRSS:\t 700 kB\n"), None);
    }
}
