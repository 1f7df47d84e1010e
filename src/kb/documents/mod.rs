//! Readers of formats: a file of the company becomes Markdown, and from there goes the way of all articles.
//!
//! *Reading*: the Markdown of one file, what is known of it (title, pages), and what could not be read. A
//! reader (`html`, `pdf`, `docx`, `sheet`, `mhtml`) turns bytes into a reading with a [`writer`], which escapes
//! authors' text and fences their code, so that [`crate::kb::markdown`] reads back exactly what was written: chunks,
//! exact code, links and images have one path for every format. `archive` opens a ZIP of a documentation folder.
//!
//! Files come from anywhere, so a reader is not trusted with this process: `isolation` runs it in a child with a limit
//! on memory and time, and a crash there is a line in the report here. [`Limits`] bounds everything, and says which
//! setting to raise.

use serde::{Deserialize, Serialize};

mod archive;
mod docx;
mod html;
mod isolation;
mod mhtml;
mod pdf;
mod readable;
mod sheet;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use archive::Archive;
pub(crate) use isolation::{COMMAND, answer_parent, read, read_in_children};
use writer::{Counts, Writer};

use crate::config::KnowledgeSettings;

/// How a file is written. Markdown and plain text are not among them: they need no reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Html,
    /// A web page saved with all its parts in one file.
    Mhtml,
    Pdf,
    Docx,
    /// Workbooks: XLSX, XLSM, XLSB, XLS, ODS.
    Sheet,
    Csv,
}

impl Format {
    /// By the end of a file's name; `None` for what has no reader.
    pub fn of(path: &str) -> Option<Self> {
        Some(match extension(path).as_str() {
            "html" | "htm" | "xhtml" => Self::Html,
            "mhtml" | "mht" => Self::Mhtml,
            "pdf" => Self::Pdf,
            "docx" => Self::Docx,
            "xlsx" | "xlsm" | "xlsb" | "xls" | "ods" => Self::Sheet,
            "csv" | "tsv" => Self::Csv,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Html => "HTML",
            Self::Mhtml => "MHTML",
            Self::Pdf => "PDF",
            Self::Docx => "DOCX",
            Self::Sheet => "workbook",
            Self::Csv => "CSV",
        }
    }
}

/// `1 page`, `2 pages`.
fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A file name's last part, in lower case.
pub(crate) fn extension(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map(|(_, end)| end.to_lowercase()).unwrap_or_default()
}

/// What bounds the reading of one file. Each is a setting.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// `knowledge.max_document_bytes`
    pub max_bytes: u64,
    /// `knowledge.max_document_text_bytes`
    pub max_text_bytes: usize,
    /// `knowledge.max_document_pages`
    pub max_pages: usize,
    /// `knowledge.max_document_rows`
    pub max_rows: usize,
    /// `knowledge.document_timeout_s`
    pub timeout_s: u64,
    /// `knowledge.document_memory_mib`
    pub memory_mib: u64,
    /// `knowledge.max_archive_files`
    pub max_archive_files: usize,
    /// `knowledge.max_archive_bytes`
    pub max_archive_bytes: u64,
}

impl Limits {
    pub fn of(settings: &KnowledgeSettings) -> Self {
        Self {
            max_bytes: settings.max_document_bytes,
            max_text_bytes: settings.max_document_text_bytes,
            max_pages: settings.max_document_pages,
            max_rows: settings.max_document_rows,
            timeout_s: settings.document_timeout_s,
            memory_mib: settings.document_memory_mib,
            max_archive_files: settings.max_archive_files,
            max_archive_bytes: settings.max_archive_bytes,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(&KnowledgeSettings::default())
    }
}

/// One file, read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub markdown: String,
    pub title: Option<String>,
    /// 1-based line of `markdown` on which each page begins; empty where the format has no pages.
    pub page_lines: Vec<usize>,
    pub counts: Counts,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

impl Reading {
    /// Takes over what a writer wrote.
    fn take(&mut self, out: Writer, limits: &Limits) {
        self.counts = out.counts;
        if out.is_full {
            let limit = limits.max_text_bytes;
            self.skipped.push(format!("what passes {limit} bytes of text (knowledge.max_document_text_bytes)"));
        }
        self.markdown = out.finish();
    }

    /// Names the file in targets that lie in it: `path` is its own name, as a link beside it would write it.
    pub fn place(&mut self, path: &str) {
        if self.markdown.contains(archive::INSIDE) {
            let name = path.rsplit('/').next().unwrap_or(path);
            let encoded: String = name
                .bytes()
                .map(|b| match b.is_ascii_alphanumeric() || b".-_".contains(&b) {
                    true => (b as char).to_string(),
                    false => format!("%{b:02X}"),
                })
                .collect();
            self.markdown = self.markdown.replace(archive::INSIDE, &format!("{encoded}/"));
        }
    }

    /// What was read, in a few words: `12 pages, 8 headings, 2 listings`.
    pub fn summary(&self) -> String {
        let Counts { headings, code, tables, images } = self.counts;
        let parts = [
            (self.page_lines.len(), "page"),
            (headings, "heading"),
            (code, "listing"),
            (tables, "table"),
            (images, "image"),
        ];
        let named: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| counted(*n, what)).collect();
        match named.is_empty() {
            true => format!("{} characters", self.markdown.trim().chars().count()),
            false => named.join(", "),
        }
    }
}

/// Why a file could not be read. Never a reason to stop: the pack goes without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum DocumentError {
    #[error("is not a readable {format} file: {reason}")]
    Broken { format: String, reason: String },
    #[error("is encrypted; save it without a password")]
    Encrypted,
    #[error("holds no text{hint}")]
    Empty { hint: String },
    #[error("passes the limit of {limit} ({setting})")]
    TooMuch { limit: String, setting: String },
    #[error("the reader failed on it ({reason}); the file is damaged, or of a kind that this version does not know")]
    Crashed { reason: String },
}

impl DocumentError {
    fn broken(format: Format, reason: impl ToString) -> Self {
        Self::Broken { format: format.name().into(), reason: reason.to_string() }
    }
}

/// Reads a file in this process. Trusts the file: [`read`] does not.
fn read_here(format: Format, bytes: &[u8], limits: &Limits) -> Result<Reading, DocumentError> {
    let mut reading = match format {
        Format::Html => html::read(bytes, limits),
        Format::Mhtml => mhtml::read(bytes, limits)?,
        Format::Pdf => pdf::read(bytes, limits)?,
        Format::Docx => docx::read(bytes, limits)?,
        Format::Sheet => sheet::read_workbook(bytes, limits)?,
        Format::Csv => sheet::read_csv(bytes, limits)?,
    };
    if !reading.markdown.chars().any(char::is_alphanumeric) {
        let hint = match format {
            Format::Pdf => "; are its pages scanned pictures? Let a text recognition (OCR) go over it",
            Format::Html | Format::Mhtml => "; is it filled in by scripts? Save it from a browser",
            _ => "",
        };
        return Err(DocumentError::Empty { hint: hint.into() });
    }
    reading.title = reading.title.filter(|title| title.chars().any(char::is_alphanumeric));
    Ok(reading)
}
