//! An independent judge: what stands in an answer and nowhere in the pack. Shares no code with the turn's own checks,
//! so that a hole there shows here.

use std::collections::HashSet;

use crate::kb::detect_lang;
use crate::kb::pack::{Company, Pack, Tone};
use crate::support::phrases;

/// Generated answers may have this many sentences where the pack says nothing.
const MAX_SENTENCES: usize = 6;
/// Russian words that say "ты" to a customer.
const FAMILIAR: [&str; 12] =
    ["ты", "тебя", "тебе", "тобой", "твой", "твоя", "твоё", "твое", "твои", "твоего", "твоей", "твоих"];

/// Everything that the pack says, ready to be looked up.
pub struct Judge {
    text: String,
    words: HashSet<String>,
    /// Readable files as they are, for code.
    raw: Vec<String>,
    dir: std::path::PathBuf,
    public_url: String,
    tone: Tone,
    languages: Vec<String>,
}

/// What the judge found in one answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    pub unsupported: Vec<String>,
    pub code_blocks: usize,
    pub code_exact: usize,
}

impl Judge {
    /// Reads the pack's articles, FAQ, app map, instructions, samples and phrases.
    pub fn of(pack: &Pack, public_url: &str) -> Self {
        let mut raw: Vec<String> = pack.articles.iter().map(|a| a.text.clone()).collect();
        raw.extend(pack.articles.iter().map(|a| a.title.clone()));
        raw.extend(pack.faq.iter().map(|f| format!("{}\n{}", f.questions.join("\n"), f.answer)));
        for entry in &pack.app_map {
            let all = entry
                .path
                .values()
                .map(|p| p.join(" → "))
                .chain(entry.aliases.values().flatten().cloned())
                .chain(entry.help.values().cloned());
            raw.push(all.chain(entry.image.clone()).collect::<Vec<_>>().join("\n"));
        }
        for operator in &pack.operators {
            raw.extend(operator.examples.iter().map(|e| e.answer.clone()));
            raw.extend(operator.versions.values().map(|v| v.core.clone()));
            raw.extend(operator.versions.values().flat_map(|v| v.sections.iter().map(|s| s.text.clone())));
            raw.extend(operator.display_name.values().cloned());
        }
        raw.push(fixed_sentences(&pack.company));
        let text = raw.join("\n").to_lowercase();
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_string).collect();
        Self {
            text,
            words,
            raw,
            dir: pack.dir.clone(),
            public_url: public_url.trim_end_matches('/').to_string(),
            tone: pack.company.tone.clone(),
            languages: pack.company.languages.clone(),
        }
    }

    /// The language of a text, among the company's.
    pub fn language(&self, text: &str) -> String {
        detect_lang(text, &self.languages)
    }

    /// Words out of tone: what the pack bans, "ты" where it says "вы", emoji, and a generated answer (`kind`) that is
    /// too long. Code is no prose.
    pub fn tone(&self, answer: &str, kind: &str) -> Vec<String> {
        let prose: String = answer.split("```").step_by(2).collect::<Vec<_>>().join("\n");
        let lowered = prose.to_lowercase();
        let banned = self.tone.banned.iter().filter(|b| !b.trim().is_empty() && lowered.contains(&b.to_lowercase()));
        let mut faults: Vec<String> = banned.map(|b| format!("the banned {b:?}")).collect();
        if self.tone.address == "formal" {
            let words = lowered.split(|c: char| !c.is_alphanumeric());
            faults.extend(words.filter(|w| FAMILIAR.contains(w)).take(1).map(|w| format!("too familiar: {w:?}")));
        }
        if let Some(emoji) = prose.chars().find(|c| matches!(*c, '\u{1f300}'..='\u{1faff}' | '\u{2600}'..='\u{26ff}')) {
            faults.push(format!("the emoji {emoji}"));
        }
        let most = if self.tone.max_sentences == 0 { MAX_SENTENCES } else { self.tone.max_sentences };
        let sentences = prose.split_inclusive(['.', '!', '?', '\n']).filter(|s| s.chars().any(char::is_alphabetic));
        let sentences = sentences.count();
        if kind == "grounded" && sentences > most {
            faults.push(format!("{sentences} sentences; the pack allows {most}"));
        }
        faults
    }

    /// Looks for numbers, addresses and names that the pack does not have, and compares code byte by byte.
    pub fn judge(&self, answer: &str) -> Judged {
        let mut judged = Judged::default();
        let mut prose = String::new();
        for (i, part) in answer.split("```").enumerate() {
            if i % 2 == 0 {
                prose.push_str(part);
                prose.push('\n');
                continue;
            }
            let Some((_, code)) = part.split_once('\n') else { continue };
            judged.code_blocks += 1;
            let exact = self.raw.iter().any(|r| r.contains(code) || unindented_contains(r, code));
            judged.code_exact += usize::from(exact);
            if !exact {
                judged.unsupported.push(format!(
                    "code that differs from its source: {:?}",
                    code.chars().take(60).collect::<String>()
                ));
            }
        }
        let prose = prose.replace(&format!("{}/kb/", self.public_url), "");
        let tokens = prose
            .split(|c: char| c.is_whitespace() || "()[]<>\"'«»“”*`|,;!?".contains(c))
            .map(|t| t.trim_end_matches(['.', ':', '/']));
        for token in tokens.filter(|t| !t.is_empty()) {
            let lowered = token.to_lowercase();
            let address =
                lowered.contains("://") || lowered.contains('@') || (lowered.contains('.') && lowered.contains('/'));
            if address
                && !self.text.contains(&lowered)
                && !(lowered.len() < 200 && self.dir.join(token.replace("%20", " ")).is_file())
            {
                judged.unsupported.push(format!("address {token}"));
            }
            if !address
                && !(lowered.chars().any(char::is_alphabetic) && self.text.contains(&lowered))
                && lowered.chars().any(|c| c.is_ascii_digit())
                && !self.has_number(&lowered)
            {
                judged.unsupported.push(format!("number {token}"));
            }
        }
        for name in capitalised(&prose) {
            if !self.words.contains(&name.to_lowercase()) {
                judged.unsupported.push(format!("name {name}"));
            }
        }
        judged
    }

    /// True where each run of digits (and signs between) stands in the pack, not as part of a longer number.
    fn has_number(&self, token: &str) -> bool {
        let runs =
            token.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').map(|r| r.trim_matches(['.', ',']));
        runs.filter(|r| !r.is_empty()).all(|run| {
            self.text.match_indices(run).any(|(at, _)| {
                let before = self.text[..at].chars().next_back();
                let after = self.text[at + run.len()..].chars().next();
                !before.is_some_and(|c| c.is_ascii_digit()) && !after.is_some_and(|c| c.is_ascii_digit())
            })
        })
    }
}

