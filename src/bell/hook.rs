//! What is sent, as each kind of bell takes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use crate::model::bell::Ring;

/// What the service worker shows, and where it says that it came: no public file names a page behind the guard.
pub(super) fn push(ring: &Ring) -> String {
    json!({
        "ring": ring.id,
        "kind": ring.kind.word(),
        "text": ring.told.text(ring.kind),
        "opens": "/",
        "arrived": "/account/bells/arrived",
    })
    .to_string()
}

/// What a webhook gets.
pub(super) fn body(ring: &Ring, home: &str) -> String {
    json!({
        "type": format!("signalbox.{}", ring.kind),
        "timestamp": ring.at.format(&Rfc3339).unwrap_or_default(),
        "data": {
            "text": ring.told.text(ring.kind),
            "needs": ring.told.needs,
            "done": ring.told.done,
            "workers": ring.told.workers,
            "handle": ring.told.handle,
            "url": home,
        },
    })
    .to_string()
}

/// What Slack gets (its "incoming webhooks").
pub(super) fn slack(ring: &Ring, home: &str) -> String {
    json!({ "text": format!("<{home}|Signalbox>: {}", ring.told.text(ring.kind)) }).to_string()
}

/// The headers that prove where a webhook's call comes from, and when it was sent: Standard Webhooks 1.0.0, symmetric.
pub(super) fn sign(secret: &str, id: i64, at: i64, body: &str) -> [(&'static str, String); 3] {
    let id = format!("ring_{id}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes(secret));
    let signature = hmac::sign(&key, format!("{id}.{at}.{body}").as_bytes());
    [
        ("webhook-id", id),
        ("webhook-timestamp", at.to_string()),
        ("webhook-signature", format!("v1,{}", STANDARD.encode(signature))),
    ]
}

/// The key that a secret is: `whsec_` and base64 as the standard writes it, or else what was typed.
fn bytes(secret: &str) -> Vec<u8> {
    let written = secret.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    written.unwrap_or_else(|| secret.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_signed_as_the_standard_says() {
        // The example of the reference libraries' own tests.
        let body = r#"{"test": 2432232314}"#;
        let signed = |secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes(secret));
            let text = format!("msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{body}");
            STANDARD.encode(hmac::sign(&key, text.as_bytes()))
        };
        assert_eq!(
            signed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(bytes("whsec_?"), b"whsec_?");
        let [id, at, signature] = sign("a secret", 7, 12, "{}");
        assert_eq!((id.1.as_str(), at.1.as_str()), ("ring_7", "12"));
        assert!(signature.1.starts_with("v1,"));
    }
}
