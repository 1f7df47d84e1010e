//! The company's tone: banned phrases, filler, the number of sentences, the closing line.

use super::text;
use crate::kb::pack::Tone;

/// Sentences that only announce an answer.
const FILLER: [&str; 14] = [
    "sure",
    "certainly",
    "of course",
    "absolutely",
    "great question",
    "good question",
    "i'd be happy to help",
    "i would be happy to help",
    "i'm happy to help",
    "i hope this helps",
    "let me help",
    "thank you for your question",
    "thank you for reaching out",
    "happy to help",
];

/// True where a generated sentence is filler and may go without loss.
pub fn is_filler(sentence: &str) -> bool {
    let folded = text::fold(sentence);
    let bare = folded.trim_matches(|c: char| !c.is_alphanumeric());
    bare.chars().count() < 60 && FILLER.iter().any(|f| bare == *f || (bare.starts_with(f) && !bare.contains(',')))
}

/// The sentence without an opening "Yes, " or "Sure, ": the rest has to stand by itself.
pub fn without_opener(sentence: &str) -> String {
    const OPENERS: [&str; 11] = [
        "yes",
        "no",
        "sure",
        "certainly",
        "of course",
        "absolutely",
        "great question",
        "да",
        "нет",
        "конечно",
        "hello",
    ];
    let lowered = sentence.to_lowercase();
    for opener in OPENERS {
        let Some(rest) = lowered.strip_prefix(opener) else { continue };
        if rest.starts_with([',', '!', '.']) && sentence.len() == lowered.len() {
            let rest = sentence[opener.len() + 1..].trim_start();
            let mut chars = rest.chars();
            return chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default();
        }
    }
    sentence.to_string()
}

/// The banned phrase that a sentence holds, if any.
pub fn banned<'a>(sentence: &str, tone: &'a Tone) -> Option<&'a str> {
    let folded = text::fold(sentence);
    tone.banned.iter().map(|b| b.as_str()).find(|b| !b.trim().is_empty() && folded.contains(&text::fold(b)))
}

/// The closing line in a language; empty where there is none.
pub fn sign_off<'a>(tone: &'a Tone, lang: &str) -> &'a str {
    tone.sign_off.get(lang).map_or("", |s| s.as_str())
}

/// Longest generated answer, in sentences.
pub fn max_sentences(tone: &Tone) -> usize {
    if tone.max_sentences == 0 { 6 } else { tone.max_sentences }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_yes_is_taken_off_and_filler_is_known() {
        assert_eq!(without_opener("Yes, you can pay by Visa."), "You can pay by Visa.");
        assert_eq!(without_opener("Yesterday it worked."), "Yesterday it worked.");
        assert!(is_filler("Great question!") && !is_filler("Open Settings."));
    }

    #[test]
    fn banned_phrases_are_found_whatever_their_case() {
        let tone = Tone { banned: vec!["I am just an AI".into()], ..Default::default() };
        assert!(banned("Sorry, i am just an ai.", &tone).is_some());
    }
}
