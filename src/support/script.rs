//! Russian written with Latin letters: typed on the wrong keyboard layout ("ghbdtn") or spelt by sound ("privet"), and
//! English typed on a Russian layout ("щкв"). Plain functions; [`super::spelling`] decides which reading has words.

/// Keys of the two layouts, letter by letter, as they lie on one keyboard.
const LATIN_KEYS: &str = "qwertyuiop[]asdfghjkl;'zxcvbnm,.`";
const CYRILLIC_KEYS: &str = "йцукенгшщзхъфывапролджэячсмитьбюё";

/// The text as the same keys give it on a Russian layout.
pub fn on_cyrillic_keys(text: &str) -> String {
    map_keys(text, LATIN_KEYS, CYRILLIC_KEYS)
}

/// The text as the same keys give it on an English layout.
pub fn on_latin_keys(text: &str) -> String {
    map_keys(text, CYRILLIC_KEYS, LATIN_KEYS)
}

fn map_keys(text: &str, from: &str, to: &str) -> String {
    let key = |c: char| from.chars().position(|k| k == c).and_then(|at| to.chars().nth(at));
    text.chars().flat_map(char::to_lowercase).map(|c| key(c).unwrap_or(c)).collect()
}

/// Latin spellings of Russian sounds, longest first.
const SPELT: [(&str, &str); 48] = [
    ("shch", "щ"),
    ("sch", "щ"),
    ("yo", "ё"),
    ("jo", "ё"),
    ("zh", "ж"),
    ("kh", "х"),
    ("ts", "ц"),
    ("ch", "ч"),
    ("sh", "ш"),
    ("yu", "ю"),
    ("ju", "ю"),
    ("iu", "ю"),
    ("ya", "я"),
    ("ja", "я"),
    ("ia", "я"),
    ("iy", "ий"),
    ("yy", "ый"),
    ("ay", "ай"),
    ("ey", "ей"),
    ("oy", "ой"),
    ("uy", "уй"),
    ("a", "а"),
    ("b", "б"),
    ("v", "в"),
    ("w", "в"),
    ("g", "г"),
    ("d", "д"),
    ("e", "е"),
    ("z", "з"),
    ("i", "и"),
    ("j", "й"),
    ("k", "к"),
    ("q", "к"),
    ("l", "л"),
    ("m", "м"),
    ("n", "н"),
    ("o", "о"),
    ("p", "п"),
    ("r", "р"),
    ("s", "с"),
    ("t", "т"),
    ("u", "у"),
    ("f", "ф"),
    ("h", "х"),
    ("c", "ц"),
    ("y", "ы"),
    ("x", "кс"),
    ("'", "ь"),
];

/// A text in Latin letters read as Russian by its sound.
pub fn by_sound(text: &str) -> String {
    let lowered = text.to_lowercase();
    let mut rest = lowered.as_str();
    let mut out = String::with_capacity(text.len() * 2);
    while let Some(first) = rest.chars().next() {
        // "uy" is one sound at a word's end, and two in "nuyu".
        let before_vowel = |spelt: &str| {
            let glides = spelt.len() == 2 && spelt.ends_with('y') && spelt.starts_with(['a', 'e', 'i', 'o', 'u', 'y']);
            glides && rest[spelt.len()..].starts_with(['a', 'e', 'o', 'u'])
        };
        match SPELT.iter().find(|(spelt, _)| rest.starts_with(spelt) && !before_vowel(spelt)) {
            Some((spelt, sound)) => {
                out.push_str(sound);
                rest = &rest[spelt.len()..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// How a Russian word sounds: unstressed vowels, voiced endings and doubled letters fall together, so that spellings
/// by ear meet. A Latin word only loses its doubled letters.
pub fn sound_key(folded: &str) -> String {
    if folded.is_ascii() {
        let mut out = String::with_capacity(folded.len());
        folded.chars().filter(|c| *c != '\'').for_each(|c| {
            if !out.ends_with(c) {
                out.push(c);
            }
        });
        return out;
    }
    let mut word = folded.to_string();
    for (from, to) in [("ться", "ца"), ("тся", "ца"), ("сч", "щ"), ("зч", "щ"), ("стн", "сн"), ("лнц", "нц")]
    {
        word = word.replace(from, to);
    }
    let letters: Vec<char> = word.chars().filter(|c| !matches!(c, 'ь' | 'ъ')).collect();
    let mut out = String::with_capacity(word.len());
    for (at, c) in letters.iter().enumerate() {
        let voiceless = letters.get(at + 1).is_none_or(|next| "пфктшсцчщх".contains(*next));
        let heard = match c {
            'о' => 'а',
            'е' | 'ы' | 'э' | 'я' | 'й' => 'и',
            'ю' => 'у',
            'б' if voiceless => 'п',
            'в' if voiceless => 'ф',
            'г' if voiceless => 'к',
            'д' if voiceless => 'т',
            'ж' if voiceless => 'ш',
            'з' if voiceless => 'с',
            'с' if letters.get(at + 1).is_some_and(|next| "бдгзж".contains(*next)) => 'з',
            other => *other,
        };
        if !out.ends_with(heard) {
            out.push(heard);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_wrong_layout_give_the_meant_words() {
        assert_eq!(on_cyrillic_keys("ghbdtn, Rfr"), "приветб как");
        assert_eq!(on_latin_keys("рщц"), "how");
    }

    #[test]
    fn latin_spellings_are_read_by_their_sound() {
        assert_eq!(by_sound("Privet, kak pomenyat cvet"), "привет, как поменят цвет");
        assert_eq!(by_sound("shchet"), "щет");
    }

    #[test]
    fn misspellings_by_ear_sound_alike() {
        for (a, b) in
            [("виджет", "виджит"), ("лежит", "лижит"), ("пароль", "пороль"), ("сервис", "сервиз"), ("сбой", "збой")]
        {
            assert_eq!(sound_key(a), sound_key(b));
        }
        assert_ne!(sound_key("открыть"), sound_key("закрыть"));
    }
}
