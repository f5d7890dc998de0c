//! The health of it all: each part asked at once, within a time of its own, so that the page comes within two seconds
//! whatever is dead; and what was measured of it over the last hour and day.

mod cache;
mod history;
mod parts;
mod plot;

use std::sync::Arc;
use std::time::Instant;

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;
use futures_util::future::join_all;

use super::Site;
use super::error::Result;
use super::fleet::Fleet;
use super::lamp::Sign;
use super::measure::{Measured, PATIENCE, left, measure};
use super::own::Own;
use super::page::{Frame, Place, show};
use super::show::{self, Moment};
use crate::clock;
use crate::db::{QueueDepth, Superuser};
use crate::model::worker::Worker;
pub(crate) use cache::Health;
use history::{Day, History};
use parts::{Part, Parts, WAITS_LONG_S};

#[derive(Template)]
#[template(path = "health/index.html")]
pub(crate) struct HealthPage {
    frame: Frame,
    seen: Arc<Seen>,
}

/// What its parts answered.
pub(crate) struct Seen {
    parts: Vec<Part>,
    well: bool,
    first: String,
    rest: String,
    /// Whether there is anything to draw.
    drawn: bool,
    at: Moment,
}

/// The page.
pub(crate) async fn index(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    health: Data<Health>,
) -> Result<HttpResponse> {
    let health = health.into_inner();
    let (frame, seen) = tokio::join!(fleet.frame(&site.db, &by, Place::Health), health.seen(&by));
    show(&page(frame?, seen?))
}

pub(crate) fn page(frame: Frame, seen: Arc<Seen>) -> HealthPage {
    HealthPage { frame, seen }
}

/// Asks each of them. What hangs on a store that doesn't answer isn't asked.
async fn look(site: &Site, own: &Own, by: &Superuser, day: &mut Day) -> Seen {
    let began = Instant::now();
    let (postgres, redis) =
        tokio::join!(measure(PATIENCE, site.db.ping()), measure(PATIENCE, site.queue.ping()));
    let now = clock::now();
    let (depth, workers, history) = if postgres.answer.is_ok() {
        tokio::join!(
            measure(left(began), site.db.queue_depth(by)),
            measure(left(began), site.db.workers(by)),
            measure(left(began), History::read(&site.db, by, day, now))
        )
    } else {
        let why = "not asked, since Postgres doesn’t answer";
        (Measured::not_asked(why), Measured::not_asked(why), Measured::not_asked(why))
    };
    let list = workers.answer.as_deref().unwrap_or_default();
    let waiting = if redis.answer.is_ok() {
        join_all(list.iter().map(|worker| measure(left(began), site.queue.commands_waiting(&worker.name))))
            .await
    } else {
        list.iter().map(|_| Measured::not_asked("Redis doesn’t answer")).collect()
    };
    let now = clock::now();
    let made = Parts { history: history.answer, now };
    let mut parts = vec![
        made.store("postgres", "Postgres", "the truth", &postgres),
        made.store("redis", "Redis", "the nudge", &redis),
        made.queue(&depth),
        made.events(&workers),
        made.server(&site.name, own),
    ];
    parts.extend(made.no_workers(&workers));
    parts.extend(made.workers(list, &waiting));
    let mut troubles = troubles(&parts, depth.answer.as_ref().ok(), workers.answer.as_deref().ok());
    let cut_off = list.iter().zip(&waiting).filter(|(_, waiting)| matches!(waiting.answer, Ok(None)));
    troubles.extend(cut_off.map(|(worker, _)| no_stream(worker)));
    let (first, rest) = sentence(&troubles, list);
    let drawn = made.history.is_ok();
    Seen { well: troubles.is_empty(), first, rest, parts, drawn, at: Moment::new(now, now) }
}

/// What a human should know, worst first.
fn troubles(parts: &[Part], depth: Option<&QueueDepth>, workers: Option<&[Worker]>) -> Vec<String> {
    let dead = |key: &str| parts.iter().any(|part| part.key == key && part.sign == Sign::DEAD);
    let many = |n: i64| show::word(usize::try_from(n).unwrap_or_default());
    let mut troubles = Vec::new();
    if dead("postgres") {
        troubles.push("Postgres doesn’t answer.".to_owned());
    } else if depth.is_none() {
        troubles.push("Postgres answers too slowly.".to_owned());
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
    match workers {
        None => troubles.push("Nobody can say which workers are alive.".to_owned()),
        Some(workers) if !workers.iter().any(Worker::is_alive) => {
            troubles.push("No worker is alive: what waits won’t start.".to_owned());
        }
        Some(_) => {}
    }
    let of = |sign: Sign| -> Vec<&str> {
        let these = workers.unwrap_or_default().iter().filter(|worker| Sign::of_worker(worker) == sign);
        let mut names: Vec<&str> = these.map(|worker| worker.name.as_str()).collect();
        names.sort_unstable();
        names
    };
    match *of(Sign::SILENT) {
        [] => {}
        [one] => troubles.push(format!("Worker {one} is silent.")),
        ref some => troubles.push(format!("{} are silent.", named("workers", some))),
    }
    match *of(Sign::TROUBLE) {
        [] => {}
        [one] => troubles.push(format!("The engine on {one} doesn’t answer.")),
        ref some => troubles.push(format!("{} don’t answer.", named("engines", some))),
    }
    if depth.is_some_and(|depth| depth.oldest_s.is_some_and(|s| s > WAITS_LONG_S)) {
        troubles.push("Runs wait long.".to_owned());
    }
    if dead("redis") {
        troubles.push(
            "Redis doesn’t answer: a stop takes up to two seconds longer, and is lost never.".to_owned(),
        );
    }
    troubles
}

/// How many of them, and which, as long as that stays a sentence.
fn named(what: &str, names: &[&str]) -> String {
    const NAMED: usize = 3;
    let many = show::word(names.len());
    if names.len() > NAMED {
        let more = names.len() - NAMED;
        return format!("{many} {what} ({} and {more} more)", names[..NAMED].join(", "));
    }
    format!("{many} {what} ({})", names.join(", "))
}

/// What keeps commands from a worker, though Redis answers, and what becomes of it.
fn no_stream(worker: &Worker) -> String {
    let when = if worker.is_alive() { "within seconds" } else { "when it starts" };
    format!(
        "What lies in Redis where the commands of worker {} belong is something else: it deletes that by itself {when}, and \
         finds stops in Postgres until then.",
        worker.name
    )
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
