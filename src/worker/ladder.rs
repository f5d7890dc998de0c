//! The ladder: which signal a stop sends when. Pure: time comes in, signals come out; the proof is the engine's.

use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Signal;
use crate::model::run::{LadderTimes, Step, StopMode};

/// How long after a signal that didn't reach the engine it is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// The longest pause between two SIGKILLs.
const PATIENCE_MAX: Duration = Duration::from_secs(10);

/// Where a stop stands.
#[derive(Debug, Clone)]
pub struct Ladder {
    times: LadderTimes,
    rung: Signal,
    /// When the rung was first tried; none before.
    since: Option<Instant>,
    /// The signals that were taken, in the order of the rungs.
    taken: Vec<Signal>,
    /// Those to which it gave no answer: each may have got through all the same.
    unanswered: Vec<Signal>,
    /// Whether this rung's signal got through.
    through: bool,
    /// Whether the engine took a SIGKILL, and whether the host's own went through.
    killed_by: (bool, bool),
    next: Instant,
    kills: u32,
}

impl Ladder {
    /// A ladder that begins now.
    pub fn begin(mode: StopMode, times: LadderTimes, now: Instant) -> Self {
        Self {
            times,
            rung: lowest(mode),
            since: None,
            taken: Vec::new(),
            unanswered: Vec::new(),
            through: false,
            killed_by: (false, false),
            next: now,
            kills: 0,
        }
    }

    /// Goes to SIGKILL at once, if it isn't there.
    pub fn force(&mut self, now: Instant) {
        if self.rung != Signal::Kill {
            self.climb(Signal::Kill, now);
        }
    }

    /// When [`Self::due`] has something to say.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// When the rung's time is up, whatever became of its signal; never for the last one.
    pub fn climbs_at(&self) -> Option<Instant> {
        let since = self.since?;
        match self.rung {
            Signal::Int => Some(since + self.times.sigint),
            Signal::Term => Some(since + self.times.sigterm),
            Signal::Kill => None,
        }
    }

    /// Goes to the next rung if this one's time is up.
    pub fn climb_if_due(&mut self, now: Instant) {
        if self.climbs_at().is_some_and(|at| now >= at) {
            self.climb(if self.rung == Signal::Int { Signal::Term } else { Signal::Kill }, now);
        }
    }

    /// The signal of the rung reached.
    pub fn rung(&self) -> Signal {
        self.rung
    }

    /// The rung reached.
    pub fn step(&self) -> Step {
        step(self.rung)
    }

    /// The highest signal that was taken.
    pub fn delivered(&self) -> Option<Signal> {
        self.taken.last().copied()
    }

    /// The signal behind an exit: one whose mark the exit code is, taken or left without an answer (an engine that hangs does
    /// what it was asked when it goes on, and nobody is told); else one that a program may answer with any code, if it was
    /// taken. SIGKILL leaves no other code than its own.
    pub fn behind(&self, exit_code: i64) -> Option<Signal> {
        // An engine that was away when the host killed, in this life of the worker or a former one, knows no exit code.
        if exit_code == UNKNOWN && (self.killed_by.1 || self.unanswered.contains(&Signal::Kill)) {
            return Some(Signal::Kill);
        }
        let tried = self.taken.iter().chain(&self.unanswered).copied();
        let marked = tried.filter(|signal| marks(*signal).contains(&exit_code)).max();
        marked.or_else(|| self.taken.iter().copied().filter(|signal| *signal != Signal::Kill).max())
    }

    /// Counts what a former life had tried, up to this rung and the next: it may have got through, and a life that was cut
    /// short in the middle of a signal had no time to say so.
    pub fn tried_before(&mut self, step: Step) {
        tried(step).for_each(|signal| self.unanswered(signal));
    }

    fn take(&mut self, signal: Signal) {
        if !self.taken.contains(&signal) {
            self.taken.push(signal);
        }
    }

    /// The signal to send now, if one is due.
    pub fn due(&mut self, now: Instant) -> Option<Signal> {
        if now < self.next {
            return None;
        }
        self.climb_if_due(now);
        self.since.get_or_insert(now);
        Some(self.rung)
    }

    /// What became of the signal that was due. One that got through is not sent again, but for SIGKILL, which is
    /// repeated with growing patience until the engine says that the container is over.
    pub fn sent(&mut self, through: bool, now: Instant) {
        if through {
            self.through = true;
            self.take(self.rung);
            self.killed_by.0 |= self.rung == Signal::Kill;
        }
        let since = self.since.unwrap_or(now);
        self.next = match self.rung {
            Signal::Kill => {
                self.kills += u32::from(through);
                let patience = self.times.sigkill * 2_u32.saturating_pow(self.kills.saturating_sub(1));
                now + if through { patience.min(PATIENCE_MAX) } else { RETRY }
            }
            rung => {
                let top = since + if rung == Signal::Int { self.times.sigint } else { self.times.sigterm };
                if self.through { top } else { top.min(now + RETRY) }
            }
        };
    }

