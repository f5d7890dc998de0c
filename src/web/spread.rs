//! A click that stops many, on its way: to the workers at once, and to every run in the end, whichever server goes on.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use super::Site;
use super::device::Device;
use super::fleet::Fleet;
use crate::db::{Click, Tell};
use crate::model::run::StopMode;
use crate::queue::{Command, Notice};
use crate::telemetry;

/// How long a click goes on writing wishes before its page is shown; what is left is written behind it.
const WRITES_FOR: Duration = Duration::from_millis(400);
/// Between two looks for stops that aren't written whole.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A click, as its form sent it.
pub(crate) fn click<'a>(
    once: &'a str,
    mode: StopMode,
    reason: &'a str,
    device: &'a Device,
    address: &'a str,
) -> Click<'a> {
    let once = Some(once).filter(|once| !once.is_empty() && once.len() <= 64 && !once.contains('\0'));
    Click { once, mode, reason, device: device.0.as_deref(), address: Some(address) }
}

/// Tells the workers, then goes on writing for a moment, so that most stops are written whole when their page is shown.
pub(crate) async fn spread(site: &Site, fleet: &Fleet, first: Vec<Tell>) {
    fleet.forget();
    tell(site, first).await;
    let until = Instant::now() + WRITES_FOR;
    while Instant::now() < until {
        match write_on(site, Some(until)).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "the other wishes are written later");
                return;
            }
        }
    }
}

/// Tells workers to stop runs, and all of them to look. The wishes are written; Redis only makes it quick.
async fn tell(site: &Site, tells: Vec<Tell>) {
    let commands: Vec<(String, Command)> =
        tells.into_iter().map(|tell| (tell.worker, Command::Stop(tell.run, tell.mode))).collect();
    let sending = info_span!(target: telemetry::TRACE, "commands sent", commands = commands.len());
    let send = async { site.queue.commands(&commands, telemetry::here()).await };
    let (noticed, told) = tokio::join!(site.queue.notice(Notice::Stopping), send.instrument(sending));
    if let Err(error) = told.and(noticed) {
        tracing::warn!(%error, "workers will find the wishes in Postgres");
    }
}

/// Writes one batch of each stop that isn't written whole, or of as many as can be begun before `until`. True when there is
/// more that can be written now. Workers that can't be told by then find the wishes in Postgres.
async fn write_on(site: &Site, until: Option<Instant>) -> crate::db::Result<bool> {
    let mut more = false;
    for stop in site.db.open_stops().await? {
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok(false);
        }
        let written = site.db.write_wishes(stop).await?;
        more |= !written.whole && written.runs > 0;
        if !written.tell.is_empty() {
            match until {
                Some(until) => drop(timeout_at(until, tell(site, written.tell)).await),
                None => tell(site, written.tell).await,
            }
        }
    }
    Ok(more)
}

/// Goes on with what clicks began, whichever server took them, until shutdown.
pub(crate) async fn go_on(site: &Site, shutdown: &CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        loop {
            match write_on(site, None).await {
                Ok(true) if !shutdown.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(%error, "stops can't be gone on with");
                    break;
                }
            }
        }
    }
}
