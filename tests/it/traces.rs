//! A stop can be followed from the click to the engine's last word, over both programs; and a collector that is away costs
//! nobody anything.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use signalbox::model::run::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::faults::host::House;
use crate::fleet::until;

/// A span, as a collector has it.
#[derive(Debug, Clone)]
struct Seen {
    service: String,
    name: String,
    trace: Vec<u8>,
    span: Vec<u8>,
    parent: Vec<u8>,
    words: BTreeMap<String, String>,
}

/// Takes what is sent to it over OTLP.
#[derive(Default, Clone)]
struct Collector(Arc<Mutex<Vec<Seen>>>);

impl Collector {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self::default();
        let taking = collector.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let taking = taking.clone();
                tokio::spawn(async move { while taking.take(&mut stream).await.is_some() {} });
            }
        });
        (collector, url)
    }

    /// Takes one batch; none when the connection is over.
    async fn take(&self, stream: &mut TcpStream) -> Option<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.ok()?;
        let batch = ExportTraceServiceRequest::decode(&*body).unwrap();
        self.0.lock().unwrap().extend(spans(batch));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()
    }

    fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }
}

fn spans(batch: ExportTraceServiceRequest) -> Vec<Seen> {
    let word = |value: Option<opentelemetry_proto::tonic::common::v1::AnyValue>| match value.unwrap().value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let mut seen = Vec::new();
    for of_service in batch.resource_spans {
        let mut resource = of_service.resource.unwrap().attributes.into_iter();
        let service = word(resource.find(|it| it.key == "service.name").unwrap().value);
        for span in of_service.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            seen.push(Seen {
                service: service.clone(),
                name: span.name,
                trace: span.trace_id,
                span: span.span_id,
                parent: span.parent_span_id,
                words: span.attributes.into_iter().map(|it| (it.key, word(it.value))).collect(),
            });
        }
    }
    seen
}

#[tokio::test]
async fn a_stop_is_one_trace_from_the_click_to_the_engines_last_word() {
    let (collector, url) = Collector::start().await;
    let house = House::open(vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url)], Stdio::null).await;
    let run = house.start("once").await;
    let form = [("mode", "force"), ("reason", "secret-reason")];
    let answer = house.ada.post(&format!("/runs/{run}/terminate"), &form).await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let over = house.fleet.until_over(run).await;
    assert_eq!(over.outcome, Some(Outcome::Terminated));
    let find = |name: &str| collector.seen().into_iter().find(|span| span.name == name);
    // Batches go out every few seconds, the stop's own span when the run has been cleared away.
    let both = async || find("POST /runs/{id}/terminate").is_some() && find("stop").is_some();
    until("sent", both).await;
    let click = find("POST /runs/{id}/terminate").unwrap();
    let trace: Vec<Seen> = collector.seen().into_iter().filter(|span| span.trace == click.trace).collect();
    let under = |service: &str, name: &str, parent: &Seen| {
        let of_it = |span: &&Seen| span.service == service && span.name == name && span.parent == parent.span;
        trace.iter().find(of_it).unwrap_or_else(|| panic!("no {name} of {service} in {trace:#?}")).clone()
    };
    assert_eq!((click.service.as_str(), click.parent.len()), ("signalbox-serve", 0));
    assert_eq!(under("signalbox-serve", "wish written", &click).words["run"], run.to_string());
    let sent = under("signalbox-serve", "command sent", &click);
    let stop = under("signalbox-work", "stop", &sent);
    assert_eq!(under("signalbox-work", "signal", &stop).words["signal"], "SIGKILL");
    let written = under("signalbox-work", "evidence written", &stop);
    assert_eq!(
        (written.words["outcome"].as_str(), written.words["exit_code"].as_str()),
        ("terminated", "137")
    );
    // Nobody's words or names, and no page that was only looked at.
    let all = format!("{:?}", collector.seen());
    assert!(!all.contains("secret-reason") && !all.contains("ada"), "{all}");
    let names: BTreeSet<String> = collector.seen().into_iter().map(|span| span.name).collect();
    assert!(names.iter().all(|name| !name.starts_with("GET ")), "{names:?}");
}

#[tokio::test]
async fn a_collector_that_is_away_keeps_nobody_waiting() {
    // It takes connections and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", mute.local_addr().unwrap());
    let mut house = House::open(vec![("OTEL_EXPORTER_OTLP_ENDPOINT", url)], Stdio::null).await;
    for once in ["a", "b", "c"] {
        let run = house.start(once).await;
        let began = Instant::now();
        let answer = house.ada.post(&format!("/runs/{run}/terminate"), &[("mode", "force")]).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!(house.fleet.until_over(run).await.outcome, Some(Outcome::Terminated));
    }
    let began = Instant::now();
    for process in [&mut house.serve, &mut house.work] {
        process.signal(Signal::SIGTERM);
    }
    for process in [&mut house.serve, &mut house.work] {
        process.wait();
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
