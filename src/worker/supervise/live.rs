//! The middle: a container is watched, its output pumped and orders obeyed, until the engine says that it is over.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::super::Worker;
use super::super::ladder::Ladder;
use super::super::pump::{Pump, Said};
use super::super::reporter::Report;
use super::super::roster::Order;
use super::super::verdict::{self, Cause, Known, Verdict};
use super::{RETRY, Supervisor};
use crate::clock;
use crate::db;
use crate::engine::{self, Exit, Signal, Status};
use crate::model::event;
use crate::model::run::{Evidence, Outcome, Step, StopMode};

/// How long the rest of the output is waited for once the container is over: as long as Postgres may be away without
/// the lease lapsing, and then some.
const DRAIN: Duration = Duration::from_secs(60);
/// What SIGKILL ended has no last word to wait for: the proof of its death isn't kept waiting by all that it wrote before.
const GLANCE: Duration = Duration::from_millis(500);

impl Supervisor<'_> {
    /// Watches over a container until the engine says that it is over, and writes the end.
    pub(super) async fn live(&mut self, container: &str) {
        let worker = self.worker;
        let lease = &self.job.lease;
        self.report.send_modify(|report| report.container = Some(container.to_owned()));
        worker.roster.settled_in(lease.run(), container);
        let (said, heard) = watch::channel(self.said_before().await);
        let pump = Pump::new(worker, lease, container.to_owned(), self.job.stored, said);
        let mut pump = Box::pin(pump.run());
        let (exit, cause, ladder, pumped) = {
            let over = self.until_over(container);
            tokio::pin!(over);
            let mut pumped = false;
            loop {
                tokio::select! {
                    (exit, cause, ladder) = &mut over => break (exit, cause, ladder, pumped),
                    done = &mut pump, if !pumped => {
                        pumped = true;
                        if done.is_err() {
                            let order = Order { mode: StopMode::Force, cause: Cause::LeaseGone };
                            worker.roster.order(lease.run(), order);
                        }
                    }
                }
            }
        };
        let confirmed_at = clock::now();
        self.close_gate();
        let killed = ladder.as_ref().and_then(Ladder::delivered) == Some(Signal::Kill);
        let patience = if killed { GLANCE } else { DRAIN };
        let mut whole = pumped || timeout(patience, &mut pump).await.is_ok();
        let (verdict, exit_code) = {
            let heard = heard.borrow();
            let known = Known {
                result: heard.result.as_ref(),
                last_words: &heard.last_words,
                cause,
                delivered: ladder.and_then(|ladder| match exit {
                    Some(exit) => ladder.behind(exit.code),
                    None => ladder.delivered(),
                }),
            };
            (
                exit.map_or_else(|| vanished(&known), |exit| verdict::judge(exit, &known)),
                exit.map(|exit| exit.code),
            )
        };
        let evidence =
            Evidence { container: Some(container.to_owned()), exit_code, step: verdict.step, confirmed_at };
        self.end(verdict, evidence).await;
        if !whole {
            whole = timeout(DRAIN, &mut pump).await.is_ok();
        }
        if !whole {
            tracing::warn!(run = %lease.run(), "the end of the output didn't come");
            let what = "transcript cut short";
            let detail = "the end of its output didn't come in time";
            if let Err(error) =
                worker.parts.db.note_of_worker(worker.name(), what, Some(lease.run()), detail).await
            {
                tracing::warn!(run = %lease.run(), %error, "nor can that be noted");
            }
        }
    }

    /// What the output said in a former life.
    pub(super) async fn said_before(&self) -> Said {
        if self.job.stored.stdout == 0 {
            return Said::default();
        }
        loop {
            match self.worker.parts.db.stored_result(&self.job.lease).await {
                Ok(line) => {
                    let result = line.as_deref().and_then(event::stored_result);
                    return Said { result, ..Said::default() };
                }
                Err(db::Error::Unavailable(_)) => sleep(RETRY).await,
                Err(error) => {
                    tracing::error!(%error, "the stored result can't be read");
                    return Said::default();
                }
            }
        }
    }

    /// Waits for the engine's word that the container is over (no exit: that it is gone), climbing the ladder as soon as
    /// there is an order.
    pub(super) async fn until_over(
        &mut self,
        container: &str,
    ) -> (Option<Exit>, Option<Cause>, Option<Ladder>) {
        let worker = self.worker;
        let limit = self.job.agent.limits.time;
        let ran = self.job.ran_since.map_or(Duration::ZERO, |since| {
            Duration::try_from(clock::now() - since).unwrap_or(Duration::ZERO)
        });
        let time_is_up = Instant::now() + limit.saturating_sub(ran);
        let mut cause = None;
        let mut ladder: Option<Ladder> = None;
        let report = self.report.clone();
        let over = over(worker, container, &report, self.job.lease.worker());
        tokio::pin!(over);
        loop {
            let order = *self.orders.borrow_and_update();
            if let Some(order) = order {
                match &mut ladder {
                    None => {
                        self.obey(order);
                        cause = Some(order.cause);
                        if let Some(exit) = self.save_first(container, over.as_mut()).await {
                            return (exit, cause, None);
                        }
                        let mode = self.orders.borrow_and_update().map_or(order.mode, |order| order.mode);
                        ladder = Some(Ladder::begin(mode, worker.parts.times.ladder, Instant::now()));
                    }
                    Some(ladder) if order.mode == StopMode::Force => ladder.force(Instant::now()),
                    Some(_) => {}
                }
            }
            if let Some(ladder) = &mut ladder
                && let Some(signal) = ladder.due(Instant::now())
            {
                let sent = worker.parts.engine.signal(container, signal).await;
                if matches!(sent, Err(engine::Error::Unavailable(_))) {
                    ladder.unanswered();
                }
                ladder.sent(sent.is_ok(), Instant::now());
                self.report_step(ladder, sent.err());
            }
            let next = ladder.as_ref().map(Ladder::next);
            tokio::select! {
                biased;
                exit = &mut over => return (exit, cause, ladder),
                _ = self.orders.changed() => {}
                () = sleep_until(next.unwrap_or(time_is_up)), if next.is_some() => {}
                () = sleep_until(time_is_up), if ladder.is_none() => {
                    let order = Order { mode: StopMode::Graceful, cause: Cause::TimeLimit };
                    worker.roster.order(self.job.lease.run(), order);
                }
            }
        }
    }

    pub(super) fn report_step(&self, ladder: &Ladder, error: Option<engine::Error>) {
        let now = clock::now();
        let next_at = now + ladder.next().saturating_duration_since(Instant::now());
        let trouble = match error {
            // It may be over by now; the engine's word on that is on its way.
            None | Some(engine::Error::NotRunning | engine::Error::Absent) => None,
            Some(error) => Some(format!("On worker {}, {error}", self.job.lease.worker())),
        };
        let step = Some(ladder.step());
        self.report.send_modify(|report| {
            let progress = &mut report.progress;
            if progress.step != step {
                progress.step = step;
                progress.step_at = Some(now);
            }
            progress.trouble = trouble;
            progress.next_at = Some(next_at);
        });
    }
}

