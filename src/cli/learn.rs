//! `firstline learn`: what do customers ask most? Past conversations, put together by their question, as a draft FAQ.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::{catalog, past, show};
use crate::config::Settings;
use crate::desk::cluster;
use crate::desk::suggestions::questions;
use crate::embed::Embedder;
use crate::eval::recorded::{Said, Side};
use crate::kb::Pack;
use crate::personal;
use crate::support::conversation::small_talk;
use crate::text::content_stems;

/// Longest question that is compared, in characters.
const MAX_CHARS: usize = 600;

#[derive(Debug, Args)]
pub struct LearnArgs {
    #[arg(help = format!("Past conversations. {}", past::FORMS))]
    file: PathBuf,
    /// Questions in the draft
    #[arg(long, value_name = "N", default_value_t = 50)]
    top: usize,
    /// Write the draft here, in the form of faq.csv; a person edits it before it goes into the pack
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Most conversations that are read
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    limit: usize,
}

/// A conversation's first real question, and what it was answered.
#[derive(Debug, Clone, Default, PartialEq)]
struct Asked {
    question: String,
    answer: Option<String>,
}

pub fn run(settings: &Settings, args: &LearnArgs) -> anyhow::Result<ExitCode> {
    if let Some(out) = args.out.as_ref().filter(|out| out.exists()) {
        bail!("{} is there already; name a new file", out.display());
    }
    let conversations = past::read(&args.file)?;
    let mut asked: Vec<Asked> = conversations.iter().filter_map(|recorded| asked(&recorded.said)).collect();
    let all = asked.len();
    asked.truncate(args.limit);
    if asked.is_empty() {
        bail!("{}: no question of a customer was found in it", args.file.display());
    }
    let model = catalog::resolve_embed(&settings.models)?;
    let embedder = Embedder::load(&model.id, &model.path, &model.languages)?;
    let languages = Pack::read(&settings.knowledge).company.languages;
    let bar = show::row_bar();
    bar.set_message("reading");
    bar.set_length(asked.len() as u64);
    let mut read = Vec::with_capacity(asked.len());
    for part in asked.chunks(256) {
        let texts: Vec<(&str, Option<&str>)> = part.iter().map(|a| (a.question.as_str(), None)).collect();
        read.extend(questions(&texts, &embedder, &languages)?);
        bar.set_position(read.len() as u64);
    }
    bar.finish_and_clear();
    let groups = cluster::groups(&read);
    let mut rows = Vec::new();
    for group in groups.iter().take(args.top) {
        let speaker = cluster::spokesman(group, &read).unwrap_or(group[0]);
        // What was answered to the very question, else the longest answer of its kind.
        let own = asked[speaker].answer.clone();
        let longest = || group.iter().filter_map(|at| asked[*at].answer.clone()).max_by_key(String::len);
        let answer = own.or_else(longest).unwrap_or_default();
        rows.push((group.len(), &read[speaker], personal::masked(&answer).into_owned()));
    }
    println!("{all} conversations, {} questions apart; the {} most asked:", groups.len(), rows.len());
    for (count, question, _) in &rows {
        println!("{count:>6}  {}  {}", question.lang, personal::masked(&question.text));
    }
    if let Some(out) = &args.out {
        let mut writer = csv::Writer::from_path(out).with_context(|| out.display().to_string())?;
        writer.write_record(["question", "answer", "lang", "tags"])?;
        for (count, question, answer) in &rows {
            let (text, tag) = (personal::masked(&question.text), format!("asked-{count}"));
            writer.write_record([text.as_ref(), answer.as_str(), question.lang.as_str(), tag.as_str()])?;
        }
        writer.flush()?;
        println!("{}: edit it, then add its rows to the pack's faq.csv", out.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The first message of a customer that asks something, and the next word of the other side.
fn asked(said: &[Said]) -> Option<Asked> {
    // "Where is my invoice?" has one word of its own, and so has "Invoices!", which asks nothing yet.
    let says_enough = |text: &str| match content_stems(text).len() {
        0 => false,
        1 => text.split_whitespace().count() >= 3,
        _ => true,
    };
    let asks = |said: &Said| said.side == Side::Customer && small_talk(&said.text).is_none() && says_enough(&said.text);
    let at = said.iter().position(asks)?;
    let question = said[at].text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_CHARS).collect();
    let answer = said[at + 1..].iter().find(|s| s.side != Side::Customer && !s.text.trim().is_empty());
    Some(Asked { question, answer: answer.map(|said| said.text.trim().to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_real_question_and_its_answer_are_taken() {
        let of =
            |said: &[(Side, &str)]| asked(&said.iter().map(|(side, text)| Said::new(*side, *text)).collect::<Vec<_>>());
        let found = of(&[
            (Side::Customer, "hello"),
            (Side::Bot, "Hi!"),
            (Side::Customer, "How do I change the widget colour?"),
            (Side::Person, "In Appearance."),
        ]);
        let wanted =
            Asked { question: "How do I change the widget colour?".into(), answer: Some("In Appearance.".into()) };
        assert_eq!(found, Some(wanted));
        assert_eq!(of(&[(Side::Customer, "ok"), (Side::Bot, "Fine.")]), None);
    }
}
