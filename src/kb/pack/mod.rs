//! A knowledge pack as plain data, read from its folder and validated as a whole.
//!
//! [`Pack::read`] goes through the folder once, file kind by file kind (one module each), and collects every *fault*:
//! file, line, reason, and whether it forbids to serve the pack (*fatal*) or only deserves a look. Broken settings and
//! broken rows are fatal; images and links that lead nowhere are warnings. What people added through the console lies
//! in `desk/` and is laid over the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod app_map;
mod articles;
mod company;
mod faq;
mod files;
mod filters;
mod lines;
mod operators;
mod read;
pub(crate) mod references;
#[cfg(test)]
pub(crate) mod tests;

/// A pack, read. `faults` lists all that was wrong; a pack with an `Error` fault is not served.
#[derive(Debug, Clone, Default)]
pub struct Pack {
    pub dir: PathBuf,
    pub company: Company,
    pub operators: Vec<Operator>,
    pub articles: Vec<Article>,
    pub faq: Vec<FaqEntry>,
    pub app_map: Vec<AppEntry>,
    pub filters: Vec<LabelledExample>,
    pub evals: Vec<Dialogue>,
    pub customers: Vec<SimulatedCustomer>,
    pub faults: Vec<Fault>,
    /// Documents of other formats than Markdown and text, and files that no reader knows: what was read of each.
    pub reports: Vec<FileReport>,
    /// Hash of all files read, hex.
    pub digest: String,
    /// All files of the folder, to resolve links and images.
    pub(crate) paths: BTreeSet<String>,
    /// Where files of the pack's vector store lie; their paths here begin with [`UPLOADS`].
    pub(crate) uploads: Option<PathBuf>,
}

/// How paths of uploaded files begin.
pub(crate) const UPLOADS: &str = "uploads/";

