//! From a pack to chunks: pieces that follow the headings, each with its own assets.

mod parts;
mod text;

use std::collections::HashSet;

use crate::kb::markdown::{self, Block, Document, Flavour, replace_marks};
use crate::kb::pack::{AppEntry, Article, FaqEntry, Instruction, Operator, Pack, SampleAnswer, references};
use crate::kb::{Asset, Chunk, SourceKind, detect_lang};
use parts::parts;
pub(crate) use text::{code_text, embedded_text, readable_text, whole_text};

/// Most characters of a line that only leads to the sections below it.
const LEAD_IN: usize = 60;

/// All chunks of a pack, in a stable order. `chunk_chars`: the longest text of a chunk, code and tables not counted.
pub(crate) fn chunks(pack: &Pack, chunk_chars: usize) -> Vec<Chunk> {
    let chunk_chars = chunk_chars.max(200);
    let mut out = Vec::new();
    for article in &pack.articles {
        article_chunks(pack, article, chunk_chars, &mut out);
    }
    out.extend(pack.faq.iter().map(|entry| faq_chunk(pack, entry)));
    for entry in &pack.app_map {
        out.extend(entry.path.keys().map(|lang| app_chunk(entry, lang)));
    }
    for operator in &pack.operators {
        for instruction in operator.versions.values().filter(|i| is_served(operator, &i.version)) {
            instruction_chunks(pack, operator, instruction, chunk_chars, &mut out);
        }
        let path = format!("operators/{}/examples.jsonl", operator.name);
        out.extend(operator.examples.iter().map(|example| example_chunk(pack, operator, example, &path)));
    }
    make_ids_unique(&mut out);
    out
}

/// True for the active version and for those that have a share of the conversations.
fn is_served(operator: &Operator, version: &str) -> bool {
    operator.active_version == version || operator.shares.get(version).is_some_and(|share| *share > 0.0)
}

fn article_chunks(pack: &Pack, article: &Article, chunk_chars: usize, out: &mut Vec<Chunk>) {
    let document = markdown::parse(&article.text, Flavour::of(&article.path));
    let base = Chunk {
        id: article.path.clone(),
        kind: SourceKind::Article,
        path: article.path.clone(),
        line: 1,
        title: article.title.clone(),
        headings: Vec::new(),
        text: String::new(),
        assets: Vec::new(),
        lang: article.lang.clone(),
        operator: None,
        questions: Vec::new(),
        tags: article.tags.clone(),
    };
    let first = out.len();
    document_chunks(pack, &document, &base, chunk_chars, out);
    if !article.page_lines.is_empty() {
        out[first..].iter_mut().for_each(|chunk| name_page(chunk, &article.page_lines));
    }
}

/// Puts the page into a chunk's title and into its id, so that the citation's link opens the document there
/// (RFC 8118: `#page=3`).
fn name_page(chunk: &mut Chunk, page_lines: &[usize]) {
    let page = page_lines.partition_point(|line| *line <= chunk.line).max(1);
    let word = match chunk.lang.as_str() {
        "ru" | "uk" | "be" => "с.",
        "de" => "S.",
        _ => "p.",
    };
    chunk.title = format!("{}, {word} {page}", chunk.title);
    let after = chunk.id.strip_prefix(chunk.path.as_str()).unwrap_or_default().trim_start_matches(['#', '~']);
    let more = if after.is_empty() { String::new() } else { format!("&at={after}") };
    chunk.id = format!("{}#page={page}{more}", chunk.path);
}

