//! Sessions: actix-session's store over Postgres. The browser holds a random token, the table holds its hash, and a
//! session exists only for somebody who has signed in.

use actix_session::config::{CookieContentSecurity, PersistentSession};
use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::time::Duration;
use actix_web::cookie::{Key, SameSite};
use sha2::{Digest, Sha256, Sha512};

use super::Site;
use super::error::{Error, Result};
use crate::db::{self, Db, SessionHash};

/// The longest that a sign-in lasts; nothing extends it.
const LASTS: Duration = Duration::hours(12);

const USER: &str = "user";
const PRESENTED: &str = "presented";

type State = std::collections::HashMap<String, String>;

/// The layer that loads and keeps sessions.
pub(crate) fn middleware(site: &Site) -> SessionMiddleware<Store> {
    let secure = site.origin.is_https();
    // `__Host-`: only for this host, only over https, only for the whole of it (RFC 6265bis, section 4.1.3.2).
    let name = if secure { "__Host-signalbox" } else { "signalbox" };
    SessionMiddleware::builder(Store { db: site.db.clone() }, key(site))
        .cookie_name(name.to_owned())
        .cookie_secure(secure)
        .cookie_http_only(true)
        .cookie_same_site(SameSite::Strict)
        .cookie_content_security(CookieContentSecurity::Signed)
        .session_lifecycle(PersistentSession::default().session_ttl(LASTS))
        .build()
}

/// The layer insists on signing its cookie. That guards nothing here: the token is 256 random bits and only its hash
/// is stored, so a forged one is as good as a guess. A key that everybody could work out keeps sessions valid over
/// restarts and between several `serve`s, with no secret to hand around.
fn key(site: &Site) -> Key {
    Key::from(&Sha512::digest(format!("signalbox session cookie, {}", site.origin)))
}

/// The hash of the token that came with the request.
pub(crate) fn presented(session: &Session) -> Option<SessionHash> {
    session.get(PRESENTED).ok().flatten().map(SessionHash)
}

/// Begins a session for this user, under a new token; the one that came with the request ends.
pub(crate) fn begin(session: &Session, user_id: i64) -> Result<()> {
    session.renew();
    session.insert(USER, user_id).map_err(|error| Error::Internal(error.into()))
}

/// The sessions in Postgres.
pub(crate) struct Store {
    db: Db,
}

impl SessionStore for Store {
    async fn load(&self, key: &SessionKey) -> std::result::Result<Option<State>, LoadError> {
        // Nothing is looked up here. Whose session it is, if it is one at all, the guard asks by the one statement that
        // reads the user's row too.
        let presented = serde_json::to_string(&hash(key.as_ref()).0);
        let presented = presented.map_err(|error| LoadError::Other(error.into()))?;
        Ok(Some(State::from([(PRESENTED.to_owned(), presented)])))
    }

    async fn save(&self, state: State, ttl: &Duration) -> std::result::Result<SessionKey, SaveError> {
        let user = state.get(USER).and_then(|user| user.parse().ok());
        let user = user.ok_or_else(|| SaveError::Other(anyhow::anyhow!("a session of nobody")))?;
        let token = token().map_err(SaveError::Other)?;
        self.db.begin_session(&hash(&token), user, *ttl).await.map_err(|e| SaveError::Other(logged(e)))?;
        SessionKey::try_from(token).map_err(|error| SaveError::Other(error.into()))
    }

    async fn update(
        &self,
        _: SessionKey,
        _: State,
        _: &Duration,
    ) -> std::result::Result<SessionKey, UpdateError> {
        Err(UpdateError::Other(anyhow::anyhow!("a session begins and ends; nothing else happens to it")))
    }

    async fn update_ttl(&self, _: &SessionKey, _: &Duration) -> anyhow::Result<()> {
        anyhow::bail!("nothing extends a session")
    }

    async fn delete(&self, key: &SessionKey) -> anyhow::Result<()> {
        self.db.end_session(&hash(key.as_ref())).await.map_err(logged)
    }
}

fn hash(token: &str) -> SessionHash {
    SessionHash(Sha256::digest(token).into())
}

/// 256 random bits, in hexadecimal.
fn token() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The layer's own error says nothing of the cause, so it is noted here.
fn logged(error: db::Error) -> anyhow::Error {
    tracing::warn!(%error, "the session store failed");
    error.into()
}
