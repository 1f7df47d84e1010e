//! Reads what a customer meant to write: misspelt words, words run together, the wrong keyboard layout, Russian in
//! Latin letters. A reading is taken only where it turns unknown words into words that the pack (or any customer)
//! uses; a message of known words is never touched.
//!
//! Near words are found through one-letter deletions (W. Garbe's SymSpell) of how words sound, then compared letter by
//! letter: the cost does not grow with the vocabulary.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use super::lexicon::{Lexicon, readable};
use super::{script, text, thesaurus};
use crate::kb::Chunk;

/// Stems of real English words that no pack needs to have, "database" or "Germany": those of the examples that are spelt
/// with care. None is taken for a slip of one of the pack's words; Russian has the glossary for it.
static REAL_WORDS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let texts = [
        include_str!("general/prose.txt"),
        include_str!("general/manuals.txt"),
        include_str!("general/off_topic.txt"),
        include_str!("general/customer.txt"),
        include_str!("general/wish_alikes.txt"),
        include_str!("general/attack_alikes.txt"),
    ];
    let folded = texts.map(text::fold);
    let words = folded.iter().flat_map(|text| text::words(text)).filter(|word| word.is_ascii() && is_spelt(word));
    words.collect::<HashSet<_>>().into_iter().map(text::stem).collect()
});

/// The vocabulary that readings are weighed against.
#[derive(Default)]
pub struct Speller {
    /// Folded words, with how often the pack uses them.
    words: HashMap<String, u32>,
    stems: HashSet<String>,
    entries: Vec<Entry>,
    /// Hash of a sound or of a sound without one letter -> entries.
    deletions: HashMap<u64, Vec<u32>>,
    reads_russian: bool,
    reads_english: bool,
}

struct Entry {
    word: String,
    sound: String,
    count: u32,
}

/// A message, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub text: String,
    /// It was meant in the other alphabet.
    pub other_alphabet: bool,
}

/// Share of a message's letters that must be in known words for a reading in the other alphabet to be taken, and how
/// much more than as it stands.
const READABLE: f32 = 0.6;
const BETTER_BY: f32 = 0.25;
/// A word that is near a known one, against one that is known.
const NEAR_WORD: f32 = 0.7;
/// A misspelling of fewer letters could be anything.
const SHORTEST: usize = 4;

impl Speller {
    /// Learns the words of a pack's chunks, besides the thesaurus.
    pub fn build(chunks: &[Arc<Chunk>], languages: &[String]) -> Self {
        let mut speller = Self {
            reads_russian: languages.iter().any(|l| l == "ru"),
            reads_english: languages.iter().any(|l| l == "en"),
            ..Self::default()
        };
        for chunk in chunks {
            for word in text::words(&text::fold(&readable(chunk))) {
                *speller.words.entry(word.to_string()).or_default() += 1;
            }
        }
        thesaurus::words().for_each(|word| {
            speller.words.entry(word.to_string()).or_default();
        });
        speller.stems = speller.words.keys().map(|word| text::stem(word)).collect();
        let mut words: Vec<(&String, &u32)> = speller.words.iter().filter(|(w, _)| is_spelt(w)).collect();
        words.sort();
        for (word, count) in words {
            let at = speller.entries.len() as u32;
            let sound = script::sound_key(word);
            for key in deletions(&sound) {
                speller.deletions.entry(key).or_default().push(at);
            }
            speller.entries.push(Entry { word: word.clone(), sound, count: *count });
        }
        speller
    }

    /// True for a word that needs no other reading.
    pub fn knows(&self, folded: &str) -> bool {
        text::is_stop(folded) || self.words.contains_key(folded) || {
            let stem = text::stem(folded);
            self.stems.contains(&stem) || super::actions::concept_of(&stem).is_some()
        }
    }

    /// The message as it was most likely meant.
    pub fn read(&self, message: &str, lexicon: &Lexicon) -> Reading {
        let (message, other_alphabet) = match self.in_other_alphabet(message, lexicon) {
            Some(meant) => (meant, true),
            None => (message.to_string(), false),
        };
        let russian = text::is_cyrillic(&text::without_code(&message));
        let mut out = String::with_capacity(message.len());
        for token in message.split_inclusive(char::is_whitespace) {
            match is_prose(token.trim()) {
                true => self.read_token(token, russian, lexicon, &mut out),
                false => out.push_str(token),
            }
        }
        Reading { text: out, other_alphabet }
    }

