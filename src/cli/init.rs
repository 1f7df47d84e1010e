//! `firstline init FOLDER --from DOCS_FOLDER`: a new pack from a folder of documents, ready to serve.
//!
//! Documents and their images are copied as they are, with their folders, so that relative links keep working. Around them
//! come a `company.toml`, one operator with a general instruction, filter examples and a small FAQ, all to be edited.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::show;
use crate::config::{KnowledgeSettings, Settings};
use crate::kb::documents::{self, Archive, Format, Limits};

const TEXTS: [&str; 4] = ["md", "mdx", "markdown", "txt"];
const IMAGES: [&str; 7] = ["png", "jpg", "jpeg", "gif", "svg", "webp", "avif"];
/// Folders of tools, not of documents.
const SKIPPED_FOLDERS: [&str; 4] = ["node_modules", "target", "dist", "__pycache__"];

const COMPANY: &str = include_str!("init/company.toml");
const OPERATOR: &str = include_str!("init/operator.toml");
const INSTRUCTION: &str = include_str!("init/v1.md");
const EXAMPLES: &str = include_str!("init/examples.jsonl");
const FILTERS: &str = include_str!("init/filters.jsonl");
const FAQ: &str = include_str!("init/faq.csv");

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The new pack
    folder: PathBuf,
    /// Documents to start from: Markdown, text, HTML, PDF, DOCX, workbooks, CSV, ZIP files, with their images, in any folders
    #[arg(long, value_name = "DOCS_FOLDER")]
    from: PathBuf,
    /// The company's name [default: the folder's]
    #[arg(long)]
    name: Option<String>,
    /// The company's site
    #[arg(long, value_name = "URL")]
    site: Option<String>,
    /// Languages of the customers, the main one first [default: those of the documents]
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    languages: Vec<String>,
    /// Write into a folder that is not empty; files of the same names are replaced
    #[arg(long)]
    force: bool,
}

pub fn run(settings: &Settings, args: &InitArgs) -> anyhow::Result<ExitCode> {
    let (to, from) = (&args.folder, &args.from);
    if !from.is_dir() {
        bail!("--from {}: there is no such folder", from.display());
    }
    if to.exists() && !to.is_dir() {
        bail!("{} is a file; name a folder for the new pack", to.display());
    }
    if !args.force && to.is_dir() && to.read_dir().with_context(|| to.display().to_string())?.next().is_some() {
        bail!("{} is not empty; name a new folder, or add --force to replace files of the same names", to.display());
    }
    let mut found = Documents::default();
    collect(from, Path::new(""), to, &mut found).with_context(|| from.display().to_string())?;
    let nothing = || {
        format!(
            "{} has no document that can be read (.md, .txt, .html, .pdf, .docx, .xlsx, .csv, .zip)",
            from.display()
        )
    };
    if found.files.is_empty() {
        bail!(nothing());
    }
    let mut report = Report::default();
    for path in &found.files {
        copy(from, path, to, &settings.knowledge, &mut report)?;
    }
    if report.texts + report.documents.len() == 0 {
        let why = report.skipped.iter().map(|(path, reason)| format!("\n  {}: {reason}", path.display()));
        bail!("{}{}", nothing(), why.collect::<String>());
    }
    found.unread.into_iter().for_each(|path| report.skip(&path, unread_reason(&path)));

    let languages = if args.languages.is_empty() { main_languages(&report.languages) } else { args.languages.clone() };
    let name = args.name.clone().unwrap_or_else(|| folder_name(to));
    write_frame(to, &name, args.site.as_deref(), &languages)?;
    print_report(&report, to, &languages);
    Ok(ExitCode::SUCCESS)
}

/// What lies in the documents' folder, paths relative to it.
#[derive(Debug, Default)]
struct Documents {
    /// Texts and images.
    files: Vec<PathBuf>,
    unread: Vec<PathBuf>,
}

