//! What paragraph styles are called, and which lists count.

use std::collections::{HashMap, HashSet};

use super::package::{Package, attribute, each_start};
use crate::kb::documents::DocumentError;

#[derive(Debug, Default)]
struct Style {
    name: String,
    based_on: String,
    outline: Option<usize>,
    list: Option<(String, usize)>,
    code_font: bool,
}

#[derive(Debug, Default)]
pub(super) struct Styles {
    styles: HashMap<String, Style>,
    /// Numbering -> its levels that count.
    ordered: HashMap<String, HashSet<usize>>,
}

impl Styles {
    pub fn read(package: &mut Package<'_>) -> Result<Self, DocumentError> {
        let mut found = Self::default();
        if let Some(xml) = package.part("word/styles.xml")? {
            found.read_styles(&xml);
        }
        if let Some(xml) = package.part("word/numbering.xml")? {
            found.read_numbering(&xml);
        }
        Ok(found)
    }

    fn read_styles(&mut self, xml: &str) {
        let mut id = String::new();
        each_start(xml, |e, element| {
            if element == "style" {
                id = attribute(e, "styleId").unwrap_or_default();
                self.styles.insert(id.clone(), Style::default());
                return;
            }
            let Some(style) = self.styles.get_mut(&id) else { return };
            let value = || attribute(e, "val").unwrap_or_default();
            match element {
                "name" => style.name = value().to_lowercase(),
                "basedOn" => style.based_on = value(),
                "outlineLvl" => style.outline = value().parse().ok(),
                "numId" => style.list = Some((value(), style.list.as_ref().map_or(0, |(_, level)| *level))),
                "ilvl" => {
                    let number = style.list.take().map_or(String::new(), |(number, _)| number);
                    style.list = Some((number, value().parse().unwrap_or(0)));
                }
                "rFonts" => style.code_font |= attribute(e, "ascii").is_some_and(|font| is_code_font(&font)),
                _ => {}
            }
        });
    }

    fn read_numbering(&mut self, xml: &str) {
        let mut abstracts: HashMap<String, HashSet<usize>> = HashMap::new();
        let (mut of_abstract, mut level, mut number) = (String::new(), 0, String::new());
        each_start(xml, |e, element| match element {
            "abstractNum" => of_abstract = attribute(e, "abstractNumId").unwrap_or_default(),
            "lvl" => level = attribute(e, "ilvl").and_then(|n| n.parse().ok()).unwrap_or(0),
            "numFmt" if !matches!(attribute(e, "val").as_deref(), Some("bullet" | "none") | None) => {
                abstracts.entry(of_abstract.clone()).or_default().insert(level);
            }
            "num" => number = attribute(e, "numId").unwrap_or_default(),
            "abstractNumId" => {
                let levels = abstracts.get(&attribute(e, "val").unwrap_or_default()).cloned().unwrap_or_default();
                self.ordered.insert(number.clone(), levels);
            }
            _ => {}
        });
    }

    /// A style and those that it is based on.
    fn chain<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Style> {
        let mut next = Some(id);
        // Styles may be based on each other in a ring.
        (0..16).map_while(move |_| {
            let style = self.styles.get(next?)?;
            next = (!style.based_on.is_empty()).then_some(style.based_on.as_str());
            Some(style)
        })
    }

    /// 1 to 9, for a style of headings.
    pub fn heading(&self, id: &str) -> Option<usize> {
        self.chain(id).find_map(|style| {
            let named = style.name.strip_prefix("heading ").and_then(|level| level.trim().parse().ok());
            let title = (style.name == "title").then_some(1);
            named.or(title).or(style.outline.filter(|level| *level < 9).map(|level| level + 1))
        })
    }

    /// True for a style that shows code.
    pub fn is_code(&self, id: &str) -> bool {
        const NAMES: [&str; 7] = ["code", "listing", "verbatim", "preformatted", "macro", "terminal", "console"];
        let named = |name: &str| NAMES.iter().any(|known| name.contains(known)) && !name.contains("barcode");
        self.chain(id).any(|style| style.code_font || named(&style.name))
    }

    /// The list that a style belongs to.
    pub fn list(&self, id: &str) -> Option<(String, usize)> {
        let list = self.chain(id).find_map(|style| style.list.clone())?;
        (list.0 != "0" && !list.0.is_empty()).then_some(list)
    }

    pub fn is_ordered(&self, number: &str, level: usize) -> bool {
        self.ordered.get(number).is_some_and(|levels| levels.contains(&level))
    }
}

/// A font whose letters are all of one width.
pub(super) fn is_code_font(name: &str) -> bool {
    let name = name.to_lowercase();
    [
        "courier",
        "consolas",
        "mono",
        "menlo",
        "monaco",
        "lucida console",
        "source code",
        "fira code",
        "cascadia",
        "terminal",
    ]
    .iter()
    .any(|known| name.contains(known))
}
