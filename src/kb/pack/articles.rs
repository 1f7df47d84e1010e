//! `articles/**`: Markdown, MDX and plain text with optional front matter, and documents of all formats that have a
//! reader, also inside a ZIP.

use serde_yaml_ng::Value;

use super::company::is_language;
use super::files::Files;
use super::{Article, Company, FileReport};
use crate::kb::detect_lang;
use crate::kb::documents::{self, Archive, Format, extension};
use crate::kb::markdown::fences;

/// Formats of documents without a reader, and what to do.
const SAVE_AS: [(&str, &str); 7] = [
    ("doc", "save it as .docx"),
    ("rtf", "save it as .docx"),
    ("odt", "save it as .docx"),
    ("ppt", "save it as .pdf"),
    ("pptx", "save it as .pdf"),
    ("odp", "save it as .pdf"),
    ("epub", "save it as .html"),
];
/// Files that belong to documents and are no documents themselves.
const PARTS: [&str; 24] = [
    "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "bmp", "css", "js", "mjs", "map", "woff", "woff2",
    "ttf", "otf", "eot", "mp4", "webm", "mp3", "wasm", "download", "license",
];

/// All articles below `folder`, in the order of their paths.
pub(super) fn read(files: &mut Files, folder: &str, company: &Company) -> Vec<Article> {
    let mut articles = Vec::new();
    let paths = files.list(folder);
    for path in &paths {
        match extension(path).as_str() {
            "md" | "mdx" | "markdown" | "txt" => {
                if let Some(text) = files.read(path) {
                    articles.push(article(files, path.clone(), text, company));
                }
            }
            "zip" => {
                if let Some(bytes) = files.document(path) {
                    read_archive(files, path, &bytes, company, &mut articles);
                }
            }
            other if PARTS.contains(&other) || is_part_of_page(path, &paths) => {}
            _ => match Format::of(path) {
                Some(format) => {
                    if let Some(bytes) = files.document(path) {
                        articles.extend(read_document(files, path, format, &bytes, company));
                    }
                }
                None => pass_over(files, path),
            },
        }
    }
    articles
}

/// True for what a browser saved beside a page, in `NAME_files/`.
fn is_part_of_page(path: &str, paths: &[String]) -> bool {
    let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
    folders
        .filter_map(|folder| folder.strip_suffix("_files"))
        .any(|page| [".html", ".htm"].iter().any(|end| paths.binary_search(&format!("{page}{end}")).is_ok()))
}

fn pass_over(files: &mut Files, path: &str) {
    let extension = extension(path);
    let reason = match SAVE_AS.iter().find(|(known, _)| *known == extension) {
        Some((_, advice)) => format!("`.{extension}` files are not read; {advice}"),
        None if extension.is_empty() => "has no extension that says what it is; it is not read".into(),
        None => format!("`.{extension}` is no format of documents; it is not read"),
    };
    files.passed_over(path, reason);
}

/// An article from a document; `None` after a warning.
fn read_document(files: &mut Files, path: &str, format: Format, bytes: &[u8], company: &Company) -> Option<Article> {
    let outcome = documents::read(format, bytes, &files.limits.documents);
    let mut reading = match outcome.as_ref() {
        Ok(reading) => reading.clone(),
        Err(e) => {
            files.passed_over(path, format!("{e}; it is not read"));
            return None;
        }
    };
    reading.place(path);
    let read = Some(format!("{}: {}", format.name(), reading.summary()));
    let report = FileReport { path: files.named(path), read, skipped: std::mem::take(&mut reading.skipped) };
    files.reports.push(report);
    if Archive::is_one(path)
        && let Ok(mut archive) = Archive::open(bytes, &files.limits.documents)
    {
        let media = archive.paths().into_iter().filter(|inner| inner.contains("/media/"));
        files.members.extend(media.map(|inner| format!("{path}/{inner}")));
    }
    let title = reading.title.unwrap_or_else(|| name_of(path));
    let lang = language_of(path, &title, &reading.markdown, None, company);
    let page_lines = reading.page_lines;
    Some(Article { path: files.named(path), title, lang, text: reading.markdown, page_lines, ..Article::default() })
}

