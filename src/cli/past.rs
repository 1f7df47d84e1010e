//! Past conversations from a file, of another system or of one's own records.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::eval::recorded::{Recorded, Said, Side};

/// The forms that are read, for the commands' help.
pub const FORMS: &str = "JSON lines: {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}, …]} or {\"question\": \"…\", \
    \"answer\": \"…\"}. CSV: the columns question[,answer], or conversation,role,text";

/// Reads a file: CSV by its name, else JSON lines.
pub fn read(path: &Path) -> anyhow::Result<Vec<Recorded>> {
    let named = || path.display().to_string();
    match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => from_csv(csv::Reader::from_path(path).with_context(named)?).with_context(named),
        _ => from_json_lines(&std::fs::read_to_string(path).with_context(named)?).with_context(named),
    }
}

fn from_json_lines(text: &str) -> anyhow::Result<Vec<Recorded>> {
    let mut conversations = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Value = serde_json::from_str(line).with_context(|| format!("line {} is no JSON", at + 1))?;
        let mut recorded = Recorded {
            id: named(&row, &["id", "conversation_id", "conversation"]).unwrap_or_else(|| format!("line-{}", at + 1)),
            channel: row["channel"].as_str().map(str::to_string),
            solved: row["solved"].as_bool(),
            said: Vec::new(),
        };
        if let Some(messages) = row["messages"].as_array() {
            recorded.said.extend(messages.iter().filter_map(|m| {
                let text = m["content"].as_str().or(m["text"].as_str())?;
                let side = side(m["role"].as_str().or(m["from"].as_str())?)?;
                Some(Said { wrong: m["wrong"].as_bool() == Some(true), ..Said::new(side, text) })
            }));
        } else if let Some(question) = named(&row, &["question", "text", "user"]) {
            recorded.said = pair(&question, row["answer"].as_str().unwrap_or_default());
        } else {
            bail!("line {}: neither \"messages\" nor \"question\" is in it", at + 1);
        }
        conversations.push(recorded);
    }
    Ok(conversations)
}

fn named(row: &Value, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| match &row[*name] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

fn from_csv(mut reader: csv::Reader<std::fs::File>) -> anyhow::Result<Vec<Recorded>> {
    let header = reader.headers()?.clone();
    let column = |names: &[&str]| header.iter().position(|h| names.contains(&h.trim().to_lowercase().as_str()));
    let field = |record: &csv::StringRecord, at: usize| record.get(at).unwrap_or_default().to_string();
    if let Some(question) = column(&["question"]) {
        let answer = column(&["answer"]);
        let rows = reader.records().enumerate().map(|(at, record)| -> anyhow::Result<Recorded> {
            let record = record?;
            let said = pair(&field(&record, question), &answer.map(|at| field(&record, at)).unwrap_or_default());
            Ok(Recorded { id: format!("row-{}", at + 1), said, ..Recorded::default() })
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
    let mut conversations: Vec<Recorded> = Vec::new();
    let mut by_id: HashMap<String, usize> = HashMap::new();
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    for record in reader.records() {
        let record = record?;
        let (id, role) = (field(&record, conversation), field(&record, role));
        let Some(side) = side(&role) else {
            *unknown.entry(role).or_default() += 1;
            continue;
        };
        let at = *by_id.entry(id.clone()).or_insert_with(|| {
            conversations.push(Recorded { id, ..Recorded::default() });
            conversations.len() - 1
        });
        conversations[at].said.push(Said::new(side, field(&record, text)));
    }
    for (role, rows) in unknown {
        eprintln!("{rows} rows of the role {role:?} are passed over");
    }
    Ok(conversations)
}

fn pair(question: &str, answer: &str) -> Vec<Said> {
    vec![Said::new(Side::Customer, question), Said::new(Side::Bot, answer)]
}

/// `None` for roles that say nothing to the other side.
fn side(role: &str) -> Option<Side> {
    match role.trim().to_lowercase().as_str() {
        "user" | "customer" | "client" | "visitor" | "клиент" | "посетитель" => Some(Side::Customer),
        "assistant" | "bot" | "бот" => Some(Side::Bot),
        "operator" | "agent" | "support" | "person" | "human" | "staff" | "оператор" => Some(Side::Person),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_keep_who_spoke_and_how_it_ended() {
        let text = concat!(
            r#"{"id":7,"channel":"mail","solved":true,"messages":[{"role":"user","content":"hello"},{"role":"assistant","content":"Hi!","wrong":true},{"role":"agent","content":"Olga here"}]}"#,
            "\n",
            r#"{"question":"Can I pay by invoice?","answer":"Yes."}"#
        );
        let read = from_json_lines(text).unwrap();
        assert_eq!((read[0].id.as_str(), read[0].channel.as_deref(), read[0].solved), ("7", Some("mail"), Some(true)));
        let sides: Vec<(Side, bool)> = read[0].said.iter().map(|s| (s.side, s.wrong)).collect();
        assert_eq!(sides, [(Side::Customer, false), (Side::Bot, true), (Side::Person, false)]);
        assert_eq!((read[1].id.as_str(), read[1].said.len()), ("line-2", 2));
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
        let read = read(&path).unwrap();
        assert_eq!(read.iter().map(|r| (r.id.as_str(), r.said.len())).collect::<Vec<_>>(), [("1", 2), ("2", 1)]);
        assert!(read[0].has_person());
    }
}
