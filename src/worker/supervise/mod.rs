//! One run, from claim to end: open its gate, start its container, pump its output, obey, and write the end only
//! on the engine's word.

mod end;
mod keeper;
mod live;
mod save;
mod start;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Worker;
use super::ladder;
use super::metering;
use super::pump::Stored;
use super::removal;
use super::reporter::{self, Report};
use super::roster::Order;
use crate::clock;
use crate::db::{Adopted, Claimed, Lease};
use crate::engine;
use crate::gate::{Credential, Gate, Meter};
use crate::model::agent::Agent;
use crate::model::metered::Metered;
use crate::model::run::Step;
use crate::model::stuck::Watch;
use crate::queue::Notice;
use keeper::Keeper;
use start::Container;

/// Between two tries of an engine that doesn't answer.
const RETRY: Duration = Duration::from_millis(500);

/// A run to supervise.
pub(super) struct Job {
    lease: Lease,
    agent: Agent,
    prompt: String,
    /// The engine that it was claimed for, if that had said who it is.
    engine: Option<String>,
    /// The token in the clear; an adopted container has it already, and we only its hash.
    token: Option<String>,
    token_hash: [u8; 32],
    stored: Stored,
    /// How long the container had run when it was adopted, if it was started in a former life.
    ran: Option<Duration>,
    /// The rung that a stop had reached in a former life, as far as anybody knows: one that couldn't reach Postgres may have
    /// begun to climb and not said so.
    step: Option<Step>,
    /// What the gates of former lives had metered.
    metered: Metered,
    /// What it was in the middle of when it was taken.
    watch: Watch,
    /// When this life of the worker took the run.
    taken_at: time::OffsetDateTime,
    /// When the round of adoptions began that it was taken over in: what the engine has listed since then is new enough.
    round: Option<Instant>,
}

impl Job {
    pub(super) fn fresh(claimed: Claimed, token: String) -> Self {
        Self {
            lease: claimed.lease,
            watch: Watch { patience: claimed.agent.patience, ..Watch::default() },
            agent: claimed.agent,
            prompt: claimed.prompt,
            engine: claimed.engine,
            token_hash: token_hash(&token),
            token: Some(token),
            stored: Stored::default(),
            ran: None,
            step: None,
            metered: claimed.metered,
            taken_at: clock::now(),
            round: None,
        }
    }

    pub(super) fn adopted(adopted: Adopted, round: Instant) -> Self {
        let mut token_hash = [0; 32];
        let length = adopted.gate_token_hash.len().min(32);
        token_hash[..length].copy_from_slice(&adopted.gate_token_hash[..length]);
        Self {
            lease: adopted.lease,
            agent: adopted.agent,
            prompt: adopted.prompt,
            engine: adopted.engine,
            token: None,
            token_hash,
            stored: Stored { stdout: adopted.stdout_lines, stderr: adopted.stderr_lines },
            ran: adopted.ran,
            step: adopted.step.or_else(|| adopted.stop.map(ladder::first)),
            metered: adopted.metered,
            watch: adopted.watch,
            taken_at: clock::now(),
            round: Some(round),
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

struct Supervisor<'a> {
    worker: &'a Worker,
    job: &'a Job,
    keeper: &'a Keeper,
    meter: Meter,
    /// Whether what it printed last isn't stored.
    unheard: bool,
    /// What its `result` said, as far as it is kept.
    said: Option<String>,
    /// What shows that it is stuck, when it is stopped for that.
    stuck: Option<String>,
    orders: watch::Receiver<Option<Order>>,
    report: watch::Sender<Report>,
}

/// Supervises a run until it is over, given back, or lost; then cleans up after it.
pub(super) async fn supervise(worker: &Worker, job: Job, orders: watch::Receiver<Option<Order>>) {
    let run = job.lease.run();
    let dir = worker.run_dir(run);
    let (report, reports) = watch::channel(Report::default());
    let meter = Meter::new(job.metered.clone());
    let metered = meter.read();
    let job = &job;
    let work = async move {
        let keeper = Keeper::new(run, report.clone());
        let kept = keeper.keep(orders.clone());
        let mut supervisor = Supervisor {
            worker,
            job,
            keeper: &keeper,
            meter,
            unheard: false,
            said: None,
            stuck: None,
            orders,
            report,
        };
        tokio::select! { () = supervisor.run(&dir) => {}, () = kept => {} }
    };
    // The work drops its senders at its end, which ends those who report.
    tokio::join!(
        work,
        reporter::report(worker, &job.lease, reports),
        metering::report(worker, &job.lease, metered)
    );
    worker.roster.leave(&job.lease);
    worker.starts.left(run);
    worker.tell(Notice::Changed(run));
    worker.wake.notify_one();
}

impl Supervisor<'_> {
    async fn run(&mut self, dir: &Path) {
        let lease = &self.job.lease;
        if let Err(error) = self.open_gate(dir).await {
            let why = format!("a gate can't be opened: {error}");
            tracing::error!(run = %lease.run(), %error, "the gate can't be opened");
            if self.job.token.is_some() {
                // Not again at once: what is missing here (room, file descriptors) will be missing then.
                self.worker.starts.rest(&why, Instant::now());
                self.clear(dir).await;
                self.give_back(&format!("On worker {}, {why}", lease.worker())).await;
                return;
            }
        }
        match self.container(dir).await {
            Container::NeverStarted(why) => {
                // Before it goes back to the queue: whoever takes it next, this worker too, makes that folder anew.
                self.clear(dir).await;
                self.never_started(&why).await;
                return;
            }
            Container::Gone => self.gone().await,
            Container::KilledInStart(container) => self.killed_in_start(&container).await,
            Container::There(container) => {
                self.live(&container).await;
                removal::remove(self.worker, lease, &container).await;
            }
        }
        self.clear(dir).await;
    }

    /// Closes the gate, and removes the folder that it was in.
    async fn clear(&self, dir: &Path) {
        self.keeper.close();
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
        if self.order().is_none() && !self.worker.gates.are_closed() {
            let (roster, run) = (self.worker.roster.clone(), self.job.lease.run());
            let holds = move || roster.holds(run, Lease::LASTS);
            let credential = Credential::new(self.job.token_hash, holds);
            let (upstream, meter) = (self.worker.upstream.clone(), self.meter.clone());
            let gate = Arc::new(Gate::open(dir, credential, upstream, meter).await?);
            self.worker.gates.keep(&gate);
            self.keeper.take(gate);
            // An order that came meanwhile found nothing to close.
            if let Some(order) = self.order() {
                self.obey(order);
            }
        }
        Ok(())
    }

    /// Takes the order in: the gate is closed, and the report says so.
    fn obey(&self, order: Order) {
        self.keeper.close();
        self.keeper.obey(order);
    }
}
