//! Writes what a run's gate meters into Postgres: a second after it grew, and at the end.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Worker;
use super::roster::Order;
use super::verdict::Cause;
use crate::db::{self, Lease};
use crate::model::metered::Metered;
use crate::model::run::StopMode;
use crate::queue::Notice;

/// How long figures are gathered before they are written.
const GATHER: Duration = Duration::from_secs(1);

/// How often the last figures are tried when Postgres doesn't answer, and how long apart.
const LAST_TRIES: (u32, Duration) = (20, Duration::from_millis(500));

/// Writes each change; ends when the gate and its meter are gone, or the lease.
pub(super) async fn report(worker: &Worker, lease: &Lease, mut metered: watch::Receiver<Metered>) {
    let mut written = metered.borrow_and_update().clone();
    let mut tries = LAST_TRIES.0;
    let mut over = false;
    loop {
        let now = metered.borrow_and_update().clone();
        if now != written {
            match worker.parts.db.metered(lease, &now).await {
                Ok(()) => {
                    worker.tell(Notice::Changed(lease.run()));
                    worker.gauges.metered(&written, &now);
                    written = now;
                }
                Err(db::Error::Unavailable(_)) if over => {
                    tries -= 1;
                    if tries == 0 {
                        tracing::warn!(run = %lease.run(), "what was metered last isn't written");
                        return;
                    }
                    sleep(LAST_TRIES.1).await;
                    continue;
                }
                Err(db::Error::Unavailable(_)) => {}
                Err(db::Error::Fenced(_)) => {
                    tracing::warn!(run = %lease.run(), "what was metered is refused: the run is no longer ours");
                    worker.roster.order(lease.run(), Order::new(StopMode::Force, Cause::LeaseGone));
                    return;
                }
                // Nothing that a run should end for.
                Err(error) => {
                    tracing::error!(run = %lease.run(), %error, "what was metered can't be written");
                    return;
                }
            }
        } else if over || metered.changed().await.is_err() {
            return;
        }
        over = over || timeout(GATHER, gone(&mut metered)).await.is_ok();
    }
}

/// Waits until nothing can be metered any more.
async fn gone(metered: &mut watch::Receiver<Metered>) {
    while metered.changed().await.is_ok() {}
}
