//! What is done for a run beside supervising it: its work is looked at when somebody asks, and saved before a stop that
//! wishes so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// What a run's entry in the roster holds for them; clones share it.
#[derive(Clone)]
pub(super) struct Errands {
    /// Where the run is, once it is anywhere.
    pub(super) container: Option<String>,
    save: Arc<watch::Sender<bool>>,
    looked_at: Arc<AtomicBool>,
}

impl Default for Errands {
    fn default() -> Self {
        Self { container: None, save: Arc::new(watch::channel(false).0), looked_at: Arc::default() }
    }
}

impl Errands {
    /// Whether the work is to be saved before the first signal.
    pub(super) fn save(&self, save: bool) {
        self.save.send_replace(save);
    }

    /// Tells whether it is, and when that changes.
    pub(super) fn saves(&self) -> watch::Receiver<bool> {
        self.save.subscribe()
    }

    /// Takes the right to look; one look at a time is enough for all who ask.
    pub(super) fn begin_look(&self) -> bool {
        !self.looked_at.swap(true, Ordering::AcqRel)
    }

    /// Gives it back.
    pub(super) fn end_look(&self) {
        self.looked_at.store(false, Ordering::Release);
    }
}
