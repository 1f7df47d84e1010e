//! The bare chat model under its own id.

use serde_json::json;

use super::server::{CHAT_MODEL, Server, user};

#[tokio::test]
async fn a_whole_answer_has_openais_fields_and_a_true_usage() {
    let server = Server::shared();
    let extra = json!({"temperature": 0, "max_tokens": 8});
    let reply = server.chat(CHAT_MODEL, json!([user("Name the capital of France.")]), extra).await;
    let body = reply.json();
    assert_eq!(reply.status, 200, "{body}");
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], CHAT_MODEL);
    assert_eq!(body["choices"][0]["message"]["role"], "assistant");
    assert!(reply.content().contains("Paris"), "{body}");
    let usage = &body["usage"];
    assert!(usage["prompt_tokens"].as_u64().unwrap() > 10, "{usage}");
    assert!(usage["completion_tokens"].as_u64().unwrap() <= 8, "{usage}");
    assert!(body.get("support").is_none());
    assert_eq!(reply.header("x-support-action"), "");
}

#[tokio::test]
async fn the_limit_of_tokens_ends_an_answer_with_length() {
    let extra = json!({"temperature": 0, "max_completion_tokens": 3});
    let reply = Server::shared().chat(CHAT_MODEL, json!([user("Count from one to fifty.")]), extra).await;
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "length");
    assert_eq!(reply.json()["usage"]["completion_tokens"], 3);
}

#[tokio::test]
async fn a_stop_string_ends_an_answer_before_it() {
    let messages = json!([user("Name the capital of France.")]);
    let extra = json!({"temperature": 0, "max_tokens": 30, "stop": "Paris"});
    let reply = Server::shared().chat(CHAT_MODEL, messages, extra).await;
    assert!(!reply.content().contains("Paris"), "{}", reply.text());
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_answer() {
    let server = Server::shared();
    let ask = |seed: i64| async move {
        let extra = json!({"temperature": 1.5, "max_tokens": 24, "seed": seed});
        server.chat(CHAT_MODEL, json!([user("Tell me something.")]), extra).await.content()
    };
    let (first, second, other) = tokio::join!(ask(7), ask(7), ask(-8));
    assert_eq!(first, second);
    assert_ne!(first, other);
}

#[tokio::test]
async fn log_probabilities_cover_the_answer() {
    let messages = json!([user("Name the capital of France.")]);
    let extra = json!({"temperature": 0, "max_tokens": 4, "logprobs": true, "top_logprobs": 3});
    let body = Server::shared().chat(CHAT_MODEL, messages, extra).await.json();
    let tokens = body["choices"][0]["logprobs"]["content"].as_array().unwrap_or_else(|| panic!("{body}"));
    let bytes: Vec<u8> =
        tokens.iter().flat_map(|t| t["bytes"].as_array().unwrap()).map(|b| b.as_u64().unwrap() as u8).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), body["choices"][0]["message"]["content"]);
    for token in tokens {
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a_developers_message_is_a_system_message() {
    let server = Server::shared();
    let mut answers = Vec::new();
    for role in ["developer", "system"] {
        let messages = json!([{"role": role, "content": "You only say moo."}, user("Hello")]);
        answers.push(server.chat(CHAT_MODEL, messages, json!({"temperature": 0, "max_tokens": 8})).await.content());
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn tools_are_refused_for_the_bare_model() {
    let tool = json!([{"type": "function", "function": {"name": "transfer_to_human", "parameters": {}}}]);
    let reply = Server::shared().chat(CHAT_MODEL, json!([user("hi")]), json!({"tools": tool})).await;
    reply.error(400, "unsupported_parameter", Some("tools"));
}

#[tokio::test]
async fn parameters_that_clients_send_by_habit_are_accepted() {
    let extra = json!({"temperature": 0, "max_tokens": 1, "user": "u", "metadata": {"a": "b"}, "store": false,
        "service_tier": "auto", "n": 1, "response_format": {"type": "text"}, "presence_penalty": 0, "stop": null,
        "frequency_penalty": 0, "top_p": 1, "logit_bias": {}, "parallel_tool_calls": true, "tool_choice": "auto"});
    let reply = Server::shared().chat(CHAT_MODEL, json!([user("hi")]), extra).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}
