//! What must be said of the fleet on every page, remembered for a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::Result;
use super::page::{Frame, Place};
use crate::clock;
use crate::db::{Choices, Db, FleetNow, Standing, Superuser};

/// How old it may be.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// The same of the names that lists can be narrowed to.
const NAMES_FOR: Duration = Duration::from_secs(10);

/// The fleet, as every page speaks of it.
#[derive(Default)]
pub(crate) struct Fleet {
    known: Mutex<Option<(Instant, FleetNow, Standing)>>,
    names: Mutex<Option<(Instant, Arc<Choices>)>>,
}

impl Fleet {
    /// The frame around a page for this person.
    pub(crate) async fn frame(&self, db: &Db, by: &Superuser, here: Place) -> Result<Frame> {
        self.frame_since(db, by, here, None).await
    }

    /// The same, known no earlier than `since`, when something is known to have changed then.
    pub(crate) async fn frame_since(
        &self,
        db: &Db,
        by: &Superuser,
        here: Place,
        since: Option<Instant>,
    ) -> Result<Frame> {
        let (notice, standing) = self.now(db, by, since).await?;
        Ok(Frame::new(by, notice, standing, here, clock::now()))
    }

    /// The names that lists can be narrowed to.
    pub(crate) async fn choices(&self, db: &Db, by: &Superuser) -> Result<Arc<Choices>> {
        let known = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, choices)) = known
            && at.elapsed() < NAMES_FOR
        {
            return Ok(choices);
        }
        let choices = Arc::new(db.choices(by).await?);
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), choices.clone()));
        Ok(choices)
    }

    /// Forgets, because something has just been changed here.
    pub(crate) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn now(&self, db: &Db, by: &Superuser, since: Option<Instant>) -> Result<(FleetNow, Standing)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, now, standing)) = known
            && at.elapsed() < FRESH_FOR
            && since.is_none_or(|since| at >= since)
        {
            return Ok((now, standing));
        }
        let asked = Instant::now();
        let (now, standing) = tokio::try_join!(db.fleet_now(by), db.standing(by))?;
        let known = Some((asked, now.clone(), standing.clone()));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        Ok((now, standing))
    }
}