/// Fenced code may have been indented as a whole in its source.
fn unindented_contains(source: &str, code: &str) -> bool {
    let Some(first) = code.lines().find(|l| !l.trim().is_empty()) else { return true };
    let indents =
        source.lines().filter(|l| l.trim_start() == first.trim_start()).map(|l| l.len() - l.trim_start().len());
    let wanted = first.len() - first.trim_start().len();
    indents.filter(|i| *i > wanted).any(|indent| {
        let cut = indent - wanted;
        let plain: Vec<&str> = source
            .lines()
            .map(|l| {
                if l.len() >= cut && l.is_char_boundary(cut) && l[..cut].trim().is_empty() {
                    &l[cut..]
                } else {
                    l.trim_start()
                }
            })
            .collect();
        plain.join("\n").contains(code.trim_end_matches('\n'))
    })
}

/// Latin words with a capital letter that do not open a sentence, a line, a list item or a quotation.
fn capitalised(prose: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in prose.lines() {
        let mut opening = true;
        for token in line.split_whitespace() {
            for word in token.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
                let latin = word.chars().all(|c| c.is_ascii_alphanumeric());
                let inner = word.chars().skip(1).any(|c| c.is_ascii_uppercase());
                if latin && word.len() > 1 && word.starts_with(|c: char| c.is_ascii_uppercase()) && (!opening || inner)
                {
                    names.push(word.to_string());
                }
                opening = false;
            }
            opening |= token.ends_with(['.', '!', '?', ':', '→', '|', '-']) || token.starts_with(['"', '“', '«', '*']);
        }
    }
    names
}

/// What the company or the program says in fixed words.
fn fixed_sentences(company: &Company) -> String {
    const NAMES: [&str; 16] = [
        "greeting",
        "thanks",
        "goodbye",
        "clarify",
        "clarify_choice",
        "person_first",
        "person_hint",
        "person_open",
        "handoff",
        "no_answer",
        "reword",
        "retry",
        "filtered",
        "flood",
        "off_topic",
        "wrong_company",
    ];
    let mut said: Vec<String> =
        vec![company.name.clone(), company.site.clone().unwrap_or_default(), company.products.join(" ")];
    said.extend(company.about.values().cloned());
    said.extend(company.off_topic.reply.values().cloned());
    said.extend(company.mistaken_for.iter().flat_map(|m| m.reply.values().cloned()));
    said.extend(company.tone.sign_off.values().cloned());
    said.extend(company.languages.iter().flat_map(|lang| NAMES.iter().map(|name| phrases::raw(company, name, lang))));
    said.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kb::pack::{Article, FaqEntry};

    fn judge() -> Judge {
        let pack = Pack {
            articles: vec![Article {
                text: "Attachments up to 25 MB. Write to help@lumichat.example.\n\n  ```js\n  Lumichat.open();\n    x();\n  ```\n![a](images/a.png)".into(),
                ..Default::default()
            }],
            faq: vec![FaqEntry { answer: "We take Visa and Mastercard at https://lumichat.example/pay.".into(), ..Default::default() }],
            ..Default::default()
        };
        Judge::of(&pack, "http://h:1")
    }

    #[test]
    fn banned_familiar_and_overlong_words_are_out_of_tone_and_code_is_not() {
        let mut judge = judge();
        judge.tone = Tone {
            address: "formal".into(),
            banned: vec!["just an AI".into()],
            max_sentences: 2,
            ..Default::default()
        };
        assert_eq!(judge.tone("Sorry, I am JUST an ai.", "verbatim").len(), 1);
        assert_eq!(judge.tone("Открой свой кабинет, тебе туда 🙂", "verbatim").len(), 2);
        assert_eq!(judge.tone("One. Two. Three.", "grounded").len(), 1);
        assert!(judge.tone("One. Two. Three.\n```\n// just an AI\n```", "quoted").is_empty());
    }

    #[test]
    fn what_the_pack_says_is_supported() {
        let judged = judge().judge("Up to 25 MB. We take Visa. See https://lumichat.example/pay or help@lumichat.example.\n```js\nLumichat.open();\n  x();\n```");
        assert_eq!(judged, Judged { unsupported: vec![], code_blocks: 1, code_exact: 1 });
    }

    #[test]
    fn invented_numbers_addresses_names_and_code_are_found() {
        let judged =
            judge().judge("Up to 5 MB, pay with PayPal at https://paypal.com/x.\n```js\nLumichat.close();\n```");
        assert_eq!(judged.unsupported.len(), 4, "{judged:?}");
        assert_eq!((judged.code_blocks, judged.code_exact), (1, 0));
    }
}
