//! What comes of whole files: the fixtures of scripts/make-document-fixtures, and what is left of them when broken.

use std::path::PathBuf;

use super::*;
use crate::kb::Asset;
use crate::kb::markdown::{Flavour, parse};

const CODE: &str = "curl -X POST https://api.example/v1/pumps \\\n    --header \"X-Key: $KEY\" \\\n    --data '{\"speed\": 3}'\n\n# done";

fn fixture(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/documents");
    std::fs::read(folder.join(name)).unwrap()
}

fn reading(name: &str) -> Reading {
    let outcome = read(Format::of(name).unwrap(), &fixture(name), &Limits::default());
    outcome.as_ref().as_ref().unwrap_or_else(|e| panic!("{name}: {e}")).clone()
}

fn codes(reading: &Reading) -> Vec<String> {
    let document = parse(&reading.markdown, Flavour::Converted);
    let code = |asset| if let Asset::Code { text, .. } = asset { Some(text) } else { None };
    document.assets.into_iter().filter_map(code).collect()
}

#[test]
fn code_comes_out_of_every_format_byte_for_byte() {
    for name in ["guide.pdf", "guide.docx", "start.html"] {
        let reading = reading(name);
        assert_eq!(codes(&reading), [CODE], "{name}:\n{}", reading.markdown);
    }
}

#[test]
fn a_pdf_gives_its_headings_pages_items_and_tables_and_not_its_frame() {
    let reading = reading("guide.pdf");
    assert_eq!(reading.title.as_deref(), Some("Pump guide"));
    assert_eq!(reading.page_lines.len(), 3);
    let expected = "# Pump guide\n\nThis guide is about the pump, its parts and its interface. Read it before you switch \
                    the pump on for the first time.\n\n## Starting the pump\n\nStart it by a request to its interface:";
    assert!(reading.markdown.starts_with(expected), "{}", reading.markdown);
    for part in [
        "- Wait for the green lamp.\n- Close the valve.",
        "## Prices\n\n| Model | Price |\n|---|---|\n| Pump S | 120 EUR |\n| Pump XL | 480 EUR |",
        "## Замена фильтра\n\nФильтр меняют раз в полгода. Отключите насос от сети.",
    ] {
        assert!(reading.markdown.contains(part), "{}", reading.markdown);
    }
    assert!(!reading.markdown.contains("edition") && !reading.markdown.contains("page 2"), "{}", reading.markdown);
}

#[test]
fn a_docx_gives_its_styles_lists_tables_and_pictures() {
    let mut reading = reading("guide.docx");
    reading.place("articles/the guide.docx");
    assert_eq!(reading.title.as_deref(), Some("Pump guide"));
    for part in [
        "# Pump guide\n\nThis guide is about the **pump**\n\n# Starting the pump",
        "- Wait for the green lamp.\n- Close the valve.\n1. Open the box.\n2. Take the pump out.",
        "## Prices\n\n| Model | Price |\n|---|---|\n| Pump S | 120 EUR |",
        "](the%20guide.docx/word/media/image1.png)",
    ] {
        assert!(reading.markdown.contains(part), "{part}\n\n{}", reading.markdown);
    }
}

#[test]
fn a_workbook_gives_all_its_sheets() {
    let reading = reading("prices.xlsx");
    assert!(reading.markdown.contains("# Pumps") && reading.markdown.contains("# Фильтры"), "{}", reading.markdown);
    assert!(reading.markdown.contains("| Pump 40 | 140 | 2010-03-01 |"), "{}", reading.markdown);
    assert_eq!(reading.markdown.matches("| Model | Price, EUR | Since |").count(), 2);
}

#[test]
fn limits_cut_and_say_which_setting_to_raise() {
    let limited = |limits: Limits| read(Format::Pdf, &fixture("guide.pdf"), &limits);
    let pages = limited(Limits { max_pages: 1, ..Limits::default() });
    assert!(pages.as_ref().as_ref().unwrap().skipped[0].contains("max_document_pages"));
    let text = limited(Limits { max_text_bytes: 100, ..Limits::default() });
    assert!(text.as_ref().as_ref().unwrap().skipped.iter().any(|s| s.contains("max_document_text_bytes")));
    let size = limited(Limits { max_bytes: 100, ..Limits::default() });
    assert!(size.as_ref().as_ref().unwrap_err().to_string().contains("max_document_bytes"));
}

#[test]
fn what_is_no_document_is_refused_in_words() {
    for format in [Format::Pdf, Format::Docx, Format::Sheet, Format::Mhtml] {
        for bytes in [&b""[..], b"%PDF-1.7", b"PK\x03\x04", b"hello"] {
            assert!(read(format, bytes, &Limits::default()).is_err(), "{format:?}");
        }
    }
}

/// Numbers of a linear congruential generator (Knuth, MMIX).
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 33) as usize
}

#[test]
fn broken_files_are_read_or_refused() {
    let files = ["guide.pdf", "guide.docx", "prices.xlsx", "start.html", "prices.csv"];
    for seed in 0..60u64 {
        let name = files[seed as usize % files.len()];
        let mut bytes = fixture(name);
        let mut state = seed;
        for _ in 0..1 + random(&mut state) % 20 {
            let at = random(&mut state) % bytes.len();
            bytes[at] = random(&mut state) as u8;
        }
        if seed % 3 == 0 {
            bytes.truncate(random(&mut state) % bytes.len());
        }
        // Whatever it says, it says something.
        let outcome = read(Format::of(name).unwrap(), &bytes, &Limits { timeout_s: 20, ..Limits::default() });
        if let Err(DocumentError::Crashed { reason }) = outcome.as_ref() {
            println!("seed {seed}, {name}: {reason}");
        }
    }
}
