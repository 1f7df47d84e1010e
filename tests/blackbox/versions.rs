//! Versions of an instruction: told apart by simulated customers, compared on a page, promoted only with evidence.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use super::desk::Desk;
use super::server::{Server, copy_dir, models_dir};

/// What only the second version knows: (question, other wording, what the answer holds, a sentence of the facts).
const FACTS: [(&str, &str, &str, &str); 8] = [
    (
        "which colours does the kettle come in?",
        "what colours are there?",
        "Pine",
        "The kettle comes in two colours: Fog and Pine.",
    ),
    (
        "where are broken kettles repaired?",
        "is there a repair workshop?",
        "Tartu",
        "Broken kettles are repaired in the workshop in Tartu.",
    ),
    (
        "how loud is the kettle?",
        "what noise does it make when it boils?",
        "52",
        "The noise of a boiling kettle is 52 decibels.",
    ),
    (
        "how long is the cable of the base?",
        "is the cable long enough for my kitchen?",
        "75 cm",
        "The cable of the base is 75 cm long.",
    ),
    (
        "how heavy is the empty kettle?",
        "what does the kettle weigh?",
        "1.2 kg",
        "The empty kettle weighs 1.2 kg, it is heavy for its size.",
    ),
    (
        "may I engrave a name on the handle?",
        "do you engrave handles?",
        "engrave",
        "We engrave a name on the handle for free.",
    ),
    (
        "is there a whistle?",
        "can it whistle when the tea water is hot?",
        "whistle",
        "A whistle can be screwed onto the spout.",
    ),
    (
        "can I rent a kettle for a wedding?",
        "do you rent kettles?",
        "rent",
        "You may rent kettles for a wedding, at least ten of them.",
    ),
];

fn pack(dir: &Path) {
    copy_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packs/mini"), &dir.join("kb"));
    let ann = dir.join("kb/operators/ann");
    let first = std::fs::read_to_string(ann.join("v1.md")).unwrap();
    let with = |facts: &[String]| format!("{first}\n# Facts\n\n{}", facts.join("\n"));
    let sections: Vec<String> =
        FACTS.iter().map(|(question, _, _, fact)| format!("## About: {question}\n{fact}\n")).collect();
    std::fs::write(ann.join("v2.md"), with(&sections)).unwrap();
    let turned: Vec<String> = sections.iter().rev().cloned().collect();
    std::fs::write(ann.join("v3.md"), with(&turned)).unwrap();
    let customers: Vec<String> = FACTS
        .iter()
        .enumerate()
        .map(|(n, (question, other, wanted, _))| {
            let temper = ["calm", "hurried", "talkative", "angry"][n % 4];
            json!({"id": format!("fact-{n}"), "lang": "en", "goal": question, "says": [question, other],
                   "temper": temper, "content_with": [[wanted]], "ends": "answer"})
            .to_string()
        })
        .collect();
    std::fs::create_dir_all(dir.join("kb/evals/customers")).unwrap();
    std::fs::write(dir.join("kb/evals/customers/facts.jsonl"), customers.join("\n")).unwrap();
    std::fs::write(dir.join("firstline.toml"), "").unwrap();
}

