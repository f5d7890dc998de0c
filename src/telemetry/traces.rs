//! Traces, sent to an OpenTelemetry collector: a click's way from its request to the engine's last word on it. Nobody ever
//! waits for the collector; what it doesn't take in time is dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use url::Url;

use crate::model::trace::TraceParent;

/// How long the collector may take for one batch.
const SEND_WITHIN: Duration = Duration::from_secs(3);
/// How long leaving may wait for the last one.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Traces on their way; holds what isn't sent yet.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends to this collector, under the name of this program.
    pub(super) fn begin(collector: &Url, service: &'static str) -> anyhow::Result<Self> {
        let endpoint = format!("{}/v1/traces", collector.as_str().trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new()?)
            .with_endpoint(endpoint)
            .with_timeout(SEND_WITHIN)
            .build()?;
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider =
            SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        Ok(Self(provider))
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.0.tracer("signalbox")
    }

    /// Sends what is left, within two seconds.
    pub fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LEAVE_WITHIN) {
            tracing::debug!(%error, "the last traces are dropped");
        }
    }
}

/// Where in a trace this task stands; none when nothing is traced.
pub fn here() -> Option<TraceParent> {
    let context = Span::current().context();
    let span = context.span();
    let at = span.span_context();
    at.is_valid().then(|| TraceParent {
        trace: u128::from_be_bytes(at.trace_id().to_bytes()),
        span: u64::from_be_bytes(at.span_id().to_bytes()),
        sampled: at.is_sampled(),
    })
}

/// Lets a span that hasn't begun go on with what another process began.
pub fn follow(span: &Span, from: TraceParent) {
    let flags = if from.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, before) = (TraceId::from(from.trace), SpanId::from(from.span));
    let before = SpanContext::new(trace, before, flags, true, TraceState::default());
    // Where nothing is traced there is nothing to follow.
    let _ = span.set_parent(Context::new().with_remote_span_context(before));
}

/// What carries batches to the collector. It is called on a thread of the exporter's own, which has no runtime.
#[derive(Debug)]
struct Client {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    failing: AtomicBool,
}

impl Client {
    fn new() -> anyhow::Result<Self> {
        // An error means that someone installed one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(SEND_WITHIN)
            .build()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, client, failing: AtomicBool::default() })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.client.execute(request.try_into()?).await?;
        let mut response = Response::builder().status(answer.status()).body(Bytes::new())?;
        *response.headers_mut() = answer.headers().clone();
        *response.body_mut() = answer.bytes().await?;
        Ok(response)
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.runtime.block_on(self.send(request));
        let problem = match &sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        // Said once, until it is well again.
        let failed = self.failing.swap(problem.is_some(), Ordering::Relaxed);
        if let Some(problem) = problem.filter(|_| !failed) {
            tracing::warn!(problem, "traces are dropped: the collector doesn't take them");
        }
        sent
    }
}
