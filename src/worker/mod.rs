//! The worker: takes runs, supervises them, and stops them for certain.
//!
//! Everything that decides goes through Postgres: runs are found and wishes noticed there, every 2 s. What comes over
//! Redis only makes it look sooner.

mod adopt;
mod errands;
mod gauges;
mod handle;
mod inbox;
pub mod ladder;
pub mod lines;
mod listing;
mod look;
mod metering;
pub mod notes;
mod pulse;
mod pump;
mod removal;
mod reporter;
mod room;
mod roster;
pub mod seat;
mod starts;
mod supervise;
mod survey;
mod sweep;
pub mod verdict;
mod workspace;

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config;
use crate::db::{self, Claimed, Db, Lease};
use crate::engine::{self, Engine};
use crate::gate::Upstream;
use crate::model::run::{LadderTimes, RunId, StopMode};
use crate::model::worker::Place;
use crate::queue::{Notice, Queue};
use roster::{Order, Roster, Wish};
use supervise::Job;
use verdict::Cause;

/// Between two looks at Postgres.
const POLL: Duration = Duration::from_secs(2);
/// Between two looks at the engine for what nobody holds.
const SWEEP: Duration = Duration::from_secs(15);
/// How long stopping all runs may take when the worker is shut down by hand.
const LEAVE: Duration = Duration::from_secs(8);

/// What a worker needs from outside.
#[derive(Clone)]
pub struct Parts {
    /// The truth.
    pub db: Db,
    /// The nudge.
    pub queue: Queue,
    /// Where containers are made.
    pub engine: Arc<dyn Engine>,
    /// Its name, capacity, folder, image and model API.
    pub settings: config::Work,
    /// How long it gives things.
    pub times: Times,
}

/// How long a worker gives things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Each rung of the ladder, in place of what the agents say.
    pub ladder: Option<LadderTimes>,
    /// Between two renewals of its leases; a third of a lease.
    pub renewal: Duration,
    /// Without a renewal for this long it stops its containers: two thirds of a lease, so that nothing of it lives when
    /// the lease lapses.
    pub fence: Duration,
    /// Without a word from Postgres for this long every lease has lapsed, whoever held it: a lease.
    pub lapse: Duration,
    /// For saving a run's work before the first signal, in all. The stop goes on after that.
    pub save: Duration,
    /// After a start that the engine failed, before the next is tried; longer the longer starts fail, up to sixty times.
    pub pause: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            ladder: None,
            renewal: Lease::LASTS / 3,
            fence: Lease::LASTS * 2 / 3,
            lapse: Lease::LASTS,
            save: Duration::from_secs(15),
            pause: Duration::from_secs(1),
        }
    }
}

/// How a worker leaves.
#[derive(Debug, Clone, Default)]
pub struct Leave {
    /// Leave now; containers live on, and the next life of this worker takes them over.
    pub hand_over: CancellationToken,
    /// Stop the runs first. Cancel it before `hand_over`.
    pub stop_runs: CancellationToken,
}

/// A worker at work.
struct Worker {
    parts: Parts,
    /// Tells it from another worker of its name.
    seat: String,
    roster: Arc<Roster>,
    upstream: Upstream,
    /// Something may be waiting.
    wake: Notify,
    /// There may be much to stop.
    look: Notify,
    gates: handle::Gates,
    /// Why the engine can't be used, if it can't.
    engine_down: Mutex<Option<String>>,
    /// Who the engine says that it is.
    engine_is: Mutex<Option<String>>,
    /// What it measures and counts of itself.
    gauges: gauges::Gauges,
    /// What has come of its starts.
    starts: starts::Starts,
    listing: listing::Listing,
    notices: tokio::sync::mpsc::UnboundedSender<Notice>,
    supervisors: TaskTracker,
    /// What `stop-all` did here.
    notes: notes::Notes,
    /// When Postgres last said what this worker holds; at first, when this life began.
    heard: Mutex<Instant>,
    removals: removal::Removals,
    /// Containers that a sweep has killed, until they are laid to rest.
    killed: Mutex<HashSet<String>>,
}

