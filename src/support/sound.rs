//! Latin names as Russians write them by ear: "вордпресс" is WordPress, "реакт" is React.

/// How a word sounds, in a rough Latin spelling that both alphabets come to: doubled letters single, no soft signs.
pub fn of(word: &str) -> String {
    let lowered = word.to_lowercase();
    let latin: String = if lowered.chars().any(|c| matches!(c, '\u{400}'..='\u{4ff}')) {
        lowered.chars().map(cyrillic).collect()
    } else {
        let mut text = lowered;
        // Two letters for one sound, before single letters.
        for (from, to) in [
            ("wh", "v"),
            ("ph", "f"),
            ("th", "t"),
            ("ck", "k"),
            ("sch", "sh"),
            ("tch", "ch"),
            ("x", "ks"),
            ("qu", "kv"),
            ("ee", "i"),
            ("oo", "u"),
            ("ou", "u"),
            ("ey", "i"),
            ("ai", "ei"),
            ("ce", "se"),
            ("ci", "si"),
            ("cy", "si"),
        ] {
            text = text.replace(from, to);
        }
        text.chars()
            .map(|c| match c {
                'w' => 'v',
                'c' => 'k',
                'q' => 'k',
                'y' => 'i',
                'j' => 'g',
                other => other,
            })
            .collect()
    };
    let mut out = String::new();
    for c in latin.chars() {
        if !out.ends_with(c) {
            out.push(c);
        }
    }
    out
}

fn cyrillic(c: char) -> &'static str {
    match c {
        'а' => "a",
        'б' => "b",
        'в' => "v",
        'г' => "g",
        'д' => "d",
        'е' | 'ё' | 'э' => "e",
        'ж' => "g",
        'з' => "z",
        'и' | 'й' | 'ы' => "i",
        'к' => "k",
        'л' => "l",
        'м' => "m",
        'н' => "n",
        'о' => "o",
        'п' => "p",
        'р' => "r",
        'с' => "s",
        'т' => "t",
        'у' => "u",
        'ф' => "f",
        'х' => "h",
        'ц' => "ts",
        'ч' => "ch",
        'ш' | 'щ' => "sh",
        'ю' => "iu",
        'я' => "ia",
        _ => "",
    }
}

/// Names whose everyday Russian word is not spelt by ear.
pub fn spoken(folded: &str) -> Option<&'static str> {
    const SPOKEN: [(&str, &str); 31] = [
        ("айфон", "iOS"),
        ("айпад", "iOS"),
        ("айос", "iOS"),
        ("эппл", "Apple"),
        ("телег", "Telegram"),
        ("тг", "Telegram"),
        ("вотсап", "WhatsApp"),
        ("ватсап", "WhatsApp"),
        ("вацап", "WhatsApp"),
        ("вацапп", "WhatsApp"),
        ("фейсбук", "Facebook"),
        ("мессенджер", "Messenger"),
        ("пэйпал", "PayPal"),
        ("пейпал", "PayPal"),
        ("вайбер", "Viber"),
        ("инстаграм", "Instagram"),
        ("питон", "Python"),
        ("пайтон", "Python"),
        ("вью", "Vue"),
        ("вуе", "Vue"),
        ("джаваскрипт", "JavaScript"),
        ("свифт", "Swift"),
        ("котлин", "Kotlin"),
        ("гугл", "Google"),
        ("хром", "Chrome"),
        ("мозилл", "Firefox"),
        ("битрикс", "Bitrix"),
        ("вк", "VK"),
        ("вконтакт", "VK"),
        ("виз", "Visa"),
        ("мастеркард", "Mastercard"),
    ];
    let stem = super::text::stem(folded);
    SPOKEN.iter().find(|(word, _)| *word == folded || *word == stem).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alphabets_come_to_one_sound() {
        for (russian, latin) in [
            ("реакт", "React"),
            ("вордпресс", "WordPress"),
            ("андроид", "Android"),
            ("сафари", "Safari"),
            ("слак", "Slack"),
            ("тильда", "Tilda"),
            ("викс", "Wix"),
            ("ангуляр", "Angular"),
        ] {
            let (a, b) = (of(russian), of(latin));
            assert!(super::super::text::edit_distance(&a, &b, 1).is_some(), "{russian} {a} {latin} {b}");
        }
        assert_eq!(spoken("айфоне"), Some("iOS"));
    }
}