fn instruction_chunks(
    pack: &Pack,
    operator: &Operator,
    instruction: &Instruction,
    chunk_chars: usize,
    out: &mut Vec<Chunk>,
) {
    for section in &instruction.sections {
        let document = markdown::parse(&section.text, Flavour::Markdown);
        let slug = section.headings.iter().map(|h| slug(h)).collect::<Vec<_>>().join("/");
        // Facts are a page like any other, that this version of the instruction alone has.
        let (kind, title, headings) = match (section.is_facts, section.headings.as_slice()) {
            (true, [.., own]) => (SourceKind::Article, own.clone(), Vec::new()),
            (_, [first, own @ ..]) => (SourceKind::Instruction, first.clone(), own.to_vec()),
            (_, []) => (SourceKind::Instruction, String::new(), Vec::new()),
        };
        let base = Chunk {
            id: format!("{}#{slug}", instruction.path),
            kind,
            path: instruction.path.clone(),
            line: section.line,
            title,
            headings,
            text: String::new(),
            assets: Vec::new(),
            lang: detect_lang(&format!("{} {}", section.headings.join(" "), section.text), &pack.company.languages),
            operator: Some(operator.name.clone()),
            questions: Vec::new(),
            tags: Vec::new(),
        };
        let first = out.len();
        document_chunks(pack, &document, &base, chunk_chars, out);
        out[first..].iter_mut().for_each(|chunk| chunk.line += section.line);
        for sample in &section.samples {
            let lang = detect_lang(&format!("{} {}", sample.question, sample.answer), &pack.company.languages);
            let sample = SampleAnswer { lang, ..sample.clone() };
            let chunk = example_chunk(pack, operator, &sample, &instruction.path);
            out.push(Chunk { line: section.line, ..chunk });
        }
    }
}

/// Cuts a document at its headings. `base` gives what all its chunks share; its headings stand above the document's.
fn document_chunks(pack: &Pack, document: &Document, base: &Chunk, chunk_chars: usize, out: &mut Vec<Chunk>) {
    // (level, text); the article's title, said again as the first heading, is left out.
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut bodies: Vec<(&str, usize, bool)> = Vec::new();
    let flush = |path: &[(usize, &str)], bodies: &mut Vec<(&str, usize, bool)>, out: &mut Vec<Chunk>| {
        let headings: Vec<String> = path.iter().map(|(_, text)| text.to_string()).collect();
        for (part, (text, line)) in parts(bodies, chunk_chars).into_iter().enumerate() {
            let slugs: Vec<String> = headings.iter().map(|h| slug(h)).collect();
            let mut id = base.id.clone();
            if !slugs.is_empty() {
                id.push_str(if id.contains('#') { "/" } else { "#" });
                id.push_str(&slugs.join("/"));
            }
            if part > 0 {
                id.push_str(&format!("~{}", part + 1));
            }
            let (text, assets) = settle(pack, &base.path, &text, document, false);
            let headings = base.headings.iter().chain(&headings).cloned().collect();
            out.push(Chunk { id, line, headings, text, assets, ..base.clone() });
        }
        bodies.clear();
    };
    for block in &document.blocks {
        match block {
            Block::Heading { level, text, .. } => {
                if path.last().is_none_or(|(above, _)| above < level) && is_lead_in(&bodies) {
                    bodies.clear();
                }
                flush(&path, &mut bodies, out);
                path.retain(|(above, _)| above < level);
                if !(*level == 1 && path.is_empty() && *text == base.title) {
                    path.push((*level, text));
                }
            }
            Block::Body { text, line, is_item } => bodies.push((text, *line, *is_item)),
        }
    }
    flush(&path, &mut bodies, out);
}

/// "Common issues:" above the sections that name them: alone it tells nobody anything.
fn is_lead_in(bodies: &[(&str, usize, bool)]) -> bool {
    matches!(bodies, [(text, _, false)] if text.chars().count() <= LEAD_IN && text.trim_end().ends_with(':'))
}

/// Turns marks into placeholders numbered from 1 within the chunk, and collects their assets.
/// `keep_links`: links stay in the text as Markdown besides.
fn settle(pack: &Pack, path: &str, text: &str, document: &Document, keep_links: bool) -> (String, Vec<Asset>) {
    let mut assets: Vec<Asset> = Vec::new();
    let inside = |target: &str| match references::is_external(target) {
        true => target.to_string(),
        false => {
            let anchor = target.find('#').map_or("", |at| &target[at..]);
            references::resolve(&pack.paths, path, target)
                .map_or_else(|| target.to_string(), |p| format!("{p}{anchor}"))
        }
    };
    let mut settled = replace_marks(text, |at| {
        let n = assets.len() + 1;
        let Some(asset) = document.assets.get(at) else { return String::new() };
        let (asset, placeholder) = match asset.clone() {
            Asset::Code { language, text, .. } => (Asset::Code { n, language, text }, format!("[[code:{n}]]")),
            Asset::Image { path, alt, .. } => (Asset::Image { n, path: inside(&path), alt }, format!("[[image:{n}]]")),
            Asset::Table { text, .. } => (Asset::Table { n, text }, format!("[[table:{n}]]")),
            Asset::Link { text, target, .. } => (Asset::Link { n, text, target: inside(&target) }, String::new()),
        };
        assets.push(asset);
        placeholder
    });
    if keep_links {
        for asset in &assets {
            if let Asset::Link { text, target, .. } = asset {
                settled = linked(&settled, text, target);
            }
        }
    }
    (settled.trim().to_string(), assets)
}

