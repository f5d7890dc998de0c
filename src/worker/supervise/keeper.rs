//! The keeper of a run's gate: closes it at the first order, whatever the engine is doing or not doing just then.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::super::reporter::Report;
use super::super::roster::Order;
use crate::clock;
use crate::gate::Gate;
use crate::model::run::RunId;

/// Keeps one run's gate.
pub(super) struct Keeper<'a> {
    run: RunId,
    worker: &'a str,
    gate: Mutex<Option<Arc<Gate>>>,
    report: watch::Sender<Report>,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(run: RunId, worker: &'a str, report: watch::Sender<Report>) -> Self {
        Self { run, worker, gate: Mutex::default(), report }
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

    /// Takes an order in: closes the gate and says so; the first time counts. Only a wish is something that was delivered.
    pub(super) fn obey(&self, order: Order) {
        let cut = self.close();
        let now = clock::now();
        let mut first = false;
        self.report.send_if_modified(|report| {
            let progress = &mut report.progress;
            first = progress.egress_cut_at.is_none();
            progress.egress_cut_at.get_or_insert(now);
            let delivered = order.wished && progress.delivered_at.is_none();
            if delivered {
                progress.delivered_at = Some(now);
                progress.delivered_to = Some(self.worker.to_owned());
            }
            first || delivered
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
