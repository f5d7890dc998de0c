//! What has come of the starts that the engine was asked for: how long it is left alone after one that failed, and which
//! runs it fails to start while it starts others.
//!
//! An engine answers for its version while it can start nothing: its disk is full, or the part that starts containers is
//! dead. So after a failed start nothing is taken for a while, and then one run is tried, another one if there is any.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::run::RunId;

/// The longest pause, in shortest ones: what is back is tried within 5 s.
const LONGEST: u32 = 4;
/// A pause is this part of the time for which starts have failed by then: what passes soon is made good soon.
const SHARE: u32 = 10;
/// So many tries a run has at least.
const TRIES: u32 = 5;
/// For how long at least a run is tried while the engine starts others, in shortest pauses.
const BESIDE_OTHERS: u32 = 300;
/// For how long when it has started no other: more likely than not it is the engine's fault, and will pass.
const ALONE: u32 = 3600;

/// What one worker has seen of its engine's starts; its next life begins anew.
pub(super) struct Starts {
    /// The shortest, after a first failure.
    pause: Duration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Since when each try has failed.
    failing_since: Option<Instant>,
    why: String,
    rests_until: Option<Instant>,
    /// The one run that is tried after the pause.
    trying: Option<RunId>,
    /// How many runs were started.
    started: u64,
    failed: HashMap<RunId, Failed>,
}

/// A run that the engine failed to start.
struct Failed {
    tries: u32,
    first: Instant,
    last: Instant,
    /// How many others had been started at the first failure.
    started: u64,
}

/// How often a run was tried in vain, when that is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GivenUp {
    pub(super) tries: u32,
    pub(super) within: Duration,
}

