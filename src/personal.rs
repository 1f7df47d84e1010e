//! Personal data in customers' words, found and masked: cards, IBANs, Russian tax and insurance numbers, passports,
//! phones and e-mail addresses.
//!
//! Where a number has a checksum it has to hold, so that order and ticket numbers stay readable: cards (Luhn, ISO/IEC
//! 7812), IBAN (mod 97, ISO 13616), INN and SNILS (the Federal Tax Service's and the Pension Fund's rules). Numbers
//! without one (passports, a ten-digit INN beside which one in eleven numbers would pass) need their name beside them.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// What was found, in the words of its mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Email,
    Iban,
    Card,
    Snils,
    Inn,
    Passport,
    Phone,
}

impl Kind {
    /// What stands in place of it.
    pub fn mask(self) -> &'static str {
        match self {
            Self::Email => "[email]",
            Self::Iban => "[iban]",
            Self::Card => "[card]",
            Self::Snils => "[snils]",
            Self::Inn => "[inn]",
            Self::Passport => "[passport]",
            Self::Phone => "[phone]",
        }
    }
}

/// Characters before a number in which its name may stand.
const NAMED_WITHIN: usize = 40;

struct Pattern {
    kind: Kind,
    regex: Regex,
    /// Whether the match at this place of the text is what it looks like.
    holds: fn(text: &str, at: &Range<usize>) -> bool,
}

static PATTERNS: LazyLock<Vec<Pattern>> = LazyLock::new(|| {
    let rows: [(Kind, &str, fn(&str, &Range<usize>) -> bool); 8] = [
        (Kind::Email, r"(?i)[\p{L}\d._%+-]+@[\p{L}\d-]+(\.[\p{L}\d-]+)*\.\p{L}{2,}", |_, _| true),
        (Kind::Iban, r"(?i)\b[a-z]{2}\d{2}(?:[ -]?[a-z\d]{4}){2,7}(?:[ -]?[a-z\d]{1,3})?\b", |t, at| {
            is_iban(&t[at.clone()])
        }),
        (Kind::Card, r"\b\d(?:[ -]?\d){12,18}\b", |t, at| is_card(&t[at.clone()])),
        (Kind::Snils, r"\b\d{3}[ -]?\d{3}[ -]?\d{3}[ -]?\d{2}\b", |t, at| {
            let dashed = t[at.clone()].contains('-');
            is_snils(&t[at.clone()]) && (dashed || named(t, at.start, &["снилс", "snils", "страхов"]))
        }),
        (Kind::Inn, r"\b(?:\d{12}|\d{10})\b", |t, at| {
            is_inn(&t[at.clone()]) && named(t, at.start, &["инн", "inn", "tin ", "tax"])
        }),
        (Kind::Passport, r"(?i)\b(?:\d{2} ?\d{2}[ №n-]{0,3}\d{6}|[a-z]{1,2}\d{6,8}|\d{9})\b", |t, at| {
            named(t, at.start, &["паспорт", "passport", "серия", "загран"])
        }),
        (
            Kind::Phone,
            r"(?:\+|\b00)\d{1,3}[ \u{a0}.-]?(?:\(\d{1,5}\)|\d{1,5})(?:[ \u{a0}.-]?\d{2,4}){2,4}\b",
            |t, at| (9..=15).contains(&digits(&t[at.clone()]).len()),
        ),
        (
            Kind::Phone,
            r"\b[78][ \u{a0}-]?(?:\(\d{3,5}\)|\d{3})[ \u{a0}-]?\d{3}[ \u{a0}-]?\d{2}[ \u{a0}-]?\d{2}\b",
            |t, at| {
                let found = &t[at.clone()];
                digits(found).len() == 11 && !t[..at.start].ends_with(['.', ':', '#', '№', '/', '=', '_', '-'])
            },
        ),
    ];
    rows.into_iter()
        .filter_map(|(kind, regex, holds)| Regex::new(regex).ok().map(|regex| Pattern { kind, regex, holds }))
        .collect()
});

/// Every personal datum of a text, in order, none overlapping another.
pub fn find(text: &str) -> Vec<(Range<usize>, Kind)> {
    let mut found: Vec<(Range<usize>, Kind)> = Vec::new();
    if !text.contains('@') && text.bytes().filter(u8::is_ascii_digit).count() < 9 {
        return found;
    }
    for pattern in PATTERNS.iter() {
        for at in pattern.regex.find_iter(text).map(|m| m.range()) {
            let free = found.iter().all(|(other, _)| other.end <= at.start || at.end <= other.start);
            if free && (pattern.holds)(text, &at) {
                found.push((at, pattern.kind));
            }
        }
    }
    found.sort_by_key(|(at, _)| at.start);
    found
}

