//! Words, stems, sentences and languages of customers' and packs' texts, Russian and English first.

use std::collections::HashSet;
use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};

pub mod actions;
pub mod glossary;
mod phrases;

use phrases::Phrases;

static ENGLISH: LazyLock<Stemmer> = LazyLock::new(|| Stemmer::create(Algorithm::English));
static RUSSIAN: LazyLock<Stemmer> = LazyLock::new(|| Stemmer::create(Algorithm::Russian));

/// Words that carry no subject: articles, pronouns, auxiliaries, question words, courtesy.
const STOP: &str = "a an the this that these those it its it's is are was were be been being am do does did done doing have has had \
    having i i'm im i've me my mine we us our you your yours he she they them their his her him and or but so if then than \
    as of at by for from in into on onto to with without within about over under out up down off there here can could may \
    might must shall should will would won't wont can't cannot cant don't dont doesn't doesnt didn't isn't isnt aren't \
    not no nor yes ok okay please pls thanks thank hi hello hey dear good morning evening day what which who whom whose \
    when where why how much many any some all each every just only also too very really more most other another same \
    need want wanna like would'd get got gets getting let lets know tell say said ask see s t d ll re ve m u possible way ways \
    able thing things something anything one using use used uses via exactly actually help now still again already \
    kindly guys team sorry excuse question problem issue trying try tried make makes made instead while after before because \
    а и но или да нет не ни же ли бы б в во на по к ко с со у о об от до из за для при про над под без через между это этот эта эти того \
    тот та то те тем там тут здесь так такой такая такое такие как какой какая какое какие каким какую каких что чтобы чего чем чему кто кого кому где куда \
    какого какому каком какими кем ком чье чей чья чьи откуда когда почему зачем сколько я мы ты вы он она они оно меня мне мной нас нам вас вам его ее их ему ей им мой моя мое \
    мои моей моего моем моих моим мою наш наша наше наши нашем нашего нашей наших ваш ваша ваше ваши вашего вашей ваших вашем вашу вашему вашими моему моими нашу нашими нашему твой твоя твое твои твоего твоему твоей твоем твоих твою твоими тебя тебе тобой \
    собой нее нем нему ней нею ним ними них ею этою тех теми тому самого самой самом самому самим самих самое такому таком такими такую всем всеми всему всего всею свой своя свое свои своего своей своем своих себя себе есть быть был была \
    было были будет будут буду можно могу может можете мочь нужно надо нужен нужна нужны хочу хотим хотел хотела хотелось \
    хотите пожалуйста спасибо здравствуйте привет добрый день вечер утро подскажите подскажи скажите помогите помочь помощь еще уже \
    только также тоже очень если то ведь вот все всё всех весь вся сам само сама уж либо раз потом тогда теперь сейчас \
    вообще просто именно такого этого этой этом этому этих эту ну вопрос проблема делать сделать пытаюсь пробую получается";

static STOP_WORDS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| STOP.split_whitespace().collect());

/// Lower case, `ё` as `е`, e-mail and its like as one word, typographic apostrophes plain.
pub fn fold(text: &str) -> String {
    let lowered: String = text.chars().flat_map(char::to_lowercase).map(|c| if c == 'ё' { 'е' } else { c }).collect();
    let joined = join_codes(&lowered.replace(['’', '`'], "'").replace("e-mail", "email"));
    joined.replace("web-site", "website").replace("web site", "website")
}

/// Codes as one word: `lc-102` is `lc102`.
fn join_codes(lowered: &str) -> String {
    let mut out = String::with_capacity(lowered.len());
    let mut chars = lowered.chars().peekable();
    while let Some(c) = chars.next() {
        let inside = c == '-'
            && out.ends_with(|p: char| p.is_ascii_alphabetic())
            && chars.peek().is_some_and(char::is_ascii_digit);
        if !inside {
            out.push(c);
        }
    }
    out
}

/// Words of a folded text: runs of letters and digits, apostrophes inside kept.
pub fn words(folded: &str) -> Vec<&str> {
    folded
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .map(|w| w.trim_matches('\''))
        .filter(|w| !w.is_empty())
        .collect()
}

/// The stem of a folded word, by its alphabet.
pub fn stem(word: &str) -> String {
    if !is_cyrillic(word) {
        return ENGLISH.stem(word).into_owned();
    }
    // The stemmer leaves some verbs' theme vowel: "лежать" gives "лежа", "лежит" gives "леж".
    let mut stem = RUSSIAN.stem(word).into_owned();
    if stem.ends_with(['а', 'я', 'и', 'е', 'о', 'ы', 'ь']) && stem.chars().count() > 3 {
        stem.pop();
    }
    stem
}

