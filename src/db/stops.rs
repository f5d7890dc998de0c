//! Many runs stopped by one click. The row in `stops` is the truth; its wishes are written in batches, each in a
//! transaction of its own, by whoever comes by. Nothing is lost when somebody dies between two of them.

use sqlx::{Postgres, Transaction};

use super::{Db, Error, Result, Superuser, within};
use crate::model::run::{RunId, StopMode};
use crate::model::stop::{Matching, Reach, StopId, StopKind, Target};

/// How many wishes one batch writes; some 40 ms on a small machine.
const BATCH: i64 = 500;

/// A click that stops many: what all of them have in common.
#[derive(Debug, Clone, Copy)]
pub struct Click<'a> {
    /// The form's own token: a form sent twice makes one stop.
    pub once: Option<&'a str>,
    /// Where the ladder begins.
    pub mode: StopMode,
    /// Why, in their words; may be empty.
    pub reason: &'a str,
    /// What it was done with, in a few words.
    pub device: Option<&'a str>,
    /// The client's address.
    pub address: Option<&'a str>,
}

/// A worker to be told of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tell {
    /// The worker.
    pub worker: String,
    /// The run that it holds.
    pub run: RunId,
    /// The mode that now holds.
    pub mode: StopMode,
}

/// A stop that was begun, or that the same form had begun before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The stop.
    pub stop: StopId,
    /// False when this form had been sent before, or the handle was pulled already.
    pub fresh: bool,
    /// Who is to be told of the wishes of its first batch.
    pub tell: Vec<Tell>,
}

/// One batch of a stop's wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Who is to be told.
    pub tell: Vec<Tell>,
    /// How many runs it took care of; none when all that are left are locked by somebody else.
    pub runs: u64,
    /// Whether this was the last.
    pub whole: bool,
}

type Tx = Transaction<'static, Postgres>;

/// What is known of a stop while its row is written.
pub(super) struct New<'a> {
    pub(super) kind: StopKind,
    pub(super) matching: Option<&'a Matching>,
    pub(super) reach: Reach,
    pub(super) selected: &'a [i64],
    pub(super) upto: i64,
}

impl Db {
    /// Wishes many runs to stop: the stop's row, its audit row and the wishes of the first batch in one transaction.
    /// [`Self::write_wishes`] writes the others.
    ///
    /// # Errors
    /// [`Error::Conflict`] when nothing that the target names can be stopped; [`Error::Unavailable`].
    pub async fn stop_many(&self, by: &Superuser, target: &Target, click: &Click<'_>) -> Result<Begun> {
        let selected: Vec<i64>;
        let new = match target {
            Target::Selected(runs) => {
                selected = runs.iter().map(|run| run.0).collect();
                let reach = Reach { held: &[], wished: false, queued: false };
                New { kind: StopKind::Selected, matching: None, reach, selected: &selected, upto: i64::MAX }
            }
            Target::Filter(matching, upto) => {
                let reach = matching
                    .reach()
                    .ok_or_else(|| Error::Conflict("Runs like that are over already.".to_owned()))?;
                New { kind: StopKind::Filter, matching: Some(matching), reach, selected: &[], upto: upto.0 }
            }
        };
        let (stop, fresh, told) = within(async {
            let mut tx = self.pool.begin().await?;
            if new.reach.queued {
                lock_fleet(&mut tx).await?;
            }
            let Some(stop) = begin(&mut tx, by, &new, click).await? else {
                tx.rollback().await?;
                return Ok((sent_before(&self.pool, by, click).await?, false, Vec::new()));
            };
            let told = first_batch(&mut tx, stop, &new).await?;
            tx.commit().await?;
            Ok((stop, true, told))
        })
        .await?;
        Ok(Begun { stop: StopId(stop), fresh, tell: tells(told)? })
    }

