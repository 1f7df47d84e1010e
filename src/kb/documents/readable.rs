//! Which part of a web page is there to be read.
//!
//! A page's *weight* is the text of its paragraphs, items, cells, listings and headings that is not part of a link.
//! The content is what the page itself calls so (`main`, `article`, the containers of known site builders) where that
//! holds a fair share of the weight; else the way down from `body` is followed as long as one child holds most of it.
//! In the content, menus, footers, cookie banners and their like are noise, by their role or name, unless they hold
//! much of the weight themselves: a page whose outermost box is called `with-sidebar` is not thrown away.

use std::collections::{HashMap, HashSet};

use ego_tree::iter::Edge;
use ego_tree::{NodeId, NodeRef};
use scraper::{ElementRef, Html, Node, Selector};

/// Containers of content, the surest first.
const CONTAINERS: [&str; 22] = [
    "[itemprop=articleBody]",
    ".theme-doc-markdown",
    ".vp-doc",
    ".markdown-body",
    ".md-content article",
    ".md-content",
    ".rst-content [role=main]",
    ".dc-doc-page__body",
    ".yfm",
    "main article",
    "#mw-content-text",
    ".article-body",
    ".article__body",
    ".post-content",
    ".entry-content",
    "main",
    "[role=main]",
    "article",
    "#main-content",
    "#content",
    ".content",
    "#main",
];
/// Share of the page's weight that a container must hold to be believed.
const FAIR_SHARE: f32 = 0.3;
/// Share of its parent's weight that a child must hold to be followed without a container.
const MOST: f32 = 0.75;
/// Noise by name may hold at most this share of the content's weight.
const NOISE_SHARE: f32 = 0.35;

const ROLES: [&str; 8] =
    ["navigation", "banner", "contentinfo", "search", "complementary", "dialog", "alertdialog", "menu"];
/// Words of class names and ids that name what stands around a text.
const NAMES: [&str; 38] = [
    "nav",
    "navbar",
    "navigation",
    "menu",
    "sidebar",
    "breadcrumb",
    "breadcrumbs",
    "footer",
    "toc",
    "pagination",
    "pager",
    "cookie",
    "cookies",
    "consent",
    "banner",
    "share",
    "sharing",
    "social",
    "related",
    "comments",
    "disqus",
    "newsletter",
    "subscribe",
    "advert",
    "advertisement",
    "ads",
    "promo",
    "popup",
    "modal",
    "skip",
    "feedback",
    "searchbox",
    "copyright",
    "toolbar",
    "topbar",
    "offcanvas",
    "headerlink",
    "sr-only",
];

/// The content of a page.
pub(super) struct Readable<'a> {
    pub root: ElementRef<'a>,
    noise: HashSet<NodeId>,
    /// Parts that were left out, the page's own frame counted as one.
    pub dropped: usize,
}

impl Readable<'_> {
    pub fn is_noise(&self, node: NodeRef<'_, Node>) -> bool {
        self.noise.contains(&node.id())
    }
}

/// Text below an element, in characters.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    /// Of what is written to be read, links left out.
    content: usize,
    all: usize,
    in_links: usize,
    links: usize,
}

pub(super) fn of(page: &Html) -> Readable<'_> {
    let weights = weights(page);
    let weight = |node: NodeId| weights.get(&node).copied().unwrap_or_default();
    let body = Selector::parse("body").ok().and_then(|body| page.select(&body).next()).unwrap_or(page.root_element());
    let whole = weight(body.id()).content.max(1);
    let share = |e: &ElementRef<'_>| weight(e.id()).content as f32 / whole as f32;
    let named = CONTAINERS
        .iter()
        .filter_map(|css| Selector::parse(css).ok())
        .find_map(|css| page.select(&css).max_by_key(|e| weight(e.id()).content).filter(|e| share(e) >= FAIR_SHARE));
    let root = named.unwrap_or_else(|| {
        let mut at = body;
        // Never below an article's own parts: their parent has many children of like weight.
        while let Some(child) = at
            .children()
            .filter_map(ElementRef::wrap)
            .filter(|e| {
                matches!(
                    e.value().name(),
                    "div" | "section" | "main" | "article" | "center" | "table" | "tbody" | "tr" | "td" | "form"
                )
            })
            .find(|e| weight(e.id()).content as f32 > MOST * weight(at.id()).content as f32)
        {
            at = child;
        }
        at
    });
    let own = weight(root.id()).content.max(1);
    let mut noise = HashSet::new();
    let mut seen_text = false;
    let mut skip_until: Option<NodeId> = None;
    for edge in root.traverse() {
        let (Edge::Open(node) | Edge::Close(node)) = edge;
        if let Some(skipped) = skip_until {
            if matches!(edge, Edge::Close(node) if node.id() == skipped) {
                skip_until = None;
            }
            continue;
        }
        let Edge::Open(_) = edge else { continue };
        let Some(element) = ElementRef::wrap(node).filter(|e| e.id() != root.id()) else { continue };
        let weight = weight(node.id());
        let small = (weight.content as f32) < NOISE_SHARE * own as f32;
        let is_menu = weight.links >= 4
            && weight.in_links * 10 > weight.all * 8
            && matches!(element.value().name(), "ul" | "ol" | "div" | "p" | "table");
        if is_hidden(element) || (small && (is_around(element) || (is_menu && !seen_text))) {
            noise.insert(node.id());
            skip_until = Some(node.id());
        } else if matches!(element.value().name(), "p" | "pre" | "h1" | "h2") && weight.content > 0 {
            seen_text = true;
        }
    }
    let frame = usize::from(root.id() != body.id() && weight(body.id()).all > weight(root.id()).all);
    Readable { root, dropped: noise.len() + frame, noise }
}

