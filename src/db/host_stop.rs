//! What `signalbox stop-all` did on a worker's host, reported when Postgres can be reached again.

use super::{Db, Result, within};
use crate::model::run::RunId;

impl Db {
    /// Notes what a host stopped by itself, a row for each run (one in all when there was none), and drains its worker until
    /// somebody lets it take runs again. Reported twice under the same name of a note it is done once.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn report_stop_all(
        &self,
        worker: &str,
        note: &str,
        who: &str,
        words: &str,
        killed: &[(RunId, String)],
    ) -> Result<()> {
        let runs: Vec<i64> = killed.iter().map(|(run, _)| run.0).collect();
        let proofs: Vec<String> = killed.iter().map(|(_, proof)| proof.clone()).collect();
        within(
            sqlx::query!(
                r#"with noted as (
                       insert into audit (who, what, run_id, detail, once)
                       select $2::text || ' on worker ' || $1, 'stopped by stop-all', killed.run,
                              concat_ws(' ', $3::text, killed.proof),
                              concat_ws(' ', 'stop-all', $1::text, $6::text, killed.run, killed.n)
                       from (select * from unnest($4::bigint[], $5::text[]) with ordinality as killed (run, proof, n)
                             union all select null, null, null where cardinality($4::bigint[]) = 0) as killed
                       on conflict do nothing returning 1)
                   update workers set drained_at = coalesce(drained_at, now()),
                       drained_by = coalesce(drained_by, $2::text || ' on its host'),
                       drained_why = coalesce(drained_why, 'stop-all')
                   where name = $1 and exists (select from noted)"#,
                worker,
                who,
                words,
                &runs,
                &proofs,
                note
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }
}
