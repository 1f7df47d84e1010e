//! Labelled rows from JSON lines: a text and one true-or-false field. Half of a set can be kept sealed.

use std::path::Path;

use clap::ValueEnum;
use serde_json::Value;

/// A labelled message.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub text: String,
    pub label: bool,
    /// The row's `kind`, `intent` or nothing.
    pub kind: String,
}

/// Which rows of a set are used. The halves are told apart by a hash of the text, so they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Half {
    /// To build and tune with
    Open,
    /// For the last run
    Sealed,
    All,
}

impl Half {
    fn has(self, text: &str) -> bool {
        let sealed = blake3::hash(text.as_bytes()).as_bytes()[0] & 1 == 1;
        match self {
            Self::All => true,
            Self::Open => !sealed,
            Self::Sealed => sealed,
        }
    }
}

/// A fault of a labelled file.
#[derive(Debug, thiserror::Error)]
pub enum LabelledError {
    #[error("{path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path}:{line}: {what}")]
    Row { path: String, line: usize, what: String },
    #[error("{path} has no rows{half}")]
    Empty { path: String, half: String },
}

/// Rows of a file with `text` and the boolean field `label`. Empty lines do not count.
///
/// # Errors
/// The file and line of whatever cannot be read.
pub fn read(path: &Path, label: &str, half: Half) -> Result<Vec<Row>, LabelledError> {
    let rows = parse(path, |row| match &row[label] {
        Value::Bool(label) => Ok(*label),
        Value::Null => Err(format!("the field {label:?} is missing; it has to be true or false")),
        other => Err(format!("the field {label:?} is {other}; it has to be true or false")),
    })?;
    let kept: Vec<Row> = rows.into_iter().filter(|r| half.has(&r.text)).collect();
    match kept.is_empty() {
        true => Err(LabelledError::Empty {
            path: path.display().to_string(),
            half: if half == Half::All { String::new() } else { format!(" in the {half:?} half").to_lowercase() },
        }),
        false => Ok(kept),
    }
}

/// Rows of a file with `text` and perhaps an `intent` or `kind`: examples of what a company is asked.
///
/// # Errors
/// The file and line of whatever cannot be read.
pub fn read_examples(path: &Path) -> Result<Vec<Row>, LabelledError> {
    parse(path, |_| Ok(true))
}

fn parse(path: &Path, label: impl Fn(&Value) -> Result<bool, String>) -> Result<Vec<Row>, LabelledError> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| LabelledError::Read { path: name.clone(), source })?;
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let fault = |what: String| LabelledError::Row { path: name.clone(), line: i + 1, what };
        let row: Value = serde_json::from_str(line).map_err(|e| fault(format!("no JSON object: {e}")))?;
        let Some(text) = row["text"].as_str() else {
            return Err(fault("the field \"text\" is missing; it has to be the customer's message".into()));
        };
        let kind = row["kind"].as_str().or(row["intent"].as_str()).unwrap_or_default();
        rows.push(Row { text: text.into(), label: label(&row).map_err(fault)?, kind: kind.into() });
    }
    Ok(rows)
}

/// Every readable page (`.md`, `.mdx`, `.txt`, `.html`) of a folder, in the order of their paths.
///
/// # Errors
/// A folder or page that cannot be read.
pub fn pages(folder: &Path) -> Result<Vec<String>, LabelledError> {
    let fault = |path: &Path, source| LabelledError::Read { path: path.display().to_string(), source };
    let mut pages = Vec::new();
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).map_err(|e| fault(folder, e))?.filter_map(Result::ok).map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            pages.extend(self::pages(&path)?);
        } else if path.extension().is_some_and(|e| matches!(e.to_str(), Some("md" | "mdx" | "txt" | "html"))) {
            let bytes = std::fs::read(&path).map_err(|e| fault(&path, e))?;
            pages.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn faults_name_file_and_line() {
        let said = |text: &str| read(file(text).path(), "spam", Half::All).unwrap_err().to_string();
        assert!(said("{\"text\":\"a\",\"spam\":true}\nnot json").contains(":2: no JSON"));
        assert!(said("{\"text\":\"a\"}").contains(":1: the field \"spam\" is missing"));
        assert!(said("{\"text\":\"a\",\"spam\":\"yes\"}").contains("is \"yes\""));
        assert!(said("\n{\"spam\":true}").contains(":2: the field \"text\""));
        assert!(said("").contains("no rows"));
        assert!(read(Path::new("/nowhere"), "spam", Half::All).unwrap_err().to_string().contains("/nowhere"));
    }

    #[test]
    fn the_two_halves_are_all_rows_and_share_none() {
        let text: String = (0..40).map(|i| format!("{{\"text\":\"row {i}\",\"spam\":true}}\n")).collect();
        let file = file(&text);
        let read = |half| read(file.path(), "spam", half).unwrap();
        let (open, sealed) = (read(Half::Open), read(Half::Sealed));
        assert_eq!(open.len() + sealed.len(), 40);
        assert!(open.iter().all(|row| !sealed.contains(row)) && open.len() > 8 && sealed.len() > 8);
    }
}
