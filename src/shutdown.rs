//! Shutdown: at the first signal, finish what you are doing; at the second, now.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGINT or SIGTERM. The second ends the process with status 130.
///
/// # Errors
/// When the handlers can't be installed.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let told = token.clone();
    tokio::spawn(async move {
        let first = next(&mut int, &mut term).await;
        tracing::info!(signal = first, "shutting down");
        told.cancel();
        let second = next(&mut int, &mut term).await;
        tracing::warn!(signal = second, "shutting down at once");
        std::process::exit(130);
    });
    Ok(token)
}

async fn next(int: &mut Signal, term: &mut Signal) -> &'static str {
    tokio::select! { _ = int.recv() => "SIGINT", _ = term.recv() => "SIGTERM" }
}
