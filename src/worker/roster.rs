//! The roster: which runs this worker holds, and what it has been told to do with each.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::verdict::Cause;
use crate::db::Lease;
use crate::model::run::{RunId, StopMode};

/// An order to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    /// Where the ladder begins.
    pub(super) mode: StopMode,
    /// Why.
    pub(super) cause: Cause,
}

struct Entry {
    lease: Lease,
    /// When the last renewal that succeeded was asked for.
    renewed: Instant,
    orders: watch::Sender<Option<Order>>,
}

/// The runs held.
#[derive(Default)]
pub(super) struct Roster {
    runs: Mutex<HashMap<RunId, Entry>>,
}

impl Roster {
    fn runs(&self) -> MutexGuard<'_, HashMap<RunId, Entry>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a run; its orders come through what is returned. `asked` is when the claim was sent: the lease can't be
    /// older.
    pub(super) fn enter(&self, lease: &Lease, asked: Instant) -> watch::Receiver<Option<Order>> {
        let (orders, told) = watch::channel(None);
        self.runs().insert(lease.run(), Entry { lease: lease.clone(), renewed: asked, orders });
        told
    }

    /// Strikes a run off.
    pub(super) fn leave(&self, run: RunId) {
        self.runs().remove(&run);
    }

    /// Gives an order. The first cause stays; `force` outranks `graceful`. False when the run isn't here.
    pub(super) fn order(&self, run: RunId, order: Order) -> bool {
        let runs = self.runs();
        let Some(entry) = runs.get(&run) else { return false };
        entry.orders.send_if_modified(|held| match held {
            None => {
                *held = Some(order);
                true
            }
            Some(held) if held.mode == StopMode::Graceful && order.mode == StopMode::Force => {
                held.mode = StopMode::Force;
                true
            }
            Some(_) => false,
        });
        true
    }

    /// Gives everybody the same order.
    pub(super) fn order_all(&self, order: Order) {
        for run in self.held() {
            self.order(run, order);
        }
    }

    /// The runs held now.
    pub(super) fn held(&self) -> Vec<RunId> {
        self.runs().keys().copied().collect()
    }

    /// Their leases.
    pub(super) fn leases(&self) -> Vec<Lease> {
        self.runs().values().map(|entry| entry.lease.clone()).collect()
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.runs().len()
    }

    /// A renewal that was asked for at `asked` succeeded for these.
    pub(super) fn renewed(&self, runs: impl IntoIterator<Item = (RunId, i64)>, asked: Instant) {
        let mut held = self.runs();
        for (run, fence) in runs {
            if let Some(entry) = held.get_mut(&run).filter(|entry| entry.lease.fence() == fence) {
                entry.renewed = asked;
            }
        }
    }

    /// Whether a run's lease was renewed within this time, so that it can't have lapsed.
    pub(super) fn holds(&self, run: RunId, within: Duration) -> bool {
        self.runs().get(&run).is_some_and(|entry| entry.renewed.elapsed() < within)
    }

    /// Those whose last renewal is this long ago, or longer.
    pub(super) fn overdue(&self, now: Instant, limit: Duration) -> Vec<RunId> {
        let late = |entry: &Entry| now.duration_since(entry.renewed) >= limit;
        self.runs().iter().filter(|(_, entry)| late(entry)).map(|(run, _)| *run).collect()
    }
}