/// The text with the first plain occurrence of a link's words made a Markdown link again.
fn linked(text: &str, words: &str, target: &str) -> String {
    if words.is_empty() || words == target {
        return text.to_string();
    }
    let link = format!("[{words}]({target})");
    let mut from = 0;
    while let Some(at) = text[from..].find(words).map(|at| at + from) {
        let before = text[..at].chars().next_back();
        let after = text[at + words.len()..].chars().next();
        let stands_alone = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '[' && c != ']');
        if stands_alone(before) && stands_alone(after) {
            return format!("{}{link}{}", &text[..at], &text[at + words.len()..]);
        }
        from = at + words.len();
    }
    text.to_string()
}

/// An answer as one text: headings become bold lines, links stay links.
fn answer(pack: &Pack, path: &str, markdown_text: &str) -> (String, Vec<Asset>) {
    let document = markdown::parse(markdown_text, Flavour::Markdown);
    let mut text = String::new();
    let mut was_item = false;
    for block in &document.blocks {
        let (piece, is_item) = match block {
            Block::Heading { text, .. } => (format!("**{text}**"), false),
            Block::Body { text, is_item, .. } => (text.clone(), *is_item),
        };
        if !text.is_empty() {
            text.push_str(if was_item && is_item { "\n" } else { "\n\n" });
        }
        text.push_str(&piece);
        was_item = is_item;
    }
    settle(pack, path, &text, &document, true)
}

fn faq_chunk(pack: &Pack, entry: &FaqEntry) -> Chunk {
    // Paths in answers begin at the pack's folder.
    let (text, assets) = answer(pack, "", &entry.answer);
    Chunk {
        id: format!("{}#{}", entry.path, slug(&entry.questions[0])),
        kind: SourceKind::Faq,
        path: entry.path.clone(),
        line: entry.line,
        title: entry.questions[0].clone(),
        headings: Vec::new(),
        text,
        assets,
        lang: entry.lang.clone(),
        operator: None,
        questions: entry.questions.clone(),
        tags: entry.tags.clone(),
    }
}

fn example_chunk(pack: &Pack, operator: &Operator, example: &SampleAnswer, path: &str) -> Chunk {
    let (text, assets) = answer(pack, "", &example.answer);
    Chunk {
        id: format!("{path}#{}", slug(&example.question)),
        kind: SourceKind::Example,
        path: path.to_string(),
        line: 0,
        title: example.question.clone(),
        headings: Vec::new(),
        text,
        assets,
        lang: example.lang.clone(),
        operator: Some(operator.name.clone()),
        questions: vec![example.question.clone()],
        tags: Vec::new(),
    }
}

fn app_chunk(entry: &AppEntry, lang: &str) -> Chunk {
    let title = entry.path.get(lang).map(|labels| labels.join(" → ")).unwrap_or_default();
    let mut text = entry.help.get(lang).cloned().unwrap_or_default();
    let mut assets = Vec::new();
    if let Some(image) = &entry.image {
        assets.push(Asset::Image { n: 1, path: image.clone(), alt: title.clone() });
        text.push_str("\n\n[[image:1]]");
    }
    Chunk {
        id: format!("app-map.yaml#{}:{lang}", entry.id),
        kind: SourceKind::AppMap,
        path: "app-map.yaml".into(),
        line: entry.line,
        title,
        headings: Vec::new(),
        text: text.trim().to_string(),
        assets,
        lang: lang.into(),
        operator: None,
        questions: Vec::new(),
        tags: entry.aliases.get(lang).cloned().unwrap_or_default(),
    }
}

/// Letters and digits in lowercase, dashes between; any script. At most 80 characters.
fn slug(heading: &str) -> String {
    let mut out = String::new();
    for c in heading.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_end_matches('-').chars().take(80).collect()
}

