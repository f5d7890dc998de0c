//! A topic: one view that somebody watches. It looks when something changed, and tells all who watch what did.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::hub::Hub;
use super::message::{From, Message, Upto};
use super::pieces::{Pieces, Prints, version};
use super::view::{AsOf, Look, Seen, View, Watched};
use super::viewers::Viewer;
use crate::clock;
use crate::db::{self, SessionHash, Superuser};
use crate::web::error::{Error, Result};

/// How often it looks by itself while it hears of changes; a notice may be lost. Each such look gives every stream its pulse.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same, while it hears nothing.
const LOOK_DEAF: Duration = Duration::from_millis(1200);
/// How long a stream may have been silent when a look finds nothing new; after that it gets its pulse.
const SILENT_FOR: Duration = Duration::from_secs(3);
/// How long all statements of a look may take together, and the look.
const STATEMENTS: Duration = Duration::from_millis(1500);
const LOOK_WITHIN: Duration = Duration::from_millis(1900);
/// How many messages one who is slow may be behind.
const BEHIND: usize = 64;

/// Somebody who wants to watch.
pub(super) struct Join {
    pub(super) view: View,
    pub(super) from: From,
    pub(super) viewer: Arc<Viewer>,
    pub(super) answer: oneshot::Sender<Result<Joined>>,
}

/// Where they come in.
pub(super) struct Joined {
    /// What they don't know yet.
    pub(super) first: Bytes,
    /// The last event of the transcript that was told before.
    pub(super) seen: i64,
    /// What will be told.
    pub(super) rest: broadcast::Receiver<Bytes>,
}

/// A topic, as the hub knows it.
#[derive(Clone)]
pub(super) struct Handle {
    /// As long as there are requests, each of which waits for its answer.
    pub(super) joins: mpsc::UnboundedSender<Join>,
    pub(super) nudge: Arc<Notify>,
}

struct Topic {
    hub: Arc<Hub>,
    watched: Watched,
    all: broadcast::Sender<Bytes>,
    /// Who watches, by whose proof one may look.
    viewers: HashMap<SessionHash, Weak<Viewer>>,
    /// What was told last.
    prints: Prints,
    told: Instant,
}

/// Begins a topic, which ends when nobody watches any more.
pub(super) fn begin(hub: Arc<Hub>, view: View) -> Handle {
    let (joins, waiting) = mpsc::unbounded_channel();
    let nudge = Arc::new(Notify::new());
    let topic = Topic {
        hub,
        watched: Watched::new(view),
        all: broadcast::channel(BEHIND).0,
        viewers: HashMap::new(),
        prints: BTreeMap::new(),
        told: Instant::now(),
    };
    tokio::spawn(topic.go_on(waiting, Arc::clone(&nudge)));
    Handle { joins, nudge }
}

