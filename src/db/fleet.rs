//! What stands for the whole fleet until somebody takes it back: the held queue, closed gates, drained workers.

use time::OffsetDateTime;

use super::{Db, Error, Result, Superuser, within};
use crate::model::stop::StopId;

/// Something that stands: by whom, since when, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Who.
    pub by: String,
    /// Since when.
    pub at: OffsetDateTime,
    /// Why, in their words; may be empty.
    pub why: String,
}

/// What stands for the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The queue is held: nothing is claimed.
    pub held: Option<Signed>,
    /// The red handle is pulled: every gate is closed.
    pub gates_closed: Option<Signed>,
    /// The stop of the red handle, until it has been left.
    pub handle: Option<StopId>,
    /// The hold stood before the red handle was pulled, and stays when it is left.
    pub hold_stood: bool,
    /// Workers that take nothing, be they alive or not.
    pub drained: i32,
    /// Workers that are alive, and take runs.
    pub willing: i32,
}

fn signed(at: Option<OffsetDateTime>, by: Option<String>, why: Option<String>) -> Option<Signed> {
    Some(Signed { at: at?, by: by?, why: why.unwrap_or_default() })
}

impl Db {
    /// What stands.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn standing(&self, _by: &Superuser) -> Result<Standing> {
        let row = within(
            sqlx::query!(
                r#"select f.held_at, f.held_by, f.held_why, f.gates_closed_at, f.gates_closed_by, f.handle,
                          f.hold_stood, s.reason as "reason?", w.drained as "drained!", w.willing as "willing!"
                   from fleet f left join stops s on s.id = f.handle,
                        (select count(drained_at)::int as drained,
                                (count(*) filter (where drained_at is null
                                                    and heard_at > now() - interval '15 s'))::int as willing
                         from workers) w"#
            )
            .fetch_one(&self.pool),
        )
        .await?;
        Ok(Standing {
            held: signed(row.held_at, row.held_by, row.held_why),
            gates_closed: signed(row.gates_closed_at, row.gates_closed_by, row.reason),
            handle: row.handle.map(StopId),
            hold_stood: row.hold_stood,
            drained: row.drained,
            willing: row.willing,
        })
    }

    /// Holds the queue: from here on nothing is claimed. False when it was held already; then nothing changes.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn hold(&self, by: &Superuser, why: &str, address: Option<&str>) -> Result<bool> {
        let held = sqlx::query!(
            "with held as (
                 update fleet set held_at = now(), held_by = $1, held_why = $2 where held_at is null returning one)
             insert into audit (who, what, detail, address) select $1, 'queue held', $2, $3 from held",
            by.name(),
            why,
            address
        );
        let fresh = within(held.execute(&self.pool)).await?.rows_affected() == 1;
        if !fresh {
            self.note_idle(by, "queue held already", why, address).await?;
        }
        Ok(fresh)
    }

    /// Releases the queue; the last step of leaving the red handle too, which leaves a hold that stood before it was pulled.
    /// False when it wasn't held.
    ///
    /// # Errors
    /// [`Error::Conflict`] while gates are closed.
    pub async fn release_queue(&self, by: &Superuser, address: Option<&str>) -> Result<bool> {
        let released = within(
            sqlx::query!(
                "with before as (select handle, hold_stood and handle is not null as stays, held_by from fleet
                                 where held_at is not null and gates_closed_at is null for update),
                 released as (
                     update fleet f set held_at = case when stays then f.held_at end,
                            held_by = case when stays then f.held_by end,
                            held_why = case when stays then f.held_why end, handle = null, hold_stood = false
                     from before returning before.*),
                 left_behind as (
                     update stops set released_at = now(), released_by = $1, hold_kept = stays
                     from released where stops.id = released.handle)
                 insert into audit (who, what, detail, address)
                 select $1, case when stays then 'red handle left' else 'queue released' end,
                        case when stays then 'stop ' || handle || '; the queue stays held by ' || held_by
                             else coalesce('red handle left: stop ' || handle, '') end, $2
                 from released",
                by.name(),
                address
            )
            .execute(&self.pool),
        )
        .await?;
        if released.rows_affected() == 1 {
            return Ok(true);
        }
        if self.standing(by).await?.gates_closed.is_none() {
            self.note_idle(by, "queue not held", "", address).await?;
            return Ok(false);
        }
        let why = "The red handle is pulled. Open the gates again first.".to_owned();
        self.note_idle(by, "queue not released", &why, address).await?;
        Err(Error::Conflict(why))
    }

    /// A worker takes nothing any more, or takes runs again. False when it is so already.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such worker.
    pub async fn drain(
        &self,
        by: &Superuser,
        worker: &str,
        drained: bool,
        why: &str,
        address: Option<&str>,
    ) -> Result<bool> {
        let done = within(
            sqlx::query!(
                "with changed as (
                     update workers set drained_at = case when $2 then now() end,
                            drained_by = case when $2 then $3 end, drained_why = case when $2 then $4 end
                     where name = $1 and (drained_at is null) = $2 returning name)
                 insert into audit (who, what, detail, address)
                 select $3, case when $2 then 'worker drained' else 'worker takes runs again' end,
                        name || case $4 when '' then '' else ': ' || $4 end, $5
                 from changed",
                worker,
                drained,
                by.name(),
                why,
                address
            )
            .execute(&self.pool),
        )
        .await?;
        if done.rows_affected() == 0 {
            within(sqlx::query!("select name from workers where name = $1", worker).fetch_one(&self.pool))
                .await?;
            let what = if drained { "worker drained already" } else { "worker takes runs already" };
            self.note_idle(by, what, worker, address).await?;
        }
        Ok(done.rows_affected() == 1)
    }
}