    /// This signal may have got through, or not.
    pub fn unanswered(&mut self, signal: Signal) {
        if !self.unanswered.contains(&signal) {
            self.unanswered.push(signal);
        }
    }

    /// The host's own kill went through.
    pub fn killed_by_host(&mut self) {
        self.take(Signal::Kill);
        self.killed_by.1 = true;
    }

    /// The engine answers, so that the kill isn't the host's alone.
    pub fn killed_by_engine(&mut self) {
        self.killed_by.0 = true;
    }

    /// Whether any signal has gone out.
    pub fn has_tried(&self) -> bool {
        !self.taken.is_empty() || !self.unanswered.is_empty()
    }

    /// Whether the host's own kill went through, and the engine took none.
    pub fn by_host_alone(&self) -> bool {
        self.killed_by == (false, true)
    }

    fn climb(&mut self, rung: Signal, now: Instant) {
        self.rung = rung;
        self.since = None;
        self.through = false;
        self.next = now;
    }
}

/// What Docker reports for a container whose death it didn't see.
const UNKNOWN: i64 = 255;

/// The signals of the rungs up to this one and the next.
fn tried(step: Step) -> impl Iterator<Item = Signal> {
    let rungs = [Signal::Int, Signal::Term, Signal::Kill];
    let noted = rungs.iter().filter(|signal| self::step(**signal) <= step).count();
    rungs.into_iter().take(noted + 1)
}

/// The rung behind an end that was found only later, if the exit code is the mark of a signal that a stop had tried by then.
pub fn found_behind(tried_up_to: Step, exit_code: i64) -> Option<Step> {
    let marked = tried(tried_up_to).filter(|signal| marks(*signal).contains(&exit_code)).map(step).last();
    let unknown = exit_code == UNKNOWN && tried_up_to >= Step::Sigkill;
    marked.or_else(|| unknown.then_some(Step::Sigkill))
}

/// Exit codes that a signal leaves behind. After SIGINT the CLI exits with 0; see `tests/samples`.
fn marks(signal: Signal) -> &'static [i64] {
    match signal {
        Signal::Int => &[0, 130],
        Signal::Term => &[143],
        Signal::Kill => &[137],
    }
}

/// The rung that a stop begins on.
pub fn first(mode: StopMode) -> Step {
    step(lowest(mode))
}

fn lowest(mode: StopMode) -> Signal {
    match mode {
        StopMode::Graceful => Signal::Int,
        StopMode::Force => Signal::Kill,
    }
}