    /// The stops whose wishes aren't all written.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn open_stops(&self) -> Result<Vec<StopId>> {
        let ids = sqlx::query_scalar!("select id from stops where written_at is null order by id limit 100");
        Ok(within(ids.fetch_all(&self.pool)).await?.into_iter().map(StopId).collect())
    }

    /// Writes one more batch of a stop's wishes. Any number of servers may do so at once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn write_wishes(&self, stop: StopId) -> Result<Written> {
        let (told, runs, whole) = within(async {
            let mut tx = self.pool.begin().await?;
            let open =
                sqlx::query!("select takes_queued from stops where id = $1 and written_at is null", stop.0)
                    .fetch_optional(&mut *tx)
                    .await?;
            let Some(open) = open else { return Ok((Vec::new(), 0, true)) };
            let told = wish_members(&mut tx, stop.0).await?;
            let queued = if open.takes_queued { wish_queued(&mut tx, stop.0).await? } else { 0 };
            tx.commit().await?;
            let runs = told.len() as u64 + queued;
            let whole = runs < BATCH as u64 && self.finish(stop.0, open.takes_queued).await?;
            Ok((told, runs, whole))
        })
        .await?;
        Ok(Written { tell: tells(told)?, runs, whole })
    }

    /// Notes that a stop's last wish is written, if it is.
    async fn finish(&self, stop: i64, takes_queued: bool) -> sqlx::Result<bool> {
        let mut tx = self.pool.begin().await?;
        if takes_queued {
            lock_fleet(&mut tx).await?;
        }
        let done = sqlx::query!(
            "update stops s set written_at = now()
             where s.id = $1 and s.written_at is null
               and not exists (select from stop_runs m where m.stop_id = s.id and m.met = 'pending')
               and not (s.takes_queued and exists (
                   select from runs r where r.state = 'queued' and r.wish = 'run' and r.id <= s.upto
                     and (s.agent is null or r.agent_id = (select id from agents where name = s.agent))
                     and (s.who is null or r.asked_by_name = s.who)))",
            stop
        )
        .execute(&mut *tx)
        .await?;
        if takes_queued && done.rows_affected() == 1 {
            sqlx::query!(
                "update fleet set stopping_upto =
                     (select max(upto) from stops where written_at is null and takes_queued)"
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(done.rows_affected() == 1)
    }
}

/// From here on to the end of the transaction nobody claims anything, and claims that were under way are seen.
pub(super) async fn lock_fleet(tx: &mut Tx) -> sqlx::Result<()> {
    sqlx::query!("select one from fleet for update").fetch_one(&mut **tx).await.map(drop)
}

/// The stop of a form that had been sent before, and the audit row of the click that sent it again.
async fn sent_before(pool: &sqlx::PgPool, by: &Superuser, click: &Click<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        "with before as (select id from stops where once = $1 and by_id = $2),
         noted as (
             insert into audit (who, what, detail, address)
             select $3, 'stop of many wished again', 'stop ' || id, $4 from before)
         select id from before",
        click.once,
        by.id(),
        by.name(),
        click.address
    )
    .fetch_one(pool)
    .await
}

