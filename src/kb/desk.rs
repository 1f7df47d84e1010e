//! What people add and change through the console: the pack's `desk/` folder, written by the program.
//!
//! The store's change log comes first and is the truth; the folder is written from it, again and again with the same
//! result, so that a crash between the two loses nothing. Rows of `desk/faq.jsonl` that the log knows nothing of (git
//! brought them, say) are kept as they are. A pack that cannot be written to gets its folder in the state directory.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::KbError;

const FAQ: &str = "faq.jsonl";

/// A FAQ entry as people edit it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeskFaq {
    /// Wordings; the first is the title.
    pub questions: Vec<String>,
    /// Markdown.
    pub answer: String,
    pub lang: String,
    pub tags: Vec<String>,
}

/// One change, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeskChange {
    pub seq: i64,
    /// What is changed: the id of a FAQ entry, or an article's path inside the pack.
    pub item: String,
    pub content: DeskContent,
}

/// What an item was changed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeskContent {
    Faq(DeskFaq),
    /// The entry that was there is deleted.
    NoFaq(DeskFaq),
    /// The whole file.
    Article(String),
    /// The pack's own article holds again.
    NoArticle,
}

/// The log, read to its end.
#[derive(Debug, Clone, Default)]
pub struct Desk {
    /// By item, in the order in which they were first written: (item, latest seq, entry).
    pub faq: Vec<(String, i64, DeskFaq)>,
    /// By path: latest seq, and the text unless it was taken back.
    pub articles: BTreeMap<String, (i64, Option<String>)>,
    /// Latest change of every item.
    seqs: BTreeMap<String, i64>,
    /// (language, question) of all entries that the log ever held.
    known: HashSet<(String, String)>,
}

impl Desk {
    /// Reads changes in the order of their `seq`.
    pub fn of(changes: impl IntoIterator<Item = DeskChange>) -> Self {
        let mut desk = Self::default();
        for change in changes {
            desk.seqs.insert(change.item.clone(), change.seq);
            match change.content {
                DeskContent::Faq(entry) => {
                    desk.known.extend(keys(&entry.questions, &entry.lang));
                    match desk.faq.iter_mut().find(|(item, ..)| *item == change.item) {
                        Some(known) => (known.1, known.2) = (change.seq, entry),
                        None => desk.faq.push((change.item, change.seq, entry)),
                    }
                }
                DeskContent::NoFaq(entry) => {
                    desk.known.extend(keys(&entry.questions, &entry.lang));
                    desk.faq.retain(|(item, ..)| *item != change.item);
                }
                DeskContent::Article(text) => {
                    desk.articles.insert(change.item, (change.seq, Some(text)));
                }
                DeskContent::NoArticle => {
                    desk.articles.insert(change.item, (change.seq, None));
                }
            }
        }
        desk
    }

    /// The latest change of an item; 0 where there is none.
    pub fn seq(&self, item: &str) -> i64 {
        self.seqs.get(item).copied().unwrap_or(0)
    }

    /// The item that answers one of these questions in this language.
    pub fn item_of(&self, questions: &[String], lang: &str) -> Option<&(String, i64, DeskFaq)> {
        let asked: HashSet<(String, String)> = keys(questions, lang).collect();
        self.faq.iter().find(|(_, _, entry)| keys(&entry.questions, &entry.lang).any(|key| asked.contains(&key)))
    }

    fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }

    /// Brings the folder in line with the log; true where a file changed. Nothing is touched where the log is empty.
    ///
    /// # Errors
    /// A file that cannot be read or written, by name.
    pub fn write(&self, pack_dir: &Path, state_dir: &Path) -> Result<bool, KbError> {
        if self.is_empty() {
            return Ok(false);
        }
        let own = pack_dir.join("desk");
        let spare = state_dir.join("desk");
        let in_pack = is_writable(&own);
        let folder = if in_pack { &own } else { &spare };
        std::fs::create_dir_all(folder).map_err(|e| io(folder, &e))?;
        let mut changed = self.write_faq(folder)?;
        for (path, (_, text)) in &self.articles {
            changed |= put(&folder.join(path), text.as_deref())?;
        }
        if in_pack && spare.is_dir() {
            // Written while the pack could not be; the log has it all, and it would hide what is newer.
            std::fs::remove_dir_all(&spare).map_err(|e| io(&spare, &e))?;
            changed = true;
        }
        Ok(changed)
    }

    fn write_faq(&self, folder: &Path) -> Result<bool, KbError> {
        let path = folder.join(FAQ);
        let before = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(io(&path, &e)),
        };
        let mut lines: Vec<String> = before.lines().filter(|line| !self.knows(line)).map(str::to_string).collect();
        lines.extend(self.faq.iter().map(|(_, _, entry)| row(entry)));
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        if text.is_empty() && before.is_empty() {
            return Ok(false);
        }
        put(&path, Some(&text))
    }

    /// True for a row of the file that the log wrote, or took over.
    fn knows(&self, line: &str) -> bool {
        let Ok(row) = serde_json::from_str::<Value>(line) else { return line.trim().is_empty() };
        let questions: Vec<String> = match &row["question"] {
            Value::String(one) => one.split(" | ").map(|q| q.trim().to_string()).collect(),
            Value::Array(many) => many.iter().filter_map(Value::as_str).map(str::to_string).collect(),
            _ => Vec::new(),
        };
        keys(&questions, row["lang"].as_str().unwrap_or_default()).any(|key| self.known.contains(&key))
    }
}