    fn read_token(&self, token: &str, russian: bool, lexicon: &Lexicon, out: &mut String) {
        let mut rest = token;
        while let Some(start) = rest.find(char::is_alphabetic) {
            out.push_str(&rest[..start]);
            rest = &rest[start..];
            let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            let meant = match word.chars().all(char::is_alphabetic) {
                true => self.meant(&text::fold(word), russian, lexicon),
                false => None,
            };
            out.push_str(meant.as_deref().unwrap_or(word));
            rest = after;
        }
        out.push_str(rest);
    }

    /// What an unknown folded word was meant to be.
    fn meant(&self, folded: &str, russian: bool, lexicon: &Lexicon) -> Option<String> {
        let length = folded.chars().count();
        if length < 2 || self.knows(folded) {
            return None;
        }
        if text::is_cyrillic(folded)
            && let Some(name) = lexicon.latin_name(folded)
        {
            return Some(name);
        }
        if russian && self.reads_russian && folded.is_ascii() && length >= 3 {
            let meant = script::on_cyrillic_keys(folded);
            if self.knows(&meant) {
                return Some(meant);
            }
        }
        if REAL_WORDS.contains(&text::stem(folded)) {
            return None;
        }
        // A real word that means another thing was meant as it stands.
        let sense = text::glossary::sense(folded);
        let nearest = self.nearest(folded).filter(|near| sense.is_none() || text::glossary::sense(near) == sense);
        nearest.map(str::to_string).or_else(|| self.parted(folded).filter(|_| sense.is_none()))
    }

    /// The nearest known word of an unknown one.
    fn nearest(&self, folded: &str) -> Option<&str> {
        let length = folded.chars().count();
        // English words of few letters, and any of three, are too near to one another.
        if length < SHORTEST - 1 || (folded.is_ascii() && length < SHORTEST + 2) || !is_spelt_word(folded) {
            return None;
        }
        let sound = script::sound_key(folded);
        let limit = match (folded.is_ascii(), length) {
            (true, 0..=9) | (false, 0..=7) => 1,
            _ => 2,
        };
        let mut best: Option<(f32, std::cmp::Reverse<u32>, &str)> = None;
        let mut seen = HashSet::new();
        for at in deletions(&sound).filter_map(|key| self.deletions.get(&key)).flatten() {
            let entry = &self.entries[*at as usize];
            if !seen.insert(*at) || entry.word.is_ascii() != folded.is_ascii() {
                continue;
            }
            let Some(by_sound) = text::edit_distance(&sound, &entry.sound, limit) else { continue };
            let Some(by_letter) = text::edit_distance(folded, &entry.word, 3) else { continue };
            if length < SHORTEST && by_sound > 0 {
                continue;
            }
            let same_start = folded.chars().next() == entry.word.chars().next();
            // A short word has many neighbours: only what sounds the same, or differs in one letter after the first.
            if by_sound > 0 && ((length <= 5 && by_letter > 1) || ((length <= 5 || by_sound > 1) && !same_start)) {
                continue;
            }
            let cost = by_sound as f32 + 0.3 * by_letter as f32 + if same_start { 0.0 } else { 0.5 };
            let rank = (cost, std::cmp::Reverse(entry.count), entry.word.as_str());
            if best.as_ref().is_none_or(|b| rank.0 < b.0 || (rank.0 == b.0 && (rank.1, rank.2) < (b.1, b.2))) {
                best = Some(rank);
            }
        }
        best.map(|(_, _, word)| word)
    }

    /// Two known words that were run together.
    fn parted(&self, folded: &str) -> Option<String> {
        if folded.chars().count() < 6 || !is_spelt(folded) {
            return None;
        }
        folded.char_indices().skip(2).map(|(at, _)| folded.split_at(at)).find_map(|(first, second)| {
            let whole = |word: &str| word.chars().count() > 3 && self.words.contains_key(word);
            let fits = (text::is_stop(first) || whole(first)) && second.chars().count() > 3 && self.knows(second);
            fits.then(|| format!("{first} {second}"))
        })
    }

    /// A reading in the other alphabet, where the message has hardly a word as it stands.
    fn in_other_alphabet(&self, message: &str, lexicon: &Lexicon) -> Option<String> {
        let prose = text::without_code(message);
        let (mut cyrillic, mut latin) = (0, 0);
        for c in prose.chars().filter(|c| c.is_alphabetic()) {
            if matches!(c, '\u{400}'..='\u{4ff}') { cyrillic += 1 } else { latin += 1 }
        }
        // The pack's own names are Latin in either alphabet.
        let read = |by: fn(&str) -> String| -> String {
            let is_name =
                |token: &str| lexicon.is_name(&text::fold(token.trim_matches(|c: char| !c.is_alphanumeric())));
            let token = |t: &str| if is_name(t) || !is_prose(t.trim_end()) { t.to_string() } else { by(t) };
            message.split_inclusive(char::is_whitespace).map(token).collect()
        };
        let readings: Vec<String> = if latin > cyrillic && self.reads_russian {
            vec![read(script::on_cyrillic_keys), read(script::by_sound)]
        } else if cyrillic > 0 && latin == 0 && self.reads_english {
            vec![read(script::on_latin_keys)]
        } else {
            return None;
        };
        let as_it_stands = self.readable(&prose);
        let best = readings.into_iter().map(|r| (self.readable(&r), r)).max_by(|a, b| a.0.total_cmp(&b.0));
        best.filter(|(share, _)| *share >= READABLE && *share >= as_it_stands + BETTER_BY).map(|(_, reading)| reading)
    }