/// Writes the stop's row and the one audit row of the click; none when the same form had been sent before.
pub(super) async fn begin(
    tx: &mut Tx,
    by: &Superuser,
    new: &New<'_>,
    click: &Click<'_>,
) -> sqlx::Result<Option<i64>> {
    let by_what = |of: fn(&Matching) -> Option<&str>| new.matching.and_then(of);
    sqlx::query_scalar!(
        r#"with begun as (
               insert into stops (kind, filter, takes_queued, upto, mode, reason, once, by_id, by_name, device, address,
                                  agent, worker, who)
               select $1, $2, $3, least($4, coalesce(max(id), 0)), $5, $6, $7, $8, $9, $10, $11, $13, $14, $15 from runs
               on conflict on constraint stops_once do nothing
               returning id, upto),
           noted as (
               insert into audit (who, what, detail, address)
               select $9, case $1 when 'everything' then 'red handle pulled' else 'stop of many wished' end,
                      'stop ' || id || ', ' || $5 || ': '
                      || case $1 when 'selected' then $12::bigint || ' selected'
                                 when 'filter' then case $2 when 'all' then 'all that aren''t over'
                                                              else 'all that are ' || $2 end
                                                    || coalesce(' of agent ' || $13, '')
                                                    || coalesce(' on worker ' || $14, '')
                                                    || coalesce(' asked for by ' || $15, '')
                                                    || ', up to run ' || upto
                                 else 'every run up to run ' || upto end
                      || case $6 when '' then '' else ': ' || $6 end, $11
               from begun)
           select id from begun"#,
        new.kind.word(),
        by_what(|matching| Some(matching.kind.word().unwrap_or("all"))),
        new.reach.queued,
        new.upto,
        click.mode.word(),
        click.reason,
        click.once,
        by.id(),
        by.name(),
        click.device,
        click.address,
        new.selected.len() as i64,
        by_what(|matching| matching.agent.as_deref()),
        by_what(|matching| matching.worker.as_deref()),
        by_what(|matching| matching.who.as_deref())
    )
    .fetch_optional(&mut **tx)
    .await
}

/// Names the stop's runs that aren't queued, all of them; keeps workers from the queued ones; and writes as many wishes
/// as fit into one transaction.
pub(super) async fn first_batch(tx: &mut Tx, stop: i64, new: &New<'_>) -> sqlx::Result<Vec<Told>> {
    let held: Vec<String> = new.reach.held.iter().map(|state| state.word().to_owned()).collect();
    if !new.selected.is_empty() {
        sqlx::query!(
            "insert into stop_runs (stop_id, run_id) select $1, id from runs where id = any($2)",
            stop,
            new.selected
        )
        .execute(&mut **tx)
        .await?;
    }
    if !held.is_empty() {
        sqlx::query!(
            "insert into stop_runs (stop_id, run_id)
             select $1, r.id from runs r, stops s
             where s.id = $1 and r.state = any($2) and (r.wish = 'stop' or not $3) and r.id <= s.upto
               and (s.agent is null or r.agent_id = (select id from agents where name = s.agent))
               and (s.worker is null or r.worker = s.worker) and (s.who is null or r.asked_by_name = s.who)",
            stop,
            &held,
            new.reach.wished
        )
        .execute(&mut **tx)
        .await?;
    }
    if new.reach.queued {
        sqlx::query!(
            "update fleet set stopping_upto = greatest(stopping_upto, (select upto from stops where id = $1))",
            stop
        )
        .execute(&mut **tx)
        .await?;
    }
    let told = wish_members(tx, stop).await?;
    if new.reach.queued {
        wish_queued(tx, stop).await?;
    }
    Ok(told)
}

/// A run that a wish was written on, or met: its worker, and the mode that now holds.
pub(super) struct Told {
    run_id: i64,
    worker: Option<String>,
    mode: Option<String>,
    met: String,
}

/// Those workers that have something to do. A stop that was wished before has its own command, which may say that the work is
/// to be saved first; one that was lost is found in Postgres.
pub(super) fn tells(told: Vec<Told>) -> Result<Vec<Tell>> {
    let lives = told.into_iter().filter(|told| told.met == "wished");
    lives
        .filter_map(|told| Some((told.worker?, RunId(told.run_id), told.mode?)))
        .map(|(worker, run, mode)| Ok(Tell { worker, run, mode: mode.parse()? }))
        .collect()
}

