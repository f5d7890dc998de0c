//! Workers: what they say of themselves, and how long they have been silent.

use time::OffsetDateTime;

use super::{Db, Error, Result, Superuser, within};
use crate::model::run::RunId;
use crate::model::worker::{Counts, Drained, HostFacts, Load, Room, Worker};

/// How much waits for a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueueDepth {
    /// Runs queued, counted up to a thousand.
    pub queued: i64,
    /// Age of the oldest, in seconds.
    pub oldest_s: Option<f64>,
    /// Wishes to stop whose evidence isn't in yet, counted up to a thousand.
    pub unconfirmed: i64,
    /// Runs whose worker fell silent, counted up to a thousand.
    pub lost: i64,
}

/// What must be said of the fleet on every page. Counts go up to [`FleetNow::COUNTED`]; more is not told apart, so that
/// their cost doesn't grow with the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetNow {
    /// A worker that is alive runs agents without a container around them.
    pub unsandboxed: bool,
    /// A worker that is alive speaks to the scripted stand-in instead of the model.
    pub rehearsal: bool,
    /// Wishes to stop whose evidence isn't in yet.
    pub unconfirmed: i32,
    /// Runs lost, and not wished to stop.
    pub lost: i32,
    /// Runs lost, those too that are wished to stop.
    pub all_lost: i32,
    /// Runs that a worker holds, and not wished to stop.
    pub working: i32,
    /// Runs that wait for a worker.
    pub waiting: i32,
    /// Runs that live and get nowhere, of the several hundred that are looked at.
    pub stuck: Vec<RunId>,
    /// Runs that failed or went over their budget within the hour.
    pub gone_wrong: i32,
}

impl FleetNow {
    /// How far is counted.
    pub const COUNTED: i32 = 100;

    /// How many runs need a human.
    pub fn needs(&self) -> i32 {
        self.unconfirmed + self.lost + self.stuck_count() + self.gone_wrong
    }

    /// How many live and get nowhere.
    pub fn stuck_count(&self) -> i32 {
        i32::try_from(self.stuck.len()).unwrap_or(Self::COUNTED)
    }
}

struct WorkerRow {
    name: String,
    version: String,
    arch: String,
    page_size: i64,
    kernel: String,
    engine: String,
    engine_ok: bool,
    sandboxed: bool,
    claude: Option<String>,
    rehearsal: bool,
    capacity: i32,
    cpu: Option<f64>,
    memory_used: Option<i64>,
    memory_total: Option<i64>,
    disk_used: Option<i64>,
    disk_total: Option<i64>,
    engine_ms: Option<f64>,
    lag_s: Option<f64>,
    started_at: OffsetDateTime,
    heard_at: OffsetDateTime,
    silent_s: f64,
    holds: i64,
    drained_at: Option<OffsetDateTime>,
    drained_by: Option<String>,
    drained_why: Option<String>,
}

impl From<WorkerRow> for Worker {
    fn from(row: WorkerRow) -> Self {
        let room = |used: Option<i64>, total: Option<i64>| Some(Room { used: used?, total: total? });
        Self {
            name: row.name,
            facts: HostFacts {
                version: row.version,
                arch: row.arch,
                page_size: row.page_size,
                kernel: row.kernel,
                engine: row.engine,
                engine_ok: row.engine_ok,
                sandboxed: row.sandboxed,
                claude: row.claude,
                rehearsal: row.rehearsal,
                capacity: row.capacity,
                load: Load {
                    cpu: row.cpu,
                    memory: room(row.memory_used, row.memory_total),
                    disk: room(row.disk_used, row.disk_total),
                    engine_ms: row.engine_ms,
                    lag_s: row.lag_s,
                },
                // Read by nobody but those who scrape.
                counts: Counts::default(),
            },
            started_at: row.started_at,
            heard_at: row.heard_at,
            silent_s: row.silent_s,
            holds: row.holds,
            drained: row.drained_at.zip(row.drained_by).map(|(at, by)| Drained {
                at,
                by,
                why: row.drained_why.unwrap_or_default(),
            }),
        }
    }
}

