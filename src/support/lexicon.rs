//! What the pack's own words tell: how rare a stem is, which words are names, and the
//! questions of the FAQ and the labels of the app map ready to be compared.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::amounts;
use super::boilerplate::Boilerplate;
use super::postings::Postings;
use super::spelling::Speller;
use super::{fences, sound, text};
use crate::kb::pack::{AppEntry, Pack};
use crate::kb::{Asset, Chunk, SourceKind};

/// Vocabulary of one snapshot of the knowledge.
#[derive(Default)]
pub struct Lexicon {
    chunks: usize,
    /// Chunks that hold the stem.
    frequency: HashMap<String, usize>,
    /// Folded words that the pack writes with a capital letter, and how it writes them.
    names: HashMap<String, String>,
    known: HashSet<String>,
    /// The pack's content stems by what they mean in English ([`text::glossary`]).
    by_sense: HashMap<Vec<String>, Vec<String>>,
    /// Families of code that the pack shows.
    fences: std::collections::BTreeSet<&'static str>,
    /// What customers' words were meant to be.
    pub speller: Speller,
    /// Latin names by how they sound in Russian.
    sounds: HashMap<String, String>,
    /// Names that stand in a title, a heading or a question: what pages are about.
    subjects: HashSet<String>,
    /// Paragraphs that many pages share.
    pub boilerplate: Boilerplate,
    /// By chunk id.
    sheets: HashMap<String, Sheet>,
    pub questions: Vec<Question>,
    /// Articles' chunks.
    pub pages: Vec<Arc<Chunk>>,
    /// Questions and pages by their stems.
    pub question_postings: Postings,
    pub page_postings: Postings,
    pub places: Vec<Place>,
}

/// A chunk's words, ready to be compared.
#[derive(Default)]
pub struct Sheet {
    /// Content stems of all that it says, code included.
    pub all: HashSet<String>,
    /// Content stems of title and headings.
    pub head: Vec<String>,
    /// Content stems of its own heading, the last one.
    pub own_head: Vec<String>,
    /// Folded names in title and headings.
    pub head_names: HashSet<String>,
    /// Folded words of all that it says.
    pub words: HashSet<String>,
    /// Content stems of the sentences and tables that have an amount.
    pub counted: HashSet<String>,
}

/// A FAQ entry or a sample answer, ready to be compared.
pub struct Question {
    pub chunk: Arc<Chunk>,
    /// Content stems of each wording.
    pub wordings: Vec<Vec<String>>,
    /// Folded names in each wording.
    pub names: Vec<HashSet<String>>,
}

/// One place of the app in one language, ready to be compared.
pub struct Place {
    pub entry: AppEntry,
    pub lang: String,
    /// Content stems of the label and of each alias.
    pub labels: Vec<Vec<String>>,
    /// Content stems of the labels above it.
    pub above: Vec<String>,
    /// Content stems of the help text.
    pub help: Vec<String>,
}

