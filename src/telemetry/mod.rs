//! Logs: readable in a terminal, JSON elsewhere; always on stderr, which may be closed or full without harm. And traces, for
//! whoever has a collector.

mod traces;

use std::io::IsTerminal;

use anyhow::Context;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};
use url::Url;

pub use traces::{Traces, follow, here};

/// The target of spans that are traced. Nothing else is, and no log line shows them; where nothing is traced they don't come
/// into being.
pub const TRACE: &str = "signalbox::trace";

/// Starts logging, and tracing when there is a collector, under the name of this program. `filter` is `SIGNALBOX_LOG`.
///
/// # Errors
/// When the filter can't be read, or traces can't be sent.
pub fn start(filter: &str, collector: Option<&Url>, service: &'static str) -> anyhow::Result<Option<Traces>> {
    let filter = EnvFilter::builder().parse(filter).context("SIGNALBOX_LOG")?;
    let filter = filter.add_directive(format!("{TRACE}=off").parse()?);
    let traces = collector.map(|collector| Traces::begin(collector, service)).transpose();
    let traces = traces.context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let traced = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|span| span.target() == TRACE))
    });
    // It would say so on stderr by `eprintln!`, which panics where nothing can be written.
    let logs = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let logs = if std::io::stderr().is_terminal() {
        logs.with_target(false).boxed()
    } else {
        logs.json().flatten_event(true).with_current_span(false).boxed()
    };
    registry().with(traced).with(logs.with_filter(filter)).init();
    Ok(traces)
}
