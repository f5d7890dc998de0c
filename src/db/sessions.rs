//! Sessions, stored as hashes: whoever reads this table can't sign in with it.

use time::Duration;

use super::{Db, Result, Superuser, within};

/// SHA-256 of a session's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionHash(pub [u8; 32]);

impl Db {
    /// Begins a session that lasts `ttl` at most; sweeps out those that have run out.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn begin_session(&self, hash: &SessionHash, user_id: i64, ttl: Duration) -> Result<()> {
        within(
            sqlx::query!(
                "with swept as (delete from sessions where expires_at < now())
                 insert into sessions (token_hash, user_id, expires_at)
                 values ($1, $2, now() + make_interval(secs => $3))",
                &hash.0[..],
                user_id,
                ttl.as_seconds_f64()
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Ends a session; ending one that is gone is fine.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn end_session(&self, hash: &SessionHash) -> Result<()> {
        within(sqlx::query!("delete from sessions where token_hash = $1", &hash.0[..]).execute(&self.pool))
            .await
            .map(drop)
    }

    /// Ends every session of one's own.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn end_sessions(&self, by: &Superuser, address: Option<&str>) -> Result<()> {
        within(
            sqlx::query!(
                "with gone as (delete from sessions where user_id = $1)
                 insert into audit (who, what, address) values ($2, 'signed out everywhere', $3)",
                by.id(),
                by.name(),
                address
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }
}
