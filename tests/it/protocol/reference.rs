//! What the database should do, in memory: short enough to be read at a glance.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use signalbox::model::run::StopMode;

use super::Step;

/// What a step answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is done, or there was nothing to do.
    Done(bool),
    Fenced,
    Conflict,
    /// A constraint refuses it.
    Broken,
    /// These runs were renewed, or lost.
    Runs(Vec<usize>),
    /// Whether the wish is fresh, the run over, and the worker that is told.
    Wished {
        fresh: bool,
        over: bool,
        tell: Option<(usize, StopMode)>,
    },
    /// There is no such run or lease yet.
    Nothing,
}

/// A run, as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) state: &'static str,
    pub(super) wish: Option<StopMode>,
    pub(super) worker: Option<usize>,
    pub(super) fence: i64,
    pub(super) lapsed: bool,
    pub(super) events: i64,
    pub(super) outcome: Option<&'static str>,
    /// Rows of the audit: runs started, stops wished, runs lost, stops by themselves.
    pub(super) audit: [i64; 4],
    /// Statements under an old fence.
    pub(super) refused: i64,
}

impl Run {
    fn held(&self) -> bool {
        ["starting", "running"].contains(&self.state)
    }

    fn end(&mut self, outcome: &'static str) {
        (self.state, self.outcome, self.lapsed) = ("ended", Some(outcome), false);
    }
}

/// A lease that was given once: run, worker, fence.
#[derive(Debug, Clone, Copy)]
struct Lease {
    run: usize,
    worker: usize,
    fence: i64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Reference {
    pub(super) runs: Vec<Run>,
    leases: Vec<Lease>,
}

impl Reference {
    /// Foretells the answer to a step, and takes it.
    pub(super) fn take(&mut self, step: &Step) -> Answer {
        match *step {
            Step::Start => {
                self.runs.push(Run {
                    state: "queued",
                    wish: None,
                    worker: None,
                    fence: 0,
                    lapsed: false,
                    events: 0,
                    outcome: None,
                    audit: [1, 0, 0, 0],
                    refused: 0,
                });
                Answer::Done(true)
            }
            Step::Claim(worker) => {
                let next = self.runs.iter().position(|run| run.state == "queued" && run.wish.is_none());
                Answer::Done(next.is_some_and(|run| self.grant(run, worker, "starting")))
            }
            Step::Adopt(worker, run) => self.at(run, |this, run| {
                let it = &this.runs[run];
                let mine = it.held() && it.worker == Some(worker) && !it.lapsed;
                Answer::Done(mine && this.grant(run, worker, it.state))
            }),
            Step::Renew(worker, oldest) => self.renew(worker, oldest),
            Step::MarkRunning(lease) => self.write(lease, Run::held, |run| {
                run.state = "running";
                Answer::Done(true)
            }),
            Step::Progress(lease) | Step::Trouble(lease) => {
                self.write(lease, Run::held, |_| Answer::Done(true))
            }
            Step::Append(lease, n, off) => {
                let open = |run: &Run| run.held() || run.state == "ended";
                self.write(lease, open, |run| match off {
                    0 => {
                        run.events += n;
                        Answer::Done(true)
                    }
                    // A batch sent again ends where the stored ones do.
                    off if off + n == 0 => Answer::Done(true),
                    _ => Answer::Conflict,
                })
            }
            Step::Release(lease) => self.write(
                lease,
                |run| run.state == "starting",
                |run| {
                    if run.wish.is_some() {
                        return Answer::Conflict;
                    }
                    (run.state, run.worker, run.lapsed) = ("queued", None, false);
                    Answer::Done(true)
                },
            ),
            Step::End(lease, stopped) => self.write(
                lease,
                |run| run.held() || run.state == "ended",
                |run| {
                    match (run.state, stopped, run.wish) {
                        ("ended", ..) => {}
                        (_, true, None) => return Answer::Broken,
                        (_, true, Some(_)) => run.end("terminated"),
                        (_, false, _) => run.end("failed"),
                    }
                    Answer::Done(true)
                },
            ),
            Step::WishStop(run, mode) => self.at(run, |this, run| this.runs[run].wish_stop(mode)),
            Step::Lapse(run) => self.at(run, |this, run| {
                let run = &mut this.runs[run];
                run.lapsed |= run.held();
                Answer::Done(true)
            }),
            Step::LoseLapsed => {
                let lapsed = |(_, run): &(usize, &mut Run)| run.held() && run.lapsed;
                let lost = self.runs.iter_mut().enumerate().filter(lapsed).map(|(number, run)| {
                    (run.state, run.fence, run.lapsed) = ("lost", run.fence + 1, false);
                    run.audit[2] += 1;
                    number
                });
                Answer::Runs(lost.collect())
            }
            Step::SettleLost(worker, run, early) => self.at(run, |this, run| {
                let run = &mut this.runs[run];
                let mine = run.state == "lost" && run.worker == Some(worker);
                if mine {
                    run.end(if run.wish.is_some() && !early { "terminated" } else { "failed" });
                }
                Answer::Done(mine)
            }),
        }
    }

