//! What a worker may do to a run: take it, keep it, say how it goes, end it. Everything but the taking
//! needs the [`Lease`], and is refused when its fence is no longer the run's.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use super::agents::AgentRow;
use super::stuck::watch;
use super::{Db, Error, Result, within};
use crate::model::agent::Agent;
use crate::model::metered::{Metered, Tokens};
use crate::model::run::{Cgroup, Evidence, Outcome, RunId, Step, StopMode, StopProgress};
use crate::model::stuck::Watch;
use crate::model::worker::Place;

/// The right to a run: which worker, under which fence. Only a claim or an adoption makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    run: RunId,
    worker: String,
    fence: i64,
}

impl Lease {
    /// Leases last this long unless renewed.
    pub const LASTS: Duration = Duration::from_secs(30);

    /// The run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The worker that holds it.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// The number that only grows.
    pub fn fence(&self) -> i64 {
        self.fence
    }
}

/// A run freshly claimed.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The right to it.
    pub lease: Lease,
    /// What the agent is asked.
    pub prompt: String,
    /// The recipe.
    pub agent: Agent,
    /// The engine that it was claimed for, if that had said who it is.
    pub engine: Option<String>,
    /// What a gate had metered of it before.
    pub metered: Metered,
}

/// A run taken over from this worker's own former life.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// The right to it, under a new fence.
    pub lease: Lease,
    /// What the agent was asked.
    pub prompt: String,
    /// The recipe.
    pub agent: Agent,
    /// Lines of stdout whose events are stored.
    pub stdout_lines: i64,
    /// Lines of stderr whose events are stored.
    pub stderr_lines: i64,
    /// SHA-256 of the token that the container presents at its gate.
    pub gate_token_hash: Vec<u8>,
    /// How long ago the container started, if it did; by Postgres's clock, since ours may be another one than then.
    pub ran: Option<Duration>,
    /// The wish to stop, if there is one.
    pub stop: Option<StopMode>,
    /// Whether that wish wants the work saved first.
    pub saves: bool,
    /// The rung that a former life had reached.
    pub step: Option<Step>,
    /// The engine that it was claimed for, if that had said who it is.
    pub engine: Option<String>,
    /// What the gates of former lives had metered; not all that there was, since none of them had the last word.
    pub metered: Metered,
    /// What it was in the middle of, by what is stored of its output.
    pub watch: Watch,
}

/// A run that this worker holds or held, as Postgres knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The run.
    pub run: RunId,
    /// Whether it is lost.
    pub lost: bool,
    /// Whether it was claimed at this very seat, and not by another worker of that name, which may be on another host.
    pub here: bool,
    /// The engine that it was claimed for, if that had said who it is.
    pub engine: Option<String>,
    /// Its fence now.
    pub fence: i64,
    /// The wish to stop, if there is one.
    pub stop: Option<StopMode>,
    /// Whether that wish wants the work saved first.
    pub saves: bool,
    /// Whether its work is still to be saved before the first signal.
    pub save: bool,
    /// The rung that a stop had reached.
    pub step: Option<Step>,
}

/// What becomes known of a lost run.
#[derive(Debug, Clone, Copy)]
pub struct Settlement<'a> {
    /// How it ended, where it came to an end of its own.
    pub own: Option<Outcome>,
    /// Why, in words.
    pub reason: &'a str,
    /// What proves it.
    pub evidence: &'a Evidence,
    /// How long ago the proof came.
    pub ago: Duration,
    /// How far a stop had come.
    pub progress: &'a StopProgress,
}

/// A lease that was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// The run.
    pub run: RunId,
    /// The fence under which it was renewed.
    pub fence: i64,
}

