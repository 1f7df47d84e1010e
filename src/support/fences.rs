//! Languages of code fences as customers name them, and which fences of a passage are meant.

use std::collections::BTreeSet;

use super::text;
use crate::kb::{Asset, Chunk};

/// A family of fence languages: its name, the fences' languages, and what people call it.
struct Family {
    name: &'static str,
    fences: &'static [&'static str],
    /// Folded words; none that is an everyday word too.
    words: &'static [&'static str],
    /// Everyday words that name it only after "in", "на", "for" or before "code".
    words_in: &'static [&'static str],
}

const FAMILIES: &[Family] = &[
    Family {
        name: "python",
        fences: &["python", "py", "python3"],
        words: &[
            "python",
            "python3",
            "питон",
            "питоне",
            "питона",
            "питоном",
            "пайтон",
            "пайтоне",
            "py",
            "flask",
            "django",
            "b24pysdk",
        ],
        words_in: &[],
    },
    Family {
        name: "javascript",
        fences: &["js", "javascript", "jsx", "mjs", "ts", "typescript", "tsx", "node"],
        words: &[
            "javascript",
            "js",
            "джаваскрипт",
            "джаваскрипте",
            "node",
            "nodejs",
            "нода",
            "ноде",
            "typescript",
            "ts",
            "тайпскрипт",
            "express",
            "jssdk",
            "b24jssdk",
        ],
        words_in: &[],
    },
    Family { name: "php", fences: &["php"], words: &["php", "пхп", "laravel", "b24phpsdk"], words_in: &[] },
    Family { name: "ruby", fences: &["ruby", "rb"], words: &["ruby", "руби", "rb"], words_in: &[] },
    Family { name: "go", fences: &["go", "golang"], words: &["golang", "голанг"], words_in: &["go", "го"] },
    Family { name: "java", fences: &["java"], words: &["java", "джава", "джаве"], words_in: &[] },
    Family {
        name: "kotlin",
        fences: &["kotlin", "kt", "kts"],
        words: &["kotlin", "котлин", "котлине", "gradle"],
        words_in: &[],
    },
    Family {
        name: "swift", fences: &["swift"], words: &["swift", "swiftui", "свифт", "свифте"], words_in: &[]
    },
    Family { name: "dart", fences: &["dart"], words: &["dart", "дарт"], words_in: &[] },
    Family { name: "rust", fences: &["rust", "rs"], words: &[], words_in: &["rust", "раст"] },
    Family { name: "c#", fences: &["csharp", "cs"], words: &["csharp"], words_in: &[] },
    Family {
        name: "shell",
        fences: &["bash", "sh", "shell", "console", "zsh"],
        words: &["bash", "shell", "curl", "баш", "терминал", "терминале"],
        words_in: &[],
    },
    Family { name: "sql", fences: &["sql"], words: &["sql"], words_in: &[] },
    Family { name: "json", fences: &["json"], words: &["json", "джейсон"], words_in: &[] },
    Family { name: "yaml", fences: &["yaml", "yml"], words: &["yaml", "yml", "pubspec"], words_in: &[] },
    Family { name: "xml", fences: &["xml"], words: &["xml"], words_in: &[] },
    Family { name: "nginx", fences: &["nginx"], words: &["nginx", "энджинкс", "нжинкс"], words_in: &[] },
    Family {
        name: "apache", fences: &["apache", "apacheconf"], words: &["apache", "апач", "htaccess"], words_in: &[]
    },
    Family { name: "html", fences: &["html", "htm"], words: &["html"], words_in: &[] },
    Family { name: "css", fences: &["css", "scss"], words: &["css"], words_in: &[] },
    Family { name: "liquid", fences: &["liquid"], words: &["liquid"], words_in: &[] },
];

/// Families of code that a message names.
pub fn named(message: &str) -> BTreeSet<&'static str> {
    let folded = text::fold(message);
    let words = text::words(&folded);
    let mut found = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |b| words[b]);
        let after = words.get(at + 1).copied().unwrap_or("");
        let framed =
            matches!(before, "in" | "for" | "на" | "для" | "with") || matches!(after, "code" | "snippet" | "example");
        let family = FAMILIES.iter().find(|f| f.words.contains(word) || (framed && f.words_in.contains(word)));
        found.extend(family.map(|f| f.name));
    }
    found
}