fn collect(root: &Path, relative: &Path, exclude: &Path, found: &mut Documents) -> std::io::Result<()> {
    let mut entries: Vec<_> = root.join(relative).read_dir()?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let path = relative.join(&name);
        let kind = entry.file_type()?;
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            let tool = SKIPPED_FOLDERS.iter().any(|skipped| name == *skipped);
            // The new pack may lie inside the documents' folder.
            let own = exclude.canonicalize().is_ok_and(|own| entry.path().canonicalize().is_ok_and(|it| it == own));
            if !tool && !own {
                collect(root, &path, exclude, found)?;
            }
        } else if kind.is_file()
            && (has_extension(&path, &TEXTS) || has_extension(&path, &IMAGES) || is_document(&path))
        {
            found.files.push(path);
        } else {
            found.unread.push(path);
        }
    }
    Ok(())
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    extensions.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn unread_reason(path: &Path) -> String {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("doc" | "odt" | "rtf") => "this format is not read; save it as .docx".into(),
        Some("ppt" | "pptx" | "odp") => "this format is not read; save it as .pdf".into(),
        Some(extension) => format!(".{extension} is no document that this version reads"),
        None => "not a regular text file".into(),
    }
}

/// True for a format that has a reader.
fn is_document(path: &Path) -> bool {
    let path = path.to_string_lossy();
    Format::of(&path).is_some() || path.to_lowercase().ends_with(".zip")
}

/// What was copied and what was not.
#[derive(Debug, Default)]
struct Report {
    texts: usize,
    /// Documents of other formats, and what was read of each.
    documents: Vec<(PathBuf, String)>,
    images: usize,
    skipped: Vec<(PathBuf, String)>,
    /// Language -> number of texts.
    languages: BTreeMap<String, usize>,
}

impl Report {
    fn skip(&mut self, path: &Path, reason: impl Into<String>) {
        self.skipped.push((path.to_path_buf(), reason.into()));
    }
}

fn copy(from: &Path, path: &Path, to: &Path, settings: &KnowledgeSettings, report: &mut Report) -> anyhow::Result<()> {
    let source = from.join(path);
    let (max_bytes, setting) = match is_document(path) {
        true => (settings.max_document_bytes, "knowledge.max_document_bytes"),
        false => (settings.max_file_bytes, "knowledge.max_file_bytes"),
    };
    let bytes = match std::fs::metadata(&source) {
        Ok(file) if file.len() > max_bytes => {
            report.skip(path, format!("{} bytes; the limit is {max_bytes} ({setting})", file.len()));
            return Ok(());
        }
        Ok(_) => match std::fs::read(&source) {
            Ok(bytes) => bytes,
            Err(error) => {
                report.skip(path, error.to_string());
                return Ok(());
            }
        },
        Err(error) => {
            report.skip(path, error.to_string());
            return Ok(());
        }
    };
    if has_extension(path, &TEXTS) {
        match std::str::from_utf8(&bytes) {
            Err(error) => {
                let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
                report.skip(path, format!("not UTF-8 (line {line}); save it as UTF-8"));
                return Ok(());
            }
            Ok(text) if text.trim().is_empty() => {
                report.skip(path, "empty");
                return Ok(());
            }
            Ok(text) => {
                report.texts += 1;
                if let Some(language) = language(text) {
                    *report.languages.entry(language).or_default() += 1;
                }
            }
        }
    } else if is_document(path) {
        match document(path, &bytes, &Limits::of(settings)) {
            Ok((read, language)) => {
                report.documents.push((path.to_path_buf(), read));
                language.into_iter().for_each(|language| *report.languages.entry(language).or_default() += 1);
            }
            Err(reason) => {
                report.skip(path, reason);
                return Ok(());
            }
        }
    } else {
        report.images += 1;
    }
    write(&to.join("articles").join(path), &bytes)
}

/// Tries to read a document: what was read, and its language.
fn document(path: &Path, bytes: &[u8], limits: &Limits) -> Result<(String, Option<String>), String> {
    let Some(format) = Format::of(&path.to_string_lossy()) else {
        let files = Archive::open(bytes, limits).map_err(|e| e.to_string())?.paths().len();
        return Ok((format!("ZIP: {}", show::count(files, "file")), None));
    };
    match documents::read(format, bytes, limits).as_ref() {
        Ok(reading) => {
            let left_out = reading.skipped.iter().map(|skipped| format!("; left out: {skipped}")).collect::<String>();
            let read = format!("{}: {}{left_out}", format.name(), reading.summary());
            Ok((read, language(&reading.markdown)))
        }
        Err(e) => Err(e.to_string()),
    }
}

