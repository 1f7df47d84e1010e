//! `POST /widget/api/session`: a token for a visitor, new or renewed.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::token::Visitor;
use crate::api::body::JsonBody;
use crate::api::console::typed;
use crate::api::desk_state::{ClientAddress, too_often};
use crate::api::models;
use crate::api::state::AppState;
use crate::api::wire::error::ApiError;

#[derive(Deserialize)]
struct Session {
    token: Option<String>,
    operator: Option<String>,
}

pub async fn session(
    State(state): State<AppState>,
    address: ClientAddress,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    super::on(&state).await?;
    let session: Session = typed(body)?;
    state.desk().addresses.attempt(&address.0).map_err(too_often)?;
    let loaded = state.loaded()?;
    let operator = session.operator.filter(|name| !name.is_empty() && name != models::SUPPORT);
    if let Some(operator) = operator.as_ref().filter(|name| !loaded.support.operators().contains(name)) {
        let known = loaded.support.operators().join(", ");
        return Err(ApiError::invalid("operator", format!("there is no operator {operator:?}; there are: {known}")));
    }
    let settings = &state.settings().desk;
    let now = chrono::Utc::now().timestamp_millis();
    let days = i64::try_from(settings.widget_return_days.clamp(1, 3650)).unwrap_or(30);
    let known = session.token.and_then(|token| loaded.signer.read(&token));
    let known = known.filter(|visitor| visitor.expires_ms + days * 86_400_000 > now);
    let fresh = || uuid::Uuid::new_v4().to_string();
    let expires_ms = now + i64::try_from(settings.widget_token_s.clamp(60, 86_400)).unwrap_or(3600) * 1000;
    let visitor = match known {
        Some(visitor) => Visitor { expires_ms, operator: operator.or(visitor.operator), ..visitor },
        None => Visitor { id: fresh(), conversation_id: fresh(), expires_ms, operator },
    };
    let begun = loaded.store.present(&visitor.conversation_id).await?.is_some();
    Ok(Json(json!({
        "token": loaded.signer.sign(&visitor),
        "expires_ms": expires_ms,
        "visitor_id": visitor.id,
        "conversation_id": begun.then_some(&visitor.conversation_id),
    })))
}
