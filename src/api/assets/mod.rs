//! The pages of the people's side and of the website widget: what a browser gets, embedded in the program. No tensors, no
//! HTTP, no SQL: only files, which the neighbours serve.
//!
//! | folder | what |
//! |---|---|
//! | `shared/` | making DOM nodes, Markdown, server-sent events, cleaned HTML, words and numbers; also for the test chat |
//! | `app/` | the console: `console.js` is its frame, each page has a file of its own |
//! | `widget/` | `loader.js` runs on a customer's website and makes a frame; everything else runs inside that frame |
//!
//! Rules that the tests of this room and the browser tests hold: no inline script or style (the policy is
//! `default-src 'self'`), nothing from other hosts, no text ever parsed as HTML. Markdown becomes nodes in the browser;
//! HTML that the server rendered is built anew from known elements (`shared/safe-html.js`).

/// The console's page; it routes by its address on its own.
pub const CONSOLE_HTML: &str = include_str!("console.html");
/// The widget's chat window, which runs in a frame.
pub const FRAME_HTML: &str = include_str!("widget/frame.html");
/// A page that stands for a website with the widget.
pub const DEMO_HTML: &str = include_str!("widget/demo.html");
/// The one script that a website includes.
pub const LOADER_JS: &str = include_str!("widget/loader.js");

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file for browsers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    pub content_type: &'static str,
    pub body: &'static str,
}

/// Name, content type and text of every file; the names are flat, so that modules find each other under any path.
const ASSETS: &[(&str, &str, &str)] = &[
    ("theme.css", STYLE, include_str!("shared/theme.css")),
    ("prose.css", STYLE, include_str!("shared/prose.css")),
    ("logo.svg", IMAGE, include_str!("shared/logo.svg")),
    ("dom.js", SCRIPT, include_str!("shared/dom.js")),
    ("ids.js", SCRIPT, include_str!("shared/ids.js")),
    ("icons.js", SCRIPT, include_str!("shared/icons.js")),
    ("markdown.js", SCRIPT, include_str!("shared/markdown.js")),
    ("safe-html.js", SCRIPT, include_str!("shared/safe-html.js")),
    ("say.js", SCRIPT, include_str!("shared/say.js")),
    ("sse.js", SCRIPT, include_str!("shared/sse.js")),
    ("console.css", STYLE, include_str!("app/console.css")),
    ("inbox.css", STYLE, include_str!("app/inbox.css")),
    ("pages.css", STYLE, include_str!("app/pages.css")),
    ("api.js", SCRIPT, include_str!("app/api.js")),
    ("ask.js", SCRIPT, include_str!("app/ask.js")),
    ("console.js", SCRIPT, include_str!("app/console.js")),
    ("conversation.js", SCRIPT, include_str!("app/conversation.js")),
    ("deliveries.js", SCRIPT, include_str!("app/deliveries.js")),
    ("desk.js", SCRIPT, include_str!("app/desk.js")),
    ("editor.js", SCRIPT, include_str!("app/editor.js")),
    ("figures.js", SCRIPT, include_str!("app/figures.js")),
    ("handed-over.js", SCRIPT, include_str!("app/handed-over.js")),
    ("inbox.js", SCRIPT, include_str!("app/inbox.js")),
    ("keys.js", SCRIPT, include_str!("app/keys.js")),
    ("knowledge.js", SCRIPT, include_str!("app/knowledge.js")),
    ("message.js", SCRIPT, include_str!("app/message.js")),
    ("people.js", SCRIPT, include_str!("app/people.js")),
    ("plot.js", SCRIPT, include_str!("app/plot.js")),
    ("sign-in.js", SCRIPT, include_str!("app/sign-in.js")),
    ("suggestions.js", SCRIPT, include_str!("app/suggestions.js")),
    ("versions.js", SCRIPT, include_str!("app/versions.js")),
    ("words-en.js", SCRIPT, include_str!("app/words-en.js")),
    ("words-ru.js", SCRIPT, include_str!("app/words-ru.js")),
    ("demo.css", STYLE, include_str!("widget/demo.css")),
    ("frame.css", STYLE, include_str!("widget/frame.css")),
    ("frame.js", SCRIPT, include_str!("widget/frame.js")),
    ("frame-thread.js", SCRIPT, include_str!("widget/frame-thread.js")),
    ("frame-words.js", SCRIPT, include_str!("widget/frame-words.js")),
    ("visitor.js", SCRIPT, include_str!("widget/visitor.js")),
];

/// The file of this name, if there is one.
///
/// ```
/// let theme = firstline::api::assets::asset("theme.css").expect("it is there");
/// assert!(theme.content_type.starts_with("text/css"));
/// assert_eq!(firstline::api::assets::asset("../Cargo.toml"), None);
/// ```
pub fn asset(name: &str) -> Option<Asset> {
    let (_, content_type, body) = ASSETS.iter().find(|(known, ..)| *known == name)?;
    Some(Asset { content_type, body })
}

#[cfg(test)]
mod tests;
