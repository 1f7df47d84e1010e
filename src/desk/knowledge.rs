//! Editing the knowledge: the change log, the pack's `desk/` folder, and the live index, in this order.
//!
//! An *item* is a FAQ entry or an article. A FAQ entry of the company's own files gets its id from its first wording;
//! once it was changed here, the id stays whatever becomes of its words.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::config::Settings;
use crate::embed::Embedder;
use crate::kb::desk::{Desk, DeskChange, DeskContent, DeskFaq};
use crate::kb::pack::{Article, FaqEntry, UPLOADS};
use crate::kb::{KbError, Knowledge, SearchQuery, Snapshot, SourceKind, detect_lang};
use crate::store::knowledge::{Changed, KnowledgeChange, NewChange};
use crate::store::{Store, StoreError};

const MAX_QUESTION_CHARS: usize = 500;
const MAX_WORDINGS: usize = 40;
const MAX_ANSWER_CHARS: usize = 20_000;
const SNIPPET_CHARS: usize = 180;
/// Most items that a search gives.
const FOUND: usize = 60;

/// Whoever keeps the knowledge. Cheap to clone.
#[derive(Clone)]
pub struct Curator {
    pub(super) store: Store,
    pub(super) knowledge: Knowledge,
    pub(super) embedder: Embedder,
    settings: Arc<Settings>,
    /// One writer of the folder at a time.
    writing: Arc<tokio::sync::Mutex<()>>,
    pub(super) vectors: Arc<super::suggestions::Vectors>,
}

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemLine {
    pub id: String,
    /// `faq` or `article`.
    pub kind: &'static str,
    pub title: String,
    pub path: String,
    pub lang: String,
    pub snippet: String,
    pub editable: bool,
    /// Added or changed here.
    pub from_desk: bool,
}

/// An item, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    pub line: ItemLine,
    pub content: ItemContent,
    /// What an edit must name, so that nobody writes over what he has not seen.
    pub version: String,
}

/// What an item holds.
#[derive(Debug, Clone, PartialEq)]
pub enum ItemContent {
    Faq(DeskFaq),
    Article { markdown: String },
}

/// An item's new content.
#[derive(Debug, Clone, Default)]
pub struct Edit {
    pub question: Option<String>,
    pub answer: Option<String>,
    pub lang: Option<String>,
    pub tags: Option<Vec<String>>,
    pub markdown: Option<String>,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    pub id: String,
    /// False: it is kept, and will be live once the fault is mended.
    pub live: bool,
    pub fault: Option<String>,
}

/// Why an edit is refused.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("there is no item {0:?} in the knowledge")]
    Unknown(String),
    #[error("somebody has changed this entry since you opened it; open it again")]
    Stale,
    #[error("{field}: {reason}")]
    Invalid { field: &'static str, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Knowledge(#[from] KbError),
}

/// Writes the pack's `desk/` folder from the log; at the start, before the pack is read.
///
/// # Errors
/// The log or the folder cannot be read or written.
pub async fn restore(store: &Store, settings: &Settings) -> Result<(), EditError> {
    let desk = read_log(store).await?;
    desk.write(&settings.knowledge.dir, &settings.store.state_dir)?;
    Ok(())
}

async fn read_log(store: &Store) -> Result<Desk, StoreError> {
    Ok(Desk::of(store.knowledge_changes().await?.into_iter().filter_map(change_of)))
}

fn change_of(change: KnowledgeChange) -> Option<DeskChange> {
    let faq = || serde_json::from_value::<DeskFaq>(change.body.clone()).ok();
    let content = match (change.kind.as_str(), change.action.as_str()) {
        ("faq", "put") => DeskContent::Faq(faq()?),
        ("faq", _) => DeskContent::NoFaq(faq()?),
        ("article", "put") => DeskContent::Article(change.body["markdown"].as_str()?.to_string()),
        _ => DeskContent::NoArticle,
    };
    Some(DeskChange { seq: change.seq, item: change.item, content })
}

