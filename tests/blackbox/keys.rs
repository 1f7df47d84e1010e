//! API keys and their scopes.

use serde_json::{Value, json};

use super::server::{CHAT_MODEL, EMBED_MODEL, Reply, Server, chat_body, user};

/// SHA-256 of `shop-key` and `admin-key`.
fn settings() -> String {
    let key = |name: &str, scopes: &str| {
        format!(
            "[[server.keys]]\nname = \"{name}\"\nsha256 = \"{}\"\nscopes = {scopes}\n",
            sha256(&format!("{name}-key"))
        )
    };
    key("shop", "[\"chat\"]") + &key("other", "[\"chat\"]") + &key("admin", "[\"raw\", \"embeddings\", \"metrics\"]")
}

fn sha256(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn post(server: &Server, key: &str, path: &str, body: Value) -> Reply {
    let request = reqwest::Client::new().post(server.url(path)).header("content-type", "application/json");
    server.send(request.bearer_auth(key).body(body.to_string())).await
}

async fn get(server: &Server, key: &str, path: &str) -> Reply {
    server.send(reqwest::Client::new().get(server.url(path)).bearer_auth(key)).await
}

#[tokio::test]
async fn keys_open_what_their_scopes_say() {
    let server = &Server::start(&settings());
    super::python_client::run_against(server, "keys");
    let chat = |model: &str| chat_body(model, json!([user("How long is the warranty?")]), json!({"max_tokens": 4}));
    const CHAT: &str = "/v1/chat/completions";

    let reply = server.ask("support", "hello").await;
    reply.error(401, "invalid_api_key", None);
    assert_eq!(reply.header("www-authenticate"), "Bearer");
    post(server, "wrong", CHAT, chat("support")).await.error(401, "invalid_api_key", None);
    // Who asks is checked before what is asked.
    server.post_bytes(CHAT, b"no json".to_vec()).await.error(401, "invalid_api_key", None);
    server.get("/v1/models").await.error(401, "invalid_api_key", None);
    server.get("/metrics").await.error(401, "invalid_api_key", None);

    assert_eq!(post(server, "shop-key", CHAT, chat("support")).await.status, 200);
    post(server, "shop-key", CHAT, chat(CHAT_MODEL)).await.error(403, "insufficient_scope", None);
    get(server, "shop-key", "/metrics").await.error(403, "insufficient_scope", None);
    let embed = json!({"model": EMBED_MODEL, "input": "a"});
    post(server, "shop-key", "/v1/embeddings", embed.clone()).await.error(403, "insufficient_scope", None);

    assert_eq!(post(server, "admin-key", CHAT, chat(CHAT_MODEL)).await.status, 200);
    post(server, "admin-key", CHAT, chat("support")).await.error(403, "insufficient_scope", None);
    assert_eq!(post(server, "admin-key", "/v1/embeddings", embed).await.status, 200);
    assert_eq!(get(server, "admin-key", "/metrics").await.status, 200);

    let models = get(server, "shop-key", "/v1/models").await.text();
    assert!(models.contains("\"support\"") && !models.contains(CHAT_MODEL), "{models}");

    // Health and the page are open; a conversation belongs to its key.
    assert_eq!(server.get("/health/ready").await.status, 200);
    assert_eq!(server.get("/").await.status, 200);
    let reply = post(server, "shop-key", CHAT, chat("support")).await;
    let mut body = chat("support");
    body["metadata"] = json!({"conversation_id": reply.header("x-conversation-id")});
    post(server, "other-key", CHAT, body.clone()).await.error(
        404,
        "conversation_not_found",
        Some("metadata.conversation_id"),
    );
    assert_eq!(post(server, "shop-key", CHAT, body).await.status, 200);
    let trace = format!("/v1/support/trace/{}", reply.json()["id"].as_str().unwrap());
    get(server, "other-key", &trace).await.error(404, "trace_not_found", None);
    assert_eq!(get(server, "shop-key", &trace).await.status, 200);
}
