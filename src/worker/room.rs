//! Room for transcripts: partitions of events are made before there are runs for them, also where no `serve` is there to do it.

use std::time::Duration;

use tokio::time::sleep;

use super::Worker;

/// Between two looks. Three partitions lie ready, each for thousands of runs.
const EVERY: Duration = Duration::from_secs(60);

/// Makes room, for ever.
pub(super) async fn ahead(worker: &Worker) {
    loop {
        if let Err(error) = worker.parts.db.make_room(None).await {
            // Whoever stores events where there is none makes it then.
            tracing::debug!(%error, "no room is made ahead");
        }
        sleep(EVERY).await;
    }
}