/// Reads the documents in a ZIP as if it were a folder.
fn read_archive(files: &mut Files, path: &str, bytes: &[u8], company: &Company, articles: &mut Vec<Article>) {
    let limits = files.limits.documents.clone();
    let mut archive = match Archive::open(bytes, &limits) {
        Ok(archive) => archive,
        Err(e) => return files.passed_over(path, format!("{e}; it is not read")),
    };
    let inner = archive.paths();
    let named: Vec<String> = inner.iter().map(|inner| format!("{path}/{inner}")).collect();
    files.members.extend(named.iter().cloned());
    let mut read = 0;
    for (inner, member) in inner.iter().zip(&named) {
        let extension = extension(inner);
        let is_text = matches!(extension.as_str(), "md" | "mdx" | "markdown" | "txt");
        let format = Format::of(inner);
        if PARTS.contains(&extension.as_str()) || is_part_of_page(member, &named) {
            continue;
        }
        if !is_text && format.is_none() {
            pass_over(files, member);
            continue;
        }
        let bytes = match archive.read(inner) {
            Ok(bytes) => bytes,
            Err(e) => {
                files.passed_over(member, format!("{e}; it is not read"));
                continue;
            }
        };
        let before = articles.len();
        match format {
            Some(format) => articles.extend(read_document(files, member, format, &bytes, company)),
            None => match String::from_utf8(bytes) {
                Ok(text) => {
                    let text = text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text);
                    articles.push(article(files, member.clone(), text, company));
                }
                Err(_) => files.passed_over(member, "is not UTF-8; save it as UTF-8"),
            },
        }
        read += articles.len() - before;
    }
    let read = Some(format!("ZIP: {read} of {} files are documents that were read", inner.len()));
    files.reports.push(FileReport { path: files.named(path), read, skipped: Vec::new() });
}

fn article(files: &mut Files, path: String, text: String, company: &Company) -> Article {
    let plain = path.ends_with(".txt");
    let (front, body) = if plain { (FrontMatter::default(), text) } else { take_front_matter(files, &path, text) };
    let title =
        front.title.or_else(|| if plain { None } else { first_heading(&body) }).unwrap_or_else(|| name_of(&path));
    let lang = language_of(&path, &title, &body, front.lang, company);
    if !fences::all_close(&body) && !plain {
        let line = fences::unclosed_line(&body);
        files.warn(&path, line, "the code fence opened here is never closed; all below it counts as code");
    }
    Article { path: files.named(&path), title, lang, tags: front.tags, text: body, page_lines: Vec::new() }
}

/// ISO 639-1: as stated, as the path says, or as the text reads.
fn language_of(path: &str, title: &str, text: &str, stated: Option<String>, company: &Company) -> String {
    let named = stated.filter(|lang| is_language(lang)).or_else(|| language_in_path(path, company));
    named.unwrap_or_else(|| detect_lang(&format!("{title}\n{}", sample(text)), &company.languages))
}

#[derive(Default)]
struct FrontMatter {
    title: Option<String>,
    lang: Option<String>,
    tags: Vec<String>,
}

/// Takes the front matter off and leaves blank lines in its place, so that line numbers stay those of the file.
fn take_front_matter(files: &mut Files, path: &str, text: String) -> (FrontMatter, String) {
    let mut lines = text.split_inclusive('\n');
    if lines.next().map(str::trim_end) != Some("---") {
        return (FrontMatter::default(), text);
    }
    let mut length = text.find('\n').map_or(text.len(), |at| at + 1);
    let start = length;
    for line in lines {
        let end = start.max(length);
        length += line.len();
        if line.trim_end() == "---" || line.trim_end() == "..." {
            let yaml = &text[start..end];
            let blank = "\n".repeat(text[..length].matches('\n').count());
            let body = format!("{blank}{}", &text[length..]);
            return (parse_front_matter(files, path, yaml), body);
        }
    }
    // A first line of dashes without an end is a rule, not front matter.
    (FrontMatter::default(), text)
}