impl Lexicon {
    /// Reads a snapshot's chunks and pack.
    pub fn build(chunks: &[Arc<Chunk>], pack: &Pack) -> Self {
        let mut lexicon = Self { chunks: chunks.len(), boilerplate: Boilerplate::of(chunks), ..Self::default() };
        let mut capital: HashMap<String, (usize, usize, String)> = HashMap::new();
        for chunk in chunks {
            let all = readable(chunk);
            let sheet = Sheet::of(chunk, &all);
            for stem in &sheet.all {
                *lexicon.frequency.entry(stem.clone()).or_default() += 1;
            }
            lexicon.sheets.insert(chunk.id.clone(), sheet);
            lexicon.fences.extend(fences::families(chunk));
            for word in text::words(&text::fold(&all)) {
                lexicon.known.insert(word.to_string());
            }
            if !matches!(chunk.kind, SourceKind::AppMap) {
                count_capitals(&all, &mut capital);
            }
        }
        lexicon.by_sense = by_sense(&lexicon.known);
        for product in pack.company.products.iter().chain([&pack.company.name]) {
            if !product.contains(' ') {
                capital.insert(text::fold(product), (100, 0, product.to_string()));
            }
        }
        for chunk in chunks {
            for asset in &chunk.assets {
                if let Asset::Code { language, .. } = asset
                    && language.chars().count() > 2
                    && !matches!(
                        language.as_str(),
                        "text" | "html" | "plain" | "txt" | "bash" | "shell" | "json" | "csv" | "http"
                    )
                {
                    let name = code_language(language);
                    capital.insert(text::fold(name), (100, 0, name.to_string()));
                }
            }
        }
        for (word, (upper, lower, written)) in capital {
            if upper > 0 && upper >= lower * 3 && word.chars().count() > 1 && !text::is_stop(&word) {
                lexicon.names.insert(word, written);
            }
        }
        for name in lexicon.names.keys().filter(|n| !text::is_cyrillic(n) && n.chars().count() > 2) {
            lexicon.sounds.insert(sound::of(name), name.clone());
        }
        lexicon.speller = Speller::build(chunks, &pack.company.languages);
        for chunk in chunks.iter().filter(|c| matches!(c.kind, SourceKind::Faq | SourceKind::Example)) {
            let wordings: Vec<Vec<String>> = chunk.questions.iter().map(|q| text::content_stems(q)).collect();
            let names = chunk.questions.iter().map(|q| lexicon.names_in(q)).collect();
            lexicon.questions.push(Question { chunk: chunk.clone(), wordings, names });
        }
        let titles: Vec<HashSet<String>> = chunks
            .iter()
            .filter(|c| c.kind != SourceKind::Instruction)
            .map(|c| lexicon.names_in(&format!("{} {} {}", c.title, c.headings.join(" "), c.questions.join(" "))))
            .collect();
        for (chunk, names) in chunks.iter().filter(|c| c.kind != SourceKind::Instruction).zip(titles) {
            lexicon.subjects.extend(names.iter().cloned());
            if let Some(sheet) = lexicon.sheets.get_mut(&chunk.id) {
                // A section under a heading with a name is about that name, whatever its page is about.
                let own = chunk.headings.last().map(|h| lexicon_names(&lexicon.names, h)).unwrap_or_default();
                sheet.head_names = if own.is_empty() { names } else { own };
            }
        }
        lexicon.pages = chunks.iter().filter(|c| c.kind == SourceKind::Article).cloned().collect();
        let sheet = |c: &Arc<Chunk>| lexicon.sheets.get(&c.id).map(|sheet| &sheet.all);
        lexicon.question_postings = Postings::of(lexicon.questions.iter().map(|q| sheet(&q.chunk)));
        lexicon.page_postings = Postings::of(lexicon.pages.iter().map(sheet));
        for entry in &pack.app_map {
            for (lang, path) in &entry.path {
                let Some((label, above)) = path.split_last() else { continue };
                let aliases = entry.aliases.get(lang).into_iter().flatten();
                lexicon.places.push(Place {
                    labels: std::iter::once(label)
                        .chain(aliases)
                        .map(|l| text::content_stems(l))
                        .filter(|l| !l.is_empty())
                        .collect(),
                    above: above.iter().flat_map(|l| text::content_stems(l)).collect(),
                    help: entry.help.get(lang).map(|h| text::content_stems(h)).unwrap_or_default(),
                    entry: entry.clone(),
                    lang: lang.clone(),
                });
            }
        }
        lexicon
    }

    /// The words of a chunk of this snapshot.
    pub fn sheet(&self, id: &str) -> Option<&Sheet> {
        self.sheets.get(id)
    }

    /// Inverse document frequency of a stem, 0.15 (everywhere) to 1 (rare). A word that the pack never uses tells
    /// little of what is asked: 0.2.
    pub fn rarity(&self, stem: &str) -> f32 {
        let n = self.chunks.max(1) as f32;
        let Some(df) = self.frequency.get(stem).map(|df| *df as f32) else { return 0.2 };
        let idf = ((n + 1.0) / (df + 0.5)).ln() / (2.0 * (n + 1.0)).ln();
        idf.clamp(0.15, 1.0)
    }

