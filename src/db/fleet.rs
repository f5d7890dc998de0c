//! What stands for the whole fleet until somebody takes it back: the held queue, closed gates, drained workers.

use time::OffsetDateTime;

use super::stops::{self, Begun, Click, New};
use super::{Db, Error, Result, Superuser, within};
use crate::model::run::StopMode;
use crate::model::stop::{Reach, StopId, StopKind};

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
    /// Workers that are alive, and take nothing.
    pub drained: i32,
    /// Workers that are alive.
    pub alive: i32,
}

/// A worker, and whether it has closed its gates.
#[derive(Debug, Clone, PartialEq)]
pub struct Keeper {
    /// The worker.
    pub worker: String,
    /// When it had closed the last of them.
    pub closed_at: Option<OffsetDateTime>,
    /// Seconds since it was last heard of.
    pub silent_s: f64,
    /// How many runs it holds.
    pub holds: i64,
}

/// The order to close every gate, as a worker reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatesClosed {
    /// When it was given.
    pub at: OffsetDateTime,
    /// Whether this worker has said that it is done.
    pub answered: bool,
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
                          s.reason as "reason?", w.drained as "drained!", w.alive as "alive!"
                   from fleet f left join stops s on s.id = f.handle,
                        (select count(*)::int as alive, count(drained_at)::int as drained
                         from workers where heard_at > now() - interval '15 s') w"#
            )
            .fetch_one(&self.pool),
        )
        .await?;
        Ok(Standing {
            held: signed(row.held_at, row.held_by, row.held_why),
            gates_closed: signed(row.gates_closed_at, row.gates_closed_by, row.reason),
            handle: row.handle.map(StopId),
            drained: row.drained,
            alive: row.alive,
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
        Ok(within(held.execute(&self.pool)).await?.rows_affected() == 1)
    }

    /// Releases the queue; the last step of leaving the red handle too. False when it wasn't held.
    ///
    /// # Errors
    /// [`Error::Conflict`] while gates are closed.
    pub async fn release_queue(&self, by: &Superuser, address: Option<&str>) -> Result<bool> {
        let released = within(
            sqlx::query!(
                "with before as (select handle from fleet where held_at is not null and gates_closed_at is null
                                 for update),
                 released as (
                     update fleet set held_at = null, held_by = null, held_why = null, handle = null
                     from before where true returning before.handle),
                 left_behind as (
                     update stops set released_at = now(), released_by = $1
                     from released where stops.id = released.handle)
                 insert into audit (who, what, detail, address)
                 select $1, 'queue released', coalesce('red handle left: stop ' || handle, ''), $2 from released",
                by.name(),
                address
            )
            .execute(&self.pool),
        )
        .await?;
        if released.rows_affected() == 1 {
            return Ok(true);
        }
        match self.standing(by).await?.gates_closed {
            Some(_) => {
                Err(Error::Conflict("The red handle is pulled. Open the gates again first.".to_owned()))
            }
            None => Ok(false),
        }
    }

    /// Pulls the red handle: holds the queue, closes every gate and stops every run by force, in one transaction.
    /// While it is pulled it gives the stop that is under way.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn pull_handle(&self, by: &Superuser, click: &Click<'_>) -> Result<Begun> {
        let click = Click { mode: StopMode::Force, ..*click };
        let new = New {
            kind: StopKind::Everything,
            filter: None,
            reach: Reach::ALL,
            selected: &[],
            upto: i64::MAX,
        };
        let (stop, fresh, told) = within(async {
            let mut tx = self.pool.begin().await?;
            stops::lock_fleet(&mut tx).await?;
            let pulled = sqlx::query_scalar!(
                r#"select coalesce((select handle from fleet where gates_closed_at is not null),
                                   (select id from stops where once = $1)) as id"#,
                click.once
            );
            if let Some(stop) = pulled.fetch_one(&mut *tx).await? {
                return Ok((stop, false, Vec::new()));
            }
            let stop = stops::begin(&mut tx, by, &new, &click).await?.ok_or(sqlx::Error::RowNotFound)?;
            sqlx::query!(
                "update fleet set gates_closed_at = now(), gates_closed_by = $1, handle = $2,
                        held_at = coalesce(held_at, now()), held_by = coalesce(held_by, $1),
                        held_why = coalesce(held_why, $3)",
                by.name(),
                stop,
                click.reason
            )
            .execute(&mut *tx)
            .await?;
            let told = stops::first_batch(&mut tx, stop, &new).await?;
            tx.commit().await?;
            Ok((stop, true, told))
        })
        .await?;
        Ok(Begun { stop: StopId(stop), fresh, tell: stops::tells(told)? })
    }

    /// Lets gates open again: the first step of leaving the red handle. `although` is how many unproven runs the person
    /// has accepted; more than that are a reason to refuse.
    ///
    /// # Errors
    /// [`Error::Conflict`] when more runs are unproven, or no gate is closed.
    pub async fn open_gates(&self, by: &Superuser, although: i64, address: Option<&str>) -> Result<()> {
        let (unproven, opened) = within(async {
            let mut tx = self.pool.begin().await?;
            stops::lock_fleet(&mut tx).await?;
            let unproven: Vec<i64> = sqlx::query_scalar!(
                r#"select r.id from runs r, fleet f join stops s on s.id = f.handle
                   where r.id <= s.upto and r.state in ('queued', 'starting', 'running', 'lost')
                   order by (r.state = 'queued'), r.id limit 100001"#
            )
            .fetch_all(&mut *tx)
            .await?;
            if unproven.len() as i64 > although {
                return Ok((unproven, false));
            }
            let named = unproven.iter().take(100).map(i64::to_string).collect::<Vec<_>>().join(", ");
            let opened = sqlx::query!(
                "with before as (select handle from fleet where gates_closed_at is not null),
                 opened as (
                     update fleet set gates_closed_at = null, gates_closed_by = null
                     from before where true returning before.handle),
                 left_behind as (
                     update stops set gates_opened_at = now(), gates_opened_by = $1
                     from opened where stops.id = opened.handle)
                 insert into audit (who, what, detail, address)
                 select $1, 'gates opened', 'stop ' || handle
                        || case $2::bigint when 0 then '' else ', although unproven: runs ' || $3 end, $4
                 from opened",
                by.name(),
                unproven.len() as i64,
                named,
                address
            )
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok((unproven, opened.rows_affected() == 1))
        })
        .await?;
        match (opened, unproven.len()) {
            (true, _) => Ok(()),
            (false, n) if n as i64 > although => Err(Error::Conflict(match n {
                1 => "One run isn’t proven over. Gates stay closed unless you say that you leave although it is unproven."
                    .to_owned(),
                n => format!(
                    "{n} runs aren’t proven over. Gates stay closed unless you say that you leave although they are \
                     unproven."
                ),
            })),
            _ => Err(Error::Conflict("No gate is kept closed.".to_owned())),
        }
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
        }
        Ok(done.rows_affected() == 1)
    }

    /// The workers that have gates to keep: those heard of within a day, or that hold runs. `since` is when they were
    /// told to close them.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn keepers(&self, _by: &Superuser, since: OffsetDateTime) -> Result<Vec<Keeper>> {
        within(
            sqlx::query_as!(
                Keeper,
                r#"select name as worker, case when gates_closed_at >= $1 then gates_closed_at end as closed_at,
                          extract(epoch from now() - heard_at)::float8 as "silent_s!", holds as "holds!"
                   from workers w, lateral (select count(*) as holds from runs r
                        where r.worker = w.name and r.state in ('starting', 'running', 'lost')) h
                   where heard_at > now() - interval '1 day' or holds > 0
                   order by name limit 200"#,
                since
            )
            .fetch_all(&self.pool),
        )
        .await
    }

    /// The order to close every gate, if it stands; for a worker.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn gates_closed(&self, worker: &str) -> Result<Option<GatesClosed>> {
        let row = within(
            sqlx::query!(
                r#"select f.gates_closed_at as "at!",
                          coalesce(w.gates_closed_at >= f.gates_closed_at, false) as "answered!"
                   from fleet f left join workers w on w.name = $1 where f.gates_closed_at is not null"#,
                worker
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        Ok(row.map(|row| GatesClosed { at: row.at, answered: row.answered }))
    }

    /// A worker has closed every gate it had, and opens none.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn gates_are_closed(&self, worker: &str, order: &GatesClosed) -> Result<()> {
        within(
            sqlx::query!(
                "with closed as (
                     update workers w set gates_closed_at = clock_timestamp() from fleet f
                     where w.name = $1 and f.gates_closed_at = $2
                       and (w.gates_closed_at is null or w.gates_closed_at < f.gates_closed_at)
                     returning f.handle)
                 insert into audit (who, what, detail)
                 select 'worker ' || $1::text, 'gates closed', 'stop ' || handle from closed",
                worker,
                order.at
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }
}
