//! Checks generated sentences against their sources, before a customer sees them.
//!
//! A sentence passes when each of its facts (numbers, addresses, names, labels, commands) stands in the sources, its
//! words are carried by one place of a source (not gathered from everywhere), and it neither denies what the source
//! says nor affirms what only the question says. The customer's own words support nothing.

use std::collections::HashSet;

use super::actions;
use super::text;

/// What an answer may rest on.
pub struct Sources {
    windows: Vec<Window>,
    /// All sources, folded, white space single.
    folded: String,
    words: HashSet<String>,
    stems: HashSet<String>,
    numbers: HashSet<String>,
    /// Content stems of the question that no source has.
    unsupported: HashSet<String>,
    /// The instruction's core as a row of words, to find leaks.
    core: Vec<String>,
    lang: String,
}

/// One or two neighbouring sentences of a source.
struct Window {
    text: String,
    stems: HashSet<String>,
    /// Numbers with the content words after them.
    quantities: Vec<(String, Vec<String>)>,
    negated: bool,
}

/// A verdict on one sentence.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    pub kept: bool,
    pub reason: String,
}

impl Checked {
    fn cut(reason: impl Into<String>) -> Self {
        Self { kept: false, reason: reason.into() }
    }
}

/// Share of a sentence's content that one place of the sources must carry by its words alone.
const CARRIED: f32 = 0.72;
/// The share that suffices where the vectors agree, and how much they must.
const CARRIED_WITH_VECTOR: f32 = 0.5;
const VECTOR_AGREES: f32 = 0.72;
/// Words in a row shared with the instruction's core that count as a leak.
const LEAK_WORDS: usize = 9;

impl Sources {
    /// `passages`: readable texts. `context`: what the client's system messages say of the customer.
    pub fn new(passages: &[String], context: &str, question: &str, core: &str, lang: &str) -> Self {
        let mut windows = Vec::new();
        for passage in passages {
            let sentences = text::sentences(passage);
            for (i, sentence) in sentences.iter().enumerate() {
                windows.push(Window::new(sentence));
                if let Some(next) = sentences.get(i + 1) {
                    windows.push(Window::new(&format!("{sentence} {next}")));
                }
            }
        }
        let all = format!("{} {context}", passages.join("\n"));
        let stems: HashSet<String> = text::content_stems(&all).into_iter().collect();
        let unsupported =
            text::content_stems(question).into_iter().filter(|s| !stems.contains(s) && !s.starts_with('@')).collect();
        Self {
            windows,
            folded: text::fold(&all).split_whitespace().collect::<Vec<_>>().join(" "),
            words: text::words(&text::fold(&all)).into_iter().map(str::to_string).collect(),
            stems,
            numbers: numbers(&all).into_iter().collect(),
            unsupported,
            core: text::words(&text::fold(core)).into_iter().map(str::to_string).collect(),
            lang: lang.into(),
        }
    }

    /// Judges a sentence. `before`: the sentences kept so far. `similarity` of two texts by vectors, where there are any.
    pub fn check(&self, sentence: &str, before: &[String], similarity: &dyn Fn(&str, &str) -> Option<f32>) -> Checked {
        let bare = strip_markers(sentence);
        if bare.trim().is_empty() {
            return Checked { kept: true, reason: "only an asset".into() };
        }
        if let Some(reason) =
            self.wrong_language(&bare).or_else(|| speaks_as_model(&bare)).or_else(|| repeats(&bare, before))
        {
            return Checked::cut(reason);
        }
        if self.leaks(&bare) {
            return Checked::cut("repeats the job instruction");
        }
        if let Some(reason) = self.unknown_fact(&bare) {
            return Checked::cut(reason);
        }
        let stems = text::content_stems(&bare);
        if let Some(stem) = stems.iter().find(|s| self.unsupported.contains(*s)) {
            return Checked::cut(format!("speaks of “{stem}”, which only the question names"));
        }
        if stems.is_empty() {
            return Checked::cut("says nothing");
        }
        self.carried(&bare, &stems, similarity)
    }

    /// Finds the place that carries the sentence best and holds its facts, and compares what is denied.
    fn carried(&self, sentence: &str, stems: &[String], similarity: &dyn Fn(&str, &str) -> Option<f32>) -> Checked {
        let facts = quantities(sentence);
        let best = self
            .windows
            .iter()
            .filter(|w| facts.iter().all(|(n, of)| w.counts(n, of.first())))
            .map(|w| (w, share(stems, &w.stems)))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((window, share)) = best else {
            return Checked::cut("no place of the sources holds its numbers together");
        };
        let by_vector =
            if (CARRIED_WITH_VECTOR..CARRIED).contains(&share) { similarity(sentence, &window.text) } else { None };
        if share < CARRIED && by_vector.is_none_or(|v| v < VECTOR_AGREES) {
            return Checked::cut(format!("the sources carry only {:.0} % of it", share * 100.0));
        }
        if negated(sentence) != window.negated
            && !self.windows.iter().any(|w| w.negated == negated(sentence) && share_of(stems, w) >= share - 0.05)
        {
            return Checked::cut("denies what the source says, or affirms what it denies");
        }
        let window_stems: Vec<String> = window.stems.iter().cloned().collect();
        if actions::contradict(stems, &window_stems) {
            return Checked::cut("names the opposite action");
        }
        Checked { kept: true, reason: format!("carried by the sources ({:.0} %)", share * 100.0) }
    }

