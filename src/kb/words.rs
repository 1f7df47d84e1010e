//! Words of a text: as they are looked up, stemmed by language.

use std::collections::HashSet;
use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};

use super::language::writes_cyrillic;

/// Stems the words of one language. A word in another script than the language's is stemmed as English or Russian:
/// a Russian page says "webhooks" and must be found by "webhook".
pub(crate) struct Stems {
    latin: Stemmer,
    cyrillic: Option<Stemmer>,
    other: Option<Stemmer>,
}

impl Stems {
    pub fn of(lang: &str) -> Self {
        let latin = match lang {
            "de" => Algorithm::German,
            "fr" => Algorithm::French,
            "es" => Algorithm::Spanish,
            "it" => Algorithm::Italian,
            "pt" => Algorithm::Portuguese,
            "nl" => Algorithm::Dutch,
            "sv" => Algorithm::Swedish,
            "da" => Algorithm::Danish,
            "nb" | "no" => Algorithm::Norwegian,
            "fi" => Algorithm::Finnish,
            "tr" => Algorithm::Turkish,
            "hu" => Algorithm::Hungarian,
            "ro" => Algorithm::Romanian,
            _ => Algorithm::English,
        };
        // Russian endings fit no other Cyrillic language.
        let cyrillic = (!writes_cyrillic(lang) || lang == "ru").then(|| Stemmer::create(Algorithm::Russian));
        let other = match lang {
            "el" => Some(Stemmer::create(Algorithm::Greek)),
            "ar" => Some(Stemmer::create(Algorithm::Arabic)),
            _ => None,
        };
        Self { latin: Stemmer::create(latin), cyrillic, other }
    }

    /// The stem of a word in lowercase.
    pub fn stem(&self, word: &str) -> String {
        let first = word.chars().next().unwrap_or(' ');
        let stemmer = match first {
            '0'..='9' => return word.to_string(),
            _ if first.is_ascii() || ('\u{c0}'..='\u{24f}').contains(&first) => Some(&self.latin),
            '\u{400}'..='\u{52f}' => self.cyrillic.as_ref(),
            _ => self.other.as_ref(),
        };
        stemmer.map_or_else(|| word.to_string(), |stemmer| stemmer.stem(word).into_owned())
    }

    /// Stems of all words of a text, in order; parts of compounds and of camel case besides the whole.
    pub fn all(&self, text: &str) -> Vec<String> {
        words(text).iter().map(|word| self.stem(word)).collect()
    }
}

/// Words in lowercase, `ё` as `е`: runs of letters and digits. `getLang` gives `getlang`, `get`, `lang`.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for run in text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()) {
        out.push(lower(run));
        let parts = camel_parts(run);
        if parts.len() > 1 {
            out.extend(parts.into_iter().filter(|part| part.chars().count() > 1).map(lower));
        }
    }
    out
}

/// Compound tokens in lowercase: `lc-102`, `crm.item.add`, `data-key`, `@lumichat/react`.
pub(crate) fn compounds(text: &str) -> Vec<String> {
    let joins = |c: char| matches!(c, '-' | '.' | '_' | '/' | ':' | '@' | '#' | '$');
    text.split(|c: char| !c.is_alphanumeric() && !joins(c))
        .map(|token| token.trim_matches(|c: char| matches!(c, '-' | '.' | '/' | ':' | '#')))
        .filter(|token| token.len() <= 64 && token.chars().any(joins) && token.chars().any(char::is_alphanumeric))
        .map(lower)
        .collect()
}

fn lower(word: &str) -> String {
    word.to_lowercase().replace('ё', "е")
}

/// `BX24.getLang` is split where a small letter or digit is followed by a capital.
fn camel_parts(run: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut before = ' ';
    for (at, c) in run.char_indices() {
        if c.is_uppercase() && before.is_lowercase() {
            parts.push(&run[start..at]);
            start = at;
        }
        before = c;
    }
    parts.push(&run[start..]);
    parts
}

/// True for words that say nothing about what a question is about.
pub(crate) fn is_stop(word: &str) -> bool {
    STOP.contains(word)
}

static STOP: LazyLock<HashSet<&str>> = LazyLock::new(|| STOP_WORDS.split_whitespace().collect());

const STOP_WORDS: &str = "
    a about after all also am an and any are as at be because been before but by can could did do does doesn don for
    from get got had has have hello help her here hey hi him his how i if in into is isn it its just know let like m
    may me might must my need no not now of on one or our out please re s say should so some such t tell than thank
    thanks that the their them then there these they this to too up us ve very want was way we were what when where
    which who why will with would you your ll d а без бы был была были было быть в вам вас ваш вы где да для до его
    ее если есть еще же за здравствуйте и из или им их к как какая какие какой кто ли меня мне мной могу мой моя мы
    на надо нам нас наш не него нее нет ни них но ну нужно о об он она они оно от очень по под подскажите пожалуйста
    помогите почему при привет про с сам свой себя сейчас скажите спасибо со так такой там то тоже того тут ты у уже
    хочу чего чем что чтобы это этого этой этом этот эту я можно можете подскажи добрый день вот будет зачем когда
    куда
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn russian_and_english_forms_of_a_word_meet_in_one_stem() {
        let ru = Stems::of("ru");
        assert_eq!(ru.stem("виджета"), ru.stem("виджет"));
        assert_eq!(ru.stem("webhooks"), Stems::of("en").stem("webhook"));
        assert_eq!(ru.all("Счётчик"), ru.all("счетчика"));
    }

    #[test]
    fn code_tokens_are_kept_whole_and_in_parts() {
        assert_eq!(
            compounds("Error LC-102, crm.item.add(x) and data-key=\"y\". End."),
            ["lc-102", "crm.item.add", "data-key"]
        );
        assert_eq!(words("getLang LC-102"), ["getlang", "get", "lang", "lc", "102"]);
    }
}
