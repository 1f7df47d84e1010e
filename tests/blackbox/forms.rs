//! Answers that keep a form: JSON, calls of tools; and the small endpoints beside chat.

use serde_json::{Value, json};

use super::server::{CHAT_MODEL, EMBED_MODEL, Server, user};

#[tokio::test]
async fn a_weak_models_answer_keeps_to_its_schema_greedy_and_sampled_alone_and_in_a_batch() {
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["colour", "sizes"], "properties": {
        "colour": {"enum": ["red", "blue"]}, "sizes": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "lid", "strict": true, "schema": schema}});
    let ask = |seed: i64, temperature: f64| {
        let extra = json!({"response_format": format, "temperature": temperature, "seed": seed, "max_tokens": 80});
        Server::shared().chat(CHAT_MODEL, json!([user("Describe a lid.")]), extra)
    };
    let answers = futures::future::join_all((0..6).map(|seed| ask(seed, if seed == 0 { 0.0 } else { 1.5 }))).await;
    for answer in &answers {
        assert_eq!(answer.json()["choices"][0]["finish_reason"], "stop", "{}", answer.text());
        let value: Value = serde_json::from_str(&answer.content()).unwrap();
        assert!(value["colour"] == "red" || value["colour"] == "blue", "{value}");
        let sizes = value["sizes"].as_array().unwrap();
        assert!(sizes.len() <= 3 && sizes.iter().all(Value::is_i64), "{value}");
    }
    assert_eq!(ask(3, 1.5).await.content(), answers[3].content(), "and the seed is kept, alone as in a batch");
}

#[tokio::test]
async fn a_schema_that_cannot_be_served_is_refused_with_its_place() {
    let format = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    for (schema, place) in [
        (json!({"properties": {"a": {"not": {}}}}), ".properties.a.not"),
        (json!({"type": "integer", "minimum": 3, "maximum": 1}), ""),
    ] {
        let reply = Server::shared().chat(CHAT_MODEL, json!([user("hi")]), format(schema)).await;
        let param = format!("response_format.json_schema.schema{place}");
        reply.error(400, "invalid_schema", Some(&param));
    }
}

#[tokio::test]
async fn a_demanded_call_is_made_and_its_arguments_keep_to_the_schema() {
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "parameters": {
        "type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}}})
    };
    let tools = json!([tool("order"), tool("cancel")]);
    let named = json!({"type": "function", "function": {"name": "cancel"}});
    let extra =
        json!({"tools": tools, "tool_choice": named, "max_tokens": 60, "seed": 1, "parallel_tool_calls": false});
    let body = Server::shared().chat(CHAT_MODEL, json!([user("Cancel order 17")]), extra).await.json();
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{body}");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("cancel")), "{body}");
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["id"].is_i64(), "{body}");
    assert!(choice["message"]["content"].is_null(), "{body}");
}

#[tokio::test]
async fn tokens_are_counted_as_the_model_reads_them() {
    let server = Server::shared();
    let body = server.post("/v1/tokenize", &json!({"prompt": "Hello, kettle", "return_token_strs": true})).await.json();
    let texts: Vec<&str> = body["token_strs"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(texts.concat(), "Hello, kettle", "{body}");
    assert_eq!(body["count"], texts.len());
    let chat = server.post("/v1/tokenize", &json!({"messages": [user("Hello")]})).await.json();
    let usage = server.chat(CHAT_MODEL, json!([user("Hello")]), json!({"max_tokens": 1})).await.json()["usage"].clone();
    assert_eq!(chat["count"], usage["prompt_tokens"]);
}

#[tokio::test]
async fn documents_are_put_in_the_order_of_their_nearness() {
    let documents = json!(["The moon is far away.", "The warranty lasts two years.", {"text": "Bake for an hour."}]);
    let body = json!({"model": EMBED_MODEL, "query": "How long is the guarantee?", "documents": documents, "top_n": 2,
                      "return_documents": true});
    let ranked = Server::shared().post("/v1/rerank", &body).await.json();
    let results = ranked["results"].as_array().unwrap();
    assert_eq!((results.len(), &results[0]["index"]), (2, &json!(1)), "{ranked}");
    assert_eq!(results[0]["document"]["text"], "The warranty lasts two years.");
    assert!(results[0]["relevance_score"].as_f64() > results[1]["relevance_score"].as_f64(), "{ranked}");
    Server::shared().post("/v1/rerank", &json!({"query": "a"})).await.error(
        400,
        "missing_required_parameter",
        Some("documents"),
    );
}