    /// A number, address, name, label or command that no source has.
    fn unknown_fact(&self, sentence: &str) -> Option<String> {
        for number in numbers(sentence) {
            if !self.numbers.contains(&number) {
                return Some(format!("the number {number} is in no source"));
            }
        }
        for address in addresses(sentence) {
            if !self.folded.contains(&text::fold(&address)) {
                return Some(format!("the address {address} is in no source"));
            }
        }
        for quoted in quoted(sentence) {
            let folded = text::fold(&quoted).split_whitespace().collect::<Vec<_>>().join(" ");
            let parts = folded.split(['→', '>']).map(str::trim).filter(|p| !p.is_empty());
            for part in parts {
                if !self.folded.contains(part) {
                    return Some(format!("the label or command “{part}” is in no source"));
                }
            }
        }
        for name in names(sentence) {
            let folded = text::fold(&name);
            let inflected = text::concept(&folded);
            if !self.words.contains(&folded) && !self.stems.contains(&inflected) {
                return Some(format!("the name {name} is in no source"));
            }
        }
        None
    }

    fn wrong_language(&self, sentence: &str) -> Option<String> {
        let prose = text::without_code(sentence);
        let letters = prose.chars().filter(|c| c.is_alphabetic()).count();
        if letters < 6 {
            return None;
        }
        let cyrillic = prose.chars().filter(|c| matches!(c, '\u{400}'..='\u{4ff}')).count();
        let foreign = prose
            .chars()
            .filter(|c| {
                c.is_alphabetic() && !c.is_ascii() && !matches!(c, '\u{c0}'..='\u{24f}' | '\u{400}'..='\u{4ff}')
            })
            .count();
        let wrong = match self.lang.as_str() {
            "ru" => cyrillic * 2 < letters,
            _ => cyrillic * 5 > letters || foreign * 5 > letters,
        };
        if wrong {
            return Some("is in another language".into());
        }
        // Latin letters alone do not make it English.
        let info = (self.lang == "en" && letters > 40).then(|| whatlang::detect(&prose)).flatten();
        info.filter(|i| i.is_reliable() && i.lang() != whatlang::Lang::Eng)
            .map(|i| format!("is in another language ({})", i.lang().eng_name()))
    }

    fn leaks(&self, sentence: &str) -> bool {
        let folded = text::fold(sentence);
        let words = text::words(&folded);
        words.len() >= LEAK_WORDS
            && words.windows(LEAK_WORDS).any(|w| {
                self.core.windows(LEAK_WORDS).any(|c| c.iter().zip(w).all(|(a, b)| a == b))
                    && !self.folded.contains(&w.join(" "))
            })
    }
}

impl Window {
    /// True where the place has this number of this.
    fn counts(&self, number: &str, of: Option<&String>) -> bool {
        self.quantities
            .iter()
            .any(|(n, counted)| n == number && of.is_none_or(|o| counted.is_empty() || counted.contains(o)))
    }

    fn new(sentence: &str) -> Self {
        Self {
            stems: text::content_stems(sentence).into_iter().collect(),
            quantities: quantities(sentence),
            negated: negated(sentence),
            text: sentence.to_string(),
        }
    }
}

/// Numbers with up to three content words that follow each: what is counted.
fn quantities(sentence: &str) -> Vec<(String, Vec<String>)> {
    let tokens: Vec<&str> = sentence.split_whitespace().collect();
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        for number in numbers(token) {
            let beside = token.trim_start_matches(|c: char| !c.is_alphabetic());
            let after = std::iter::once(beside).chain(tokens[i + 1..].iter().copied());
            let of =
                after.take(6).flat_map(text::content_stems).filter(|s| !numbers(s).contains(&number)).take(3).collect();
            found.push((number, of));
        }
    }
    found
}

fn share(stems: &[String], window: &HashSet<String>) -> f32 {
    stems.iter().filter(|s| window.contains(*s)).count() as f32 / stems.len().max(1) as f32
}

fn share_of(stems: &[String], window: &Window) -> f32 {
    share(stems, &window.stems)
}

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
fn addresses(sentence: &str) -> Vec<String> {
    sentence
        .split(|c: char| c.is_whitespace() || "()<>[]\"'«»“”`*,;|".contains(c))
        .map(|w| w.trim_end_matches(['.', '!', '?', ':', '/']))
        .filter(|w| w.contains("://") || w.contains('@') || looks_like_domain(w))
        .map(|w| w.trim_start_matches("https://").trim_start_matches("http://").trim_start_matches("www.").to_string())
        .filter(|w| w.len() > 1)
        .collect()
}

