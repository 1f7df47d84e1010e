//! What a company is likely to be asked, said by its pages: each heading as customers would ask for it, and the sentence
//! below it. A pack that has no questions of its own yet tells by them what is on its topic.

use crate::kb::markdown::{self, Block, Flavour};
use crate::kb::pack::{Article, Pack};
use crate::text::{is_cyrillic, sentences};

/// Most of a page's sections that are read: a page is one topic.
const SECTIONS: usize = 6;
/// Longest sentence, in characters: messages are short.
const LONGEST: usize = 200;
/// Words of a heading from which it names its subject itself; "Prerequisites" needs the page's title.
const OWN_SUBJECT: usize = 2;

/// How a subject is asked for. None needs to know what part of speech it is.
const ENGLISH: [&str; 12] = [
    "what is {}",
    "how does {} work",
    "where do I find {}",
    "how do I set up {}",
    "{} does not work",
    "tell me about {}",
    "can I change {}",
    "what do I need for {}",
    "which {} is there",
    "who is {} meant for",
    "when should I use {}",
    "what happens with {}",
];
const RUSSIAN: [&str; 12] = [
    "что такое {}",
    "как работает {}",
    "где найти {}",
    "как настроить {}",
    "{} не работает",
    "расскажите про {}",
    "можно ли изменить {}",
    "что нужно для {}",
    "какие бывают {}",
    "для кого {}",
    "когда нужно {}",
    "что происходит, если {}",
];

/// Up to about `wanted` messages, each with the path of its page, the same for the same pages; of many pages only as
/// many are read as are needed.
pub fn of_pages(pack: &Pack, wanted: usize) -> Vec<(String, &str)> {
    let mut pages: Vec<&Article> = pack.articles.iter().collect();
    pages.sort_by_key(|page| *blake3::hash(page.path.as_bytes()).as_bytes());
    let of_each = wanted.div_ceil(pages.len().max(1)).clamp(1, 2 * SECTIONS);
    let mut asked = Vec::new();
    for page in pages {
        if asked.len() >= wanted {
            break;
        }
        let sections = sections(page);
        let questions = sections.iter().map(|(subject, _)| question(subject, asked.len()));
        let questions: Vec<String> = questions.collect();
        let said = sections.into_iter().map(|(_, sentence)| sentence).filter(|s| !s.is_empty());
        let turns = questions.into_iter().zip(said.map(Some).chain(std::iter::repeat(None)));
        let messages = turns.flat_map(|(question, sentence)| std::iter::once(question).chain(sentence));
        asked.extend(messages.take(of_each).map(|message| (message, page.path.as_str())));
    }
    asked
}

/// A page's sections: the subject, and the first sentence said of it (empty where there is none).
fn sections(page: &Article) -> Vec<(String, String)> {
    let mut sections = vec![(page.title.clone(), String::new())];
    for block in markdown::parse(&page.text, Flavour::of(&page.path)).blocks {
        match block {
            Block::Heading { text, .. } if text == page.title => {}
            Block::Heading { text, .. } => {
                if sections.len() == SECTIONS {
                    break;
                }
                let subject = match text.split_whitespace().count() < OWN_SUBJECT {
                    true => format!("{}: {text}", page.title),
                    false => text,
                };
                sections.push((subject, String::new()));
            }
            Block::Body { text, .. } => {
                if let Some((_, said)) = sections.last_mut().filter(|(_, said)| said.is_empty()) {
                    let plain = markdown::replace_marks(&text, |_| String::new());
                    *said = sentences(&plain).first().copied().unwrap_or(plain.trim()).chars().take(LONGEST).collect();
                }
            }
        }
    }
    sections.retain(|(subject, _)| subject.chars().any(char::is_alphabetic));
    sections
}

/// A subject as the `turn`th customer asks for it.
fn question(subject: &str, turn: usize) -> String {
    let forms = if is_cyrillic(subject) { &RUSSIAN } else { &ENGLISH };
    let subject: String = subject.chars().take(LONGEST).collect();
    // The pages' numbers are multiples of what each gives, so that a plain count would meet the same few forms.
    let form = forms[(turn + subject.chars().count()) % forms.len()];
    form.replace("{}", &lowered(&subject))
}

/// Without the capital letter of a title's beginning; names in capitals keep theirs.
fn lowered(subject: &str) -> String {
    let mut letters = subject.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => subject.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, title: &str, text: &str) -> Article {
        Article { path: path.into(), title: title.into(), text: text.into(), ..Article::default() }
    }

    fn pack(articles: Vec<Article>) -> Pack {
        Pack { articles, ..Pack::default() }
    }

    #[test]
    fn headings_are_asked_for_and_their_first_sentence_is_said() {
        let text = "# Tyres\n\nTyres wear out. So change them.\n\n## Prerequisites\n\nA jack.\n\n## Winter tyres\n\n```\nx = 1\n```\n";
        let pack = pack(vec![page("articles/tyres.md", "Tyres", text)]);
        let asked: Vec<String> = of_pages(&pack, 20).into_iter().map(|(message, _)| message).collect();
        assert!(asked.iter().any(|m| m == "Tyres wear out."), "{asked:?}");
        assert!(
            asked.iter().any(|m| m.contains("tyres: Prerequisites") && m.len() > "tyres: Prerequisites".len()),
            "{asked:?}"
        );
        assert!(asked.iter().any(|m| m.contains("winter tyres")), "{asked:?}");
        assert!(asked.iter().all(|m| !m.contains("x = 1")), "{asked:?}");
    }

    #[test]
    fn russian_headings_are_asked_for_in_russian_and_capital_letters_of_names_stay() {
        let ru = page("articles/ru.md", "Зимние шины", "# Зимние шины\n");
        let en = page("articles/en.md", "API keys", "# API keys\n");
        let pack = pack(vec![ru, en]);
        let asked = of_pages(&pack, 20);
        assert!(asked.iter().any(|(m, path)| m.contains("зимние шины") && *path == "articles/ru.md"), "{asked:?}");
        assert!(asked.iter().any(|(m, _)| m.contains("API keys") && m.is_ascii()), "{asked:?}");
    }

    #[test]
    fn many_pages_give_no_more_than_is_wanted_and_the_same_again() {
        let pages =
            (0..50).map(|n| page(&format!("articles/{n}.md"), &format!("Part number {n}"), "Body text here.\n"));
        let pack = pack(pages.collect());
        let (first, again) = (of_pages(&pack, 20), of_pages(&pack, 20));
        assert_eq!(first.len(), 20);
        assert_eq!(first, again);
        assert!(of_pages(&Pack::default(), 20).is_empty());
    }
}
