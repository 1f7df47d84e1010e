//! Rough English, word by word, for texts in a language that an English embedding model does not read.
//!
//! A small embedding model that reads English only still tells that "freeze my account for a holiday" and "suspend service
//! while away" mean nearly the same. So a Russian text is put into English by a glossary (`ru.txt`, written for this
//! program), and the model compares that. The English is for vectors alone: no customer ever sees it.
//!
//! An entry is `keys = english`. A key is one or more words; a word with `*` stands for all words that begin so. Where
//! several entries fit, the one with more words wins, then the one whose first word is a whole word, then the longer beginning.
//! Words that the glossary lacks are left out; words in Latin letters, numbers and the ends of sentences stay.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{fold, words};

static RUSSIAN: LazyLock<Glossary> = LazyLock::new(|| Glossary::read(include_str!("ru.txt")));

/// True where there is a glossary of the language (ISO 639-1).
pub fn has(lang: &str) -> bool {
    lang == "ru"
}

/// The text in rough English; `None` where there is no glossary of its language.
pub fn in_english(lang: &str, text: &str) -> Option<String> {
    has(lang).then(|| RUSSIAN.put(text))
}

/// What the words of a text mean: runs of its folded words, each with its English. Words without an entry, and those that
/// say nothing, are left out.
pub fn senses(text: &str) -> Vec<(Vec<String>, &'static str)> {
    let folded = fold(text);
    let said = words(&folded);
    let of = |(at, taken, english): (usize, usize, Option<&'static str>)| {
        let english = english.filter(|english| !english.is_empty())?;
        Some((said[at..at + taken].iter().map(|word| word.to_string()).collect(), english))
    };
    RUSSIAN.runs(&said).filter_map(of).collect()
}

/// What a folded word means by itself; `None` where it has no entry. A word that says nothing means "".
pub fn sense(word: &str) -> Option<&'static str> {
    RUSSIAN.longest(&[word]).map(|entry| entry.english)
}

/// Hash of all entries: what vectors of glossed texts depend on.
pub fn version() -> &'static str {
    static VERSION: LazyLock<String> =
        LazyLock::new(|| blake3::hash(include_bytes!("ru.txt")).to_hex()[..16].to_string());
    &VERSION
}

/// One word of a key.
#[derive(Clone, Copy)]
struct Pattern {
    letters: &'static str,
    /// Not only its beginning.
    whole: bool,
}

impl Pattern {
    fn of(word: &'static str) -> Self {
        let beginning = word.strip_suffix('*');
        Self { letters: beginning.unwrap_or(word), whole: beginning.is_none() }
    }

    fn fits(self, word: &str) -> bool {
        if self.whole { word == self.letters } else { word.starts_with(self.letters) }
    }
}

struct Entry {
    whole: bool,
    /// The words after the first.
    rest: Vec<Pattern>,
    english: &'static str,
}

