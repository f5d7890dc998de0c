//! The reporter: writes how a run goes into Postgres, the latest state only, for as long as it takes.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Worker;
use super::roster::Order;
use super::verdict::Cause;
use crate::db::{self, Lease};
use crate::model::run::{StopMode, StopProgress};
use crate::queue::Notice;

/// How a run goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The container that runs, once it does.
    pub(super) container: Option<String>,
    /// How far a stop has come.
    pub(super) progress: StopProgress,
    /// What is wrong, other than with a stop.
    pub(super) trouble: Option<String>,
}

/// Writes each new report; ends when its sender is gone, or the lease.
pub(super) async fn report(worker: &Worker, lease: &Lease, mut reports: watch::Receiver<Report>) {
    let mut written = Report::default();
    loop {
        let report = reports.borrow_and_update().clone();
        match write(worker, lease, &written, &report).await {
            Ok(()) => {
                if report != written {
                    worker.tell(Notice::Changed(lease.run()));
                }
                written = report;
                if reports.changed().await.is_err() {
                    return;
                }
            }
            Err(db::Error::Unavailable(_)) => {
                tokio::select! { () = sleep(Duration::from_millis(500)) => {}, gone = reports.changed() => {
                    if gone.is_err() { return; }
                } }
            }
            Err(error) => {
                tracing::warn!(run = %lease.run(), %error, "the run is no longer ours");
                worker.roster.order(lease.run(), Order::new(StopMode::Force, Cause::LeaseGone));
                return;
            }
        }
    }
}

/// Writes what differs.
async fn write(worker: &Worker, lease: &Lease, old: &Report, new: &Report) -> db::Result<()> {
    let db = &worker.parts.db;
    if let Some(container) = new.container.as_ref().filter(|_| old.container != new.container) {
        db.mark_running(lease, container).await?;
    }
    if old.progress != new.progress {
        db.progress(lease, &new.progress).await?;
    }
    if old.trouble != new.trouble {
        db.trouble(lease, new.trouble.as_deref()).await?;
    }
    Ok(())
}
