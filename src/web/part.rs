//! Which part of a transcript a page shows: its end, or what lies before, behind or around an event.

use serde::Deserialize;

use super::Site;
use super::error::{Error, Result};
use super::page::number;
use crate::db::Superuser;
use crate::model::event::Event;
use crate::model::run::RunId;

/// How many events a page shows.
pub(crate) const SHOWN: i64 = 100;

/// How many of them stand above the one that was asked for.
const ABOVE: i64 = 30;

/// A part of a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The newest events.
    Tail,
    /// Those before this one.
    Before(i64),
    /// Those after this one.
    After(i64),
    /// Those around this one.
    At(i64),
}

/// As a query says it.
#[derive(Deserialize)]
pub(crate) struct Asked {
    before: Option<String>,
    after: Option<String>,
    at: Option<String>,
    /// That the page doesn't follow what happens.
    still: Option<String>,
}

impl Asked {
    /// # Errors
    /// [`Error::Unprocessable`] when it names two places, or one that is no number.
    pub(crate) fn part(&self) -> Result<Part> {
        let place = |text: &Option<String>| text.as_deref().map(number).transpose();
        match (place(&self.before)?, place(&self.after)?, place(&self.at)?) {
            (None, None, None) => Ok(Part::Tail),
            (Some(seq), None, None) => Ok(Part::Before(seq)),
            (None, Some(seq), None) => Ok(Part::After(seq)),
            (None, None, Some(seq)) => Ok(Part::At(seq)),
            _ => Err(Error::Unprocessable("A page shows one part of a transcript, not two.".to_owned())),
        }
    }

    pub(crate) fn is_still(&self) -> bool {
        self.still.is_some()
    }
}

impl Part {
    /// The event that was asked for.
    pub(crate) fn marked(self) -> Option<i64> {
        match self {
            Self::At(seq) => Some(seq),
            _ => None,
        }
    }

    /// Its events, oldest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when Postgres doesn't answer.
    pub(crate) async fn events(self, site: &Site, by: &Superuser, run: RunId) -> Result<Vec<Event>> {
        let db = &site.db;
        Ok(match self {
            Self::Tail => db.events_tail(by, run, None, SHOWN).await?,
            Self::Before(seq) => db.events_tail(by, run, Some(seq), SHOWN).await?,
            Self::After(seq) => db.events_after(by, run, seq, i64::MAX, SHOWN).await?,
            Self::At(seq) => {
                let above = db.events_tail(by, run, Some(seq), ABOVE);
                let below = db.events_after(by, run, seq - 1, i64::MAX, SHOWN - ABOVE);
                let (mut events, below) = tokio::try_join!(above, below)?;
                events.extend(below);
                events
            }
        })
    }
}
