//! Who watches: the sessions that have streams open. Each is asked for again and again whether it still may.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::db::{self, Db, SessionHash, Superuser};

/// Between two times that every viewer is asked for.
pub(super) const PROVE_EVERY: Duration = Duration::from_secs(2);

/// How old a proof may be for anything to be drawn by it. Older ones there are when Postgres doesn't answer.
const PROOF_LASTS: Duration = Duration::from_secs(4);

/// A session with streams open.
pub(crate) struct Viewer {
    pub(super) session: SessionHash,
    proof: Mutex<(Superuser, Instant)>,
    gone: CancellationToken,
}

impl Viewer {
    /// The proof that this viewer is a superuser, if it is fresh.
    pub(crate) fn proof(&self) -> Option<Superuser> {
        let (by, at) = &*self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.gone.is_cancelled() && at.elapsed() < PROOF_LASTS).then(|| by.clone())
    }

    /// Ends when the session has ended, or its user isn't a superuser any more.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    fn renew(&self, by: Superuser, asked: Instant) {
        *self.proof.lock().unwrap_or_else(PoisonError::into_inner) = (by, asked);
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Viewers {
    known: Mutex<HashMap<SessionHash, Weak<Viewer>>>,
}

impl Viewers {
    fn known(&self) -> MutexGuard<'_, HashMap<SessionHash, Weak<Viewer>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody opens a stream, whom the guard has just let in.
    pub(super) fn enter(&self, session: SessionHash, by: Superuser) -> Arc<Viewer> {
        let mut known = self.known();
        let there = known.get(&session).and_then(Weak::upgrade).filter(|viewer| !viewer.gone.is_cancelled());
        let viewer = there.unwrap_or_else(|| {
            let proof = Mutex::new((by.clone(), Instant::now()));
            let viewer = Arc::new(Viewer { session, proof, gone: CancellationToken::new() });
            known.insert(session, Arc::downgrade(&viewer));
            viewer
        });
        viewer.renew(by, Instant::now());
        viewer
    }

    /// Asks for all of them by one statement, and ends the streams of those who may see nothing any more.
    pub(super) async fn prove(&self, db: &Db) -> db::Result<()> {
        let watching: Vec<Arc<Viewer>> = {
            let mut known = self.known();
            known.retain(|_, viewer| viewer.strong_count() > 0);
            known.values().filter_map(Weak::upgrade).collect()
        };
        if watching.is_empty() {
            return Ok(());
        }
        let asked = Instant::now();
        let sessions: Vec<SessionHash> = watching.iter().map(|viewer| viewer.session).collect();
        let mut proven: HashMap<_, _> = db.still_superusers(&sessions).await?.into_iter().collect();
        for viewer in watching {
            match proven.remove(&viewer.session) {
                Some(by) => viewer.renew(by, asked),
                None => viewer.gone.cancel(),
            }
        }
        Ok(())
    }
}
