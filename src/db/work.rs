//! Work that a stop would lose: written by the worker that holds the lease, read by the superuser.

use super::{Db, Lease, Result, Superuser, within};
use crate::model::run::RunId;
use crate::model::work::{Patch, WorkSeen};

/// How many characters of trouble are kept.
const TROUBLE_MAX: usize = 1000;

impl Db {
    /// What was seen of a run's workspace just now.
    ///
    /// # Errors
    /// [`super::Error::Fenced`] when the lease is gone.
    pub async fn work_seen(
        &self,
        lease: &Lease,
        files: Option<i64>,
        unpushed: Option<i64>,
        trouble: Option<&str>,
    ) -> Result<()> {
        let done = within(
            sqlx::query!(
                "update runs set work_seen_at = now(), work_files = $4, work_unpushed = $5, work_trouble = left($6, 1000)
                 where id = $1 and worker = $2 and fence = $3 and state in ('starting', 'running')",
                lease.run().0,
                lease.worker(),
                lease.fence(),
                files,
                unpushed,
                trouble
            )
            .execute(&self.pool),
        )
        .await?;
        self.held(lease, done.rows_affected()).await
    }

    /// Keeps a patch of the workspace with the run; once, the first one stays. A run that has just ended may still have
    /// its patch on the way.
    ///
    /// # Errors
    /// [`super::Error::Fenced`] when the lease is gone.
    pub async fn save_work(&self, lease: &Lease, patch: &Patch) -> Result<()> {
        let trouble = patch.trouble.join(" ");
        let trouble: String = trouble.chars().take(TROUBLE_MAX).collect();
        let done = within(
            sqlx::query!(
                "with held as (
                     update runs set work_saved_at = now()
                     where id = $1 and worker = $2 and fence = $3 and state in ('starting', 'running', 'ended')
                       and work_saved_at is null
                     returning id)
                 insert into saved_work (run_id, patch, files, unpushed, trouble)
                 select id, $4, $5, $6, nullif($7, '') from held",
                lease.run().0,
                lease.worker(),
                lease.fence(),
                patch.bytes,
                patch.files,
                patch.unpushed,
                trouble
            )
            .execute(&self.pool),
        )
        .await?;
        if done.rows_affected() == 1 {
            return Ok(());
        }
        let met = within(
            sqlx::query!(
                "select 1 as one from runs where id = $1 and worker = $2 and fence = $3 and work_saved_at is not null",
                lease.run().0,
                lease.worker(),
                lease.fence()
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        self.held(lease, u64::from(met.is_some())).await
    }

    /// What was last seen of a run's workspace, if anything ever was.
    ///
    /// # Errors
    /// [`super::Error::NotFound`] when there is no such run.
    pub async fn seen_work(&self, _by: &Superuser, run: RunId) -> Result<Option<WorkSeen>> {
        let row = within(
            sqlx::query!(
                "select work_seen_at, work_files, work_unpushed, work_trouble from runs where id = $1",
                run.0
            )
            .fetch_one(&self.pool),
        )
        .await?;
        let seen = |at| WorkSeen {
            at,
            files: row.work_files,
            unpushed: row.work_unpushed,
            trouble: row.work_trouble,
        };
        Ok(row.work_seen_at.map(seen))
    }

    /// The patch that was kept with a run.
    ///
    /// # Errors
    /// [`super::Error::NotFound`] when none was.
    pub async fn saved_patch(&self, _by: &Superuser, run: RunId) -> Result<Vec<u8>> {
        let row = within(
            sqlx::query!("select patch from saved_work where run_id = $1 and bytes > 0", run.0)
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(row.patch)
    }
}