    fn at(&mut self, run: usize, take: impl FnOnce(&mut Self, usize) -> Answer) -> Answer {
        match self.runs.len() {
            0 => Answer::Nothing,
            n => take(self, run % n),
        }
    }

    fn grant(&mut self, number: usize, worker: usize, state: &'static str) -> bool {
        let run = &mut self.runs[number];
        (run.state, run.worker, run.lapsed) = (state, Some(worker), false);
        run.fence += 1;
        self.leases.push(Lease { run: number, worker, fence: run.fence });
        true
    }

    /// What is written under a lease: refused when its fence isn't the run's, or the run isn't so.
    fn write(
        &mut self,
        lease: usize,
        so: impl FnOnce(&Run) -> bool,
        write: impl FnOnce(&mut Run) -> Answer,
    ) -> Answer {
        let Some(lease) = self.leases.get(lease % self.leases.len().max(1)).copied() else {
            return Answer::Nothing;
        };
        let run = &mut self.runs[lease.run];
        if run.fence != lease.fence || run.worker != Some(lease.worker) || !so(run) {
            run.refused += i64::from(run.fence > lease.fence);
            return Answer::Fenced;
        }
        write(run)
    }

    fn renew(&mut self, worker: usize, oldest: bool) -> Answer {
        let mut chosen = BTreeMap::new();
        for lease in self.leases.iter().filter(|lease| lease.worker == worker) {
            let kept = chosen.entry(lease.run).or_insert(lease.fence);
            *kept = if oldest { *kept } else { lease.fence };
        }
        let mut renewed = Vec::new();
        for (number, fence) in chosen {
            let run = &mut self.runs[number];
            if run.fence > fence {
                run.refused += 1;
            } else if run.held() && run.worker == Some(worker) {
                run.lapsed = false;
                renewed.push(number);
            }
        }
        Answer::Runs(renewed)
    }
}

impl Run {
    fn wish_stop(&mut self, mode: StopMode) -> Answer {
        let outranks = self.wish == Some(StopMode::Graceful) && mode == StopMode::Force;
        let fresh = self.state != "ended" && (self.wish.is_none() || outranks);
        if fresh {
            self.wish = Some(mode);
            self.audit[1] += 1;
            if self.state == "queued" {
                self.end("terminated");
            }
        }
        let over = self.state == "ended";
        let tell = self.worker.filter(|_| !over).zip(Some(self.wish.unwrap_or(mode)));
        Answer::Wished { fresh, over, tell }
    }
}

/// What no step may ever do, said without the reference.
pub(super) fn check(before: &[Run], after: &[Run]) -> Result<(), TestCaseError> {
    for (number, (old, new)) in before.iter().zip(after).enumerate() {
        prop_assert!(new.fence >= old.fence, "the fence of {} shrank", number);
        prop_assert!(old.state != "ended" || new.state == "ended", "{} is back from its end", number);
        prop_assert!(old.outcome.is_none() || new.outcome == old.outcome, "{} ended otherwise", number);
        prop_assert!(old.wish.is_none() || new.wish >= old.wish, "the wish of {} is gone", number);
        let taken = new.fence > old.fence && new.state == "starting" && old.state == "queued";
        prop_assert!(!(taken && old.wish.is_some()), "{} was stopped, and is taken", number);
    }
    for (number, run) in after.iter().enumerate() {
        let stopped_queued = run.state == "queued" && run.wish.is_some();
        prop_assert!(!stopped_queued, "{} is stopped and waits", number);
        prop_assert!(run.outcome != Some("terminated") || run.wish.is_some(), "nobody wished {}", number);
        prop_assert!(
            run.audit[1] <= 2 && (run.audit[1] > 0) == run.wish.is_some(),
            "a row a wish: {}",
            number
        );
        prop_assert!(run.audit[0] == 1, "a row a start: {}", number);
    }
    Ok(())
}
