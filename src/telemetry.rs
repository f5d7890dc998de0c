//! Logs: readable in a terminal, JSON elsewhere; always on stderr, which may be closed or full without harm.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging. `filter` is `SIGNALBOX_LOG`.
///
/// # Errors
/// When the filter can't be read.
pub fn start(filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say so on stderr by `eprintln!`, which panics where nothing can be written.
        .log_internal_errors(false);
    if std::io::stderr().is_terminal() {
        logs.with_target(false).init();
    } else {
        logs.json().flatten_event(true).with_current_span(false).init();
    }
    Ok(())
}
