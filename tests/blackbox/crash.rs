//! The program is killed (SIGKILL) at random moments under load: what it acknowledged is neither lost nor doubled.
//!
//! `FIRSTLINE_CRASHES=200` kills as often as that; a few times by default.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::desk::Desk;
use super::server::Server;

const SETTINGS: &str = "[desk]\nwidget_messages_per_minute = 100000\n\
    [[desk.channels]]\nname = \"mail\"\nurl = \"http://127.0.0.1:9/nobody\"\n\
    secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";

/// What the server has acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Customers' messages: text → conversation.
    messages: BTreeMap<String, String>,
    /// Persons' replies: text → conversation.
    replies: BTreeMap<String, String>,
    /// Conversations whose customer was promised a person.
    promised: BTreeSet<String>,
    /// Accepted suggestions: id → question of the entry.
    accepted: BTreeMap<String, String>,
}

type Ledger = Arc<Mutex<Acknowledged>>;

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap()
}

async fn post(request: reqwest::RequestBuilder, body: &Value) -> Option<Value> {
    let response = request.header("content-type", "application/json").body(body.to_string()).send().await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    serde_json::from_slice(&response.bytes().await.ok()?).ok()
}

/// Customers of the channel write, each message once, perhaps sent twice; one of four wants money back, one asks what
/// the knowledge does not have.
async fn customers(base: String, round: usize, worker: usize, ledger: Ledger) {
    let client = client();
    for n in 0.. {
        let id = format!("m{round}-{worker}-{n}");
        let text = match n % 4 {
            3 => format!("I want my money back, reference {id}"),
            1 => format!("Can the machine speak French with my parrot? My reference is {id}"),
            _ => format!("How long is the warranty? My reference is {id}"),
        };
        let customer = format!("k{round}-{worker}-{}", n / 4);
        let body = json!({"id": id, "customer": {"id": customer}, "text": text});
        for _ in 0..1 + n % 2 {
            let request = client.post(format!("{base}/v1/channels/mail/messages"));
            let Some(accepted) = post(request, &body).await else { return };
            let conversation = accepted["conversation_id"].as_str().unwrap().to_string();
            let before = ledger.lock().unwrap().messages.insert(text.clone(), conversation.clone());
            assert!(before.is_none_or(|before| before == conversation), "{text} moved");
        }
    }
}

/// API clients are promised persons.
async fn promised(base: String, ledger: Ledger) {
    let client = client();
    loop {
        let body = json!({"model": "support", "messages": [{"role": "user", "content": "I want my money back now"}]});
        let Some(answer) = post(client.post(format!("{base}/v1/chat/completions")), &body).await else { return };
        if answer["support"]["action"] == "handoff" {
            let id = answer["support"]["conversation_id"].as_str().unwrap().to_string();
            ledger.lock().unwrap().promised.insert(id);
        }
    }
}

/// The id of a list's first item; an error where the server is gone.
async fn first_of(
    request: reqwest::RequestBuilder,
) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
    let list: Value = serde_json::from_slice(&request.send().await?.bytes().await?)?;
    Ok(list["items"][0]["id"].as_str().map(str::to_string))
}

/// A person takes what waits and replies, each reply sent twice with one id.
async fn person(base: String, cookie: String, csrf: String, round: usize, ledger: Ledger) {
    let client = client();
    let with = |request: reqwest::RequestBuilder| request.header("cookie", &cookie).header("x-csrf-token", &csrf);
    for n in 0.. {
        let list = with(client.get(format!("{base}/console/api/conversations?view=waiting&limit=1")));
        let Ok(first) = first_of(list).await else { return };
        let Some(id) = first else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let at = format!("{base}/console/api/conversations/{id}");
        if post(with(client.post(format!("{at}/take"))), &json!({})).await.is_none() {
            return;
        }
        let text = format!("reply {round}-{n}");
        let body = json!({"text": text, "id": uuid::Uuid::new_v4().to_string()});
        for _ in 0..2 {
            if post(with(client.post(format!("{at}/reply"))), &body).await.is_none() {
                return;
            }
            ledger.lock().unwrap().replies.insert(text.clone(), id.clone());
        }
    }
}

