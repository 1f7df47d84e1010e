//! API keys: who asks, and what they may do.
//!
//! The settings hold each key's SHA-256, never the key. Without keys everything is open, and then the server listens
//! on loopback only.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};

use super::state::AppState;
use super::wire::error::ApiError;
use crate::config::{ApiKey, ServerSettings};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Operators and `support`.
    Chat,
    /// The bare chat model.
    Raw,
    Embeddings,
    Metrics,
    /// Bridges to messengers and mail.
    Channel,
    /// Files and vector stores of its own, and searching the knowledge pack.
    Files,
    /// Adding files to the knowledge pack.
    Knowledge,
}

impl Scope {
    const ALL: [(Scope, &'static str); 7] = [
        (Scope::Chat, "chat"),
        (Scope::Raw, "raw"),
        (Scope::Embeddings, "embeddings"),
        (Scope::Metrics, "metrics"),
        (Scope::Channel, "channel"),
        (Scope::Files, "files"),
        (Scope::Knowledge, "knowledge"),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|(scope, _)| *scope)
    }

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(scope, _)| *scope == self).map_or("", |(_, name)| name)
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key's name; "" without keys.
    pub key_name: String,
    scopes: Vec<Scope>,
}

impl Principal {
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// # Errors
    /// 403 where the key lacks the scope.
    pub fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.may(scope) {
            return Ok(());
        }
        let message = format!("the key {:?} lacks the scope {:?}", self.key_name, scope.word());
        Err(ApiError::new(StatusCode::FORBIDDEN, "insufficient_scope", message))
    }
}

impl FromRequestParts<AppState> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        state.keys().principal(&parts.headers)
    }
}

/// All keys of the settings, checked.
#[derive(Debug)]
pub struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    sha256: [u8; 32],
    principal: Principal,
}

impl Keys {
    /// # Errors
    /// A key without a name, with a name twice, a hash that is no SHA-256, an unknown scope; and an address that
    /// others can reach without any key.
    pub fn new(settings: &ServerSettings) -> Result<Self, String> {
        if settings.keys.is_empty() && !settings.allow_open && !settings.is_loopback() {
            return Err(format!(
                "server.host is {:?}, which other machines can reach, and there are no API keys; add [[server.keys]], \
                 or set server.allow_open = true",
                settings.host
            ));
        }
        let mut keys: Vec<Key> = Vec::new();
        for key in &settings.keys {
            let read = Self::read(key)?;
            if keys.iter().any(|k| k.principal.key_name == key.name) {
                return Err(format!("server.keys: two keys are named {:?}", key.name));
            }
            keys.push(read);
        }
        Ok(Self(keys))
    }

    fn read(key: &ApiKey) -> Result<Key, String> {
        let name = &key.name;
        // Such names are rooms of our own: the widget, channels.
        if name.starts_with('@') {
            return Err(format!("server.keys: the name {name:?} begins with @; choose another"));
        }
        if name.trim().is_empty() {
            return Err("server.keys: a key has no name".into());
        }
        let sha256 = unhex(&key.sha256).ok_or_else(|| {
            format!("server.keys: the sha256 of {name:?} is not 64 hex digits (printf %s KEY | sha256sum)")
        })?;
        let scope = |word: &String| {
            let known: Vec<&str> = Scope::ALL.iter().map(|(_, name)| *name).collect();
            let unknown = || format!("server.keys: {name:?} has the scope {word:?}; there are: {}", known.join(", "));
            Scope::parse(word).ok_or_else(unknown)
        };
        let scopes = key.scopes.iter().map(scope).collect::<Result<Vec<_>, _>>()?;
        Ok(Key { sha256, principal: Principal { key_name: name.clone(), scopes } })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who asks, by the `Authorization` header.
    ///
    /// # Errors
    /// 401 where keys are asked for and none, or a wrong one, was sent.
    pub fn principal(&self, headers: &HeaderMap) -> Result<Principal, ApiError> {
        if self.is_empty() {
            let scopes = Scope::ALL.iter().map(|(scope, _)| *scope).collect();
            return Ok(Principal { key_name: String::new(), scopes });
        }
        let refused = |message: &str| ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message);
        let value = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let bearer = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = bearer else {
            return Err(refused("an API key is needed: send the header Authorization: Bearer KEY"));
        };
        let sent: [u8; 32] = Sha256::digest(token.trim().as_bytes()).into();
        // Every key is compared, in whole, so that the time says nothing.
        let found = self.0.iter().fold(None, |found, key| if same(&key.sha256, &sent) { Some(key) } else { found });
        found.map(|key| key.principal.clone()).ok_or_else(|| refused("this API key is not known here"))
    }
}

/// Compares in constant time.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0u8, |difference, (x, y)| difference | (x ^ y))) == 0
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let text = text.trim();
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(scopes: &[&str]) -> ServerSettings {
        let sha256 = Sha256::digest(b"secret").iter().map(|b| format!("{b:02x}")).collect();
        let key = ApiKey { name: "shop".into(), sha256, scopes: scopes.iter().map(|s| s.to_string()).collect() };
        ServerSettings { keys: vec![key], ..ServerSettings::default() }
    }

    fn ask(keys: &Keys, value: &str) -> Result<Principal, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        keys.principal(&headers)
    }

    #[test]
    fn the_right_key_is_known_and_a_wrong_one_is_not() {
        let keys = Keys::new(&settings(&["chat"])).unwrap();
        assert_eq!(ask(&keys, "Bearer secret").unwrap().key_name, "shop");
        assert_eq!(ask(&keys, "bearer secret").unwrap().key_name, "shop");
        for wrong in ["Bearer secre", "Bearer ", "Basic secret", "secret"] {
            assert_eq!(ask(&keys, wrong).unwrap_err().status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(keys.principal(&HeaderMap::new()).unwrap_err().code, "invalid_api_key");
    }

    #[test]
    fn a_scope_that_is_not_given_is_403() {
        let keys = Keys::new(&settings(&["chat"])).unwrap();
        let principal = ask(&keys, "Bearer secret").unwrap();
        principal.require(Scope::Chat).unwrap();
        assert_eq!(principal.require(Scope::Raw).unwrap_err().status, StatusCode::FORBIDDEN);
    }

    #[test]
    fn a_public_address_without_keys_is_refused() {
        let open = ServerSettings { host: "0.0.0.0".into(), ..ServerSettings::default() };
        assert!(Keys::new(&open).unwrap_err().contains("allow_open"));
        assert!(Keys::new(&ServerSettings { allow_open: true, ..open.clone() }).is_ok());
        for host in ["127.0.0.1", "localhost", "::1", "[::1]", "127.8.9.1"] {
            assert!(Keys::new(&ServerSettings { host: host.into(), ..open.clone() }).is_ok(), "{host}");
        }
    }

    #[test]
    fn faulty_keys_are_named() {
        assert!(Keys::new(&settings(&["root"])).unwrap_err().contains("root"));
        let mut bad = settings(&["chat"]);
        bad.keys[0].sha256 = "abc".into();
        assert!(Keys::new(&bad).unwrap_err().contains("shop"));
        let mut twice = settings(&["chat"]);
        twice.keys.push(twice.keys[0].clone());
        assert!(Keys::new(&twice).unwrap_err().contains("two keys"));
    }
}