impl Curator {
    pub fn new(store: Store, knowledge: Knowledge, embedder: Embedder, settings: &Settings) -> Self {
        let settings = Arc::new(settings.clone());
        Self { store, knowledge, embedder, settings, writing: Arc::default(), vectors: Arc::default() }
    }

    /// Items that fit, a page of them: (items, offset of the next page). `kind`: `faq`, `article`, `desk`.
    pub async fn list(
        &self,
        query: &str,
        kind: Option<&str>,
        offset: usize,
        limit: usize,
    ) -> Result<(Vec<ItemLine>, Option<usize>), EditError> {
        let desk = read_log(&self.store).await?;
        let snapshot = self.knowledge.snapshot();
        let mut lines = match query.trim() {
            "" => all_lines(&snapshot, &desk),
            query => {
                let (snapshot, query) = (snapshot.clone(), query.to_string());
                blocking(move || found_lines(&snapshot, &desk, &query)).await??
            }
        };
        lines.retain(|line| match kind {
            Some("desk") => line.from_desk,
            Some(kind) => line.kind == kind,
            None => true,
        });
        let next = (offset + limit < lines.len()).then_some(offset + limit);
        Ok((lines.into_iter().skip(offset).take(limit).collect(), next))
    }

    /// One item.
    ///
    /// # Errors
    /// An id that is none; a file that cannot be read.
    pub async fn item(&self, id: &str) -> Result<Item, EditError> {
        let desk = read_log(&self.store).await?;
        self.item_in(&desk, id)
    }

    fn item_in(&self, desk: &Desk, id: &str) -> Result<Item, EditError> {
        let unknown = || EditError::Unknown(id.to_string());
        let snapshot = self.knowledge.snapshot();
        let pack = snapshot.pack();
        if let Some((_, seq, faq)) = desk.faq.iter().find(|(item, ..)| item == id) {
            let line = faq_line(id.to_string(), faq, "desk/faq.jsonl", true);
            return Ok(Item { line, version: version(*seq, &faq.answer), content: ItemContent::Faq(faq.clone()) });
        }
        if let Some(entry) = pack.faq.iter().find(|entry| faq_id(entry) == id) {
            let faq = faq_of(entry);
            let line = faq_line(id.to_string(), &faq, &entry.path, entry.path.starts_with("desk/"));
            return Ok(Item { line, version: version(desk.seq(id), &faq.answer), content: ItemContent::Faq(faq) });
        }
        let article = pack.articles.iter().find(|article| article.path == id).ok_or_else(unknown)?;
        let edited = desk.articles.get(id).and_then(|(_, text)| text.clone());
        let from_desk = edited.is_some();
        let markdown = match edited {
            Some(text) => text,
            None => {
                let (dir, path) = pack.place(&article.path);
                std::fs::read_to_string(dir.join(path))
                    .map_err(|e| KbError::Io { path: article.path.clone(), reason: e.to_string() })?
            }
        };
        let version = version(desk.seq(id), &markdown);
        Ok(Item { line: article_line(article, from_desk), version, content: ItemContent::Article { markdown } })
    }

    /// A new FAQ entry.
    ///
    /// # Errors
    /// What is wrong with it; a question that has an entry already.
    pub async fn add_faq(&self, author: &str, edit: Edit) -> Result<Written, EditError> {
        let desk = read_log(&self.store).await?;
        let faq = self.checked(DeskFaq::default(), edit)?;
        if let Some(id) = self.answers_already(&desk, &faq) {
            let reason = format!("this question has an entry already ({id}); edit that one");
            return Err(EditError::Invalid { field: "question", reason });
        }
        self.commit(new_entry(&desk, author, &faq)).await
    }

