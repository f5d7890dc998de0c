//! The hub: what all streams of one server share. One subscription to Redis, one question who still may watch, and a
//! topic for each view that somebody watches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::web::Data;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::message::From;
use super::topic::{self, Handle, Join, Joined};
use super::view::View;
use super::viewers::{PROVE_EVERY, Viewer, Viewers};
use crate::db::{SessionHash, Superuser};
use crate::model::run::RunId;
use crate::queue::{Notice, Unavailable};
use crate::web::Site;
use crate::web::error::{Error, Result};
use crate::web::fleet::Fleet;
use crate::web::health::Health;

/// How long one may wait to be let in.
const LET_IN: Duration = Duration::from_millis(1500);
/// Between two tries of a Redis that doesn't answer.
const RETRY: Duration = Duration::from_secs(1);
/// How often Redis is asked for a sign of life: one that is frozen hangs up on nobody.
const PING_EVERY: Duration = Duration::from_secs(1);

/// What all streams share.
pub(crate) struct Hub {
    pub(super) site: Data<Site>,
    pub(super) fleet: Data<Fleet>,
    pub(super) health: Data<Health>,
    pub(super) viewers: Viewers,
    joins: mpsc::UnboundedSender<Join>,
    /// Taken by [`Hub::go_on`].
    waiting: Mutex<Option<mpsc::UnboundedReceiver<Join>>>,
    topics: Mutex<HashMap<View, Handle>>,
    hears: AtomicBool,
    /// When something was last known to have changed.
    changed: Mutex<Instant>,
    closing: CancellationToken,
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(crate) fn new(site: &Data<Site>, fleet: &Data<Fleet>, health: &Data<Health>) -> Self {
        let (joins, waiting) = mpsc::unbounded_channel();
        Self {
            site: site.clone(),
            fleet: fleet.clone(),
            health: health.clone(),
            viewers: Viewers::default(),
            joins,
            waiting: Mutex::new(Some(waiting)),
            topics: Mutex::default(),
            hears: AtomicBool::new(false),
            changed: Mutex::new(Instant::now()),
            closing: CancellationToken::new(),
        }
    }

    /// Cancelled when the server leaves.
    pub(super) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Whether Redis tells of changes.
    pub(super) fn hears(&self) -> bool {
        self.hears.load(Ordering::Relaxed)
    }

    /// When something was last known to have changed.
    pub(super) fn changed(&self) -> Instant {
        *locked(&self.changed)
    }

    /// Somebody begins something that lasts, whom the guard has just let in: whether they still may is asked again and again.
    pub(crate) fn enter(&self, session: SessionHash, by: Superuser) -> Arc<Viewer> {
        self.viewers.enter(session, by)
    }

    /// Joins those who watch this view.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such thing, [`Error::Unavailable`] when it can't be looked at now.
    pub(super) async fn join(&self, view: View, from: From, viewer: Arc<Viewer>) -> Result<Joined> {
        let late = || Error::Unavailable("the view can't be looked at now".to_owned());
        let (answer, joined) = oneshot::channel();
        let asked = async {
            self.joins.send(Join { view, from, viewer, answer }).map_err(|_| late())?;
            joined.await.map_err(|_| late())?
        };
        timeout(LET_IN, asked).await.unwrap_or_else(|_| Err(late()))
    }

    /// Takes up one who came to a topic that was just ending.
    pub(super) fn again(&self, join: Join) {
        // On shutdown nobody takes it.
        let _ = self.joins.send(join);
    }

    /// Runs the topics until shutdown, then ends every stream.
    pub(crate) async fn go_on(self: Arc<Self>, shutdown: &CancellationToken) {
        let Some(waiting) = locked(&self.waiting).take() else { return };
        let all = async { tokio::join!(self.let_in(waiting), self.listen(), self.prove()) };
        let _ = shutdown.run_until_cancelled(all).await;
        self.closing.cancel();
    }

    async fn let_in(self: &Arc<Self>, mut waiting: mpsc::UnboundedReceiver<Join>) {
        while let Some(mut join) = waiting.recv().await {
            loop {
                let view = join.view.clone();
                let topic = locked(&self.topics).get(&view).filter(|topic| !topic.joins.is_closed()).cloned();
                let topic = topic.unwrap_or_else(|| {
                    let topic = topic::begin(Arc::clone(self), view.clone());
                    let mut topics = locked(&self.topics);
                    topics.retain(|_, topic| !topic.joins.is_closed());
                    topics.insert(view, topic.clone());
                    topic
                });
                match topic.joins.send(join) {
                    Ok(()) => break,
                    // It has just ended.
                    Err(back) => join = back.0,
                }
            }
        }
    }

    /// Hears of changes for ever.
    async fn listen(&self) {
        loop {
            if let Err(error) = self.hear().await {
                tracing::debug!(%error, "pages look by themselves");
            }
            self.hears.store(false, Ordering::Relaxed);
            self.nudge(|_| true);
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn hear(&self) -> std::result::Result<(), Unavailable> {
        let mut notices = self.site.queue.notices().await?;
        self.hears.store(true, Ordering::Relaxed);
        // What changed before we listened.
        self.nudge(|_| true);
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                notice = notices.next() => self.notice(notice?),
                _ = pings.tick() => self.site.queue.ping().await?,
            }
        }
    }

    fn notice(&self, notice: Notice) {
        let about = |run: RunId| {
            move |view: &View| match view {
                View::Run(watched) | View::RunAlone(watched) => *watched == run,
                View::Runs(_) | View::Stop(..) | View::Leave | View::Workers => true,
                View::Health => false,
            }
        };
        match notice {
            Notice::Queued(run) | Notice::Changed(run) => self.nudge(about(run)),
            Notice::Stopping | Notice::Standing => self.nudge(|_| true),
        }
    }

    /// Lets those topics look.
    fn nudge(&self, which: impl Fn(&View) -> bool) {
        *locked(&self.changed) = Instant::now();
        locked(&self.topics)
            .iter()
            .filter(|(view, _)| which(view))
            .for_each(|(_, topic)| topic.nudge.notify_one());
    }

    /// Asks again and again who still may watch, for ever.
    async fn prove(&self) {
        let mut ticks = interval(PROVE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.viewers.prove(&self.site.db).await {
                tracing::debug!(%error, "it can't be asked who still may watch");
            }
        }
    }
}