impl Starts {
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self, failing_for: Duration) -> Duration {
        (failing_for / SHARE).clamp(self.pause, self.pause * LONGEST)
    }

    /// Why nothing more may be tried now, if so.
    pub(super) fn forbid(&self, now: Instant) -> Option<String> {
        let seen = self.seen();
        let rests = seen.rests_until.is_some_and(|until| now < until);
        (seen.failing_since.is_some() && (rests || seen.trying.is_some())).then(|| seen.why.clone())
    }

    /// A run was taken to be started.
    pub(super) fn takes(&self, run: RunId) {
        let mut seen = self.seen();
        if seen.failing_since.is_some() {
            seen.trying = Some(run);
        }
    }

    /// The engine has started a run.
    pub(super) fn worked(&self, run: RunId) {
        let mut seen = self.seen();
        seen.started += 1;
        seen.failed.remove(&run);
        (seen.failing_since, seen.rests_until, seen.trying) = (None, None, None);
    }

    /// The engine has failed to start a run; says whether that was its last try.
    pub(super) fn failed(&self, run: RunId, why: &str, now: Instant) -> Option<GivenUp> {
        self.rest(why, now);
        let mut seen = self.seen();
        let started = seen.started;
        // What another worker has taken meanwhile isn't heard of again.
        seen.failed.retain(|_, failed| now.duration_since(failed.last) < self.pause * ALONE);
        let first = Failed { tries: 0, first: now, last: now, started };
        let failed = seen.failed.entry(run).or_insert(first);
        (failed.tries, failed.last) = (failed.tries + 1, now);
        let within = now.duration_since(failed.first);
        let patience = if started > failed.started { BESIDE_OTHERS } else { ALONE };
        (failed.tries >= TRIES && within >= self.pause * patience)
            .then_some(GivenUp { tries: failed.tries, within })
    }

    /// Something failed before the engine could be asked: nothing is taken for a while.
    pub(super) fn rest(&self, why: &str, now: Instant) {
        let mut seen = self.seen();
        why.clone_into(&mut seen.why);
        seen.trying = None;
        if seen.rests_until.is_none_or(|until| until <= now) {
            let since = *seen.failing_since.get_or_insert(now);
            seen.rests_until = Some(now + self.pause(now.duration_since(since)));
        }
    }

    /// Whatever was tried of this run is over.
    pub(super) fn left(&self, run: RunId) {
        let mut seen = self.seen();
        seen.trying = seen.trying.filter(|trying| *trying != run);
    }

    /// The engine has been away altogether: what comes back is another one, and is tried at once.
    pub(super) fn forgive(&self, now: Instant) {
        let mut seen = self.seen();
        (seen.failing_since, seen.rests_until, seen.trying) = (None, None, None);
        for failed in seen.failed.values_mut() {
            failed.last = failed.last.min(now.checked_sub(self.pause * LONGEST).unwrap_or(now));
        }
    }

    /// Runs that it failed to start: all of them; and those that were tried too short a while ago to be tried again.
    pub(super) fn failed_runs(&self, now: Instant) -> (Vec<RunId>, Vec<RunId>) {
        let seen = self.seen();
        let rests = |failed: &Failed| {
            now.duration_since(failed.last) < self.pause(failed.last.duration_since(failed.first))
        };
        let resting = seen.failed.iter().filter(|(_, failed)| rests(failed)).map(|(run, _)| *run);
        (seen.failed.keys().copied().collect(), resting.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RunId = RunId(1);
    const B: RunId = RunId(2);

    fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn pauses_grow_with_what_it_has_lasted_and_end_with_a_start() {
        let (starts, begun) = (Starts::new(s(1)), Instant::now());
        assert_eq!(starts.forbid(begun), None);
        for (after, pause) in [(0, 1), (5, 1), (30, 3), (100, 4), (1000, 4), (2000, 4)] {
            let now = begun + s(after);
            assert_eq!(starts.forbid(now), None, "{after}");
            starts.takes(A);
            assert_eq!(starts.forbid(now).is_some(), after > 0, "one is tried, where there is doubt");
            starts.failed(A, "full", now);
            let almost = now + s(pause) - Duration::from_millis(1);
            // One that was on its way makes it no longer.
            starts.failed(B, "full", almost);
            assert_eq!(starts.forbid(almost).as_deref(), Some("full"), "{pause}");
            assert_eq!(starts.forbid(now + s(pause)), None, "{pause}");
        }
        let now = begun + s(3000);
        starts.takes(B);
        assert!(starts.forbid(now).is_some());
        starts.worked(B);
        assert_eq!(starts.forbid(now), None);
        starts.takes(B);
        assert_eq!(starts.forbid(now), None, "no doubt, no limit");
        starts.failed(A, "full", now);
        assert_eq!(starts.forbid(now + s(1)), None, "from the beginning");
    }

    #[test]
    fn one_that_was_tried_and_given_back_for_another_reason_is_not_waited_for() {
        let (starts, now) = (Starts::new(s(1)), Instant::now());
        starts.failed(A, "full", now);
        starts.takes(A);
        assert!(starts.forbid(now + s(1)).is_some());
        starts.left(B);
        assert!(starts.forbid(now + s(1)).is_some());
        starts.left(A);
        assert_eq!(starts.forbid(now + s(1)), None);
    }

    #[test]
    fn an_engine_that_was_away_is_tried_at_once() {
        let (starts, now) = (Starts::new(s(1)), Instant::now() + s(600));
        starts.failed(A, "full", now);
        assert_eq!(starts.failed_runs(now), (vec![A], vec![A]));
        starts.forgive(now);
        assert_eq!((starts.forbid(now), starts.failed_runs(now)), (None, (vec![A], vec![])));
    }

    /// The tries of a run that never starts, until it is given up: how many, and how long they took.
    fn tries(others_start: bool) -> GivenUp {
        let (starts, mut now) = (Starts::new(s(1)), Instant::now());
        loop {
            if let Some(given_up) = starts.failed(A, "no", now) {
                return given_up;
            }
            if others_start {
                starts.worked(B);
            }
            while !starts.failed_runs(now).1.is_empty() || starts.forbid(now).is_some() {
                now += s(1);
            }
        }
    }

    #[test]
    fn one_that_fails_alone_is_given_up_after_minutes_and_one_of_many_only_after_an_hour() {
        let beside = tries(true);
        assert!(beside.within >= s(300) && beside.within < s(310) && beside.tries >= 5, "{beside:?}");
        let alone = tries(false);
        assert!(alone.within >= s(3600) && alone.within < s(3610), "{alone:?}");
    }
}
