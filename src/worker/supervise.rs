//! One run, from claim to end: open its gate, start its container, pump its output, obey, and write the end only
//! on the engine's word.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Worker;
use super::ladder::Ladder;
use super::pump::{Pump, Said, Stored};
use super::reporter::{self, Report};
use super::roster::Order;
use super::verdict::{self, Cause, Known, Verdict};
use crate::clock;
use crate::db::{self, Adopted, Claimed, Lease};
use crate::engine::{self, Cell, Exit, Found, Status};
use crate::gate::Gate;
use crate::model::agent::Agent;
use crate::model::event;
use crate::model::run::{Evidence, Outcome, Step, StopMode};
use crate::queue::Notice;

/// Between two tries of an engine that doesn't answer.
const RETRY: Duration = Duration::from_millis(500);
/// How long the rest of the output is waited for once the container is over: as long as Postgres may be away without
/// the lease lapsing, and then some.
const DRAIN: Duration = Duration::from_secs(60);

/// A run to supervise.
pub(super) struct Job {
    lease: Lease,
    agent: Agent,
    prompt: String,
    /// The token in the clear; an adopted container has it already, and we only its hash.
    token: Option<String>,
    token_hash: [u8; 32],
    stored: Stored,
    /// When the container started, if it did in a former life.
    ran_since: Option<time::OffsetDateTime>,
}

impl Job {
    pub(super) fn fresh(claimed: Claimed, token: String) -> Self {
        Self {
            lease: claimed.lease,
            agent: claimed.agent,
            prompt: claimed.prompt,
            token_hash: token_hash(&token),
            token: Some(token),
            stored: Stored::default(),
            ran_since: None,
        }
    }

    pub(super) fn adopted(adopted: Adopted) -> Self {
        let mut token_hash = [0; 32];
        let length = adopted.gate_token_hash.len().min(32);
        token_hash[..length].copy_from_slice(&adopted.gate_token_hash[..length]);
        Self {
            lease: adopted.lease,
            agent: adopted.agent,
            prompt: adopted.prompt,
            token: None,
            token_hash,
            stored: Stored { stdout: adopted.stdout_lines, stderr: adopted.stderr_lines },
            ran_since: adopted.started_at,
        }
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }
}

/// SHA-256 of a gate's token.
pub(super) fn token_hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// What became of the attempt to have a container.
enum Container {
    /// It is there: alive, or over already.
    There(String),
    /// It never started, and the engine has confirmed that there is none; why.
    NeverStarted(String),
    /// It was there once, and the engine says it isn't any more.
    Gone,
}

struct Supervisor<'a> {
    worker: &'a Worker,
    job: &'a Job,
    gate: Option<Gate>,
    orders: watch::Receiver<Option<Order>>,
    report: watch::Sender<Report>,
}

/// Supervises a run until it is over, given back, or lost; then cleans up after it.
pub(super) async fn supervise(worker: &Worker, job: Job, orders: watch::Receiver<Option<Order>>) {
    let run = job.lease.run();
    let dir = worker.run_dir(run);
    let (report, reports) = watch::channel(Report::default());
    let work = async {
        let mut supervisor = Supervisor { worker, job: &job, gate: None, orders, report };
        supervisor.run(&dir).await;
    };
    // The work drops its sender at its end, which ends the reporter.
    tokio::join!(work, reporter::report(worker, &job.lease, reports));
    worker.roster.leave(run);
    worker.tell(Notice::Changed(run));
    worker.wake.notify_one();
}

