//! Saving the work before the first signal. Its gate is closed by then; the stop waits for it no longer than it may, and
//! not at all once it is wished by force.

use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::super::roster::Order;
use super::super::verdict::Cause;
use super::super::workspace::{LATE, Workspace};
use super::{RETRY, Supervisor};
use crate::clock;
use crate::db::{self, Db, Lease};
use crate::model::work::Patch;

/// How long a stop waits for Postgres to take the patch. It is tried on in the background.
const STORED_WITHIN: Duration = Duration::from_secs(2);
/// How long that is tried.
const STORE_TRIED_FOR: Duration = Duration::from_secs(600);

/// Why the saving ended.
enum Ended<T> {
    Done,
    TimeIsUp,
    Forced,
    Over(T),
}

impl Supervisor<'_> {
    /// Saves the work of a run that is to be stopped, if that was wished. Gives what `over` gives, when the container was
    /// over before the first signal.
    pub(super) async fn save_first<T>(
        &self,
        container: &str,
        over: Pin<&mut (impl Future<Output = T> + ?Sized)>,
    ) -> Option<T> {
        let wished = |order: Order| order.cause == Cause::Wish;
        let (_, errands) = self.worker.roster.errands(self.job.lease.run())?;
        let mut saves = errands.saves();
        if !*saves.borrow() || !self.order().is_some_and(wished) {
            return None;
        }
        let limit = self.worker.parts.times.save;
        let until = Instant::now() + limit;
        self.report.send_modify(|report| report.progress.next_at = Some(clock::now() + limit));
        let mut patch = Patch::default();
        let ended = {
            let workspace = Workspace { engine: self.engine(), container, until };
            let saving = timeout_at(until, workspace.save(&mut patch));
            tokio::select! {
                biased;
                exit = over => Ended::Over(exit),
                _ = saves.wait_for(|save| !save) => Ended::Forced,
                saved = saving => if saved.is_ok() { Ended::Done } else { Ended::TimeIsUp },
            }
        };
        let limit_s = limit.as_secs_f64();
        patch.trouble.extend(match &ended {
            Ended::Done => None,
            Ended::TimeIsUp => Some(format!("{LATE} After {limit_s} s the stop went on.")),
            Ended::Forced => Some("A stop by force was wished meanwhile, so it was left.".to_owned()),
            Ended::Over(_) => Some("The container was over before it was done.".to_owned()),
        });
        let stored = self.keep(patch);
        if matches!(ended, Ended::Done) {
            let patience = until.saturating_duration_since(Instant::now()).min(STORED_WITHIN);
            tokio::select! {
                _ = saves.wait_for(|save| !save) => {}
                _ = timeout(patience, stored) => {}
            }
        }
        match ended {
            Ended::Over(exit) => Some(exit),
            _ => None,
        }
    }

    /// Stores the patch, in the background: whether Postgres answers or not, the stop goes on.
    fn keep(&self, patch: Patch) -> JoinHandle<()> {
        let (db, lease) = (self.worker.parts.db.clone(), self.job.lease.clone());
        tracing::info!(run = %lease.run(), bytes = patch.bytes.len(), files = patch.files, "work saved");
        self.worker.supervisors.spawn(store(db, lease, patch))
    }
}

async fn store(db: Db, lease: Lease, patch: Patch) {
    let until = Instant::now() + STORE_TRIED_FOR;
    loop {
        match db.save_work(&lease, &patch).await {
            Ok(()) => return,
            Err(db::Error::Unavailable(_)) if Instant::now() < until => sleep(RETRY).await,
            Err(error) => {
                tracing::warn!(run = %lease.run(), %error, "the patch can't be stored");
                return;
            }
        }
    }
}
