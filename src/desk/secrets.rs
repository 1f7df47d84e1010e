//! Passwords and random secrets.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Shortest password, in characters.
pub const SHORTEST_PASSWORD: usize = 10;
/// Longest, in bytes: hashing has a price.
pub const LONGEST_PASSWORD: usize = 256;

/// 256 random bits, in 43 letters that fit into a URL and a cookie.
pub fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What is kept of a token: its SHA-256, in hex. (A random token needs no slow hash.)
pub fn token_hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a password is refused.
pub fn password_fault(password: &str) -> Option<String> {
    let chars = password.chars().count();
    if chars < SHORTEST_PASSWORD {
        return Some(format!("the password has {chars} characters; it needs {SHORTEST_PASSWORD} or more"));
    }
    (password.len() > LONGEST_PASSWORD).then(|| format!("the password is longer than {LONGEST_PASSWORD} bytes"))
}

/// Argon2id with the crate's parameters (19 MiB, 2 passes), as a PHC string. Blocking: tens of milliseconds.
///
/// # Errors
/// What the hash function refuses; a checked password is not.
pub fn password_hash(password: &str) -> Result<String, String> {
    let salt = SaltString::encode_b64(&rand::random::<[u8; 16]>()).map_err(|e| e.to_string())?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(|e| e.to_string())?;
    Ok(hash.to_string())
}

/// True where the password fits the hash. `None` as hash: somebody who does not exist, checked for as long as anybody,
/// so that the time does not tell who exists. Blocking.
pub fn password_fits(password: &str, hash: Option<&str>) -> bool {
    static NOBODY: LazyLock<String> = LazyLock::new(|| password_hash(&random_token()).unwrap_or_default());
    let Ok(parsed) = PasswordHash::new(hash.unwrap_or(&NOBODY)) else { return false };
    password.len() <= LONGEST_PASSWORD
        && Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok()
        && hash.is_some()
}

/// Compares in a time that depends on the lengths only.
pub fn same(a: &str, b: &str) -> bool {
    let differ = a.bytes().zip(b.bytes()).fold(0u8, |differ, (x, y)| differ | (x ^ y));
    std::hint::black_box(differ) == 0 && a.len() == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_hash_only() {
        let hash = password_hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(password_fits("correct horse", Some(&hash)));
        assert!(!password_fits("correct horsf", Some(&hash)));
        assert!(!password_fits("correct horse", None));
        assert_ne!(hash, password_hash("correct horse").unwrap());
    }

    #[test]
    fn short_and_huge_passwords_are_refused_with_the_reason() {
        assert!(password_fault("короткий").unwrap().contains('8'));
        assert!(password_fault(&"x".repeat(1000)).is_some());
        assert_eq!(password_fault("long enough"), None);
    }

    #[test]
    fn tokens_are_random_and_compare_whole() {
        let (a, b) = (random_token(), random_token());
        assert_eq!(a.len(), 43);
        assert_ne!(a, b);
        assert!(same(&a, &a) && !same(&a, &b) && !same(&a, &a[..42]) && !same("", "x"));
        assert_eq!(token_hash("a"), token_hash("a"));
    }
}
