//! What can be watched, and how one looks at it: by the same statements and templates as its page.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::web::Data;
use askama::Template;
use time::OffsetDateTime;

use super::follow::Follow;
use crate::db::Superuser;
use crate::model::page::Cursor;
use crate::model::run::RunId;
use crate::model::stop::StopId;
use crate::model::worker::Worker;
use crate::web::error::Result;
use crate::web::fleet::Fleet;
use crate::web::health::Health;
use crate::web::listing::List;
use crate::web::page::{Frame, Place};
use crate::web::{Site, health, leave, stop, workers};

/// The shortest time between two looks: the first change is told at once, those behind it together.
const APART: Duration = Duration::from_millis(30);
/// The same, where a look takes some time.
const APART_DEAR: Duration = Duration::from_secs(2);

/// A page that can be watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum View {
    /// A list of runs.
    Runs(Arc<List>),
    /// A run, at its tail.
    Run(RunId),
    /// A run without its transcript, for who reads an older part of that.
    RunAlone(RunId),
    /// A part of the receipts of a stop of many.
    Stop(StopId, Cursor),
    /// The way out of the red handle.
    Leave,
    /// The workers.
    Workers,
    /// The health of it all.
    Health,
}

/// What looking takes.
pub(super) struct Look<'a> {
    pub(super) site: &'a Site,
    pub(super) fleet: &'a Fleet,
    pub(super) health: &'a Data<Health>,
    pub(super) by: &'a Superuser,
    /// Since when something is known to have changed.
    pub(super) changed: Instant,
}

/// As of when a page is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AsOf {
    /// To be shown now.
    Now(OffsetDateTime),
    /// To be compared with another drawing of this time: that something grew older shall make no difference.
    Compared(OffsetDateTime),
}

impl AsOf {
    pub(super) fn time(self) -> OffsetDateTime {
        match self {
            Self::Now(time) | Self::Compared(time) => time,
        }
    }
}

/// Draws the page as it was seen.
pub(super) type Draw = Box<dyn Fn(AsOf) -> Result<String> + Send>;

/// What one has seen.
pub(super) struct Seen {
    pub(super) draw: Draw,
    /// Whether it says how old things are in words that the page itself can't make older.
    pub(super) ages: bool,
    /// What has come to its transcript.
    pub(super) events: Option<String>,
    /// Whether there is more of that.
    pub(super) more: bool,
}

impl Seen {
    pub(super) fn new(ages: bool, draw: impl Fn(AsOf) -> Result<String> + Send + 'static) -> Self {
        Self { draw: Box::new(draw), ages, events: None, more: false }
    }
}

impl Look<'_> {
    pub(super) async fn frame(&self, here: Place) -> Result<Frame> {
        let frame = self.fleet.frame_since(&self.site.db, self.by, here, Some(self.changed)).await?;
        Ok(frame.live())
    }
}

/// A view, and what is remembered between two looks at it.
pub(super) enum Watched {
    Run(Follow),
    Other(View),
}

impl Watched {
    pub(super) fn new(view: View) -> Self {
        match view {
            View::Run(run) => Self::Run(Follow::new(run)),
            View::RunAlone(run) => Self::Run(Follow::alone(run)),
            other => Self::Other(other),
        }
    }

    /// How long after a look the next one may follow.
    pub(super) fn apart(&self) -> Duration {
        match self {
            Self::Other(View::Runs(list)) if list.is_dear() => APART_DEAR,
            _ => APART,
        }
    }

    /// The last event that was seen, in a transcript.
    pub(super) fn seen(&self) -> i64 {
        match self {
            Self::Run(follow) => follow.seen(),
            Self::Other(_) => 0,
        }
    }

    pub(super) async fn look(&mut self, look: &Look<'_>) -> Result<Seen> {
        let (site, by) = (look.site, look.by);
        match self {
            Self::Run(follow) => follow.look(look).await,
            Self::Other(View::Run(run) | View::RunAlone(run)) => Follow::alone(*run).look(look).await,
            Self::Other(View::Runs(list)) => {
                let list = Arc::clone(list);
                let frame = look.frame(Place::Runs).await?;
                let choices = look.fleet.choices(&site.db, by).await?;
                let seen = list.seen(site, by, &frame.notice.stuck).await?;
                let draw = move |at: AsOf| {
                    Ok(list.page(frame.clone(), choices.clone(), seen.clone(), at.time()).render()?)
                };
                Ok(Seen::new(false, draw))
            }
            Self::Other(View::Stop(id, cursor)) => {
                let seen = stop::Seen::look(site, by, *id, *cursor).await?;
                let frame = look.frame(seen.place()).await?;
                let ages = seen.ages();
                let draw = move |at: AsOf| Ok(seen.clone().page(frame.clone(), at.time()).render()?);
                Ok(Seen::new(ages, draw))
            }
            Self::Other(View::Leave) => {
                let (seen, frame) = tokio::try_join!(leave::Seen::look(site, by), look.frame(Place::Handle))?;
                let ages = seen.ages();
                let draw = move |at: AsOf| Ok(seen.clone().page(frame.clone(), at.time()).render()?);
                Ok(Seen::new(ages, draw))
            }
            Self::Other(View::Workers) => {
                let (seen, frame) = tokio::try_join!(workers::look(site, by), look.frame(Place::Workers))?;
                let draw = move |at: AsOf| {
                    let (mut workers, held) = seen.clone();
                    if let AsOf::Compared(_) = at {
                        // Each look finds them silent for another time; whether they are alive makes a difference.
                        let alive =
                            |worker: &Worker| if worker.is_alive() { 0.0 } else { f64::from(u32::MAX) };
                        workers.iter_mut().for_each(|worker| worker.silent_s = alive(worker));
                    }
                    Ok(workers::page(frame.clone(), (workers, held), at.time()).render()?)
                };
                Ok(Seen::new(true, draw))
            }
            Self::Other(View::Health) => {
                let health = Data::clone(look.health).into_inner();
                let (seen, frame) = tokio::join!(health.seen(by), look.frame(Place::Health));
                // What was measured bears its own times.
                let drawn = health::page(frame?, seen?).render()?;
                Ok(Seen::new(false, move |_| Ok(drawn.clone())))
            }
        }
    }
}
