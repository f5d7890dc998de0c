//! The health of it all: each part asked now, all at once, each within a time of its own, so that the page comes
//! within two seconds whatever is dead.

use std::future::Future;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;
use futures_util::future::join_all;

use super::Site;
use super::error::Result;
use super::fleet::Fleet;
use super::lamp::Sign;
use super::page::{Frame, Place, show};
use super::show::{self, Moment};
use crate::clock;
use crate::db::{QueueDepth, Superuser};
use crate::model::worker::Worker;

/// How long any part may take to answer.
const PATIENCE: Duration = Duration::from_millis(800);

/// A queue older than this needs a human, if there is a worker that could take from it.
const WAITS_LONG_S: f64 = 600.0;

#[derive(Template)]
#[template(path = "health/index.html")]
pub(crate) struct HealthPage {
    frame: Frame,
    well: bool,
    first: String,
    rest: String,
    parts: Vec<Part>,
    now: Moment,
}

struct Part {
    name: String,
    sign: Sign,
    well: bool,
    facts: Vec<(&'static str, String)>,
    at: Moment,
}

/// An answer, when it came, and how long it took.
struct Measured<T> {
    answer: std::result::Result<T, String>,
    at: Moment,
    took: Duration,
}

async fn measure<T, E: std::fmt::Display>(
    asking: impl Future<Output = std::result::Result<T, E>>,
) -> Measured<T> {
    let began = Instant::now();
    let answer = match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", PATIENCE.as_millis())),
    };
    let now = clock::now();
    Measured { answer, at: Moment::new(now, now), took: began.elapsed() }
}

