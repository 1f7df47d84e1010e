//! `operators/NAME/`: settings, job instructions, sample answers.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::company::{line_of, line_of_key};
use super::files::{Files, line_at};
use super::{
    Company, HandoffRules, Instruction, InstructionSection, Operator, OperatorAdapter, OperatorSampling, Pack,
    SampleAnswer, lines,
};
use crate::kb::detect_lang;
use crate::kb::markdown::fences;

/// The heading of a part that holds what is true, in lower case.
const FACTS: [&str; 2] = ["facts", "факты"];
/// How a sample's two sides begin.
const CUSTOMER: [&str; 2] = ["Customer", "Клиент"];
const GOOD: [&str; 2] = ["Good", "Хорошо"];

/// Beyond this an adapter drowns the model.
const MOST_ADAPTER_SCALE: f32 = 4.0;

/// Names that mean something else on the wire.
const RESERVED: [&str; 2] = ["support", "firstline"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorFile {
    role: String,
    #[serde(default)]
    default: bool,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    languages: Vec<String>,
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default)]
    active_version: Option<String>,
    #[serde(default)]
    adapter: Option<String>,
    #[serde(default)]
    adapter_scale: Option<f32>,
    #[serde(default)]
    display_name: BTreeMap<String, String>,
    #[serde(default)]
    shares: BTreeMap<String, f32>,
    #[serde(default)]
    handoff: HandoffRules,
    #[serde(default)]
    sampling: OperatorSampling,
}

/// All operators, by name. None at all is a fatal fault that says what to write.
pub(super) fn read(files: &mut Files, company: &Company) -> Vec<Operator> {
    let folders: Vec<String> = match files.is_dir("operators") {
        true => files.names("operators").into_iter().filter(|(_, is_dir)| *is_dir).map(|(name, _)| name).collect(),
        false => Vec::new(),
    };
    if folders.is_empty() {
        let reason = "there is no operator; write operators/NAME/operator.toml (role = \"...\", default = true) \
                      and operators/NAME/v1.md (the job instruction), or start with `firstline init`";
        files.fatal("operators", 0, reason);
        return Vec::new();
    }
    let mut operators: Vec<Operator> = Vec::new();
    for name in folders {
        if let Some(operator) = read_one(files, company, name) {
            operators.push(operator);
        }
    }
    let defaults: Vec<String> = operators.iter().filter(|o| o.default).map(|o| o.name.clone()).collect();
    match &defaults[..] {
        [] => {
            if let Some(first) = operators.first_mut() {
                first.default = true;
                let reason = format!("no operator has `default = true`; `{}` serves where no other fits", first.name);
                files.warn("operators", 0, reason);
            }
        }
        [_] => {}
        many => files.fatal("operators", 0, format!("several operators have `default = true`: {}", many.join(", "))),
    }
    operators
}

fn read_one(files: &mut Files, company: &Company, name: String) -> Option<Operator> {
    let folder = format!("operators/{name}");
    let path = format!("{folder}/operator.toml");
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.chars().all(plain) {
        files.fatal(&folder, 0, "an operator's name is its model id: lowercase letters, digits, `-` and `_` only");
    }
    if RESERVED.contains(&name.as_str()) {
        files.fatal(&folder, 0, format!("the name `{name}` is taken by the program; choose another"));
    }
    if !files.exists(&path) {
        files.fatal(&path, 0, "is missing; write at least `role = \"what this operator is for\"`");
        return None;
    }
    let text = files.read(&path)?;
    let file: OperatorFile = match toml::from_str(&text) {
        Ok(file) => file,
        Err(e) => {
            let line = e.span().map_or(0, |span| line_at(&text, span.start));
            files.fatal(&path, line, e.message().to_string());
            return None;
        }
    };
    let versions = read_versions(files, &folder);
    let active_version = active_version(files, &path, &text, &file, &versions)?;
    check(files, &path, &text, &file, &versions, company);
    let adapter = read_adapter(files, &path, &text, &file);
    let examples = read_examples(files, &folder, company);
    let languages = if file.languages.is_empty() { company.languages.clone() } else { file.languages };
    Some(Operator {
        name,
        display_name: file.display_name,
        role: file.role,
        channels: file.channels,
        audiences: file.audiences,
        languages,
        topics: file.topics,
        default: file.default,
        handoff: file.handoff,
        sampling: file.sampling,
        adapter,
        active_version,
        shares: file.shares,
        versions,
        examples,
    })
}

