//! `articles/**`: Markdown, MDX and plain text with optional front matter.

use serde_yaml_ng::Value;

use super::company::is_language;
use super::files::Files;
use super::{Article, Company};
use crate::kb::detect_lang;
use crate::kb::markdown::fences;

/// Formats that a pack may hold but that are not read yet.
const NOT_YET: [&str; 4] = ["html", "htm", "pdf", "docx"];

/// All articles below `folder`, in the order of their paths.
pub(super) fn read(files: &mut Files, folder: &str, company: &Company) -> Vec<Article> {
    let mut articles = Vec::new();
    for path in files.list(folder) {
        let extension = path.rsplit_once('.').map(|(_, ext)| ext.to_lowercase()).unwrap_or_default();
        match extension.as_str() {
            "md" | "mdx" | "markdown" | "txt" => {
                if let Some(text) = files.read(&path) {
                    articles.push(article(files, path, text, company));
                }
            }
            other if NOT_YET.contains(&other) => {
                files.warn(&path, 0, format!("`.{other}` files are not read yet; save it as Markdown"));
            }
            _ => {}
        }
    }
    articles
}

fn article(files: &mut Files, path: String, text: String, company: &Company) -> Article {
    let plain = path.ends_with(".txt");
    let (front, body) = if plain { (FrontMatter::default(), text) } else { take_front_matter(files, &path, text) };
    let title =
        front.title.or_else(|| if plain { None } else { first_heading(&body) }).unwrap_or_else(|| name_of(&path));
    let named = front.lang.filter(|lang| is_language(lang)).or_else(|| language_in_path(&path, company));
    let lang = named.unwrap_or_else(|| detect_lang(&format!("{title}\n{}", sample(&body)), &company.languages));
    if !fences::all_close(&body) && !plain {
        let line = fences::unclosed_line(&body);
        files.warn(&path, line, "the code fence opened here is never closed; all below it counts as code");
    }
    Article { path: files.named(&path), title, lang, tags: front.tags, text: body }
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
