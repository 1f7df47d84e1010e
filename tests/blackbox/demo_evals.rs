//! The demo company's dialogues, turn by turn, with the starter models: what the README promises of answers.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::server::models_dir;

/// Nine in ten dialogues as expected in all (action, kind, operator, words, sources), three in four answerable questions answered, every code fragment
/// byte-exact, and no number, link or name that the pack does not have.
#[test]
fn the_demo_company_is_served_as_its_dialogues_expect() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_firstline"))
        .current_dir(dir.path())
        .env("FIRSTLINE_KNOWLEDGE__DIR", Path::new(env!("CARGO_MANIFEST_DIR")).join("kb"))
        .env("FIRSTLINE_STORE__STATE_DIR", dir.path().join("state"))
        .env("FIRSTLINE_MODELS__DIR", models_dir())
        .args(["eval", "--min-correct", "0.9", "--min-answered", "0.75", "--report"])
        .arg(&report)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let turns: Vec<&Value> =
        report["dialogues"].as_array().unwrap().iter().flat_map(|d| d["turns"].as_array().unwrap()).collect();
    let unsupported: Vec<&Value> =
        turns.iter().filter(|t| !t["unsupported"].as_array().unwrap().is_empty()).copied().collect();
    assert!(unsupported.is_empty(), "{unsupported:#?}");
    let sum = |field: &str| turns.iter().map(|t| t[field].as_u64().unwrap()).sum::<u64>();
    assert!(sum("code_blocks") > 20, "the dialogues ask for code");
    assert_eq!(sum("code_exact"), sum("code_blocks"), "{said}");
}
