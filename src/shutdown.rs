//! Shutdown: at the first signal, finish what you are doing; at the second, now.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What the first signal cancels.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// SIGINT or SIGTERM came.
    pub asked: CancellationToken,
    /// It was SIGINT: a person at a terminal wants everything to end, not a supervisor that will start us again.
    pub by_hand: CancellationToken,
}

/// Listens for the first SIGINT or SIGTERM. The second ends the process with status 130.
///
/// # Errors
/// When the handlers can't be installed.
pub fn on_signal() -> std::io::Result<Shutdown> {
    let shutdown = Shutdown::default();
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let told = shutdown.clone();
    tokio::spawn(async move {
        let first = next(&mut int, &mut term).await;
        tracing::info!(signal = first, "shutting down");
        if first == "SIGINT" {
            told.by_hand.cancel();
        }
        told.asked.cancel();
        let second = next(&mut int, &mut term).await;
        tracing::warn!(signal = second, "shutting down at once");
        std::process::exit(130);
    });
    Ok(shutdown)
}

async fn next(int: &mut Signal, term: &mut Signal) -> &'static str {
    tokio::select! { _ = int.recv() => "SIGINT", _ = term.recv() => "SIGTERM" }
}
