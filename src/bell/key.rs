//! The key by which push services know this installation (VAPID, RFC 8292).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;
use time::OffsetDateTime;

use super::base64url;

/// How long a token is good for, in seconds; 24 h is the most (RFC 8292, section 2).
const GOOD_FOR_S: i64 = 12 * 3600;

/// A text or bytes that hold no such key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "isn't a P-256 key in PKCS#8; `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes one"
)]
pub struct NotAKey;

/// The key; cheap to clone.
#[derive(Clone)]
pub struct Key(Arc<EcdsaKeyPair>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.public()).finish()
    }
}

impl Key {
    /// From PKCS#8, as PEM or in base64.
    ///
    /// # Errors
    /// [`NotAKey`].
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let lines = text.lines().filter(|line| !line.starts_with("-----"));
        let der = STANDARD.decode(lines.flat_map(str::split_whitespace).collect::<String>());
        Self::from_pkcs8(&der.map_err(|_| NotAKey)?)
    }

    /// From PKCS#8.
    ///
    /// # Errors
    /// [`NotAKey`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, NotAKey> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
        pair.map(|pair| Self(Arc::new(pair))).map_err(|_| NotAKey)
    }

    /// A new one, as PKCS#8, to be kept.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn make() -> anyhow::Result<Vec<u8>> {
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Ok(made.map_err(|_| anyhow::anyhow!("no randomness"))?.as_ref().to_vec())
    }

    /// Its public half, as browsers take it.
    pub fn public(&self) -> String {
        base64url(self.0.public_key().as_ref())
    }

    /// A token that shows a push service who calls.
    pub(super) fn token(&self, service: &str, contact: &str, now: OffsetDateTime) -> Result<String, String> {
        let claims = json!({ "aud": service, "exp": now.unix_timestamp() + GOOD_FOR_S, "sub": contact });
        let head = base64url(br#"{"typ":"JWT","alg":"ES256"}"#);
        let signed = format!("{head}.{}", base64url(claims.to_string().as_bytes()));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| "It couldn’t be signed.".to_owned())?;
        Ok(format!("{signed}.{}", base64url(signature.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`, for nothing but this test.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQghZIuUQRuZijErn8q
M77GmJAYnCd+otqV5H2OuDxtLyihRANCAARCFBQOheKcX+kgdHqtnAA5drJDCb8x
JEkNzHWGptbIT9dabl0CnsYOaujQ8zTG8gCVhGpXOscuA9rodso03pcY
-----END PRIVATE KEY-----
";

    #[test]
    fn a_key_is_read_as_openssl_writes_it_and_nothing_else_is_one() {
        let key = Key::parse(PEM).unwrap();
        let bare: String = PEM.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(Key::parse(&bare).unwrap().public(), key.public());
        assert_eq!(super::super::from_base64url::<65>(&key.public()).map(|point| point[0]), Some(4));
        for wrong in ["", "x", "AAAA", &PEM[..90], &bare[..bare.len() - 8]] {
            assert_eq!(Key::parse(wrong).err(), Some(NotAKey), "{wrong}");
        }
        assert!(!format!("{key:?}").contains(&bare[40..60]));
    }

    #[test]
    fn a_new_key_is_another_one_each_time() {
        let key = || Key::from_pkcs8(&Key::make().unwrap()).unwrap().public();
        assert_ne!(key(), key());
    }
}
