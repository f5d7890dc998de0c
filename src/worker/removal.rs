//! Removal: a container that is over and won't go is tried again with growing pauses, and said to be there still.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::time::sleep;

use super::{Parts, Worker};
use crate::db::{Error, Lease};
use crate::engine;
use crate::model::found::{Kind, Leftover};
use crate::queue::Notice;

/// The first pause; doubled with each try.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST: Duration = Duration::from_secs(60);
/// So many tries take 15 s; then the audit has it too.
const NOTED: u32 = 5;

/// Containers that won't go. Only their removal tries again, not the sweep.
#[derive(Clone, Default)]
pub(super) struct Removals(Arc<Mutex<HashSet<String>>>);

impl Removals {
    fn containers(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, container: &str) -> bool {
        self.containers().contains(container)
    }
}

/// Removes the container of a run that is over; where that fails, goes on behind the caller's back until it is gone.
pub(super) async fn remove(worker: &Worker, lease: &Lease, container: &str) {
    let Err(error) = worker.parts.engine.remove(container).await else { return };
    let removals = worker.removals.clone();
    removals.containers().insert(container.to_owned());
    let (parts, lease, container) = (worker.parts.clone(), lease.clone(), container.to_owned());
    let removal = Removal { parts, notices: worker.notices.clone(), lease, container };
    tokio::spawn(async move {
        removal.go_on(error).await;
        removals.containers().remove(&removal.container);
    });
}

/// A container that won't go.
struct Removal {
    parts: Parts,
    notices: UnboundedSender<Notice>,
    lease: Lease,
    container: String,
}

impl Removal {
    async fn go_on(&self, mut error: engine::Error) {
        let mut pause = PAUSE;
        for tries in 1_u32.. {
            tracing::warn!(run = %self.lease.run(), tries, %error, "the container stays for now");
            self.say(&error).await;
            if tries == NOTED {
                self.note(&error).await;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
            match self.parts.engine.remove(&self.container).await {
                Ok(()) => break,
                Err(again) => error = again,
            }
        }
        let leftover = Leftover {
            kind: Kind::Container,
            what: self.container.clone(),
            run: Some(self.lease.run()),
            detail: format!("held under fence {}", self.lease.fence()),
            bytes: None,
            since: None,
        };
        let (db, name) = (&self.parts.db, &self.parts.settings.name);
        while let Err(Error::Unavailable(_)) =
            db.cleared_by_itself(name, &leftover, "Removed: it was over.").await
        {
            sleep(LONGEST).await;
        }
        let _ = self.notices.send(Notice::Changed(self.lease.run()));
    }

    /// On the run's page.
    async fn say(&self, error: &engine::Error) {
        let text = format!("Its container is over and still there: {error}. Its removal is tried again.");
        match self.parts.db.remains(&self.lease, &text).await {
            // The worker may be gone by now, and nobody listen.
            Ok(()) => drop(self.notices.send(Notice::Changed(self.lease.run()))),
            Err(error) => tracing::warn!(run = %self.lease.run(), %error, "nor can that be said"),
        }
    }

    async fn note(&self, error: &engine::Error) {
        let (name, run) = (&self.parts.settings.name, self.lease.run());
        let detail = format!("{}: {error}", self.container);
        if let Err(error) = self.parts.db.note_of_worker(name, "container stays", Some(run), &detail).await {
            tracing::warn!(%run, %error, "nor can that be noted");
        }
    }
}
