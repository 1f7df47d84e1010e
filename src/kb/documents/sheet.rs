//! Workbooks and CSV: rows as tables, a few at a time under a heading that says which, each with the header above, so
//! that a question about one row finds a passage of its own.

use std::io::Cursor;

use calamine::{Data, Reader, Sheets};

use super::writer::{Writer, escape};
use super::{DocumentError, Format, Limits, Reading};

/// A table is closed when its rows have more characters than this, or when there are this many.
const TABLE_CHARS: usize = 900;
const TABLE_ROWS: usize = 25;
/// Columns beyond this are left out.
const MAX_COLUMNS: usize = 256;
/// A cell's text beyond this is cut.
const MAX_CELL_CHARS: usize = 4000;

/// Reads all sheets of a workbook.
///
/// # Errors
/// Where it is not one, or encrypted.
pub(super) fn read_workbook(bytes: &[u8], limits: &Limits) -> Result<Reading, DocumentError> {
    // Encrypted workbooks of today are OLE files that hold a stream of this name (in UTF-16).
    let encrypted: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
    if bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) && bytes.windows(encrypted.len()).any(|part| part == encrypted) {
        return Err(DocumentError::Encrypted);
    }
    let mut book: Sheets<_> = calamine::open_workbook_auto_from_rs(Cursor::new(bytes))
        .map_err(|e| DocumentError::broken(Format::Sheet, e))?;
    let mut out = Writer::new(limits.max_text_bytes);
    let mut reading = Reading::default();
    let mut left = limits.max_rows;
    let names = book.sheet_names();
    let alone = names.len() == 1;
    for name in names {
        let range = match book.worksheet_range(&name) {
            Ok(range) => range,
            Err(e) => {
                reading.skipped.push(format!("sheet {name:?}: {e}"));
                continue;
            }
        };
        let first = range.start().map_or(0, |(row, _)| row as usize);
        let rows = range.rows().enumerate().map(|(at, row)| (first + at + 1, row.iter().map(cell).collect::<Vec<_>>()));
        let rows: Vec<(usize, Vec<String>)> = rows.filter(|(_, row)| has_text(row)).take(left + 1).collect();
        if rows.is_empty() {
            continue;
        }
        if !(alone && name.to_lowercase().starts_with("sheet")) {
            out.heading(1, &name);
        }
        left = rows_left(&rows, left, &name, &mut reading);
        tables(&rows[..rows.len().min(limits.max_rows)], &mut out);
    }
    reading.take(out, limits);
    Ok(reading)
}

/// Reads comma-, semicolon- or tab-separated rows.
///
/// # Errors
/// Where it is not text.
pub(super) fn read_csv(bytes: &[u8], limits: &Limits) -> Result<Reading, DocumentError> {
    if bytes.iter().take(4096).any(|byte| *byte == 0) {
        return Err(DocumentError::broken(Format::Csv, "it holds zero bytes"));
    }
    let text = super::html::decoded(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut rows = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(separator(text))
        .from_reader(text.as_bytes());
    let mut kept: Vec<(usize, Vec<String>)> = Vec::new();
    let mut reading = Reading::default();
    for row in rows.records() {
        match row {
            Ok(row) => {
                let line = row.position().map_or(0, |at| at.line() as usize);
                let row: Vec<String> = row.iter().take(MAX_COLUMNS).map(|cell| cut(cell.trim())).collect();
                if has_text(&row) {
                    kept.push((line, row));
                }
            }
            Err(e) => reading.skipped.push(format!("a row: {e}")),
        }
        if kept.len() > limits.max_rows {
            break;
        }
    }
    let mut out = Writer::new(limits.max_text_bytes);
    rows_left(&kept, limits.max_rows, "the file", &mut reading);
    tables(&kept[..kept.len().min(limits.max_rows)], &mut out);
    reading.take(out, limits);
    Ok(reading)
}

/// How many more rows may be read; says so where rows are left out.
fn rows_left(rows: &[(usize, Vec<String>)], left: usize, name: &str, reading: &mut Reading) -> usize {
    if rows.len() > left {
        let limit = format!("rows of {name} after the first {left} (knowledge.max_document_rows)");
        reading.skipped.push(limit);
    }
    left.saturating_sub(rows.len())
}

/// The character of the first line that separates: the one of which there is most.
fn separator(text: &str) -> u8 {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let count = |c: u8| first.bytes().filter(|byte| *byte == c).count();
    // The first of equals wins, and a comma is the rule.
    [b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|c| count(*c)).unwrap_or(b',')
}

fn has_text(row: &[String]) -> bool {
    row.iter().any(|cell| !cell.is_empty())
}

fn cut(cell: &str) -> String {
    match cell.char_indices().nth(MAX_CELL_CHARS) {
        Some((at, _)) => format!("{}…", &cell[..at]),
        None => cell.to_string(),
    }
}

fn cell(cell: &Data) -> String {
    match cell {
        Data::Empty => String::new(),
        Data::String(text) => cut(text.trim()),
        // 2.0000000004 of a spreadsheet is 2.
        Data::Float(number) if number.fract().abs() < 1e-9 && number.abs() < 1e15 => format!("{number:.0}"),
        Data::Float(number) => number.to_string(),
        Data::DateTime(time) => match time.as_datetime() {
            Some(time) => time.format("%Y-%m-%d %H:%M:%S").to_string().trim_end_matches(" 00:00:00").to_string(),
            None => time.to_string(),
        },
        Data::Error(_) => String::new(),
        other => other.to_string(),
    }
}

/// Writes rows as tables. The first row is the header of all.
fn tables(rows: &[(usize, Vec<String>)], out: &mut Writer) {
    let Some(((_, header), rows)) = rows.split_first() else { return };
    let escaped = |row: &Vec<String>| row.iter().take(MAX_COLUMNS).map(|cell| escape(cell)).collect::<Vec<String>>();
    let header = escaped(header);
    if rows.is_empty() {
        out.table(&[header]);
        return;
    }
    let mut from = 0;
    while from < rows.len() {
        let (mut to, mut chars) = (from, 0);
        while to < rows.len() && (to == from || (chars < TABLE_CHARS && to - from < TABLE_ROWS)) {
            chars += rows[to].1.iter().map(|cell| cell.chars().count() + 3).sum::<usize>();
            to += 1;
        }
        if to - from < rows.len() {
            let (first, last) = (rows[from].0, rows[to - 1].0);
            out.heading(2, &if first == last { format!("Row {first}") } else { format!("Rows {first}–{last}") });
        }
        let mut table = vec![header.clone()];
        table.extend(rows[from..to].iter().map(|(_, row)| escaped(row)));
        out.table(&table);
        from = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_tables_with_the_header_above_each() {
        let mut text = String::from("\u{feff}Model;Price\n");
        (1..=60).for_each(|n| text.push_str(&format!("\"Pump {n} | steel\";{n}\n")));
        let reading = read_csv(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(reading.counts.tables, 3);
        assert_eq!(reading.markdown.matches("| Model | Price |").count(), 3);
        assert!(reading.markdown.contains("## Rows 27–51"), "{}", reading.markdown);
        assert!(reading.markdown.contains("| Pump 60 \\| steel | 60 |"));
    }

    #[test]
    fn rows_beyond_the_limit_are_left_out_and_said_so() {
        let limits = Limits { max_rows: 2, ..Limits::default() };
        let reading = read_csv(b"a,b\n1,2\n3,4\n", &limits).unwrap();
        assert!(!reading.markdown.contains('3'));
        assert!(reading.skipped[0].contains("max_document_rows"));
        assert!(read_csv(b"a\0b", &limits).is_err());
    }
}
