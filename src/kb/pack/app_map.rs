//! `app-map.yaml`: the application's screens and buttons.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use super::files::Files;
use super::{AppEntry, Company};

const FILE: &str = "app-map.yaml";
const KINDS: [&str; 6] = ["screen", "menu", "tab", "button", "field", "toggle"];
const MAX_DEPTH: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    id: String,
    #[serde(default = "Node::screen")]
    kind: String,
    label: BTreeMap<String, String>,
    #[serde(default)]
    aliases: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    help: BTreeMap<String, String>,
    #[serde(default)]
    image: Option<String>,
    #[serde(default)]
    children: Vec<Node>,
}

impl Node {
    fn screen() -> String {
        "screen".into()
    }
}

/// All entries, parents before children. A pack without the file has none.
pub(super) fn read(files: &mut Files, company: &Company) -> Vec<AppEntry> {
    if !files.exists(FILE) {
        return Vec::new();
    }
    let Some(text) = files.read(FILE) else { return Vec::new() };
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Vec::new();
    }
    let nodes: Vec<Node> = match serde_yaml_ng::from_str(&text) {
        Ok(nodes) => nodes,
        Err(e) => {
            let line = e.location().map_or(0, |at| at.line());
            files.fatal(FILE, line, e.to_string());
            return Vec::new();
        }
    };
    let mut walk = Walk { files, company, text: &text, ids: HashSet::new(), entries: Vec::new() };
    for node in nodes {
        walk.take(node, &BTreeMap::new(), 0);
    }
    walk.entries
}

struct Walk<'a> {
    files: &'a mut Files,
    company: &'a Company,
    text: &'a str,
    ids: HashSet<String>,
    entries: Vec<AppEntry>,
}

impl Walk<'_> {
    fn take(&mut self, node: Node, above: &BTreeMap<String, Vec<String>>, depth: usize) {
        let line = line_of_id(self.text, &node.id);
        if depth > MAX_DEPTH {
            return self.files.fatal(FILE, line, format!("`{}` is nested deeper than {MAX_DEPTH}", node.id));
        }
        if node.id.trim().is_empty() {
            self.files.fatal(FILE, line, "an entry's `id` is empty");
        }
        if !self.ids.insert(node.id.clone()) {
            self.files.fatal(FILE, line, format!("the id `{}` is there twice", node.id));
        }
        if !KINDS.contains(&node.kind.as_str()) {
            let reason = format!("`{}` has the kind `{}`; known are {}", node.id, node.kind, KINDS.join(", "));
            self.files.fatal(FILE, line, reason);
        }
        let Some(any_label) = node.label.values().find(|label| !label.trim().is_empty()).cloned() else {
            return self.files.fatal(FILE, line, format!("`{}` has no label", node.id));
        };
        for lang in self.company.languages.iter().filter(|lang| !node.label.contains_key(*lang)) {
            self.files.warn(FILE, line, format!("`{}` has no label in `{lang}`; \"{any_label}\" is used", node.id));
        }
        if let Some(image) = node.image.as_deref().filter(|image| !self.files.exists(image)) {
            self.files.warn(FILE, line, format!("the image `{image}` of `{}` is not there", node.id));
        }
        let mut path = BTreeMap::new();
        for lang in &self.company.languages {
            let mut labels = above.get(lang).cloned().unwrap_or_default();
            labels.push(node.label.get(lang).unwrap_or(&any_label).clone());
            path.insert(lang.clone(), labels);
        }
        self.entries.push(AppEntry {
            id: node.id,
            kind: node.kind,
            path: path.clone(),
            aliases: node.aliases,
            help: node.help,
            image: node.image,
            line,
        });
        for child in node.children {
            self.take(child, &path, depth + 1);
        }
    }
}

fn line_of_id(text: &str, id: &str) -> usize {
    let has = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ").trim_start().trim_start_matches('{');
        let value = line.split("id:").nth(1).unwrap_or_default();
        line.starts_with("id:")
            && value.split([',', '#', '}']).next().unwrap_or_default().trim().trim_matches(['"', '\'']) == id
    };
    text.lines().position(has).map_or(0, |at| at + 1)
}