    /// The pack's content stems that mean the same in English.
    pub fn of_sense(&self, english: &str) -> &[String] {
        self.by_sense.get(&text::plain_stems(english)).map_or(&[], |stems| stems.as_slice())
    }

    /// True where the pack uses the stem at all.
    pub fn has_stem(&self, stem: &str) -> bool {
        self.frequency.contains_key(stem)
    }

    /// True where the pack shows code of one of the families.
    pub fn has_fences(&self, families: &std::collections::BTreeSet<&'static str>) -> bool {
        !self.fences.is_disjoint(families)
    }

    /// Folded names of the pack in a text, whatever their case there.
    pub fn names_in(&self, words: &str) -> HashSet<String> {
        lexicon_names(&self.names, words)
    }

    /// Names in a text that pages are about.
    pub fn subjects_in(&self, words: &str) -> HashSet<String> {
        self.names_in(words).into_iter().filter(|n| self.subjects.contains(n)).collect()
    }

    /// True where the pack writes the folded word as a name.
    pub fn is_name(&self, folded: &str) -> bool {
        self.names.contains_key(folded)
    }

    /// How the pack writes a name.
    pub fn written(&self, folded: &str) -> Option<&str> {
        self.names.get(folded).map(|s| s.as_str())
    }

    /// True where the pack has the folded word in some form.
    pub fn knows(&self, folded: &str) -> bool {
        self.known.contains(folded) || self.frequency.contains_key(&text::concept(folded))
    }
}

impl Lexicon {
    /// The Latin name that a Cyrillic word spells by ear: "вордпресс", "реакте".
    pub fn latin_name(&self, folded: &str) -> Option<String> {
        if let Some(name) = sound::spoken(folded) {
            return Some(self.written(&text::fold(name)).unwrap_or(name).to_string());
        }
        for spelling in [folded.to_string(), text::stem(folded)] {
            let key = sound::of(&spelling);
            if key.chars().count() < 3 {
                continue;
            }
            if let Some(name) = self.sounds.get(&key) {
                return Some(self.written(name).unwrap_or(name).to_string());
            }
            if key.chars().count() >= 5 {
                let near = self.sounds.iter().filter(|(sound, _)| sound.chars().next() == key.chars().next());
                let near = near.filter_map(|(sound, name)| text::edit_distance(&key, sound, 1).map(|d| (d, name)));
                if let Some((_, name)) = near.min() {
                    return Some(self.written(name).unwrap_or(name).to_string());
                }
            }
        }
        None
    }
}

/// Content stems of the words by the stems of their English, in the words' order.
fn by_sense(words: &HashSet<String>) -> HashMap<Vec<String>, Vec<String>> {
    let mut words: Vec<&String> = words.iter().filter(|word| text::is_cyrillic(word)).collect();
    words.sort_unstable();
    let mut found: HashMap<Vec<String>, Vec<String>> = HashMap::new();
    for word in words {
        for (_, english) in text::glossary::senses(word) {
            let sense = text::plain_stems(english);
            if sense.is_empty() {
                continue;
            }
            let stems = found.entry(sense).or_default();
            for stem in text::content_stems(word) {
                if !stems.contains(&stem) {
                    stems.push(stem);
                }
            }
        }
    }
    found
}

impl Sheet {
    fn of(chunk: &Chunk, all: &str) -> Self {
        let code: Vec<&str> = chunk
            .assets
            .iter()
            .filter_map(|a| if let Asset::Code { text, .. } = a { Some(text.as_str()) } else { None })
            .collect();
        let everything = format!("{all}\n{}\n{}", chunk.tags.join(" "), code.join("\n"));
        Self {
            all: text::content_stems(&everything).into_iter().collect(),
            head: text::content_stems(&format!("{} {}", chunk.title, chunk.headings.join(" "))),
            own_head: chunk.headings.last().map(|h| text::content_stems(h)).unwrap_or_default(),
            head_names: HashSet::new(),
            words: text::words(&text::fold(&everything)).into_iter().map(str::to_string).collect(),
            counted: amounts::counted(&everything),
        }
    }
}

