//! What `signalbox stop-all` did on a worker's host, reported when Postgres can be reached again.

use super::{Db, Result, within};
use crate::model::run::RunId;

impl Db {
    /// Notes what a host stopped by itself, a row for each run (one in all when there was none), and drains its worker until
    /// somebody lets it take runs again.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn report_stop_all(
        &self,
        worker: &str,
        who: &str,
        words: &str,
        killed: &[(RunId, String)],
    ) -> Result<()> {
        let runs: Vec<i64> = killed.iter().map(|(run, _)| run.0).collect();
        let proofs: Vec<String> = killed.iter().map(|(_, proof)| proof.clone()).collect();
        within(
            sqlx::query!(
                r#"with drained as (
                       update workers set drained_at = coalesce(drained_at, now()),
                           drained_by = coalesce(drained_by, $2::text || ' on its host'),
                           drained_why = coalesce(drained_why, 'stop-all')
                       where name = $1)
                   insert into audit (who, what, run_id, detail)
                   select $2::text || ' on worker ' || $1, 'stopped by stop-all', killed.run, concat_ws(' ', $3::text, killed.proof)
                   from (select * from unnest($4::bigint[], $5::text[]) as killed (run, proof)
                         union all select null, null where cardinality($4::bigint[]) = 0) as killed"#,
                worker,
                who,
                words,
                &runs,
                &proofs
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }
}