/// Where the folder lies at present, for those who look into it.
pub fn folder(pack_dir: &Path, state_dir: &Path) -> PathBuf {
    let spare = state_dir.join("desk");
    if spare.is_dir() { spare } else { pack_dir.join("desk") }
}

fn keys<'a>(questions: &'a [String], lang: &'a str) -> impl Iterator<Item = (String, String)> + 'a {
    questions.iter().map(move |question| (lang.to_string(), question.trim().to_lowercase()))
}

fn row(entry: &DeskFaq) -> String {
    json!({"question": entry.questions, "answer": entry.answer, "lang": entry.lang, "tags": entry.tags}).to_string()
}

/// Writes (or with `None` removes) a file; whole, or not at all. True where something changed.
fn put(path: &Path, text: Option<&str>) -> Result<bool, KbError> {
    let before = std::fs::read(path).ok();
    if before.as_deref() == text.map(str::as_bytes) {
        return Ok(false);
    }
    let Some(text) = text else {
        std::fs::remove_file(path).map_err(|e| io(path, &e))?;
        return Ok(true);
    };
    let failed = |e: std::io::Error| io(path, &e);
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed)?;
    // Hidden files are no part of a pack.
    let part = parent.join(format!(".{}.part", path.file_name().unwrap_or_default().to_string_lossy()));
    let mut file = std::fs::File::create(&part).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&part, path).map_err(failed)?;
    Ok(true)
}

/// True where the folder is there, or can be made, and takes files.
fn is_writable(folder: &Path) -> bool {
    let probe = folder.join(".probe");
    let there = folder.is_dir();
    let works = (there || std::fs::create_dir(folder).is_ok()) && std::fs::write(&probe, b"").is_ok();
    let _ = std::fs::remove_file(&probe);
    if !there && !works {
        let _ = std::fs::remove_dir(folder);
    }
    works
}

fn io(path: &Path, error: &std::io::Error) -> KbError {
    KbError::Io { path: path.display().to_string(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(question: &str, answer: &str) -> DeskFaq {
        DeskFaq { questions: vec![question.into()], answer: answer.into(), lang: "en".into(), tags: vec![] }
    }

    fn change(seq: i64, item: &str, content: DeskContent) -> DeskChange {
        DeskChange { seq, item: item.into(), content }
    }

    #[test]
    fn writing_twice_changes_nothing_and_rows_of_others_stay() {
        let (pack, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(pack.path().join("desk")).unwrap();
        let theirs = r#"{"question":"Theirs?","answer":"Yes.","lang":"en"}"#;
        std::fs::write(pack.path().join("desk/faq.jsonl"), format!("{theirs}\n")).unwrap();
        let mut changes = vec![
            change(1, "faq:a", DeskContent::Faq(entry("How?", "So."))),
            change(2, "articles/en/a.md", DeskContent::Article("# A\n".into())),
        ];
        let desk = Desk::of(changes.clone());
        assert!(desk.write(pack.path(), state.path()).unwrap());
        assert!(!desk.write(pack.path(), state.path()).unwrap());
        let read = || std::fs::read_to_string(pack.path().join("desk/faq.jsonl")).unwrap();
        assert!(read().starts_with(theirs) && read().contains("So.") && read().lines().count() == 2);
        assert_eq!(std::fs::read_to_string(pack.path().join("desk/articles/en/a.md")).unwrap(), "# A\n");

        changes.push(change(3, "faq:a", DeskContent::Faq(entry("How then?", "Thus."))));
        changes.push(change(4, "articles/en/a.md", DeskContent::NoArticle));
        let desk = Desk::of(changes.clone());
        assert!(desk.write(pack.path(), state.path()).unwrap());
        assert!(!read().contains("So.") && read().contains("Thus.") && read().lines().count() == 2);
        assert!(!pack.path().join("desk/articles/en/a.md").exists());
        assert_eq!((desk.seq("faq:a"), desk.seq("other")), (3, 0));

        changes.push(change(5, "faq:a", DeskContent::NoFaq(entry("How then?", ""))));
        assert!(Desk::of(changes).write(pack.path(), state.path()).unwrap());
        assert_eq!(read(), format!("{theirs}\n"));
    }

    #[test]
    fn a_pack_without_a_place_for_it_gets_its_folder_in_the_state_directory_until_it_has_one() {
        let (pack, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // A file in the folder's place: as unwritable for root as for others.
        std::fs::write(pack.path().join("desk"), "").unwrap();
        let desk = Desk::of([change(1, "faq:a", DeskContent::Faq(entry("How?", "So.")))]);
        desk.write(pack.path(), state.path()).unwrap();
        assert!(state.path().join("desk/faq.jsonl").is_file());
        std::fs::remove_file(pack.path().join("desk")).unwrap();
        desk.write(pack.path(), state.path()).unwrap();
        assert!(pack.path().join("desk/faq.jsonl").is_file() && !state.path().join("desk").exists());
    }
}
