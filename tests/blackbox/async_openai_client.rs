//! The Rust client `async-openai`, unchanged.

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::types::chat::{CreateChatCompletionRequest, FinishReason};
use async_openai::types::embeddings::CreateEmbeddingRequest;
use futures::StreamExt;
use serde_json::{Value, json};

use super::server::{CHAT_MODEL, EMBED_MODEL, Server};

fn client() -> Client<OpenAIConfig> {
    let base = format!("{}/v1", Server::shared().base);
    Client::with_config(OpenAIConfig::new().with_api_base(base).with_api_key("unused"))
}

fn chat(model: &str, question: &str, extra: Value) -> CreateChatCompletionRequest {
    let messages = json!([{"role": "user", "content": question}]);
    serde_json::from_value(super::server::chat_body(model, messages, extra)).unwrap()
}

#[tokio::test]
async fn chat_works() {
    let answer = client().chat().create(chat("support", "How long is the warranty?", json!({}))).await.unwrap();
    let choice = &answer.choices[0];
    assert!(choice.message.content.as_ref().unwrap().contains("24 months"), "{answer:?}");
    assert_eq!(choice.finish_reason, Some(FinishReason::Stop));
    assert!(answer.usage.is_some());
}

#[tokio::test]
async fn streams_work() {
    let options = json!({"include_usage": true});
    let extra = json!({"max_tokens": 8, "temperature": 0.0, "stream": true, "stream_options": options});
    let request = chat(CHAT_MODEL, "Name the capital of France.", extra);
    let mut stream = client().chat().create_stream(request).await.unwrap();
    let (mut text, mut reason, mut usage) = (String::new(), None, None);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.unwrap();
        usage = chunk.usage.or(usage);
        for choice in chunk.choices {
            text.extend(choice.delta.content);
            reason = choice.finish_reason.or(reason);
        }
    }
    assert!(text.contains("Paris"), "{text}");
    assert!(reason.is_some() && usage.unwrap().completion_tokens > 0);
}

#[tokio::test]
async fn logprobs_work() {
    let extra = json!({"max_tokens": 2, "temperature": 0.0, "logprobs": true, "top_logprobs": 2});
    let answer = client().chat().create(chat(CHAT_MODEL, "Hello", extra)).await.unwrap();
    let tokens = answer.choices[0].logprobs.as_ref().unwrap().content.as_ref().unwrap();
    assert!(!tokens.is_empty() && tokens[0].top_logprobs.len() == 2);
}

#[tokio::test]
async fn embeddings_work_in_both_encodings() {
    let request = |encoding: &str| -> CreateEmbeddingRequest {
        let body = json!({"model": EMBED_MODEL, "input": ["a kettle", "a lid"], "encoding_format": encoding});
        serde_json::from_value(body).unwrap()
    };
    let floats = client().embeddings().create(request("float")).await.unwrap();
    let encoded = client().embeddings().create_base64(request("base64")).await.unwrap();
    assert_eq!((floats.data.len(), encoded.data.len()), (2, 2));
    assert_eq!(floats.data[0].embedding.len(), 384);
}

#[tokio::test]
async fn models_work() {
    let models = client().models().list().await.unwrap();
    assert!(models.data.iter().any(|model| model.id == "support"));
    assert_eq!(client().models().retrieve("ann").await.unwrap().id, "ann");
}

#[tokio::test]
async fn errors_are_understood() {
    let status_and_code = |error: OpenAIError| match error {
        OpenAIError::ApiError(answer) => (answer.status_code.as_u16(), answer.api_error.code.unwrap_or_default()),
        other => panic!("{other:?}"),
    };
    let failed = |model: &'static str, question: String, extra: Value| async move {
        client().chat().create(chat(model, &question, extra)).await.unwrap_err()
    };
    let error = failed("nobody", "hi".into(), json!({})).await;
    assert_eq!(status_and_code(error), (404, "model_not_found".into()));
    let error = failed(CHAT_MODEL, "kettle ".repeat(9000), json!({})).await;
    assert_eq!(status_and_code(error), (400, "context_length_exceeded".into()));
    let error = failed("support", "hi".into(), json!({"n": 3})).await;
    assert_eq!(status_and_code(error), (400, "unsupported_parameter".into()));
    let error = failed(CHAT_MODEL, "hi".into(), json!({"temperature": 9.0})).await;
    assert_eq!(status_and_code(error), (400, "invalid_value".into()));
}
