//! One run in a list: what is to be seen of it at a glance.

use super::glance::Within;
use super::lamp::Lamp;
use super::show::{self, Moment};
use super::spent;
use crate::clock;
use crate::model::run::{RunLine, State, Wish};
use crate::model::span::{between, rough};
use crate::model::stuck::Cause;

/// A run, ready to be shown.
pub(crate) struct Row {
    pub(crate) line: RunLine,
    pub(crate) lamp: Lamp,
    /// That it is stuck: by what, and for how long.
    pub(crate) stuck: Option<(Cause, String)>,
    pub(crate) within: Option<Within>,
    /// When it was asked for, while it isn't over.
    pub(crate) asked: Option<Moment>,
    /// How long it took, when it is.
    pub(crate) took: Option<String>,
    pub(crate) last: Option<(&'static str, Moment)>,
    pub(crate) cost: Option<String>,
}

impl Row {
    pub(crate) fn new(mut line: RunLine, kept_waiting: Option<&str>, now: time::OffsetDateTime) -> Self {
        if let (State::Queued, Some(why)) = (line.state, kept_waiting) {
            line.note = Some(why.to_owned());
        }
        // It takes nothing but time to become stuck: that is news also where a drawing as of another time is compared.
        let today = clock::now();
        let stuck = line.stuck(today).map(|verdict| {
            line.note = Some([verdict.evidence, line.note.take().unwrap_or_default()].join(" "));
            (verdict.cause, show::minutes(Moment::new(verdict.since, today).age()))
        });
        // What it is stuck in is said by its note.
        let is_said = matches!(stuck, Some((Cause::LongCall, _)));
        let lives = line.state.is_held() && line.wish_at.is_none();
        let call = line.watch.activity.call().filter(|_| lives && !is_said);
        let last = match (line.ended_at, line.last_event_at) {
            (Some(ended), _) => Some(("ended", Moment::new(ended, now))),
            (None, Some(event)) => Some(("last word", Moment::new(event, now))),
            (None, None) => line.started_at.map(|started| ("started", Moment::new(started, now))),
        };
        Self {
            lamp: if stuck.is_some() { Lamp::STUCK } else { Lamp::of_line(&line) },
            stuck,
            within: call.map(|call| Within::in_call(call, now, show::minutes)),
            asked: line.ended_at.is_none().then(|| Moment::new(line.asked_at, now)),
            took: line.started_at.zip(line.ended_at).map(|(from, to)| rough(between(from, to))),
            last,
            cost: line.cost.map(spent::brief),
            line,
        }
    }

    pub(crate) fn can_stop(&self) -> bool {
        !self.line.state.is_over() && !self.line.is_unconfirmed()
    }

    pub(crate) fn wish(&self) -> Wish {
        if self.line.wish_at.is_some() { Wish::Stop } else { Wish::Run }
    }
}
