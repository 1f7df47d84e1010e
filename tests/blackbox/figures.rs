//! Figures over HTTP; backup, restore and forgetting beside a running server.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use super::server::{Server, copy_dir, user};

fn firstline(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firstline"))
        .args(args)
        .args(["--config", "firstline.toml", "--kb", "kb", "--state", "state"])
        .current_dir(dir)
        .env_remove("FIRSTLINE_LOG")
        .output()
        .expect("the program runs")
}

#[tokio::test]
async fn figures_count_what_customers_just_did() {
    let server = Server::start("[figures]\nmachine_cost_per_hour = 1.0\ncurrency = \"EUR\"\n");
    server.ask("support", "How long is the warranty?").await;
    let first = server.ask("support", "I want to talk to a person.").await;
    let id = first.header("x-conversation-id").to_string();
    let extra = json!({"metadata": {"conversation_id": id}});
    server.chat("support", json!([user("No, a person please!")]), extra).await;
    server.ask("support", "hello").await;
    let figures = server.get("/v1/support/figures?by=operator").await.json();
    let total = &figures["total"];
    assert_eq!((total["conversations"].as_i64(), total["real"].as_i64()), (Some(3), Some(2)), "{figures}");
    assert_eq!((total["person"].as_i64(), total["open"].as_i64()), (Some(1), Some(1)), "{figures}");
    assert_eq!(total["handoffs_by_reason"], json!({"wants_person": 1}));
    assert_eq!(total["outside"]["courtesy"], 1);
    assert_eq!(total["handoff_rate"]["value"], 0.5);
    assert!(total["cost_per_conversation"].as_f64().is_some_and(|cost| cost > 0.0), "{figures}");
    assert_eq!(figures["rows"].as_array().map(Vec::len), Some(1));
    let csv = server.get("/v1/support/figures?format=csv").await;
    assert!(csv.header("content-type").starts_with("text/csv") && csv.text().lines().count() == 3, "{}", csv.text());
    server.get("/v1/support/figures?by=mood").await.error(400, "invalid_value", Some("by"));
    assert_eq!(server.metric("firstline_conversations").await, 3.0);
}

#[tokio::test]
async fn new_conversations_are_shared_out_between_versions_and_keep_the_one_they_began_with() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packs/mini"), &dir.path().join("kb"));
    let operator = dir.path().join("kb/operators/ann");
    std::fs::copy(operator.join("v1.md"), operator.join("v2.md")).unwrap();
    let settings = std::fs::read_to_string(operator.join("operator.toml")).unwrap();
    let shared = format!("{settings}\n[shares]\nv1 = 0.5\nv2 = 0.5\n");
    std::fs::write(operator.join("operator.toml"), shared).unwrap();
    std::fs::write(dir.path().join("firstline.toml"), "").unwrap();
    let server = Server::again(dir);
    let mut seen = std::collections::BTreeMap::<String, i64>::new();
    for _ in 0..16 {
        let first = server.ask("support", "How long is the warranty?").await;
        let version = first.json()["support"]["operator_version"].as_str().unwrap().to_string();
        let extra = json!({"metadata": {"conversation_id": first.header("x-conversation-id")}});
        let second = server.chat("support", json!([user("How often do I change the filter?")]), extra).await;
        assert_eq!(second.json()["support"]["operator_version"], version.as_str());
        *seen.entry(format!("ann/{version}")).or_default() += 1;
    }
    assert_eq!(seen.len(), 2, "one in 32,768 runs meets one version only");
    let figures = server.get("/v1/support/figures?by=version").await.json();
    let rows = figures["rows"].as_array().unwrap().iter();
    let counted: std::collections::BTreeMap<String, i64> =
        rows.map(|row| (row["key"].as_str().unwrap().to_string(), row["conversations"].as_i64().unwrap())).collect();
    assert_eq!(counted, seen);
}

#[tokio::test]
async fn a_backup_is_whole_and_a_forgotten_customer_is_in_no_file_of_the_state_directory() {
    let server = Server::start("");
    let dir = server.dir.path().to_path_buf();
    let asked = server.ask("support", "How long is the warranty of my xylophoneclaret?").await;
    let id = asked.header("x-conversation-id").to_string();
    server.ask("support", "How long is the warranty?").await;
    assert!(holds(&dir.join("state"), b"xylophoneclaret"));

    let made = firstline(&dir, &["backup", "copy.db"]);
    assert!(made.status.success(), "{made:?}");
    assert!(holds_file(&dir.join("copy.db"), b"xylophoneclaret"));
    let refused = firstline(&dir, &["restore", "copy.db", "--force"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("in use"), "{refused:?}");

    let forgotten = firstline(&dir, &["forget", &id]);
    assert!(forgotten.status.success(), "{forgotten:?}");
    assert!(!holds(&dir.join("state"), b"xylophoneclaret"));
    let extra = json!({"metadata": {"conversation_id": id}});
    server.chat("support", json!([user("hello")]), extra).await.error(
        404,
        "conversation_not_found",
        Some("metadata.conversation_id"),
    );
    let trace = server.get(&format!("/v1/support/trace/{}", asked.json()["id"].as_str().unwrap())).await;
    assert_eq!(trace.status, 404);
    assert!(!firstline(&dir, &["forget", &id]).status.success());

    let dir = server.stop();
    let restored = firstline(dir.path(), &["restore", "copy.db", "--force"]);
    assert!(restored.status.success(), "{restored:?}");
    assert!(holds(&dir.path().join("state"), b"xylophoneclaret"));
    std::fs::write(dir.path().join("broken.db"), "no database").unwrap();
    let refused = firstline(dir.path(), &["restore", "broken.db", "--force"]);
    assert!(!refused.status.success() && holds(&dir.path().join("state"), b"xylophoneclaret"), "{refused:?}");
    let server = Server::again(dir);
    let extra = json!({"metadata": {"conversation_id": id}});
    assert_eq!(server.chat("support", json!([user("hello")]), extra).await.status, 200);
}

/// True where a file below the folder has these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { holds(&path, bytes) } else { holds_file(&path, bytes) }
    })
}

fn holds_file(path: &Path, bytes: &[u8]) -> bool {
    std::fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes)
}