    /// An item's new content. `seen`: the version that its author opened.
    ///
    /// # Errors
    /// Stale, unknown, or what is wrong with it.
    pub async fn edit(&self, author: &str, id: &str, seen: &str, edit: Edit) -> Result<Written, EditError> {
        let desk = read_log(&self.store).await?;
        let item = self.item_in(&desk, id)?;
        if item.version != seen {
            return Err(EditError::Stale);
        }
        if !item.line.editable {
            let reason = "it was uploaded through /v1/files; upload the new file there and delete this one".to_string();
            return Err(EditError::Invalid { field: "id", reason });
        }
        let (kind, body) = match item.content {
            ItemContent::Faq(faq) => ("faq", json!(self.checked(faq, edit)?)),
            ItemContent::Article { .. } => ("article", json!({"markdown": self.checked_article(edit.markdown)?})),
        };
        let (author, item, after_seq) = (author.to_string(), id.to_string(), desk.seq(id));
        self.commit(NewChange { author, kind, item, action: "put", body, after_seq }).await
    }

    /// Takes back what was added or changed here; the company's own files stay.
    ///
    /// # Errors
    /// Where there is nothing of ours to take back.
    pub async fn delete(&self, author: &str, id: &str) -> Result<Written, EditError> {
        let desk = read_log(&self.store).await?;
        let item = self.item_in(&desk, id)?;
        if !item.line.from_desk {
            let reason = "it belongs to the company's own files; delete it there, or change it here".to_string();
            return Err(EditError::Invalid { field: "id", reason });
        }
        let (kind, body) = match item.content {
            ItemContent::Faq(faq) => ("faq", json!(faq)),
            ItemContent::Article { .. } => ("article", json!({})),
        };
        let (author, item, after_seq) = (author.to_string(), id.to_string(), desk.seq(id));
        self.commit(NewChange { author, kind, item, action: "delete", body, after_seq }).await
    }

    /// The change that makes this the answer to a question: a new entry, or the present one's new answer.
    pub(super) async fn answer_to(&self, author: &str, edit: Edit) -> Result<NewChange, EditError> {
        let desk = read_log(&self.store).await?;
        let faq = self.checked(DeskFaq::default(), edit.clone())?;
        let Some(id) = self.answers_already(&desk, &faq) else { return Ok(new_entry(&desk, author, &faq)) };
        let ItemContent::Faq(present) = self.item_in(&desk, &id)?.content else {
            return Ok(new_entry(&desk, author, &faq));
        };
        let body = json!(self.checked(present, Edit { question: None, lang: None, ..edit })?);
        let after_seq = desk.seq(&id);
        Ok(NewChange { author: author.to_string(), kind: "faq", item: id, action: "put", body, after_seq })
    }

    async fn commit(&self, change: NewChange) -> Result<Written, EditError> {
        match self.store.change_knowledge(&change).await? {
            Changed::As(_) => Ok(self.publish(change.item).await),
            Changed::Stale(_) => Err(EditError::Stale),
        }
    }