/// True where the word is one of the stop words (folded).
pub fn is_stop(word: &str) -> bool {
    STOP_WORDS.contains(word)
}

/// Stems of the words of a text that carry its subject, in order; words of one meaning as one concept (`@delete`).
pub fn content_stems(text: &str) -> Vec<String> {
    content_words(&actions::join_phrasal(&fold(text))).map(concept).collect()
}

/// The same without concepts: the words as they stand, for comparing a claim with its source.
pub fn plain_stems(text: &str) -> Vec<String> {
    content_words(&fold(text)).map(stem).collect()
}

fn content_words(folded: &str) -> impl Iterator<Item = &str> {
    words(folded)
        .into_iter()
        .filter(|w| !is_stop(w) && (w.chars().count() > 1 || w.chars().all(|c| c.is_ascii_digit())))
}

/// All stems of a text, stop words included, in order.
pub fn stems(text: &str) -> Vec<String> {
    words(&fold(text)).into_iter().map(stem).collect()
}

/// The concept of a folded word where it is a known verb, else its stem.
pub fn concept(word: &str) -> String {
    let stem = stem(word);
    match actions::concept_of(&stem) {
        Some(concept) => concept.to_string(),
        None => stem,
    }
}

/// True where most letters of the word are Cyrillic.
pub fn is_cyrillic(text: &str) -> bool {
    let (mut cyrillic, mut latin) = (0, 0);
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        if matches!(c, '\u{400}'..='\u{4ff}') { cyrillic += 1 } else { latin += 1 }
    }
    cyrillic > latin
}

/// The language of a message (ISO 639-1), among those that a company serves; `None` where there is too little to tell.
///
/// Names and code are Latin in every language, so a quarter of Cyrillic letters makes a message Russian.
pub fn language(text: &str, served: &[String]) -> Option<String> {
    let prose = without_code(text);
    let (mut cyrillic, mut letters) = (0usize, 0usize);
    for c in prose.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        cyrillic += usize::from(matches!(c, '\u{400}'..='\u{4ff}'));
    }
    if letters < 2 {
        return None;
    }
    let serves = |code: &str| served.iter().any(|s| s == code);
    if cyrillic * 4 >= letters {
        if serves("ru") || served.is_empty() {
            return Some("ru".into());
        }
    } else if serves("en") && served.iter().all(|s| s == "en" || s == "ru") {
        return Some("en".into());
    }
    let code = whatlang::detect(&prose).and_then(|info| iso639_1(info.lang()).map(|code| (code, info.is_reliable())));
    match code {
        Some((code, _)) if serves(code) => Some(code.into()),
        Some((code, true)) if served.is_empty() => Some(code.into()),
        _ if cyrillic * 4 < letters && serves("en") => Some("en".into()),
        _ => None,
    }
}

fn iso639_1(lang: whatlang::Lang) -> Option<&'static str> {
    use whatlang::Lang::*;
    Some(match lang {
        Eng => "en",
        Rus => "ru",
        Ukr => "uk",
        Deu => "de",
        Fra => "fr",
        Spa => "es",
        Ita => "it",
        Por => "pt",
        Pol => "pl",
        Nld => "nl",
        Tur => "tr",
        Est => "et",
        Fin => "fi",
        Bel => "be",
        _ => return None,
    })
}

/// The text without fenced and inline code, so that code does not decide a message's language or mood.
pub fn without_code(text: &str) -> String {
    let mut prose = String::with_capacity(text.len());
    for (i, part) in text.split("```").enumerate() {
        if i % 2 == 0 {
            for (j, piece) in part.split('`').enumerate() {
                if j % 2 == 0 {
                    prose.push_str(piece);
                }
            }
        }
        prose.push(' ');
    }
    prose
}

/// Abbreviations after which a full stop ends no sentence.
const ABBREVIATIONS: [&str; 16] =
    ["e.g", "i.e", "etc", "vs", "mr", "mrs", "dr", "no", "inc", "ltd", "т.е", "т.к", "т.д", "т.п", "см", "напр"];