/// All that a reader sees of a chunk, its questions and link texts included.
pub fn readable(chunk: &Chunk) -> String {
    let mut all =
        format!("{}\n{}\n{}\n{}", chunk.title, chunk.headings.join("\n"), chunk.questions.join("\n"), chunk.text);
    for asset in &chunk.assets {
        match asset {
            Asset::Table { text, .. } => {
                all.push('\n');
                all.push_str(text);
            }
            Asset::Code { language, .. } if !language.is_empty() => {
                all.push('\n');
                all.push_str(code_language(language));
            }
            _ => {}
        }
    }
    all
}

/// A fence's language as people call it.
pub fn code_language(fence: &str) -> &str {
    match fence {
        "js" | "jsx" | "mjs" => "JavaScript",
        "ts" | "tsx" => "TypeScript",
        "py" => "Python",
        "sh" | "bash" | "shell" | "console" => "shell",
        "kt" | "kts" => "Kotlin",
        "yml" => "YAML",
        "html" => "HTML",
        "php" => "PHP",
        other => other,
    }
}

fn lexicon_names(names: &HashMap<String, String>, words: &str) -> HashSet<String> {
    text::words(&text::fold(words)).into_iter().filter(|w| names.contains_key(*w)).map(str::to_string).collect()
}

/// Counts how often each word is written with a capital letter inside a sentence, and how often without.
fn count_capitals(all: &str, counts: &mut HashMap<String, (usize, usize, String)>) {
    let plain = text::without_code(all);
    for line in plain.lines() {
        let mut opening = true;
        for token in line.split_whitespace() {
            let label = token.starts_with("**") || token.contains('→') || token.starts_with(['«', '"', '“']);
            for word in token.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
                let upper = word.chars().next().is_some_and(char::is_uppercase);
                let inner = word.chars().skip(1).any(char::is_uppercase);
                let entry = counts.entry(text::fold(word)).or_insert((0, 0, word.to_string()));
                if inner || (upper && !opening && !label) {
                    entry.0 += 1;
                    entry.2 = word.to_string();
                } else if !upper {
                    entry.1 += 1;
                }
                opening = false;
            }
            if token.ends_with(['.', '!', '?', ':', '→', '|', '>', '-']) || token == "-" || token == "*" {
                opening = true;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn article(path: &str, text: &str) -> Arc<Chunk> {
        let chunk = faq(path, "en", &[path], text);
        Arc::new(Chunk { kind: SourceKind::Article, path: path.into(), questions: vec![], ..(*chunk).clone() })
    }

    pub(crate) fn faq(id: &str, lang: &str, questions: &[&str], answer: &str) -> Arc<Chunk> {
        Arc::new(Chunk {
            id: id.into(),
            kind: SourceKind::Faq,
            path: "faq.csv".into(),
            line: 2,
            title: questions[0].into(),
            headings: vec![],
            text: answer.into(),
            assets: vec![],
            lang: lang.into(),
            operator: None,
            questions: questions.iter().map(|q| q.to_string()).collect(),
            tags: vec![],
        })
    }

    #[test]
    fn names_are_known_from_the_pack() {
        let chunks = vec![
            faq(
                "1",
                "en",
                &["How do I install the widget on WordPress?"],
                "Open the plugins page of WordPress and add it.",
            ),
            faq(
                "2",
                "en",
                &["How do I install the widget on Shopify?"],
                "Edit theme.liquid in Shopify. The widget loads async.",
            ),
        ];
        let lexicon = Lexicon::build(&chunks, &Pack::default());
        assert!(lexicon.is_name("wordpress") && lexicon.is_name("shopify") && !lexicon.is_name("widget"));
        assert_eq!(lexicon.written("wordpress"), Some("WordPress"));
        assert!(lexicon.rarity("shopifi") > lexicon.rarity("widget"));
    }
}
