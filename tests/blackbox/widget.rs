//! The website widget: visitors, accepted messages, people's words live.

use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};

use super::desk::Desk;
use super::server::{Reply, Server};

/// A browser with the widget.
pub struct Visitor<'a> {
    server: &'a Server,
    pub token: String,
}

impl<'a> Visitor<'a> {
    pub async fn new(server: &'a Server) -> Visitor<'a> {
        let session = server.post("/widget/api/session", &json!({})).await;
        assert_eq!(session.status, 200, "{}", session.text());
        Visitor { server, token: session.json()["token"].as_str().unwrap().to_string() }
    }

    pub fn of(server: &'a Server, token: &str) -> Visitor<'a> {
        Visitor { server, token: token.to_string() }
    }

    fn with_token(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request.bearer_auth(&self.token).header("content-type", "application/json")
    }

    pub async fn send(&self, id: &str, text: &str) -> Reply {
        let request = reqwest::Client::new().post(self.server.url("/widget/api/messages"));
        self.server.send(self.with_token(request).body(json!({"id": id, "text": text}).to_string())).await
    }

    pub async fn says(&self, text: &str) -> String {
        let reply = self.send(&uuid::Uuid::new_v4().to_string(), text).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text()
    }

    pub async fn history(&self) -> Value {
        let request = self.with_token(reqwest::Client::new().get(self.server.url("/widget/api/history")));
        self.server.send(request).await.json()
    }

    async fn events(&self, after: Option<i64>) -> impl futures::Stream<Item = String> + Unpin {
        let query = after.map(|seq| format!("?after={seq}")).unwrap_or_default();
        let url = self.server.url(&format!("/widget/api/events{query}"));
        let response = self.with_token(reqwest::Client::new().get(url)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.bytes_stream().map(|bytes| String::from_utf8_lossy(&bytes.unwrap()).into_owned())
    }
}

/// Reads a stream until these words have come.
async fn until(stream: &mut (impl futures::Stream<Item = String> + Unpin), words: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(words) {
        let more = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
        seen.push_str(&more.unwrap_or_else(|_| panic!("no {words:?} in {seen}")).expect("the stream goes on"));
    }
    seen
}

#[tokio::test]
async fn a_visitor_is_answered_handed_over_and_hears_a_person_live() {
    let server = Server::start("");
    let desk = Desk::first(&server).await;
    let visitor = Visitor::new(&server).await;
    let answer = visitor.says("How long is the warranty?").await;
    assert!(answer.contains("\"finish_reason\":\"stop\"") && answer.contains("message_id"), "{answer}");
    let mut events = visitor.events(None).await;
    until(&mut events, "listening").await;
    let handoff = visitor.says("I want my money back!").await;
    assert!(handoff.contains("\"action\":\"handoff\""), "{handoff}");
    let waiting = desk.get("/conversations?view=waiting").await;
    assert_eq!(waiting["items"][0]["channel"], "widget");
    let id = waiting["items"][0]["id"].as_str().unwrap();
    desk.done(&format!("/conversations/{id}/take"), json!({})).await;
    let seen = until(&mut events, "anna!").await;
    assert!(seen.contains("event: owner"), "{seen}");
    desk.done(&format!("/conversations/{id}/reply"), json!({"text": "Hello <img src=x onerror=alert(1)> **you**"}))
        .await;
    let seen = until(&mut events, "<strong>you").await;
    let html = seen.split("\"html\":").last().unwrap();
    assert!(!html.contains("onerror"), "{seen}");
    assert!(visitor.says("thank you").await.contains("{\"accepted\":true}"));

    let history = visitor.history().await;
    let from: Vec<&str> = history["messages"].as_array().unwrap().iter().map(|m| m["from"].as_str().unwrap()).collect();
    assert_eq!(from, ["customer", "bot", "customer", "bot", "system", "person", "customer"], "{history}");
    assert_eq!((&history["owner"], &history["person"]["name"]), (&json!("person"), &json!("anna!")));
    // Nothing between two events is lost for one who comes back.
    desk.done(&format!("/conversations/{id}/reply"), json!({"text": "while you were away"})).await;
    let mut back = visitor.events(history["seq"].as_i64()).await;
    until(&mut back, "while you were away").await;
}

#[tokio::test]
async fn a_message_that_is_sent_again_is_answered_from_the_record() {
    let server = Server::shared();
    let visitor = Visitor::new(server).await;
    let id = uuid::Uuid::new_v4().to_string();
    let first = visitor.send(&id, "How long is the warranty?").await.text();
    let again = visitor.send(&id, "How long is the warranty?").await.text();
    assert!(first.contains("warranty") || first.contains("year"), "{first}");
    assert!(again.contains("\"repeated\":true"), "{again}");
    let history = visitor.history().await;
    assert_eq!(history["messages"].as_array().unwrap().len(), 2, "{history}");
    assert_eq!(history["messages"][0]["id"], json!(id));
}

#[tokio::test]
async fn tokens_are_ours_and_visitors_do_not_see_each_other() {
    let server = Server::shared();
    let (ada, bob) = (Visitor::new(server).await, Visitor::new(server).await);
    ada.says("My secret is xylophone").await;
    assert_eq!(bob.history().await["messages"], json!([]));
    let forged = Visitor::of(server, &format!("{}x", ada.token));
    forged.send(&uuid::Uuid::new_v4().to_string(), "hi").await.error(401, "invalid_token", None);
    ada.send("not-a-uuid", "hi").await.error(400, "invalid_value", Some("id"));
    ada.send(&uuid::Uuid::new_v4().to_string(), "  ").await.error(400, "invalid_value", Some("text"));
    let renewed = server.post("/widget/api/session", &json!({"token": ada.token})).await.json();
    let again = Visitor::of(server, renewed["token"].as_str().unwrap());
    assert!(again.history().await.to_string().contains("xylophone"));
}

#[tokio::test]
async fn a_visitor_who_floods_is_slowed_and_only_listed_sites_show_the_frame() {
    let server = Server::start("[desk]\nwidget_messages_per_minute = 2\nwidget_sites = [\"https://shop.example\"]\n");
    let visitor = Visitor::new(&server).await;
    visitor.says("hello").await;
    visitor.says("hello").await;
    let refused = visitor.send(&uuid::Uuid::new_v4().to_string(), "hello").await;
    refused.error(429, "rate_limited", None);
    let frame = server.get("/widget/frame").await;
    let policy = frame.header("content-security-policy");
    assert!(policy.contains("frame-ancestors 'self' https://shop.example"), "{policy}");
    assert_eq!(server.get("/widget.js").await.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(server.get("/widget/demo").await.status, 200);
}

#[tokio::test]
async fn a_customer_who_says_it_is_solved_ends_it_until_writing_again() {
    let server = Server::start("");
    let visitor = Visitor::new(&server).await;
    visitor.says("How long is the warranty?").await;
    let request = reqwest::Client::new().post(server.url("/widget/api/solved"));
    let reply = server.send(visitor.with_token(request).body("{\"solved\":true}")).await;
    assert_eq!(reply.json()["owner"], "closed", "{}", reply.text());
    visitor.says("How do I descale the kettle?").await;
    assert_eq!(visitor.history().await["owner"], "bot");
}

#[tokio::test]
async fn a_visitor_who_leaves_in_the_middle_finds_the_answer_later() {
    let server = Server::shared();
    let visitor = Visitor::new(server).await;
    let id = uuid::Uuid::new_v4().to_string();
    let request = reqwest::Client::new().post(server.url("/widget/api/messages"));
    let body = json!({"id": id, "text": "Please explain how the filter of the kettle is cleaned"}).to_string();
    drop(visitor.with_token(request).body(body).send().await.unwrap());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let history = visitor.history().await;
        if history["messages"].as_array().unwrap().len() == 2 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{history}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
