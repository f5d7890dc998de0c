//! The red handle: pulled in one transaction, answered by every worker, left step by step.

use time::OffsetDateTime;

use super::stops::{self, Begun, Click, New};
use super::{Db, Error, Result, Superuser, within};
use crate::model::run::StopMode;
use crate::model::stop::{Reach, StopId, StopKind};

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

impl Db {
    /// Pulls the red handle: holds the queue, closes every gate and stops every run by force, in one transaction.
    /// While it is pulled it gives the stop that is under way; a form that is sent again after it was left pulls anew.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn pull_handle(&self, by: &Superuser, click: &Click<'_>) -> Result<Begun> {
        let click = Click { mode: StopMode::Force, once: None, ..*click };
        let new = New {
            kind: StopKind::Everything,
            matching: None,
            reach: Reach::ALL,
            selected: &[],
            upto: i64::MAX,
        };
        let (stop, fresh, told) = within(async {
            let mut tx = self.pool.begin().await?;
            stops::lock_fleet(&mut tx).await?;
            let pulled = sqlx::query_scalar!(
                r#"select handle as "handle!" from fleet where gates_closed_at is not null"#
            );
            if let Some(stop) = pulled.fetch_optional(&mut *tx).await? {
                sqlx::query!(
                    "insert into audit (who, what, detail, address)
                     values ($1, 'red handle pulled again', concat_ws(': ', 'stop ' || $2::bigint, nullif($3, '')), $4)",
                    by.name(),
                    stop,
                    click.reason,
                    click.address
                )
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
                return Ok((stop, false, Vec::new()));
            }
            let stop = stops::begin(&mut tx, by, &new, &click).await?.ok_or(sqlx::Error::RowNotFound)?;
            sqlx::query!(
                "update fleet set gates_closed_at = now(), gates_closed_by = $1, handle = $2,
                        hold_stood = case when handle is null then held_at is not null else hold_stood end,
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
        let why = match (opened, unproven.len()) {
            (true, _) => return Ok(()),
            (false, n) if n as i64 > although => match n {
                1 => "One run isn’t proven over. Gates stay closed unless you say that you leave although it is unproven."
                    .to_owned(),
                n => format!(
                    "{n} runs aren’t proven over. Gates stay closed unless you say that you leave although they are \
                     unproven."
                ),
            },
            _ => "No gate is kept closed.".to_owned(),
        };
        self.note_idle(by, "gates not opened", &why, address).await?;
        Err(Error::Conflict(why))
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
