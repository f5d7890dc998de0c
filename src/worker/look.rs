//! A look at what a stop would lose, when somebody is about to ask for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Worker;
use super::errands::Errands;
use super::workspace::{self, Seen, Workspace};
use crate::db::Lease;
use crate::model::run::RunId;
use crate::queue::Notice;

/// The longest that a look may take. Whoever asked doesn't wait that long; the next one who asks has it.
const DEADLINE: Duration = Duration::from_secs(5);

/// Begins a look at a run that is held here; what isn't here is nobody's to look at.
pub(super) fn begin(worker: &Arc<Worker>, run: RunId) {
    let Some((lease, errands)) = worker.roster.errands(run) else { return };
    let Some(container) = errands.container.clone() else { return };
    if errands.begin_look() {
        let worker = Arc::clone(worker);
        // Nothing waits for it: a look that is lost is asked for again.
        tokio::spawn(async move { look(&worker, &lease, &container, &errands).await });
    }
}

async fn look(worker: &Worker, lease: &Lease, container: &str, errands: &Errands) {
    let until = Instant::now() + DEADLINE;
    let workspace = Workspace { engine: &*worker.parts.engine, container, until };
    let late = |_| Seen { trouble: Some(workspace::LATE.to_owned()), ..Seen::default() };
    let seen = timeout_at(until, workspace.look()).await.unwrap_or_else(late);
    errands.end_look();
    let written = worker.parts.db.work_seen(lease, seen.files, seen.unpushed, seen.trouble.as_deref()).await;
    match written {
        Ok(()) => worker.tell(Notice::Changed(lease.run())),
        Err(error) => tracing::debug!(run = %lease.run(), %error, "what was seen isn't noted"),
    }
}