impl Topic {
    async fn go_on(mut self, mut waiting: mpsc::UnboundedReceiver<Join>, nudge: Arc<Notify>) {
        let mut joins: Vec<Join> = Vec::new();
        let mut next = Instant::now() + LOOK_EVERY;
        let mut looked: Option<Instant> = None;
        let closing = self.hub.closing();
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                join = waiting.recv() => joins.extend(join),
                () = nudge.notified() => {}
                () = sleep_until(next) => {}
            }
            if let Some(looked) = looked {
                sleep_until(looked + self.watched.apart()).await;
            }
            while let Ok(join) = waiting.try_recv() {
                joins.push(join);
            }
            if joins.is_empty() && self.all.receiver_count() == 0 {
                break;
            }
            let now = Instant::now();
            looked = Some(now);
            next = match self.tell(std::mem::take(&mut joins)).await {
                Ok(true) => now,
                Ok(false) if self.hub.hears() => now + LOOK_EVERY,
                Ok(false) => now + LOOK_DEAF,
                Err(Error::NotFound) => break,
                Err(error) => {
                    tracing::debug!(%error, "a view can't be looked at");
                    now + LOOK_DEAF
                }
            };
        }
        // Who came in the meantime begins it anew.
        waiting.close();
        while let Some(join) = waiting.recv().await {
            self.hub.again(join);
        }
    }

    /// Looks, tells all what changed, and lets in those who wait. True when there is more to be told at once.
    async fn tell(&mut self, joins: Vec<Join>) -> Result<bool> {
        for join in &joins {
            self.viewers.insert(join.viewer.session, Arc::downgrade(&join.viewer));
        }
        let seen = match timeout(LOOK_WITHIN, db::together(STATEMENTS, self.look())).await {
            Ok(Ok(seen)) => seen,
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => Error::Unavailable("no look within its time".to_owned()),
                };
                for join in joins {
                    let _ = join.answer.send(Err(match &error {
                        Error::NotFound => Error::NotFound,
                        error => Error::Unavailable(error.to_string()),
                    }));
                }
                return Err(error);
            }
        };
        self.tell_all(&seen)?;
        if !joins.is_empty() {
            self.let_in(joins, &seen)?;
        }
        Ok(seen.more)
    }

    async fn look(&mut self) -> Result<Seen> {
        let by = self.proof().ok_or_else(|| Error::Unavailable("nobody is proven to watch".to_owned()))?;
        let hub = Arc::clone(&self.hub);
        let look =
            Look { site: &hub.site, fleet: &hub.fleet, health: &hub.health, by: &by, changed: hub.changed() };
        self.watched.look(&look).await
    }

    /// The proof of one of those who watch.
    fn proof(&mut self) -> Option<Superuser> {
        self.viewers.retain(|_, viewer| viewer.strong_count() > 0);
        self.viewers.values().filter_map(Weak::upgrade).find_map(|viewer| viewer.proof())
    }

    fn upto(&self) -> Upto {
        Upto { seq: self.watched.seen(), version: version(&self.prints) }
    }

    fn tell_all(&mut self, seen: &Seen) -> Result<()> {
        let now = clock::now();
        // Before everything: nothing has an age. The same data give the same drawing, on every server.
        let base = if seen.ages { in_steps(now) } else { OffsetDateTime::UNIX_EPOCH };
        let prints = Pieces::cut(&(seen.draw)(AsOf::Compared(base))?).prints();
        let before = std::mem::replace(&mut self.prints, prints);
        let changed = |name: &str| before.get(name) != self.prints.get(name);
        let is_news = seen.events.is_some() || self.prints != before;
        if self.all.receiver_count() == 0 || (!is_news && self.told.elapsed() < SILENT_FOR) {
            return Ok(());
        }
        let drawn = if self.prints == before { String::new() } else { (seen.draw)(AsOf::Now(now))? };
        let pieces = Pieces::cut(&drawn);
        let message = Message::new(now).pieces(pieces.named(changed)).events(seen.events.as_deref());
        // Nobody may be left.
        let _ = self.all.send(message.bytes(self.upto())?);
        self.told = Instant::now();
        Ok(())
    }

    fn let_in(&self, joins: Vec<Join>, seen: &Seen) -> Result<()> {
        let (now, upto) = (clock::now(), self.upto());
        let pieces = Pieces::cut(&(seen.draw)(AsOf::Now(now))?);
        let whole = Message::new(now).pieces(pieces.named(|_| true)).bytes(upto)?;
        let nothing = Message::new(now).bytes(upto)?;
        for join in joins {
            let knows_it = join.from.version == Some(upto.version);
            let first = if knows_it { nothing.clone() } else { whole.clone() };
            let joined = Joined { first, seen: upto.seq, rest: self.all.subscribe() };
            // Who has left doesn't hear of it.
            let _ = join.answer.send(Ok(joined));
        }
        Ok(())
    }
}

/// A time that stands still between two looks.
fn in_steps(now: OffsetDateTime) -> OffsetDateTime {
    now - Duration::from_secs(now.unix_timestamp().unsigned_abs() % LOOK_EVERY.as_secs())
        - Duration::from_nanos(now.nanosecond().into())
}