/// The second chunk of the same id becomes `id-2`, or the next number that is free.
fn make_ids_unique(chunks: &mut [Chunk]) {
    let mut taken: HashSet<String> = HashSet::new();
    for chunk in chunks {
        let mut number = 1;
        let mut id = chunk.id.clone();
        while !taken.insert(id.clone()) {
            number += 1;
            id = format!("{}-{number}", chunk.id);
        }
        chunk.id = id;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack_of(path: &str, text: &str) -> Pack {
        let article = Article {
            path: path.into(),
            title: "Setup".into(),
            lang: "en".into(),
            text: text.into(),
            ..Article::default()
        };
        let paths = ["articles/img/a.png".to_string(), path.to_string()].into();
        Pack { articles: vec![article], paths, ..Pack::default() }
    }

    #[test]
    fn chunks_follow_headings_and_carry_their_path_and_assets() {
        let text = "# Setup\nIntro.\n\n## Web\nPaste:\n\n```html\n<a>\n```\n\n![Shot](img/a.png)\n\n### React\nUse [npm](https://n.pm).\n## Web\nAgain.\n";
        let chunks = chunks(&pack_of("articles/setup.md", text), 1200);
        let ids: Vec<_> = chunks.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(
            ids,
            ["articles/setup.md", "articles/setup.md#web", "articles/setup.md#web/react", "articles/setup.md#web-2"]
        );
        assert_eq!(chunks[1].text, "Paste:\n\n[[code:1]]\n\n[[image:2]]");
        assert_eq!(chunks[1].assets[0], Asset::Code { n: 1, language: "html".into(), text: "<a>".into() });
        assert_eq!(chunks[1].assets[1], Asset::Image { n: 2, path: "articles/img/a.png".into(), alt: "Shot".into() });
        assert_eq!(chunks[2].headings, ["Web", "React"]);
        assert_eq!(chunks[2].text, "Use npm.");
        assert_eq!((chunks[1].line, chunks[3].line), (5, 16));
        assert_eq!(embedded_text(&chunks[2]), "Setup > Web > React\nUse npm.");
    }

    #[test]
    fn a_line_that_only_leads_to_the_sections_below_is_no_passage() {
        let text = "# Setup\nIntro.\n## Trouble\nCommon issues:\n### It is off\nTurn it on.\n## Ask\nWrite to:\n## End\nBye.\n";
        let chunks = chunks(&pack_of("articles/a.md", text), 1200);
        let texts: Vec<_> = chunks.iter().map(|c| c.text.as_str()).collect();
        assert_eq!(texts, ["Intro.", "Turn it on.", "Write to:", "Bye."]);
        assert_eq!(chunks[1].headings, ["Trouble", "It is off"]);
    }

    #[test]
    fn a_long_section_is_cut_between_blocks_and_no_sentence_is_lost() {
        let text: String = (0..40).map(|n| format!("Sentence number {n} of this paragraph.\n\n")).collect();
        let chunks = chunks(&pack_of("articles/long.md", &text), 300);
        assert!(chunks.len() > 3 && chunks.iter().all(|c| c.text.chars().count() <= 300 + parts::SHORT_PART_CHARS));
        let joined = chunks.iter().map(|c| c.text.as_str()).collect::<Vec<_>>().join("\n\n");
        assert!((0..40).all(|n| joined.contains(&format!("number {n} of"))));
        assert_eq!(chunks[1].id, "articles/long.md~2");
    }

    #[test]
    fn an_answer_keeps_its_links_lists_and_line_breaks() {
        let entry = FaqEntry {
            path: "faq.csv".into(),
            line: 2,
            questions: vec!["How?".into()],
            answer: "Open **A**\nthen [the page](https://x.y/z).\n\n1. one\n2. two".into(),
            lang: "en".into(),
            tags: vec![],
        };
        let chunk = faq_chunk(&Pack::default(), &entry);
        assert_eq!(chunk.text, entry.answer);
        assert_eq!(chunk.id, "faq.csv#how");
        assert!(!readable_text(&chunk).contains("https"));
    }

    #[test]
    fn an_authors_own_placeholder_is_never_expanded() {
        let chunks = chunks(&pack_of("articles/a.md", "Write [[code:1]] here.\n\n```\nx\n```\n"), 1200);
        assert_eq!(chunks[0].text.matches("[[code:1]]").count(), 1);
    }
}
