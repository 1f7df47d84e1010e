//! Pages of the knowledge pack, from its Markdown. HTML inside the Markdown is shown as text; only web and mail links
//! are links.

use axum::response::Response;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html as cmark};

/// An article as a page.
pub fn article_page(company: &str, lang: &str, title: &str, markdown: &str) -> Response {
    let body = markdown_html(markdown, "");
    let headed = body.trim_start().starts_with("<h1");
    let heading = if headed { String::new() } else { format!("<h1>{}</h1>", escape(title)) };
    shell(company, lang, title, &format!("{heading}{body}"))
}

/// A list of (anchor, heading, Markdown) as a page.
pub fn list_page(company: &str, title: &str, items: impl Iterator<Item = (String, String, String)>) -> Response {
    let sections: String = items
        .map(|(anchor, heading, markdown)| {
            let body = markdown_html(&markdown, "");
            format!("<section id=\"{}\"><h2>{}</h2>{body}</section>", escape(&anchor), escape(&heading))
        })
        .collect();
    shell(company, "", title, &format!("<h1>{}</h1>{sections}", escape(title)))
}

fn shell(company: &str, lang: &str, title: &str, body: &str) -> Response {
    let (company, lang, title) = (escape(company), escape(lang), escape(title));
    let page = format!(
        "<!doctype html><html lang=\"{lang}\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title} · {company}</title>\
         <link rel=\"stylesheet\" href=\"/page/theme.css\"><link rel=\"stylesheet\" href=\"/page/prose.css\">\
         <link rel=\"stylesheet\" href=\"/page/page.css\"></head><body class=\"article\">\
         <header class=\"article-head\">{company}</header><main class=\"md\">{body}</main></body></html>"
    );
    // Articles may show images from where the company keeps them; they run nothing.
    super::html(page, "https:")
}

/// Markdown as harmless HTML. `folder`: where in the pack the text stands, for pages that are not shown from there;
/// empty where relative addresses are right as they are.
pub fn markdown_html(markdown: &str, folder: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let events: Vec<Event<'_>> =
        Parser::new_ext(markdown, options).map(|event| from_folder(harmless(event), folder)).collect();
    let anchored = with_anchors(events);
    let mut html = String::new();
    cmark::push_html(&mut html, anchored.into_iter());
    html
}

fn harmless(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        Event::Start(Tag::Link { link_type, dest_url, title, id }) if !is_harmless(&dest_url) => {
            Event::Start(Tag::Link { link_type, dest_url: format!("#{}", dest_url.len()).into(), title, id })
        }
        Event::Start(Tag::Image { link_type, dest_url, title, id }) if !is_harmless(&dest_url) => {
            Event::Start(Tag::Image { link_type, dest_url: "".into(), title, id })
        }
        event => event,
    }
}

/// Images' relative addresses as seen from elsewhere.
fn from_folder<'a>(event: Event<'a>, folder: &str) -> Event<'a> {
    match event {
        Event::Start(Tag::Image { link_type, dest_url, title, id })
            if !folder.is_empty() && !dest_url.is_empty() && !dest_url.starts_with('/') && !dest_url.contains(':') =>
        {
            Event::Start(Tag::Image { link_type, dest_url: format!("/kb/{folder}/{dest_url}").into(), title, id })
        }
        event => event,
    }
}

/// A relative address, or one of the web or mail.
fn is_harmless(url: &str) -> bool {
    match url.split_once(':') {
        None => true,
        Some((scheme, _)) if scheme.contains(['/', '?', '#']) => true,
        Some((scheme, _)) => ["http", "https", "mailto", "tel"].iter().any(|known| scheme.eq_ignore_ascii_case(known)),
    }
}

/// Gives each heading an id from its words, so that sources can point to it.
fn with_anchors(mut events: Vec<Event<'_>>) -> Vec<Event<'_>> {
    for start in 0..events.len() {
        if !matches!(events[start], Event::Start(Tag::Heading { .. })) {
            continue;
        }
        let inside = events[start + 1..].iter().take_while(|e| !matches!(e, Event::End(TagEnd::Heading(_))));
        let words: String = inside
            .filter_map(|event| match event {
                Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect();
        if let Event::Start(Tag::Heading { id, .. }) = &mut events[start] {
            *id = Some(anchor_of(&words).into());
        }
    }
    events
}

/// Lower-case letters and digits; what lies between becomes one hyphen.
pub fn anchor_of(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("-")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_in_markdown_is_shown_not_run() {
        let html = markdown_html("a <script>alert(1)</script>\n\n<img src=x onerror=alert(1)>\n", "");
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        assert!(html.contains("&lt;script&gt;"), "{html}");
    }

    #[test]
    fn links_that_run_something_lead_nowhere() {
        let html =
            markdown_html("[a](javascript:alert(1)) [b](JAVAscript:x) [c](data:text/html,x) [d](../en/x.md#y:z)", "");
        assert!(!html.to_lowercase().contains("javascript") && !html.contains("data:"), "{html}");
        assert!(html.contains("href=\"../en/x.md#y:z\""), "{html}");
    }

    #[test]
    fn headings_can_be_pointed_to() {
        assert!(markdown_html("## Где кнопка `Save`?", "").contains("id=\"где-кнопка-save\""));
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escape("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
