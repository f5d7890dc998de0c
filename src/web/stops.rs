//! Stops of many runs: the wish, and the list of such stops.

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;

use super::Site;
use super::address::Address;
use super::device::Device;
use super::error::{Error, Result};
use super::fleet::Fleet;
use super::form::{Form, Why};
use super::lamp::{Axis, Lamp};
use super::page::{Frame, Place, cursor, go_to, show};
use super::pick::{Asked, Question, matching, selected};
use super::show::Moment;
use super::spread::{click, spread};
use crate::clock;
use crate::db::Superuser;
use crate::model::run::{Outcome, RunFilter, RunId, State, StopMode};
use crate::model::stop::{Matching, Stop, StopCounts, StopKind, Target};

/// The largest form, in bytes as they are sent: the numbers of all that can be selected, and a reason.
pub(crate) const FORM_MAX: usize = 32 * 1024;

/// What a person sends off.
#[derive(Deserialize)]
pub(crate) struct Wished {
    #[serde(default)]
    runs: String,
    state: Option<String>,
    #[serde(default)]
    agent: String,
    #[serde(default)]
    worker: String,
    #[serde(default)]
    who: String,
    #[serde(default)]
    upto: String,
    #[serde(default)]
    once: String,
    mode: Option<String>,
    #[serde(flatten)]
    why: Why,
}

/// Writes the stop, tells the workers, and goes to its page. Sent twice it is one stop.
pub(crate) async fn wish(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    device: Device,
    address: Address,
    wished: Form<Wished>,
) -> Result<HttpResponse> {
    let asked = match &wished.state {
        Some(state) => {
            let Wished { agent, worker, who, .. } = &*wished;
            Asked::Filter(matching([state, agent, worker, who])?)
        }
        None => Asked::Selected(selected(wished.runs.split(',').filter(|run| !run.is_empty()))?),
    };
    let mode = match wished.mode.as_deref() {
        None => StopMode::Graceful,
        Some(word) => word.parse().map_err(|_| {
            Error::Unprocessable(format!(
                "Runs can be stopped by \"graceful\" or \"force\", not by {word:?}."
            ))
        })?,
    };
    let reason = match wished.why.parse() {
        Ok(reason) => reason,
        Err(problem) => {
            let (by, site, fleet, why) = (&by, &site, &fleet, &wished.why);
            return Question { by, site, fleet, asked, why, problem: Some(&problem) }.show().await;
        }
    };
    let target = match asked {
        Asked::Selected(runs) => Target::Selected(runs),
        Asked::Filter(matching) if matching.reach().is_none() => {
            return Err(Error::Unprocessable("Runs like that are over already.".to_owned()));
        }
        Asked::Filter(matching) => {
            let upto = wished.upto.parse().ok().filter(|upto: &RunId| upto.0 >= 0);
            Target::Filter(matching, upto.ok_or_else(|| Error::Unprocessable("Up to which run?".to_owned()))?)
        }
    };
    let address = address.to_string();
    // The form has two buttons: whoever presses the second after the first means it.
    let once = if wished.once.is_empty() { String::new() } else { format!("{}.{mode}", wished.once) };
    let click = click(&once, mode, reason, &device, &address);
    let begun = site.db.stop_many(&by, &target, &click).await?;
    tracing::info!(stop = %begun.stop, fresh = begun.fresh, by = by.name(), "stop of many wished");
    spread(&site, &fleet, begun.tell).await;
    Ok(go_to(&format!("/stops/{}", begun.stop)))
}

/// Which part of the list is asked for.
#[derive(Deserialize)]
pub(crate) struct Part {
    before: Option<String>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "stops/index.html")]
struct ListPage {
    frame: Frame,
    rows: Vec<Row>,
    newer: Option<i64>,
    older: Option<i64>,
}

struct Row {
    stop: Stop,
    counts: StopCounts,
    what: String,
    lamp: Lamp,
    at: Moment,
}

/// The stops, newest first.
pub(crate) async fn index(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    part: Query<Part>,
) -> Result<HttpResponse> {
    let cursor = cursor(part.before.as_deref(), part.after.as_deref())?;
    let page = site.db.stops_page(&by, cursor).await?;
    let frame = fleet.frame(&site.db, &by, Place::Runs).await?;
    let now = clock::now();
    let row = |(stop, counts): (Stop, StopCounts)| Row {
        what: what(&stop),
        lamp: lamp(&counts, stop.written_at.is_some()),
        at: Moment::new(stop.at, now),
        stop,
        counts,
    };
    let rows = page.rows.into_iter().map(row).collect();
    show(&ListPage { frame, rows, newer: page.newer, older: page.older })
}

/// All that a filter shows, in words.
pub(crate) fn every(matching: &Matching) -> String {
    let mut every = match matching.kind {
        RunFilter::All => "Every run that isn’t over".to_owned(),
        RunFilter::Unconfirmed => "Every run whose stop is unconfirmed".to_owned(),
        RunFilter::State(state) => format!("Every {state} run"),
        RunFilter::Outcome(outcome) => format!("Every run that {outcome}"),
        RunFilter::Living => "Every run that is queued, starting or running".to_owned(),
        RunFilter::Stuck | RunFilter::Needs => "Every run that is judged so".to_owned(),
    };
    for (by, name) in
        [("of agent", &matching.agent), ("on worker", &matching.worker), ("asked for by", &matching.who)]
    {
        every.extend(name.iter().map(|name| format!(" {by} {name}")));
    }
    every
}

/// What a stop is of, in words.
pub(crate) fn what(stop: &Stop) -> String {
    match (stop.kind, &stop.filter) {
        (StopKind::Everything, _) => "The red handle".to_owned(),
        (StopKind::Filter, Some(filter)) => format!("{}, up to run {}", every(filter), stop.upto),
        _ => "Selected runs".to_owned(),
    }
}

/// The lamp of a whole stop: proven, or not yet.
pub(crate) fn lamp(counts: &StopCounts, written: bool) -> Lamp {
    if written && counts.unproven() == 0 {
        let over = Lamp::of(State::Ended, Some(Outcome::Succeeded), None);
        return Lamp { word: "Over", tone: "go", ..over };
    }
    let axis = Axis::of_stop(counts.delivered > 0);
    let lamp = Lamp { axis, beside: None, ..Lamp::of(State::Running, None, Some(axis)) };
    match (counts.unconfirmed + counts.pending, counts.lost) {
        (0, 1..) if written => Lamp::of(State::Lost, None, None),
        _ => Lamp { word: "Unconfirmed", ..lamp },
    }
}
