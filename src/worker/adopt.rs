//! Adoption: what this worker's former life held, it holds again, under a new fence.

use std::sync::Arc;

use tokio::time::Instant;

use super::Worker;
use super::roster::Wish;
use super::supervise::Job;
use crate::db::{self, Held};

/// Takes a run over, if its lease still holds. Its supervisor finds the container, opens the gate again, and goes on
/// with the transcript after the last line stored. Those that are taken over in one `round`, begun then, share a listing.
pub(super) async fn adopt(worker: &Arc<Worker>, held: &Held, round: Instant) -> db::Result<()> {
    let (run, asked) = (held.run, Instant::now());
    if let Some(adopted) = worker.parts.db.adopt(&worker.place(), run).await? {
        tracing::info!(%run, fence = adopted.lease.fence(), "adopted");
        let stop = adopted.stop.map(|mode| Wish::found(mode, adopted.saves, held.save));
        worker.supervise(Job::adopted(adopted, round), stop, asked);
    }
    Ok(())
}
