//! The pulse: heartbeat and renewals; and the worker's own fence: when it can't renew by two thirds of the lease,
//! it stops its containers, so that nothing of it lives when the lease lapses.

use std::time::Duration;

use nix::sys::utsname::uname;
use nix::unistd::{SysconfVar, sysconf};
use tokio::time::{Instant, sleep};

use super::Worker;
use super::roster::Order;
use super::verdict::Cause;
use crate::db::Error;
use crate::model::run::StopMode;
use crate::model::worker::HostFacts;

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Between two tries when a renewal failed.
const RETRY: Duration = Duration::from_secs(1);
/// Between two looks at the fence.
const LOOK: Duration = Duration::from_millis(250);
/// A look that comes this late, and later than a renewal was due, comes from a worker that wasn't let run meanwhile.
const STILL: Duration = Duration::from_secs(5);

/// What this host is; measured. The engine's part is left for [`with_engine`].
pub(super) fn host(worker: &Worker) -> HostFacts {
    let (arch, kernel) = match uname() {
        Ok(name) => {
            (name.machine().to_string_lossy().into_owned(), name.release().to_string_lossy().into_owned())
        }
        Err(error) => (format!("unknown ({error})"), "unknown".to_owned()),
    };
    HostFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        arch,
        page_size: sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(0),
        kernel,
        rehearsal: worker.parts.settings.model_api.rehearsal,
        capacity: i32::from(worker.parts.settings.capacity),
        ..HostFacts::default()
    }
}

/// The facts, with what the engine says now and what there is to bear.
async fn with_engine(worker: &Worker, host: &HostFacts) -> HostFacts {
    let mut facts = host.clone();
    let asked = Instant::now();
    let about = worker.parts.engine.about().await;
    facts.load = worker.gauges.load(&worker.dir(), about.is_ok().then(|| asked.elapsed())).await;
    facts.counts = worker.gauges.counts();
    match about {
        Ok(about) => {
            facts.engine = about.line;
            facts.engine_ok = true;
            facts.sandboxed = about.sandboxed;
            facts.claude = about.claude;
            worker.heard_engine(about.identity);
        }
        Err(error) => {
            facts.engine = error.to_string();
            facts.sandboxed = worker.parts.settings.engine == crate::config::EngineKind::Docker;
        }
    }
    worker.set_engine((!facts.engine_ok).then(|| facts.engine.clone()));
    facts
}

/// Registers: the first heartbeat, repeated until Postgres takes it. While another worker goes by this name it doesn't.
pub(super) async fn register(worker: &Worker, host: &HostFacts) {
    let facts = with_engine(worker, host).await;
    let mut told = false;
    while let Err(error) = worker.parts.db.heartbeat(worker.name(), &worker.seat, &facts, true).await {
        match error {
            Error::Taken(_) => {
                // Postgres has answered: what runs under this name may well have its lease, though it isn't ours.
                worker.heard();
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(
                        name = worker.name(),
                        "another worker of this name was heard within 30 s; nothing is done here until it is silent"
                    );
                }
            }
            error => tracing::warn!(%error, "can't register; trying again"),
        }
        sleep(RETRY).await;
    }
}

/// Heartbeats, until another worker goes by this name.
pub(super) async fn heartbeats(worker: &Worker, host: &HostFacts) -> Error {
    loop {
        sleep(HEARTBEAT).await;
        let facts = with_engine(worker, host).await;
        match worker.parts.db.heartbeat(worker.name(), &worker.seat, &facts, false).await {
            Ok(()) => {}
            Err(error @ Error::Taken(_)) => {
                tracing::error!(name = worker.name(), "another worker goes by this name now");
                return error;
            }
            Err(error) => tracing::warn!(%error, "no heartbeat"),
        }
        if facts.engine_ok {
            worker.wake.notify_one();
        }
    }
}

/// Renews all leases, for ever. Those that Postgres no longer grants are given up at once.
pub(super) async fn renewals(worker: &Worker) {
    loop {
        let renewed = renew(worker).await;
        sleep(if renewed { worker.parts.times.renewal } else { RETRY }).await;
    }
}

async fn renew(worker: &Worker) -> bool {
    let leases = worker.roster.leases();
    if leases.is_empty() {
        return true;
    }
    let asked = Instant::now();
    match worker.parts.db.renew(worker.name(), &leases).await {
        Ok(renewed) => {
            worker.heard();
            worker.roster.renewed(renewed.iter().map(|lease| (lease.run, lease.fence)), asked);
            for lease in leases {
                let kept = renewed.iter().any(|r| r.run == lease.run() && r.fence == lease.fence());
                // One that has just ended isn't renewed either; its supervisor no longer listens.
                if !kept {
                    tracing::debug!(run = %lease.run(), "not renewed");
                    worker.roster.order_under(&lease, Order::new(StopMode::Force, Cause::LeaseGone));
                }
            }
            true
        }
        Err(error) => {
            tracing::warn!(%error, "leases can't be renewed");
            false
        }
    }
}

/// Looks at the fence, for ever.
pub(super) async fn fence(worker: &Worker) {
    let times = &worker.parts.times;
    let mut looked = Instant::now();
    loop {
        sleep(LOOK).await;
        let now = Instant::now();
        let cause = if now - looked > STILL.max(times.renewal) { Cause::StoodStill } else { Cause::CutOff };
        looked = now;
        for run in worker.roster.overdue(now, times.fence) {
            worker.roster.order(run, Order::new(StopMode::Force, cause));
        }
    }
}
