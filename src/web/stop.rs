//! One stop of many: how far it has come, and a receipt for each of its runs. The page can be left and found again.

use actix_web::HttpResponse;
use actix_web::web::{Data, Query};
use askama::Template;
use serde::Deserialize;
use time::OffsetDateTime;

use super::Site;
use super::error::Result;
use super::fleet::Fleet;
use super::lamp::{Axis, Lamp};
use super::page::{self, Frame, Place, cursor};
use super::show::{self, Moment};
use super::stops;
use crate::clock;
use crate::db::{Keeper, Superuser};
use crate::model::page::{Cursor, PAGE_SIZE, Page};
use crate::model::run::{State, StopMode};
use crate::model::stop::{Met, Stop, StopCounts, StopId, StopKind, StopLine};
use crate::model::worker::Worker;

/// How often the page looks again, in seconds: while something moves, and while only a silent worker could move it.
const LOOKS_AGAIN_S: (u32, u32) = (2, 10);

/// Which part of the receipts is asked for.
#[derive(Deserialize)]
pub(crate) struct Asked {
    before: Option<String>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "stops/show.html")]
pub(crate) struct StopPage {
    frame: Frame,
    /// Where its stream is.
    stream: String,
    what: String,
    heading: String,
    lamp: Lamp,
    by_force: bool,
    at: Moment,
    figures: [(&'static str, String, &'static str); 6],
    handle: Option<Handle>,
    unproven: Vec<Receipt>,
    /// How many more than these there are.
    unnamed: i64,
    receipts: Vec<Receipt>,
    newer: Option<i64>,
    older: Option<i64>,
    refresh: Option<u32>,
    stop: Stop,
    counts: StopCounts,
    now: Moment,
}

/// What the red handle did besides.
struct Handle {
    pulled: bool,
    /// Steps, each done or not, with what is said of it.
    steps: Vec<Step>,
}

/// One thing to be done, and whether it is.
pub(crate) struct Step {
    pub(crate) done: bool,
    pub(crate) what: String,
    pub(crate) at: Option<Moment>,
    pub(crate) text: String,
}

/// One line.
struct Receipt {
    lamp: Lamp,
    wished: Option<Moment>,
    delivered: Option<String>,
    proven: Option<String>,
    line: StopLine,
}

/// The page.
pub(crate) async fn show(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    id: StopId,
    asked: Query<Asked>,
) -> Result<HttpResponse> {
    let seen = Seen::look(&site, &by, id, asked.cursor()?).await?;
    let frame = fleet.frame(&site.db, &by, seen.place()).await?;
    page::show(&seen.page(frame, clock::now()))
}

impl Asked {
    /// # Errors
    /// [`super::error::Error::Unprocessable`] when there is no such part.
    pub(crate) fn cursor(&self) -> Result<Cursor> {
        cursor(self.before.as_deref(), self.after.as_deref())
    }
}

/// What its page rests on.
#[derive(Clone)]
pub(crate) struct Seen {
    stop: Stop,
    counts: StopCounts,
    cursor: Cursor,
    lines: Page<StopLine>,
    unproven: Vec<StopLine>,
    keepers: Vec<Keeper>,
}

impl Seen {
    pub(crate) async fn look(site: &Site, by: &Superuser, id: StopId, cursor: Cursor) -> Result<Self> {
        let (stop, counts) = site.db.stop(by, id).await?;
        let lines = site.db.stop_lines(by, id, cursor).await?;
        let unproven = match cursor {
            Cursor::Start if counts.unproven() > 0 => site.db.stop_unproven(by, id).await?,
            _ => Vec::new(),
        };
        let keepers = match stop.kind {
            StopKind::Everything => site.db.keepers(by, stop.at).await?,
            _ => Vec::new(),
        };
        Ok(Self { stop, counts, cursor, lines, unproven, keepers })
    }

    /// Where in the navigation it is.
    pub(crate) fn place(&self) -> Place {
        if self.stop.kind == StopKind::Everything { Place::Handle } else { Place::Runs }
    }