fn parse_front_matter(files: &mut Files, path: &str, yaml: &str) -> FrontMatter {
    let map = match serde_yaml_ng::from_str::<Value>(yaml) {
        Ok(Value::Mapping(map)) => map,
        Ok(Value::Null) => return FrontMatter::default(),
        Ok(_) => {
            files.warn(path, 1, "the front matter is not a list of `key: value` lines; it is passed over");
            return FrontMatter::default();
        }
        Err(e) => {
            let line = e.location().map_or(1, |at| at.line() + 1);
            files.warn(path, line, format!("the front matter is not YAML and is passed over: {e}"));
            return FrontMatter::default();
        }
    };
    let text = |key: &str| map.get(key).and_then(Value::as_str).map(|s| s.trim().to_string()).filter(|s| !s.is_empty());
    let tags = match map.get("tags") {
        Some(Value::Sequence(tags)) => tags.iter().filter_map(Value::as_str).map(str::to_string).collect(),
        Some(Value::String(tags)) => tags.split(',').map(|t| t.trim().to_string()).filter(|t| !t.is_empty()).collect(),
        _ => Vec::new(),
    };
    FrontMatter { title: text("title"), lang: text("lang"), tags }
}

fn first_heading(body: &str) -> Option<String> {
    fences::lines(body)
        .filter(|(_, _, in_code)| !in_code)
        .find_map(|(_, line, _)| line.strip_prefix("# "))
        .map(|title| {
            let title = title.trim().trim_end_matches('#').trim();
            // `{#anchor}` belongs to the site builder.
            title.split(" {#").next().unwrap_or(title).replace(['`', '*'], "").trim().to_string()
        })
        .filter(|title| !title.is_empty())
}

/// `install/google-tag_manager.md` -> `Google tag manager`; an index file is named after its folder.
fn name_of(path: &str) -> String {
    let mut parts = path.rsplit('/');
    let stem = parts.next().unwrap_or(path).split('.').next().unwrap_or(path);
    let stem = if matches!(stem, "index" | "README" | "readme") { parts.next().unwrap_or(stem) } else { stem };
    let words = stem.replace(['-', '_'], " ");
    let mut chars = words.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or(words)
}

/// A folder or a file name's middle part that is one of the company's languages: `en/a.md`, `a.ru.md`.
fn language_in_path(path: &str, company: &Company) -> Option<String> {
    let known = |part: &str| company.languages.iter().find(|lang| *lang == part).cloned();
    let (folders, file) = path.rsplit_once('/').unwrap_or(("", path));
    let mut pieces = file.rsplit('.');
    pieces.next();
    pieces.next().and_then(known).or_else(|| folders.split('/').rev().find_map(known))
}

/// The beginning of a text, enough to tell its language.
fn sample(text: &str) -> &str {
    let end = text.char_indices().nth(4000).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn company() -> Company {
        Company { languages: vec!["en".into(), "ru".into()], ..Company::default() }
    }

    #[test]
    fn the_language_is_read_from_folders_and_file_names() {
        assert_eq!(language_in_path("articles/ru/a.md", &company()), Some("ru".into()));
        assert_eq!(language_in_path("articles/a.en.md", &company()), Some("en".into()));
        assert_eq!(language_in_path("articles/run/a.md", &company()), None);
    }

    #[test]
    fn a_title_is_the_first_heading_outside_of_code_or_the_files_name() {
        assert_eq!(first_heading("```sh\n# no\n```\n# Yes `it` is {#anchor}\n"), Some("Yes it is".into()));
        assert_eq!(name_of("articles/install/index.md"), "Install");
        assert_eq!(name_of("articles/google-tag_manager.md"), "Google tag manager");
    }
}