impl Supervisor<'_> {
    async fn run(&mut self, dir: &Path) {
        let lease = &self.job.lease;
        if let Err(error) = self.open_gate(dir).await {
            let why = format!("Worker {} can't open its gate: {error}", lease.worker());
            tracing::error!(run = %lease.run(), %error, "the gate can't be opened");
            if self.job.token.is_some() {
                self.give_back(&why).await;
                return;
            }
        }
        match self.container(dir).await {
            Container::NeverStarted(why) => self.never_started(&why).await,
            Container::Gone => {
                let reason = "Its container was gone when the worker came back.";
                let evidence = Evidence {
                    container: None,
                    exit_code: None,
                    step: Step::Absent,
                    confirmed_at: clock::now(),
                };
                let wished = self.order().is_some_and(|order| order.cause == Cause::Wish);
                let outcome = if wished { Outcome::Terminated } else { Outcome::Failed };
                self.end(Verdict { outcome, reason: reason.into(), step: Step::Absent }, evidence).await;
            }
            Container::There(container) => {
                self.live(&container).await;
                self.remove(&container).await;
            }
        }
        self.close_gate();
        if let Err(error) = tokio::fs::remove_dir_all(dir).await {
            tracing::debug!(%error, "the run's folder stays");
        }
    }

    fn order(&self) -> Option<Order> {
        *self.orders.borrow()
    }

    fn engine(&self) -> &dyn engine::Engine {
        &*self.worker.parts.engine
    }

    async fn open_gate(&mut self, dir: &Path) -> std::io::Result<()> {
        tokio::fs::create_dir_all(dir).await?;
        if self.job.token.is_some() {
            tokio::fs::write(dir.join("prompt"), &self.job.prompt).await?;
        }
        if self.order().is_none() {
            self.gate = Some(Gate::open(dir, self.job.token_hash, self.worker.upstream.clone()).await?);
        }
        Ok(())
    }

    fn close_gate(&mut self) -> usize {
        self.gate.take().map_or(0, |gate| gate.close())
    }

    /// Takes the order in: closes the gate at once and says so.
    fn obey(&mut self, order: Order) {
        let cut = self.close_gate();
        let now = clock::now();
        tracing::info!(run = %self.job.lease.run(), cause = ?order.cause, mode = %order.mode, cut, "stopping");
        self.report.send_modify(|report| {
            report.progress.delivered_at.get_or_insert(now);
            report.progress.egress_cut_at.get_or_insert(now);
        });
    }

    /// Starts the container, or finds the one that a former life started.
    async fn container(&mut self, dir: &Path) -> Container {
        let Some(token) = &self.job.token else { return self.find().await };
        if let Some(order) = self.order() {
            self.obey(order);
            return Container::NeverStarted("Stopped before it started.".into());
        }
        let cell = Cell {
            run: self.job.lease.run().0,
            fence: self.job.lease.fence(),
            image: self.job.agent.image.clone().unwrap_or_else(|| self.worker.parts.settings.image.clone()),
            model: self.job.agent.model.clone(),
            limits: self.job.agent.limits,
            gate_dir: dir.to_owned(),
            gate_token: token.clone(),
        };
        match self.engine().start(&cell).await {
            Ok(container) => Container::There(container),
            Err(error) => {
                tracing::warn!(run = %self.job.lease.run(), %error, "the container didn't start");
                let refused = matches!(error, engine::Error::Refused(_));
                if !refused {
                    self.worker.engine_failed();
                }
                match self.find().await {
                    Container::NeverStarted(_) if refused => {
                        self.refused(&error.to_string()).await;
                        Container::NeverStarted(String::new())
                    }
                    Container::NeverStarted(_) | Container::Gone => {
                        Container::NeverStarted(error.to_string())
                    }
                    there => there,
                }
            }
        }
    }

    /// Asks the engine, until it answers, what became of this run's container. One that was made and never started is
    /// removed.
    async fn find(&mut self) -> Container {
        let run = self.job.lease.run().0;
        let mut obeyed = false;
        loop {
            if let Some(order) = self.order().filter(|_| !obeyed) {
                self.obey(order);
                obeyed = true;
            }
            let found = match self.engine().list().await {
                Ok(found) => found.into_iter().find(|found| found.run == run),
                Err(error) => {
                    self.troubled(&error, Instant::now() + RETRY);
                    self.pause(RETRY, obeyed).await;
                    continue;
                }
            };
            self.calm();
            match found {
                Some(Found { container, status: Status::Created, .. }) => {
                    if let Err(error) = self.engine().remove(&container).await {
                        tracing::warn!(run, %error, "a container that never started can't be removed");
                        self.troubled(&error, Instant::now() + RETRY);
                        self.pause(RETRY, obeyed).await;
                    }
                }
                Some(Found { container, .. }) => return Container::There(container),
                None if self.job.ran_since.is_some() => return Container::Gone,
                None => return Container::NeverStarted("The worker was restarted before the start.".into()),
            }
        }
    }

    /// Sleeps, but not through a new order.
    async fn pause(&mut self, pause: Duration, obeyed: bool) {
        if obeyed {
            sleep(pause).await;
        } else {
            tokio::select! { () = sleep(pause) => {}, _ = self.orders.changed() => {} }
        }
    }

    fn troubled(&self, error: &engine::Error, next: Instant) {
        let text = format!("On worker {}, {error}", self.job.lease.worker());
        let next_at = clock::now() + next.saturating_duration_since(Instant::now());
        let stopping = self.order().is_some();
        self.report.send_if_modified(|report| {
            if stopping {
                report.progress.trouble = Some(text);
                report.progress.next_at = Some(next_at);
            } else if report.trouble.as_ref() != Some(&text) {
                report.trouble = Some(text);
            } else {
                return false;
            }
            true
        });
    }

    fn calm(&self) {
        self.report.send_if_modified(|report| {
            let had = report.trouble.take().is_some();
            report.progress.trouble.take().is_some() || had
        });
    }

    /// Watches over a container until the engine says that it is over, and writes the end.
    async fn live(&mut self, container: &str) {
        let worker = self.worker;
        let lease = &self.job.lease;
        self.report.send_modify(|report| report.container = Some(container.to_owned()));
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
        if !pumped && timeout(DRAIN, &mut pump).await.is_err() {
            tracing::warn!(run = %lease.run(), "the end of the output didn't come");
        }
        let heard = heard.borrow().clone();
        let known = Known {
            result: heard.result.as_ref(),
            last_words: &heard.last_words,
            cause,
            delivered: ladder.and_then(|ladder| match exit {
                Some(exit) => ladder.behind(exit.code),
                None => ladder.delivered(),
            }),
        };
        let Some(exit) = exit else {
            let wished = cause == Some(Cause::Wish) && known.delivered.is_some();
            let outcome = if wished { Outcome::Terminated } else { Outcome::Failed };
            let reason = "The engine says that its container is gone.".to_owned();
            let evidence = Evidence {
                container: Some(container.into()),
                exit_code: None,
                step: Step::Absent,
                confirmed_at,
            };
            self.end(Verdict { outcome, reason, step: Step::Absent }, evidence).await;
            return;
        };
        let verdict = verdict::judge(exit, &known);
        let evidence = Evidence {
            container: Some(container.to_owned()),
            exit_code: Some(exit.code),
            step: verdict.step,
            confirmed_at,
        };
        self.end(verdict, evidence).await;
    }

    /// What the output said in a former life.
    async fn said_before(&self) -> Said {
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
    async fn until_over(&mut self, container: &str) -> (Option<Exit>, Option<Cause>, Option<Ladder>) {
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
                        ladder = Some(Ladder::begin(order.mode, worker.parts.times.ladder, Instant::now()));
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

    fn report_step(&self, ladder: &Ladder, error: Option<engine::Error>) {
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

    /// A run whose container never started: back to the queue, unless a stop was wished.
    async fn never_started(&mut self, why: &str) {
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
    async fn refused(&mut self, why: &str) {
        let wished = self.order().is_some_and(|order| order.cause == Cause::Wish);
        let outcome = if wished { Outcome::Terminated } else { Outcome::Failed };
        self.end_without_container(outcome, &format!("It never started: {why}.")).await;
    }

    async fn end_without_container(&mut self, outcome: Outcome, reason: &str) {
        let step = Step::NeverStarted;
        let evidence = Evidence { container: None, exit_code: None, step, confirmed_at: clock::now() };
        self.end(Verdict { outcome, reason: reason.to_owned(), step }, evidence).await;
    }

    async fn give_back(&mut self, why: &str) {
        loop {
            match self.worker.parts.db.release(&self.job.lease, why).await {
                Ok(()) => return,
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
    async fn end(&mut self, verdict: Verdict, evidence: Evidence) {
        let lease = &self.job.lease;
        let db = &self.worker.parts.db;
        let Verdict { mut outcome, reason, .. } = verdict;
        let progress = self.report.borrow().progress.clone();
        loop {
            let written = async {
                if progress.delivered_at.is_some() {
                    db.progress(lease, &progress).await?;
                }
                db.end(lease, outcome, &reason, &evidence).await
            };
            match written.await {
                Ok(()) => {
                    tracing::info!(run = %lease.run(), %outcome, reason, "ended");
                    return;
                }
                Err(db::Error::Unavailable(_)) => sleep(RETRY).await,
                Err(db::Error::Fenced(_)) => {
                    match db.settle_lost(lease.worker(), lease.run(), &reason, &evidence).await {
                        Err(db::Error::Unavailable(_)) => sleep(RETRY).await,
                        settled => {
                            tracing::warn!(run = %lease.run(), ?settled, "the lease was gone at the end");
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

    /// Removes the container that is over; the sweep gets those that won't go.
    async fn remove(&self, container: &str) {
        if let Err(error) = self.engine().remove(container).await {
            tracing::warn!(run = %self.job.lease.run(), %error, "the container stays for now");
        }
    }
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