    /// Whether it says for how long a worker is silent.
    pub(crate) fn ages(&self) -> bool {
        self.keepers.iter().any(|keeper| keeper.closed_at.is_none())
    }

    pub(crate) fn page(self, frame: Frame, now: OffsetDateTime) -> StopPage {
        stop_page(frame, self, now)
    }
}

fn stop_page(frame: Frame, seen: Seen, now: OffsetDateTime) -> StopPage {
    let Seen { stop, counts, cursor, lines, unproven, keepers } = seen;
    let (unproven, receipts) = in_order(unproven, lines.rows, lines.newer.is_some() || lines.older.is_some());
    let written = stop.written_at.is_some();
    let handle = (stop.kind == StopKind::Everything).then(|| handle(&frame, &stop, &keepers, now));
    let answers_due = handle.as_ref().is_some_and(|handle| {
        handle.pulled && keepers.iter().any(|keeper| keeper.closed_at.is_none() && is_alive(keeper))
    });
    let refresh = match (counts.unconfirmed + counts.pending, counts.lost) {
        _ if !written || answers_due => Some(LOOKS_AGAIN_S.0),
        (1.., _) => Some(LOOKS_AGAIN_S.0),
        (_, 1..) => Some(LOOKS_AGAIN_S.1),
        _ => None,
    };
    let part = match cursor {
        Cursor::Start => String::new(),
        Cursor::Before(run) => format!("?before={run}"),
        Cursor::After(run) => format!("?after={run}"),
    };
    StopPage {
        stream: format!("/live/stops/{}{part}", stop.id),
        what: stops::what(&stop),
        heading: heading(&counts, written),
        lamp: stops::lamp(&counts, written),
        by_force: stop.mode == StopMode::Force,
        at: Moment::new(stop.at, now),
        figures: figures(&counts),
        handle,
        unnamed: if unproven.is_empty() { 0 } else { counts.unproven() - unproven.len() as i64 },
        unproven: unproven.into_iter().map(|line| receipt(line, now)).collect(),
        newer: lines.newer,
        older: lines.older,
        receipts: receipts.into_iter().map(|line| receipt(line, now)).collect(),
        refresh,
        stop,
        counts,
        now: Moment::new(now, now),
        frame,
    }
}

/// What isn't proven comes first: in a list of its own where there are several pages, else at the head of the one list.
fn in_order(
    mut unproven: Vec<StopLine>,
    mut receipts: Vec<StopLine>,
    several_pages: bool,
) -> (Vec<StopLine>, Vec<StopLine>) {
    unproven.truncate(PAGE_SIZE);
    if !several_pages {
        receipts.sort_by_key(|line| line.state.is_over());
        unproven.clear();
    }
    (unproven, receipts)
}

/// How it stands, in one sentence that can be read in a second.
fn heading(counts: &StopCounts, written: bool) -> String {
    let all = show::count(counts.all());
    let over = counts.all() - counts.unproven();
    match (counts.all(), counts.unproven()) {
        (0, _) => "There was nothing to stop.".to_owned(),
        (1, 0) if written => "The run is proven over.".to_owned(),
        (_, 0) if written => format!("All {all} runs are proven over."),
        _ => format!("{} of {all} proven over.", show::count(over)),
    }
}

fn figures(counts: &StopCounts) -> [(&'static str, String, &'static str); 6] {
    let alarming = |n: i64, tone: &'static str| if n > 0 { tone } else { "" };
    let proven = counts.proven + counts.queued;
    let figure = |name, n, tone| (name, show::count(n), tone);
    [
        figure("Wished", counts.wished(), ""),
        figure("Delivered", counts.delivered, ""),
        figure("Proven over", proven, alarming(proven, "go")),
        figure(
            "Unconfirmed",
            counts.unconfirmed + counts.pending,
            alarming(counts.unconfirmed + counts.pending, "bad"),
        ),
        figure("Lost", counts.lost, alarming(counts.lost, "wait")),
        figure("Over already", counts.over, ""),
    ]
}