impl Db {
    /// A worker's heartbeat, with what it found on its host. `fresh` marks its start. A name belongs to the seat that it was
    /// last heard from; another takes it by a fresh start, and only after 30 s of silence, a whole lease. The first heartbeat
    /// of a minute leaves a sample too.
    ///
    /// # Errors
    /// [`Error::Taken`] when the name is another seat's; else [`Error::Unavailable`].
    pub async fn heartbeat(&self, worker: &str, seat: &str, facts: &HostFacts, fresh: bool) -> Result<()> {
        let (load, counts) = (&facts.load, &facts.counts);
        let heard = within(
            sqlx::query_scalar!(
                r#"with heard as (
                     insert into workers as w (name, version, arch, page_size, kernel, engine, engine_ok, sandboxed,
                                               claude, rehearsal, capacity, seat, cpu, memory_used, memory_total, disk_used,
                                               disk_total, engine_ms, lag_s, gate_calls, gate_usd, stops, stops_s)
                     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $13, $14, $15, $16, $17, $18,
                             $19, $20, $21, $22, $23, $24)
                     on conflict (name) do update set
                         version = excluded.version, arch = excluded.arch, page_size = excluded.page_size,
                         kernel = excluded.kernel, engine = excluded.engine, engine_ok = excluded.engine_ok,
                         sandboxed = excluded.sandboxed, claude = excluded.claude, rehearsal = excluded.rehearsal,
                         capacity = excluded.capacity, heard_at = now(),
                         started_at = case when $12 then now() else w.started_at end, seat = excluded.seat,
                         cpu = excluded.cpu, memory_used = excluded.memory_used,
                         memory_total = excluded.memory_total, disk_used = excluded.disk_used,
                         disk_total = excluded.disk_total, engine_ms = excluded.engine_ms, lag_s = excluded.lag_s,
                         gate_calls = excluded.gate_calls, gate_usd = excluded.gate_usd, stops = excluded.stops,
                         stops_s = excluded.stops_s
                     where w.seat is null or w.seat = excluded.seat
                        or ($12 and w.heard_at < now() - interval '30 s')
                     returning w.name),
                   sampled as (
                     insert into samples (minute, part, took_ms, bytes, cpu, disk, amount, age_s)
                     select date_trunc('minute', now()), 'worker ' || name, $19, $15, $14,
                            $17::float8 / nullif($18, 0),
                            (select count(*) from runs where worker = $1 and state in ('starting', 'running')),
                            $20
                     from heard on conflict do nothing)
                   select exists (select from heard) as "heard!""#,
                worker,
                facts.version,
                facts.arch,
                facts.page_size,
                facts.kernel,
                facts.engine,
                facts.engine_ok,
                facts.sandboxed,
                facts.claude,
                facts.rehearsal,
                facts.capacity,
                fresh,
                seat,
                load.cpu,
                load.memory.map(|room| room.used),
                load.memory.map(|room| room.total),
                load.disk.map(|room| room.used),
                load.disk.map(|room| room.total),
                load.engine_ms,
                load.lag_s,
                counts.calls,
                counts.usd,
                &counts.stops.counts,
                counts.stops.sum_s
            )
            .fetch_one(&self.pool),
        )
        .await?;
        if heard { Ok(()) } else { Err(Error::Taken("this worker’s name")) }
    }

    /// All workers, those heard of last first.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn workers(&self, _by: &Superuser) -> Result<Vec<Worker>> {
        let rows = within(
            sqlx::query_as!(
                WorkerRow,
                r#"select w.name, w.version, w.arch, w.page_size, w.kernel, w.engine, w.engine_ok, w.sandboxed,
                          w.claude, w.rehearsal, w.capacity, w.cpu, w.memory_used, w.memory_total, w.disk_used,
                          w.disk_total, w.engine_ms, w.lag_s, w.started_at, w.heard_at,
                          w.drained_at, w.drained_by, w.drained_why,
                          extract(epoch from now() - w.heard_at)::float8 as "silent_s!",
                          (select count(*) from runs r
                            where r.worker = w.name and r.state in ('starting', 'running')) as "holds!"
                   from workers w order by w.heard_at desc limit 200"#
            )
            .fetch_all(&self.pool),
        )
        .await?;
        Ok(rows.into_iter().map(Worker::from).collect())
    }

    /// What must be said of the fleet on every page.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn fleet_now(&self, _by: &Superuser) -> Result<FleetNow> {
        let said = within(
            sqlx::query!(
                r#"select coalesce(bool_or(not sandboxed), false) as "unsandboxed!",
                     coalesce(bool_or(rehearsal), false) as "rehearsal!",
                     cardinality(array(select 1 from runs where wish = 'stop' and state <> 'ended'
                                       limit 100)) as "unconfirmed!",
                     cardinality(array(select 1 from runs where state = 'lost' and wish = 'run'
                                       limit 100)) as "lost!",
                     cardinality(array(select 1 from runs where state = 'lost' limit 100)) as "all_lost!",
                     cardinality(array(select 1 from runs where state in ('starting', 'running') and wish = 'run'
                                       limit 100)) as "working!",
                     cardinality(array(select 1 from runs where state = 'queued' and wish = 'run'
                                       limit 100)) as "waiting!",
                     cardinality(array(select 1 from runs where outcome in ('failed', 'over_budget')
                                          and ended_at > now() - interval '1 hour' limit 100)) as "gone_wrong!"
                   from workers where heard_at > now() - interval '15 s'"#
            )
            .fetch_one(&self.pool),
        );
        let (said, stuck) = tokio::try_join!(said, self.some_stuck_runs())?;
        Ok(FleetNow {
            unsandboxed: said.unsandboxed,
            rehearsal: said.rehearsal,
            unconfirmed: said.unconfirmed,
            lost: said.lost,
            all_lost: said.all_lost,
            working: said.working,
            waiting: said.waiting,
            stuck: stuck.into_iter().map(RunId).collect(),
            gone_wrong: said.gone_wrong,
        })
    }

    /// How much waits, and for how long.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn queue_depth(&self, _by: &Superuser) -> Result<QueueDepth> {
        within(
            sqlx::query_as!(
                QueueDepth,
                r#"select
                     (select count(*) from (select 1 from runs where state = 'queued' and wish = 'run'
                                            limit 1000) q) as "queued!",
                     (select extract(epoch from now() - asked_at)::float8 from runs
                       where state = 'queued' and wish = 'run' order by id limit 1) as oldest_s,
                     (select count(*) from (select 1 from runs where wish = 'stop' and state <> 'ended'
                                            limit 1000) u) as "unconfirmed!",
                     (select count(*) from (select 1 from runs where state = 'lost' limit 1000) l) as "lost!""#
            )
            .fetch_one(&self.pool),
        )
        .await
    }
}