/// `company.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Company {
    pub name: String,
    /// ISO 639-1, the first is the default.
    pub languages: Vec<String>,
    /// What the company does, one sentence a language (for clarifying and off-topic answers).
    pub about: BTreeMap<String, String>,
    #[serde(default)]
    pub site: Option<String>,
    #[serde(default)]
    pub tone: Tone,
    #[serde(default)]
    pub off_topic: OffTopic,
    /// Companies that customers take us for.
    #[serde(default)]
    pub mistaken_for: Vec<MistakenFor>,
    /// Fixed sentences, by name and language; a name that is missing falls back to the program's own wording.
    #[serde(default)]
    pub phrases: BTreeMap<String, BTreeMap<String, String>>,
    /// Product and feature names that an answer may use only if a source has them.
    #[serde(default)]
    pub products: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tone {
    /// `formal` ("вы") or `informal` ("ты").
    pub address: String,
    /// Never in an answer.
    pub banned: Vec<String>,
    /// Closing line, by language; empty: none.
    pub sign_off: BTreeMap<String, String>,
    /// Longest generated answer, in sentences.
    pub max_sentences: usize,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OffTopic {
    /// Kinds of things we do not answer, in words (shown in the trace, given to the model).
    pub topics: Vec<String>,
    /// The kind answer, by language.
    pub reply: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MistakenFor {
    /// Who they think we are ("the shop whose site carries the widget").
    pub who: String,
    /// Words that give it away (any language), matched on stems.
    pub words: Vec<String>,
    /// Words of those who do mean us though they say some of `words` ("my order number does not reach the widget").
    /// Our name and our products are such words without being listed.
    #[serde(default)]
    pub unless: Vec<String>,
    /// The kind answer, by language.
    pub reply: BTreeMap<String, String>,
}

/// `operators/NAME/operator.toml` with its instructions and examples.
#[derive(Debug, Clone, Default)]
pub struct Operator {
    /// The folder's name: the model id on the wire.
    pub name: String,
    pub display_name: BTreeMap<String, String>,
    /// One line: what this operator is for (used by routing).
    pub role: String,
    /// Channels it serves; empty: all.
    pub channels: Vec<String>,
    /// Audiences it serves (`free_plan`, `wrong_company`); empty: all.
    pub audiences: Vec<String>,
    pub languages: Vec<String>,
    /// Topic words that draw a conversation here.
    pub topics: Vec<String>,
    /// The one that serves when no other fits.
    pub default: bool,
    pub handoff: HandoffRules,
    pub sampling: OperatorSampling,
    /// What the chat model writes this operator's answers through.
    pub adapter: Option<OperatorAdapter>,
    pub active_version: String,
    /// Version -> share of new conversations, sums to 1; empty: the active version alone.
    pub shares: BTreeMap<String, f32>,
    /// Version (`v1`) -> instruction.
    pub versions: BTreeMap<String, Instruction>,
    pub examples: Vec<SampleAnswer>,
}

/// A LoRA adapter of the chat model.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorAdapter {
    /// A GGUF file: its path in the pack, else in a models folder.
    pub file: String,
    /// How much of it is added: 1 as it was trained, 0.5 half of it.
    pub scale: f32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HandoffRules {
    /// The queue's name.
    pub queue: String,
    /// How many requests for a person get one calm try first (1: the first asks back, the second hands off).
    pub clarify_first: usize,
    /// Failed answers in a row before a handoff.
    pub max_failures: usize,
    /// Topics that people keep for themselves: a name, and words that give them away.
    pub reserved: Vec<ReservedTopic>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservedTopic {
    pub topic: String,
    /// Phrases (any language), matched on stems, all words of a phrase within one message.
    pub phrases: Vec<String>,
}

impl Default for HandoffRules {
    fn default() -> Self {
        Self { queue: "support".into(), clarify_first: 1, max_failures: 2, reserved: Vec::new() }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorSampling {
    pub temperature: f32,
    pub top_p: f32,
    pub repetition_penalty: f32,
}

impl Default for OperatorSampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, repetition_penalty: 1.05 }
    }
}

/// A job instruction: the core is always in the prompt, sections are retrieved a turn at a time.
#[derive(Debug, Clone, Default)]
pub struct Instruction {
    pub version: String,
    /// Path inside the pack.
    pub path: String,
    pub lines: usize,
    /// All above the second `# ` heading.
    pub core: String,
    /// Each `## ` below it.
    pub sections: Vec<InstructionSection>,
}

#[derive(Debug, Clone, Default)]
pub struct InstructionSection {
    /// `# ` heading / `## ` heading.
    pub headings: Vec<String>,
    pub text: String,
    /// 1-based line of its heading.
    pub line: usize,
    /// It stands under `# Facts` (`# Факты`): true for customers as it is written.
    pub is_facts: bool,
    /// Sample answers that it shows, `Customer: …` and below it `Good: …` (`Клиент:`, `Хорошо:`).
    pub samples: Vec<SampleAnswer>,
}

/// A sample answer: a line of `operators/NAME/examples.jsonl`, or a pair in an instruction.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleAnswer {
    pub question: String,
    pub answer: String,
    #[serde(default)]
    pub lang: String,
}

/// An article as read; chunks are cut from `text` by `kb::chunk`.
#[derive(Debug, Clone, Default)]
pub struct Article {
    /// Path inside the pack.
    pub path: String,
    pub title: String,
    /// From front matter (`lang: ru`), the path (`/ru/`, `.ru.md`), or detected.
    pub lang: String,
    pub tags: Vec<String>,
    /// Markdown; of another format what its reader made of it.
    pub text: String,
    /// 1-based line of `text` on which each page begins, of a format with pages.
    pub page_lines: Vec<usize>,
}

/// A row of `faq.csv` / `faq.jsonl`.
#[derive(Debug, Clone, Default)]
pub struct FaqEntry {
    pub path: String,
    pub line: usize,
    /// Alternatives are separated by ` | ` in the file.
    pub questions: Vec<String>,
    /// Markdown.
    pub answer: String,
    pub lang: String,
    pub tags: Vec<String>,
}

impl FaqEntry {
    /// True where people added it, or changed it last, at the desk.
    pub fn from_desk(&self) -> bool {
        self.path.starts_with("desk/")
    }
}

/// One screen, menu, button or field of `app-map.yaml`, with the path that leads to it.
#[derive(Debug, Clone, Default)]
pub struct AppEntry {
    pub id: String,
    /// `screen`, `menu`, `tab`, `button`, `field`, `toggle`.
    pub kind: String,
    /// Language -> labels from the outermost screen to this one.
    pub path: BTreeMap<String, Vec<String>>,
    /// Language -> other words for it.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Language -> what it does, one sentence.
    pub help: BTreeMap<String, String>,
    pub image: Option<String>,
    pub line: usize,
}

/// A line of `filters/*.jsonl`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledExample {
    pub text: String,
    /// `spam`, `gibberish`, `injection`, `off_topic`, `wrong_company`, `wants_person`, `rude`, `ok`.
    pub label: String,
    #[serde(default)]
    pub lang: String,
}

