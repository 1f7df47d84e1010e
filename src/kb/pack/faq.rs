//! `faq.csv` and `faq.jsonl`.

use std::collections::HashMap;

use serde::Deserialize;

use super::files::Files;
use super::{Company, FaqEntry, lines};
use crate::kb::detect_lang;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow {
    question: OneOrMany,
    answer: String,
    #[serde(default)]
    lang: String,
    #[serde(default)]
    tags: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// All FAQ entries of a folder; `path` names `faq.csv` or `faq.jsonl` where they exist.
pub(super) fn read(files: &mut Files, company: &Company) -> Vec<FaqEntry> {
    let mut entries = Vec::new();
    if files.exists("faq.csv") {
        read_csv(files, "faq.csv", company, &mut entries);
    }
    if files.exists("faq.jsonl") {
        for (line, row) in lines::read::<JsonRow>(files, "faq.jsonl") {
            let questions = match row.question {
                OneOrMany::One(question) => wordings(&question),
                OneOrMany::Many(questions) => questions.iter().flat_map(|q| wordings(q)).collect(),
            };
            let tags = match row.tags {
                Some(OneOrMany::One(tags)) => words(&tags),
                Some(OneOrMany::Many(tags)) => tags,
                None => Vec::new(),
            };
            keep(files, "faq.jsonl", line, (questions, row.answer, row.lang, tags), company, &mut entries);
        }
    }
    warn_of_twins(files, &entries);
    entries
}

fn read_csv(files: &mut Files, path: &str, company: &Company, entries: &mut Vec<FaqEntry>) {
    let Some(text) = files.read(path) else { return };
    // Spreadsheets of Russian and other European locales write semicolons.
    let first = text.lines().next().unwrap_or_default();
    let delimiter = if first.contains(';') && !first.contains(',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().flexible(true).delimiter(delimiter).from_reader(text.as_bytes());
    let header: Vec<String> = match reader.headers() {
        Ok(header) => header.iter().map(|name| name.trim().to_lowercase()).collect(),
        Err(e) => return files.fatal(path, 1, format!("the header cannot be read: {e}")),
    };
    let column = |name: &str| header.iter().position(|h| h == name);
    let (Some(question), Some(answer)) = (column("question"), column("answer")) else {
        let reason = format!("the first line must name the columns question,answer[,lang,tags]; it is `{first}`");
        return files.fatal(path, 1, reason);
    };
    for name in header.iter().filter(|name| !["question", "answer", "lang", "tags"].contains(&name.as_str())) {
        files.warn(path, 1, format!("the column `{name}` is not known and is passed over"));
    }
    let (lang, tags) = (column("lang"), column("tags"));
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(e) => {
                let line = e.position().map_or(0, |p| p.line() as usize);
                files.fatal(path, line, format!("the row cannot be read: {e}"));
                continue;
            }
        };
        // The reader stands after the row; a quoted row spans lines, and its position is where it begins.
        let line = record.position().map_or(0, |p| p.line() as usize);
        if record.iter().all(|field| field.trim().is_empty()) {
            continue;
        }
        if record.len() > header.len() || record.len() <= question.max(answer) {
            let reason = format!(
                "has {} columns, the header {}; a text with commas or line breaks must stand in double quotes",
                record.len(),
                header.len()
            );
            files.fatal(path, line, reason);
            continue;
        }
        let field = |at: Option<usize>| at.and_then(|at| record.get(at)).unwrap_or_default().trim().to_string();
        let row = (wordings(&field(Some(question))), field(Some(answer)), field(lang), words(&field(tags)));
        keep(files, path, line, row, company, entries);
    }
}

type Row = (Vec<String>, String, String, Vec<String>);

fn keep(files: &mut Files, path: &str, line: usize, row: Row, company: &Company, entries: &mut Vec<FaqEntry>) {
    let (questions, answer, mut lang, tags) = row;
    if questions.is_empty() {
        return files.fatal(path, line, "the question is empty");
    }
    if answer.trim().is_empty() {
        return files.fatal(path, line, format!("the answer to \"{}\" is empty", questions[0]));
    }
    if lang.is_empty() {
        lang = detect_lang(&format!("{} {answer}", questions.join(" ")), &company.languages);
    } else if !company.languages.is_empty() && !company.languages.contains(&lang) {
        let known = company.languages.join(", ");
        files.warn(path, line, format!("the language `{lang}` is not among the company's ({known})"));
    }
    let path = files.named(path);
    entries.push(FaqEntry { path, line, questions, answer: answer.trim().to_string(), lang, tags });
}

fn wordings(questions: &str) -> Vec<String> {
    questions.split(" | ").map(|q| q.trim().to_string()).filter(|q| !q.is_empty()).collect()
}

fn words(tags: &str) -> Vec<String> {
    tags.split([',', ' ', ';']).map(str::trim).filter(|t| !t.is_empty()).map(str::to_string).collect()
}

fn warn_of_twins(files: &mut Files, entries: &[FaqEntry]) {
    let mut first: HashMap<(String, &str), usize> = HashMap::new();
    let mut twins = Vec::new();
    for entry in entries {
        for question in &entry.questions {
            let key = (question.to_lowercase(), entry.lang.as_str());
            let line = *first.entry(key).or_insert(entry.line);
            if line != entry.line {
                twins.push((entry, format!("the question \"{question}\" is already answered in line {line}")));
            }
        }
    }
    let prefix = files.named("");
    for (entry, reason) in twins {
        let path = entry.path.strip_prefix(&prefix).unwrap_or(&entry.path).to_string();
        files.warn(&path, entry.line, reason);
    }
}
