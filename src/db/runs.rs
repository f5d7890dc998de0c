//! Runs as the superuser sees and steers them. Every method takes the proof of who asks; each that
//! changes something writes its audit row in the same statement.

use std::time::Duration;

use super::stuck::{patience, watch};
use super::{Db, Error, Result, Superuser, within};
use crate::model::agent::{Limits, Recipe};
use crate::model::metered::{Metered, Tokens};
use crate::model::run::{Evidence, NewRun, Numbers, Run, RunId, StopMode, StopProgress};
use crate::model::wish::StopWish;
use crate::model::work::{NewStop, SavedWork, WorkSeen};

/// A run that was started, or that the same form had started before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The run.
    pub run: RunId,
    /// False when this form had been sent before.
    pub fresh: bool,
}

/// What became of a wish to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Whether this wish changed anything; false for a second tap.
    pub fresh: bool,
    /// Whether the run is over already.
    pub over: bool,
    /// The worker to tell, with the mode that now holds.
    pub tell: Option<(String, StopMode)>,
    /// Whether the wish that now holds wants the work saved first.
    pub save: bool,
}

impl Db {
    /// One run, whole.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such run.
    pub async fn run(&self, _by: &Superuser, id: RunId) -> Result<Run> {
        let row = within(
            sqlx::query!(
                r#"select r.*, a.name as agent, a.quiet_s, a.call_s, a.limited_s, a.same_calls, a.errors,
                          a.stops_stuck, extract(epoch from r.lease_until - now())::float8 as lease_left_s,
                          s.at as "saved_at?", s.bytes as saved_bytes, s.files as "saved_files?",
                          s.unpushed as "saved_unpushed?", s.trouble as saved_trouble,
                          a.version as agent_version, p.version as "recipe_version?", p.image as recipe_image,
                          p.model as recipe_model, p.memory_mib as "recipe_memory_mib?",
                          p.milli_cpus as "recipe_milli_cpus?", p.pids as "recipe_pids?", p.time_s as "recipe_time_s?",
                          array(select n.id from runs n where n.retry_of = r.id order by n.id desc limit 5) as "retries!"
                   from runs r join agents a on a.id = r.agent_id left join saved_work s on s.run_id = r.id
                        left join recipes p on p.agent_id = r.agent_id and p.version = r.recipe
                   where r.id = $1"#,
                id.0
            )
            .fetch_one(&self.pool),
        )
        .await?;
        let stop = match (row.wish_mode, row.wish_by_name, row.wish_at) {
            (Some(mode), Some(by), Some(at)) => Some(StopWish {
                mode: mode.parse()?,
                by,
                at,
                reason: row.wish_reason.unwrap_or_default(),
                device: row.wish_device,
                save: row.wish_save,
                delivered_at: row.delivered_at,
                delivered_to: row.delivered_to,
            }),
            _ => None,
        };
        let evidence = match (row.end_step, row.confirmed_at) {
            (Some(step), Some(confirmed_at)) => Some(Evidence {
                container: row.container.clone(),
                exit_code: row.exit_code,
                step: step.parse()?,
                confirmed_at,
                cgroup: row.cgroup.map(|word| word.parse()).transpose()?,
            }),
            _ => None,
        };
        let work = row.work_seen_at.map(|at| WorkSeen {
            at,
            files: row.work_files,
            unpushed: row.work_unpushed,
            trouble: row.work_trouble,
        });
        let saved = row.saved_at.map(|at| SavedWork {
            at,
            bytes: row.saved_bytes.unwrap_or_default(),
            files: row.saved_files.unwrap_or_default(),
            unpushed: row.saved_unpushed.unwrap_or_default(),
            trouble: row.saved_trouble,
        });
        let recipe = row.recipe_version.map(|version| Recipe {
            version,
            image: row.recipe_image,
            model: row.recipe_model,
            limits: Limits {
                memory_mib: row.recipe_memory_mib.unwrap_or_default(),
                milli_cpus: row.recipe_milli_cpus.unwrap_or_default(),
                pids: row.recipe_pids.unwrap_or_default(),
                time: Duration::from_secs(row.recipe_time_s.unwrap_or_default().unsigned_abs()),
            },
        });
        Ok(Run {
            id,
            agent: row.agent,
            title: row.title,
            prompt: row.prompt,
            recipe,
            agent_version: row.agent_version,
            retry_of: row.retry_of.map(RunId),
            retries: row.retries.into_iter().map(RunId).collect(),
            asked_by: row.asked_by_name,
            asked_at: row.asked_at,
            state: row.state.parse()?,
            earlier: if stop.is_some() { self.earlier_wishes(id).await? } else { Vec::new() },
            stop,
            progress: StopProgress {
                egress_cut_at: row.egress_cut_at,
                step: row.stop_step.map(|step| step.parse()).transpose()?,
                step_at: row.stop_step_at,
                trouble: row.stop_trouble,
                next_at: row.stop_next_at,
                host_killed_at: row.host_killed_at,
                ..StopProgress::default()
            },
            worker: row.worker,
            fence: row.fence,
            refused: row.refused,
            lease_until: row.lease_until,
            lease_left_s: row.lease_left_s,
            work,
            saved,
            container: row.container,
            started_at: row.started_at,
            ended_at: row.ended_at,
            waits_because: row.waits_because,
            trouble: row.trouble,
            outcome: row.outcome.map(|word| word.parse()).transpose()?,
            reason: row.reason,
            evidence,
            numbers: Numbers {
                turns: row.turns,
                tokens_in: row.tokens_in,
                tokens_out: row.tokens_out,
                cost_usd: row.cost_usd,
                duration_ms: row.duration_ms,
            },
            metered: row.metered_at.map(|_| Metered {
                calls: row.metered_calls,
                tokens: Tokens {
                    input: row.metered_in,
                    cache_write: row.metered_cache_write,
                    cache_write_1h: row.metered_cache_write_1h,
                    cache_read: row.metered_cache_read,
                    output: row.metered_out,
                },
                usd: row.metered_usd,
                partly: row.metered_partly,
                unpriced: row.metered_unpriced,
            }),
            metered_at: row.metered_at,
            model: row.model,
            events: row.events,
            last_event_at: row.last_event_at,
            first_error: row.first_error,
            watch: watch(
                row.activity,
                row.usual_s,
                patience(row.quiet_s, row.call_s, row.limited_s, row.same_calls, row.errors, row.stops_stuck),
            ),
        })
    }