fn read_versions(files: &mut Files, folder: &str) -> BTreeMap<String, Instruction> {
    let mut versions = BTreeMap::new();
    for (name, is_dir) in files.names(folder) {
        let Some(version) = name.strip_suffix(".md").filter(|stem| !is_dir && *stem != "README") else { continue };
        let path = format!("{folder}/{name}");
        let Some(text) = files.read(&path) else { continue };
        let instruction = split(&text, version, files.named(&path));
        if instruction.core.trim().is_empty() {
            files.fatal(&path, 1, "the instruction has no core: nothing stands above its second `# ` heading");
        }
        versions.insert(version.to_string(), instruction);
    }
    versions
}

fn active_version(
    files: &mut Files,
    path: &str,
    text: &str,
    file: &OperatorFile,
    versions: &BTreeMap<String, Instruction>,
) -> Option<String> {
    let known = versions.keys().cloned().collect::<Vec<_>>().join(", ");
    match &file.active_version {
        _ if versions.is_empty() => {
            files.fatal(path, 0, "there is no job instruction beside it; write v1.md");
            None
        }
        Some(active) if versions.contains_key(active) => Some(active.clone()),
        Some(active) => {
            let line = line_of_key(text, "active_version");
            files.fatal(path, line, format!("active_version is `{active}`; the instructions there are: {known}"));
            None
        }
        None if versions.len() == 1 => versions.keys().next().cloned(),
        None => {
            files.fatal(path, 0, format!("there are several instructions ({known}); name one as active_version"));
            None
        }
    }
}

fn check(
    files: &mut Files,
    path: &str,
    text: &str,
    file: &OperatorFile,
    versions: &BTreeMap<String, Instruction>,
    company: &Company,
) {
    if file.role.trim().is_empty() {
        files.fatal(path, line_of_key(text, "role"), "`role` is empty");
    }
    for lang in file.languages.iter().filter(|lang| !company.languages.contains(lang)) {
        let line = line_of_key(text, "languages");
        files.warn(path, line, format!("the language `{lang}` is not among the company's"));
    }
    let shares_line = line_of(text, "[shares]");
    for version in file.shares.keys().filter(|version| !versions.contains_key(*version)) {
        files.fatal(path, shares_line, format!("`shares` names the version `{version}`, which is not there"));
    }
    let sum: f32 = file.shares.values().sum();
    if file.shares.values().any(|share| !share.is_finite() || *share < 0.0)
        || (!file.shares.is_empty() && (sum - 1.0).abs() > 0.01)
    {
        files.fatal(path, shares_line, format!("`shares` must be between 0 and 1 and sum to 1; they sum to {sum}"));
    }
    let sampling = &file.sampling;
    let mut bounded = |key: &str, value: f32, low: f32, high: f32| {
        if !(low..=high).contains(&value) {
            let reason = format!("`{key}` is {value}; it must be between {low} and {high}");
            files.fatal(path, line_of_key(text, key), reason);
        }
    };
    bounded("temperature", sampling.temperature, 0.0, 2.0);
    bounded("top_p", sampling.top_p, 0.01, 1.0);
    bounded("repetition_penalty", sampling.repetition_penalty, 0.5, 2.0);
    if file.handoff.queue.trim().is_empty() {
        files.fatal(path, line_of_key(text, "queue"), "`queue` is empty");
    }
    for reserved in file.handoff.reserved.iter().filter(|reserved| reserved.phrases.iter().all(|p| p.trim().is_empty()))
    {
        let line = line_of_key(text, "topic");
        files.fatal(path, line, format!("the reserved topic `{}` has no phrases to know it by", reserved.topic));
    }
}

/// The adapter that an operator names. Where it lies in the pack, its content is a part of the pack's; whether it fits the
/// chat model is not known here.
fn read_adapter(files: &mut Files, path: &str, text: &str, file: &OperatorFile) -> Option<OperatorAdapter> {
    let line = line_of_key(text, "adapter");
    let Some(named) = &file.adapter else {
        if file.adapter_scale.is_some() {
            let line = line_of_key(text, "adapter_scale");
            files.fatal(path, line, "there is an `adapter_scale`, and no `adapter` that it could be the scale of");
        }
        return None;
    };
    let scale = file.adapter_scale.unwrap_or(1.0);
    if !(0.0..=MOST_ADAPTER_SCALE).contains(&scale) {
        let reason = format!("`adapter_scale` is {scale}; it must be between 0 and {MOST_ADAPTER_SCALE}");
        files.fatal(path, line_of_key(text, "adapter_scale"), reason);
        return None;
    }
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if named.trim().is_empty() || !Path::new(named).components().all(plain) {
        let reason = format!(
            "`adapter` is {named:?}; it must be a file's path in the pack (operators/NAME/lora.gguf) or in the models \
             folder, without `..` and not from the root"
        );
        files.fatal(path, line, reason);
        return None;
    }
    if files.exists(named) {
        files.take_note(named);
    }
    Some(OperatorAdapter { file: named.clone(), scale })
}

