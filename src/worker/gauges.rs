//! What a worker measures of its host and counts of itself, for its heartbeats.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::host::{self, Spent};
use crate::model::metered::Metered;
use crate::model::worker::{Counts, Load, Room};

/// What is kept between two heartbeats.
#[derive(Default)]
pub(super) struct Gauges(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    processors: Option<Spent>,
    lag: Option<Duration>,
    counts: Counts,
}

impl Gauges {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(super) fn load(&self, folder: &Path, engine: Option<Duration>) -> Load {
        let room = |(used, total)| Room { used, total };
        let (memory, disk) = (host::memory().map(room), host::disk(folder).map(room));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_lag_is_told_once() {
        let gauges = Gauges::default();
        gauges.stored(Duration::from_millis(30));
        gauges.stored(Duration::from_millis(250));
        gauges.stored(Duration::from_millis(20));
        let lag = || gauges.load(Path::new("/"), None).lag_s;
        assert_eq!((lag(), lag()), (Some(0.25), None));
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
