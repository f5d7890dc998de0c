//! The guided way out of the red handle: a list of what to look at, then two steps.

use actix_web::HttpResponse;
use actix_web::web::Data;
use askama::Template;
use serde::Deserialize;
use time::OffsetDateTime;

use super::Site;
use super::address::Address;
use super::error::Result;
use super::fleet::Fleet;
use super::form::Form;
use super::hold;
use super::lamp::{Axis, Lamp};
use super::page::{Frame, Place, go_to, show_again};
use super::show::Moment;
use super::stop::{self, Step};
use crate::clock;
use crate::db::{self, Keeper, Superuser};
use crate::model::run::{RunFilter, State};
use crate::model::stop::{Stop, StopCounts, StopLine};

#[derive(Template)]
#[template(path = "handle/leave.html")]
pub(crate) struct LeavePage<'a> {
    frame: Frame,
    /// The stop of the pull, while it hasn't been left.
    left: Option<Left>,
    /// Runs that wait, and start when the queue is released.
    waiting: i64,
    problem: Option<&'a str>,
    now: Moment,
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

/// What its page rests on.
#[derive(Clone)]
pub(crate) struct Seen {
    pulled: Option<Pulled>,
    waiting: i64,
}

/// A pull that hasn't been left.
#[derive(Clone)]
struct Pulled {
    stop: Stop,
    counts: StopCounts,
    gates_closed: bool,
    unproven: Vec<StopLine>,
    keepers: Vec<Keeper>,
}

impl Seen {
    pub(crate) async fn look(site: &Site, by: &Superuser) -> Result<Self> {
        let standing = site.db.standing(by).await?;
        let pulled = match standing.handle {
            None => None,
            Some(id) => {
                let (stop, counts) = site.db.stop(by, id).await?;
                let unproven = site.db.stop_unproven(by, id).await?;
                let keepers = site.db.keepers(by, stop.at).await?;
                Some(Pulled {
                    stop,
                    counts,
                    gates_closed: standing.gates_closed.is_some(),
                    unproven,
                    keepers,
                })
            }
        };
        let waiting = site.db.matches(by, &RunFilter::State(State::Queued).into()).await?.queued;
        Ok(Self { pulled, waiting })
    }

    /// Whether it says for how long a worker is silent.
    pub(crate) fn ages(&self) -> bool {
        self.pulled.as_ref().is_some_and(|pulled| pulled.unanswered() > 0)
    }

    pub(crate) fn page(self, frame: Frame, now: OffsetDateTime) -> LeavePage<'static> {
        let left = self.pulled.map(|pulled| pulled.left(now));
        LeavePage { frame, left, waiting: self.waiting, problem: None, now: Moment::new(now, now) }
    }
}

impl Pulled {
    fn unanswered(&self) -> usize {
        self.keepers.iter().filter(|keeper| keeper.closed_at.is_none()).count()
    }

    fn left(self, now: OffsetDateTime) -> Left {
        let lamp = |line: &StopLine| {
            let stop = Axis::of_stop(line.delivered_at.is_some());
            Lamp::of(line.state, line.outcome, Some(stop).filter(|_| line.state != State::Lost))
        };
        Left {
            unanswered: self.unanswered(),
            counts: self.counts,
            at: Moment::new(self.stop.at, now),
            gates_closed: self.gates_closed,
            unproven: self.unproven.into_iter().map(|line| (lamp(&line), line)).collect(),
            gates: stop::gates(&self.keepers, self.stop.at, now),
            opened: self.stop.gates_opened.as_ref().map(|(at, _)| Moment::new(*at, now)),
            stop: self.stop,
        }
    }
}

/// The checklist.
pub(crate) async fn show(by: Superuser, site: Data<Site>, fleet: Data<Fleet>) -> Result<HttpResponse> {
    leave_page(&by, &site, &fleet, None).await
}

async fn leave_page(
    by: &Superuser,
    site: &Site,
    fleet: &Fleet,
    problem: Option<&str>,
) -> Result<HttpResponse> {
    let seen = Seen::look(site, by).await?;
    let frame = fleet.frame(&site.db, by, Place::Handle).await?;
    show_again(problem, &LeavePage { problem, ..seen.page(frame, clock::now()) })
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
            hold::changed(&site, &fleet).await;
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
            hold::changed(&site, &fleet).await;
            tracing::warn!(by = by.name(), released, "queue released");
            hold::wake(&site).await;
            Ok(go_to("/handle/leave"))
        }
        Err(db::Error::Conflict(why)) => leave_page(&by, &site, &fleet, Some(&why)).await,
        Err(error) => Err(error.into()),
    }
}