/// Families that only say in which language an example is to be: what it is about is said by the other words. "nginx" or
/// "terminal" may be the subject itself.
const LANGUAGES: [&str; 10] = ["python", "javascript", "php", "ruby", "go", "java", "kotlin", "swift", "dart", "rust"];
/// True where an answer in a programming language is asked for: "in Python", "на php", "из js".
pub fn asked_in_one(message: &str) -> bool {
    let folded = text::fold(message);
    let words = text::words(&folded);
    let names = |word: &str| {
        FAMILIES.iter().any(|f| LANGUAGES.contains(&f.name) && (f.fences.contains(&word) || f.words.contains(&word)))
    };
    let framed = |w: &[&str]| matches!(w[0], "in" | "using" | "from" | "with" | "на" | "из" | "через") && names(w[1]);
    let made_for = |at: usize| words.get(at + 2).is_some_and(|after| MADE_FOR.contains(after));
    words.windows(2).enumerate().any(|(at, w)| framed(w) && !made_for(at))
}

/// What is made for one language and named by it: "the PHP SDK" is a subject.
const MADE_FOR: [&str; 14] = [
    "sdk",
    "сдк",
    "library",
    "client",
    "package",
    "module",
    "framework",
    "версия",
    "библиотека",
    "библиотеки",
    "клиент",
    "пакет",
    "модуль",
    "фреймворк",
];

/// The message without the words that name a programming language; products and frameworks stay.
pub fn without_languages(message: &str) -> String {
    let names = |word: &str| {
        FAMILIES.iter().any(|f| {
            let plain = f.fences.contains(&word) || f.words.contains(&word) && text::is_cyrillic(word);
            LANGUAGES.contains(&f.name) && plain && !f.words_in.contains(&word)
        })
    };
    let tokens: Vec<&str> = message.split_whitespace().collect();
    let folded: Vec<String> = tokens.iter().map(|token| text::fold(token)).collect();
    let is_made_for = |at: usize| {
        folded.get(at).is_some_and(|token| text::words(token).first().is_some_and(|word| MADE_FOR.contains(word)))
    };
    let kept = tokens.iter().enumerate().filter(|(at, _)| {
        let words = text::words(&folded[*at]);
        let language = !words.is_empty() && words.iter().all(|word| names(word));
        !language || is_made_for(at + 1) || at.checked_sub(1).is_some_and(is_made_for)
    });
    kept.map(|(_, token)| *token).collect::<Vec<_>>().join(" ")
}

/// The family of a fence's language, where it is known.
pub fn family_of(fence: &str) -> Option<&'static str> {
    let fence = fence.to_lowercase();
    FAMILIES.iter().find(|f| f.fences.contains(&fence.as_str())).map(|f| f.name)
}

/// Families of the fences that a chunk has.
pub fn families(chunk: &Chunk) -> BTreeSet<&'static str> {
    let languages = chunk.assets.iter().filter_map(|a| match a {
        Asset::Code { language, .. } => family_of(language),
        _ => None,
    });
    languages.collect()
}

/// Markers of fences in a text that are of other families than those wanted; none where no fence is of a wanted one.
pub fn unwanted(chunk: &Chunk, wanted: &BTreeSet<&'static str>) -> Vec<String> {
    if families(chunk).is_disjoint(wanted) {
        return Vec::new();
    }
    let other = |asset: &Asset| match asset {
        Asset::Code { n, language, .. } => {
            family_of(language).filter(|f| !wanted.contains(f)).map(|_| format!("[[code:{n}]]"))
        }
        _ => None,
    };
    chunk.assets.iter().filter_map(other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_heard_in_customers_words_and_everyday_words_are_not() {
        assert!(named("verify the signature in Python").contains("python"));
        assert!(named("хэш личности на ноде").contains("javascript"));
        assert!(named("identity hash in go").contains("go"));
        assert!(named("where do I go to change it").is_empty());
    }

    #[test]
    fn a_language_is_no_subject_and_a_product_named_after_it_is() {
        assert_eq!(without_languages("как завести лид на python?"), "как завести лид на");
        assert_eq!(without_languages("install the widget, in JavaScript"), "install the widget, in");
        for subject in ["Flask, b24phpsdk and node-red behind nginx", "install the PHP SDK", "where do I go"] {
            assert_eq!(without_languages(subject), subject);
        }
    }

    #[test]
    fn every_fence_language_belongs_to_one_family() {
        let mut seen = BTreeSet::new();
        for fence in FAMILIES.iter().flat_map(|f| f.fences) {
            assert!(seen.insert(*fence), "{fence} stands in two families");
        }
    }
}