/// Byte offset after the first complete sentence of a growing text, or `None` where it may still go on.
///
/// A sentence ends at `.`, `!`, `?` or `…` before white space, and at a line's end. With `last`, the rest counts as
/// a sentence. Never splits inside `[[…]]`, inside quotation marks of a word, a number (`3.5`), or `docs.example`.
pub fn sentence_end(text: &str, last: bool) -> Option<usize> {
    let mut chars = text.char_indices().peekable();
    let mut marker = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '[' if text[at..].starts_with("[[") => marker = true,
            ']' if text[..at].ends_with(']') => marker = false,
            '\n' if !marker && !text[..at].trim().is_empty() => return Some(at + 1),
            '.' | '!' | '?' | '…' if !marker => {
                let mut end = at + c.len_utf8();
                while let Some(&(i, n)) = chars.peek() {
                    if matches!(n, '.' | '!' | '?' | '…' | '"' | '»' | '”' | ')' | '*') {
                        end = i + n.len_utf8();
                        chars.next();
                    } else {
                        break;
                    }
                }
                match chars.peek() {
                    None if !last => return None,
                    None => return Some(end),
                    Some(&(i, n)) if n.is_whitespace() => {
                        let before = &text[..at];
                        let word =
                            before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or("").to_lowercase();
                        let numbered = c == '.'
                            && before.trim_start_matches(['-', '*', ' ', '\n']).chars().all(|c| c.is_ascii_digit());
                        if c == '.' && (ABBREVIATIONS.contains(&word.as_str()) || numbered) {
                            continue;
                        }
                        return Some(if n == '\n' { i + 1 } else { end });
                    }
                    Some(_) => {}
                }
            }
            _ => {}
        }
    }
    (last && !text.trim().is_empty()).then_some(text.len())
}

/// All sentences of a complete text, trimmed.
pub fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(end) = sentence_end(rest, true) {
        let sentence = rest[..end].trim();
        if !sentence.is_empty() {
            found.push(sentence);
        }
        rest = &rest[end..];
    }
    found
}

/// Share of `needles` (weighted) that occur in `hay`: 0..1; 0 for no needles.
pub fn coverage(needles: &[String], hay: &HashSet<&str>, weight: impl Fn(&str) -> f32) -> f32 {
    let (mut found, mut all) = (0.0, 0.0);
    let mut seen = HashSet::new();
    for needle in needles.iter().filter(|n| seen.insert(n.as_str())) {
        let w = weight(needle);
        all += w;
        if hay.contains(needle.as_str()) {
            found += w;
        }
    }
    if all > 0.0 { found / all } else { 0.0 }
}

/// Optimal-string-alignment distance, given up above `limit`.
pub fn edit_distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        if row.iter().min().is_some_and(|&m| m > limit) {
            return None;
        }
        rows.push(row);
    }
    rows.last().and_then(|r| r.last().copied()).filter(|&d| d <= limit)
}

/// True where a text of single-spaced words with a space at either end has one of the phrases, parted by `|`.
/// A phrase ends where a word ends, unless it ends in `*`; white space around a phrase does not count.
pub fn has_any(padded: &str, phrases: &'static str) -> bool {
    Phrases::of(phrases).in_text(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_ends_at_its_stop_and_not_inside_numbers_addresses_or_markers() {
        assert_eq!(
            sentences("It costs 3.5 euros at docs.lumichat.example. Is that fine? Yes!"),
            ["It costs 3.5 euros at docs.lumichat.example.", "Is that fine?", "Yes!"]
        );
        assert_eq!(
            sentences("Use e.g. a token. See [[code:1. x]] here."),
            ["Use e.g. a token.", "See [[code:1. x]] here."]
        );
        assert_eq!(sentences("1. Open it.\n2. Close it."), ["1. Open it.", "2. Close it."]);
        assert_eq!(sentence_end("The price is 3.", false), None, "the number may go on");
    }

    #[test]
    fn a_message_with_latin_product_names_is_russian() {
        let served = ["en".to_string(), "ru".to_string()];
        assert_eq!(language("как подключить Telegram к Lumichat?", &served).as_deref(), Some("ru"));
        assert_eq!(language("how do I add Telegram", &served).as_deref(), Some("en"));
        assert_eq!(language("?! 12", &served), None);
        assert_eq!(
            language("ну и где `<script src=\"https://cdn.lumichat.example/w/v3.js\">`", &served).as_deref(),
            Some("ru")
        );
    }

    #[test]
    fn wordings_of_one_wish_share_their_content() {
        assert_eq!(content_stems("How do I turn off the sound?"), content_stems("disable sound please"));
        assert_eq!(content_stems("как поменять цвет"), content_stems("Изменить цвета"));
        assert_ne!(content_stems("удалить рабочее пространство"), content_stems("восстановить рабочее пространство"));
    }

    #[test]
    fn phrases_match_at_words_ends_unless_they_are_open() {
        let padded = " дайте искусственный интеллект оператору ";
        assert!(has_any(padded, "нет|оператор*") && !has_any(padded, "оператор") && !has_any(padded, "ператору"));
        assert!(has_any(padded, "искусственн* интеллект*"));
    }

    #[test]
    fn distances_count_a_swap_as_one() {
        assert_eq!(edit_distance("wdiget", "widget", 2), Some(1));
        assert_eq!(edit_distance("widget", "webhook", 2), None);
    }
}
