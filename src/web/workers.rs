//! The workers.

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;

use super::Site;
use super::error::Result;
use super::fleet::Fleet;
use super::lamp::{Lamp, Sign};
use super::page::{Frame, Place, show};
use super::show::{self, Moment};
use crate::clock;
use crate::db::Superuser;
use crate::model::run::RunLine;
use crate::model::worker::Worker;

#[derive(Template)]
#[template(path = "workers/index.html")]
pub(crate) struct WorkersPage {
    frame: Frame,
    first: String,
    rest: String,
    cards: Vec<Card>,
    silent_after_s: f64,
    now: Moment,
}

struct Card {
    sign: Sign,
    heard: Moment,
    started: Moment,
    runs: Vec<(Lamp, RunLine)>,
    /// How many runs it holds that aren't named here.
    unnamed: i64,
    /// Whether draining it would change anything.
    drainable: bool,
    worker: Worker,
}

/// The page.
pub(crate) async fn index(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    let seen = look(&site, &by).await?;
    let frame = fleet.frame(&site.db, &by, Place::Workers).await?;
    show(&page(frame, seen, clock::now()))
}

/// What the page rests on: the workers, and the runs that they hold.
pub(crate) type Seen = (Vec<Worker>, Vec<RunLine>);

pub(crate) async fn look(site: &Site, by: &Superuser) -> Result<Seen> {
    Ok((site.db.workers(by).await?, site.db.runs_held(by).await?))
}

pub(crate) fn page(frame: Frame, (workers, held): Seen, now: time::OffsetDateTime) -> WorkersPage {
    let alive = workers.iter().filter(|worker| worker.is_alive());
    let (count, room) = alive.fold((0, 0), |(count, room), worker| {
        let free = (i64::from(worker.facts.capacity) - worker.holds).max(0);
        (count + 1, room + if worker.drained.is_some() { 0 } else { free })
    });
    let first = match count {
        0 => "No worker is alive.".to_owned(),
        1 => "One worker is alive.".to_owned(),
        n => format!("{} workers are alive.", show::word(n)),
    };
    let rest = match (count, room) {
        (0, _) => "Runs wait until one is.".to_owned(),
        _ if frame.standing.held.is_some() => "The queue is held.".to_owned(),
        (_, 0) => "There is no room for another run.".to_owned(),
        (_, 1) => "There is room for one more run.".to_owned(),
        (_, n) => format!("There is room for {n} more runs."),
    };
    WorkersPage {
        frame,
        first,
        rest,
        cards: workers.into_iter().map(|worker| card(worker, &held, now)).collect(),
        silent_after_s: Worker::SILENT_AFTER_S,
        now: Moment::new(now, now),
    }
}

fn card(worker: Worker, held: &[RunLine], now: time::OffsetDateTime) -> Card {
    let runs: Vec<(Lamp, RunLine)> = held
        .iter()
        .filter(|run| run.worker.as_deref() == Some(&worker.name))
        .map(|run| (Lamp::of_line(run), run.clone()))
        .collect();
    let named = runs.iter().filter(|(_, run)| run.state.is_held()).count() as i64;
    Card {
        sign: Sign::of_worker(&worker),
        // By Postgres's clock, as `silent_s` is.
        heard: Moment::new(now - time::Duration::seconds_f64(worker.silent_s.max(0.0)), now),
        started: Moment::new(worker.started_at, now),
        unnamed: (worker.holds - named).max(0),
        runs,
        drainable: Sign::of_worker(&worker) != Sign::GONE,
        worker,
    }
}
