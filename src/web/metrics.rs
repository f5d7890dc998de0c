//! `/metrics`, for Prometheus: the fleet in numbers, for whoever shows the token. No title, no prompt and no person's name is
//! among them; workers are told apart by their names.

use std::fmt::{Display, Write};
use std::future::{Ready, ready};
use std::time::Instant;

use actix_web::dev::Payload;
use actix_web::guard::{Guard, GuardContext};
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage, HttpRequest, HttpResponse};

use super::Site;
use super::counts::Counts;
use super::error::{Error, Result};
use super::measure::{Measured, PATIENCE, left, measure};
use crate::db::{Figures, MetricsReader, MetricsToken, WorkerFigures};
use crate::host;
use crate::model::worker::{StopTimes, Worker};

/// The text format (prometheus.io/docs/instrumenting/exposition_formats).
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Lets through only those who show the token, and leaves the proof with the request. To all others the page isn't there.
pub(crate) struct Shown(pub(crate) Option<MetricsToken>);

impl Guard for Shown {
    fn check(&self, request: &GuardContext<'_>) -> bool {
        let Some(token) = &self.0 else { return false };
        let mut values = request.head().headers().get_all(AUTHORIZATION);
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let reader = value.as_bytes().strip_prefix(b"Bearer ").and_then(|shown| token.reader(shown));
        let is_shown = reader.is_some();
        if let Some(reader) = reader {
            request.req_data_mut().insert(reader);
        }
        is_shown
    }
}

/// The proof, as the handler asks for it. Behind any other guard there is none to be had.
impl FromRequest for MetricsReader {
    type Error = actix_web::Error;
    type Future = Ready<std::result::Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.extensions().get::<Self>().cloned().ok_or_else(|| Error::SignIn.into()))
    }
}

/// The page. It comes when a store doesn't answer, too, and says so; what isn't known isn't there.
pub(crate) async fn show(by: MetricsReader, site: Data<Site>, counts: Data<Counts>) -> Result<HttpResponse> {
    let began = Instant::now();
    let (postgres, redis) =
        tokio::join!(measure(PATIENCE, site.db.ping()), measure(PATIENCE, site.queue.ping()));
    let (figures, workers) = if postgres.answer.is_ok() {
        tokio::join!(
            measure(left(began), site.db.figures(&by)),
            measure(left(began), site.db.worker_figures(&by))
        )
    } else {
        (Measured::not_asked("Postgres"), Measured::not_asked("Postgres"))
    };
    let mut page = Page::default();
    page.family("signalbox_build_info", "gauge", "Which version this is.");
    page.value(&[("version", &env!("CARGO_PKG_VERSION"))], 1);
    page.stores([("postgres", postgres), ("redis", redis)], figures.answer.as_ref().ok());
    if let Ok(figures) = &figures.answer {
        page.fleet(figures);
    }
    page.workers(workers.answer.as_deref().unwrap_or_default());
    page.server(&counts);
    Ok(HttpResponse::Ok().content_type(FORMAT).body(page.text))
}

/// The page as it grows.
#[derive(Default)]
struct Page {
    text: String,
    family: &'static str,
}

type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