impl Pack {
    /// Where an operator's adapter lies: in the pack, else in one of the models' folders.
    ///
    /// # Errors
    /// Where it was looked for.
    pub fn adapter_path(&self, adapter: &OperatorAdapter, folders: &[PathBuf]) -> Result<PathBuf, String> {
        let places = || std::iter::once(&self.dir).chain(folders);
        places().map(|folder| folder.join(&adapter.file)).find(|path| path.is_file()).ok_or_else(|| {
            let looked_in: Vec<String> = places().map(|folder| folder.display().to_string()).collect();
            format!("the adapter {:?} is in none of {}", adapter.file, looked_in.join(", "))
        })
    }
}

fn read_examples(files: &mut Files, folder: &str, company: &Company) -> Vec<SampleAnswer> {
    let path = format!("{folder}/examples.jsonl");
    if !files.exists(&path) {
        return Vec::new();
    }
    let mut examples = Vec::new();
    for (line, mut example) in lines::read::<SampleAnswer>(files, &path) {
        if example.question.trim().is_empty() || example.answer.trim().is_empty() {
            files.fatal(&path, line, "`question` or `answer` is empty");
            continue;
        }
        if example.lang.is_empty() {
            example.lang = detect_lang(&example.question, &company.languages);
        }
        examples.push(example);
    }
    examples
}

/// Splits an instruction into its core (all above the second `# ` heading) and the sections below it: each `## `,
/// and what stands between a `# ` and its first `## `.
pub(super) fn split(text: &str, version: &str, path: String) -> Instruction {
    let mut core = String::new();
    let mut sections: Vec<InstructionSection> = Vec::new();
    let mut tops = 0;
    let mut top = String::new();
    for (line, part, in_code) in fences::lines(text) {
        let heading = |marks: &str| part.strip_prefix(marks).filter(|_| !in_code).map(|h| h.trim().to_string());
        if let Some(title) = heading("# ") {
            tops += 1;
            if tops > 1 {
                top = title;
                sections.push(section(vec![top.clone()], line));
                continue;
            }
        }
        if tops < 2 {
            core.push_str(part);
            core.push('\n');
        } else if let Some(title) = heading("## ") {
            sections.push(section(vec![top.clone(), title], line));
        } else if let Some(section) = sections.last_mut() {
            section.text.push_str(part);
            section.text.push('\n');
        }
    }
    sections.retain(|section| !section.text.trim().is_empty());
    for section in &mut sections {
        section.is_facts = FACTS.contains(&section.headings[0].to_lowercase().as_str());
        section.samples = samples(&section.text);
    }
    Instruction { version: version.into(), path, lines: text.lines().count(), core, sections }
}

fn section(headings: Vec<String>, line: usize) -> InstructionSection {
    InstructionSection { headings, line, ..InstructionSection::default() }
}