/// Takes runs and supervises them until told to leave; says through `ready` when it has registered.
///
/// # Errors
/// When it can't start at all: its folder can't be used, or another worker of its name has it; and when its name has been
/// taken by another worker, elsewhere. Its runs are stopped then.
pub async fn work(parts: Parts, leave: Leave, ready: oneshot::Sender<()>) -> anyhow::Result<()> {
    let _lock = lock(&parts.settings)?;
    let dir = parts.settings.dir.join(&parts.settings.name);
    let seat = seat::seat(&dir).with_context(|| format!("no seat in {}", dir.display()))?;
    let model_api = &parts.settings.model_api;
    let upstream = Upstream::new(model_api.base_url.clone(), model_api.key.clone())?;
    let (notices, outbox) = tokio::sync::mpsc::unbounded_channel();
    let starts = starts::Starts::new(parts.times.pause);
    let worker = Arc::new(Worker {
        parts,
        seat,
        roster: Arc::default(),
        upstream,
        wake: Notify::new(),
        look: Notify::new(),
        gates: handle::Gates::default(),
        engine_down: Mutex::default(),
        engine_is: Mutex::default(),
        gauges: gauges::Gauges::default(),
        starts,
        listing: listing::Listing::default(),
        notices,
        supervisors: TaskTracker::new(),
        notes: notes::Notes::default(),
        heard: Mutex::new(Instant::now()),
        removals: removal::Removals::default(),
        killed: Mutex::default(),
    });
    let host = pulse::host(&worker);
    let begin = async {
        pulse::register(&worker, &host).await;
        handle::begin(&worker).await;
    };
    tokio::select! {
        () = begin => {}
        () = sweep::orphans(&worker) => {}
        () = leave.hand_over.cancelled() => return Ok(()),
    }
    // Nobody may be listening any more; that is fine.
    let _ = ready.send(());
    let mut ousted = None;
    tokio::select! {
        error = pulse::heartbeats(&worker, &host) => ousted = Some(error),
        () = pulse::renewals(&worker) => {}
        () = pulse::fence(&worker) => {}
        () = handle::watch(&worker) => {}
        () = inbox::commands(&worker) => {}
        () = inbox::notices(&worker) => {}
        () = inbox::tell(&worker, outbox) => {}
        () = look_for_work(&worker) => {}
        () = sweep::orphans(&worker) => {}
        () = survey::surveys(&worker) => {}
        () = survey::clearings(&worker) => {}
        () = room::ahead(&worker) => {}
        () = leave.hand_over.cancelled() => {}
    }
    if leave.stop_runs.is_cancelled() || ousted.is_some() {
        worker.stop_runs().await;
    }
    match ousted {
        Some(error) => Err(error).with_context(|| format!("another worker is {} now", worker.name())),
        None => Ok(()),
    }
}

/// One process a name and folder: two would fight over the same containers.
fn lock(settings: &config::Work) -> anyhow::Result<File> {
    let dir = settings.dir.join(&settings.name);
    let make = |path: &PathBuf| DirBuilder::new().recursive(true).mode(0o700).create(path);
    make(&dir).with_context(|| format!("SIGNALBOX_WORK_DIR: {} can't be made", dir.display()))?;
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("{} can't be written", path.display()))?;
    file.try_lock()
        .with_context(|| format!("another worker named {} is using {}", settings.name, dir.display()))?;
    Ok(file)
}

/// The loop: look, take, wait; for ever.
async fn look_for_work(worker: &Arc<Worker>) {
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut swept: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = poll.tick() => {
                let sweep_due = swept.is_none_or(|at| at.elapsed() >= SWEEP);
                match worker.catch_up().await {
                    Ok(unknown) if unknown || sweep_due => {
                        swept = Some(Instant::now());
                        if let Err(error) = sweep::sweep(worker).await {
                            tracing::warn!(%error, "no sweep");
                        }
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%error, "can't look for wishes"),
                }
            }
            () = worker.wake.notified() => {}
        }
        match notes::report(worker).await {
            Ok(true) => {
                if let Err(error) = worker.take_runs().await {
                    tracing::warn!(%error, "can't look for runs");
                }
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "what stop-all did here can't be reported, so nothing is taken")
            }
        }
    }
}

impl Worker {
    fn name(&self) -> &str {
        &self.parts.settings.name
    }

    /// Where its runs have their containers.
    fn place(&self) -> Place {
        let engine = self.engine_is.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Place { worker: self.name().to_owned(), seat: self.seat.clone(), engine }
    }

    /// Whether the engine that answers now is the one that a run was claimed for: only that one's word that there is no
    /// container says anything.
    ///
    /// # Errors
    /// When it doesn't say who it is.
    async fn is_engine_of(&self, run: Option<&str>) -> engine::Result<bool> {
        match run {
            Some(run) => Ok(self.parts.engine.identity().await? == run),
            None => Ok(true),
        }
    }

