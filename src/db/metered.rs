//! What gates have metered: written by the worker that holds the lease.

use super::{Db, Lease, Result, within};
use crate::model::metered::Metered;

impl Db {
    /// Writes what a run's gate has metered so far, in place of what it had before. A run that has just ended may still have
    /// figures on their way.
    ///
    /// # Errors
    /// [`super::Error::Fenced`] when the lease is gone.
    pub async fn metered(&self, lease: &Lease, metered: &Metered) -> Result<()> {
        let tokens = &metered.tokens;
        let done = within(
            sqlx::query!(
                "update runs set metered_at = now(), metered_calls = $4, metered_in = $5, metered_cache_write = $6,
                        metered_cache_write_1h = $7, metered_cache_read = $8, metered_out = $9, metered_usd = $10,
                        metered_partly = $11, metered_unpriced = $12
                 where id = $1 and worker = $2 and fence = $3 and state in ('starting', 'running', 'ended')",
                lease.run().0,
                lease.worker(),
                lease.fence(),
                metered.calls,
                tokens.input,
                tokens.cache_write,
                tokens.cache_write_1h,
                tokens.cache_read,
                tokens.output,
                metered.usd,
                metered.partly,
                metered.unpriced
            )
            .execute(&self.pool),
        )
        .await?;
        self.held(lease, done.rows_affected()).await
    }
}
