//! Which language a text is in, among those that a pack speaks.

use whatlang::{Detector, Lang};

/// ISO 639-1 codes with whatlang's names, for the languages written in Latin and Cyrillic script.
const KNOWN: [(&str, Lang); 27] = [
    ("en", Lang::Eng),
    ("ru", Lang::Rus),
    ("uk", Lang::Ukr),
    ("be", Lang::Bel),
    ("bg", Lang::Bul),
    ("sr", Lang::Srp),
    ("mk", Lang::Mkd),
    ("de", Lang::Deu),
    ("fr", Lang::Fra),
    ("es", Lang::Spa),
    ("it", Lang::Ita),
    ("pt", Lang::Por),
    ("nl", Lang::Nld),
    ("pl", Lang::Pol),
    ("cs", Lang::Ces),
    ("sk", Lang::Slk),
    ("sv", Lang::Swe),
    ("da", Lang::Dan),
    ("nb", Lang::Nob),
    ("fi", Lang::Fin),
    ("et", Lang::Est),
    ("lv", Lang::Lav),
    ("lt", Lang::Lit),
    ("tr", Lang::Tur),
    ("hu", Lang::Hun),
    ("ro", Lang::Ron),
    ("el", Lang::Ell),
];

/// The language of `text` (ISO 639-1), one of `languages`; the first of them where the text does not tell.
///
/// The script decides first, which also works for two words; a few Latin names within Cyrillic words do not turn it.
/// Only between languages of one script is the text's statistics asked.
///
/// ```
/// let languages = ["en".to_string(), "ru".to_string()];
/// assert_eq!(firstline::kb::detect_lang("не работает виджет на WordPress", &languages), "ru");
/// assert_eq!(firstline::kb::detect_lang("reset password", &languages), "en");
/// ```
pub fn detect_lang(text: &str, languages: &[String]) -> String {
    let default = languages.first().cloned().unwrap_or_else(|| "en".into());
    let (mut latin, mut cyrillic) = (0usize, 0usize);
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' => latin += 1,
            '\u{400}'..='\u{52f}' => cyrillic += 1,
            _ => {}
        }
    }
    if latin + cyrillic == 0 {
        return default;
    }
    // Code, addresses and product names are Latin in any language: a quarter of Cyrillic letters is enough.
    let is_cyrillic = cyrillic * 3 >= latin;
    let candidates: Vec<&String> = languages.iter().filter(|lang| writes_cyrillic(lang) == is_cyrillic).collect();
    match candidates[..] {
        [] => default,
        [only] => only.clone(),
        _ => {
            let codes = |lang: &&String| KNOWN.iter().find(|(code, _)| *code == lang.as_str()).map(|(_, lang)| *lang);
            let allowed: Vec<Lang> = candidates.iter().filter_map(codes).collect();
            let found = Detector::with_allowlist(allowed).detect_lang(text);
            let code = found.and_then(|lang| KNOWN.iter().find(|(_, known)| *known == lang));
            code.map(|(code, _)| code.to_string()).unwrap_or_else(|| candidates[0].clone())
        }
    }
}

pub(crate) fn writes_cyrillic(lang: &str) -> bool {
    matches!(lang, "ru" | "uk" | "be" | "bg" | "sr" | "mk" | "kk" | "ky" | "tg" | "mn" | "tt")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(text: &str, languages: &[&str]) -> String {
        detect_lang(text, &languages.iter().map(|l| l.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn short_messages_are_told_apart_by_their_script() {
        for (text, lang) in [("привет", "ru"), ("hi", "en"), ("где API токены", "ru"), ("LC-102 на Shopify", "en")]
        {
            assert_eq!(detect(text, &["en", "ru"]), lang, "{text}");
        }
        assert_eq!(detect("ошибка LC-102 на Shopify", &["en", "ru"]), "ru");
    }

    #[test]
    fn a_text_without_letters_or_in_a_foreign_script_is_in_the_packs_first_language() {
        assert_eq!(detect("12345 ???", &["ru", "en"]), "ru");
        assert_eq!(detect("こんにちは", &["en", "ru"]), "en");
        assert_eq!(detect("hello", &["ru"]), "ru");
    }

    #[test]
    fn languages_of_one_script_are_told_apart_by_their_words() {
        assert_eq!(detect("Wie kann ich das Passwort für mein Konto ändern?", &["en", "de"]), "de");
        assert_eq!(detect("How can I change the password of my account?", &["en", "de"]), "en");
    }
}
