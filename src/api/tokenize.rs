//! `POST /v1/tokenize`: how the chat model reads a text or a conversation, and what it costs in tokens.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::auth::{Principal, Scope};
use super::body::JsonBody;
use super::state::AppState;
use super::wire::error::ApiError;
use super::wire::fields::Fields;
use super::wire::messages::messages;
use super::wire::tools::tools;
use crate::llm::PromptOptions;

/// Serves a request: `prompt`, or `messages` (with `tools`), as vLLM has it.
pub async fn tokenize(
    State(state): State<AppState>,
    principal: Principal,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    principal.require(Scope::Raw)?;
    let mut fields = Fields::new(body, "")?;
    let model = fields.string("model")?;
    let prompt = fields.string("prompt")?;
    let transcript = fields.take("messages");
    let tools = tools(&mut fields)?;
    let special = fields.boolean("add_special_tokens")?.unwrap_or(true);
    let with_texts = fields.boolean("return_token_strs")?.unwrap_or(false);
    fields.end()?;
    let limits = state.transcript_limits();
    let loaded = state.loaded()?;
    if let Some(model) = model.filter(|model| model != loaded.chat.id()) {
        return Err(ApiError::model_not_found(&model, loaded.chat.id()));
    }
    let chat = loaded.chat.clone();
    let work = move || -> Result<Value, ApiError> {
        let tokens = match (prompt, transcript) {
            (Some(text), None) if text.chars().count() > limits.max_message_chars => {
                let message =
                    format!("the limit is {} characters (server.max_message_chars)", limits.max_message_chars);
                return Err(ApiError::invalid("prompt", message));
            }
            (Some(text), None) => {
                let bos = chat.leading_bos().filter(|_| special);
                bos.into_iter().chain(chat.tokenize(&text)?).collect::<Vec<u32>>()
            }
            (None, Some(transcript)) => {
                let options = PromptOptions { tools: tools.list, thinking: false };
                chat.prompt_with(messages(Some(transcript), limits)?, &options)?.tokens
            }
            (None, None) => return Err(ApiError::missing("prompt")),
            (Some(_), Some(_)) => {
                return Err(ApiError::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_value",
                    "send \"prompt\" or \"messages\", not both",
                )
                .on("prompt"));
            }
        };
        let mut answer = json!({"count": tokens.len(), "max_model_len": chat.context_tokens(), "tokens": tokens});
        if with_texts {
            answer["token_strs"] = json!(chat.token_texts(&tokens));
        }
        Ok(answer)
    };
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?.map(Json)
}
