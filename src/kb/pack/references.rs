//! Images and links inside a pack: which file a relative target means, and which targets lead nowhere.

use std::collections::BTreeSet;

use crate::kb::Asset;
use crate::kb::markdown;

use super::{Article, FaqEntry, Fault};

/// The file or folder inside the pack that `target`, written in the file `from`, means. Targets that begin with `/`
/// start at any folder above the file, nearest first, because a documentation site may lie anywhere in the pack.
pub(crate) fn resolve(paths: &BTreeSet<String>, from: &str, target: &str) -> Option<String> {
    let bare = target.split(['#', '?']).next().unwrap_or_default();
    if bare.is_empty() {
        return None;
    }
    let decoded = percent_decoded(bare);
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    if let Some(absolute) = decoded.strip_prefix('/') {
        let mut base = folder;
        loop {
            if let Some(found) = normal(base, absolute).and_then(|path| existing(paths, path)) {
                return Some(found);
            }
            if base.is_empty() {
                return None;
            }
            base = base.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }
    normal(folder, &decoded).and_then(|path| existing(paths, path))
}

/// True for a target that another program opens: an URL with a scheme, `mailto:`, or a place on the same page.
pub(crate) fn is_external(target: &str) -> bool {
    let scheme = target.split(['/', '#', '?']).next().unwrap_or_default();
    target.is_empty()
        || target.starts_with('#')
        || target.starts_with("//")
        || scheme.contains(':')
        || target.contains("{{")
}

/// Warnings for images and links that lead nowhere.
pub(super) fn check(paths: &BTreeSet<String>, articles: &[Article], faq: &[FaqEntry], faults: &mut Vec<Fault>) {
    for article in articles.iter().filter(|article| !article.path.ends_with(".txt")) {
        let mut found = Vec::new();
        check_text(paths, &article.path, &article.text, &mut |reason, line| {
            found.push(Fault { path: article.path.clone(), line, reason, fatal: false });
        });
        if markdown::Flavour::of(&article.path) == markdown::Flavour::Converted {
            // Lines are not those of the file, and a page taken from a site leads to many that were not.
            let more = found.len().saturating_sub(1);
            found.truncate(1);
            found.iter_mut().for_each(|fault| fault.line = 0);
            if let Some(fault) = found.first_mut().filter(|_| more > 0) {
                fault.reason.push_str(&format!(", nor do {more} more"));
            }
        }
        faults.append(&mut found);
    }
    for entry in faq {
        // Paths in answers begin at the pack's folder.
        check_text(paths, "", &entry.answer, &mut |reason, _| {
            faults.push(Fault { path: entry.path.clone(), line: entry.line, reason, fatal: false });
        });
    }
}

/// Tells `report` (reason, line in the text) of every target in a text that is not there.
fn check_text(paths: &BTreeSet<String>, from: &str, text: &str, report: &mut dyn FnMut(String, usize)) {
    let document = markdown::parse(text, markdown::Flavour::of(from));
    for (asset, line) in document.assets.iter().zip(&document.asset_lines) {
        let (what, target) = match asset {
            Asset::Image { path: target, .. } => ("image", target),
            Asset::Link { target, .. } => ("link", target),
            _ => continue,
        };
        if !is_external(target) && resolve(paths, from, target).is_none() {
            report(format!("the {what} `{target}` leads nowhere inside the pack"), *line);
        }
    }
}

/// The path as it stands, or as a site builder would find it.
fn existing(paths: &BTreeSet<String>, path: String) -> Option<String> {
    if paths.contains(&path) {
        return Some(path);
    }
    for ending in [".md", ".mdx", "/index.md", "/index.mdx", "/README.md"] {
        let candidate = format!("{path}{ending}");
        if paths.contains(&candidate) {
            return Some(candidate);
        }
    }
    if let Some(stem) = path.strip_suffix(".html") {
        return existing(paths, stem.to_string());
    }
    let folder = format!("{path}/");
    paths.range(folder.clone()..).next().filter(|first| first.starts_with(&folder)).map(|_| path)
}

/// `folder` + `target` without `.` and `..`; `None` where it climbs out of the pack.
fn normal(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn percent_decoded(target: &str) -> String {
    let bytes = target.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| target.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> BTreeSet<String> {
        ["articles/en/a.md", "articles/en/img/my shot.png", "articles/en/setup/index.mdx", "top.png"]
            .map(str::to_string)
            .into()
    }

    #[test]
    fn targets_are_found_as_a_site_builder_finds_them() {
        let find = |target: &str| resolve(&paths(), "articles/en/a.md", target);
        assert_eq!(find("img/my%20shot.png").as_deref(), Some("articles/en/img/my shot.png"));
        assert_eq!(find("/img/my shot.png").as_deref(), Some("articles/en/img/my shot.png"));
        assert_eq!(find("/setup#part").as_deref(), Some("articles/en/setup/index.mdx"));
        assert_eq!(find("../../top.png").as_deref(), Some("top.png"));
        assert_eq!(find("../../../etc/passwd"), None);
        assert_eq!(find("missing.png"), None);
    }

    #[test]
    fn urls_and_places_on_the_same_page_are_not_looked_for() {
        assert!(["https://a.b/c", "mailto:a@b.c", "#part", "//cdn.x/y.js", ""].iter().all(|t| is_external(t)));
        assert!(!is_external("img/a.png") && !is_external("/a/b:c.png"));
    }
}