/// The word for a signal's rung.
pub fn step(signal: Signal) -> Step {
    match signal {
        Signal::Int => Step::Sigint,
        Signal::Term => Step::Sigterm,
        Signal::Kill => Step::Sigkill,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks a ladder for `seconds`, the engine taking signals or not, and says what was sent when (ms).
    fn walk(mode: StopMode, seconds: u64, takes: bool) -> Vec<(u128, Signal)> {
        let start = Instant::now();
        let mut ladder = Ladder::begin(mode, LadderTimes::default(), start);
        let mut sent = Vec::new();
        let mut now = start;
        while now < start + Duration::from_secs(seconds) {
            if let Some(signal) = ladder.due(now) {
                sent.push(((now - start).as_millis(), signal));
                ladder.sent(takes, now);
            }
            now = ladder.next().max(now + Duration::from_millis(1));
        }
        sent
    }

    #[test]
    fn graceful_climbs_and_then_keeps_killing() {
        let sent = walk(StopMode::Graceful, 30, true);
        assert_eq!(sent[..3], [(0, Signal::Int), (10_000, Signal::Term), (15_000, Signal::Kill)]);
        assert_eq!(sent[3..5], [(17_000, Signal::Kill), (21_000, Signal::Kill)]);
    }

    #[test]
    fn force_begins_at_the_top() {
        assert_eq!(walk(StopMode::Force, 1, true), [(0, Signal::Kill)]);
    }

    #[test]
    fn a_deaf_engine_is_asked_again_and_the_ladder_still_climbs() {
        let sent = walk(StopMode::Graceful, 20, false);
        let count = |signal| sent.iter().filter(|(_, s)| *s == signal).count();
        assert_eq!((count(Signal::Int), count(Signal::Term)), (20, 10));
        assert!(count(Signal::Kill) >= 9, "{sent:?}");
    }

    #[test]
    fn a_signal_without_an_answer_is_known_by_its_mark() {
        let start = Instant::now();
        let mut ladder = Ladder::begin(StopMode::Graceful, LadderTimes::default(), start);
        ladder.due(start);
        ladder.sent(true, start);
        ladder.force(start);
        ladder.due(start);
        ladder.unanswered(Signal::Kill);
        ladder.sent(false, start);
        assert_eq!((ladder.behind(137), ladder.behind(0)), (Some(Signal::Kill), Some(Signal::Int)));
        let mut ladder = Ladder::begin(StopMode::Force, LadderTimes::default(), start);
        ladder.due(start);
        ladder.unanswered(Signal::Kill);
        ladder.sent(false, start);
        assert_eq!((ladder.behind(137), ladder.behind(1)), (Some(Signal::Kill), None));
    }

    #[test]
    fn what_had_ended_by_itself_isnt_laid_to_a_kill_that_came_too_late() {
        let start = Instant::now();
        let mut ladder = Ladder::begin(StopMode::Force, LadderTimes::default(), start);
        ladder.due(start);
        ladder.sent(true, start);
        assert_eq!(
            (ladder.behind(0), ladder.behind(1), ladder.behind(137)),
            (None, None, Some(Signal::Kill))
        );
        let mut ladder = Ladder::begin(StopMode::Graceful, LadderTimes::default(), start);
        ladder.due(start);
        ladder.sent(true, start);
        ladder.force(start);
        ladder.due(start);
        ladder.sent(true, start);
        assert_eq!((ladder.behind(1), ladder.behind(137)), (Some(Signal::Int), Some(Signal::Kill)));
    }

    #[test]
    fn what_a_former_life_tried_may_be_behind_the_end() {
        let start = Instant::now();
        let mut ladder = Ladder::begin(StopMode::Graceful, LadderTimes::default(), start);
        ladder.tried_before(Step::Sigterm);
        assert_eq!((ladder.behind(143), ladder.behind(0)), (Some(Signal::Term), Some(Signal::Int)));
        assert_eq!((ladder.behind(137), ladder.behind(1)), (Some(Signal::Kill), None));
        let mut ladder = Ladder::begin(StopMode::Graceful, LadderTimes::default(), start);
        ladder.tried_before(Step::Sigint);
        assert_eq!(ladder.behind(137), None, "two rungs up, nothing was tried");
        assert_eq!(found_behind(Step::Sigterm, 137), Some(Step::Sigkill));
        // What an engine says that was dead when the host killed.
        ladder.tried_before(Step::Sigkill);
        assert_eq!(
            (ladder.behind(255), found_behind(Step::Sigkill, 255)),
            (Some(Signal::Kill), Some(Step::Sigkill))
        );
        assert_eq!(found_behind(Step::Sigterm, 255), None);
        assert_eq!((found_behind(Step::Sigint, 137), found_behind(Step::Sigkill, 1)), (None, None));
    }

    #[test]
    fn a_rung_ends_when_its_time_is_up_even_while_its_signal_is_on_its_way() {
        let start = Instant::now();
        let mut ladder = Ladder::begin(StopMode::Graceful, LadderTimes::default(), start);
        ladder.due(start);
        let top = ladder.climbs_at().unwrap();
        ladder.climb_if_due(top - Duration::from_millis(1));
        assert_eq!(ladder.rung(), Signal::Int);
        ladder.climb_if_due(top);
        assert_eq!((ladder.rung(), ladder.due(top)), (Signal::Term, Some(Signal::Term)));
    }

    #[test]
    fn the_hosts_own_kill_counts_as_delivered() {
        let start = Instant::now();
        let mut ladder = Ladder::begin(StopMode::Force, LadderTimes::default(), start);
        ladder.due(start);
        ladder.killed_by_host();
        ladder.unanswered(Signal::Kill);
        ladder.sent(false, start);
        assert!(ladder.by_host_alone() && ladder.behind(137) == Some(Signal::Kill));
        assert_eq!(ladder.behind(255), Some(Signal::Kill), "the engine wasn't there to see it");
        ladder.due(ladder.next());
        ladder.sent(true, start);
        assert!(!ladder.by_host_alone());
    }

    #[test]
    fn force_cuts_a_graceful_stop_short() {
        let start = Instant::now();
        let mut ladder = Ladder::begin(StopMode::Graceful, LadderTimes::default(), start);
        assert_eq!(ladder.due(start), Some(Signal::Int));
        ladder.sent(true, start);
        assert_eq!(ladder.due(start), None);
        ladder.force(start);
        assert_eq!(ladder.due(start), Some(Signal::Kill));
        assert_eq!(ladder.delivered(), Some(Signal::Int));
        ladder.sent(true, start);
        ladder.force(start);
        assert_eq!((ladder.due(start), ladder.delivered()), (None, Some(Signal::Kill)));
    }
}
