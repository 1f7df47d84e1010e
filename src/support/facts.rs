//! What a sentence asserts that can be looked up: numbers, addresses, labels, names; and whether it denies.

use super::text;

/// True where the sentence denies. "Not only" affirms.
pub fn negated(sentence: &str) -> bool {
    let folded = format!(" {} ", text::words(&text::fold(sentence)).join(" "))
        .replace(" not only ", " ")
        .replace(" no later ", " ")
        .replace(" не только ", " ");
    const DENIALS: [&str; 19] = [
        " not ",
        " no ",
        " never ",
        " cannot ",
        " can't ",
        " don't ",
        " doesn't ",
        " isn't ",
        " aren't ",
        " won't ",
        " without ",
        " unable ",
        " none ",
        " не ",
        " нет ",
        " нельзя ",
        " никогда ",
        " без ",
        " невозможно ",
    ];
    DENIALS.iter().any(|d| folded.contains(d))
}

/// Numbers in digits or, from two on, in English words, normalised: `1,000` is `1000`, `two` is `2`.
pub fn numbers(sentence: &str) -> Vec<String> {
    const WORDS: [(&str, &str); 15] = [
        ("two", "2"),
        ("three", "3"),
        ("four", "4"),
        ("five", "5"),
        ("six", "6"),
        ("seven", "7"),
        ("eight", "8"),
        ("nine", "9"),
        ("ten", "10"),
        ("twelve", "12"),
        ("fifteen", "15"),
        ("twenty", "20"),
        ("thirty", "30"),
        ("sixty", "60"),
        ("hundred", "100"),
    ];
    let mut found = Vec::new();
    let mut digits = String::new();
    let chars: Vec<char> = sentence.chars().collect();
    for (i, &c) in chars.iter().enumerate() {
        let next_digit = chars.get(i + 1).is_some_and(char::is_ascii_digit);
        let thousands = chars.len() > i + 3
            && chars[i + 1..i + 4].iter().all(char::is_ascii_digit)
            && !chars.get(i + 4).is_some_and(char::is_ascii_digit);
        match c {
            c if c.is_ascii_digit() => digits.push(c),
            ',' | ' ' | '\u{a0}' | '\u{202f}'
                if !digits.is_empty() && thousands && digits.len() <= 3 && (c == ',' || c != ' ') => {}
            '.' | ',' if !digits.is_empty() && next_digit => digits.push('.'),
            _ if !digits.is_empty() => found.push(std::mem::take(&mut digits)),
            _ => {}
        }
    }
    if !digits.is_empty() {
        found.push(digits);
    }
    let folded = text::fold(sentence);
    for word in text::words(&folded) {
        if let Some((_, digits)) = WORDS.iter().find(|(w, _)| *w == word) {
            found.push(digits.to_string());
        }
    }
    found
}

/// URLs, bare domains and e-mail addresses.
pub fn addresses(sentence: &str) -> Vec<String> {
    sentence
        .split(|c: char| c.is_whitespace() || "()<>[]\"'«»“”`*,;|".contains(c))
        .map(|w| w.trim_end_matches(['.', '!', '?', ':', '/']))
        .filter(|w| w.contains("://") || w.contains('@') || looks_like_domain(w))
        .map(|w| w.trim_start_matches("https://").trim_start_matches("http://").trim_start_matches("www.").to_string())
        .filter(|w| w.len() > 1)
        .collect()
}

pub fn looks_like_domain(word: &str) -> bool {
    let host = word.split('/').next().unwrap_or("");
    let parts: Vec<&str> = host.split('.').collect();
    parts.len() >= 2
        && parts.iter().all(|p| !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        && parts.last().is_some_and(|tld| tld.len() >= 2 && tld.chars().all(|c| c.is_ascii_lowercase()))
}

/// What stands in quotation marks, bold or code.
pub fn quoted(sentence: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, close) in [("**", "**"), ("`", "`"), ("“", "”"), ("«", "»"), ("\"", "\"")] {
        let mut rest = sentence;
        while let Some(start) = rest.find(open) {
            let after = &rest[start + open.len()..];
            let Some(end) = after.find(close) else { break };
            let inner = after[..end].trim().trim_end_matches(['.', ',', ':', ';']);
            if !inner.is_empty() {
                found.push(inner.to_string());
            }
            rest = &after[end + close.len()..];
        }
    }
    found
}

/// Capitalised words that name something: anywhere but at the sentence's start, or there with an inner capital or
/// where it is no everyday word.
pub fn names(sentence: &str) -> Vec<String> {
    const OPENERS: &str = "yes no if when to you your the a an it its this that these those we our in on at for from with after before once then also and but or so as by please \
        go open click select choose press tap enter use add create set make check see visit find copy paste save install remove delete change turn enable disable note each \
        every all any some there here they their he she i my what how where why who which while until unless however therefore first second third next finally additionally \
        currently only both either neither not do does can could may might must should will would let be is are was were have has get gets customers customer users user \
        agents agent people payment payments yearly monthly";
    let mut found = Vec::new();
    let words: Vec<&str> = sentence.split_whitespace().collect();
    for (i, raw) in words.iter().enumerate() {
        let opens = i == 0
            || words[i - 1].ends_with(['.', '!', '?', ':'])
            || matches!(words[i - 1], "-" | "*" | "•")
            || words[i - 1].trim_end_matches('.').chars().all(|c| c.is_ascii_digit());
        for (j, word) in raw.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|w| !w.is_empty()).enumerate() {
            let capital = word.chars().next().is_some_and(char::is_uppercase);
            let inner = word.chars().skip(1).any(char::is_uppercase);
            let folded = text::fold(word);
            let everyday =
                OPENERS.split_whitespace().any(|w| w == folded) || folded.contains('\'') || text::is_stop(&folded);
            if inner || (capital && !everyday) || (capital && !(opens && j == 0) && !everyday) {
                found.push(word.trim_end_matches("'s").to_string());
            }
        }
    }
    found
}

/// Numbers with up to three content words that follow each: what is counted.
pub fn quantities(sentence: &str) -> Vec<(String, Vec<String>)> {
    let tokens: Vec<&str> = sentence.split_whitespace().collect();
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        for number in numbers(token) {
            let beside = token.trim_start_matches(|c: char| !c.is_alphabetic());
            let after = std::iter::once(beside).chain(tokens[i + 1..].iter().copied());
            let of =
                after.take(6).flat_map(text::plain_stems).filter(|s| !numbers(s).contains(&number)).take(3).collect();
            found.push((number, of));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_any_spelling() {
        assert_eq!(numbers("1,000 conversations, 3.5 GB, two agents, LC-101"), ["1000", "3.5", "101", "2"]);
    }
}
