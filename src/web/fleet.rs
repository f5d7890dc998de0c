//! What must be said of the fleet on every page, remembered for a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::Result;
use super::page::{Frame, Place};
use crate::db::{Db, FleetNow, Superuser};

/// How old it may be.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// The fleet, as every page speaks of it.
#[derive(Default)]
pub(crate) struct Fleet {
    known: Mutex<Option<(Instant, FleetNow)>>,
}

impl Fleet {
    /// The frame around a page for this person.
    pub(crate) async fn frame(&self, db: &Db, by: &Superuser, here: Place) -> Result<Frame> {
        Ok(Frame::new(by, self.now(db, by).await?, here))
    }

    /// Forgets, because something has just been changed here.
    pub(crate) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn now(&self, db: &Db, by: &Superuser) -> Result<FleetNow> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, now)) = known
            && at.elapsed() < FRESH_FOR
        {
            return Ok(now);
        }
        let asked = Instant::now();
        let now = db.fleet_now(by).await?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked, now));
        Ok(now)
    }
}