    /// Brings folder and index up to the log. What is committed stays so, whatever happens here.
    pub(super) async fn publish(&self, id: String) -> Written {
        let _one_at_a_time = self.writing.lock().await;
        let fault = match self.write_and_reload().await {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(%error, "a change of the knowledge is kept but not live yet");
                Some(error.to_string())
            }
        };
        Written { id, live: fault.is_none(), fault }
    }

    async fn write_and_reload(&self) -> Result<(), EditError> {
        let desk = read_log(&self.store).await?;
        let (knowledge, settings) = (self.knowledge.clone(), self.settings.clone());
        blocking(move || {
            desk.write(&settings.knowledge.dir, &settings.store.state_dir)?;
            knowledge.reload().map(|_| ())
        })
        .await?
        .map_err(EditError::from)
    }

    /// The id of the entry that has one of these questions.
    fn answers_already(&self, desk: &Desk, faq: &DeskFaq) -> Option<String> {
        if let Some((id, ..)) = desk.item_of(&faq.questions, &faq.lang) {
            return Some(id.clone());
        }
        let asked: HashSet<String> = faq.questions.iter().map(|q| q.to_lowercase()).collect();
        let snapshot = self.knowledge.snapshot();
        let asks = |e: &&FaqEntry| e.lang == faq.lang && e.questions.iter().any(|q| asked.contains(&q.to_lowercase()));
        snapshot.pack().faq.iter().find(asks).map(faq_id)
    }

    fn checked(&self, present: DeskFaq, edit: Edit) -> Result<DeskFaq, EditError> {
        let invalid = |field, reason: String| Err(EditError::Invalid { field, reason });
        let mut faq = present;
        if let Some(question) = edit.question {
            let wanted: Vec<String> =
                question.split(" | ").map(|q| q.trim().to_string()).filter(|q| !q.is_empty()).collect();
            // Earlier wordings stay: people still ask so, and by them the entry takes the place of the company's own.
            let earlier = std::mem::take(&mut faq.questions);
            faq.questions = wanted;
            if !faq.questions.is_empty() {
                let new: HashSet<String> = faq.questions.iter().map(|q| q.to_lowercase()).collect();
                faq.questions.extend(earlier.into_iter().filter(|q| !new.contains(&q.to_lowercase())));
            }
        }
        faq.questions.truncate(MAX_WORDINGS);
        faq.answer = edit.answer.map_or(faq.answer, |answer| answer.trim().to_string());
        faq.tags = edit.tags.unwrap_or(faq.tags);
        if faq.questions.is_empty() {
            return invalid("question", "it is empty".into());
        }
        if let Some(long) = faq.questions.iter().find(|q| q.chars().count() > MAX_QUESTION_CHARS) {
            let chars = long.chars().count();
            return invalid("question", format!("it has {chars} characters; the limit is {MAX_QUESTION_CHARS}"));
        }
        match faq.answer.chars().count() {
            0 => return invalid("answer", "it is empty".into()),
            chars if chars > MAX_ANSWER_CHARS => {
                return invalid("answer", format!("it has {chars} characters; the limit is {MAX_ANSWER_CHARS}"));
            }
            _ => {}
        }
        let snapshot = self.knowledge.snapshot();
        let languages = &snapshot.pack().company.languages;
        faq.lang = match edit.lang.filter(|lang| !lang.trim().is_empty()) {
            Some(lang) if languages.is_empty() || languages.contains(&lang) => lang,
            Some(lang) => {
                return invalid("lang", format!("{lang:?} is none of the company's: {}", languages.join(", ")));
            }
            None if faq.lang.is_empty() => detect_lang(&format!("{} {}", faq.questions[0], faq.answer), languages),
            None => faq.lang,
        };
        Ok(faq)
    }

    fn checked_article(&self, markdown: Option<String>) -> Result<String, EditError> {
        let invalid = |reason: String| Err(EditError::Invalid { field: "markdown", reason });
        let limit = self.settings.knowledge.max_file_bytes;
        match markdown {
            None => invalid("it is missing".into()),
            Some(text) if text.trim().is_empty() => invalid("it is empty".into()),
            Some(text) if text.len() as u64 > limit => {
                invalid(format!("it has {} bytes; the limit is {limit} (knowledge.max_file_bytes)", text.len()))
            }
            Some(text) => Ok(text),
        }
    }
}