/// ISO 639-1 of a text's language, for the languages that a pack is likely to have.
fn language(text: &str) -> Option<String> {
    use whatlang::Lang;
    // Enough for a verdict, and quick on large files.
    let head: String = text.chars().take(4000).collect();
    let code = match whatlang::detect_lang(&head)? {
        Lang::Eng => "en",
        Lang::Rus => "ru",
        Lang::Ukr => "uk",
        Lang::Bel => "be",
        Lang::Deu => "de",
        Lang::Fra => "fr",
        Lang::Spa => "es",
        Lang::Por => "pt",
        Lang::Ita => "it",
        Lang::Nld => "nl",
        Lang::Pol => "pl",
        Lang::Tur => "tr",
        Lang::Cmn => "zh",
        Lang::Jpn => "ja",
        Lang::Kor => "ko",
        _ => return None,
    };
    Some(code.into())
}

/// Languages of at least a twentieth of the texts, the most frequent first; English if none is known.
fn main_languages(counts: &BTreeMap<String, usize>) -> Vec<String> {
    let all: usize = counts.values().sum();
    let mut languages: Vec<_> = counts.iter().filter(|(_, n)| **n * 20 >= all).collect();
    languages.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    match languages.is_empty() {
        true => vec!["en".into()],
        false => languages.into_iter().map(|(language, _)| language.clone()).collect(),
    }
}

fn folder_name(folder: &Path) -> String {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    absolute.file_name().and_then(|name| name.to_str()).unwrap_or("Our company").to_string()
}

/// Everything around the documents.
fn write_frame(to: &Path, name: &str, site: Option<&str>, languages: &[String]) -> anyhow::Result<()> {
    let quoted = |text: &str| toml::Value::String(text.to_string()).to_string();
    let site_line = match site {
        Some(site) => format!("site = {}", quoted(site)),
        None => "# site = \"https://...\"".into(),
    };
    let list = |items: &[String]| toml::Value::from(items.to_vec()).to_string();
    let fill = |template: &str| {
        template
            .replace("@NAME_QUOTED@", &quoted(name))
            .replace("@NAME@", &name.replace(['"', '\\', '\n'], " "))
            .replace("@SITE@", &site_line)
            .replace("@LANGUAGES@", &list(languages))
    };
    let files = [
        ("company.toml", fill(COMPANY)),
        ("faq.csv", fill(&faq_in(languages)?)),
        ("operators/assistant/operator.toml", fill(OPERATOR)),
        ("operators/assistant/v1.md", fill(INSTRUCTION)),
        ("operators/assistant/examples.jsonl", fill(&examples_in(languages)?)),
        ("filters/general.jsonl", fill(FILTERS)),
    ];
    files.iter().try_for_each(|(path, text)| write(&to.join(path), text.as_bytes()))
}

/// The starter FAQ's entries in these languages; a pack is not to hold languages that it does not name.
fn faq_in(languages: &[String]) -> anyhow::Result<String> {
    let mut rows = csv::Reader::from_reader(FAQ.as_bytes());
    let mut kept = csv::Writer::from_writer(Vec::new());
    kept.write_record(rows.headers()?)?;
    for row in rows.records() {
        let row = row?;
        if languages.iter().any(|language| row.get(2) == Some(language)) {
            kept.write_record(&row)?;
        }
    }
    Ok(String::from_utf8(kept.into_inner()?)?)
}

