//! The keeper of a run's gate: closes it at the first order, whatever the engine is doing or not doing just then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::super::reporter::Report;
use super::super::roster::Order;
use crate::clock;
use crate::gate::Gate;
use crate::model::run::RunId;
use crate::model::wish::Taken;

/// Keeps one run's gate.
pub(super) struct Keeper {
    run: RunId,
    gate: Mutex<Option<Arc<Gate>>>,
    over: AtomicBool,
    report: watch::Sender<Report>,
}

impl Keeper {
    pub(super) fn new(run: RunId, report: watch::Sender<Report>) -> Self {
        Self { run, gate: Mutex::default(), over: AtomicBool::default(), report }
    }

    /// Takes an open gate into its keeping.
    pub(super) fn take(&self, gate: Arc<Gate>) {
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner) = Some(gate);
    }

    /// Closes the gate; says how many connections that cut. Closing twice is fine.
    pub(super) fn close(&self) -> usize {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner).take();
        gate.map_or(0, |gate| gate.close())
    }

    /// The container was over before there was an order: what is ordered from here on stops nothing.
    pub(super) fn over(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.report.send_if_modified(|report| report.progress.unasked.take().is_some());
    }

    /// Takes an order in: closes the gate and says so; the first time counts. Each wish that is heavier than those before was
    /// delivered by then; what isn't wished by anybody was begun here.
    pub(super) fn obey(&self, order: Order) {
        let cut = self.close();
        let now = clock::now();
        let mut first = false;
        self.report.send_if_modified(|report| {
            let progress = &mut report.progress;
            let before = progress.clone();
            first = progress.egress_cut_at.is_none();
            progress.egress_cut_at.get_or_insert(now);
            if let Some(weight) = order.wished
                && progress.taken.last().is_none_or(|taken| taken.weight < weight)
            {
                progress.taken.push(Taken { weight, at: now });
            }
            // What was found before the order says more than its cause.
            let why = progress.unasked.take().or_else(|| order.cause.unasked().map(str::to_owned));
            progress.unasked = why.filter(|_| !self.over.load(Ordering::Relaxed));
            *progress != before
        });
        if first {
            tracing::info!(run = %self.run, cause = ?order.cause, mode = %order.mode, cut, "stopping");
        }
    }

    /// Obeys orders as they come, for as long as it is let.
    pub(super) async fn keep(&self, mut orders: watch::Receiver<Option<Order>>) {
        loop {
            if let Some(order) = *orders.borrow_and_update() {
                self.obey(order);
            }
            if orders.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