/// Writes the wish on runs that the stop names and that nobody else has locked, an audit row for each. Runs are looked
/// up by an array, since the planner takes a list of a thousand for one of one.
async fn wish_members(tx: &mut Tx, stop: i64) -> sqlx::Result<Vec<Told>> {
    sqlx::query_as!(
        Told,
        r#"with todo as (
               select m.run_id, r.state as was, r.worker, r.wish_mode
               from stop_runs m join runs r on r.id = m.run_id
               where m.stop_id = $1 and m.met = 'pending'
               order by m.run_id limit $2 for no key update of r skip locked),
           wished as (
               update runs r set
                   wish = 'stop', wish_mode = s.mode, wish_by = s.by_id, wish_by_name = s.by_name, wish_at = now(),
                   wish_reason = s.reason, wish_device = s.device, wish_save = false,
                   state        = case r.state when 'queued' then 'ended' else r.state end,
                   outcome      = case r.state when 'queued' then 'terminated' end,
                   reason       = case r.state when 'queued' then 'Stopped before it started.' end,
                   end_step     = case r.state when 'queued' then 'never_started' end,
                   confirmed_at = case r.state when 'queued' then now() end,
                   ended_at     = case r.state when 'queued' then now() end
               from stops s
               where s.id = $1 and r.id = any(array(select run_id from todo)) and r.state <> 'ended'
                 and (r.wish = 'run' or (s.mode = 'force' and (r.wish_mode = 'graceful' or r.wish_save)))
               returning r.id, r.worker, case r.state when 'ended' then 'queued' else 'wished' end as met,
                         s.mode, s.reason, s.by_name, s.address),
           noted as (
               insert into audit (who, what, run_id, detail, address)
               select by_name, 'stop wished', id,
                      mode || ', with stop ' || $1 || case reason when '' then '' else ': ' || reason end, address
               from wished order by id),
           marked as (
               update stop_runs m set
                   met = case when m.run_id = any(array(select run_id from todo where was = 'ended')) then 'over'
                              when m.run_id = any(array(select id from wished where met = 'wished')) then 'wished'
                              when m.run_id = any(array(select id from wished where met = 'queued')) then 'queued'
                              else 'repeated' end
               where m.stop_id = $1 and m.run_id = any(array(select run_id from todo))
               returning m.met),
           counted as (
               update stops set queued = queued + (select count(*) from marked where met = 'queued'),
                                over = over + (select count(*) from marked where met = 'over')
               where id = $1)
           select id as "run_id!", worker, mode, met as "met!" from wished
           union all
           select run_id, worker, wish_mode, case was when 'ended' then 'over' else 'repeated' end from todo
           where run_id not in (select id from wished)"#,
        stop,
        BATCH
    )
    .fetch_all(&mut **tx)
    .await
}

/// Ends runs that are queued, a batch of them: they never start. Says how many.
async fn wish_queued(tx: &mut Tx, stop: i64) -> sqlx::Result<u64> {
    let ended = sqlx::query_scalar!(
        r#"with todo as (
               select r.id from runs r join stops s on s.id = $1
               where r.state = 'queued' and r.wish = 'run' and r.id <= s.upto
                 and (s.agent is null or r.agent_id = (select id from agents where name = s.agent))
                 and (s.who is null or r.asked_by_name = s.who)
               order by r.id limit $2 for no key update of r skip locked),
           wished as (
               update runs r set
                   wish = 'stop', wish_mode = s.mode, wish_by = s.by_id, wish_by_name = s.by_name, wish_at = now(),
                   wish_reason = s.reason, wish_device = s.device, state = 'ended', outcome = 'terminated',
                   reason = 'Stopped before it started.', end_step = 'never_started', confirmed_at = now(),
                   ended_at = now()
               from stops s
               where s.id = $1 and r.id = any(array(select id from todo)) and r.state = 'queued' and r.wish = 'run'
               returning r.id, s.mode, s.reason, s.by_name, s.address),
           noted as (
               insert into audit (who, what, run_id, detail, address)
               select by_name, 'stop wished', id,
                      mode || ', with stop ' || $1 || case reason when '' then '' else ': ' || reason end, address
               from wished order by id),
           named as (
               insert into stop_runs (stop_id, run_id, met) select $1, id, 'queued' from wished
               on conflict (stop_id, run_id) do update set met = 'queued'),
           counted as (
               update stops set queued = queued + (select count(*) from wished)
               where id = $1 and exists (select from wished))
           select count(*) as "ended!" from wished"#,
        stop,
        BATCH
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(ended.unsigned_abs())
}
