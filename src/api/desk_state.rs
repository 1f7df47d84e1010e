//! What the people's side keeps in memory: who tries how often, and how many event streams are open.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::inbound::Answering;
use super::state::AppState;
use super::wire::error::ApiError;
use crate::config::DeskSettings;
use crate::desk::throttle::Throttle;

/// The window of attempts to log in.
const LOGIN_WINDOW: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);
/// Several visitors share an address: a company, a mobile network.
const VISITORS_PER_ADDRESS: usize = 5;
/// Password hashes computed at once: each takes 19 MiB.
const HASHES: usize = 2;

/// See the module.
pub struct DeskState {
    /// By login, and by address.
    pub logins: Throttle,
    /// The widget's messages, by visitor.
    pub visitors: Throttle,
    /// The widget's messages and sessions, by address.
    pub addresses: Throttle,
    streams: Arc<Semaphore>,
    /// Accepted messages on their way to an answer.
    pub answering: Answering,
    pub hashing: Semaphore,
}

impl DeskState {
    pub fn new(settings: &DeskSettings) -> Self {
        let most = settings.widget_messages_per_minute;
        Self {
            logins: Throttle::new(settings.login_attempts, LOGIN_WINDOW),
            visitors: Throttle::new(most, MINUTE),
            addresses: Throttle::new(most.saturating_mul(VISITORS_PER_ADDRESS), MINUTE),
            streams: Arc::new(Semaphore::new(settings.event_streams.clamp(1, Semaphore::MAX_PERMITS))),
            answering: Answering::default(),
            hashing: Semaphore::new(HASHES),
        }
    }

    /// A place for an event stream.
    ///
    /// # Errors
    /// 429 where all are taken.
    pub fn stream(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            let message = "too many event streams are open (desk.event_streams)";
            ApiError {
                retry_after_s: Some(10),
                ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", message)
            }
        })
    }
}

/// 429 with the time to wait.
pub fn too_often(wait: Duration) -> ApiError {
    let seconds = wait.as_secs().max(1);
    let message = format!("too many attempts; try again in {seconds} s");
    let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
    ApiError { retry_after_s: Some(seconds), ..error }
}

/// The client's address, for limits: an IPv6 client's is its /64.
pub struct ClientAddress(pub String);

impl FromRequestParts<AppState> for ClientAddress {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Self::Rejection> {
        let socket = parts.extensions.get::<ConnectInfo<std::net::SocketAddr>>().map(|info| info.0.ip());
        let forwarded = state.settings().desk.trust_forwarded_for.then(|| forwarded_for(&parts.headers)).flatten();
        Ok(Self(match forwarded.or(socket) {
            Some(std::net::IpAddr::V6(ip)) => format!("{:x?}", &ip.segments()[..4]),
            Some(ip) => ip.to_string(),
            None => "unknown".into(),
        }))
    }
}

/// The last address in the header: the one that our own proxy saw.
fn forwarded_for(headers: &HeaderMap) -> Option<std::net::IpAddr> {
    let value = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proxys_own_entry_counts() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "6.6.6.6, 10.0.0.7".parse().unwrap());
        assert_eq!(forwarded_for(&headers).unwrap().to_string(), "10.0.0.7");
        assert_eq!(forwarded_for(&HeaderMap::new()), None);
    }

    #[test]
    fn streams_without_number_are_refused() {
        let desk = DeskState::new(&DeskSettings { event_streams: 1, ..DeskSettings::default() });
        let first = desk.stream().unwrap();
        assert_eq!(desk.stream().unwrap_err().status, StatusCode::TOO_MANY_REQUESTS);
        drop(first);
        assert!(desk.stream().is_ok());
    }
}
