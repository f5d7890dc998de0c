//! What is measured for those who scrape, and the proof that they may: another one than a superuser's, good for nothing else.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Db, Result, within};
use crate::model::worker::{Counts, Load, Room, StopTimes};

/// The token that scraping takes, by its hash.
#[derive(Clone)]
pub struct MetricsToken([u8; 32]);

/// Somebody who has shown that token. There is no other way to make one:
///
/// ```compile_fail
/// let by = signalbox::db::MetricsReader(());
/// ```
#[derive(Debug, Clone)]
pub struct MetricsReader(());

impl MetricsToken {
    /// Of this token.
    pub fn new(token: &SecretString) -> Self {
        Self(Sha256::digest(token.expose_secret()).into())
    }

    /// The proof, when it is the token that was shown. It takes the same time however much of it is right.
    pub fn reader(&self, shown: &[u8]) -> Option<MetricsReader> {
        let shown: [u8; 32] = Sha256::digest(shown).into();
        bool::from(self.0.ct_eq(&shown)).then_some(MetricsReader(()))
    }
}

impl std::fmt::Debug for MetricsToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsToken")
    }
}

/// The fleet in numbers. Runs are counted up to [`Figures::COUNTED`] of a kind, so that it costs the same with a million.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Runs that wait for a worker.
    pub queued: i32,
    /// Runs that are being started.
    pub starting: i32,
    /// Runs that live.
    pub running: i32,
    /// Runs whose worker fell silent.
    pub lost: i32,
    /// Wishes to stop whose evidence isn't in yet.
    pub unconfirmed: i32,
    /// For how long the oldest waits, in seconds; none when none does.
    pub oldest_s: Option<f64>,
    /// Size of the database, in bytes, as of its last sample.
    pub postgres_bytes: Option<i64>,
    /// What Redis holds, in bytes, as of its last sample.
    pub redis_bytes: Option<i64>,
}

impl Figures {
    /// How far is counted.
    pub const COUNTED: i32 = 10_000;
}

/// A worker in numbers.
#[derive(Debug, Clone)]
pub struct WorkerFigures {
    /// Its name.
    pub name: String,
    /// Seconds since its last heartbeat.
    pub silent_s: f64,
    /// Whether the engine answered then.
    pub engine_ok: bool,
    /// How many runs it takes.
    pub capacity: i32,
    /// How many it holds.
    pub holds: i64,
    /// What its host had to bear then.
    pub load: Load,
    /// What it had counted by then.
    pub counts: Counts,
}

impl Db {
    /// The fleet in numbers.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn figures(&self, _by: &MetricsReader) -> Result<Figures> {
        within(
            sqlx::query_as!(
                Figures,
                r#"select
                     cardinality(array(select 1 from runs where state = 'queued' limit 10000)) as "queued!",
                     cardinality(array(select 1 from runs where state = 'starting' limit 10000)) as "starting!",
                     cardinality(array(select 1 from runs where state = 'running' limit 10000)) as "running!",
                     cardinality(array(select 1 from runs where state = 'lost' limit 10000)) as "lost!",
                     cardinality(array(select 1 from runs where wish = 'stop' and state <> 'ended'
                                       limit 10000)) as "unconfirmed!",
                     (select extract(epoch from now() - asked_at)::float8 from runs
                       where state = 'queued' and wish = 'run' order by id limit 1) as oldest_s,
                     (select bytes from samples where part = 'postgres' and minute > now() - interval '5 min'
                       order by minute desc limit 1) as postgres_bytes,
                     (select bytes from samples where part = 'redis' and minute > now() - interval '5 min'
                       order by minute desc limit 1) as redis_bytes"#
            )
            .fetch_one(&self.pool),
        )
        .await
    }

    /// The workers in numbers; not those that have been silent for a day.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn worker_figures(&self, _by: &MetricsReader) -> Result<Vec<WorkerFigures>> {
        let rows = within(
            sqlx::query!(
                r#"select w.name, extract(epoch from now() - w.heard_at)::float8 as "silent_s!", w.engine_ok,
                          w.capacity, w.cpu, w.memory_used, w.memory_total, w.disk_used, w.disk_total, w.engine_ms,
                          w.lag_s, w.gate_calls, w.gate_usd, w.stops, w.stops_s,
                          (select count(*) from runs r
                            where r.worker = w.name and r.state in ('starting', 'running')) as "holds!"
                   from workers w where w.heard_at > now() - interval '1 day' order by w.name limit 200"#
            )
            .fetch_all(&self.pool),
        )
        .await?;
        let room = |used: Option<i64>, total: Option<i64>| Some(Room { used: used?, total: total? });
        let figures = rows.into_iter().map(|row| WorkerFigures {
            silent_s: row.silent_s,
            engine_ok: row.engine_ok,
            capacity: row.capacity,
            holds: row.holds,
            load: Load {
                cpu: row.cpu,
                memory: room(row.memory_used, row.memory_total),
                disk: room(row.disk_used, row.disk_total),
                engine_ms: row.engine_ms,
                lag_s: row.lag_s,
            },
            counts: Counts {
                calls: row.gate_calls,
                usd: row.gate_usd,
                stops: StopTimes { counts: row.stops, sum_s: row.stops_s },
            },
            name: row.name,
        });
        Ok(figures.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_proof() {
        let token = MetricsToken::new(&"0123456789abcdef0123456789abcdef".into());
        assert!(token.reader(b"0123456789abcdef0123456789abcdef").is_some());
        for wrong in [&b""[..], b"0123456789abcdef0123456789abcdeF", b"0123456789abcdef", b"x"] {
            assert!(token.reader(wrong).is_none());
        }
    }
}
