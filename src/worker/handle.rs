//! The red handle, at the worker: every gate closes at once, and none opens until it is left. A task of its own, so
//! that nothing that an engine does or doesn't do keeps it waiting.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::roster::Wish;
use super::{POLL, Worker};
use crate::db;
use crate::gate::Gate;
use crate::queue::Notice;

/// Between two tries of a Postgres that doesn't answer.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Every gate of this worker, and whether any may be open.
#[derive(Default)]
pub(super) struct Gates {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    closed: bool,
    open: Vec<Weak<Gate>>,
}

impl Gates {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether gates stay closed, so that nothing need be started.
    pub(super) fn are_closed(&self) -> bool {
        self.kept().closed
    }

    /// Takes a gate that has just been opened into keeping; closes it when all are to be closed.
    pub(super) fn keep(&self, gate: &Arc<Gate>) {
        let mut kept = self.kept();
        if kept.closed {
            gate.close();
            return;
        }
        kept.open.retain(|gate| gate.strong_count() > 0);
        kept.open.push(Arc::downgrade(gate));
    }

    /// Closes them all, and keeps them closed. Says how many connections were cut.
    fn close(&self) -> usize {
        let mut kept = self.kept();
        kept.closed = true;
        kept.open.drain(..).filter_map(|gate| gate.upgrade()).map(|gate| gate.close()).sum()
    }

    /// From here on gates may open; those that were closed stay so.
    fn allow(&self) {
        self.kept().closed = false;
    }
}

/// Looks for the first time, for as long as it takes: before that no gate may open.
pub(super) async fn begin(worker: &Worker) {
    while let Err(error) = look(worker).await {
        tracing::warn!(%error, "can't ask whether gates are closed; trying again");
        sleep(RETRY).await;
    }
}

/// Looks every 2 s, and at once when told, for ever.
pub(super) async fn watch(worker: &Worker) {
    let mut poll = interval(POLL);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! { _ = poll.tick() => {}, () = worker.look.notified() => {} }
        let looked = async {
            look(worker).await?;
            // The loop that looks for work does this too, but may be busy with an engine that doesn't answer.
            give_orders(worker).await
        };
        if let Err(error) = looked.await {
            tracing::warn!(%error, "can't ask whether gates are closed");
        }
    }
}

async fn look(worker: &Worker) -> db::Result<()> {
    let db = &worker.parts.db;
    let Some(order) = db.gates_closed(worker.name()).await? else {
        worker.gates.allow();
        return Ok(());
    };
    if !worker.gates.are_closed() {
        let cut = worker.gates.close();
        tracing::warn!(cut, "the red handle is pulled: every gate is closed");
    }
    if !order.answered {
        db.gates_are_closed(worker.name(), &order).await?;
        worker.tell(Notice::Standing);
    }
    Ok(())
}

/// Gives an order for each wish; what else there is to compare waits for [`Worker::catch_up`].
async fn give_orders(worker: &Worker) -> db::Result<()> {
    for run in worker.parts.db.held_by(&worker.place()).await?.iter().filter(|run| !run.lost) {
        if let Some(wish) = Wish::of(run) {
            worker.roster.wish(run.run, wish);
        }
    }
    Ok(())
}
