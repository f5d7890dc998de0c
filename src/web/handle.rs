//! The red handle: the question, the pull, and the guided way out.

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;
use serde::Deserialize;

use super::Site;
use super::address::Address;
use super::device::Device;
use super::error::Result;
use super::fleet::Fleet;
use super::form::{Form, Why};
use super::lamp::{Axis, Lamp, Sign};
use super::page::{Frame, Place, go_to, show_again};
use super::show::Moment;
use super::spread::{click, spread};
use super::stop::{self, Step};
use super::terminate::REASONS;
use crate::clock;
use crate::db::{self, Matches, Superuser};
use crate::model::run::{RunFilter, State, StopMode};
use crate::model::stop::{Stop, StopCounts, StopLine};

/// The handle itself, as a picture.
const HANDLE: Sign = Sign { shape: "handle", tone: "", word: "The red handle" };

#[derive(Template)]
#[template(path = "handle/pull.html")]
struct PullPage<'a> {
    frame: Frame,
    matches: Matches,
    why: &'a Why,
    problem: Option<&'a str>,
}

/// The question; while the handle is pulled, its receipts.
pub(crate) async fn ask(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    let standing = site.db.standing(&by).await?;
    match (standing.handle, standing.gates_closed) {
        (Some(stop), Some(_)) => Ok(go_to(&format!("/stops/{stop}"))),
        _ => pull_page(&by, &site, &fleet, &Why::default(), None).await,
    }
}

async fn pull_page(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    why: &Why,
    problem: Option<&str>,
) -> Result<HttpResponse> {
    let matches = site.db.matches(by, &RunFilter::All.into()).await?;
    let frame = fleet.frame(&site.db, by, Place::Handle).await?;
    show_again(problem, &PullPage { frame, matches, why, problem })
}

/// Pulls it. Pulled twice it is one pull.
pub(crate) async fn pull(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    device: Device,
    address: Address,
    why: Form<Why>,
) -> Result<HttpResponse> {
    let reason = match why.parse() {
        Ok(reason) => reason,
        Err(problem) => return pull_page(&by, &site, &fleet, &why, Some(&problem)).await,
    };
    let address = address.to_string();
    let click = click("", StopMode::Force, reason, &device, &address);
    let begun = site.db.pull_handle(&by, &click).await?;
    tracing::warn!(stop = %begun.stop, fresh = begun.fresh, by = by.name(), "red handle pulled");
    spread(&site, &fleet, begun.tell).await;
    Ok(go_to(&format!("/stops/{}", begun.stop)))
}

#[derive(Template)]
#[template(path = "handle/leave.html")]
struct LeavePage<'a> {
    frame: Frame,
    /// The stop of the pull, while it hasn't been left.
    left: Option<Left>,
    /// Runs that wait, and start when the queue is released.
    waiting: i64,
    problem: Option<&'a str>,
}

/// What there is to leave.
struct Left {
    stop: Stop,
    counts: StopCounts,
    at: Moment,
    gates_closed: bool,
    unproven: Vec<(Lamp, StopLine)>,
    gates: Vec<Step>,
    unanswered: usize,
    /// When gates were let open again.
    opened: Option<Moment>,
}

/// The checklist.
pub(crate) async fn leave(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    leave_page(&by, &site, &fleet, None).await
}

async fn leave_page(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    problem: Option<&str>,
) -> Result<HttpResponse> {
    let standing = site.db.standing(by).await?;
    let left = match standing.handle {
        None => None,
        Some(id) => {
            let (stop, counts) = site.db.stop(by, id).await?;
            let unproven = site.db.stop_unproven(by, id).await?;
            let keepers = site.db.keepers(by, stop.at).await?;
            let now = clock::now();
            let lamp = |line: &StopLine| {
                let stop = Axis::of_stop(line.delivered_at.is_some());
                Lamp::of(line.state, line.outcome, Some(stop).filter(|_| line.state != State::Lost))
            };
            Some(Left {
                counts,
                at: Moment::new(stop.at, now),
                gates_closed: standing.gates_closed.is_some(),
                unproven: unproven.into_iter().map(|line| (lamp(&line), line)).collect(),
                gates: stop::gates(&keepers, stop.at, now),
                unanswered: keepers.iter().filter(|keeper| keeper.closed_at.is_none()).count(),
                opened: stop.gates_opened.as_ref().map(|(at, _)| Moment::new(*at, now)),
                stop,
            })
        }
    };
    let waiting = site.db.matches(by, &RunFilter::State(State::Queued).into()).await?.queued;
    let frame = fleet.frame(&site.db, by, Place::Handle).await?;
    show_again(problem, &LeavePage { frame, left, waiting, problem })
}

/// What a person accepts when they let gates open.
#[derive(Deserialize)]
pub(crate) struct Accepted {
    /// How many unproven runs the page named, sent along by the tick.
    #[serde(default)]
    although: String,
}

/// The first step out: gates may open again.
pub(crate) async fn open_gates(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
    accepted: Form<Accepted>,
) -> Result<HttpResponse> {
    let although = accepted.although.parse().unwrap_or(0);
    match site.db.open_gates(&by, although, Some(&address.to_string())).await {
        Ok(()) => {
            super::hold::changed(&site, &fleet).await;
            tracing::warn!(by = by.name(), although, "gates may open again");
            Ok(go_to("/handle/leave"))
        }
        Err(db::Error::Conflict(why)) => leave_page(&by, &site, &fleet, Some(&why)).await,
        Err(error) => Err(error.into()),
    }
}

/// The last step out: the queue is released.
pub(crate) async fn release(
    by: Superuser,
    site: Data<Site>,
    fleet: Data<Fleet>,
    address: Address,
) -> Result<HttpResponse> {
    match site.db.release_queue(&by, Some(&address.to_string())).await {
        Ok(released) => {
            super::hold::changed(&site, &fleet).await;
            tracing::warn!(by = by.name(), released, "queue released");
            super::hold::wake(&site).await;
            Ok(go_to("/handle/leave"))
        }
        Err(db::Error::Conflict(why)) => leave_page(&by, &site, &fleet, Some(&why)).await,
        Err(error) => Err(error.into()),
    }
}