/// Entries by the letters of their first word.
struct Glossary(HashMap<&'static str, Vec<Entry>>);

impl Glossary {
    fn read(file: &'static str) -> Self {
        let mut entries: HashMap<&'static str, Vec<Entry>> = HashMap::new();
        let lines = file.lines().filter(|line| !line.starts_with('#'));
        for (keys, english) in lines.filter_map(|line| line.split_once('=')) {
            for key in keys.split(',') {
                let mut patterns = key.split_whitespace().map(Pattern::of);
                let Some(first) = patterns.next() else { continue };
                let entry = Entry { whole: first.whole, rest: patterns.collect(), english: english.trim() };
                entries.entry(first.letters).or_default().push(entry);
            }
        }
        Self(entries)
    }

    fn put(&self, text: &str) -> String {
        let folded = fold(text);
        let mut out = String::with_capacity(folded.len());
        for sentence in folded.split_inclusive(['.', '?', '!', '\n']) {
            let said = words(sentence);
            for (at, _, english) in self.runs(&said) {
                let english = english.unwrap_or(if said[at].is_ascii() { said[at] } else { "" });
                if !english.is_empty() {
                    if !out.is_empty() {
                        out.push(' ');
                    }
                    out.push_str(english);
                }
            }
            if let Some(end) = sentence.chars().last().filter(|c| matches!(c, '.' | '?' | '!'))
                && !said.is_empty()
                && !out.is_empty()
            {
                out.push(end);
            }
        }
        out
    }

    /// The words in runs, each with its entry's English: (first word, number of words, English).
    fn runs<'a>(&'a self, said: &'a [&'a str]) -> impl Iterator<Item = (usize, usize, Option<&'static str>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = said.get(at..).filter(|rest| !rest.is_empty())?;
            let entry = self.longest(rest);
            let run = (at, entry.map_or(1, |entry| 1 + entry.rest.len()), entry.map(|entry| entry.english));
            at += run.1;
            Some(run)
        })
    }

    /// The entry that fits the beginning of `said` best.
    fn longest(&self, said: &[&str]) -> Option<&Entry> {
        let first = *said.first()?;
        let mut best: Option<&Entry> = None;
        let ends = first.char_indices().map(|(at, c)| at + c.len_utf8()).collect::<Vec<_>>();
        for end in ends.into_iter().rev() {
            for entry in self.0.get(&first[..end]).into_iter().flatten() {
                let fits = (!entry.whole || end == first.len())
                    && entry.rest.len() < said.len()
                    && entry.rest.iter().zip(&said[1..]).all(|(pattern, word)| pattern.fits(word));
                let better = |known: &Entry| {
                    entry.rest.len() > known.rest.len()
                        || (entry.rest.len() == known.rest.len() && entry.whole && !known.whole && end == first.len())
                };
                if fits && best.is_none_or(better) {
                    best = Some(entry);
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "# verbs\nподключ* = connect\nподключен* к = connected to\nне = not\nработа*, труд* = work\nне работа* = broken\nкарт* = card\nкартин* = picture\n\
        же, бы =\nв =\nмне = me\n";

    #[test]
    fn the_longest_key_wins_and_words_that_say_nothing_go() {
        let glossary = Glossary::read(SMALL);
        assert_eq!(glossary.put("Подключите же карту!"), "connect card!");
        assert_eq!(
            glossary.put("картинка не работает. Мне не подключили VPN-3"),
            "picture broken. me not connect vpn3"
        );
        assert_eq!(glossary.put("подключён к карте"), "connected to card");
        assert_eq!(glossary.put("неизвестное слово"), "");
    }

    #[test]
    fn russian_questions_come_out_in_english_words() {
        let english = in_english("ru", "Как отменить заказ и вернуть деньги?").unwrap();
        for word in ["how", "cancel", "order", "refund"] {
            assert!(english.contains(word), "{english}");
        }
        assert!(english.ends_with('?') && english.is_ascii(), "{english}");
        assert!(in_english("fr", "Bonjour").is_none());
    }

    #[test]
    fn every_entry_is_well_formed_and_no_key_has_two_meanings() {
        let mut known: HashMap<&str, (usize, &str)> = HashMap::new();
        for (at, line) in
            include_str!("ru.txt").lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#'))
        {
            let (keys, english) = line.split_once('=').unwrap_or_else(|| panic!("line {}: no `=`: {line}", at + 1));
            assert!(english.is_ascii(), "line {}: {line}", at + 1);
            for key in keys.split(',').map(str::trim) {
                assert!(!key.is_empty() && key == fold(key), "line {}: {line}", at + 1);
                for word in key.split_whitespace().map(Pattern::of) {
                    assert_eq!(words(word.letters), [word.letters], "line {}: {line}", at + 1);
                }
                let before = known.insert(key, (at + 1, english));
                assert!(before.is_none(), "line {}: {key} stands in line {} too", at + 1, before.unwrap().0);
            }
        }
        assert!(known.len() > 1000);
    }
}
