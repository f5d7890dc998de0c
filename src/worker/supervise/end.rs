//! The end: written with its evidence, for as long as it takes.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{Instrument, info_span};

use super::super::verdict::{Cause, Verdict};
use super::{RETRY, Supervisor};
use crate::clock;
use crate::db::{self, Settlement};
use crate::engine::Left;
use crate::model::run::{Cgroup, Evidence, Outcome, Step, StopProgress};
use crate::queue::Notice;
use crate::telemetry;

/// Of a run that finished its work under a lease that had lapsed.
const REFUSED: &str =
    "It finished, but its worker had lost the lease by then, and what it printed last was refused.";

impl Supervisor<'_> {
    /// The engine says that there is no container any more.
    pub(super) async fn gone(&mut self) {
        let step = Step::Absent;
        let evidence =
            Evidence { container: None, exit_code: None, step, confirmed_at: clock::now(), cgroup: None };
        let wished = self.order().is_some_and(|order| order.cause == Cause::Wish);
        let outcome = if wished { Outcome::Terminated } else { Outcome::Failed };
        let reason = "Its container was gone when the worker came back.".to_owned();
        self.end(Verdict { outcome, reason, step }, evidence).await;
    }

    /// The host killed the container while the engine hung over its start, and the engine has nothing of it left.
    pub(super) async fn killed_in_start(&mut self, container: &str) {
        let cgroup = loop {
            match self.engine().left(container).await {
                Left::Empty => break Cgroup::Empty,
                Left::Gone => break Cgroup::Gone,
                Left::Unseen => break Cgroup::Unseen,
                Left::Unread => sleep(RETRY).await,
                Left::Alive(_) => {
                    if let Err(error) = self.engine().kill_by_host(container).await {
                        tracing::warn!(container, %error, "what was being started can't be killed");
                    }
                    sleep(RETRY).await;
                }
            }
        };
        let step = Step::HostKill;
        let evidence = Evidence {
            container: Some(container.to_owned()),
            exit_code: None,
            step,
            confirmed_at: clock::now(),
            cgroup: Some(cgroup),
        };
        let wished = self.order().is_some_and(|order| order.cause == Cause::Wish);
        let outcome = if wished { Outcome::Terminated } else { Outcome::Failed };
        let reason = "Killed by the host itself while the engine was starting it.".to_owned();
        self.end(Verdict { outcome, reason, step }, evidence).await;
    }

    /// A run whose container never started: back to the queue, unless a stop was wished.
    pub(super) async fn never_started(&mut self, why: &str) {
        if why.is_empty() {
            return;
        }
        if self.order().is_some_and(|order| order.cause == Cause::Wish) {
            self.end_without_container(Outcome::Terminated, "Stopped before it started.").await;
        } else {
            self.give_back(why).await;
        }
    }

    /// The engine refuses to make this container; another try won't help.
    pub(super) async fn refused(&mut self, why: &str) {
        let wished = self.order().is_some_and(|order| order.cause == Cause::Wish);
        let outcome = if wished { Outcome::Terminated } else { Outcome::Failed };
        self.end_without_container(outcome, &format!("It never started: {why}.")).await;
    }

    pub(super) async fn end_without_container(&mut self, outcome: Outcome, reason: &str) {
        let step = Step::NeverStarted;
        let evidence =
            Evidence { container: None, exit_code: None, step, confirmed_at: clock::now(), cgroup: None };
        self.end(Verdict { outcome, reason: reason.to_owned(), step }, evidence).await;
    }

    pub(super) async fn give_back(&mut self, why: &str) {
        loop {
            match self.worker.parts.db.release(&self.job.lease, why).await {
                Ok(()) => {
                    self.worker.tell(Notice::Changed(self.job.lease.run()));
                    return;
                }
                Err(db::Error::Unavailable(_)) => sleep(RETRY).await,
                Err(db::Error::Conflict(_)) => {
                    self.end_without_container(Outcome::Terminated, "Stopped before it started.").await;
                    return;
                }
                Err(error) => {
                    tracing::warn!(run = %self.job.lease.run(), %error, "can't be given back");
                    return;
                }
            }
        }
    }

    /// Writes the end, for as long as it takes. When the run was lost meanwhile, the evidence settles it.
    pub(super) async fn end(&mut self, verdict: Verdict, evidence: Evidence) {
        let lease = &self.job.lease;
        let db = &self.worker.parts.db;
        let Verdict { mut outcome, reason, .. } = verdict;
        let progress = self.report.borrow().progress.clone();
        let (stop, step) = (self.worker.roster.stop_of(lease.run()), evidence.step.word());
        let writing = info_span!(
            target: telemetry::TRACE, parent: &stop, "evidence written", outcome = outcome.word(), step,
            exit_code = evidence.exit_code
        );
        loop {
            let written = async {
                if !progress.taken.is_empty() || progress.unasked.is_some() {
                    db.progress(lease, &progress).await?;
                }
                db.end(lease, outcome, &reason, &evidence, self.said.as_deref()).await
            };
            match written.instrument(writing.clone()).await {
                Ok(took_s) => {
                    tracing::info!(run = %lease.run(), %outcome, reason, "ended");
                    if let Some(took_s) = took_s.filter(|_| outcome == Outcome::Terminated) {
                        self.worker.gauges.stopped(took_s);
                    }
                    self.worker.tell(Notice::Changed(lease.run()));
                    return;
                }
                Err(db::Error::Unavailable(_)) => sleep(RETRY).await,
                Err(db::Error::Fenced(_)) => {
                    // A stop that was wished after a run's own end has nothing to do with it.
                    // What it printed last was refused with the lease, so nobody can see the result that it would rest on.
                    let (outcome, reason) = match outcome {
                        Outcome::Succeeded if self.unheard => (Outcome::Failed, REFUSED.to_owned()),
                        other => (other, reason.clone()),
                    };
                    let own = match outcome {
                        Outcome::Terminated | Outcome::Failed if evidence.step != Step::ByItself => None,
                        own => Some(own),
                    };
                    match self.settle(own, &reason, &evidence, &progress).await {
                        Err(db::Error::Unavailable(_)) => sleep(RETRY).await,
                        settled => {
                            tracing::warn!(run = %lease.run(), ?settled, "the lease was gone at the end");
                            self.worker.tell(Notice::Changed(lease.run()));
                            return;
                        }
                    }
                }
                // The database refuses `terminated` without a wish: somebody else wrote the command.
                Err(db::Error::Broken(error)) if outcome == Outcome::Terminated => {
                    tracing::error!(run = %lease.run(), %error, "terminated without a wish");
                    outcome = Outcome::Failed;
                }
                Err(error) => {
                    tracing::error!(run = %lease.run(), %error, "the end can't be written");
                    return;
                }
            }
        }
    }

    async fn settle(
        &self,
        own: Option<Outcome>,
        reason: &str,
        evidence: &Evidence,
        progress: &StopProgress,
    ) -> db::Result<bool> {
        let lease = &self.job.lease;
        let ago = Duration::try_from(clock::now() - evidence.confirmed_at).unwrap_or_default();
        let settlement = Settlement { own, reason, evidence, ago, progress };
        self.worker.parts.db.settle_lost(lease.worker(), lease.run(), &settlement).await
    }
}