/// Whether a worker can be expected to answer.
pub(crate) fn is_alive(keeper: &Keeper) -> bool {
    keeper.silent_s < Worker::SILENT_AFTER_S
}

fn handle(frame: &Frame, stop: &Stop, keepers: &[Keeper], now: OffsetDateTime) -> Handle {
    let current = frame.standing.handle == Some(stop.id);
    let held = frame.standing.held.as_ref().filter(|_| current);
    let mut steps = vec![match (held, &stop.released) {
        (Some(held), _) => Step {
            done: true,
            what: "Queue held".to_owned(),
            at: Some(Moment::new(held.at, now)),
            text: format!("By {}. Nothing starts; new runs are taken in, and wait.", held.by),
        },
        (None, Some((at, by))) if stop.hold_kept => Step {
            done: true,
            what: "Queue held before, and held on".to_owned(),
            at: Some(Moment::new(*at, now)),
            text: format!("Red handle left by {by}; the hold that stood before it stayed."),
        },
        (None, Some((at, by))) => Step {
            done: true,
            what: "Queue held, and released again".to_owned(),
            at: Some(Moment::new(*at, now)),
            text: format!("Released by {by}."),
        },
        (None, None) => Step {
            done: true,
            what: "Queue held".to_owned(),
            at: Some(Moment::new(stop.at, now)),
            text: "Another pull of the handle came after this one.".to_owned(),
        },
    }];
    if let Some((at, by)) = &stop.gates_opened {
        steps.push(Step {
            done: true,
            what: "Gates closed, and free to open again".to_owned(),
            at: Some(Moment::new(*at, now)),
            text: format!("By {by}."),
        });
    } else {
        steps.extend(gates(keepers, stop.at, now));
    }
    Handle { pulled: current, steps }
}

/// What each worker has said of its gates.
pub(crate) fn gates(keepers: &[Keeper], since: OffsetDateTime, now: OffsetDateTime) -> Vec<Step> {
    if keepers.is_empty() {
        return vec![Step {
            done: true,
            what: "Gates closed".to_owned(),
            at: None,
            text: "No worker was heard of for a day, and none holds a run.".to_owned(),
        }];
    }
    let step = |keeper: &Keeper| Step {
        done: keeper.closed_at.is_some(),
        what: match keeper.closed_at {
            Some(_) => format!("{}: gates closed", keeper.worker),
            None => format!("{}: not confirmed", keeper.worker),
        },
        at: keeper.closed_at.map(|at| Moment::new(at, now)),
        text: match keeper.closed_at {
            Some(at) => {
                let after = std::time::Duration::try_from(at - since).unwrap_or_default();
                format!("{} after the pull.", show::span(after))
            }
            None if is_alive(keeper) => "It looks every 2 s by itself too.".to_owned(),
            None => format!(
                "Silent for {}. A worker that is cut off stops its runs before their leases lapse.",
                show::span(std::time::Duration::from_secs_f64(keeper.silent_s.max(0.0)))
            ),
        },
    };
    keepers.iter().map(step).collect()
}

fn receipt(line: StopLine, now: OffsetDateTime) -> Receipt {
    let unconfirmed = line.met != Met::Over && !line.state.is_over() && line.state != State::Lost;
    let after = |at: Option<OffsetDateTime>| {
        let gap = std::time::Duration::try_from(at? - line.wish_at?).ok();
        Some(gap.map_or_else(|| "before".to_owned(), |gap| format!("+ {}", show::span(gap))))
    };
    Receipt {
        lamp: Lamp::of(
            line.state,
            line.outcome,
            unconfirmed.then(|| Axis::of_stop(line.delivered_at.is_some())),
        ),
        wished: line.wish_at.map(|at| Moment::new(at, now)),
        delivered: after(line.delivered_at),
        proven: after(line.confirmed_at),
        line,
    }
}
