//! The people's side: joining, the queue, taking over, giving back.

use std::time::{Duration, Instant};

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Reply, Server, user};

const PASSWORD: &str = "correct horse battery";

/// A member of the staff at a browser.
pub struct Desk<'a> {
    server: &'a Server,
    cookie: String,
    csrf: String,
}

impl<'a> Desk<'a> {
    /// The first lead, by the link that the server printed.
    pub async fn first(server: &'a Server) -> Desk<'a> {
        let log = server.log();
        let token = log.rsplit_once("/console/join?token=").expect("a link").1.split_whitespace().next().unwrap();
        Self::join(server, token, "anna").await
    }

    async fn join(server: &'a Server, token: &str, login: &str) -> Desk<'a> {
        let body = json!({"token": token, "name": format!("{login}!"), "login": login, "password": PASSWORD});
        Self::entered(server, server.post("/console/api/join", &body).await)
    }

    async fn login(server: &'a Server, login: &str) -> Desk<'a> {
        let body = json!({"login": login, "password": PASSWORD});
        Self::entered(server, server.post("/console/api/login", &body).await)
    }

    fn entered(server: &'a Server, reply: Reply) -> Desk<'a> {
        assert_eq!(reply.status, 200, "{}", reply.text());
        let set = reply.header("set-cookie");
        for word in ["HttpOnly", "SameSite=Strict", "Path=/console"] {
            assert!(set.contains(word), "{set}");
        }
        let cookie = set.split(';').next().unwrap().to_string();
        Desk { server, cookie, csrf: reply.json()["csrf"].as_str().unwrap().to_string() }
    }

    /// What keeps this person logged in: cookie and CSRF token.
    pub fn credentials(&self) -> (String, String) {
        (self.cookie.clone(), self.csrf.clone())
    }

    /// The same person at a server that was started again.
    pub fn with_credentials(server: &'a Server, (cookie, csrf): (String, String)) -> Desk<'a> {
        Desk { server, cookie, csrf }
    }

    pub async fn try_get(&self, path: &str) -> Reply {
        self.server.send(self.request(Method::GET, path)).await
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = reqwest::Client::new().request(method, self.server.url(&format!("/console/api{path}")));
        request.header("cookie", &self.cookie).header("x-csrf-token", &self.csrf)
    }

    pub async fn get(&self, path: &str) -> Value {
        let reply = self.try_get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        let request =
            self.request(Method::POST, path).header("content-type", "application/json").body(body.to_string());
        self.server.send(request).await
    }

    pub async fn done(&self, path: &str, body: Value) -> Value {
        let reply = self.post(path, body).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }
}

/// A conversation that the bot has handed over; its id.
pub async fn handed_over(server: &Server) -> String {
    let first = server.ask("support", "I want my money back, please.").await;
    assert_eq!(first.json()["support"]["action"], "handoff", "{}", first.text());
    first.header("x-conversation-id").to_string()
}

pub async fn says(server: &Server, id: &str, text: &str) -> Value {
    let extra = json!({"metadata": {"conversation_id": id}});
    let reply = server.chat("support", json!([user(text)]), extra).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[tokio::test]
async fn a_handoff_is_taken_answered_and_given_back() {
    let server = Server::start("");
    let desk = Desk::first(&server).await;
    let mut feed = desk.request(Method::GET, "/events").send().await.unwrap().bytes_stream();
    feed.next().await.unwrap().unwrap();

    let id = handed_over(&server).await;
    let told = Instant::now();
    let mut seen = String::new();
    while !seen.contains("\"queue\"") {
        let more = tokio::time::timeout(Duration::from_secs(5), feed.next()).await.expect("an event").unwrap().unwrap();
        seen.push_str(&String::from_utf8_lossy(&more));
    }
    assert!(told.elapsed() < Duration::from_secs(1) && seen.contains(&id), "{seen}");

    let waiting = desk.get("/conversations?view=waiting").await;
    assert_eq!(
        (&waiting["items"][0]["id"], &waiting["items"][0]["team"]),
        (&json!(id), &json!("support")),
        "{waiting}"
    );
    assert_eq!(desk.get("/me").await["counts"]["waiting"], 1);

    // While waiting: told once that it is a queue, then nothing; every word is kept for the desk.
    let first = says(&server, &id, "Is anybody there? Write to a@b.example").await;
    assert_eq!(first["support"]["action"], "human", "{first}");
    assert!(first["choices"][0]["message"]["content"].as_str().unwrap().contains("queue"), "{first}");
    let second = says(&server, &id, "Hello?").await;
    assert_eq!(second["choices"][0]["message"]["content"], "", "{second}");

    let taken = desk.done(&format!("/conversations/{id}/take"), json!({})).await;
    assert_eq!((&taken["owner"], &taken["person"]["name"]), (&json!("person"), &json!("anna!")), "{taken}");
    let reply = json!({"text": "Your refund number is **777**.", "id": uuid::Uuid::new_v4().to_string()});
    desk.done(&format!("/conversations/{id}/reply"), reply.clone()).await;
    let detail = desk.done(&format!("/conversations/{id}/reply"), reply).await;
    let texts: Vec<&str> = detail["messages"].as_array().unwrap().iter().map(|m| m["text"].as_str().unwrap()).collect();
    assert!(texts.iter().any(|t| t.contains("a@b.example")), "{texts:?}");
    assert_eq!(texts.iter().filter(|t| t.contains("777")).count(), 1, "{texts:?}");
    assert_eq!(detail["handoff"]["queue"], "support", "{detail}");
    assert_eq!(says(&server, &id, "thanks").await["support"]["action"], "human");

    desk.done(&format!("/conversations/{id}/give-back"), json!({})).await;
    let bot = says(&server, &id, "How long is the warranty?").await;
    assert_eq!(bot["support"]["action"], "answer", "{bot}");
    let closed = desk.done(&format!("/conversations/{id}/close"), json!({"as": "solved"})).await;
    assert_eq!((&closed["owner"], &closed["closed_as"]), (&json!("closed"), &json!("solved")));
    assert_eq!(desk.get("/conversations?view=closed&query=warran").await["items"][0]["id"], json!(id));

    let answer = detail["messages"].as_array().unwrap().iter().find(|m| m["turn"].is_object()).unwrap();
    let turn = answer["turn"]["id"].as_str().unwrap();
    desk.done(&format!("/turns/{turn}/mark"), json!({"wrong": true, "right": "Ask for the receipt."})).await;
    let detail = desk.get(&format!("/conversations/{id}")).await;
    let mark = detail["messages"].as_array().unwrap().iter().find_map(|m| m["turn"]["mark"].as_object()).unwrap();
    assert_eq!((&mark["right"], &mark["by"]), (&json!("Ask for the receipt."), &json!("anna!")));
}

#[tokio::test]
async fn two_colleagues_do_not_answer_one_customer() {
    let server = Server::start("");
    let anna = Desk::first(&server).await;
    let link = anna.done("/people", json!({"name": "Boris", "role": "operator", "teams": ["support"]})).await;
    let token = link["join_url"].as_str().unwrap().split_once("token=").unwrap().1.to_string();
    let boris = Desk::join(&server, &token, "boris").await;
    let again = json!({"token": token, "name": "", "login": "eve", "password": PASSWORD});
    server.post("/console/api/join", &again).await.error(403, "join_link_invalid", Some("token"));
    boris.post("/people", json!({"name": "x", "role": "lead"})).await.error(403, "leads_only", None);

    let id = handed_over(&server).await;
    boris.done(&format!("/conversations/{id}/take"), json!({})).await;
    let refused = anna.post(&format!("/conversations/{id}/reply"), json!({"text": "hi"})).await;
    assert!(refused.error(409, "not_yours", None)["message"].as_str().unwrap().contains("boris!"));
    // A lead may take it over; then it is no longer Boris's.
    anna.done(&format!("/conversations/{id}/take"), json!({})).await;
    boris.post(&format!("/conversations/{id}/reply"), json!({"text": "hi"})).await.error(409, "not_yours", None);
    assert_eq!(boris.get("/conversations?view=mine").await["items"], json!([]));
    assert_eq!(anna.get("/me").await["counts"]["mine"], 1);

    let people = anna.get("/people").await;
    let boris_id = people["items"].as_array().unwrap().iter().find(|p| p["login"] == "boris").unwrap()["id"].clone();
    anna.done(&format!("/people/{}", boris_id.as_str().unwrap()), json!({"active": false})).await;
    server.send(boris.request(Method::GET, "/me")).await.error(401, "no_session", None);
}

#[tokio::test]
async fn the_console_is_closed_to_strangers_and_forged_requests() {
    let server = Server::start("[desk]\nlogin_attempts = 3\n");
    server.get("/console/api/me").await.error(401, "no_session", None);
    let desk = Desk::first(&server).await;
    // The link is used up, also after another start.
    assert_eq!(server.log().matches("/console/join?token=").count(), 1);
    let forged = reqwest::Client::new()
        .post(server.url("/console/api/logout"))
        .header("cookie", &desk.cookie)
        .header("content-type", "application/json")
        .body("{}");
    server.send(forged).await.error(403, "wrong_csrf_token", None);
    let page = server.get("/console/inbox").await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");

    assert_eq!(Desk::login(&server, "ANNA").await.get("/me").await["role"], "lead");
    let wrong = json!({"login": "anna", "password": "wrong password"});
    for _ in 0..3 {
        server.post("/console/api/login", &wrong).await.error(401, "wrong_login", None);
    }
    let refused = server.post("/console/api/login", &wrong).await;
    refused.error(429, "rate_limited", None);
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 200);

    desk.done("/logout", json!({})).await;
    server.send(desk.request(Method::GET, "/me")).await.error(401, "no_session", None);
    // Neither password nor token reaches the database or the log in the clear.
    let dir = server.stop();
    let database = std::fs::read(dir.path().join("state/firstline.db")).unwrap();
    assert!(!database.windows(PASSWORD.len()).any(|w| w == PASSWORD.as_bytes()));
}

#[tokio::test]
async fn a_stranger_out_of_hours_is_told_when_somebody_comes() {
    // A day off for the next three weeks and for ever.
    let server = Server::start("[[desk.teams]]\nname = \"support\"\nhours = [\"mon 00:00-00:01\"]\n");
    let reply = server.ask("support", "I want my money back, please.").await;
    let text = reply.content();
    assert!(text.contains("closed right now") && text.contains("Monday"), "{text}");
}

#[tokio::test]
async fn staff_ask_the_bot_without_a_trace_in_the_figures() {
    let server = Server::start("");
    let desk = Desk::first(&server).await;
    let reply = desk.post("/ask", json!({"question": "How long is the warranty?"})).await;
    assert!(reply.text().contains("\"sources\"") && reply.text().contains("[DONE]"), "{}", reply.text());
    assert_eq!(desk.get("/conversations?view=all").await["items"], json!([]));
}

#[tokio::test]
async fn the_queue_and_the_session_survive_a_kill() {
    let server = Server::start("");
    let desk = Desk::first(&server).await;
    let id = handed_over(&server).await;
    desk.done(&format!("/conversations/{id}/take"), json!({})).await;
    desk.done(&format!("/conversations/{id}/reply"), json!({"text": "I am here."})).await;
    let credentials = desk.credentials();
    let server = Server::again(server.kill());
    let desk = Desk::with_credentials(&server, credentials);
    let detail = desk.get(&format!("/conversations/{id}")).await;
    assert_eq!(detail["owner"], "person", "{detail}");
    assert_eq!(detail["messages"].as_array().unwrap().last().unwrap()["text"], "I am here.");
    assert_eq!(says(&server, &id, "good").await["support"]["action"], "human");
}
