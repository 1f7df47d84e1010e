//! JSON-lines files: one object a line, every broken line its own fault.

use serde::de::DeserializeOwned;

use super::files::Files;

/// The rows of a `.jsonl` file with their 1-based lines. Blank lines and `//` comments are passed over.
pub(super) fn read<T: DeserializeOwned>(files: &mut Files, path: &str) -> Vec<(usize, T)> {
    let Some(text) = files.read(path) else { return Vec::new() };
    let mut rows = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let row = line.trim();
        if row.is_empty() || row.starts_with("//") {
            continue;
        }
        match serde_json::from_str(row) {
            Ok(value) => rows.push((at + 1, value)),
            Err(e) => {
                // serde_json's own "at line 1 column 7" would name the wrong line.
                let said = e.to_string();
                let reason = said.split(" at line ").next().unwrap_or(&said);
                files.fatal(path, at + 1, format!("{reason} (column {})", e.column()));
            }
        }
    }
    rows
}
