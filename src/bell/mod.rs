//! Ringing: a push or a call over HTTP, sealed or signed, within a deadline, and to nobody in a private network.

mod hook;
mod key;
mod reach;
mod seal;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use secrecy::ExposeSecret;
use time::OffsetDateTime;
use url::Url;

use crate::model::bell::{BellKind, Ring, RingKind, Target};

pub use key::{Key, NotAKey};
pub use reach::{Reach, Unreachable};

/// How long a bell's host may take to accept a connection, and until its answer is there.
const CONNECT_DEADLINE: Duration = Duration::from_secs(4);
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a push service keeps what it can't deliver, in seconds: a night and a day.
const KEPT_S: &str = "129600";

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rung {
    /// The other side took it.
    Taken,
    /// There is no such subscription any more (RFC 8030, section 7.3).
    Gone,
    /// It wasn't taken; why, in words without the address.
    Failed(String),
}

/// Rings bells; cheap to clone.
#[derive(Clone)]
pub struct Ringer {
    reach: Reach,
    /// The console's own address.
    home: Arc<str>,
    /// Made when something is first rung: where nobody has a bell, nothing is read and nothing is kept.
    client: Arc<OnceLock<Client>>,
    key: Arc<OnceLock<Key>>,
}

impl Ringer {
    /// For a console at this origin, with its key if it has been given one.
    pub fn new(home: &str, reach: Reach, key: Option<Key>) -> Self {
        let key = Arc::new(key.map_or_else(OnceLock::new, OnceLock::from));
        Self { reach, home: format!("{home}/").into(), client: Arc::default(), key }
    }

    /// The key, once it is known.
    pub fn key(&self) -> Option<&Key> {
        self.key.get()
    }

    /// Takes this key, unless there is one; gives the one that counts.
    pub fn take_key(&self, key: Key) -> &Key {
        self.key.get_or_init(|| key)
    }

    fn client(&self) -> reqwest::Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // An error means that someone installed one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .user_agent("Signalbox")
            .dns_resolver(Arc::new(self.reach))
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(DEADLINE)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Which addresses may be rung.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// Tries once.
    pub async fn ring(&self, key: &Key, target: &Target, ring: &Ring, now: OffsetDateTime) -> Rung {
        let asked = match self.request(key, target, ring, now) {
            Ok(asked) => asked,
            Err(why) => return Rung::Failed(why),
        };
        match asked.send().await {
            Ok(answer) if answer.status().is_success() => Rung::Taken,
            Ok(answer)
                if target.kind == BellKind::Device && [404, 410].contains(&answer.status().as_u16()) =>
            {
                Rung::Gone
            }
            Ok(answer) => Rung::Failed(format!("It answered {}.", answer.status().as_u16())),
            Err(error) => Rung::Failed(why(&error)),
        }
    }

    fn request(
        &self,
        key: &Key,
        target: &Target,
        ring: &Ring,
        now: OffsetDateTime,
    ) -> Result<RequestBuilder, String> {
        let url = self.reach.address(target.url.expose_secret()).map_err(|error| error.to_string())?;
        let secret = target.secret.as_ref().map(ExposeSecret::expose_secret);
        let client = self.client().map_err(|_| "This machine’s certificates can’t be read.".to_owned())?;
        let asked = client.post(url.clone());
        Ok(match target.kind {
            BellKind::Device => return self.push(asked, &url, key, target, ring, now),
            BellKind::Webhook => {
                let body = hook::body(ring, &self.home);
                let signed = hook::sign(secret.unwrap_or_default(), ring.id, now.unix_timestamp(), &body);
                signed
                    .into_iter()
                    .fold(asked, |asked, (name, value)| asked.header(name, value))
                    .header(CONTENT_TYPE, "application/json")
                    .body(body)
            }
            BellKind::Ntfy => {
                let asked = asked
                    .header("title", "Signalbox")
                    .header("click", &*self.home)
                    .header(CONTENT_TYPE, "text/plain; charset=utf-8")
                    .body(ring.told.text(ring.kind));
                match secret {
                    Some(token) => asked.header(AUTHORIZATION, hidden("Bearer", token)?),
                    None => asked,
                }
            }
            BellKind::Slack => {
                asked.header(CONTENT_TYPE, "application/json").body(hook::slack(ring, &self.home))
            }
        })
    }

    fn push(
        &self,
        asked: RequestBuilder,
        url: &Url,
        key: &Key,
        target: &Target,
        ring: &Ring,
        now: OffsetDateTime,
    ) -> Result<RequestBuilder, String> {
        let keys = target.keys.as_ref().ok_or("It has no keys.")?;
        let sealed =
            seal::seal(keys, hook::push(ring).as_bytes()).map_err(|_| "Its keys are no keys.".to_owned())?;
        // Push services want to know whom to write to; a console on loopback has no address that they could.
        let contact =
            if self.home.starts_with("https:") { &*self.home } else { "mailto:signalbox@localhost.invalid" };
        let token = key.token(&url.origin().ascii_serialization(), contact, now)?;
        let asked = asked
            .header(AUTHORIZATION, hidden("vapid", &format!("t={token}, k={}", key.public()))?)
            .header("content-encoding", "aes128gcm")
            .header("ttl", KEPT_S)
            .header("urgency", if ring.kind == RingKind::Canary { "normal" } else { "high" });
        // A canary takes the place of one that waits.
        let asked = if ring.kind == RingKind::Canary { asked.header("topic", "canary") } else { asked };
        Ok(asked.body(sealed))
    }
}

impl std::fmt::Debug for Ringer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ringer").field("reach", &self.reach).finish_non_exhaustive()
    }
}

/// A header that no log shows.
fn hidden(scheme: &str, secret: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::from_str(&format!("{scheme} {secret}"));
    let mut value = value.map_err(|_| "Its secret can't be sent in a header.".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why a call failed, without the address.
fn why(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Unreachable>() {
            return refused.to_string();
        }
        cause = inner.source();
    }
    match error {
        error if error.is_timeout() => format!("No answer within {} s.", DEADLINE.as_secs()),
        error if error.is_connect() => "It can’t be reached.".to_owned(),
        _ => "The connection broke.".to_owned(),
    }
}

/// Base64url without padding, as everything of web push is written.
fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Bytes from base64url, as browsers write a subscription's keys.
pub fn from_base64url<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?.try_into().ok()
}