    /// Share of a text's letters that stand in known words, or nearly so.
    fn readable(&self, message: &str) -> f32 {
        let folded = text::fold(message);
        let (mut known, mut all) = (0.0, 0.0);
        for word in text::words(&folded).into_iter().filter(|w| w.chars().any(char::is_alphabetic)) {
            let length = word.chars().count() as f32;
            all += length;
            if self.knows(word) || text::glossary::sense(word).is_some() {
                known += length;
            } else if self.nearest(word).is_some() {
                known += NEAR_WORD * length;
            }
        }
        if all > 0.0 { known / all } else { 0.0 }
    }
}

/// Words of letters only can be misspelt; codes and versions cannot.
fn is_spelt(word: &str) -> bool {
    word.chars().count() >= SHORTEST && is_spelt_word(word)
}

fn is_spelt_word(word: &str) -> bool {
    word.chars().all(|c| c.is_alphabetic() || c == '\'')
}

/// Addresses, paths, tags and code are no prose: their letters stay.
fn is_prose(token: &str) -> bool {
    let inner = token.trim_matches(|c: char| !c.is_alphanumeric());
    !inner.contains(['/', '@', '_', '<', '>', '=', '`', '{', '}', '\\', ':', '.', '#', '$'])
}

/// Hashes of a sound and of all that one left-out letter makes of it.
fn deletions(sound: &str) -> impl Iterator<Item = u64> + '_ {
    let hash = |text: &str| {
        // FNV-1a: stable, and short strings need no more.
        text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    };
    let without = move |(at, c): (usize, char)| hash(&format!("{}{}", &sound[..at], &sound[at + c.len_utf8()..]));
    std::iter::once(hash(sound)).chain(sound.char_indices().map(without))
}

#[cfg(test)]
mod tests {
    use super::super::lexicon::tests::faq;
    use super::*;
    use crate::kb::pack::Pack;

    fn read(message: &str) -> Reading {
        let chunks = vec![
            faq("1", "en", &["How do I install the widget on WordPress?"], "Open the plugins page and add it."),
            faq("2", "ru", &["Как установить виджет на сайт?", "Забыл пароль"], "Скопируйте код в разделе Настройки."),
        ];
        let speller = Speller::build(&chunks, &["en".into(), "ru".into()]);
        speller.read(message, &Lexicon::build(&chunks, &Pack::default()))
    }

    #[test]
    fn misspelt_and_joined_words_are_read_as_they_were_meant() {
        assert_eq!(read("как устоновить виждет насайт?").text, "как установить виджет на сайт?");
        assert_eq!(read("Instal the wdiget!").text, "Instal the widget!");
        assert_eq!(read("How do I install the widget?").text, "How do I install the widget?");
    }

    #[test]
    fn the_wrong_keyboard_and_latin_spelling_are_read_as_russian() {
        let layout = read("pf,sk gfhjkm");
        assert!(layout.other_alphabet && layout.text == "забыл пароль", "{layout:?}");
        let latin = read("kak ustanovit vidzhet na sayt");
        assert!(latin.other_alphabet && latin.text.contains("на сайт"), "{latin:?}");
        assert!(!read("please install the widget on our staging box").other_alphabet);
        assert!(read("рщц вщ ш штыефдд еру цшвпуе").other_alphabet);
    }

    #[test]
    fn a_real_word_that_the_pack_does_not_have_is_no_slip_of_one_that_it_has() {
        let chunks = vec![faq("1", "ru", &["Цена до конца года?"], "Темы и отчёты за конец года.")];
        let speller = Speller::build(&chunks, &["ru".into()]);
        let read = |message: &str| speller.read(message, &Lexicon::build(&chunks, &Pack::default())).text;
        assert_eq!(read("какая погода завтра"), "какая погода завтра");
        assert_eq!(read("отчты за год"), "отчеты за год");
    }

    #[test]
    fn addresses_and_code_keep_their_letters() {
        let message = "the page https://exampel.com/wdiget has data-kye=\"x\"";
        assert!(read(message).text.contains("https://exampel.com/wdiget"));
    }
}
