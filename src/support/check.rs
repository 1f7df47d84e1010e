//! Checks generated sentences against their sources, before a customer sees them.
//!
//! A sentence passes when each of its facts (numbers, addresses, names, labels, commands) stands in the sources, its
//! words are carried by one place of a source (not gathered from everywhere), and it neither denies what the source
//! says nor affirms what only the question says. The customer's own words support nothing.

use std::collections::HashSet;

use super::facts::{addresses, names, negated, numbers, quantities, quoted};
use super::{actions, text};

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
        let stems: HashSet<String> = text::plain_stems(&all).into_iter().collect();
        // A verb may be the question's own: "change" over a page that says "pick".
        let claims = |s: &String| !stems.contains(s) && !actions::concept_of(s).is_some_and(|c| c.starts_with('@'));
        let unsupported = text::plain_stems(question).into_iter().filter(claims).collect();
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
        let stems = text::plain_stems(&bare);
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
        if actions::contradict(&text::content_stems(sentence), &text::content_stems(&window.text)) {
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
            let inflected = text::stem(&folded);
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
            stems: text::plain_stems(sentence).into_iter().collect(),
            quantities: quantities(sentence),
            negated: negated(sentence),
            text: sentence.to_string(),
        }
    }
}

fn share(stems: &[String], window: &HashSet<String>) -> f32 {
    stems.iter().filter(|s| window.contains(*s)).count() as f32 / stems.len().max(1) as f32
}

fn share_of(stems: &[String], window: &Window) -> f32 {
    share(stems, &window.stems)
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
pub(super) fn repeats(sentence: &str, before: &[String]) -> Option<String> {
    let stems: HashSet<String> = text::plain_stems(sentence).into_iter().collect();
    let again = before.iter().any(|b| {
        let earlier: HashSet<String> = text::plain_stems(b).into_iter().collect();
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
}