struct ClaimRow {
    id: i64,
    fence: i64,
    prompt: String,
    stdout_lines: i64,
    stderr_lines: i64,
    gate_token_hash: Vec<u8>,
    ran_s: Option<f64>,
    wish_mode: Option<String>,
    wish_save: bool,
    stop_step: Option<String>,
    engine: Option<String>,
    name: String,
    about: String,
    image: Option<String>,
    model: Option<String>,
    memory_mib: i64,
    milli_cpus: i64,
    pids: i64,
    time_s: i64,
    sigint_ms: i64,
    sigterm_ms: i64,
    sigkill_ms: i64,
    linger_ms: i64,
    quiet_s: i64,
    call_s: i64,
    limited_s: i64,
    same_calls: i64,
    errors: i64,
    stops_stuck: bool,
    activity: Option<Value>,
    usual_s: Option<i64>,
    metered_calls: i64,
    metered_in: i64,
    metered_cache_write: i64,
    metered_cache_write_1h: i64,
    metered_cache_read: i64,
    metered_out: i64,
    metered_usd: Option<f64>,
    metered_partly: bool,
    metered_unpriced: bool,
}

impl ClaimRow {
    fn adopted(self, worker: &str) -> Result<Adopted> {
        let agent = Agent::from(AgentRow {
            name: self.name,
            about: self.about,
            image: self.image,
            model: self.model,
            memory_mib: self.memory_mib,
            milli_cpus: self.milli_cpus,
            pids: self.pids,
            time_s: self.time_s,
            sigint_ms: self.sigint_ms,
            sigterm_ms: self.sigterm_ms,
            sigkill_ms: self.sigkill_ms,
            linger_ms: self.linger_ms,
            quiet_s: self.quiet_s,
            call_s: self.call_s,
            limited_s: self.limited_s,
            same_calls: self.same_calls,
            errors: self.errors,
            stops_stuck: self.stops_stuck,
        });
        Ok(Adopted {
            lease: Lease { run: RunId(self.id), worker: worker.to_owned(), fence: self.fence },
            prompt: self.prompt,
            watch: watch(self.activity, self.usual_s, agent.patience),
            agent,
            stdout_lines: self.stdout_lines,
            stderr_lines: self.stderr_lines,
            gate_token_hash: self.gate_token_hash,
            ran: self.ran_s.map(|s| Duration::try_from_secs_f64(s).unwrap_or_default()),
            stop: self.wish_mode.map(|word| word.parse()).transpose()?,
            saves: self.wish_save,
            step: self.stop_step.map(|word| word.parse()).transpose()?,
            engine: self.engine,
            metered: Metered {
                calls: self.metered_calls,
                tokens: Tokens {
                    input: self.metered_in,
                    cache_write: self.metered_cache_write,
                    cache_write_1h: self.metered_cache_write_1h,
                    cache_read: self.metered_cache_read,
                    output: self.metered_out,
                },
                usd: self.metered_usd,
                partly: self.metered_partly,
                unpriced: self.metered_unpriced,
            },
        })
    }
}

/// The wishes that a worker took, as columns.
fn taken(progress: &StopProgress) -> (Vec<i16>, Vec<OffsetDateTime>) {
    progress.taken.iter().map(|taken| (taken.weight.number(), taken.at)).unzip()
}

