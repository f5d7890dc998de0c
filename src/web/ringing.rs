//! Bells are rung: one look after the other at what has happened, whichever server comes by, and what is due is sent.

use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::Site;
use super::error::{Error, Result};
use crate::bell::{Key, Rung};
use crate::clock;
use crate::db::{self, DueRing};
use crate::model::bell::again_after_s;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The key that push services know us by: the one that we were given, or the one in Postgres, made when it is first wanted.
pub(crate) async fn key(site: &Site) -> Result<&Key> {
    if let Some(key) = site.ringer.key() {
        return Ok(key);
    }
    let pkcs8 = match site.db.push_key().await? {
        Some(pkcs8) => pkcs8,
        None => site.db.keep_push_key(&Key::make().map_err(Error::Internal)?).await?,
    };
    let key = Key::from_pkcs8(&pkcs8).map_err(|error| Error::Internal(error.into()))?;
    Ok(site.ringer.take_key(key))
}

/// Looks and rings until shutdown. What is cut off then is sent again by the next server: a ring may come twice, and is
/// never lost.
pub(crate) async fn go_on(site: &Site, shutdown: &CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Some(Err(error)) = shutdown.run_until_cancelled(look(site)).await {
            tracing::debug!(%error, "bells can't be rung");
        }
    }
}

async fn look(site: &Site) -> Result<()> {
    let Some(wanted) = site.db.listened_for().await? else { return Ok(()) };
    site.db.look_out(&wanted).await?;
    loop {
        let due = site.db.due_rings().await?;
        if due.is_empty() {
            return Ok(());
        }
        let key = key(site).await?;
        for noted in join_all(due.iter().map(|due| ring(site, key, due))).await {
            noted?;
        }
    }
}

async fn ring(site: &Site, key: &Key, due: &DueRing) -> db::Result<()> {
    let ring = due.ring.id;
    match site.ringer.ring(key, &due.target, &due.ring, clock::now()).await {
        Rung::Taken => site.db.ring_taken(ring).await,
        Rung::Gone => {
            tracing::info!(bell = %due.bell, "the push service has dropped a device");
            site.db.device_dropped(due.bell, &due.target).await?;
            site.db.ring_failed(ring, "The push service has dropped this device.", None).await
        }
        Rung::Failed(trouble) => {
            tracing::debug!(ring, tries = due.tries, trouble, "a bell wasn't rung");
            site.db.ring_failed(ring, &trouble, again_after_s(due.tries)).await
        }
    }
}
