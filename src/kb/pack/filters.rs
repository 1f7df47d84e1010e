//! `filters/*.jsonl`, `evals/*.jsonl` and `evals/customers/*.jsonl`.

use std::collections::HashSet;

use super::files::Files;
use super::{Company, Dialogue, End, LabelledExample, Operator, SimulatedCustomer, lines};
use crate::kb::detect_lang;

const LABELS: [&str; 8] =
    ["spam", "gibberish", "injection", "off_topic", "wrong_company", "wants_person", "rude", "ok"];
/// The folder of simulated customers, inside that of the dialogues.
const CUSTOMERS: &str = "evals/customers/";
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
    for path in jsonl(files, "evals").into_iter().filter(|path| !path.starts_with(CUSTOMERS)) {
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
            named.for_each(|name| known_operator(files, operators, (&path, line), &dialogue.id, name));
            dialogues.push(dialogue);
        }
    }
    dialogues
}

/// All simulated customers.
pub(super) fn read_customers(files: &mut Files, operators: &[Operator]) -> Vec<SimulatedCustomer> {
    let mut customers: Vec<SimulatedCustomer> = Vec::new();
    let mut ids = HashSet::new();
    for path in jsonl(files, "evals").into_iter().filter(|path| path.starts_with(CUSTOMERS)) {
        for (line, customer) in lines::read::<SimulatedCustomer>(files, &path) {
            if !ids.insert(customer.id.clone()) {
                files.warn(&path, line, format!("the id `{}` is there twice", customer.id));
            }
            if customer.says.iter().all(|words| words.trim().is_empty()) {
                files.fatal(
                    &path,
                    line,
                    format!("`{}` has nothing to say: give `says` a wording or more", customer.id),
                );
            }
            if customer.ends == End::Answer && customer.content_with.iter().all(|any| any.is_empty()) {
                let reason =
                    format!("`{}` ends with an answer; say in `content_with` what must stand in it", customer.id);
                files.fatal(&path, line, reason);
            }
            known_operator(files, operators, (&path, line), &customer.id, &customer.model);
            customers.push(customer);
        }
    }
    customers
}

fn known_operator(files: &mut Files, operators: &[Operator], at: (&str, usize), id: &str, name: &str) {
    if name != "support" && !operators.iter().any(|operator| operator.name == name) {
        files.warn(at.0, at.1, format!("`{id}` names the operator `{name}`, which is not there"));
    }
}

fn jsonl(files: &mut Files, folder: &str) -> Vec<String> {
    files.list(folder).into_iter().filter(|path| path.ends_with(".jsonl")).collect()
}