/// Sample answers in a section: a customer's line, and the good answer from its line to the next customer's line or
/// to an empty one. Their language is left open.
fn samples(text: &str) -> Vec<SampleAnswer> {
    let said = |line: &str, names: [&str; 2]| -> Option<String> {
        let words = names.iter().find_map(|name| line.trim().strip_prefix(name)?.strip_prefix(':'))?;
        Some(words.trim().to_string()).filter(|words| !words.is_empty())
    };
    let mut samples: Vec<SampleAnswer> = Vec::new();
    let (mut question, mut answering) = (None, false);
    for line in text.lines() {
        if let Some(asked) = said(line, CUSTOMER) {
            (question, answering) = (Some(asked), false);
        } else if let Some(answer) = said(line, GOOD) {
            let Some(question) = question.take() else { continue };
            samples.push(SampleAnswer { question, answer, lang: String::new() });
            answering = true;
        } else if line.trim().is_empty() {
            answering = false;
        } else if let Some(sample) = samples.last_mut().filter(|_| answering) {
            sample.answer.push('\n');
            sample.answer.push_str(line.trim_end());
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KnowledgeSettings;

    #[test]
    fn the_core_ends_at_the_second_top_heading_and_sections_follow_the_subheadings() {
        let text = "# Igor\nBe kind.\n```\n# not a heading\n```\n## Rules\nNo guesses.\n# Scenarios\nintro\n## Refund\nPass on.\n## Empty\n";
        let instruction = split(text, "v1", "operators/igor/v1.md".into());
        assert!(instruction.core.contains("# not a heading") && instruction.core.contains("## Rules"));
        let headings: Vec<_> = instruction.sections.iter().map(|s| s.headings.join(" / ")).collect();
        assert_eq!(headings, ["Scenarios", "Scenarios / Refund"]);
        assert_eq!(instruction.sections[1].line, 10);
        assert_eq!(instruction.sections[1].text, "Pass on.\n");
    }

    fn read_toml(toml: &str) -> (Option<OperatorAdapter>, String) {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("operators/igor");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(folder.path().join("company.toml"), "name = \"x\"\nlanguages = [\"en\"]\n[about]\nen = \"x\"\n")
            .unwrap();
        std::fs::write(own.join("operator.toml"), format!("role = \"first line\"\ndefault = true\n{toml}")).unwrap();
        std::fs::write(own.join("v1.md"), "# Igor\nBe kind.\n").unwrap();
        std::fs::write(own.join("lora.gguf"), "GGUF").unwrap();
        let pack = Pack::read(&KnowledgeSettings { dir: folder.path().into(), ..KnowledgeSettings::default() });
        let adapter = pack.operators.first().and_then(|operator| operator.adapter.clone());
        if let Some(adapter) = &adapter {
            let found = pack.adapter_path(adapter, &["/nowhere".into()]);
            assert_eq!(found.is_ok(), adapter.file == "operators/igor/lora.gguf");
            assert!(found.is_ok() || found.unwrap_err().contains("/nowhere"));
        }
        let fatal = pack.faults.iter().filter(|fault| fault.fatal);
        (adapter, fatal.map(|fault| format!("{}:{}: {}\n", fault.path, fault.line, fault.reason)).collect())
    }

    #[test]
    fn an_operator_names_an_adapter_of_the_pack_or_of_the_models_folder_and_nothing_outside() {
        let (adapter, faults) = read_toml("adapter = \"operators/igor/lora.gguf\"\nadapter_scale = 0.5\n");
        let wanted = OperatorAdapter { file: "operators/igor/lora.gguf".into(), scale: 0.5 };
        assert_eq!((adapter, faults.as_str()), (Some(wanted), ""));
        assert_eq!(read_toml("adapter = \"ours.gguf\"\n").0.map(|adapter| adapter.scale), Some(1.0));
        assert_eq!(read_toml("").0, None);
        for (toml, said) in [
            ("adapter = \"../x.gguf\"\n", "operator.toml:3: `adapter` is \"../x.gguf\""),
            ("adapter = \"/etc/x.gguf\"\n", "not from the root"),
            (
                "adapter = \"x.gguf\"\nadapter_scale = 9.0\n",
                "operator.toml:4: `adapter_scale` is 9; it must be between 0 and 4",
            ),
            ("adapter_scale = 1.0\n", "operator.toml:3: there is an `adapter_scale`, and no `adapter`"),
        ] {
            let (adapter, faults) = read_toml(toml);
            assert!(adapter.is_none() && faults.contains(said), "{toml}: {faults}");
        }
    }

    #[test]
    fn facts_are_known_by_their_heading_and_samples_by_their_two_sides() {
        let text = "# Igor\nBe kind.\n# Facts\n## Hours\nPeople answer from 9 to 6.\n# Manner\n## Short\nCustomer: where are invoices\nGood: Settings → Billing.\nThen Invoices.\n\nGood: nobody asked.\nКлиент: а счета?\nХорошо: Настройки → Оплата.\n";
        let sections = split(text, "v1", "operators/igor/v1.md".into()).sections;
        assert_eq!(sections.iter().map(|s| s.is_facts).collect::<Vec<_>>(), [true, false]);
        let pairs: Vec<_> = sections[1].samples.iter().map(|s| (s.question.as_str(), s.answer.as_str())).collect();
        assert_eq!(
            pairs,
            [("where are invoices", "Settings → Billing.\nThen Invoices."), ("а счета?", "Настройки → Оплата.")]
        );
    }
}