fn new_entry(desk: &Desk, author: &str, faq: &DeskFaq) -> NewChange {
    let item = id_of(&faq.lang, &faq.questions);
    let after_seq = desk.seq(&item);
    NewChange { author: author.to_string(), kind: "faq", item, action: "put", body: json!(faq), after_seq }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, EditError> {
    let broke_off = |e: tokio::task::JoinError| KbError::Index(format!("the work broke off: {e}"));
    Ok(tokio::task::spawn_blocking(work).await.map_err(broke_off)?)
}

fn all_lines(snapshot: &Snapshot, desk: &Desk) -> Vec<ItemLine> {
    let pack = snapshot.pack();
    let mut lines: Vec<ItemLine> = pack.faq.iter().map(|entry| line_of(entry, desk)).collect();
    lines.extend(pack.articles.iter().map(|article| article_line(article, is_edited(desk, &article.path))));
    // What people added last is what they look for.
    lines.sort_by_key(|line| std::cmp::Reverse(desk.seq(&line.id)));
    lines
}

fn found_lines(snapshot: &Snapshot, desk: &Desk, query: &str) -> Result<Vec<ItemLine>, KbError> {
    let kinds = [SourceKind::Faq, SourceKind::Article];
    let pack = snapshot.pack();
    let mut seen = HashSet::new();
    let mut lines = Vec::new();
    for passage in snapshot.search(&SearchQuery { text: query, kinds: &kinds, limit: FOUND, ..Default::default() })? {
        let chunk = &passage.chunk;
        let line = match chunk.kind {
            SourceKind::Faq => {
                let same = |e: &&FaqEntry| e.path == chunk.path && e.line == chunk.line;
                pack.faq.iter().find(same).map(|entry| line_of(entry, desk))
            }
            _ => pack.articles.iter().find(|article| article.path == chunk.path).map(|article| ItemLine {
                snippet: snippet(&chunk.text),
                ..article_line(article, is_edited(desk, &article.path))
            }),
        };
        lines.extend(line.filter(|line| seen.insert(line.id.clone())));
    }
    Ok(lines)
}

fn is_edited(desk: &Desk, path: &str) -> bool {
    desk.articles.get(path).is_some_and(|(_, text)| text.is_some())
}

fn line_of(entry: &FaqEntry, desk: &Desk) -> ItemLine {
    let id = desk.item_of(&entry.questions, &entry.lang).map_or_else(|| faq_id(entry), |(id, ..)| id.clone());
    faq_line(id, &faq_of(entry), &entry.path, entry.path.starts_with("desk/"))
}

fn faq_line(id: String, faq: &DeskFaq, path: &str, from_desk: bool) -> ItemLine {
    ItemLine {
        id,
        kind: "faq",
        title: faq.questions.first().cloned().unwrap_or_default(),
        path: path.to_string(),
        lang: faq.lang.clone(),
        snippet: snippet(&faq.answer),
        editable: true,
        from_desk,
    }
}

fn article_line(article: &Article, from_desk: bool) -> ItemLine {
    ItemLine {
        id: article.path.clone(),
        kind: "article",
        title: article.title.clone(),
        path: article.path.clone(),
        lang: article.lang.clone(),
        snippet: snippet(article.text.trim_start()),
        editable: !article.path.starts_with(UPLOADS),
        from_desk,
    }
}

fn faq_of(entry: &FaqEntry) -> DeskFaq {
    DeskFaq {
        questions: entry.questions.clone(),
        answer: entry.answer.clone(),
        lang: entry.lang.clone(),
        tags: entry.tags.clone(),
    }
}

fn faq_id(entry: &FaqEntry) -> String {
    id_of(&entry.lang, &entry.questions)
}

fn id_of(lang: &str, questions: &[String]) -> String {
    let first = questions.first().map(|q| q.to_lowercase()).unwrap_or_default();
    format!("faq:{}", &blake3::hash(format!("{lang}\0{first}").as_bytes()).to_hex()[..16])
}

fn version(seq: i64, text: &str) -> String {
    format!("{seq}-{}", &blake3::hash(text.as_bytes()).to_hex()[..12])
}

fn snippet(text: &str) -> String {
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(SNIPPET_CHARS) {
        Some((at, _)) => format!("{}…", &flat[..at]),
        None => flat,
    }
}

/// The wire's form of an item, without its HTML.
impl Item {
    pub fn to_json(&self) -> Value {
        let mut value = json!(self.line);
        value["version"] = json!(self.version);
        match &self.content {
            ItemContent::Faq(faq) => {
                value["question"] = json!(faq.questions.join(" | "));
                value["answer"] = json!(faq.answer);
                value["tags"] = json!(faq.tags);
            }
            ItemContent::Article { markdown } => value["markdown"] = json!(markdown),
        }
        value
    }
}
