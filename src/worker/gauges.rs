//! What a worker measures of its host and counts of itself, for its heartbeats.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::host::{self, Spent};
use crate::model::metered::Metered;
use crate::model::worker::{Counts, Load, Room};

/// How long a disk may take to say how full it is: one that hangs shall not silence its worker.
const DISK_WITHIN: Duration = Duration::from_millis(300);

/// What is kept between two heartbeats.
pub(super) struct Gauges {
    kept: Mutex<Kept>,
    /// Whoever asks the disk holds it; a disk that hangs isn't asked again.
    disk: Arc<Semaphore>,
}

impl Default for Gauges {
    fn default() -> Self {
        Self { kept: Mutex::default(), disk: Arc::new(Semaphore::new(1)) }
    }
}

#[derive(Default)]
struct Kept {
    processors: Option<Spent>,
    lag: Option<Duration>,
    counts: Counts,
}

impl Gauges {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lines have just been stored, the first of which was printed so long ago.
    pub(super) fn stored(&self, lag: Duration) {
        let mut kept = self.kept();
        kept.lag = kept.lag.max(Some(lag));
    }

    /// A gate's figures have grown.
    pub(super) fn metered(&self, before: &Metered, now: &Metered) {
        let counts = &mut self.kept().counts;
        counts.calls += (now.calls - before.calls).max(0);
        counts.usd += (now.usd.unwrap_or_default() - before.usd.unwrap_or_default()).max(0.0);
    }

    /// A stop is proven.
    pub(super) fn stopped(&self, took_s: f64) {
        self.kept().counts.stops.count(took_s);
    }

    /// What has been counted since this life began.
    pub(super) fn counts(&self) -> Counts {
        self.kept().counts.clone()
    }

    /// What there is to bear now; `engine` is how long the engine took to answer, if it did.
    pub(super) async fn load(&self, folder: &Path, engine: Option<Duration>) -> Load {
        let room = |(used, total)| Room { used, total };
        let (memory, disk) = (host::memory().map(room), self.disk(folder).await.map(room));
        let processors = host::processors();
        let mut kept = self.kept();
        let before = std::mem::replace(&mut kept.processors, processors);
        Load {
            cpu: processors.zip(before).and_then(|(now, before)| now.share_since(before)),
            memory,
            disk,
            engine_ms: engine.map(|took| took.as_secs_f64() * 1000.0),
            lag_s: kept.lag.take().map(|lag| lag.as_secs_f64()),
        }
    }
}

impl Gauges {
    async fn disk(&self, folder: &Path) -> Option<host::Room> {
        let turn = Arc::clone(&self.disk).try_acquire_owned().ok()?;
        let folder = folder.to_owned();
        let asked = spawn_blocking(move || {
            let _turn = turn;
            host::disk(&folder)
        });
        timeout(DISK_WITHIN, asked).await.ok()?.ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_worst_lag_is_told_once() {
        let gauges = Gauges::default();
        gauges.stored(Duration::from_millis(30));
        gauges.stored(Duration::from_millis(250));
        gauges.stored(Duration::from_millis(20));
        let load = gauges.load(Path::new("/"), None).await;
        assert_eq!(load.lag_s, Some(0.25));
        assert_eq!(gauges.load(Path::new("/"), None).await.lag_s, None);
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_unknown_and_asked_once() {
        let gauges = Gauges::default();
        assert!(gauges.load(Path::new("/"), None).await.disk.is_some());
        let hangs = Arc::clone(&gauges.disk).try_acquire_owned().unwrap();
        assert_eq!(gauges.load(Path::new("/"), None).await.disk, None);
        drop(hangs);
        assert!(gauges.load(Path::new("/"), None).await.disk.is_some());
    }

    #[test]
    fn only_what_a_gate_metered_more_is_counted() {
        let gauges = Gauges::default();
        let metered = |calls, usd| Metered { calls, usd, ..Metered::default() };
        gauges.metered(&metered(3, Some(0.5)), &metered(5, Some(0.75)));
        gauges.metered(&metered(0, None), &metered(1, Some(1.0)));
        let counts = gauges.counts();
        assert_eq!((counts.calls, counts.usd), (3, 1.25));
    }
}
