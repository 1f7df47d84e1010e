//! `filters/*.jsonl` and `evals/*.jsonl`.

use std::collections::HashSet;

use super::files::Files;
use super::{Company, Dialogue, LabelledExample, Operator, lines};
use crate::kb::detect_lang;

const LABELS: [&str; 8] =
    ["spam", "gibberish", "injection", "off_topic", "wrong_company", "wants_person", "rude", "ok"];
const ACTIONS: [&str; 4] = ["answer", "clarify", "handoff", "filtered"];

/// All labelled examples of the `filters` folder.
pub(super) fn read(files: &mut Files, company: &Company) -> Vec<LabelledExample> {
    let mut examples = Vec::new();
    for path in jsonl(files, "filters") {
        for (line, mut example) in lines::read::<LabelledExample>(files, &path) {
            if example.text.trim().is_empty() {
                files.fatal(&path, line, "`text` is empty");
            } else if !LABELS.contains(&example.label.as_str()) {
                let reason = format!("the label `{}` is not known; known are {}", example.label, LABELS.join(", "));
                files.fatal(&path, line, reason);
            } else {
                if example.lang.is_empty() {
                    example.lang = detect_lang(&example.text, &company.languages);
                }
                examples.push(example);
            }
        }
    }
    examples
}

/// All dialogues of the `evals` folder.
pub(super) fn read_evals(files: &mut Files, operators: &[Operator]) -> Vec<Dialogue> {
    let mut dialogues: Vec<Dialogue> = Vec::new();
    let mut ids = HashSet::new();
    for path in jsonl(files, "evals") {
        for (line, dialogue) in lines::read::<Dialogue>(files, &path) {
            if !ids.insert(dialogue.id.clone()) {
                files.warn(&path, line, format!("the id `{}` is there twice", dialogue.id));
            }
            if dialogue.turns.is_empty() {
                files.fatal(&path, line, format!("`{}` has no turns", dialogue.id));
            }
            for turn in &dialogue.turns {
                let unknown = turn.action.iter().find(|action| !ACTIONS.contains(&action.as_str()));
                if let Some(action) = unknown {
                    files.fatal(
                        &path,
                        line,
                        format!("the action `{action}` is not known; known are {}", ACTIONS.join(", ")),
                    );
                } else if turn.action.is_empty() {
                    files.fatal(&path, line, format!("a turn of `{}` names no action", dialogue.id));
                }
            }
            let named =
                std::iter::once(&dialogue.model).chain(dialogue.turns.iter().filter_map(|t| t.operator.as_ref()));
            for name in named.filter(|name| *name != "support") {
                if !operators.iter().any(|operator| operator.name == *name) {
                    files.warn(
                        &path,
                        line,
                        format!("`{}` names the operator `{name}`, which is not there", dialogue.id),
                    );
                }
            }
            dialogues.push(dialogue);
        }
    }
    dialogues
}

fn jsonl(files: &mut Files, folder: &str) -> Vec<String> {
    files.list(folder).into_iter().filter(|path| path.ends_with(".jsonl")).collect()
}
