//! Every refusal has the one error shape, and the server lives on.

use serde_json::{Value, json};

use super::server::{CHAT_MODEL, EMBED_MODEL, Server, chat_body, user};

const CHAT: &str = "/v1/chat/completions";

fn hello() -> Value {
    json!([user("hello")])
}

#[tokio::test]
async fn bad_json_is_told_with_line_and_column() {
    let server = Server::shared();
    let error = server.post_bytes(CHAT, b"{\"model\": \"support\",\n  oops}".to_vec()).await;
    let error = error.error(400, "invalid_json", None);
    assert!(error["message"].as_str().unwrap().contains("line 2 column 3"), "{error}");
    server.post_bytes(CHAT, Vec::new()).await.error(400, "invalid_json", None);
    server.post_bytes(CHAT, b"[1, 2]".to_vec()).await.error(400, "invalid_value", Some("body"));
    server.post_bytes(CHAT, "[".repeat(200_000).into_bytes()).await.error(400, "invalid_json", None);
}

#[tokio::test]
async fn bytes_that_are_no_utf8_are_refused() {
    let body = b"{\"model\": \"support\", \"messages\": [{\"role\": \"user\", \"content\": \"\xff\xfe\"}]}".to_vec();
    Server::shared().post_bytes(CHAT, body).await.error(400, "invalid_utf8", None);
}

#[tokio::test]
async fn half_a_surrogate_pair_is_refused() {
    let body = br#"{"model": "support", "messages": [{"role": "user", "content": "\ud83d"}]}"#.to_vec();
    Server::shared().post_bytes(CHAT, body).await.error(400, "invalid_json", None);
}

#[tokio::test]
async fn a_body_that_is_not_json_by_its_type_is_refused() {
    let server = Server::shared();
    let request = reqwest::Client::new().post(server.url(CHAT)).header("content-type", "text/plain").body("{}");
    server.send(request).await.error(415, "unsupported_media_type", None);
}

#[tokio::test]
async fn an_oversize_body_is_413_and_the_limit_is_named() {
    let server = Server::shared();
    let body = chat_body("support", json!([user(&"a".repeat(3 << 20))]), json!({}));
    let error = server.post(CHAT, &body).await.error(413, "body_too_large", None);
    assert!(error["message"].as_str().unwrap().contains("2097152"), "{error}");
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405() {
    let server = Server::shared();
    server.get("/v1/nothing").await.error(404, "not_found", None);
    server.get(CHAT).await.error(405, "method_not_allowed", None);
    server.post("/v1/models", &json!({})).await.error(405, "method_not_allowed", None);
}

#[tokio::test]
async fn an_unknown_model_is_404_with_the_known_ones() {
    let server = Server::shared();
    let error = server.ask("gpt-4o", "hello").await.error(404, "model_not_found", Some("model"));
    assert!(error["message"].as_str().unwrap().contains("support"), "{error}");
    server.ask(EMBED_MODEL, "hello").await.error(400, "unsupported_value", Some("model"));
    server.get("/v1/models/nobody").await.error(404, "model_not_found", Some("model"));
    let body = json!({"model": "nobody", "input": "a"});
    server.post("/v1/embeddings", &body).await.error(404, "model_not_found", Some("model"));
}

#[tokio::test]
async fn an_overlong_prompt_is_refused_with_both_numbers() {
    let server = Server::shared();
    let long = "kettle and water ".repeat(3500);
    let reply = server.chat(CHAT_MODEL, json!([user(&long)]), json!({})).await;
    let error = reply.error(400, "context_length_exceeded", Some("messages"));
    let numbers: Vec<usize> = error["message"]
        .as_str()
        .unwrap()
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse().ok())
        .collect();
    assert!(numbers.contains(&8192) && numbers.iter().any(|n| *n > 8192), "{error}");
    let reply = server.chat(CHAT_MODEL, hello(), json!({"max_tokens": 9000})).await;
    reply.error(400, "context_length_exceeded", Some("messages"));
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let server = Server::shared();
    let weather = json!([{"type": "function", "function": {"name": "weather", "parameters": {}}}]);
    for (extra, param) in [
        (json!({"tools": weather}), "tools[0]"),
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"n": 2}), "n"),
        (json!({"audio": {"voice": "alloy", "format": "wav"}}), "audio"),
        (json!({"modalities": ["audio"]}), "modalities"),
        (json!({"store": true}), "store"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"logit_bias": {"5": 1}}), "logit_bias"),
        (json!({"functions": [{"name": "f"}]}), "functions"),
    ] {
        let error = server.chat("support", hello(), extra).await.error(400, "unsupported_parameter", Some(param));
        let name = param.split('[').next().unwrap();
        assert!(error["message"].as_str().unwrap().contains(if name == "tools" { "weather" } else { name }), "{error}");
    }
    server.chat("support", hello(), json!({"colour": 1})).await.error(400, "unknown_parameter", Some("colour"));
    let picture = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]);
    let reply = server.chat("support", picture, json!({})).await;
    reply.error(400, "unsupported_parameter", Some("messages[0].content[0].type"));
}