    /// The wishes to stop a run that others took the place of, in their order.
    async fn earlier_wishes(&self, run: RunId) -> Result<Vec<StopWish>> {
        let rows = within(
            sqlx::query!(
                "select at, mode, by_name, reason, device, save, delivered_at, delivered_to from earlier_wishes
                 where run_id = $1 order by at",
                run.0
            )
            .fetch_all(&self.pool),
        )
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(StopWish {
                    mode: row.mode.parse()?,
                    by: row.by_name,
                    at: row.at,
                    reason: row.reason.unwrap_or_default(),
                    device: row.device,
                    save: row.save,
                    delivered_at: row.delivered_at,
                    delivered_to: row.delivered_to,
                })
            })
            .collect()
    }

    /// Accepts a run: from here on it isn't lost. The same form sent twice gives the same run.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such agent, [`Error::Conflict`] when the form has started another run already.
    pub async fn start_run(&self, by: &Superuser, new: &NewRun, address: Option<&str>) -> Result<Started> {
        let row = within(
            sqlx::query!(
                r#"with started as (
                       insert into runs (agent_id, title, prompt, once, asked_by, asked_by_name, retry_of)
                       select a.id, $2, $3, $4, $5, $6, (select id from runs where id = $8)
                       from agents a where a.name = $1
                       on conflict on constraint runs_once do nothing
                       returning id, title),
                   noted as (
                       insert into audit (who, what, run_id, detail, address)
                       select $6, 'run started', id, title, $7 from started)
                   select id from started"#,
                new.agent,
                new.title,
                new.prompt,
                new.once,
                by.id(),
                by.name(),
                address,
                new.retry_of.map(|run| run.0)
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        if let Some(row) = row {
            return Ok(Started { run: RunId(row.id), fresh: true });
        }
        let before = within(
            sqlx::query!(
                r#"select r.id, r.prompt = $3 and r.title = $4 and a.name = $5 as "same!"
                   from runs r join agents a on a.id = r.agent_id where r.once = $1 and r.asked_by = $2"#,
                new.once,
                by.id(),
                new.prompt,
                new.title,
                new.agent
            )
            .fetch_one(&self.pool),
        )
        .await?;
        if !before.same {
            return Err(Error::Conflict(format!("This form has started run {} already.", before.id)));
        }
        Ok(Started { run: RunId(before.id), fresh: false })
    }

    /// Writes the wish to stop, and one audit row for each time it is asked for, in one statement. Idempotent: a second tap
    /// is noted and changes nothing; a new wish is only `force` after `graceful`, or `force` at once after one that would
    /// have saved the work first. A run still queued is over at once: it never started. Its row is waited for first, so that
    /// what is noted is what the wish met.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such run.
    pub async fn wish_stop(&self, by: &Superuser, id: RunId, stop: &NewStop<'_>) -> Result<Stopped> {
        let row = within(
            sqlx::query!(
                r#"with met as (select id, state from runs where id = $1 for no key update),
                   wished as (
                       update runs set
                           wish = 'stop', wish_mode = $2, wish_by = $3, wish_by_name = $4, wish_at = now(),
                           wish_reason = $5, wish_device = $7,
                           wish_save    = $8 and wish = 'run' and state <> 'queued',
                           state        = case state when 'queued' then 'ended' else state end,
                           outcome      = case state when 'queued' then 'terminated' end,
                           reason       = case state when 'queued' then 'Stopped before it started.' end,
                           end_step     = case state when 'queued' then 'never_started' end,
                           confirmed_at = case state when 'queued' then now() end,
                           ended_at     = case state when 'queued' then now() end
                       where id = (select id from met) and state <> 'ended'
                         and (wish = 'run' or ($2 = 'force' and (wish_mode = 'graceful' or (wish_save and not $8))))
                       returning id, state, worker, wish_save),
                   asked as (
                       select id, 'stop wished' as what from wished
                       union all
                       select id, case state when 'ended' then 'stop wished too late' else 'stop wished again' end
                       from met where not exists (select from wished)),
                   noted as (
                       insert into audit (who, what, run_id, detail, address)
                       select $4, what, id,
                              $2 || case $5 when '' then '' else ': ' || $5 end
                                 || case when $8 then '; save the work first' else '' end
                                 || coalesce('; from ' || $7, ''),
                              $6
                       from asked)
                   select state, worker, wish_save from wished"#,
                id.0,
                stop.mode.word(),
                by.id(),
                by.name(),
                stop.reason,
                stop.address,
                stop.device,
                stop.save
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        if let Some(row) = row {
            let over = row.state == "ended";
            let tell = row.worker.filter(|_| !over).map(|worker| (worker, stop.mode));
            return Ok(Stopped { fresh: true, over, tell, save: row.wish_save });
        }
        let met = within(
            sqlx::query!("select state, worker, wish_mode, wish_save from runs where id = $1", id.0)
                .fetch_optional(&self.pool),
        )
        .await?;
        let Some(met) = met else {
            self.note_idle(by, "stop refused", &format!("there is no run {id}"), stop.address).await?;
            return Err(Error::NotFound);
        };
        let over = met.state == "ended";
        let mode = met.wish_mode.map_or(Ok(stop.mode), |word| word.parse())?;
        let tell = met.worker.filter(|_| !over).map(|worker| (worker, mode));
        Ok(Stopped { fresh: false, over, tell, save: met.wish_save })
    }

    /// Marks runs whose lease has lapsed as lost, and makes their fence a tombstone. Safe to call from anywhere,
    /// at any time.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub async fn lose_lapsed(&self) -> Result<Vec<RunId>> {
        let rows = within(
            sqlx::query!(
                r#"with lapsed as (
                       select id from runs where state in ('starting', 'running') and lease_until < now()
                       order by id limit 500 for update skip locked),
                   lost as (
                       update runs r set state = 'lost', fence = r.fence + 1,
                           metered_partly = r.metered_partly or r.started_at is not null,
                           trouble = 'Worker ' || r.worker || ' fell silent; its lease lapsed at '
                               || to_char(r.lease_until at time zone 'utc', 'HH24:MI:SS') || ' UTC.'
                       from lapsed where r.id = lapsed.id returning r.id, r.worker),
                   noted as (
                       insert into audit (who, what, run_id, detail)
                       select 'lease', 'run lost', id, 'worker ' || worker from lost)
                   select id from lost"#
            )
            .fetch_all(&self.pool),
        )
        .await?;
        Ok(rows.into_iter().map(|row| RunId(row.id)).collect())
    }
}