fn firstline(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firstline"))
        .args(args)
        .args(["--config", "firstline.toml", "--kb", "kb", "--state", "state"])
        .env("FIRSTLINE_MODELS__DIR", models_dir())
        .current_dir(dir)
        .output()
        .expect("the program runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_version_is_promoted_only_where_the_difference_is_shown_or_a_reason_is_given() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path());
    let settings = dir.path().join("kb/operators/ann/operator.toml");
    let active = || std::fs::read_to_string(&settings).unwrap();

    let compared = firstline(
        dir.path(),
        &[
            "eval",
            "--operator",
            "ann",
            "--versions",
            "v1,v2,v3",
            "--seed",
            "3",
            "--html",
            "page.html",
            "--report",
            "all.json",
        ],
    );
    assert!(compared.status.success(), "{}", said(&compared));
    let report: Value = serde_json::from_slice(&std::fs::read(dir.path().join("all.json")).unwrap()).unwrap();
    let low = |n: usize| report["comparisons"][n]["differences"][0]["difference"]["low"].as_f64().unwrap();
    assert!(low(0) > 0.0, "v2 has facts that v1 lacks: {}", said(&compared));
    let right = |n: usize| report["comparisons"][n]["differences"][0]["second"].as_f64().unwrap();
    assert_eq!(right(0), right(1), "the order of the facts changes nothing: {}", said(&compared));
    let page = std::fs::read_to_string(dir.path().join("page.html")).unwrap();
    let hash = report["provenance"]["chat_model_hash"].as_str().unwrap();
    for part in
        ["v2 is better than v1", "<svg", "handoff precision", "<code>3</code>", hash, "--versions v1,v2,v3", "fact-0"]
    {
        assert!(page.contains(part), "the page lacks {part:?}");
    }
    let first = said(&compared);
    assert!(first.contains("seed 3") && first.contains(hash) && first.contains("digest"), "{first}");

    let promoted = firstline(dir.path(), &["promote", "ann", "v2"]);
    assert!(promoted.status.success() && active().contains("active_version = \"v2\""), "{}", said(&promoted));
    for version in ["v1", "v3"] {
        let refused = firstline(dir.path(), &["promote", "ann", version]);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains("must lie above zero"), "{}", said(&refused));
        assert!(active().contains("active_version = \"v2\""));
    }
    let forced = firstline(dir.path(), &["promote", "ann", "v3", "--force", "--reason", "Its order reads better."]);
    assert!(forced.status.success() && active().contains("active_version = \"v3\""), "{}", said(&forced));
    assert_eq!(
        firstline(dir.path(), &["promote", "ann", "v1", "--force"]).status.code(),
        Some(2),
        "a reason is needed"
    );

    // Who promoted what, and why, stands in the console.
    let server = Server::again(dir);
    let desk = Desk::first(&server).await;
    let versions = desk.get("/versions").await;
    let promotions = versions["promotions"].as_array().unwrap();
    assert_eq!(promotions.len(), 2, "{versions}");
    let forced = promotions.iter().find(|p| p["forced"] == true).unwrap();
    assert_eq!((&forced["to"], &forced["reason"]), (&json!("v3"), &json!("Its order reads better.")));
    // What the instruction knows is told to customers, word for word, by the version that is served.
    let answer = server.ask("support", "how long is the cable of the base?").await;
    assert!(answer.content().contains("75 cm"), "{}", answer.text());
    assert_eq!(answer.json()["support"]["operator_version"], "v3");
}

#[test]
fn recorded_conversations_are_played_again_and_held_against_how_they_went() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path());
    let rows = "conversation,role,text\n\
        solved,customer,How long is the warranty?\nsolved,bot,24 months.\nsolved,customer,thanks\n\
        person,customer,I want my money back for the kettle\nperson,agent,Anna here. My number is +372 5555 1234\n\
        unlike,customer,How do I change the color of the lid?\nunlike,agent,Let me look.\n";
    std::fs::write(dir.path().join("past.csv"), rows).unwrap();
    let played =
        firstline(dir.path(), &["eval", "--recorded", "past.csv", "--min-correct", "0.6", "--report", "all.json"]);
    assert!(played.status.success(), "{}", said(&played));
    let text = said(&played);
    assert!(text.contains("WRONG  unlike") && text.contains("a person ended it; now it is not handed over"), "{text}");
    let report: Value = serde_json::from_slice(&std::fs::read(dir.path().join("all.json")).unwrap()).unwrap();
    let of = |id: &str| report["dialogues"].as_array().unwrap().iter().find(|d| d["id"] == id).unwrap().clone();
    assert_eq!((&of("solved")["resolved"], &of("solved")["correct"]), (&json!(true), &json!(true)));
    assert_eq!(of("person")["handoffs"], json!({"made": 1, "right": 1, "wanted": 1, "met": 1}));
    assert_eq!(of("unlike")["handoffs"], json!({"made": 0, "right": 0, "wanted": 1, "met": 0}));
}

#[tokio::test]
async fn this_servers_own_conversations_can_be_played_again() {
    let server = Server::start("");
    server.ask("support", "How long is the warranty?").await;
    let dir = server.stop();
    let played = firstline(dir.path(), &["eval", "--recorded", "state", "--operator", "ann", "--versions", "v1,v1"]);
    let text = said(&played);
    assert!(played.status.success() && text.contains("0 of 1 plays changed"), "{text}");
}