/// A lead accepts a suggestion, sent twice; one in each round, since each makes an entry that is indexed.
async fn curator(base: String, cookie: String, csrf: String, round: usize, ledger: Ledger) {
    let client = client();
    let with = |request: reqwest::RequestBuilder| request.header("cookie", &cookie).header("x-csrf-token", &csrf);
    loop {
        let list = with(client.get(format!("{base}/console/api/suggestions")));
        let Ok(first) = first_of(list).await else { return };
        let Some(id) = first else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let question = format!("Which colour has the box of round {round}?");
        let body = json!({"question": question, "answer": format!("Number {round}."), "lang": "en"});
        for _ in 0..2 {
            let request = with(client.post(format!("{base}/console/api/suggestions/{id}/accept")));
            if post(request, &body).await.is_none() {
                return;
            }
            ledger.lock().unwrap().accepted.insert(id.clone(), question.clone());
        }
        return;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_by_kills_at_random_moments() {
    let crashes: usize = std::env::var("FIRSTLINE_CRASHES").ok().and_then(|n| n.parse().ok()).unwrap_or(4);
    let ledger = Ledger::default();
    let mut server = Server::start(SETTINGS);
    let (cookie, csrf) = Desk::first(&server).await.credentials();
    for round in 0..crashes {
        let mut tasks = tokio::task::JoinSet::new();
        for worker in 0..2 {
            tasks.spawn(customers(server.base.clone(), round, worker, ledger.clone()));
        }
        tasks.spawn(promised(server.base.clone(), ledger.clone()));
        tasks.spawn(person(server.base.clone(), cookie.clone(), csrf.clone(), round, ledger.clone()));
        tasks.spawn(curator(server.base.clone(), cookie.clone(), csrf.clone(), round, ledger.clone()));
        tokio::time::sleep(Duration::from_millis(50 + u64::from(rand::random::<u16>()) % 1500)).await;
        let dir = server.kill();
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        server = Server::again(dir);
    }
    let desk = Desk::with_credentials(&server, (cookie, csrf));
    let ledger = ledger.lock().unwrap();
    settle(&desk, &ledger).await;
    let (mut seen, mut answered) = (0, 0);
    let conversations: BTreeSet<&String> =
        ledger.messages.values().chain(ledger.replies.values()).chain(&ledger.promised).collect();
    for id in conversations {
        let detail = desk.get(&format!("/conversations/{id}")).await;
        let messages = detail["messages"].as_array().unwrap();
        let times = |from: &str, text: &str| {
            messages.iter().filter(|m| m["from"] == from && m["text"].as_str() == Some(text)).count()
        };
        for (text, _) in ledger.messages.iter().filter(|(_, c)| *c == id) {
            assert_eq!(times("customer", text), 1, "{text}: {detail}");
            seen += 1;
        }
        for (text, _) in ledger.replies.iter().filter(|(_, c)| *c == id) {
            assert_eq!(times("person", text), 1, "{text}: {detail}");
        }
        if ledger.promised.contains(id) {
            assert!(detail["handoff"].is_object() && detail["owner"] != "bot", "{detail}");
            let handed = detail["events"].as_array().unwrap().iter().filter(|e| e["kind"] == "handed_off").count();
            assert_eq!(handed, 1, "{detail}");
        }
        answered += messages.iter().filter(|m| m["from"] == "bot").count();
    }
    // Every accepted suggestion is one entry, in the pack's folder and at the console, and is suggested no more.
    let written = std::fs::read_to_string(server.dir.path().join("kb/desk/faq.jsonl")).unwrap_or_default();
    let suggested = desk.get("/suggestions").await.to_string();
    for (id, question) in &ledger.accepted {
        assert_eq!(written.matches(question.as_str()).count(), 1, "{question}: {written}");
        assert!(!suggested.contains(&format!("\"{id}\"")), "{id} is suggested again: {suggested}");
    }
    println!(
        "{crashes} kills: {seen} messages, {} replies, {} promises, {} accepted suggestions, {answered} answers: none lost, none doubled",
        ledger.replies.len(),
        ledger.promised.len(),
        ledger.accepted.len()
    );
    assert!(seen > 0 && !ledger.replies.is_empty() && !ledger.promised.is_empty());
    // A few kills may all come too early for one.
    assert!(crashes < 20 || !ledger.accepted.is_empty(), "no suggestion was accepted");
}

/// Waits until what was accepted is answered.
async fn settle(desk: &Desk<'_>, ledger: &Acknowledged) {
    for id in ledger.messages.values().collect::<BTreeSet<_>>() {
        for attempt in 0.. {
            let reply = desk.try_get(&format!("/conversations/{id}")).await;
            let detail = reply.json();
            let wanted = ledger.messages.values().filter(|c| *c == id).count();
            let said =
                detail["messages"].as_array().map_or(0, |m| m.iter().filter(|m| m["from"] == "customer").count());
            if reply.status == 200 && said >= wanted && detail["turns"].as_u64() >= Some(wanted as u64) {
                break;
            }
            assert!(attempt < 600, "{id} is not answered: {detail}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
