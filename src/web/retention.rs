//! Retention: room is made for transcripts before they come, and what is past its time or its measure goes.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Site;
use crate::db;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(60);
/// Between two partitions that go one after the other, so that those who wait for the table get their turn.
const BREATH: Duration = Duration::from_millis(500);

/// Does both, until `shutdown`.
pub(crate) async fn go_on(site: &Site, shutdown: &CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = site.db.make_room(Some(site.keep.part_runs)).await {
            tracing::debug!(%error, "no room is made ahead");
        }
        // Half a drop is none, and the next server goes on.
        if let Some(Err(error)) = shutdown.run_until_cancelled(drop_due(site)).await {
            tracing::warn!(%error, "transcripts that are past their time are dropped later");
        }
    }
}

async fn drop_due(site: &Site) -> db::Result<()> {
    let (days, bytes) = (site.keep.days, site.keep.bytes);
    if days.is_none() && bytes.is_none() {
        return Ok(());
    }
    while let Some(dropped) = site.db.drop_due(days, bytes).await? {
        tracing::info!(
            first = dropped.first,
            last = dropped.last,
            bytes = dropped.bytes,
            kept = dropped.kept,
            "transcripts dropped"
        );
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}