/// The starter's sample answers in these languages.
fn examples_in(languages: &[String]) -> anyhow::Result<String> {
    let mut kept = String::new();
    for line in EXAMPLES.lines() {
        let row: serde_json::Value = serde_json::from_str(line)?;
        if languages.iter().any(|language| row["lang"] == language.as_str()) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok(kept)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

fn print_report(report: &Report, to: &Path, languages: &[String]) {
    for (path, read) in &report.documents {
        println!("read     {}: {read}", path.display());
    }
    for (path, reason) in &report.skipped {
        println!("skipped  {}: {reason}", path.display());
    }
    println!(
        "{}: {}, {}, {}, {} skipped; languages {}",
        to.display(),
        show::count(report.texts, "text"),
        show::count(report.documents.len(), "other document"),
        show::count(report.images, "image"),
        report.skipped.len(),
        languages.join(", ")
    );
    let (kb, company) = (to.display(), to.join("company.toml"));
    println!("\nNow edit {} and {kb}/operators/assistant/v1.md, then:", company.display());
    println!("  firstline index --check --kb {kb}");
    println!("  firstline serve --kb {kb}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_those_of_a_fair_share_of_the_texts() {
        let counts = BTreeMap::from([("en".to_string(), 10), ("ru".to_string(), 89), ("de".to_string(), 1)]);
        assert_eq!(main_languages(&counts), ["ru", "en"]);
        assert_eq!(main_languages(&BTreeMap::new()), ["en"]);
    }

    #[test]
    fn a_name_with_quotes_makes_no_faulty_files() {
        let folder = tempfile::tempdir().unwrap();
        write_frame(folder.path(), "Pete's \"Best\" \\ Shop", None, &["en".into(), "ru".into()]).unwrap();
        let company = std::fs::read_to_string(folder.path().join("company.toml")).unwrap();
        let company: toml::Table = toml::from_str(&company).unwrap();
        assert_eq!(company["name"].as_str(), Some("Pete's \"Best\" \\ Shop"));
        assert_eq!(company["languages"].as_array().map(Vec::len), Some(2));
        let operator = std::fs::read_to_string(folder.path().join("operators/assistant/operator.toml")).unwrap();
        assert!(toml::from_str::<toml::Table>(&operator).is_ok());
        for file in ["filters/general.jsonl", "operators/assistant/examples.jsonl"] {
            for line in std::fs::read_to_string(folder.path().join(file)).unwrap().lines() {
                assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{file}: {line}");
            }
        }
        let faq = std::fs::read(folder.path().join("faq.csv")).unwrap();
        assert!(csv::Reader::from_reader(faq.as_slice()).records().all(|row| row.is_ok()));
    }

    #[test]
    fn starter_texts_are_only_in_the_languages_of_the_pack() {
        let folder = tempfile::tempdir().unwrap();
        write_frame(folder.path(), "Shop", None, &["ru".into()]).unwrap();
        for file in ["faq.csv", "operators/assistant/examples.jsonl"] {
            let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
            assert!(text.contains("ru") && text.contains("помо"), "{file}: {text}");
            assert!(!text.contains("help"), "{file}: {text}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_reported_and_the_rest_is_copied() {
        let (docs, pack) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(docs.path().join("guide/images")).unwrap();
        std::fs::write(docs.path().join("guide/a.md"), "# A\n\n![x](images/x.png)\n").unwrap();
        std::fs::write(docs.path().join("guide/images/x.png"), [0x89, b'P']).unwrap();
        std::fs::write(docs.path().join("guide/b.md"), b"line\nbad \xff\n").unwrap();
        std::fs::write(docs.path().join("guide/c.pptx"), "P").unwrap();
        std::fs::write(docs.path().join("guide/d.html"), "<h1>D</h1><p>Text.</p>").unwrap();
        std::fs::write(docs.path().join("guide/e.pdf"), "%PDF").unwrap();
        let mut found = Documents::default();
        collect(docs.path(), Path::new(""), pack.path(), &mut found).unwrap();
        let mut report = Report::default();
        for path in &found.files {
            copy(docs.path(), path, pack.path(), &KnowledgeSettings::default(), &mut report).unwrap();
        }
        assert_eq!((report.texts, report.images), (1, 1));
        assert!(pack.path().join("articles/guide/images/x.png").is_file());
        assert!(report.skipped[0].1.contains("line 2"), "{:?}", report.skipped);
        assert_eq!(found.unread, [PathBuf::from("guide/c.pptx")]);
        assert_eq!(report.documents, [(PathBuf::from("guide/d.html"), "HTML: 1 heading".to_string())]);
        assert!(report.skipped[1].1.contains("PDF"), "{:?}", report.skipped);
    }
}
