//! What gates have metered: written by the worker that holds the lease, read by the superuser.

use super::{Db, Lease, Result, Superuser, within};
use crate::model::metered::{Metered, Point};
use crate::model::run::RunId;

impl Db {
    /// Writes what a run's gate has metered so far, in place of what it had before, and notes how it grew. A run that has just ended may still have
    /// figures on their way.
    ///
    /// # Errors
    /// [`super::Error::Fenced`] when the lease is gone.
    pub async fn metered(&self, lease: &Lease, metered: &Metered) -> Result<()> {
        let tokens = &metered.tokens;
        let done = within(
            sqlx::query!(
                "with held as (
                     update runs set metered_at = now(), metered_calls = $4, metered_in = $5, metered_cache_write = $6,
                            metered_cache_write_1h = $7, metered_cache_read = $8, metered_out = $9, metered_usd = $10,
                            metered_partly = $11, metered_unpriced = $12
                     where id = $1 and worker = $2 and fence = $3 and state in ('starting', 'running', 'ended')
                     returning id, started_at),
                 noted as (
                     insert into spent (run_id, slot, at, usd, tokens_in, tokens_out)
                     select id, floor(2 * sqrt(greatest(extract(epoch from now() - started_at), 0))), now(), $10, $13, $9
                     from held where started_at is not null
                     on conflict (run_id, slot) do update
                         set at = excluded.at, usd = excluded.usd, tokens_in = excluded.tokens_in,
                             tokens_out = excluded.tokens_out)
                 select id from held",
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
                metered.unpriced,
                tokens.prompt()
            )
            .fetch_all(&self.pool),
        )
        .await?;
        self.held(lease, done.len() as u64).await
    }

    /// How what a run had taken grew, oldest first: at most some hundreds of points.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn spent(&self, _by: &Superuser, run: RunId) -> Result<Vec<Point>> {
        within(
            sqlx::query_as!(
                Point,
                "select at, usd, tokens_in, tokens_out from spent where run_id = $1 order by slot limit 2000",
                run.0
            )
            .fetch_all(&self.pool),
        )
        .await
    }
}