/// A line of `evals/*.jsonl`: a dialogue with the outcome that is expected of each turn.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialogue {
    pub id: String,
    pub lang: String,
    /// `support` or an operator's name.
    #[serde(default = "Dialogue::default_model")]
    pub model: String,
    #[serde(default)]
    pub channel: Option<String>,
    #[serde(default)]
    pub audience: Option<String>,
    pub turns: Vec<ExpectedTurn>,
}

impl Dialogue {
    fn default_model() -> String {
        "support".into()
    }
}

/// A customer's message and what must come of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedTurn {
    pub user: String,
    /// Any of `answer`, `clarify`, `handoff`, `filtered`.
    pub action: Vec<String>,
    /// `off_topic`, `wrong_company`, `spam`, `injection`, `wants_person`, ...
    #[serde(default)]
    pub kind: Option<String>,
    /// True where the pack holds the answer (counts for "answered").
    #[serde(default)]
    pub answerable: bool,
    /// Strings that the answer must contain, byte for byte (code), or any of each inner list.
    #[serde(default)]
    pub contains: Vec<Vec<String>>,
    /// Strings that must not occur.
    #[serde(default)]
    pub forbids: Vec<String>,
    /// Paths (prefixes of chunk ids) of which one must be among the sources.
    #[serde(default)]
    pub sources: Vec<String>,
    #[serde(default)]
    pub operator: Option<String>,
}

/// A line of `evals/customers/*.jsonl`: somebody who wants something, and talks until it is there or patience ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedCustomer {
    pub id: String,
    pub lang: String,
    /// `support` or an operator's name.
    #[serde(default = "Dialogue::default_model")]
    pub model: String,
    #[serde(default)]
    pub channel: Option<String>,
    #[serde(default)]
    pub audience: Option<String>,
    /// What they want, in a sentence: for people, and for the model that may speak for them.
    pub goal: String,
    /// Ways in which they may put it; the seed chooses where to begin.
    pub says: Vec<String>,
    /// What they know, and tell when they are asked back.
    #[serde(default)]
    pub facts: Vec<String>,
    #[serde(default)]
    pub temper: Temper,
    /// They are content once one string of each list has stood in an answer.
    #[serde(default)]
    pub content_with: Vec<Vec<String>>,
    /// Strings that must never be told to them.
    #[serde(default)]
    pub forbids: Vec<String>,
    /// How it should end.
    pub ends: End,
}

/// How a simulated customer takes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Temper {
    /// Puts it in other words three times before asking for a person.
    #[default]
    Calm,
    /// Greets first, tells what they know with the question, and is as patient.
    Talkative,
    /// Tries once more, then wants a person.
    Hurried,
    /// As hurried, and rude.
    Angry,
}

/// The right end of a simulated customer's conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The bot helps.
    Answer,
    /// A person takes over.
    Handoff,
}

/// Something wrong in a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub path: String,
    /// 1-based; 0: the whole file.
    pub line: usize,
    pub reason: String,
    /// False: a warning, the pack is still served.
    pub fatal: bool,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    pub path: String,
    /// What was read, in a few words; `None`: nothing.
    pub read: Option<String>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

/// Faults, one a line: `faq.csv:12: the answer is empty`.
pub fn list(faults: &[Fault]) -> String {
    let line = |fault: &Fault| match fault.line {
        0 => format!("  {}: {}", fault.path, fault.reason),
        line => format!("  {}:{}: {}", fault.path, line, fault.reason),
    };
    faults.iter().map(line).collect::<Vec<_>>().join("\n")
}
