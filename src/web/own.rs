//! This server's own measurements, and the sample that it leaves of the stores and of itself each minute.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::web::Data;
use time::OffsetDateTime;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Site;
use super::counts::Counts;
use super::measure::{PATIENCE, measure};
use crate::db::Sampled;
use crate::{clock, host};

/// How long a server lives before it leaves its first sample.
const FIRST_AFTER: Duration = Duration::from_secs(2);

/// What the server used in a span that is just over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    /// The share of all processors.
    pub(crate) cpu: Option<f64>,
    /// Requests a minute.
    pub(crate) requests: Option<f64>,
    /// When the span ended.
    pub(crate) at: OffsetDateTime,
}

/// What is kept between two samples.
pub(crate) struct Own {
    counts: Data<Counts>,
    used: Mutex<Option<Used>>,
}

/// As of one moment.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    seconds: Option<f64>,
    requests: u64,
}

impl Own {
    pub(crate) fn new(counts: &Data<Counts>) -> Self {
        Self { counts: counts.clone(), used: Mutex::default() }
    }

    /// What the last whole minute took; none before there was one.
    pub(crate) fn used(&self) -> Option<Used> {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn streams(&self) -> i64 {
        self.counts.streams()
    }

    fn look(&self) -> Look {
        Look { at: Instant::now(), seconds: host::own_seconds(), requests: self.counts.requests() }
    }

    /// Leaves a sample each minute, until shutdown.
    pub(crate) async fn go_on(&self, site: &Site, shutdown: &CancellationToken) {
        let sampling = async {
            let mut before = None;
            sleep(FIRST_AFTER).await;
            loop {
                let now = self.look();
                if let Some(before) = before {
                    *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Some(used(before, now));
                }
                self.sample(site).await;
                before = Some(now);
                sleep(to_next_minute(clock::now())).await;
            }
        };
        let _: Option<()> = shutdown.run_until_cancelled(sampling).await;
    }

    /// Leaves one. A Postgres that doesn't answer leaves a gap, which is what it was.
    async fn sample(&self, site: &Site) {
        let (postgres, redis) =
            tokio::join!(measure(PATIENCE, site.db.ping()), measure(PATIENCE, site.queue.ping()));
        let Some(postgres_ms) = postgres.took_ms() else { return };
        let redis_bytes = if redis.answer.is_ok() { site.queue.bytes().await.ok() } else { None };
        let used = self.used();
        let sampled = Sampled {
            server: site.name.clone(),
            postgres_ms,
            redis_ms: redis.took_ms(),
            redis_bytes,
            cpu: used.and_then(|used| used.cpu),
            memory: host::own_memory(),
            streams: self.streams() as f64,
            requests: used.and_then(|used| used.requests),
        };
        if let Err(error) = site.db.sample(&sampled).await {
            tracing::debug!(%error, "no sample of this minute");
        }
    }
}

fn used(before: Look, now: Look) -> Used {
    let took = now.at.duration_since(before.at).as_secs_f64();
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    let seconds = now.seconds.zip(before.seconds).map(|(now, before)| now - before);
    let per = |amount: f64, span: f64| (span > 0.0).then(|| amount / span);
    Used {
        cpu: seconds.and_then(|seconds| per(seconds, took * processors)),
        requests: per((now.requests - before.requests) as f64 * 60.0, took),
        at: clock::now(),
    }
}

/// To its first second, so that no sample falls into the minute before.
fn to_next_minute(now: OffsetDateTime) -> Duration {
    Duration::from_secs(61 - u64::from(now.second()))
}
