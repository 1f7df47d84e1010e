//! `company.toml`.

use super::Company;
use super::files::{Files, line_at};

const FILE: &str = "company.toml";
const PHRASES: [&str; 9] =
    ["greeting", "thanks", "clarify", "clarify_choice", "person_first", "handoff", "no_answer", "filtered", "flood"];

/// Reads and checks `company.toml`; what cannot be read is left at its default, with a fatal fault.
pub(super) fn read(files: &mut Files) -> Company {
    if !files.exists(FILE) {
        files.fatal(FILE, 0, "is missing; it names the company and its languages (see kb/README.md)");
        return Company::default();
    }
    let Some(text) = files.read(FILE) else { return Company::default() };
    let mut company: Company = match toml::from_str(&text) {
        Ok(company) => company,
        Err(e) => {
            let line = e.span().map_or(0, |span| line_at(&text, span.start));
            files.fatal(FILE, line, e.message().to_string());
            return Company::default();
        }
    };
    if company.tone.address.is_empty() {
        company.tone.address = "formal".into();
    }
    if company.tone.max_sentences == 0 {
        company.tone.max_sentences = 5;
    }
    check(&company, &text, files);
    company
}

fn check(company: &Company, text: &str, files: &mut Files) {
    if company.name.trim().is_empty() {
        files.fatal(FILE, line_of_key(text, "name"), "`name` is empty");
    }
    if company.languages.is_empty() {
        files.fatal(FILE, line_of_key(text, "languages"), "`languages` is empty; write for example [\"en\"]");
    }
    for lang in &company.languages {
        if !is_language(lang) {
            let line = line_of_key(text, "languages");
            files.fatal(FILE, line, format!("`{lang}` is not a language code of two letters, as en or ru"));
        }
    }
    if !matches!(company.tone.address.as_str(), "formal" | "informal") {
        let reason = format!("`address` is `{}`; it must be `formal` or `informal`", company.tone.address);
        files.fatal(FILE, line_of_key(text, "address"), reason);
    }
    for lang in &company.languages {
        if !company.about.contains_key(lang) {
            files.warn(FILE, line_of(text, "[about]"), format!("`about` has no sentence in `{lang}`"));
        }
    }
    if !company.off_topic.topics.is_empty() {
        for lang in company.languages.iter().filter(|lang| !company.off_topic.reply.contains_key(*lang)) {
            files.warn(FILE, line_of(text, "[off_topic"), format!("`off_topic.reply` has no text in `{lang}`"));
        }
    }
    for mistaken in &company.mistaken_for {
        let line = line_of(text, "[[mistaken_for]]");
        if mistaken.words.is_empty() {
            files.warn(FILE, line, format!("`mistaken_for` \"{}\" has no words to know it by", mistaken.who));
        }
        for lang in company.languages.iter().filter(|lang| !mistaken.reply.contains_key(*lang)) {
            files.warn(FILE, line, format!("`mistaken_for` \"{}\" has no reply in `{lang}`", mistaken.who));
        }
    }
    for (name, wordings) in &company.phrases {
        let line = line_of(text, &format!("[phrases.{name}]"));
        if !PHRASES.contains(&name.as_str()) {
            files.warn(FILE, line, format!("the phrase `{name}` is not known; known are {}", PHRASES.join(", ")));
        }
        for lang in wordings.keys().filter(|lang| !company.languages.contains(lang)) {
            files.warn(FILE, line, format!("the phrase `{name}` has `{lang}`, which is not among the languages"));
        }
    }
}

/// Two lowercase letters.
pub(super) fn is_language(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|b| b.is_ascii_lowercase())
}

/// Line of the first line that begins with `start`; 0 where there is none.
pub(super) fn line_of(text: &str, start: &str) -> usize {
    text.lines().position(|line| line.trim_start().starts_with(start)).map_or(0, |at| at + 1)
}

/// Line of `key = …`.
pub(super) fn line_of_key(text: &str, key: &str) -> usize {
    let is_key =
        |line: &str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
    text.lines().position(is_key).map_or(0, |at| at + 1)
}
