//! A run that is followed: its page, but for the transcript, and of that only what is new.

use askama::Template;
use bytes::Bytes;
use time::OffsetDateTime;

use super::message::{Message, Upto, stale};
use super::view::{AsOf, Look, Seen};
use crate::clock;
use crate::db::Superuser;
use crate::model::event::Event;
use crate::model::metered::Point;
use crate::model::run::RunId;
use crate::web::Site;
use crate::web::diff::Line as DiffLine;
use crate::web::error::Result;
use crate::web::page::Place;
use crate::web::run::{Follows, run_page};
use crate::web::transcript::{Entry, Transcript, View, entries};

/// How many of the last events are remembered: a last word that repeats what was just said isn't drawn again.
const TAIL: i64 = 20;

/// How many events go in one message.
const AT_ONCE: i64 = 500;

/// How many events a page may have missed; with more it is loaded again.
const MISSED_MAX: i64 = 2000;

/// Entries of a transcript, below others.
#[derive(Template)]
#[template(path = "runs/events.html")]
struct Events {
    id: RunId,
    entries: Vec<Entry>,
}

fn draw(run: RunId, events: Vec<Event>, after: &[Event]) -> Result<String> {
    let now = clock::now();
    Ok(Events { id: run, entries: entries(events, after, None, now) }.render()?)
}

/// A run, and how far its transcript has been seen.
pub(super) struct Follow {
    run: RunId,
    /// Whether its transcript is followed too.
    to_the_tail: bool,
    /// None before the first look.
    seen: Option<i64>,
    /// The last events.
    tail: Vec<Event>,
    /// How what it took grew, as of when that was last written.
    spent: (Option<OffsetDateTime>, Vec<Point>),
}

impl Follow {
    pub(super) fn new(run: RunId) -> Self {
        Self { run, to_the_tail: true, seen: None, tail: Vec::new(), spent: (None, Vec::new()) }
    }

    /// Without its transcript.
    pub(super) fn alone(run: RunId) -> Self {
        Self { to_the_tail: false, ..Self::new(run) }
    }

    pub(super) fn seen(&self) -> i64 {
        self.seen.unwrap_or(0)
    }

    pub(super) async fn look(&mut self, look: &Look<'_>) -> Result<Seen> {
        let (db, by, id) = (&look.site.db, look.by, self.run);
        let new = async {
            match self.seen {
                _ if !self.to_the_tail => Ok(Vec::new()),
                Some(seen) => db.events_after(by, id, seen, i64::MAX, AT_ONCE).await,
                None => db.events_tail(by, id, None, TAIL).await,
            }
        };
        let run = async { Ok(db.run(by, id).await?) };
        let (mut run, frame, new) = tokio::try_join!(run, look.frame(Place::Runs), async { Ok(new.await?) })?;
        if self.spent.0 != run.metered_at {
            self.spent = (run.metered_at, db.spent(by, id).await?);
        }
        // It stands beside the transcript, and stays.
        run.prompt = String::new();
        let events = match self.seen {
            Some(_) if !new.is_empty() => Some(draw(id, new.clone(), &self.tail)?),
            _ => None,
        };
        // A batch that is cut for its bytes may be the last one too; looking once more costs little.
        let more = self.seen.is_some() && new.len() as i64 >= AT_ONCE;
        let last = new.last().map_or(self.seen(), |event| event.seq);
        if self.to_the_tail {
            self.seen = Some(last);
        }
        self.tail.extend(new);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL as usize));
        let ages = run.is_unconfirmed();
        let (points, at_tail) = (self.spent.1.clone(), self.to_the_tail);
        let follows = if at_tail { Follows::Events(last) } else { Follows::Run };
        let draw = move |at: AsOf| {
            let talk = Transcript::followed(last, at_tail);
            Ok(run_page(frame.clone(), run.clone(), &points, talk, follows, at.time()).render()?)
        };
        Ok(Seen { events, more, ..Seen::new(ages, draw) })
    }
}

/// The events that a page has missed, of those up to `upto`.
pub(super) async fn missed(
    site: &Site,
    by: &Superuser,
    run: RunId,
    after: i64,
    upto: i64,
) -> Result<Vec<Bytes>> {
    if upto - after > MISSED_MAX {
        return Ok(vec![stale()]);
    }
    let (mut messages, mut after) = (Vec::new(), after);
    while after < upto {
        let events = site.db.events_after(by, run, after, upto, AT_ONCE).await?;
        let Some(last) = events.last().map(|event| event.seq) else { break };
        let drawn = draw(run, events, &[])?;
        after = last;
        let message = Message::new(clock::now()).events(Some(&drawn));
        messages.push(message.bytes(Upto { seq: last, version: 0 })?);
    }
    Ok(messages)
}
