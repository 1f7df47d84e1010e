//! Channels and webhooks: messages in, signed replies out.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::desk::Desk;
use super::server::Server;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A bridge that takes webhooks; the first few it refuses.
struct Bridge {
    address: String,
    taken: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

impl Bridge {
    async fn new(refuses: usize) -> Bridge {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/hook", listener.local_addr().unwrap());
        let taken: Arc<Mutex<Vec<(HeaderMap, String)>>> = Arc::default();
        let (kept, left) = (taken.clone(), Arc::new(Mutex::new(refuses)));
        let hook = move |headers: HeaderMap, body: String| async move {
            let mut left = left.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            kept.lock().unwrap().push((headers, body));
            StatusCode::NO_CONTENT
        };
        let router = axum::Router::new().route("/hook", axum::routing::post(hook));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Bridge { address, taken }
    }

    /// Waits for so many webhooks; their bodies.
    async fn wait_for(&self, count: usize) -> Vec<Value> {
        for _ in 0..600 {
            if self.taken.lock().unwrap().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let bodies = self.taken.lock().unwrap().iter().map(|(_, body)| serde_json::from_str(body).unwrap()).collect();
        let bodies: Vec<Value> = bodies;
        assert!(bodies.len() >= count, "{bodies:?}");
        bodies
    }
}

fn settings(channel: &Bridge, webhook: &Bridge) -> String {
    format!(
        "[[desk.channels]]\nname = \"telegram\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n\
         [[desk.webhooks]]\nname = \"crm\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n",
        channel.address, webhook.address
    )
}

fn message(id: &str, text: &str) -> Value {
    json!({"id": id, "customer": {"id": "42", "name": "Ada"}, "text": text})
}

#[tokio::test]
async fn a_message_comes_in_once_and_the_replies_go_out_signed() {
    let (bridge, crm) = (Bridge::new(1).await, Bridge::new(0).await);
    let server = Server::start(&settings(&bridge, &crm));
    let desk = Desk::first(&server).await;
    let post = |body: Value| async { server.post("/v1/channels/telegram/messages", &{ body }).await };
    let first = post(message("m1", "How long is the warranty?")).await;
    assert_eq!((first.status, &first.json()["duplicate"]), (202, &json!(false)), "{}", first.text());
    let again = post(message("m1", "How long is the warranty?")).await;
    assert_eq!((again.status, &again.json()["duplicate"]), (202, &json!(true)));
    assert_eq!(first.json()["conversation_id"], again.json()["conversation_id"]);
    // The bridge refused it once; it came again.
    let bodies = bridge.wait_for(1).await;
    assert_eq!(bodies[0]["data"]["message"]["from"], "bot", "{bodies:?}");
    assert_eq!(bodies[0]["data"]["customer"], json!({"id": "42", "name": "Ada"}));

    let second = post(message("m2", "I want my money back!")).await;
    assert_eq!(second.json()["conversation_id"], first.json()["conversation_id"]);
    bridge.wait_for(2).await;
    let id = first.json()["conversation_id"].as_str().unwrap().to_string();
    desk.done(&format!("/conversations/{id}/take"), json!({})).await;
    desk.done(&format!("/conversations/{id}/reply"), json!({"text": "I am a person."})).await;
    let bodies = bridge.wait_for(4).await;
    let from: Vec<&str> = bodies.iter().map(|b| b["data"]["message"]["from"].as_str().unwrap()).collect();
    assert_eq!(from, ["bot", "bot", "system", "person"], "{bodies:?}");
    desk.done(&format!("/conversations/{id}/close"), json!({"as": "unsolved"})).await;
    let told = crm.wait_for(9).await;
    let kinds: Vec<&str> = told.iter().map(|b| b["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"handoff.created") && kinds.contains(&"conversation.closed"), "{kinds:?}");

    verified(&bridge);
    verified(&crm);
    // A bridge has a webhook a moment before the log has its answer.
    let log = settled(&desk).await;
    let tried: i64 = log["items"].as_array().unwrap().iter().map(|line| line["attempts"].as_i64().unwrap()).sum();
    assert_eq!(tried as usize, log["items"].as_array().unwrap().len() + 1, "{log}");
}

/// The log of deliveries once each has arrived.
async fn settled(desk: &Desk<'_>) -> Value {
    let mut log = Value::Null;
    for _ in 0..600 {
        log = desk.get("/deliveries").await;
        if log["items"].as_array().unwrap().iter().all(|line| line["state"] == "delivered") {
            return log;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{log}");
}

/// The official Python package takes every signature, and no changed body.
fn verified(bridge: &Bridge) {
    let deliveries: Vec<Value> = bridge
        .taken
        .lock()
        .unwrap()
        .iter()
        .map(|(headers, body)| {
            let of = |name: &str| headers[name].to_str().unwrap().to_string();
            let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
            let headers: serde_json::Map<String, Value> = names.iter().map(|n| (n.to_string(), json!(of(n)))).collect();
            json!({"headers": headers, "body": body})
        })
        .collect();
    let python = std::env::var("FIRSTLINE_TEST_PYTHON").expect("FIRSTLINE_TEST_PYTHON is set; run scripts/test");
    let mut child = std::process::Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/verify_webhook.py"))
        .arg(SECRET)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), &deliveries).unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn an_accepted_message_and_its_reply_survive_a_kill() {
    let (bridge, crm) = (Bridge::new(0).await, Bridge::new(0).await);
    let server = Server::start(&settings(&bridge, &crm));
    let sent = server.post("/v1/channels/telegram/messages", &message("m1", "How long is the warranty?")).await;
    assert_eq!(sent.status, 202);
    let server = Server::again(server.kill());
    bridge.wait_for(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ids: std::collections::HashSet<String> =
        bridge.taken.lock().unwrap().iter().map(|(h, _)| h["webhook-id"].to_str().unwrap().to_string()).collect();
    assert_eq!(ids.len(), 1);
    drop(server);
}

#[tokio::test]
async fn what_a_channel_cannot_take_is_refused_by_name() {
    let server = Server::shared();
    let reply = server.post("/v1/channels/telegram/messages", &message("m1", "hi")).await;
    reply.error(404, "channel_not_found", None);
}
