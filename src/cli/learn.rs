//! `firstline learn`: what do customers ask most? Past conversations, put together by their question, as a draft FAQ.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::{catalog, show};
use crate::config::Settings;
use crate::desk::cluster;
use crate::desk::suggestions::questions;
use crate::embed::Embedder;
use crate::kb::Pack;
use crate::personal;
use crate::support::conversation::small_talk;
use crate::support::text::content_stems;

/// Longest question that is compared, in characters.
const MAX_CHARS: usize = 600;

#[derive(Debug, Args)]
pub struct LearnArgs {
    /// Past conversations. JSON lines: {"messages": [{"role": "user", "content": "…"}, …]} or {"question": "…",
    /// "answer": "…"}. CSV: the columns question[,answer], or conversation,role,text
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

/// (who, what): `true` is the customer.
type Said = (bool, String);

pub fn run(settings: &Settings, args: &LearnArgs) -> anyhow::Result<ExitCode> {
    if let Some(out) = args.out.as_ref().filter(|out| out.exists()) {
        bail!("{} is there already; name a new file", out.display());
    }
    let mut asked = read(&args.file)?;
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

fn read(path: &Path) -> anyhow::Result<Vec<Asked>> {
    let named = || path.display().to_string();
    let conversations = match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => from_csv(csv::Reader::from_path(path).with_context(named)?).with_context(named)?,
        _ => from_json_lines(&std::fs::read_to_string(path).with_context(named)?).with_context(named)?,
    };
    Ok(conversations.iter().filter_map(|said| asked(said)).collect())
}

/// The first message of a customer that asks something, and the next word of the other side.
fn asked(said: &[Said]) -> Option<Asked> {
    // "Where is my invoice?" has one word of its own, and so has "Invoices!", which asks nothing yet.
    let says_enough = |text: &str| match content_stems(text).len() {
        0 => false,
        1 => text.split_whitespace().count() >= 3,
        _ => true,
    };
    let asks = |(customer, text): &Said| *customer && small_talk(text).is_none() && says_enough(text);
    let at = said.iter().position(asks)?;
    let question = said[at].1.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_CHARS).collect();
    let answer = said[at + 1..].iter().find(|(customer, text)| !customer && !text.trim().is_empty());
    Some(Asked { question, answer: answer.map(|(_, text)| text.trim().to_string()) })
}

fn from_json_lines(text: &str) -> anyhow::Result<Vec<Vec<Said>>> {
    let mut conversations = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Value = serde_json::from_str(line).with_context(|| format!("line {} is no JSON", at + 1))?;
        if let Some(messages) = row["messages"].as_array() {
            let said = messages.iter().filter_map(|m| {
                let text = m["content"].as_str().or(m["text"].as_str())?;
                Some((is_customer(m["role"].as_str().or(m["from"].as_str())?)?, text.to_string()))
            });
            conversations.push(said.collect());
        } else if let Some(question) = ["question", "text", "user"].iter().find_map(|name| row[name].as_str()) {
            conversations.push(pair(question, row["answer"].as_str().unwrap_or_default()));
        } else {
            bail!("line {}: neither \"messages\" nor \"question\" is in it", at + 1);
        }
    }
    Ok(conversations)
}

fn from_csv(mut reader: csv::Reader<std::fs::File>) -> anyhow::Result<Vec<Vec<Said>>> {
    let header = reader.headers()?.clone();
    let column = |names: &[&str]| header.iter().position(|h| names.contains(&h.trim().to_lowercase().as_str()));
    let field = |record: &csv::StringRecord, at: usize| record.get(at).unwrap_or_default().to_string();
    if let Some(question) = column(&["question"]) {
        let answer = column(&["answer"]);
        let rows = reader.records().map(|record| -> anyhow::Result<Vec<Said>> {
            let record = record?;
            Ok(pair(&field(&record, question), &answer.map(|at| field(&record, at)).unwrap_or_default()))
        });
        return rows.collect();
    }
    let (Some(conversation), Some(role), Some(text)) = (
        column(&["conversation", "conversation_id", "id"]),
        column(&["role", "from", "sender"]),
        column(&["text", "content", "message"]),
    ) else {
        bail!("the header must name question[,answer], or conversation,role,text");
    };
    let mut order: Vec<String> = Vec::new();
    let mut by_id: HashMap<String, Vec<Said>> = HashMap::new();
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    for record in reader.records() {
        let record = record?;
        let (id, role) = (field(&record, conversation), field(&record, role));
        let Some(customer) = is_customer(&role) else {
            *unknown.entry(role).or_default() += 1;
            continue;
        };
        by_id.entry(id.clone()).or_insert_with(|| {
            order.push(id);
            Vec::new()
        });
        if let Some(said) = by_id.get_mut(&field(&record, conversation)) {
            said.push((customer, field(&record, text)));
        }
    }
    for (role, rows) in unknown {
        eprintln!("{rows} rows of the role {role:?} are passed over");
    }
    Ok(order.into_iter().filter_map(|id| by_id.remove(&id)).collect())
}

fn pair(question: &str, answer: &str) -> Vec<Said> {
    vec![(true, question.to_string()), (false, answer.to_string())]
}

/// `None` for roles that say nothing to the other side.
fn is_customer(role: &str) -> Option<bool> {
    match role.trim().to_lowercase().as_str() {
        "user" | "customer" | "client" | "visitor" | "клиент" | "посетитель" => Some(true),
        "assistant" | "operator" | "agent" | "support" | "person" | "bot" | "оператор" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_real_question_and_its_answer_are_taken() {
        let text = concat!(
            r#"{"messages":[{"role":"user","content":"hello"},{"role":"assistant","content":"Hi!"},"#,
            r#"{"role":"user","content":"How do I change the widget colour?"},{"role":"assistant","content":"In Appearance."}]}"#,
            "\n",
            r#"{"question":"Can I pay by invoice?","answer":"Yes."}"#
        );
        let found: Vec<Asked> = from_json_lines(text).unwrap().iter().filter_map(|s| asked(s)).collect();
        assert_eq!(found[0].question, "How do I change the widget colour?");
        assert_eq!(found[0].answer.as_deref(), Some("In Appearance."));
        assert_eq!(found[1].answer.as_deref(), Some("Yes."));
        assert!(from_json_lines("{\"a\":1}").unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn rows_of_one_conversation_are_put_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("past.csv");
        std::fs::write(
            &path,
            "conversation,role,text\n1,customer,Where is my invoice?\n2,customer,ok\n1,agent,In Billing.\n1,system,x\n",
        )
        .unwrap();
        let found = read(&path).unwrap();
        assert_eq!(found, [Asked { question: "Where is my invoice?".into(), answer: Some("In Billing.".into()) }]);
    }
}