impl Db {
    /// Takes the oldest queued run, if there is one, in one short statement that no other worker's claim waits
    /// for. None while the queue is held, the red handle is pulled, the worker is drained, or its name is another seat's; runs that a stop of many
    /// is just about to take aren't taken either. Whoever changes any of that waits for claims under way, and claims
    /// wait for them, so none slips through. `gate_token_hash` is the SHA-256 of the token that its container will present at its gate.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn claim(&self, place: &Place, gate_token_hash: &[u8]) -> Result<Option<Claimed>> {
        self.claim_but(place, gate_token_hash, &[]).await
    }

    /// The same, but for these runs.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn claim_but(
        &self,
        place: &Place,
        gate_token_hash: &[u8],
        passed_over: &[RunId],
    ) -> Result<Option<Claimed>> {
        let passed_over: Vec<i64> = passed_over.iter().map(|run| run.0).collect();
        let row = within(
            sqlx::query_as!(
                ClaimRow,
                r#"with free as (
                       select coalesce(stopping_upto, 0) as from_here from fleet
                       where held_at is null and gates_closed_at is null for share),
                   willing as (
                       select name from workers
                       where name = $1 and drained_at is null and (seat is null or seat = $3) for share),
                   next as (
                       select id from runs where state = 'queued' and wish = 'run' and id <> all($5)
                         and id > (select from_here from free) and exists (select from willing)
                       order by id limit 1 for update skip locked)
                   update runs r set
                       state = 'starting', worker = $1, seat = $3, engine = $4, fence = r.fence + 1, gate_token_hash = $2,
                       lease_until = now() + interval '30 s', waits_because = null, trouble = null
                   from next, agents a where r.id = next.id and a.id = r.agent_id
                   returning r.id, r.fence, r.prompt, r.stdout_lines, r.stderr_lines,
                             r.gate_token_hash as "gate_token_hash!", r.wish_mode, r.wish_save, r.stop_step, r.engine,
                             extract(epoch from now() - r.started_at)::float8 as ran_s,
                             a.name, a.about, a.image, a.model, a.memory_mib, a.milli_cpus, a.pids, a.time_s,
                             a.sigint_ms, a.sigterm_ms, a.sigkill_ms, a.linger_ms, a.quiet_s, a.call_s, a.limited_s,
                             a.same_calls, a.errors, a.stops_stuck, r.activity, r.usual_s,
                             r.metered_calls, r.metered_in, r.metered_cache_write, r.metered_cache_write_1h,
                             r.metered_cache_read, r.metered_out, r.metered_usd, r.metered_partly, r.metered_unpriced"#,
                place.worker,
                gate_token_hash,
                place.seat,
                place.engine,
                &passed_over
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        row.map(|row| {
            let Adopted { lease, prompt, agent, engine, metered, .. } = row.adopted(&place.worker)?;
            Ok(Claimed { lease, prompt, agent, engine, metered })
        })
        .transpose()
    }

    /// Takes a run over from this worker's own former life, under a new fence. None when it isn't this worker's or was
    /// claimed at another seat, is over, or its lease has lapsed. What it cost by then is the least that it can be: calls may
    /// have been under way.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn adopt(&self, place: &Place, run: RunId) -> Result<Option<Adopted>> {
        let row = within(
            sqlx::query_as!(
                ClaimRow,
                r#"update runs r set fence = r.fence + 1, lease_until = now() + interval '30 s',
                       metered_partly = r.metered_partly or r.started_at is not null
                   from agents a
                   where r.id = $2 and r.worker = $1 and (r.seat is null or r.seat = $3)
                     and r.state in ('starting', 'running')
                     and r.lease_until > now() and a.id = r.agent_id
                   returning r.id, r.fence, r.prompt, r.stdout_lines, r.stderr_lines,
                             r.gate_token_hash as "gate_token_hash!", r.wish_mode, r.wish_save, r.stop_step, r.engine,
                             extract(epoch from now() - r.started_at)::float8 as ran_s,
                             a.name, a.about, a.image, a.model, a.memory_mib, a.milli_cpus, a.pids, a.time_s,
                             a.sigint_ms, a.sigterm_ms, a.sigkill_ms, a.linger_ms, a.quiet_s, a.call_s, a.limited_s,
                             a.same_calls, a.errors, a.stops_stuck, r.activity, r.usual_s,
                             r.metered_calls, r.metered_in, r.metered_cache_write, r.metered_cache_write_1h,
                             r.metered_cache_read, r.metered_out, r.metered_usd, r.metered_partly, r.metered_unpriced"#,
                place.worker,
                run.0,
                place.seat
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        row.map(|row| row.adopted(&place.worker)).transpose()
    }

    /// All runs that this worker holds, or held when they were lost.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn held_by(&self, place: &Place) -> Result<Vec<Held>> {
        let rows = within(
            sqlx::query!(
                r#"select id, state, fence, wish_mode, wish_save, stop_step, work_saved_at, engine,
                          coalesce(seat = $2, true) as "here!"
                   from runs where worker = $1 and state in ('starting', 'running', 'lost') order by id"#,
                place.worker,
                place.seat
            )
            .fetch_all(&self.pool),
        )
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(Held {
                    run: RunId(row.id),
                    lost: row.state == "lost",
                    here: row.here,
                    engine: row.engine,
                    fence: row.fence,
                    stop: row.wish_mode.map(|word| word.parse()).transpose()?,
                    saves: row.wish_save,
                    save: row.wish_save && row.stop_step.is_none() && row.work_saved_at.is_none(),
                    step: row.stop_step.map(|word| word.parse()).transpose()?,
                })
            })
            .collect()
    }

    /// Renews leases, all in one statement. Those that aren't in the answer are gone: their runs belong to
    /// somebody else, or to nobody, and their containers must be stopped.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn renew(&self, worker: &str, leases: &[Lease]) -> Result<Vec<Renewed>> {
        let runs: Vec<i64> = leases.iter().map(|lease| lease.run.0).collect();
        let fences: Vec<i64> = leases.iter().map(|lease| lease.fence).collect();
        let rows = within(
            sqlx::query!(
                r#"with mine as (select * from unnest($2::bigint[], $3::bigint[]) as mine (id, fence)),
                   refused as (
                       update runs r set refused = r.refused + 1 from mine where r.id = mine.id and r.fence > mine.fence)
                   update runs r set lease_until = now() + interval '30 s' from mine
                   where r.id = mine.id and r.fence = mine.fence and r.worker = $1
                     and r.state in ('starting', 'running')
                   returning r.id, r.fence"#,
                worker,
                &runs,
                &fences
            )
            .fetch_all(&self.pool),
        )
        .await?;
        Ok(rows.into_iter().map(|row| Renewed { run: RunId(row.id), fence: row.fence }).collect())
    }

    /// The container is there and runs.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the lease is gone.
    pub async fn mark_running(&self, lease: &Lease, container: &str) -> Result<()> {
        let done = within(
            sqlx::query!(
                "update runs set state = 'running', container = $4, started_at = coalesce(started_at, now()),
                        trouble = null
                 where id = $1 and worker = $2 and fence = $3 and state in ('starting', 'running')",
                lease.run.0,
                lease.worker,
                lease.fence,
                container
            )
            .execute(&self.pool),
        )
        .await?;
        self.held(lease, done.rows_affected()).await
    }

    /// Gives a run back to the queue whose container never started, with the reason.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the lease is gone; [`Error::Conflict`] when a stop was wished meanwhile.
    pub async fn release(&self, lease: &Lease, why: &str) -> Result<()> {
        let done = within(
            sqlx::query!(
                "update runs set state = 'queued', worker = null, seat = null, engine = null, lease_until = null,
                        container = null,
                        waits_because = $4
                 where id = $1 and worker = $2 and fence = $3 and state = 'starting' and wish = 'run'",
                lease.run.0,
                lease.worker,
                lease.fence,
                why
            )
            .execute(&self.pool),
        )
        .await?;
        if done.rows_affected() == 1 {
            return Ok(());
        }
        let wished = within(
            sqlx::query!(
                "select wish from runs where id = $1 and worker = $2 and fence = $3 and state = 'starting'",
                lease.run.0,
                lease.worker,
                lease.fence
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        match wished {
            Some(row) if row.wish == "stop" => Err(Error::Conflict("a stop was wished".into())),
            _ => Err(self.refused(lease).await),
        }
    }

    /// Says why the oldest runs still wait; for a worker that can't take any.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn explain_waiting(&self, why: Option<&str>) -> Result<()> {
        within(
            sqlx::query!(
                "update runs set waits_because = $1
                 where id in (select id from runs where state = 'queued' and wish = 'run' order by id limit 100
                              for update skip locked)
                   and waits_because is distinct from $1",
                why
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// How far the stop has come. What is once written stays, the last rung too where this life has tried none yet. Each wish
    /// that was taken is noted as delivered, also one that a heavier has taken the place of; a stop that nobody wished goes
    /// into the audit, once.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the lease is gone.
    pub async fn progress(&self, lease: &Lease, progress: &StopProgress) -> Result<()> {
        let (weights, times) = taken(progress);
        let held = within(
            sqlx::query!(
                r#"with taken as (select * from unnest($4::smallint[], $5::timestamptz[]) as taken (weight, at)),
                   held as (
                       update runs r set
                           delivered_at = coalesce(delivered_at, (
                               select min(at) from taken where weight >= wish_weight(r.wish_mode, r.wish_save))),
                           delivered_to = coalesce(delivered_to, (
                               select worker from taken where weight >= wish_weight(r.wish_mode, r.wish_save) limit 1)),
                           egress_cut_at = coalesce(egress_cut_at, $6), host_killed_at = coalesce(host_killed_at, $7),
                           stop_step = coalesce($8, stop_step),
                           stop_step_at = case when $8::text is null then stop_step_at else $9 end,
                           stop_trouble = $10, stop_next_at = $11
                       where id = $1 and worker = $2 and fence = $3 and state in ('starting', 'running')
                       returning id, worker),
                   earlier as (
                       update earlier_wishes w set
                           delivered_at = (select min(at) from taken where weight >= wish_weight(w.mode, w.save)),
                           delivered_to = held.worker
                       from held where w.run_id = held.id and w.delivered_at is null
                         and exists (select from taken where weight >= wish_weight(w.mode, w.save))),
                   noted as (
                       insert into audit (who, what, run_id, detail, once)
                       select 'worker ' || worker, 'stopped by itself', id, $12, 'stopped by itself ' || id from held
                       where $12::text is not null
                       on conflict do nothing)
                   select id from held"#,
                lease.run.0,
                lease.worker,
                lease.fence,
                &weights,
                &times,
                progress.egress_cut_at,
                progress.host_killed_at,
                progress.step.map(Step::word),
                progress.step_at,
                progress.trouble,
                progress.next_at,
                progress.unasked
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        self.held(lease, u64::from(held.is_some())).await
    }

    /// Says what is wrong with a run that still lives, or that nothing is any more.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the lease is gone.
    pub async fn trouble(&self, lease: &Lease, trouble: Option<&str>) -> Result<()> {
        let done = within(
            sqlx::query!(
                "update runs set trouble = $4
                 where id = $1 and worker = $2 and fence = $3 and state in ('starting', 'running')",
                lease.run.0,
                lease.worker,
                lease.fence,
                trouble
            )
            .execute(&self.pool),
        )
        .await?;
        self.held(lease, done.rows_affected()).await
    }

    /// Says of a run that is over what still is to be done about its container.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn remains(&self, lease: &Lease, trouble: &str) -> Result<()> {
        within(
            sqlx::query!(
                "update runs set trouble = $4 where id = $1 and worker = $2 and fence = $3 and state = 'ended'
                                               and trouble is distinct from $4",
                lease.run.0,
                lease.worker,
                lease.fence,
                trouble
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Ends a run, with the evidence, and with what its CLI `said` in the end, if it said anything. `terminated` is written only
    /// where a stop was wished; a constraint sees to it. A stop that nobody wished goes into the audit, if [`Self::progress`]
    /// hasn't noted it. Ending it twice with the same fence is fine. Says how many seconds ago the first wish to stop it was written, by
    /// Postgres's clock alone; none when nobody had wished it, or it was ended before.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the lease is gone.
    pub async fn end(
        &self,
        lease: &Lease,
        outcome: Outcome,
        reason: &str,
        evidence: &Evidence,
        said: Option<&str>,
    ) -> Result<Option<f64>> {
        let done = within(
            sqlx::query!(
                r#"with over as (
                       update runs set state = 'ended', outcome = $4, reason = $5, exit_code = $6, end_step = $7,
                           confirmed_at = $8, ended_at = now(), container = coalesce($9, container), cgroup = $10,
                           trouble = null, stop_trouble = null, stop_next_at = null, lease_until = null,
                           result = left($11, 2000)
                       where id = $1 and worker = $2 and fence = $3 and state in ('starting', 'running')
                       returning id, worker, wish, end_step, reason, wish_at),
                   noted as (
                       insert into audit (who, what, run_id, detail, once)
                       select 'worker ' || worker, 'stopped by itself', id, reason, 'stopped by itself ' || id from over
                       where wish = 'run' and end_step in ('sigint', 'sigterm', 'sigkill', 'host_kill')
                       on conflict do nothing)
                   select extract(epoch from now() - least(
                              wish_at, (select min(at) from earlier_wishes where run_id = over.id)))::float8 as took_s
                   from over"#,
                lease.run.0,
                lease.worker,
                lease.fence,
                outcome.word(),
                reason,
                evidence.exit_code,
                evidence.step.word(),
                evidence.confirmed_at,
                evidence.container,
                evidence.cgroup.map(Cgroup::word),
                said.filter(|said| !said.is_empty())
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        if let Some(done) = done {
            return Ok(done.took_s);
        }
        let met = within(
            sqlx::query!(
                "select 1 as one from runs where id = $1 and worker = $2 and fence = $3 and state = 'ended'",
                lease.run.0,
                lease.worker,
                lease.fence
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        self.held(lease, u64::from(met.is_some())).await.map(|()| None)
    }

    /// Settles a lost run: the worker that held it is back and the engine has confirmed that its container is gone.
    /// It ends as `own` where it came to an end of its own; else as `terminated` where a stop had been wished before the
    /// proof, which came so long `ago`, and as `failed` where none had: by Postgres's clock, since the worker's may be another.
    /// What `progress` a stop had made is kept. False when there was nothing to settle.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn settle_lost(&self, worker: &str, run: RunId, settlement: &Settlement<'_>) -> Result<bool> {
        let Settlement { own, reason, evidence, ago, progress } = *settlement;
        let (weights, times) = taken(progress);
        let done = within(
            sqlx::query!(
                r#"with taken as (select * from unnest($11::smallint[], $12::timestamptz[]) as taken (weight, at)),
                   over as (
                       update runs r set state = 'ended',
                        outcome = coalesce($9, case when wish = 'stop' and wish_at <= now() - make_interval(secs => $10)
                                                         then 'terminated'
                                                    else 'failed' end),
                        reason = $3, exit_code = $4, end_step = $5, confirmed_at = $6, ended_at = now(),
                        container = coalesce($7, container), cgroup = $8, trouble = null, stop_trouble = null,
                        stop_next_at = null, lease_until = null,
                        delivered_at = coalesce(delivered_at, (
                            select min(at) from taken where weight >= wish_weight(r.wish_mode, r.wish_save))),
                        delivered_to = coalesce(delivered_to, (
                            select worker from taken where weight >= wish_weight(r.wish_mode, r.wish_save) limit 1)),
                        egress_cut_at = coalesce(egress_cut_at, $13), host_killed_at = coalesce(host_killed_at, $14)
                       where id = $2 and worker = $1 and state = 'lost'
                       returning id, worker, wish, end_step, reason),
                   earlier as (
                       update earlier_wishes w set
                           delivered_at = (select min(at) from taken where weight >= wish_weight(w.mode, w.save)),
                           delivered_to = over.worker
                       from over where w.run_id = over.id and w.delivered_at is null
                         and exists (select from taken where weight >= wish_weight(w.mode, w.save))),
                   noted as (
                       insert into audit (who, what, run_id, detail, once)
                       select 'worker ' || worker, 'stopped by itself', id, coalesce($15, reason),
                              'stopped by itself ' || id
                       from over
                       where $15::text is not null
                          or (wish = 'run' and end_step in ('sigint', 'sigterm', 'sigkill', 'host_kill'))
                       on conflict do nothing)
                   select id from over"#,
                worker,
                run.0,
                reason,
                evidence.exit_code,
                evidence.step.word(),
                evidence.confirmed_at,
                evidence.container,
                evidence.cgroup.map(Cgroup::word),
                own.map(Outcome::word),
                ago.as_secs_f64(),
                &weights,
                &times,
                progress.egress_cut_at,
                progress.host_killed_at,
                progress.unasked
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        Ok(done.is_some())
    }

    /// One row means that the lease holds; none that it is gone.
    pub(super) async fn held(&self, lease: &Lease, rows: u64) -> Result<()> {
        if rows == 1 { Ok(()) } else { Err(self.refused(lease).await) }
    }

    /// The answer to a write whose lease is gone. One under an old fence is a ghost's, and counted.
    pub(super) async fn refused(&self, lease: &Lease) -> Error {
        let counted = within(
            sqlx::query!(
                "update runs set refused = refused + 1 where id = $1 and fence > $2",
                lease.run.0,
                lease.fence
            )
            .execute(&self.pool),
        );
        if let Err(error) = counted.await {
            tracing::warn!(run = %lease.run, %error, "a refused write isn't counted");
        }
        Error::Fenced(lease.run.0)
    }
}