impl<T> Measured<T> {
    /// What it says when it answers, and that it is dead when it doesn't.
    fn part(&self, name: &str, says: impl FnOnce(&T) -> (Sign, Vec<(&'static str, String)>)) -> Part {
        let (sign, mut facts) = match &self.answer {
            Ok(answer) => says(answer),
            Err(error) => (Sign::DEAD, vec![("It says", error.clone())]),
        };
        let took = if self.answer.is_ok() { "Answered in" } else { "Given up after" };
        facts.push((took, format!("{:.1} ms", self.took.as_secs_f64() * 1000.0)));
        let well = sign.tone != "bad" && sign.tone != "wait";
        Part { name: name.to_owned(), sign, well, facts, at: self.at }
    }
}

/// The page.
pub(crate) async fn index(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    let (frame, seen) = tokio::join!(fleet.frame(&site.db, &by, Place::Health), look(&site, &by));
    show(&seen.page(frame?, clock::now()))
}

/// What its parts answered.
pub(crate) struct Seen {
    parts: Vec<Part>,
    well: bool,
    first: String,
    rest: String,
}

impl Seen {
    pub(crate) fn page(self, frame: Frame, now: time::OffsetDateTime) -> HealthPage {
        let Self { parts, well, first, rest } = self;
        HealthPage { frame, well, first, rest, parts, now: Moment::new(now, now) }
    }
}

/// Asks each of them.
pub(crate) async fn look(site: &Site, by: &Superuser) -> Seen {
    let (postgres, redis, depth, (workers, waiting)) = tokio::join!(
        measure(site.db.ping()),
        measure(site.queue.ping()),
        measure(site.db.queue_depth(by)),
        workers(site, by),
    );
    let mut parts = vec![
        postgres.part("Postgres", |()| (Sign::ALIVE, vec![("Holds", "the truth".to_owned())])),
        redis.part("Redis", |()| (Sign::ALIVE, vec![("Holds", "the nudge".to_owned())])),
        depth.part("Queue", queue),
    ];
    if workers.answer.is_err() {
        parts.push(workers.part("Workers", |_| (Sign::ALIVE, Vec::new())));
    }
    let list = workers.answer.as_deref().unwrap_or_default();
    parts.extend(list.iter().zip(&waiting).map(|(worker, waiting)| of_worker(worker, waiting, &workers)));
    let troubles = troubles(&parts, depth.answer.as_ref().ok(), list);
    let (first, rest) = sentence(&troubles, list);
    Seen { well: troubles.is_empty(), first, rest, parts }
}

/// The workers, and for each how many commands lie in its stream.
async fn workers(site: &Site, by: &Superuser) -> (Measured<Vec<Worker>>, Vec<Measured<i64>>) {
    let workers = measure(site.db.workers(by)).await;
    let list = workers.answer.as_deref().unwrap_or_default();
    let waiting =
        join_all(list.iter().map(|worker| measure(site.queue.commands_waiting(&worker.name)))).await;
    (workers, waiting)
}

fn queue(depth: &QueueDepth) -> (Sign, Vec<(&'static str, String)>) {
    let up_to = |n: i64| if n >= 1000 { "1,000 or more".to_owned() } else { n.to_string() };
    let age = |s: f64| show::span(Duration::try_from_secs_f64(s.max(0.0)).unwrap_or_default());
    let trouble = depth.unconfirmed > 0 || depth.lost > 0 || depth.oldest_s.is_some_and(|s| s > WAITS_LONG_S);
    let facts = vec![
        ("Runs waiting", up_to(depth.queued)),
        ("The oldest waits for", depth.oldest_s.map_or_else(|| "nothing waits".to_owned(), age)),
        ("Stops unconfirmed", up_to(depth.unconfirmed)),
        ("Runs lost", up_to(depth.lost)),
    ];
    (if trouble { Sign::TROUBLE } else { Sign { word: "Moves", ..Sign::ALIVE } }, facts)
}

fn of_worker(worker: &Worker, waiting: &Measured<i64>, asked: &Measured<Vec<Worker>>) -> Part {
    let heard = Duration::try_from_secs_f64(worker.silent_s.max(0.0)).unwrap_or_default();
    let waiting = match &waiting.answer {
        Ok(n) => n.to_string(),
        Err(_) => "not known, Redis doesn’t answer".to_owned(),
    };
    let facts = vec![
        ("Last heartbeat", show::ago(heard)),
        ("Engine", if worker.facts.engine_ok { "answers".to_owned() } else { worker.facts.engine.clone() }),
        ("Runs", format!("{} of {}", worker.holds, worker.facts.capacity)),
        ("Commands waiting", waiting),
    ];
    asked.part(&format!("Worker {}", worker.name), |_| (Sign::of_worker(worker), facts))
}

/// What a human should know, worst first.
fn troubles(parts: &[Part], depth: Option<&QueueDepth>, workers: &[Worker]) -> Vec<String> {
    let dead = |name: &str| parts.iter().any(|part| part.name == name && part.sign == Sign::DEAD);
    let many = |n: i64| show::word(usize::try_from(n).unwrap_or_default());
    let mut troubles = Vec::new();
    if dead("Postgres") {
        troubles.push("Postgres doesn’t answer.".to_owned());
    }
    if let Some(depth) = depth {
        match depth.unconfirmed {
            0 => {}
            1 => troubles.push("One stop is unconfirmed.".to_owned()),
            n => troubles.push(format!("{} stops are unconfirmed.", many(n))),
        }
        match depth.lost {
            0 => {}
            1 => troubles.push("One run is lost.".to_owned()),
            n => troubles.push(format!("{} runs are lost.", many(n))),
        }
    }
    if !workers.iter().any(Worker::is_alive) {
        troubles.push("No worker is alive: what waits won’t start.".to_owned());
    }
    for worker in workers {
        match Sign::of_worker(worker) {
            Sign::SILENT => troubles.push(format!("Worker {} is silent.", worker.name)),
            Sign::TROUBLE => troubles.push(format!("The engine on {} doesn’t answer.", worker.name)),
            _ => {}
        }
    }
    if depth.is_some_and(|depth| depth.oldest_s.is_some_and(|s| s > WAITS_LONG_S)) {
        troubles.push("Runs wait long.".to_owned());
    }
    if dead("Redis") {
        troubles.push(
            "Redis doesn’t answer: a stop takes up to two seconds longer, and is lost never.".to_owned(),
        );
    }
    troubles
}

fn sentence(troubles: &[String], workers: &[Worker]) -> (String, String) {
    match troubles {
        [] => {
            let alive = workers.iter().filter(|worker| worker.is_alive()).count();
            let workers = if alive == 1 {
                "one worker".to_owned()
            } else {
                format!("{} workers", show::word(alive).to_lowercase())
            };
            ("All is well.".to_owned(), format!("Postgres, Redis and {workers} answer."))
        }
        [first, rest @ ..] => (first.clone(), rest.join(" ")),
    }
}
