//! Samples: what each part measured, once a minute, for a day. Workers leave theirs with their heartbeats.

use time::OffsetDateTime;

use super::{Db, Result, Superuser, within};

/// What a server has measured of the stores and of itself, for its minute's sample.
#[derive(Debug, Clone, Default)]
pub struct Sampled {
    /// The server's name.
    pub server: String,
    /// How long Postgres took to answer, in milliseconds.
    pub postgres_ms: f64,
    /// The same of Redis; none when it didn't.
    pub redis_ms: Option<f64>,
    /// What Redis holds, in bytes.
    pub redis_bytes: Option<i64>,
    /// The share of all processors that the server used.
    pub cpu: Option<f64>,
    /// The server's own memory, in bytes.
    pub memory: Option<i64>,
    /// Open streams.
    pub streams: f64,
    /// Requests since the sample before.
    pub requests: Option<f64>,
}

/// What was measured of one part, in one minute or as the worst of several. What isn't known is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which part: `postgres`, `redis`, `queue`, `events`, `server NAME`, `worker NAME`.
    pub part: String,
    /// When the minute, or the ten minutes, began.
    pub at: OffsetDateTime,
    /// How long it took to answer, in milliseconds.
    pub took_ms: Option<f32>,
    /// A size, or memory.
    pub bytes: Option<i64>,
    /// A share of processors.
    pub cpu: Option<f32>,
    /// A share of the disk.
    pub disk: Option<f32>,
    /// Runs, or streams.
    pub amount: Option<f32>,
    /// An age or a delay, in seconds.
    pub age_s: Option<f32>,
    /// Requests in a minute.
    pub requests: Option<f32>,
}

impl Db {
    /// Leaves this minute's samples of what belongs to no worker, and deletes those that are older than a day. Several
    /// servers may do so at once: the first one's stay.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn sample(&self, sampled: &Sampled) -> Result<()> {
        within(
            sqlx::query!(
                "with old as (
                     delete from samples where (minute, part) in (
                         select minute, part from samples where minute < now() - interval '1 day'
                         order by minute limit 5000)),
                 depth as (
                     select cardinality(array(select 1 from runs where state = 'queued' and wish = 'run'
                                              limit 10000)) as queued,
                            coalesce((select extract(epoch from now() - asked_at) from runs
                                      where state = 'queued' and wish = 'run' order by id limit 1), 0) as oldest_s),
                 lag as (select max(lag_s) as worst_s from workers where heard_at > now() - interval '15 s')
                 insert into samples (minute, part, took_ms, bytes, cpu, amount, age_s, requests)
                 select date_trunc('minute', now()), sampled.*
                 from (select 'postgres', $1::float8, pg_database_size(current_database()), null::float8,
                              null::float8, null::float8, null::float8
                       union all select 'redis', $2::float8, $3::bigint, null, null, null, null
                       union all select 'queue', null, null, null, queued, oldest_s::float8, null from depth
                       union all select 'events', null, null, null, null, worst_s, null from lag
                       union all select 'server ' || $4::text, null, $5::bigint, $6::float8, $7::float8, null,
                                        $8::float8) sampled
                 on conflict do nothing",
                sampled.postgres_ms,
                sampled.redis_ms,
                sampled.redis_bytes,
                sampled.server,
                sampled.memory,
                sampled.cpu,
                sampled.streams,
                sampled.requests
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// The samples of the last hour, by part and minute.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn samples_of_hour(&self, _by: &Superuser) -> Result<Vec<Sample>> {
        within(
            sqlx::query_as!(
                Sample,
                "select part, minute as at, took_ms, bytes, cpu, disk, amount, age_s, requests from samples
                 where minute > now() - interval '61 min' order by part, minute limit 20000"
            )
            .fetch_all(&self.pool),
        )
        .await
    }

    /// The samples of the last day from `since` on, the worst of each ten minutes, by part and time.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn samples_of_day(&self, _by: &Superuser, since: OffsetDateTime) -> Result<Vec<Sample>> {
        within(
            sqlx::query_as!(
                Sample,
                r#"select part, date_bin('10 min', minute, timestamptz 'epoch') as "at!", max(took_ms) as took_ms,
                          max(bytes) as bytes, max(cpu) as cpu, max(disk) as disk, max(amount) as amount,
                          max(age_s) as age_s, max(requests) as requests
                   from samples where minute >= greatest($1, now() - interval '1 day') group by 1, 2 order by 1, 2
                   limit 50000"#,
                since
            )
            .fetch_all(&self.pool),
        )
        .await
    }
}
