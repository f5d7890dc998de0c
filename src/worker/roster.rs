//! The roster: which runs this worker holds, and what it has been told to do with each.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{Span, info_span};

use super::errands::Errands;
use super::verdict::Cause;
use crate::db::{Held, Lease};
use crate::model::run::{RunId, StopMode};
use crate::model::trace::TraceParent;
use crate::model::wish::Weight;
use crate::telemetry;

/// An order to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    /// Where the ladder begins.
    pub(super) mode: StopMode,
    /// Why it began.
    pub(super) cause: Cause,
    /// The heaviest wish for it, be it from the beginning or since; none while nobody has wished it.
    pub(super) wished: Option<Weight>,
}

impl Order {
    /// An order that nobody has wished.
    pub(super) fn new(mode: StopMode, cause: Cause) -> Self {
        Self { mode, cause, wished: None }
    }
}

/// A wish to stop, as it reaches the worker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    mode: StopMode,
    weight: Weight,
    /// Whether the work is still to be saved before the first signal.
    save: bool,
}

impl Wish {
    /// One that a command tells.
    pub(super) fn told(mode: StopMode, save: bool) -> Self {
        Self { mode, weight: Weight::of(mode, save), save }
    }

    /// One that Postgres holds, of which the saving may be done.
    pub(super) fn found(mode: StopMode, saves: bool, save: bool) -> Self {
        Self { mode, weight: Weight::of(mode, saves), save }
    }

    /// The one that Postgres holds for a run, if there is one.
    pub(super) fn of(held: &Held) -> Option<Self> {
        held.stop.map(|mode| Self::found(mode, held.saves, held.save))
    }
}

struct Entry {
    lease: Lease,
    /// When the last renewal that succeeded was asked for.
    renewed: Instant,
    orders: watch::Sender<Option<Order>>,
    errands: Errands,
    /// What is traced of its stop, from the first word of it to the end of the run.
    stop: Span,
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
        self.runs().insert(
            lease.run(),
            Entry {
                lease: lease.clone(),
                renewed: asked,
                orders,
                errands: Errands::default(),
                stop: Span::none(),
            },
        );
        told
    }

    /// Strikes a run off; not one that was given back meanwhile and taken again under another fence.
    pub(super) fn leave(&self, lease: &Lease) {
        let mut runs = self.runs();
        if runs.get(&lease.run()).is_some_and(|entry| entry.lease.fence() == lease.fence()) {
            runs.remove(&lease.run());
        }
    }

    /// Gives an order to a run that is still held under this lease.
    pub(super) fn order_under(&self, lease: &Lease, order: Order) {
        let held = self.runs().get(&lease.run()).is_some_and(|entry| entry.lease.fence() == lease.fence());
        if held {
            self.order(lease.run(), order);
        }
    }

    /// Gives an order. The first cause stays; `force` outranks `graceful`. False when the run isn't here.
    pub(super) fn order(&self, run: RunId, order: Order) -> bool {
        let runs = self.runs();
        let Some(entry) = runs.get(&run) else { return false };
        if order.mode == StopMode::Force && order.cause != Cause::Wish {
            // A worker that must stop its containers by the end of a lease has no time to save anything.
            entry.errands.save(false);
        }
        entry.orders.send_if_modified(|held| match held {
            None => {
                *held = Some(order);
                true
            }
            Some(held) => {
                let before = *held;
                held.wished = held.wished.max(order.wished);
                if order.mode == StopMode::Force {
                    held.mode = StopMode::Force;
                }
                *held != before
            }
        });
        true
    }

    /// Whether a run that is held here is being stopped.
    pub(super) fn is_ordered(&self, run: RunId) -> bool {
        self.runs().get(&run).is_some_and(|entry| entry.orders.borrow().is_some())
    }

    /// A stop is known here now: it is traced from here on, as a part of what told of it. One that was found in Postgres, which
    /// knows of no traces, begins one of its own.
    pub(super) fn traced(&self, run: RunId, from: Option<TraceParent>) {
        let mut runs = self.runs();
        let Some(entry) = runs.get_mut(&run).filter(|entry| entry.stop.is_none()) else { return };
        let fence = entry.lease.fence();
        entry.stop = info_span!(target: telemetry::TRACE, parent: None, "stop", otel.kind = "consumer", run = run.0, fence);
        if let Some(from) = from {
            telemetry::follow(&entry.stop, from);
        }
    }

    /// What is traced of a run's stop, for what is done about it.
    pub(super) fn stop_of(&self, run: RunId) -> Span {
        self.runs().get(&run).map_or_else(Span::none, |entry| entry.stop.clone())
    }

    /// Takes a wish to stop in. What was being saved is left when it is wished by force and without.
    pub(super) fn wish(&self, run: RunId, wish: Wish) -> bool {
        let Wish { mode, weight, save } = wish;
        if let Some(entry) = self.runs().get(&run) {
            if entry.orders.borrow().is_none() {
                entry.errands.save(save);
            } else if mode == StopMode::Force && !save {
                entry.errands.save(false);
            }
        }
        self.order(run, Order { mode, cause: Cause::Wish, wished: Some(weight) })
    }

    /// The run is in this container.
    pub(super) fn settled_in(&self, run: RunId, container: &str) {
        if let Some(entry) = self.runs().get_mut(&run) {
            entry.errands.container = Some(container.to_owned());
        }
    }

    /// What else is to be done for a run that is held here, and under which lease.
    pub(super) fn errands(&self, run: RunId) -> Option<(Lease, Errands)> {
        self.runs().get(&run).map(|entry| (entry.lease.clone(), entry.errands.clone()))
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
