//! A visitor's token: who, in which conversation, until when; signed with a secret of this server, so that nothing is
//! kept for visitors who never write.

use std::io::Write;
use std::path::Path;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::api::state::AppState;
use crate::api::wire::error::ApiError;

/// Longest token that is looked at, in bytes.
const LONGEST: usize = 1024;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visitor {
    #[serde(rename = "v")]
    pub id: String,
    #[serde(rename = "c")]
    pub conversation_id: String,
    #[serde(rename = "e")]
    pub expires_ms: i64,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
}

/// The secret that signs tokens.
pub struct Signer([u8; 32]);

impl Signer {
    /// Reads the secret from the state directory, or makes it.
    ///
    /// # Errors
    /// The file system's; a file that is no secret.
    pub fn open(state_dir: &Path) -> std::io::Result<Self> {
        let path = state_dir.join("widget.key");
        match std::fs::read(&path) {
            Ok(bytes) => bytes.try_into().map(Self).map_err(|_| {
                let message = format!("{} is not 32 bytes; delete it (open chats then start anew)", path.display());
                std::io::Error::other(message)
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let secret: [u8; 32] = rand::random();
                let mut options = std::fs::OpenOptions::new();
                options.write(true).create_new(true);
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                let mut file = options.open(&path)?;
                file.write_all(&secret)?;
                file.sync_all()?;
                Ok(Self(secret))
            }
            Err(error) => Err(error),
        }
    }

    pub fn sign(&self, visitor: &Visitor) -> String {
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(visitor).unwrap_or_default());
        let signature = URL_SAFE_NO_PAD.encode(self.mac(&payload).finalize().into_bytes());
        format!("{payload}.{signature}")
    }

    /// What a token of ours says, whether or not its time is over; `None` for anything else.
    pub fn read(&self, token: &str) -> Option<Visitor> {
        let (payload, signature) = token.split_once('.').filter(|_| token.len() <= LONGEST)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        // In constant time.
        self.mac(payload).verify_slice(&signature).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    fn mac(&self, payload: &str) -> Hmac<Sha256> {
        // Domain-separated: the secret signs nothing else.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        mac.update(b"firstline widget visitor 1\0");
        mac.update(payload.as_bytes());
        mac
    }
}

impl FromRequestParts<AppState> for Visitor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        super::on(state).await?;
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let token = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let visitor = token.and_then(|(_, token)| state.loaded().ok()?.signer.read(token.trim()));
        state.loaded()?;
        match visitor {
            Some(visitor) if visitor.expires_ms > chrono::Utc::now().timestamp_millis() => Ok(visitor),
            found => {
                let code = if found.is_some() { "token_expired" } else { "invalid_token" };
                let message = "get a visitor's token first: POST /widget/api/session, with the old one if there is one";
                Err(ApiError::new(StatusCode::UNAUTHORIZED, code, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitor() -> Visitor {
        Visitor { id: "v1".into(), conversation_id: "c1".into(), expires_ms: 7, operator: None }
    }

    #[test]
    fn only_our_own_tokens_are_read_and_none_can_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let signer = Signer::open(dir.path()).unwrap();
        let token = signer.sign(&visitor());
        assert_eq!(signer.read(&token), Some(visitor()));
        // The same secret after a restart, another elsewhere.
        assert_eq!(Signer::open(dir.path()).unwrap().read(&token), Some(visitor()));
        assert_eq!(Signer::open(tempfile::tempdir().unwrap().path()).unwrap().read(&token), None);
        let other = signer.sign(&Visitor { id: "v2".into(), ..visitor() });
        let (payload, signature) = (other.split_once('.').unwrap().0, token.split_once('.').unwrap().1);
        assert_eq!(signer.read(&format!("{payload}.{signature}")), None);
        for wrong in ["", ".", "a.b", &"x".repeat(5000)] {
            assert_eq!(signer.read(wrong), None);
        }
    }

    #[test]
    fn a_broken_secret_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("widget.key"), "short").unwrap();
        assert!(Signer::open(dir.path()).err().unwrap().to_string().contains("delete it"));
    }
}
