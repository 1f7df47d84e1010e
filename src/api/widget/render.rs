//! Words as HTML that is safe to show: Markdown by pulldown-cmark, cleaned by ammonia. Images only of the knowledge pack,
//! served by this server.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use ammonia::Builder;
use pulldown_cmark::{Options, Parser, html as cmark};

/// What text needs; nothing that runs, loads or is styled.
const TAGS: [&str; 27] = [
    "p",
    "br",
    "strong",
    "em",
    "del",
    "code",
    "pre",
    "blockquote",
    "ul",
    "ol",
    "li",
    "a",
    "img",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "span",
];
const IMAGES: [&str; 6] = [".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg"];

/// Markdown of a customer, the bot or a person as safe HTML.
pub fn html(markdown: &str, public_url: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let mut unsafe_html = String::with_capacity(markdown.len() * 2);
    cmark::push_html(&mut unsafe_html, Parser::new_ext(markdown, options));
    let own = format!("{public_url}/kb/");
    let attributes: HashMap<&str, HashSet<&str>> = HashMap::from([
        ("a", HashSet::from(["href", "title"])),
        ("img", HashSet::from(["src", "alt", "title"])),
        ("code", HashSet::from(["class"])),
        ("ol", HashSet::from(["start"])),
    ]);
    Builder::new()
        .tags(HashSet::from(TAGS))
        .tag_attributes(attributes)
        .generic_attributes(HashSet::new())
        .url_schemes(HashSet::from(["http", "https", "mailto", "tel"]))
        .link_rel(Some("noopener noreferrer nofollow"))
        .attribute_filter(move |element, attribute, value| match (element, attribute) {
            ("img", "src") => is_own_image(value, &own).then_some(Cow::Borrowed(value)),
            ("code", "class") => value.starts_with("language-").then_some(Cow::Borrowed(value)),
            _ => Some(Cow::Borrowed(value)),
        })
        .clean(&unsafe_html)
        .to_string()
}

fn is_own_image(url: &str, own: &str) -> bool {
    let inside = url.strip_prefix(own).or_else(|| url.strip_prefix("/kb/"));
    inside.is_some_and(|path| {
        let lower = path.to_ascii_lowercase();
        !path.contains("..") && !path.contains(['?', '#', '\\']) && IMAGES.iter().any(|end| lower.ends_with(end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "https://help.example";

    #[test]
    fn nothing_runs_whatever_is_written() {
        let attacks = [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "<svg onload=alert(1)><script>alert(1)</script></svg>",
            "[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](data:text/html;base64,PHNjcmlwdD4=)",
            "<iframe src=//evil></iframe><object data=x></object><embed src=x>",
            "<a href=\"vbscript:x\" style=\"x\" onclick=\"y\">z</a>",
            "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
            "<form action=x><input name=y></form><base href=//evil><meta http-equiv=refresh content=0>",
            "![x](https://evil.example/pixel.png) ![y](https://help.example.evil/kb/a.png) ![z](/kb/../x.png)",
        ];
        for attack in attacks {
            let shown = html(attack, HOME).to_lowercase();
            // What stands in quotes or is escaped is text; what is left of a tag are its own names.
            for tag in shown.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default()) {
                let name = tag.trim_start_matches('/').split_whitespace().next().unwrap_or_default();
                assert!(TAGS.contains(&name), "{attack}: {shown}");
                let outside: String = tag.split('"').step_by(2).collect();
                assert!(!outside.contains(" on") && !outside.contains("style"), "{attack}: {shown}");
                for address in tag.split('"').collect::<Vec<_>>().windows(2) {
                    if address[0].ends_with("src=") || address[0].ends_with("href=") {
                        assert!(!address[1].contains("script:") && !address[1].contains("data:"), "{attack}: {shown}");
                        assert!(!address[1].contains("evil") && !address[1].contains(".."), "{attack}: {shown}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_packs_own_images_links_and_code_are_shown() {
        let shown =
            html("**b** [l](https://x.example) `c`\n\n```rust\nfn\n```\n\n![i](https://help.example/kb/a/b.png)", HOME);
        assert!(shown.contains("<strong>b</strong>") && shown.contains("class=\"language-rust\""), "{shown}");
        assert!(shown.contains("rel=\"noopener noreferrer nofollow\""), "{shown}");
        assert!(shown.contains("<img src=\"https://help.example/kb/a/b.png\""), "{shown}");
    }
}
