//! Webhooks after the Standard Webhooks specification (<https://www.standardwebhooks.com>): what is signed, how, and when
//! a failed delivery is tried again.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a secret begins with; base64 follows.
const PREFIX: &str = "whsec_";

/// A signing key.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Reads `whsec_BASE64`.
    ///
    /// # Errors
    /// Says how to make one; the refused value is not repeated.
    pub fn read(text: &str) -> Result<Self, String> {
        let bytes = text.strip_prefix(PREFIX).and_then(|rest| STANDARD.decode(rest.trim()).ok());
        let long_enough = bytes.filter(|bytes| (24..=64).contains(&bytes.len()));
        long_enough.map(Self).ok_or_else(|| {
            "the secret is not `whsec_` and 24 to 64 bytes in base64; make one with: \
             echo \"whsec_$(openssl rand -base64 32)\""
                .into()
        })
    }

    /// The header `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`. Timestamp in seconds.
    pub fn signature(&self, id: &str, timestamp_s: i64, body: &str) -> String {
        // A key of any length is taken.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{timestamp_s}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// How long after the failed attempt number `attempt` (from 1) the next one follows; `None`: given up. The
/// specification's schedule: from seconds to a day and a half in all. `jitter`: 0..1, spreads by a tenth.
pub fn pause_after(attempt: u32, jitter: f64) -> Option<Duration> {
    const SECONDS: [u64; 9] = [5, 30, 120, 300, 1800, 7200, 18_000, 36_000, 50_400];
    let pause = *SECONDS.get(usize::try_from(attempt).ok()?.checked_sub(1)?)?;
    Some(Duration::from_secs_f64(pause as f64 * (1.0 + 0.1 * jitter.clamp(0.0, 1.0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specifications_libraries() {
        // The example in the test-suites of the official libraries.
        let secret = Secret::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = secret.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_bad_secret_says_how_to_make_a_good_one_and_is_not_repeated() {
        let error = Secret::read("hunter2").unwrap_err();
        assert!(error.contains("openssl") && !error.contains("hunter2"));
        assert!(!format!("{:?}", Secret::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()).contains("MfKQ"));
    }

    #[test]
    fn pauses_grow_and_end() {
        let pauses: Vec<_> = (1..).map_while(|n| pause_after(n, 0.0)).collect();
        assert_eq!(pauses[0], Duration::from_secs(5));
        assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(pauses.len(), 9);
        assert!(pause_after(1, 1.0).unwrap() > pauses[0]);
    }
}
