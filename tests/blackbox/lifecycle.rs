//! Starting, health, stopping.

use std::process::Command;

use serde_json::json;

use super::server::{CHAT_MODEL, Server, arguments, user};

#[tokio::test]
async fn a_starting_server_is_live_but_not_ready_and_says_so_in_the_error_shape() {
    let server = Server::spawn("");
    assert_eq!(server.get("/health/live").await.status, 200);
    let reply = server.get("/health/ready").await;
    reply.error(503, "not_ready", None);
    assert_eq!(reply.header("retry-after"), "2");
    server.ask("support", "hello").await.error(503, "not_ready", None);
    server.wait_for("ready after");
    assert_eq!(server.get("/health/ready").await.status, 200);
}

#[tokio::test]
async fn a_stopping_server_finishes_the_answer_it_is_giving() {
    let mut server = Server::start("");
    let request = json!({"model": CHAT_MODEL, "messages": [user("Write a long story about a kettle.")],
        "stream": true, "max_tokens": 60, "temperature": 0, "logit_bias": {"2": -100}});
    let response = reqwest::Client::new()
        .post(server.url("/v1/chat/completions"))
        .header("content-type", "application/json")
        .body(request.to_string())
        .send()
        .await
        .unwrap();
    server.begin_stop();
    let text = response.text().await.unwrap();
    assert!(text.contains("\"finish_reason\":\"length\"") && text.ends_with("data: [DONE]\n\n"), "{text}");
    server.stop();
}

#[tokio::test]
async fn a_conversation_goes_on_after_a_restart() {
    let server = Server::start("");
    let first = server.ask("support", "How do I change the color of the lid?").await;
    let id = first.header("x-conversation-id").to_string();
    let server = Server::again(server.stop());
    let extra = json!({"metadata": {"conversation_id": id}});
    let second = server.chat("support", json!([user("How long is the warranty?")]), extra).await;
    assert!(second.content().contains("24 months"), "{}", second.text());
    assert_eq!(second.header("x-conversation-id"), id);
}

/// How often something became of a computed instruction.
async fn prefixes(server: &Server, outcome: &str) -> f64 {
    let (metrics, outcome) = (server.get("/metrics").await.text(), format!("outcome=\"{outcome}\""));
    let line = metrics.lines().find(|l| l.starts_with("firstline_prefixes_total{") && l.contains(&outcome));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {outcome} in {metrics}"))
}

#[tokio::test]
async fn a_second_start_has_nothing_to_pack_and_no_instruction_to_read() {
    let own = "[engine]\npacked_dir = \"packed\"\n";
    let dir = Server::start(own).stop();
    std::fs::remove_dir_all(dir.path().join("state/prefixes")).unwrap();
    std::fs::remove_dir_all(dir.path().join("packed")).ok();

    let server = Server::again_while(dir, "packed weights are kept for the next start");
    let computed = prefixes(&server, "computed").await;
    assert!(computed >= 1.0 && prefixes(&server, "restored").await == 0.0);
    assert_eq!(server.metric("firstline_saved_prefixes").await, computed);
    let answer = server.ask("support", "How long is the warranty?").await.content();

    let server = Server::again(server.stop());
    assert_eq!((prefixes(&server, "computed").await, prefixes(&server, "restored").await), (0.0, computed));
    assert!(server.metric("firstline_saved_prefix_bytes").await > 1e5);
    assert_eq!(server.ask("support", "How long is the warranty?").await.content(), answer);
    let dir = server.stop();

    let packed = std::fs::read_dir(dir.path().join("packed")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&packed).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&packed, bytes).unwrap();
    let server = Server::again_while(dir, "packed weights are kept for the next start");
    assert!(server.log().contains("packed weights are not used; they are packed anew"), "{}", server.log());
    assert_eq!(server.ask("support", "How long is the warranty?").await.content(), answer);
}

#[tokio::test]
async fn instructions_for_which_there_is_no_room_are_computed_at_every_start_and_counted() {
    let server = Server::start("[engine]\nprefix_mib = 0\n");
    let computed = prefixes(&server, "computed").await;
    assert!(computed >= 1.0);
    assert_eq!(prefixes(&server, "unsaved").await, computed);
    assert_eq!(server.metric("firstline_saved_prefix_bytes").await, 0.0);
    assert!(server.log().contains("raise engine.prefix_mib"), "{}", server.log());
}

#[tokio::test]
async fn learnt_filters_are_kept_and_learnt_again_where_they_were_damaged() {
    const SPAM: &str = "Earn $5000 a week from home! Click here: http://casino.example Limited offer!!!";
    const LEARNT: &str = "learnt the entrance filters";
    let refuses = async |server: &Server| {
        let reply = server.ask("support", SPAM).await;
        assert_eq!(reply.json()["support"]["action"], "filtered", "{}", reply.text());
    };
    let dir = Server::start("").stop();
    let saved = dir.path().join("state/filters/learnt.bin");
    let mut bytes = std::fs::read(&saved).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&saved, bytes).unwrap();
    let server = Server::again(dir);
    refuses(&server).await;
    let log = server.log();
    assert!(log.contains("saved filters are damaged") && log.contains(LEARNT), "{log}");
    let server = Server::again(server.stop());
    refuses(&server).await;
    let log = server.log();
    assert!(!log.contains("damaged") && !log.contains(LEARNT), "{log}");
}

#[test]
fn a_public_address_without_keys_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("firstline.toml"), "").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_firstline"))
        .args(arguments(dir.path()))
        .args(["--host", "0.0.0.0", "--port", "0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("allow_open"), "{said}");
}

#[test]
fn a_pack_that_is_not_there_ends_the_start_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("firstline.toml"), "").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_firstline"))
        .args(arguments(dir.path()))
        .args(["--port", "0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let pack = dir.path().join("kb");
    assert!(!output.status.success() && said.contains(pack.to_str().unwrap()), "{said}");
}

#[tokio::test]
async fn no_word_of_a_customer_reaches_the_log_at_the_default_level() {
    let server = Server::start("");
    server.ask("support", "my zanzibarquux is broken, how do I set the boiling temperature?").await;
    server.chat(CHAT_MODEL, json!([user("say zanzibarquux")]), json!({"max_tokens": 3})).await;
    let log = server.into_log();
    assert!(log.contains("stopping"), "the whole log is here: {log}");
    assert!(!log.contains("zanzibarquux"), "{log}");
}
