//! Conversation ids: issued by the server, bound to a key; and plain clients that send none.

use serde_json::json;

use super::server::{Server, user};

const PERSON: &str = "I want to talk to a person.";

#[tokio::test]
async fn with_an_id_the_server_remembers_who_asked_for_a_person() {
    let server = Server::shared();
    let first = server.ask("support", PERSON).await;
    assert_eq!(first.json()["support"]["action"], "clarify", "{}", first.text());
    let id = first.header("x-conversation-id").to_string();
    let extra = json!({"metadata": {"conversation_id": id}});
    let second = server.chat("support", json!([user("No, a person please!")]), extra).await;
    assert_eq!(second.json()["support"]["action"], "handoff", "{}", second.text());
    assert_eq!(second.header("x-conversation-id"), id);
}

#[tokio::test]
async fn the_header_works_like_the_metadata() {
    let server = Server::shared();
    let id = server.ask("support", PERSON).await.header("x-conversation-id").to_string();
    let request = reqwest::Client::new()
        .post(server.url("/v1/chat/completions"))
        .header("content-type", "application/json")
        .header("x-conversation-id", &id)
        .body(json!({"model": "support", "messages": [user("No, a person please!")]}).to_string());
    let reply = server.send(request).await;
    assert_eq!(reply.json()["support"]["action"], "handoff", "{}", reply.text());
}

#[tokio::test]
async fn a_plain_clients_transcript_is_its_state() {
    let server = Server::shared();
    let first = server.ask("support", PERSON).await;
    let again = user("No, a person please!");
    let transcript = json!([user(PERSON), {"role": "assistant", "content": first.content()}, again]);
    let second = server.chat("support", transcript, json!({})).await;
    assert_eq!(second.json()["support"]["action"], "handoff", "{}", second.text());
    // Its record is its own: nobody else's id leads to it.
    assert_ne!(first.header("x-conversation-id"), second.header("x-conversation-id"));
    // Another client that says the same out of the blue shares no state with it.
    let other = server.ask("support", PERSON).await;
    assert_eq!(other.json()["support"]["action"], "clarify", "{}", other.text());
}

#[tokio::test]
async fn an_id_that_the_server_did_not_issue_is_unknown() {
    let extra = json!({"metadata": {"conversation_id": "made-up"}});
    let reply = Server::shared().chat("support", json!([user("hello")]), extra).await;
    reply.error(404, "conversation_not_found", Some("metadata.conversation_id"));
}

#[tokio::test]
async fn requests_of_one_conversation_run_one_after_the_other() {
    let server = Server::shared();
    let id = server.ask("support", "How long is the warranty?").await.header("x-conversation-id").to_string();
    let extra = json!({"metadata": {"conversation_id": id}});
    let ask = || server.chat("support", json!([user(PERSON)]), extra.clone());
    let (a, b) = tokio::join!(ask(), ask());
    let mut actions = [a.header("x-support-action").to_string(), b.header("x-support-action").to_string()];
    actions.sort();
    assert_eq!(actions, ["clarify", "handoff"]);
}

#[tokio::test]
async fn a_conversation_whose_first_answer_was_stopped_goes_on() {
    let server = Server::shared();
    let body = json!({"model": "support", "messages": [user(PERSON)], "stream": true});
    let request = reqwest::Client::new().post(server.url("/v1/chat/completions"));
    let response = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
    let id = response.headers()["x-conversation-id"].to_str().unwrap().to_string();
    drop(response);
    // The stopped turn is recorded behind the client's back.
    for _ in 0..200 {
        let extra = json!({"metadata": {"conversation_id": id}});
        let reply = server.chat("support", json!([user("How long is the warranty?")]), extra).await;
        if reply.status == 200 {
            assert_eq!(reply.header("x-conversation-id"), id);
            return;
        }
        reply.error(404, "conversation_not_found", Some("metadata.conversation_id"));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{id} is never known");
}
