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

/// The longest pause, in first ones.
const LONGEST: u32 = 12;
/// So many tries a run has at least.
const TRIES: u32 = 5;
/// For how long at least a run is tried while the engine starts others, in first pauses.
const BESIDE_OTHERS: u32 = 60;
/// For how long when it has started no other: more likely than not it is the engine's fault, and will pass.
const ALONE: u32 = 720;

/// What one worker has seen of its engine's starts; its next life begins anew.
pub(super) struct Starts {
    /// After a first failure; doubled with each that follows.
    pause: Duration,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// How many tries in a row have failed. Those that came before the pause was over are one.
    in_a_row: u32,
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

    fn pause(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(LONGEST);
        self.pause * doubled.clamp(1, LONGEST)
    }

    /// Why nothing more may be tried now, if so.
    pub(super) fn forbid(&self, now: Instant) -> Option<String> {
        let seen = self.seen();
        let rests = seen.rests_until.is_some_and(|until| now < until);
        (seen.in_a_row > 0 && (rests || seen.trying.is_some())).then(|| seen.why.clone())
    }

    /// A run was taken to be started.
    pub(super) fn takes(&self, run: RunId) {
        let mut seen = self.seen();
        if seen.in_a_row > 0 {
            seen.trying = Some(run);
        }
    }

    /// The engine has started a run.
    pub(super) fn worked(&self, run: RunId) {
        let mut seen = self.seen();
        seen.started += 1;
        seen.failed.remove(&run);
        (seen.in_a_row, seen.rests_until, seen.trying) = (0, None, None);
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
            seen.in_a_row += 1;
            seen.rests_until = Some(now + self.pause(seen.in_a_row));
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
        (seen.in_a_row, seen.rests_until, seen.trying) = (0, None, None);
        for failed in seen.failed.values_mut() {
            failed.last = failed.last.min(now.checked_sub(self.pause * LONGEST).unwrap_or(now));
        }
    }

    /// Runs that it failed to start: all of them; and those that were tried too short a while ago to be tried again.
    pub(super) fn failed_runs(&self, now: Instant) -> (Vec<RunId>, Vec<RunId>) {
        let seen = self.seen();
        let rests = |failed: &Failed| now.duration_since(failed.last) < self.pause(failed.tries);
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
    fn pauses_grow_up_to_a_minute_and_end_with_a_start() {
        let (starts, begun) = (Starts::new(s(5)), Instant::now());
        assert_eq!(starts.forbid(begun), None);
        let mut now = begun;
        for pause in [5, 10, 20, 40, 60, 60] {
            starts.takes(A);
            assert_eq!(starts.forbid(now).is_some(), now > begun, "one is tried, where there is doubt");
            starts.failed(A, "full", now);
            // One that was on its way makes it no longer.
            starts.failed(B, "full", now + s(1));
            assert_eq!(starts.forbid(now + s(pause) - s(1)).as_deref(), Some("full"), "{pause}");
            now += s(pause);
            assert_eq!(starts.forbid(now), None, "{pause}");
        }
        starts.takes(B);
        assert!(starts.forbid(now).is_some());
        starts.worked(B);
        assert_eq!(starts.forbid(now), None);
        starts.takes(B);
        assert_eq!(starts.forbid(now), None, "no doubt, no limit");
        starts.failed(A, "full", now);
        assert_eq!(starts.forbid(now + s(5)), None, "from the beginning");
    }

    #[test]
    fn one_that_was_tried_and_given_back_for_another_reason_is_not_waited_for() {
        let (starts, now) = (Starts::new(s(5)), Instant::now());
        starts.failed(A, "full", now);
        starts.takes(A);
        assert!(starts.forbid(now + s(5)).is_some());
        starts.left(B);
        assert!(starts.forbid(now + s(5)).is_some());
        starts.left(A);
        assert_eq!(starts.forbid(now + s(5)), None);
    }

    #[test]
    fn an_engine_that_was_away_is_tried_at_once() {
        let (starts, now) = (Starts::new(s(5)), Instant::now() + s(600));
        starts.failed(A, "full", now);
        assert_eq!(starts.failed_runs(now), (vec![A], vec![A]));
        starts.forgive(now);
        assert_eq!((starts.forbid(now), starts.failed_runs(now)), (None, (vec![A], vec![])));
    }

    /// The tries of a run that never starts, until it is given up: how many, and how long they took.
    fn tries(others_start: bool) -> GivenUp {
        let (starts, mut now) = (Starts::new(s(5)), Instant::now());
        loop {
            if let Some(given_up) = starts.failed(A, "no", now) {
                return given_up;
            }
            if others_start {
                starts.worked(B);
            }
            while !starts.failed_runs(now).1.is_empty() || starts.forbid(now).is_some() {
                now += s(5);
            }
        }
    }

    #[test]
    fn one_that_fails_alone_is_given_up_after_minutes_and_one_of_many_only_after_an_hour() {
        assert_eq!(tries(true), GivenUp { tries: 9, within: s(315) });
        let alone = tries(false);
        assert!(alone.within >= s(3600) && alone.within < s(3700), "{alone:?}");
    }
}
