//! Server-sent events.

use serde_json::{Value, json};

use super::server::{CHAT_MODEL, Server, chat_body, user};

/// The events' data; `[DONE]` as a string.
pub fn events(text: &str) -> Vec<Value> {
    let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data))).collect()
}

async fn stream(model: &str, question: &str, extra: Value) -> (super::server::Reply, Vec<Value>) {
    let mut body = chat_body(model, json!([user(question)]), extra);
    body["stream"] = json!(true);
    let reply = Server::shared().post("/v1/chat/completions", &body).await;
    let events = events(&reply.text());
    (reply, events)
}

fn text_of(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

#[tokio::test]
async fn a_stream_is_role_text_reason_usage_done() {
    let question = "Name the capital of France.";
    let extra = json!({"temperature": 0, "max_tokens": 12});
    let mut with_usage = extra.clone();
    with_usage["stream_options"] = json!({"include_usage": true});
    let (reply, events) = stream(CHAT_MODEL, question, with_usage).await;
    assert_eq!(reply.header("content-type"), "text/event-stream");
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events[0]["object"], "chat.completion.chunk");
    assert_eq!(events.last().unwrap(), "[DONE]");
    let usage = &events[events.len() - 2];
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["completion_tokens"].as_u64().unwrap() > 0);
    let last = &events[events.len() - 3];
    assert!(["stop", "length"].contains(&last["choices"][0]["finish_reason"].as_str().unwrap()), "{last}");
    assert!(events[..events.len() - 2].iter().all(|e| e["usage"].is_null() && e["id"] == events[0]["id"]));
    let whole = Server::shared().chat(CHAT_MODEL, json!([user(question)]), extra).await.content();
    assert_eq!(text_of(&events), whole);
}

#[tokio::test]
async fn a_support_stream_carries_the_outcome_on_the_chunk_that_ends_it() {
    let question = "How do I change the color of the lid?";
    let (reply, events) = stream("support", question, json!({})).await;
    assert!(!reply.header("x-conversation-id").is_empty());
    let last = &events[events.len() - 2];
    assert_eq!(last["choices"][0]["finish_reason"], "stop", "{events:?}");
    assert_eq!(last["support"]["action"], "answer", "{last}");
    assert_eq!(last["support"]["conversation_id"], reply.header("x-conversation-id"));
    assert!(events[..events.len() - 2].iter().all(|e| e.get("support").is_none()));
    assert!(text_of(&events).contains("Settings → Lid → Color"), "{}", text_of(&events));
}

#[tokio::test]
async fn code_is_streamed_byte_for_byte() {
    let (_, events) = stream("support", "How do I start the kettle from a script?", json!({})).await;
    let code = "curl -X POST https://api.kettlewood.example/v1/boil \\\n  -H \"Authorization: Bearer TOKEN\"\n";
    assert!(text_of(&events).contains(code), "{}", text_of(&events));
}

#[tokio::test]
async fn an_error_before_the_first_word_has_its_own_status() {
    let (reply, _) = stream(CHAT_MODEL, &"kettle ".repeat(9000), json!({})).await;
    reply.error(400, "context_length_exceeded", Some("messages"));
}