    /// Postgres has just said what this worker holds.
    fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago that was.
    fn deaf_for(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn killed(&self) -> MutexGuard<'_, HashSet<String>> {
        self.killed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this life has killed a container that is still to be laid to rest.
    fn has_killed(&self, container: &str) -> bool {
        self.killed().contains(container)
    }

    fn remember_killed(&self, container: &str) {
        self.killed().insert(container.to_owned());
    }

    fn forget_killed(&self, container: &str) {
        self.killed().remove(container);
    }

    /// This worker's own folder.
    fn dir(&self) -> PathBuf {
        self.parts.settings.dir.join(self.name())
    }

    /// The run's own folder, mounted into its container.
    fn run_dir(&self, run: RunId) -> PathBuf {
        self.dir().join("runs").join(run.to_string())
    }

    /// The run of this worker's that has this folder.
    fn run_of(&self, folder: &Path) -> Option<RunId> {
        let is_ours = folder.parent() == Some(&self.dir().join("runs"));
        folder.file_name().filter(|_| is_ours)?.to_str()?.parse().ok()
    }

    /// Tells whoever listens, when there is time for it.
    fn tell(&self, notice: Notice) {
        // The receiver lives as long as the worker.
        let _ = self.notices.send(notice);
    }

    /// Who the engine says that it is; keeps the last word while it says nothing.
    fn heard_engine(&self, identity: Option<String>) {
        if identity.is_some() {
            *self.engine_is.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        }
    }

    fn set_engine(&self, down: Option<String>) {
        if down.is_some() {
            self.starts.forgive(Instant::now());
        }
        *self.engine_down.lock().unwrap_or_else(PoisonError::into_inner) = down;
    }

    /// Why the engine can't be asked to start anything now, if so.
    fn engine_down(&self) -> Option<String> {
        let down = self.engine_down.lock().unwrap_or_else(PoisonError::into_inner).clone();
        down.or_else(|| self.starts.forbid(Instant::now()))
    }

    /// Claims runs while there is room.
    async fn take_runs(self: &Arc<Self>) -> db::Result<()> {
        let db = &self.parts.db;
        loop {
            if let Some(down) = self.engine_down() {
                return db.explain_waiting(Some(&format!("On worker {}, {down}", self.name()))).await;
            }
            if self.roster.len() >= usize::from(self.parts.settings.capacity) {
                return db.explain_waiting(Some("Every worker is busy.")).await;
            }
            if notes::forbids(self).is_some() {
                return Ok(());
            }
            let token = new_token();
            let asked = Instant::now();
            let Some(claimed) = self.claim(&token).await? else { return Ok(()) };
            tracing::info!(run = %claimed.lease.run(), fence = claimed.lease.fence(), "claimed");
            self.starts.takes(claimed.lease.run());
            self.tell(Notice::Changed(claimed.lease.run()));
            self.supervise(Job::fresh(claimed, token), None, asked);
        }
    }

    /// Claims the oldest run; one that the engine has failed to start comes after all others, and not at once.
    async fn claim(&self, token: &str) -> db::Result<Option<Claimed>> {
        let (db, hash) = (&self.parts.db, supervise::token_hash(token));
        let place = self.place();
        let (failed, resting) = self.starts.failed_runs(Instant::now());
        let claimed = db.claim_but(&place, &hash, &failed).await?;
        if claimed.is_some() || failed.len() == resting.len() {
            return Ok(claimed);
        }
        db.claim_but(&place, &hash, &resting).await
    }

    /// Supervises a run; `stop` is the wish that it comes with.
    fn supervise(self: &Arc<Self>, job: Job, stop: Option<Wish>, asked: Instant) {
        let orders = self.roster.enter(job.lease(), asked);
        if let Some(wish) = stop {
            self.roster.traced(job.lease().run(), None);
            self.roster.wish(job.lease().run(), wish);
        }
        let worker = Arc::clone(self);
        self.supervisors.spawn(async move { supervise::supervise(&worker, job, orders).await });
    }

    /// Compares the roster with Postgres: gives orders for wishes, gives up what is no longer ours, adopts what a former
    /// life held. True when something of ours needs the engine's word.
    async fn catch_up(self: &Arc<Self>) -> db::Result<bool> {
        // Nobody else may be there to do it; without it a lapsed lease would keep its container alive.
        self.parts.db.lose_lapsed().await?.into_iter().for_each(|run| self.tell(Notice::Changed(run)));
        let known = self.roster.held();
        let held = self.parts.db.held_by(&self.place()).await?;
        self.heard();
        for run in held.iter().filter(|run| !run.lost) {
            if let Some(wish) = Wish::of(run) {
                self.roster.traced(run.run, None);
                self.roster.wish(run.run, wish);
            }
        }
        for run in known.iter().filter(|run| !held.iter().any(|h| h.run == **run && !h.lost)) {
            self.roster.order(*run, Order::new(StopMode::Force, Cause::LeaseGone));
        }
        let round = Instant::now();
        // What was claimed at another seat isn't adopted: its container may be on another host.
        for run in held.iter().filter(|run| run.here && !run.lost && !known.contains(&run.run)) {
            adopt::adopt(self, run, round).await?;
        }
        Ok(held.iter().any(|run| run.lost && !known.contains(&run.run)))
    }

    /// Stops every run and waits for the ends to be written, within bounds.
    async fn stop_runs(self: &Arc<Self>) {
        self.roster.order_all(Order::new(StopMode::Force, Cause::Shutdown));
        self.supervisors.close();
        if timeout(LEAVE, self.supervisors.wait()).await.is_err() {
            tracing::warn!(runs = self.roster.len(), "runs are left behind");
        }
    }
}

/// 32 random bytes, in hex.
fn new_token() -> String {
    let mut bytes = [0_u8; 32];
    loop {
        match getrandom::fill(&mut bytes) {
            Ok(()) => return bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            // The kernel's generator isn't ready this early after a boot.
            Err(error) => {
                tracing::error!(%error, "no randomness yet");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}