fn looks_like_domain(word: &str) -> bool {
    let host = word.split('/').next().unwrap_or("");
    let parts: Vec<&str> = host.split('.').collect();
    parts.len() >= 2
        && parts.iter().all(|p| !p.is_empty() && p.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        && parts.last().is_some_and(|tld| tld.len() >= 2 && tld.chars().all(|c| c.is_ascii_lowercase()))
}

/// What stands in quotation marks, bold or code.
fn quoted(sentence: &str) -> Vec<String> {
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
fn names(sentence: &str) -> Vec<String> {
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

/// "As an AI language model", role markers, and closing chatter that helps nobody.
fn speaks_as_model(sentence: &str) -> Option<String> {
    let folded = text::fold(sentence);
    const PHRASES: [&str; 14] = [
        "as an ai",
        "language model",
        "i am an ai",
        "i'm an ai",
        "as a chatbot",
        "my training",
        "system prompt",
        "my instructions",
        "the passage",
        "the context provided",
        "the facts provided",
        "based on the facts",
        "<|",
        "assistant:",
    ];
    PHRASES.iter().find(|p| folded.contains(**p)).map(|p| format!("speaks as a model (“{p}”)"))
}

/// Says again what a kept sentence said.
fn repeats(sentence: &str, before: &[String]) -> Option<String> {
    let stems: HashSet<String> = text::content_stems(sentence).into_iter().collect();
    let again = before.iter().any(|b| {
        let earlier: HashSet<String> = text::content_stems(b).into_iter().collect();
        let union = stems.union(&earlier).count();
        union > 0 && stems.intersection(&earlier).count() * 10 >= union * 8
    });
    again.then(|| "repeats an earlier sentence".into())
}

fn strip_markers(sentence: &str) -> String {
    let mut out = String::new();
    let mut rest = sentence;
    while let Some(start) = rest.find("[[") {
        out.push_str(&rest[..start]);
        match rest[start..].find("]]") {
            Some(end) => rest = &rest[start + end + 2..],
            None => return out,
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(question: &str) -> Sources {
        let passages = vec![
            "You can pay by Visa, Mastercard and bank transfer. Bank transfer is for yearly plans only. An invoice comes within 1 working day.".to_string(),
            "The Free plan has 1 agent and 100 conversations a month. Attachments may be up to 25 MB. Open Settings → Billing → Invoices. See https://lumichat.example/pricing.".into(),
        ];
        Sources::new(
            &passages,
            "",
            question,
            "You are Igor, the first line of support, and you never speak of the weather to anyone at all.",
            "en",
        )
    }

    fn kept(sentence: &str, question: &str) -> bool {
        sources(question).check(sentence, &[], &|_, _| None).kept
    }

    #[test]
    fn what_the_sources_say_passes() {
        for good in [
            "You can pay by Visa, Mastercard and bank transfer.",
            "Bank transfer is only for yearly plans.",
            "Attachments can be up to 25 MB.",
            "Open **Settings → Billing → Invoices**.",
            "The Free plan has one agent and 100 conversations.",
        ] {
            assert!(kept(good, "how can I pay?"), "{good}: {:?}", sources("").check(good, &[], &|_, _| None));
        }
    }

    #[test]
    fn a_claim_that_only_the_question_supports_is_cut() {
        let question = "Can I pay with PayPal or crypto?";
        for bad in [
            "Yes, you can pay with PayPal.",
            "You can pay with crypto by bank transfer.",
            "Go to https://paypal.com/lumichat to pay.",
            "You can pay with paypal.",
        ] {
            assert!(!kept(bad, question), "{bad}");
        }
    }

    #[test]
    fn wrong_numbers_names_labels_and_denials_are_cut() {
        for bad in [
            "Attachments may be up to 50 MB.",
            "The Free plan has 25 agents.",
            "You can pay by Visa, Amex and bank transfer.",
            "Open **Settings → Payments → Invoices**.",
            "Attachments may not be up to 25 MB.",
            "Write to help@lumichat.com.",
            "You cannot pay by Visa.",
            "The Free plan has 100 agents and 1 conversation a day in Berlin.",
        ] {
            assert!(!kept(bad, "how can I pay?"), "{bad}");
        }
    }

    #[test]
    fn leaks_loops_and_other_languages_are_cut() {
        assert!(!kept(
            "I am Igor, the first line of support, and you never speak of the weather to anyone.",
            "who are you"
        ));
        assert!(!kept("Вы можете платить картой Visa.", "how"));
        assert!(!kept("As an AI language model I can pay by Visa.", "how"));
        let said = vec!["You can pay by Visa, Mastercard and bank transfer.".to_string()];
        assert!(!sources("").check("You can pay by bank transfer, Visa and Mastercard.", &said, &|_, _| None).kept);
    }

    #[test]
    fn numbers_are_read_in_any_spelling() {
        assert_eq!(numbers("1,000 conversations, 3.5 GB, two agents, LC-101"), ["1000", "3.5", "101", "2"]);
    }
}