/// True for what a browser does not show.
fn is_hidden(element: ElementRef<'_>) -> bool {
    let value = element.value();
    let style = value.attr("style").unwrap_or_default().replace(' ', "").to_ascii_lowercase();
    let tabs = value.attr("role") == Some("tabpanel");
    // A tab that is not chosen is hidden, and still part of the text.
    !tabs
        && (value.attr("hidden").is_some()
            || style.contains("display:none")
            || value.attr("aria-hidden") == Some("true"))
}

/// True for what stands around a text, as its element, role or names say.
fn is_around(element: ElementRef<'_>) -> bool {
    let value = element.value();
    match value.name() {
        "nav" | "aside" | "footer" => return true,
        "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "pre" | "code" | "p" | "span" | "b" | "strong" | "em" => {
            return false;
        }
        _ => {}
    }
    if value.attr("role").is_some_and(|role| ROLES.contains(&role)) {
        return true;
    }
    // Notes and warnings of documentation are content, whatever else they are called.
    let names = [value.attr("class"), value.attr("id")];
    let lower = names.into_iter().flatten().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    if ["admonition", "alert", "callout", "note"].iter().any(|kept| lower.contains(kept)) {
        return false;
    }
    lower.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|class| {
        NAMES.contains(&class) || class.split('-').any(|part| NAMES.contains(&part)) || class.contains("footer")
    })
}

/// Weights of all elements, from the leaves up.
fn weights(page: &Html) -> HashMap<NodeId, Weight> {
    const READ: [&str; 14] =
        ["p", "li", "td", "th", "pre", "dd", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote"];
    const SILENT: [&str; 5] = ["script", "style", "noscript", "template", "svg"];
    let mut weights: HashMap<NodeId, Weight> = HashMap::new();
    let mut open: Vec<(NodeId, Weight)> = Vec::new();
    let (mut reading, mut in_link, mut silent) = (0usize, 0usize, 0usize);
    for edge in page.tree.root().traverse() {
        let (node, opens) = match edge {
            Edge::Open(node) => (node, true),
            Edge::Close(node) => (node, false),
        };
        match node.value() {
            Node::Text(text) if opens && silent == 0 => {
                let chars = text.split_whitespace().map(|word| word.chars().count()).sum::<usize>();
                if let Some((_, weight)) = open.last_mut() {
                    weight.all += chars;
                    weight.in_links += if in_link > 0 { chars } else { 0 };
                    // Text right in a box weighs as well, so that pages without paragraphs are found.
                    weight.content += match (in_link > 0, reading > 0) {
                        (true, _) => 0,
                        (false, true) => chars,
                        (false, false) => chars / 2,
                    };
                }
            }
            Node::Element(element) => {
                let name = element.name();
                let step = |n: &mut usize| *n = if opens { *n + 1 } else { n.saturating_sub(1) };
                if READ.contains(&name) {
                    step(&mut reading);
                }
                if name == "a" {
                    step(&mut in_link);
                }
                if SILENT.contains(&name) {
                    step(&mut silent);
                }
                if opens {
                    open.push((node.id(), Weight { links: usize::from(name == "a"), ..Weight::default() }));
                } else if let Some((id, weight)) = open.pop() {
                    if let Some((_, above)) = open.last_mut() {
                        above.all += weight.all;
                        above.in_links += weight.in_links;
                        above.content += weight.content;
                        above.links += weight.links;
                    }
                    weights.insert(id, weight);
                }
            }
            _ => {}
        }
    }
    weights
}