/// The verdict on a container that is gone, its exit with it.
fn vanished(known: &Known<'_>) -> Verdict {
    let wished = known.cause == Some(Cause::Wish) && known.delivered.is_some();
    let outcome = if wished { Outcome::Terminated } else { Outcome::Failed };
    Verdict { outcome, reason: "The engine says that its container is gone.".to_owned(), step: Step::Absent }
}

/// Waits for the engine's own word that a container is over; asks again for as long as the engine doesn't answer.
async fn over(worker: &Worker, container: &str, report: &watch::Sender<Report>, name: &str) -> Option<Exit> {
    let engine = &worker.parts.engine;
    loop {
        let waited = engine.wait(container).await;
        let status = engine.inspect(container).await;
        match (waited, status) {
            (_, Ok(Status::Exited(exit))) => return Some(exit),
            (_, Ok(Status::Absent)) => return None,
            (Err(error), Ok(_)) => tracing::debug!(%error, "waiting broke off"),
            (_, Err(error)) => {
                report.send_if_modified(|report| {
                    let text = format!("On worker {name}, {error}");
                    let changed = report.trouble.as_ref() != Some(&text);
                    report.trouble = Some(text);
                    changed
                });
                sleep(RETRY).await;
                continue;
            }
            (Ok(_), Ok(_)) => {}
        }
        report.send_if_modified(|report| report.trouble.take().is_some());
        sleep(Duration::from_millis(100)).await;
    }
}