impl Page {
    /// Begins a family: its values come next.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing to a string can't fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn value(&mut self, labels: Labels<'_>, value: impl Display) {
        self.part("", labels, value);
    }

    fn known(&mut self, labels: Labels<'_>, value: Option<impl Display>) {
        if let Some(value) = value {
            self.value(labels, value);
        }
    }

    fn part(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        self.text += self.family;
        self.text += suffix;
        for (place, (name, label)) in labels.iter().enumerate() {
            let label = label.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{name}=\"{label}\"", if place == 0 { '{' } else { ',' });
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    fn stores(&mut self, stores: [(&str, Measured<()>); 2], figures: Option<&Figures>) {
        self.family("signalbox_store_up", "gauge", "Whether a store answers.");
        for (name, asked) in &stores {
            self.value(&[("store", name)], u8::from(asked.answer.is_ok()));
        }
        self.family("signalbox_store_latency_seconds", "gauge", "How long a store took to answer just now.");
        for (name, asked) in &stores {
            self.known(&[("store", name)], asked.took_ms().map(|ms| ms / 1000.0));
        }
        self.family(
            "signalbox_store_bytes",
            "gauge",
            "Size of a store, as of its last sample, a minute ago at most.",
        );
        self.known(&[("store", &"postgres")], figures.and_then(|figures| figures.postgres_bytes));
        self.known(&[("store", &"redis")], figures.and_then(|figures| figures.redis_bytes));
    }

    fn fleet(&mut self, figures: &Figures) {
        self.family("signalbox_runs", "gauge", "Runs that aren't over, by state, counted up to 10,000 each.");
        for (state, count) in [
            ("queued", figures.queued),
            ("starting", figures.starting),
            ("running", figures.running),
            ("lost", figures.lost),
        ] {
            self.value(&[("state", &state)], count);
        }
        self.family(
            "signalbox_stops_unconfirmed",
            "gauge",
            "Wishes to stop whose evidence isn't in yet, counted up to 10,000.",
        );
        self.value(&[], figures.unconfirmed);
        self.family(
            "signalbox_queue_oldest_seconds",
            "gauge",
            "For how long the oldest run waits; 0 when none does.",
        );
        self.value(&[], figures.oldest_s.unwrap_or(0.0));
    }

    fn each(
        &mut self,
        (name, kind, help): (&'static str, &str, &str),
        workers: &[WorkerFigures],
        value: impl Fn(&WorkerFigures) -> Option<f64>,
    ) {
        self.family(name, kind, help);
        for worker in workers {
            self.known(&[("worker", &worker.name)], value(worker));
        }
    }

    /// The same of what a worker says in its heartbeats: what a silent one said last is no longer so.
    fn each_alive(
        &mut self,
        family: (&'static str, &str, &str),
        workers: &[WorkerFigures],
        value: impl Fn(&WorkerFigures) -> Option<f64>,
    ) {
        self.each(family, workers, |worker| {
            (worker.silent_s < Worker::SILENT_AFTER_S).then(|| value(worker)).flatten()
        });
    }

    fn workers(&mut self, workers: &[WorkerFigures]) {
        let bytes = |room: Option<i64>| room.map(|bytes| bytes as f64);
        self.each(
            (
                "signalbox_worker_heartbeat_age_seconds",
                "gauge",
                "Since a worker's last heartbeat; they come every 5 s.",
            ),
            workers,
            |worker| Some(worker.silent_s.max(0.0)),
        );
        self.each_alive(
            (
                "signalbox_worker_engine_up",
                "gauge",
                "Whether a worker's engine answered at its last heartbeat.",
            ),
            workers,
            |worker| Some(f64::from(u8::from(worker.engine_ok))),
        );
        self.each_alive(
            ("signalbox_worker_engine_seconds", "gauge", "How long a worker's engine took to answer."),
            workers,
            |worker| worker.load.engine_ms.map(|ms| ms / 1000.0),
        );
        self.each_alive(("signalbox_worker_runs", "gauge", "Runs that a worker holds."), workers, |worker| {
            Some(worker.holds as f64)
        });
        self.each(
            ("signalbox_worker_capacity", "gauge", "Runs that a worker takes at once."),
            workers,
            |worker| Some(f64::from(worker.capacity)),
        );
        self.each_alive(
            ("signalbox_worker_cpu_ratio", "gauge", "Share of its processors that a worker's host uses."),
            workers,
            |worker| worker.load.cpu,
        );
        self.each_alive(
            ("signalbox_worker_memory_used_bytes", "gauge", "Memory in use on a worker's host."),
            workers,
            |worker| bytes(worker.load.memory.map(|room| room.used)),
        );
        self.each_alive(
            ("signalbox_worker_memory_bytes", "gauge", "Memory of a worker's host."),
            workers,
            |worker| bytes(worker.load.memory.map(|room| room.total)),
        );
        self.each_alive(
            ("signalbox_worker_disk_used_bytes", "gauge", "What is in use of the disk of a worker's folder."),
            workers,
            |worker| bytes(worker.load.disk.map(|room| room.used)),
        );
        self.each_alive(
            ("signalbox_worker_disk_bytes", "gauge", "Size of the disk of a worker's folder."),
            workers,
            |worker| bytes(worker.load.disk.map(|room| room.total)),
        );
        self.each_alive(
            (
                "signalbox_event_lag_seconds",
                "gauge",
                "The longest that a line took from its printing to Postgres in the 5 s before a worker's last heartbeat.",
            ),
            workers,
            |worker| worker.load.lag_s,
        );
        self.each(
            (
                "signalbox_gate_calls_total",
                "counter",
                "Calls of the model through a worker's gates since it started.",
            ),
            workers,
            |worker| Some(worker.counts.calls as f64),
        );
        self.each(
            (
                "signalbox_gate_dollars_total",
                "counter",
                "Dollars that those calls took, by list price; at least, where one has none.",
            ),
            workers,
            |worker| Some(worker.counts.usd),
        );
        self.family(
            "signalbox_stop_seconds",
            "histogram",
            "From the click to the proof in Postgres, of runs that their worker has terminated under its lease.",
        );
        for worker in workers {
            self.histogram(&worker.name, &worker.counts.stops);
        }
    }

    fn histogram(&mut self, worker: &str, times: &StopTimes) {
        let count_of = |place: usize| times.counts.get(place).copied().unwrap_or_default();
        let mut sum = 0;
        for (place, bound) in StopTimes::BOUNDS_S.iter().enumerate() {
            sum += count_of(place);
            self.part("_bucket", &[("worker", &worker), ("le", bound)], sum);
        }
        sum += count_of(StopTimes::BOUNDS_S.len());
        self.part("_bucket", &[("worker", &worker), ("le", &"+Inf")], sum);
        self.part("_sum", &[("worker", &worker)], times.sum_s);
        self.part("_count", &[("worker", &worker)], sum);
    }

    fn server(&mut self, counts: &Counts) {
        self.family(
            "signalbox_requests_total",
            "counter",
            "Answers of this server, by the class of their status.",
        );
        for (class, count) in counts.answers() {
            self.value(&[("class", &class)], count);
        }
        self.family(
            "signalbox_refusals_total",
            "counter",
            "Requests that this server refused, by the cause.",
        );
        for (cause, count) in counts.refusals() {
            self.value(&[("cause", &cause)], count);
        }
        self.family("signalbox_streams", "gauge", "Live pages that are open on this server.");
        self.value(&[], counts.streams());
        self.family("process_resident_memory_bytes", "gauge", "Memory of this server.");
        self.known(&[], host::own_memory());
        self.family("process_cpu_seconds_total", "counter", "Processor time that this server has spent.");
        self.known(&[], host::own_seconds());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_labels_are_escaped() {
        let mut times = StopTimes::default();
        [0.04, 0.2, 1000.0].into_iter().for_each(|took_s| times.count(took_s));
        let mut page = Page::default();
        page.family("stop", "histogram", "Stops.");
        page.histogram("a\"b", &times);
        assert!(page.text.starts_with("# HELP stop Stops.\n# TYPE stop histogram\n"), "{}", page.text);
        for line in [
            "stop_bucket{worker=\"a\\\"b\",le=\"0.05\"} 1\n",
            "stop_bucket{worker=\"a\\\"b\",le=\"0.25\"} 2\n",
            "stop_bucket{worker=\"a\\\"b\",le=\"300\"} 2\n",
            "stop_bucket{worker=\"a\\\"b\",le=\"+Inf\"} 3\n",
            "stop_count{worker=\"a\\\"b\"} 3\n",
        ] {
            assert!(page.text.contains(line), "{line} in {}", page.text);
        }
    }
}