/// The text with a mask in place of each personal datum; the text itself where there is none.
pub fn masked(text: &str) -> Cow<'_, str> {
    let found = find(text);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (at, kind) in found {
        out.push_str(&text[done..at.start]);
        out.push_str(kind.mask());
        done = at.end;
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

/// True where one of the names (lower case) stands shortly before `at`.
fn named(text: &str, at: usize, names: &[&str]) -> bool {
    let mut from = at.saturating_sub(NAMED_WITHIN * 2);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let before = text[from..at].to_lowercase();
    let skipped = before.chars().count().saturating_sub(NAMED_WITHIN);
    let before: String = before.chars().skip(skipped).collect();
    names.iter().any(|name| before.contains(name))
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// 13 to 19 digits of a known issuer's range whose Luhn sum ends in 0.
fn is_card(text: &str) -> bool {
    let digits = digits(text);
    let issued = matches!(digits.first(), Some(2..=6 | 9)) && (13..=19).contains(&digits.len());
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, &d)| match (i % 2, d * 2) {
            (0, _) => d,
            (_, twice) if twice > 9 => twice - 9,
            (_, twice) => twice,
        })
        .sum();
    issued && sum % 10 == 0 && digits.iter().any(|d| *d != digits[0])
}

/// Letters as 10 to 35, the first four characters last: the number mod 97 is 1.
fn is_iban(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    if !(15..=34).contains(&plain.len()) {
        return false;
    }
    let turned = plain[4..].iter().chain(&plain[..4]);
    let remainder = turned.filter_map(|c| c.to_digit(36)).fold(0u32, |sum, value| match value {
        0..=9 => (sum * 10 + value) % 97,
        _ => (sum * 100 + value) % 97,
    });
    remainder == 1
}

/// Nine digits weighted 9 to 1; the last two are the sum mod 101 (100 counts as 0).
fn is_snils(text: &str) -> bool {
    let digits = digits(text);
    if digits.len() != 11 {
        return false;
    }
    let sum: u32 = digits[..9].iter().zip((1..=9).rev()).map(|(d, weight)| d * weight).sum();
    sum % 101 % 100 == digits[9] * 10 + digits[10]
}

/// 10 digits (a company's) with one check digit, 12 (a person's) with two.
fn is_inn(text: &str) -> bool {
    const WEIGHTS: [u32; 11] = [3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8];
    let digits = digits(text);
    let check = |until: usize| {
        let weights = &WEIGHTS[WEIGHTS.len() - until..];
        let sum: u32 = digits[..until].iter().zip(weights).map(|(d, weight)| d * weight).sum();
        sum % 11 % 10 == digits[until]
    };
    match digits.len() {
        10 => check(9),
        12 => check(10) && check(11),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_data_is_masked_in_both_languages() {
        for (said, kept) in [
            ("my card is 4111 1111 1111 1111, why declined?", "my card is [card], why declined?"),
            ("карта 2200-0000-0000-0004 не проходит", "карта [card] не проходит"),
            ("write to anna.k+shop@mail.example please", "write to [email] please"),
            ("почта иван@почта.рф", "почта [email]"),
            ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [iban]."),
            ("gb82west12345698765432", "[iban]"),
            ("мой СНИЛС 112-233-445 95", "мой СНИЛС [snils]"),
            ("снилс 11223344595", "снилс [snils]"),
            ("ИНН 7707083893 для счёта", "ИНН [inn] для счёта"),
            ("инн физлица: 500100732259", "инн физлица: [inn]"),
            ("паспорт 45 09 123456, выдан", "паспорт [passport], выдан"),
            ("my passport number is AB1234567", "my passport number is [passport]"),
            ("звоните 8 (912) 345-67-89", "звоните [phone]"),
            ("+7 912 345 67 89 или 89123456789", "[phone] или [phone]"),
            ("call +44 20 7946 0958 or +1 (202) 555-0147", "call [phone] or [phone]"),
        ] {
            assert_eq!(masked(said), kept);
        }
    }

    #[test]
    fn order_numbers_dates_versions_and_code_stay() {
        for said in [
            "order 4111 1111 1111 1112 is late",
            "ticket 7707083893 and 500100732259",
            "2026-11-21T16:03:05.123456789Z INFO turn",
            "invoice INV-2026-00917 of 21.11.2026 for 1 234 567,89",
            "version 3.14.15 build 20261121",
            "ошибка 112-233-445 96",
            "DE88 3704 0044 0532 0130 00",
            "0000000000000000",
            "the limit is 10000000000 bytes",
            "id=89123456789",
            "трек 80083412345678",
        ] {
            assert_eq!(masked(said), said);
        }
    }

    #[test]
    fn checksums_follow_their_rules() {
        assert!(is_card("5555555555554444") && !is_card("5555555555554445"));
        assert!(is_iban("FR1420041010050500013M02606") && !is_iban("FR1420041010050500013M02607"));
        assert!(is_snils("08765430300") && !is_snils("08765430301"));
        assert!(is_inn("7830002293") && is_inn("500100732259") && !is_inn("7830002294"));
    }

    #[test]
    fn any_text_is_survived() {
        for odd in
            ["", "@", "é@é.éé 👍 12345678901234567890", "паспорт", "ИНН\u{a0}", "+", "8(", "ё".repeat(50).as_str()]
        {
            let _ = masked(odd);
        }
    }
}
