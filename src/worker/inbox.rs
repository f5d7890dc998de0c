//! What comes over Redis, and what goes out: commands at once, notices when there is time. All of it may be lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep;

use super::Worker;
use super::look;
use super::roster::Wish;
use crate::model::run::RunId;
use crate::queue::{Command, Letter, Notice, Unavailable};

/// Between two tries of a Redis that doesn't answer.
const RETRY: Duration = Duration::from_secs(1);

/// Obeys commands, for ever.
pub(super) async fn commands(worker: &Arc<Worker>) {
    loop {
        if let Err(error) = obey(worker).await {
            tracing::debug!(%error, "no commands");
        }
        sleep(RETRY).await;
    }
}

async fn obey(worker: &Arc<Worker>) -> Result<(), Unavailable> {
    let mut inbox = worker.parts.queue.inbox(worker.name()).await?;
    let mut again = true;
    loop {
        let letters = inbox.next(again).await?;
        again = again && !letters.is_empty();
        for letter in &letters {
            // A run that isn't here is over, or was claimed a moment ago: then the next look at Postgres finds the wish.
            match letter.command {
                Some(Command::Stop(run, mode)) => told(worker, letter, run, Wish::told(mode, false)),
                Some(Command::SaveAndStop(run, mode)) => told(worker, letter, run, Wish::told(mode, true)),
                Some(Command::Look(run)) => look::begin(worker, run),
                None => {}
            }
        }
        inbox.done(&letters).await?;
    }
}

fn told(worker: &Worker, letter: &Letter, run: RunId, wish: Wish) {
    worker.roster.traced(run, letter.trace);
    worker.roster.wish(run, wish);
}

/// Wakes up for queued runs, and looks at once when there is much to stop, for ever.
pub(super) async fn notices(worker: &Worker) {
    loop {
        if let Err(error) = listen(worker).await {
            tracing::debug!(%error, "no notices");
        }
        sleep(RETRY).await;
    }
}

async fn listen(worker: &Worker) -> Result<(), Unavailable> {
    let mut notices = worker.parts.queue.notices().await?;
    // What was queued or wished before we listened.
    worker.wake.notify_one();
    worker.look.notify_one();
    loop {
        match notices.next().await? {
            Notice::Queued(_) => worker.wake.notify_one(),
            Notice::Stopping => worker.look.notify_one(),
            Notice::Changed(_) | Notice::Standing => {}
        }
    }
}

/// Sends notices, for ever.
pub(super) async fn tell(worker: &Worker, mut outbox: UnboundedReceiver<Notice>) {
    while let Some(notice) = outbox.recv().await {
        if let Err(error) = worker.parts.queue.notice(notice).await {
            tracing::debug!(%error, "a notice is lost");
        }
    }
}
