//! The knowledge at the console: what staff write is what the next customer gets.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Reply, Server};

/// A lead, logged in by the link that the server prints at its first start.
pub struct Lead<'s> {
    server: &'s Server,
    cookie: String,
    csrf: String,
}

impl Lead<'_> {
    pub async fn join(server: &Server) -> Lead<'_> {
        let log = server.log();
        let token = log.split("join?token=").nth(1).and_then(|rest| rest.split_whitespace().next());
        let token = token.unwrap_or_else(|| panic!("no link to join by: {log}"));
        let body = json!({"token": token, "name": "Ann", "login": "ann", "password": "a long enough password"});
        let joined = server.post("/console/api/join", &body).await;
        assert_eq!(joined.status, 200, "{}", joined.text());
        let cookie = joined.header("set-cookie").split(';').next().unwrap_or_default().to_string();
        let mut lead = Lead { server, cookie, csrf: String::new() };
        let me = lead.get("me").await.json();
        lead.csrf = me["csrf"].as_str().unwrap_or_default().to_string();
        lead
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let request = reqwest::Client::new()
            .request(method, self.server.url(&format!("/console/api/{path}")))
            .header("cookie", &self.cookie)
            .header("x-csrf-token", &self.csrf);
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        };
        self.server.send(request).await
    }
}

const QUESTION: &str = "Do you sell the Xylo grinder?";

#[tokio::test]
async fn an_entry_that_staff_add_answers_the_next_customer_and_an_old_edit_is_refused() {
    let server = Server::start("");
    let lead = Lead::join(&server).await;
    let made = lead
        .post("knowledge/faq", &json!({"question": QUESTION, "answer": "Yes, from **May** on.", "lang": "en"}))
        .await;
    assert_eq!((made.status, &made.json()["live"]), (201, &json!(true)), "{}", made.text());
    let answer = server.ask("support", QUESTION).await.content();
    assert!(answer.contains("from **May** on"), "{answer}");

    let found = lead.get("knowledge?query=xylo+grinder&kind=desk").await.json();
    let id = found["items"][0]["id"].as_str().unwrap_or_else(|| panic!("{found}")).to_string();
    let item = lead.get(&format!("knowledge/item?id={id}")).await.json();
    assert!(item["html"].as_str().is_some_and(|html| html.contains("<strong>May</strong>")), "{item}");
    let path = format!("knowledge/item?id={id}");
    let edit = json!({"answer": "Yes, from June on.", "version": item["version"]});
    assert_eq!(lead.ask(Method::PUT, &path, Some(&edit)).await.json()["live"], true);
    lead.ask(Method::PUT, &path, Some(&edit)).await.error(409, "stale", Some("version"));
    assert!(server.ask("support", QUESTION).await.content().contains("June"));
    assert_eq!(lead.ask(Method::DELETE, &path, None).await.status, 200);
    assert!(!server.ask("support", QUESTION).await.content().contains("June"));
    lead.get(&path).await.error(404, "not_found", Some("id"));
    // Nobody edits without a session.
    assert_eq!(server.post("/console/api/knowledge/faq", &json!({"question": "a", "answer": "b"})).await.status, 401);
    let preview =
        lead.post("knowledge/preview", &json!({"markdown": "<script>alert(1)</script> [x](javascript:y)"})).await;
    let html = preview.json()["html"].as_str().unwrap_or_default().to_string();
    assert!(!html.contains("<script") && !html.contains("href"), "{html}");
}

#[tokio::test]
async fn a_question_without_an_answer_becomes_an_entry_by_one_click_and_outlives_the_folder() {
    let server = Server::start("");
    let lead = Lead::join(&server).await;
    for asked in [QUESTION, "do you sell xylo grinder"] {
        let reply = server.ask("support", asked).await.json();
        assert_eq!(reply["support"]["kind"], "no_answer", "{reply}");
    }
    let suggestions = lead.get("suggestions").await.json();
    let first = &suggestions["items"][0];
    assert_eq!((&first["count"], &first["reason"]), (&json!(2), &json!("no_answer")), "{suggestions}");
    let accept = format!("suggestions/{}/accept", first["id"].as_str().unwrap());
    let entry = json!({"question": QUESTION, "answer": "Yes, from May on.", "lang": "en"});
    // The second click is a nervous finger's.
    for _ in 0..2 {
        let accepted = lead.post(&accept, &entry).await;
        assert_eq!((accepted.status, &accepted.json()["live"]), (200, &json!(true)), "{}", accepted.text());
    }
    assert!(server.ask("support", QUESTION).await.content().contains("from May on"));
    assert_eq!(lead.get("suggestions").await.json()["items"], json!([]));

    // As after a crash between the log and the folder.
    let dir = server.stop();
    let rows = std::fs::read_to_string(dir.path().join("kb/desk/faq.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), 1, "{rows}");
    std::fs::remove_dir_all(dir.path().join("kb/desk")).unwrap();
    let server = Server::again(dir);
    assert!(server.ask("support", QUESTION).await.content().contains("from May on"));
}