#[tokio::test]
async fn values_out_of_range_are_refused_with_their_field() {
    let server = Server::shared();
    for (extra, param) in [
        (json!({"temperature": 3}), "temperature"),
        (json!({"top_p": 1.1}), "top_p"),
        (json!({"presence_penalty": -2.5}), "presence_penalty"),
        (json!({"frequency_penalty": 5}), "frequency_penalty"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_completion_tokens": -1}), "max_completion_tokens"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options"),
        (json!({"logit_bias": {"5": 200}}), "logit_bias.5"),
    ] {
        server.chat(CHAT_MODEL, hello(), extra).await.error(400, "invalid_value", Some(param));
    }
    server.chat(CHAT_MODEL, hello(), json!({"seed": "x"})).await.error(400, "invalid_type", Some("seed"));
    server.chat(CHAT_MODEL, json!([]), json!({})).await.error(400, "invalid_value", Some("messages"));
    let boss = json!([{"role": "boss", "content": "hello"}]);
    server.chat(CHAT_MODEL, boss, json!({})).await.error(400, "invalid_value", Some("messages[0].role"));
    server.post(CHAT, &json!({"model": "support"})).await.error(400, "missing_required_parameter", Some("messages"));
    server.post(CHAT, &json!({"messages": hello()})).await.error(400, "missing_required_parameter", Some("model"));
    let many: Vec<Value> = (0..201).map(|_| user("a")).collect();
    server.chat("support", json!(many), json!({})).await.error(400, "invalid_value", Some("messages"));
    let last_word = json!([user("a"), {"role": "assistant", "content": "b"}]);
    server.chat("support", last_word, json!({})).await.error(400, "invalid_value", Some("messages"));
}

#[tokio::test]
async fn a_token_that_the_model_does_not_have_is_refused() {
    let reply =
        Server::shared().chat(CHAT_MODEL, hello(), json!({"logit_bias": {"4000000000": 1}, "max_tokens": 1})).await;
    reply.error(400, "invalid_value", None);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_504_whole_or_an_error_in_the_stream() {
    let server = Server::start("[server]\nrequest_timeout_s = 1\n");
    let messages = json!([user("Write a very long story.")]);
    let slow = json!({"max_tokens": 4000, "temperature": 0, "logit_bias": {"2": -100}});
    server.chat(CHAT_MODEL, messages.clone(), slow.clone()).await.error(504, "timeout", None);
    let mut body = chat_body(CHAT_MODEL, messages, slow);
    body["stream"] = json!(true);
    let reply = server.post(CHAT, &body).await;
    assert_eq!(reply.status, 200);
    let events = super::streaming::events(&reply.text());
    assert_eq!(events.last().unwrap()["error"]["code"], "timeout", "{events:?}");
    super::python_client::run_against(&server, "slow");
}

#[tokio::test]
async fn a_full_queue_is_429_and_says_when_to_try_again() {
    let server = Server::start("[engine]\nmax_running = 1\nmax_waiting = 1\n");
    let body =
        chat_body(CHAT_MODEL, json!([user("Write a long story.")]), json!({"max_tokens": 120, "temperature": 0}));
    let replies = futures::future::join_all((0..6).map(|_| server.post(CHAT, &body))).await;
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
    assert!(refused.len() >= 3 && refused.len() < 6, "{}", refused.len());
    for reply in refused {
        assert_eq!(reply.error(429, "queue_full", None)["type"], "rate_limit_error");
        assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
    }
    super::python_client::run_against(&server, "busy");
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_keeps_the_clients_own() {
    let server = Server::shared();
    assert!(server.get("/v1/nothing").await.header("x-request-id").starts_with("req_"));
    let request = reqwest::Client::new().get(server.url("/health/live")).header("x-request-id", "mine-1");
    assert_eq!(server.send(request).await.header("x-request-id"), "mine-1");
}
