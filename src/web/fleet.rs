//! What must be said of the fleet on every page, remembered for two seconds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::Result;
use super::page::{Frame, Place};
use crate::db::{Db, Superuser};

/// How old a notice may be.
const FRESH_FOR: Duration = Duration::from_secs(2);

/// What must be said of the workers that are alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Notice {
    /// One of them runs agents without a container around them.
    pub(crate) unsandboxed: bool,
    /// One of them speaks to the scripted stand-in instead of the model.
    pub(crate) rehearsal: bool,
}

/// The fleet, as every page speaks of it.
#[derive(Default)]
pub(crate) struct Fleet {
    noticed: Mutex<Option<(Instant, Notice)>>,
}

impl Fleet {
    /// The frame around a page for this person.
    pub(crate) async fn frame(&self, db: &Db, by: &Superuser, here: Place) -> Result<Frame> {
        Ok(Frame::new(by, self.notice(db, by).await?, here))
    }

    async fn notice(&self, db: &Db, by: &Superuser) -> Result<Notice> {
        let noticed = *self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, notice)) = noticed
            && at.elapsed() < FRESH_FOR
        {
            return Ok(notice);
        }
        let workers = db.workers(by).await?;
        let alive = || workers.iter().filter(|worker| worker.is_alive());
        let notice = Notice {
            unsandboxed: alive().any(|worker| !worker.facts.sandboxed),
            rehearsal: alive().any(|worker| worker.facts.rehearsal),
        };
        *self.noticed.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), notice));
        Ok(notice)
    }
}
